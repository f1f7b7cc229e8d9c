//! Whether the broker is there and lets the devices in: one real CONNECT before the fleet connects.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use device_sim::{
    credentials::{PasswordError, password},
    session::{
        Refusal,
        codec::{ConnackCode, Connect, v5::Reason},
    },
    transport::{self, Route, RouteError},
};
use fleet_contract::{
    broker_url::BrokerUrl,
    fleet::{BrokerSpec, Fleet, Protocol},
    template::{Names, Template},
};
use tokio::{net::lookup_host, time::timeout};

use super::Check;

const NAME: &str = "broker";

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// As whom to connect.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Login {
    client_id: String,
    username: Option<String>,
    password: Option<Vec<u8>>,
}

/// What the fleet's broker answers at each of its addresses.
pub(crate) async fn check(fleet: &Fleet) -> Vec<Check> {
    let addresses = fleet.spec.broker.as_ref().map(BrokerSpec::addresses).unwrap_or_default();
    let asked = addresses.iter().map(|url| check_address(fleet, url));
    futures::future::join_all(asked).await
}

/// What the broker answers to a device's credentials; on loopback or not, over each of its addresses until one answers.
async fn check_address(fleet: &Fleet, url: &BrokerUrl) -> Check {
    let login = match login(fleet) {
        Ok(login) => login,
        Err((found, remedy)) => return Check::failed(NAME, found, remedy),
    };
    let route = match route(fleet, url) {
        Ok(route) => Arc::new(route),
        Err(error) => {
            return Check::failed(
                NAME,
                error.to_string(),
                "correct `broker.tls` in the document, or --ca, --certificate, --key and --server-name",
            );
        }
    };
    let addresses: Vec<SocketAddr> = match timeout(PATIENCE, lookup_host((url.host(), url.port()))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return unresolved(url, &error.to_string()),
        Err(_) => return unresolved(url, "no answer"),
    };
    let mut last = unresolved(url, "it has no address");
    for address in addresses {
        last = match connect(Arc::clone(&route), address, fleet.spec.protocol(), login.clone()).await {
            Ok(None) => return Check::ok(NAME, format!("{url} answers and accepts the credentials")),
            Ok(Some(refusal)) => return refused(url, fleet.spec.protocol(), refusal),
            Err(error) => unreachable(url, &error),
        };
    }
    last
}

fn unresolved(url: &BrokerUrl, why: &str) -> Check {
    Check::failed(
        NAME,
        format!("the name {} cannot be resolved: {why}", url.host()),
        "check the spelling, or give the address",
    )
}

fn unreachable(url: &BrokerUrl, error: &transport::Error) -> Check {
    let remedy = match error.kind() {
        // These say themselves what to do.
        _ if !matches!(error, transport::Error::Io(_)) => "see what it says, and `broker` in the document",
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there: start the broker (for Mosquitto: `mosquitto -p PORT`), or leave --broker out"
        }
        io::ErrorKind::TimedOut => "check address, port and firewall; the port of MQTT without TLS is mostly 1883",
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset if url.transport().is_secure() => {
            "it closed the connection without an answer: is this port one without TLS?"
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "it closed the connection without an answer: is this port MQTT without TLS?"
        }
        _ => "check address and port",
    };
    Check::failed(NAME, format!("{url} does not answer: {error}"), remedy)
}

/// What to do about a refusal (MQTT 3.1.1, table 3.1; MQTT 5, section 3.2.2.2).
fn refused(url: &BrokerUrl, protocol: Protocol, refusal: Refusal) -> Check {
    use ConnackCode as Code;
    let refused = |why: &str, remedy: &str| Check::refused(NAME, format!("{url} refuses: {why}"), remedy);
    match refusal {
        Refusal::Code(Code::UnacceptableProtocolVersion) | Refusal::Reason(Reason::UnsupportedProtocolVersion) => {
            let other = if protocol == Protocol::V5 { "3.1.1" } else { "5" };
            refused(
                &format!("it does not speak MQTT {protocol}"),
                &format!("enable it at the broker, or set `broker.protocol: '{other}'` or --protocol {other}"),
            )
        }
        // Some brokers tie client ids to credentials; the devices may still be welcome.
        Refusal::Code(Code::IdentifierRejected) | Refusal::Reason(Reason::ClientIdentifierNotValid) => Check::warning(
            NAME,
            format!("{url} does not accept our client id"),
            "if devices are refused too, change `clientId`",
        ),
        Refusal::Code(Code::ServerUnavailable) | Refusal::Reason(Reason::ServerUnavailable | Reason::ServerBusy) => {
            refused("it is not available", "wait, or look at its connection limit and its log")
        }
        Refusal::Code(Code::BadUserNameOrPassword) | Refusal::Reason(Reason::BadUserNameOrPassword) => refused(
            "bad user name or password",
            "check `credentials` in the document, or --username and --password-file",
        ),
        Refusal::Code(Code::NotAuthorized) | Refusal::Reason(Reason::NotAuthorized) => {
            refused("not authorised", "set `credentials` in the document, or --username and --password-file")
        }
        other => refused(&format!("its reason is {other}"), "look at its log"),
    }
}

/// The way to `url` as the document has it for its own.
fn route(fleet: &Fleet, url: &BrokerUrl) -> Result<Route, RouteError> {
    Route::new(url, fleet.spec.broker.as_ref().and_then(|broker| broker.tls.as_ref()))
}

/// One session: CONNECT, CONNACK, DISCONNECT; why the broker refuses, if it does.
async fn connect(
    route: Arc<Route>,
    address: SocketAddr,
    protocol: Protocol,
    login: Login,
) -> Result<Option<Refusal>, transport::Error> {
    let session = tokio::task::spawn_blocking(move || {
        let connect = Connect {
            client_id: &login.client_id,
            user: login.username.as_deref(),
            password: login.password.as_deref(),
            will: None,
        };
        transport::introduce(&route, address, protocol, &connect, PATIENCE)
    });
    session.await.map_err(io::Error::other)?
}

/// The credentials of the first device, under a client id that is no device's; `Err` is what was found and the remedy.
fn login(fleet: &Fleet) -> Result<Login, (String, String)> {
    let client_id = format!("{}-preflight", fleet.metadata.name);
    let Some(credentials) = fleet.spec.broker.as_ref().and_then(|broker| broker.credentials.as_ref()) else {
        return Ok(Login { client_id, ..Login::default() });
    };
    let unusable =
        |error: fleet_contract::template::TemplateError| (error.to_string(), "correct the document".to_owned());
    let own: Template = fleet.spec.client_id.parse().map_err(unusable)?;
    let template: Template = credentials.username.parse().map_err(unusable)?;
    let group = fleet.spec.groups.first().map_or("", |group| &group.name);
    let names = Names { fleet: &fleet.metadata.name, group, stream: "", seed: fleet.spec.seed };
    let password = password(credentials).map_err(|error| {
        let remedy = match &error {
            PasswordError::File { .. } => "check its path and its mode".to_owned(),
            PasswordError::Variable(name) => format!("export {name}=…"),
        };
        (error.to_string(), remedy)
    })?;
    Ok(Login { client_id, username: Some(template.bind(&names, &own).text(0)), password })
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{document, preflight::Outcome};

    fn fleet(broker: &str) -> Fleet {
        let text = format!(
            "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: demo}}\nspec:\n  devices: 1\n  {broker}\n  \
             groups: [{{name: a, model: thermometer}}]"
        );
        document::from_text("f", &text, None).unwrap().fleet
    }

    /// A broker that answers one CONNECT with these bytes.
    async fn answering(
        answer: &'static [u8],
    ) -> (BrokerUrl, tokio::task::JoinHandle<Vec<u8>>, tokio::task::JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BrokerUrl::tcp("127.0.0.1", listener.local_addr().unwrap().port());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut packet = vec![0; 256];
            let length = stream.read(&mut packet).await.unwrap();
            packet.truncate(length);
            stream.write_all(answer).await.unwrap();
            let mut goodbye = Vec::new();
            stream.read_to_end(&mut goodbye).await.unwrap();
            sender.send(packet).unwrap();
        });
        let packet = tokio::task::spawn_blocking(move || receiver.blocking_recv().unwrap());
        (url, packet, tasks)
    }

    #[tokio::test]
    async fn a_broker_that_accepts_is_ok() {
        let (url, received, _tasks) = answering(&[0x20, 2, 0, 0]).await;
        assert_eq!(check_address(&fleet(""), &url).await.outcome, Outcome::Ok);
        assert_eq!(received.await.unwrap(), b"\x10\x1a\x00\x04MQTT\x04\x02\x00\x0a\x00\x0edemo-preflight");
    }

    #[tokio::test]
    async fn a_refusal_names_its_reason_and_remedy() {
        let (url, received, _tasks) = answering(&[0x20, 2, 0, 5]).await;
        let check = check_address(&fleet("broker: {url: x, credentials: {username: '{id}'}}"), &url).await;
        assert_eq!((check.outcome, check.found), (Outcome::Refused, format!("{url} refuses: not authorised")));
        assert!(check.remedy.unwrap().contains("credentials"));
        assert!(received.await.unwrap().ends_with(b"\x00\x06demo-0"));
    }

    #[tokio::test]
    async fn the_version_of_the_document_is_spoken() {
        let (url, received, _tasks) = answering(&[0x20, 3, 0, 0x87, 0]).await;
        let found = check_address(&fleet("broker: {url: x, protocol: '5'}"), &url).await;
        assert_eq!((found.outcome, found.found), (Outcome::Refused, format!("{url} refuses: not authorised")));
        assert!(received.await.unwrap()[2..].starts_with(b"\x00\x04MQTT\x05"));

        // A broker of 3.1.1 alone says so in its own words.
        let (url, _received, _tasks) = answering(&[0x20, 2, 0, 1]).await;
        let found = check_address(&fleet("broker: {url: x, protocol: '5'}"), &url).await;
        assert_eq!(found.found, format!("{url} refuses: it does not speak MQTT 5"));
        assert!(found.remedy.unwrap().contains("'3.1.1'"));
    }

    #[tokio::test]
    async fn nobody_at_home_is_said() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let check = check_address(&fleet(""), &BrokerUrl::tcp("127.0.0.1", port)).await;
        assert_eq!(check.outcome, Outcome::Failed);
        assert!(check.remedy.unwrap().starts_with("nothing listens there"));
    }

    #[tokio::test]
    async fn something_else_than_a_broker_is_recognised() {
        let (url, _received, _tasks) = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(check_address(&fleet(""), &url).await.found.contains("the answer is no CONNACK of MQTT 3.1.1"));
    }

    #[test]
    fn a_password_that_is_not_there_is_said_before_connecting() {
        let fleet = fleet("broker: {url: x, credentials: {username: u, passwordEnv: SIMCTL_TEST_NO_SUCH_VARIABLE}}");
        assert!(login(&fleet).unwrap_err().0.contains("SIMCTL_TEST_NO_SUCH_VARIABLE"));
    }
}
