//! `simctl broker-credentials`: how to look into the broker of a fleet's own.

use clap::ValueEnum;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use load_controller::{
    resource::{
        Fleet,
        names::{self, BROKER_PORT},
        secret::{OBSERVER_KEY, OBSERVER_USER},
    },
    run::verdict::ExitCode,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    cluster::{client::Cluster, fleets::FleetName},
    exit::Failure,
    flags::ClusterFlags,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl broker-credentials                     the commands that show what the only fleet publishes
  simctl broker-credentials robotaxis -o json
  eval \"$(simctl broker-credentials -o env)\"    MQTT_HOST, MQTT_PORT, MQTT_USERNAME, MQTT_PASSWORD";

/// Show how to look into the broker of a fleet's own
///
/// Prints commands that forward a port and subscribe with the observer's password; kubectl reads it from the fleet's
/// Secret when they run. With `-o json` and `-o env` simctl reads it, with your rights, and prints it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The fleet, if there are several: `robotaxis` or `fleet/robotaxis`
    fleet: Option<FleetName>,
    /// How it is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "commands")]
    output: Output,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Commands to run, without the password
    Commands,
    /// An object with the password
    Json,
    /// Variables of a shell, with the password
    Env,
}

/// Where the broker of a fleet's own is, and how its observer logs in.
#[derive(JsonSchema, Serialize)]
pub(super) struct Credentials {
    /// The name of its Service within the cluster.
    host: String,
    /// The port of MQTT.
    port: u16,
    username: &'static str,
    password: String,
}

impl Args {
    /// Prints the commands, or the credentials themselves.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let cluster = Cluster::find(&self.cluster, printer).await?;
        let fleet = cluster.fleet(self.fleet.as_ref()).await?;
        check_own(&fleet)?;
        let name = fleet.name_any();
        let host = format!("{}.{}.svc", names::broker(&name), cluster.namespace());
        match self.output {
            Output::Commands => printer.data(commands(cluster.context(), cluster.namespace(), &name))?,
            Output::Json => {
                let password = password(&cluster, &name).await?;
                let credentials = Credentials { host, port: BROKER_PORT, username: OBSERVER_USER, password };
                printer.data(serde_json::to_string_pretty(&credentials)?)?;
            }
            Output::Env => {
                let password = password(&cluster, &name).await?;
                printer.data(format!(
                    "MQTT_HOST={host}\nMQTT_PORT={BROKER_PORT}\nMQTT_USERNAME={OBSERVER_USER}\nMQTT_PASSWORD={password}"
                ))?;
            }
        }
        Ok(ExitCode::Passed)
    }
}

/// Only of its own broker are the credentials the fleet's.
fn check_own(fleet: &Fleet) -> Result<(), Failure> {
    let broker = fleet.spec.typed().and_then(|spec| spec.broker.as_ref());
    let address = broker.and_then(|broker| broker.addresses().first());
    match address {
        None => Ok(()),
        Some(address) => Err(Failure::usage(format!(
            "expected a fleet with a broker of its own; {} connects to {address}",
            fleet.name_any()
        ))),
    }
}

fn commands(context: &str, namespace: &str, fleet: &str) -> String {
    let kubectl = format!("kubectl --context {context} -n {namespace}");
    let (service, secret) = (names::broker(fleet), names::secrets(fleet));
    format!(
        "{kubectl} port-forward service/{service} {BROKER_PORT} &\n\
         mosquitto_sub -p {BROKER_PORT} -u {OBSERVER_USER} -P \"$({kubectl} get secret {secret} \
         -o jsonpath='{{.data.{OBSERVER_KEY}}}' | base64 -d)\" -v -t '#'"
    )
}

async fn password(cluster: &Cluster, fleet: &str) -> anyhow::Result<String> {
    let name = names::secrets(fleet);
    let secret = cluster.ask(cluster.api::<Secret>().get(&name)).await?;
    let bytes = secret.data.as_ref().and_then(|data| data.get(OBSERVER_KEY));
    let text = bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
    text.ok_or_else(|| anyhow::anyhow!("expected the key `{OBSERVER_KEY}` in the Secret {name}, found none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_the_password_when_they_run() {
        insta::assert_snapshot!(commands("kind", "load", "demo"), @r#"
        kubectl --context kind -n load port-forward service/demo-broker 1883 &
        mosquitto_sub -p 1883 -u observer -P "$(kubectl --context kind -n load get secret demo-secrets -o jsonpath='{.data.observer}' | base64 -d)" -v -t '#'
        "#);
    }

    #[test]
    fn another_broker_has_credentials_of_its_own() {
        let fleet = |spec: &str| Fleet::new("demo", serde_json::from_str(spec).unwrap());
        assert!(check_own(&fleet(r#"{"groups": []}"#)).is_ok());
        assert!(check_own(&fleet(r#"{"broker": {"access": "cluster"}, "groups": []}"#)).is_ok());
        for spec in
            [r#"{"broker": {"url": "mqtt://b"}, "groups": []}"#, r#"{"broker": {"urls": ["mqtt://b"]}, "groups": []}"#]
        {
            assert!(check_own(&fleet(spec)).unwrap_err().to_string().contains("mqtt://b"));
        }
    }
}
