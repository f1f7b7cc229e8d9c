//! Whether the broker is there and lets the fleet in: one session as a device and one as the observer, before the fleet
//! connects.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use device_sim::{
    blueprint::BlueprintError,
    credentials::PasswordError,
    rehearsal::{Answer, Client, Rehearsal},
    session::{
        Refusal,
        codec::{ConnackCode, v5::Reason},
    },
    transport::{self, Route},
};
use fleet_contract::{
    broker_url::BrokerUrl,
    fleet::{BrokerSpec, Credentials, Fleet, Protocol},
    format::Format,
    worker,
};
use tokio::{net::lookup_host, time::timeout};

use super::Check;
use crate::document::Document;

const NAME: &str = "broker";

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the fleet's broker answers at each of its addresses.
pub(crate) async fn check(document: &Document) -> Vec<Check> {
    let rehearsal = match rehearsal(document) {
        Ok(rehearsal) => Arc::new(rehearsal),
        Err(error) => return vec![unusable(&error)],
    };
    let Some(broker) = &document.fleet.spec.broker else { return Vec::new() };
    let asked =
        (0..).zip(broker.addresses()).map(|address| check_address(&document.fleet, broker, address, &rehearsal));
    futures::future::join_all(asked).await.concat()
}

fn rehearsal(document: &Document) -> Result<Rehearsal, BlueprintError> {
    Rehearsal::new(worker::Document {
        format: Format::FIRST,
        fleet: document.fleet.clone(),
        files: document.files.clone(),
    })
}

/// Of a document that was checked only its passwords can be amiss.
fn unusable(error: &BlueprintError) -> Check {
    let remedy = match error {
        BlueprintError::Password(PasswordError::File { .. }) => "check its path and its mode".to_owned(),
        BlueprintError::Password(PasswordError::Variable(name)) => format!("export {name}=…"),
        _ => "correct the document".to_owned(),
    };
    Check::failed(NAME, error.to_string(), remedy)
}

/// What the broker answers to a device and to the observer; over each of its addresses until one answers.
async fn check_address(
    fleet: &Fleet,
    broker: &BrokerSpec,
    (position, url): (u32, &BrokerUrl),
    rehearsal: &Arc<Rehearsal>,
) -> Vec<Check> {
    let route = match Route::new(url, broker) {
        Ok(route) => Arc::new(route),
        Err(error) => {
            return vec![Check::failed(
                NAME,
                error.to_string(),
                "correct `broker.tls` in the document, or --ca, --certificate, --key and --server-name",
            )];
        }
    };
    let addresses: Vec<SocketAddr> = match timeout(PATIENCE, lookup_host((url.host(), url.port()))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return vec![unresolved(url, &error.to_string())],
        Err(_) => return vec![unresolved(url, "no answer")],
    };
    let mut last = unresolved(url, "it has no address");
    for address in addresses {
        let call = Call { fleet, url, position, rehearsal, route: &route, address };
        match call.sign_in(Client::Device).await {
            Ok(device) if device.outcome.is_failure() || !rehearsal.has(Client::Observer) => return vec![device],
            Ok(device) => {
                let observer = call.sign_in(Client::Observer).await;
                return vec![device, observer.unwrap_or_else(|error| unreachable(url, &error))];
            }
            Err(error) => last = unreachable(url, &error),
        }
    }
    vec![last]
}

/// A client of the fleet at an address of the broker.
struct Call<'a> {
    fleet: &'a Fleet,
    url: &'a BrokerUrl,
    /// Which of the broker's addresses that is.
    position: u32,
    rehearsal: &'a Arc<Rehearsal>,
    route: &'a Arc<Route>,
    address: SocketAddr,
}

impl Call<'_> {
    async fn sign_in(&self, client: Client) -> Result<Check, transport::Error> {
        let (rehearsal, route, address) = (Arc::clone(self.rehearsal), Arc::clone(self.route), self.address);
        let position = self.position;
        let session =
            tokio::task::spawn_blocking(move || rehearsal.sign_in(client, position, &route, address, PATIENCE));
        let answer = session.await.map_err(io::Error::other)??;
        let who = self.who(client);
        Ok(match answer {
            Answer::Accepted => Check::ok(NAME, format!("{} lets {who} in", self.url)),
            Answer::Refused { refusal, said } => self.refused(client, refusal, said),
            Answer::NotSubscribed { filter, reason } => {
                let why = reason.map_or(String::new(), |reason| format!(": {reason}"));
                let found = format!("{} lets {who} in and refuses the subscription to `{filter}`{why}", self.url);
                let remedy = match client {
                    Client::Device => "allow it at the broker, or correct `subscriptions` in the document",
                    Client::Observer => {
                        "allow it at the broker, name who may read in `observer.credentials`, or set `observe: none`"
                    }
                };
                Check::refused(NAME, found, remedy)
            }
            Answer::Silent => Check::failed(
                NAME,
                format!("{} lets {who} in and does not answer SUBSCRIBE within {} s", self.url, PATIENCE.as_secs()),
                "look at its log",
            ),
        })
    }

    /// A client as the broker sees it.
    fn who(&self, client: Client) -> String {
        let (client_id, user) = self.rehearsal.names(client, self.position);
        let what = match client {
            Client::Device => "the device",
            Client::Observer => "the observer",
        };
        let proof = match (user, self.credentials(client)) {
            (Some(user), Some(credentials)) => format!(" (user `{user}`, {})", password(credentials)),
            (Some(user), None) => format!(" (user `{user}`)"),
            (None, _) => " (without a user name)".into(),
        };
        format!("{what} `{client_id}`{proof}")
    }

    fn credentials(&self, client: Client) -> Option<&Credentials> {
        let spec = &self.fleet.spec;
        let devices = spec.broker.as_ref().and_then(|broker| broker.credentials.as_ref());
        match client {
            Client::Device => devices,
            Client::Observer => spec.observer.credentials.as_ref().or(devices),
        }
    }

    /// What to do about a refusal (MQTT 3.1.1, table 3.1; MQTT 5, section 3.2.2.2).
    fn refused(&self, client: Client, refusal: Refusal, said: Option<String>) -> Check {
        use ConnackCode as Code;
        let (url, who, protocol) = (self.url, self.who(client), self.fleet.spec.protocol());
        let said = said.map(|said| format!("; it says \"{said}\"")).unwrap_or_default();
        let refused =
            |why: &str, remedy: &str| Check::refused(NAME, format!("{url} refuses {who}: {why}{said}"), remedy);
        match refusal {
            Refusal::Code(Code::UnacceptableProtocolVersion) | Refusal::Reason(Reason::UnsupportedProtocolVersion) => {
                let other = if protocol == Protocol::V5 { "3.1.1" } else { "5" };
                refused(
                    &format!("it does not speak MQTT {protocol}"),
                    &format!("enable it at the broker, or set `broker.protocol: '{other}'` or --protocol {other}"),
                )
            }
            Refusal::Code(Code::IdentifierRejected) | Refusal::Reason(Reason::ClientIdentifierNotValid) => {
                refused("it does not accept the client id", "change `clientId`, or what the broker allows")
            }
            Refusal::Code(Code::ServerUnavailable)
            | Refusal::Reason(Reason::ServerUnavailable | Reason::ServerBusy) => {
                refused("it is not available", "wait, or look at its connection limit and its log")
            }
            Refusal::Code(Code::BadUserNameOrPassword) | Refusal::Reason(Reason::BadUserNameOrPassword) => {
                refused("bad user name or password", &self.remedy(client))
            }
            Refusal::Code(Code::NotAuthorized) | Refusal::Reason(Reason::NotAuthorized) => {
                refused("not authorised", &self.remedy(client))
            }
            Refusal::Reason(Reason::QosNotSupported) => {
                refused(&format!("its reason is {refusal}"), "lower the `qos` of `connect.will`: the broker takes less")
            }
            other => refused(&format!("its reason is {other}"), "look at its log"),
        }
    }

    /// What to do about credentials: they are missing, or they are wrong.
    fn remedy(&self, client: Client) -> String {
        let own = self.fleet.spec.observer.credentials.is_some();
        match (client, self.credentials(client)) {
            (Client::Device, None) => "set `credentials` in the document, or --username and --password-file".into(),
            (Client::Observer, None) => {
                "set `observer.credentials` in the document, or allow it at the broker, or set `observe: none`".into()
            }
            (Client::Observer, Some(_)) if !own => {
                "set `observer.credentials` in the document: it signs in as the devices \
                                                    do, with `observer` for `{id}`; or set `observe: none`"
                    .into()
            }
            (_, Some(credentials)) => format!(
                "check the name, {} and the broker's list of users: some brokers say the same of a wrong password",
                password(credentials)
            ),
        }
    }
}

/// Where a password is from; never the password.
fn password(credentials: &Credentials) -> String {
    let Credentials { username: _, password_file, password_env, secret_name: _ } = credentials;
    match (password_file, password_env) {
        (Some(file), _) => format!("the password file `{file}`"),
        (None, Some(name)) => format!("the password in ${name}"),
        (None, None) => "no password".into(),
    }
}

fn unresolved(url: &BrokerUrl, why: &str) -> Check {
    Check::failed(
        NAME,
        format!("the name {} cannot be resolved: {why}", url.host()),
        "check the spelling, or give the address",
    )
}

fn unreachable(url: &BrokerUrl, error: &transport::Error) -> Check {
    // These say themselves what is wrong.
    let own = match error {
        transport::Error::Tls(_) => {
            Some("correct `broker.tls` in the document, or --ca, --certificate, --key and --server-name")
        }
        transport::Error::WebSocket(_) => Some("look at the path of the address, and at `broker.headers`"),
        transport::Error::NoSource(_) => Some("name another --source-address"),
        transport::Error::Io(_) => None,
    };
    if let Some(remedy) = own {
        return Check::failed(NAME, format!("there is no session with {url}: {error}"), remedy);
    }
    let remedy = match error.kind() {
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::JoinSet,
    };

    use super::*;
    use crate::{document, preflight::Outcome};

    const ACCEPTED: &[u8] = &[0x20, 2, 0, 0];
    const NOT_AUTHORISED: &[u8] = &[0x20, 2, 0, 5];
    const GRANTED: &[u8] = &[0x90, 3, 0, 1, 0];
    const NOT_GRANTED: &[u8] = &[0x90, 3, 0, 1, 0x80];

    fn fleet(spec: &str) -> Document {
        let text = format!(
            "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: demo}}\nspec:\n  devices: 1\n  {spec}\n  \
             groups: [{{name: a, model: thermometer}}]"
        );
        document::from_text("f", &text, None).unwrap()
    }

    /// A broker that gives these answers, one a packet, over a connection each; what it was told over each of them.
    async fn answering(connections: &'static [&'static [&'static [u8]]]) -> (BrokerUrl, Told) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BrokerUrl::tcp("127.0.0.1", listener.local_addr().unwrap().port());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut told = Vec::new();
            for answers in connections {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut packets = Vec::new();
                for answer in *answers {
                    let mut packet = vec![0; 512];
                    let length = stream.read(&mut packet).await.unwrap();
                    packets.extend_from_slice(&packet[..length]);
                    stream.write_all(answer).await.unwrap();
                }
                stream.read_to_end(&mut packets).await.unwrap();
                told.push(packets);
            }
            told
        });
        (url, Told(task))
    }

    /// What a broker was told over each connection, once all of them have ended.
    struct Told(JoinSet<Vec<Vec<u8>>>);

    impl Told {
        async fn all(mut self) -> Vec<Vec<u8>> {
            self.0.join_next().await.unwrap().unwrap()
        }
    }

    async fn checked(document: &Document, url: &BrokerUrl) -> Vec<Check> {
        {
            let broker = BrokerSpec::at(vec![url.clone()]);
            check_address(&document.fleet, &broker, (0, url), &Arc::new(rehearsal(document).unwrap())).await
        }
    }

    async fn checked_first(spec: &str, url: &BrokerUrl) -> Check {
        checked(&fleet(spec), url).await.remove(0)
    }

    fn has(packets: &[u8], text: &str) -> bool {
        packets.windows(text.len()).any(|part| part == text.as_bytes())
    }

    #[tokio::test]
    async fn a_device_and_the_observer_sign_in_under_their_own_names() {
        // The last connection discards the session of the observer, which persists in MQTT 3.1.1.
        let (url, told) = answering(&[&[ACCEPTED], &[ACCEPTED, GRANTED], &[ACCEPTED]]).await;
        let checks = checked(&fleet("connect: {keepAlive: 7s}"), &url).await;
        let found: Vec<_> = checks.iter().map(|check| (check.outcome, check.found.clone())).collect();
        let lets = |who: &str| (Outcome::Ok, format!("{url} lets {who} (without a user name) in"));
        let observer = "demo-observer-00000000-0-0";
        assert_eq!(found, [lets("the device `demo-0`"), lets(&format!("the observer `{observer}`"))]);
        let told = told.all().await;
        assert_eq!(told[0], b"\x10\x12\x00\x04MQTT\x04\x02\x00\x07\x00\x06demo-0\xe0\x00");
        assert!(has(&told[1], observer) && has(&told[1], "demo/+/reading"), "{told:?}");
        assert_eq!((told[1][9], told[2][9]), (0, 2), "clean only to be forgotten");
    }

    #[tokio::test]
    async fn a_session_of_a_device_that_the_broker_has_kept_stays() {
        const KEPT: &[u8] = &[0x20, 2, 1, 0];
        let (url, told) = answering(&[&[KEPT]]).await;
        let spec = "observe: none\n  connect: {session: persistent}";
        assert_eq!(checked_first(spec, &url).await.outcome, Outcome::Ok);
        assert_eq!(told.all().await[0][9], 0, "not clean, and nothing follows");
    }

    #[tokio::test]
    async fn a_refusal_says_who_was_refused_and_what_to_do() {
        let (url, told) = answering(&[&[NOT_AUTHORISED]]).await;
        let check = checked_first("broker: {url: x, credentials: {username: '{id}', passwordEnv: HOME}}", &url).await;
        let found = format!("{url} refuses the device `demo-0` (user `demo-0`, the password in $HOME): not authorised");
        assert_eq!((check.outcome, check.found), (Outcome::Refused, found));
        assert!(check.remedy.unwrap().starts_with("check the name, the password in $HOME"));
        assert!(has(&told.all().await[0], "demo-0"));

        let (url, _told) = answering(&[&[NOT_AUTHORISED]]).await;
        let check = checked_first("", &url).await;
        assert_eq!(check.found, format!("{url} refuses the device `demo-0` (without a user name): not authorised"));
        assert!(check.remedy.unwrap().starts_with("set `credentials`"));
    }

    #[tokio::test]
    async fn an_observer_that_is_refused_is_found_before_the_run() {
        let credentials = "broker: {url: x, credentials: {username: '{id}'}}";
        let (url, _told) = answering(&[&[ACCEPTED], &[NOT_AUTHORISED]]).await;
        let check = checked(&fleet(credentials), &url).await.pop().unwrap();
        assert_eq!(check.outcome, Outcome::Refused);
        assert!(check.found.contains("refuses the observer `demo-observer-00000000-0-0`"), "{}", check.found);
        assert!(check.remedy.unwrap().starts_with("set `observer.credentials`"));

        let (url, _told) = answering(&[&[ACCEPTED], &[ACCEPTED, NOT_GRANTED], &[ACCEPTED]]).await;
        let check = checked(&fleet(credentials), &url).await.pop().unwrap();
        assert_eq!(check.outcome, Outcome::Refused);
        assert!(check.found.ends_with("refuses the subscription to `demo/+/reading`"), "{}", check.found);
        assert!(check.remedy.unwrap().contains("`observer.credentials`"));
    }

    #[tokio::test]
    async fn the_version_of_the_document_is_spoken() {
        let (url, told) = answering(&[&[&[0x20, 3, 0, 0x87, 0]]]).await;
        let found = checked_first("broker: {url: x, protocol: '5'}", &url).await;
        assert_eq!(found.outcome, Outcome::Refused);
        assert!(found.found.ends_with(": not authorised"), "{}", found.found);
        assert!(told.all().await[0][2..].starts_with(b"\x00\x04MQTT\x05"));

        let (url, _told) = answering(&[&[b"\x20\x0a\x00\x87\x07\x1f\x00\x04paid"]]).await;
        let found = checked_first("broker: {url: x, protocol: '5'}", &url).await;
        assert!(found.found.ends_with(": not authorised; it says \"paid\""), "{}", found.found);

        // A broker of 3.1.1 alone says so in its own words.
        let (url, _told) = answering(&[&[&[0x20, 2, 0, 1]]]).await;
        let found = checked_first("broker: {url: x, protocol: '5'}", &url).await;
        assert!(found.found.ends_with("it does not speak MQTT 5"), "{}", found.found);
        assert!(found.remedy.unwrap().contains("'3.1.1'"));
    }

    #[tokio::test]
    async fn nobody_at_home_is_said() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let check = checked_first("", &BrokerUrl::tcp("127.0.0.1", port)).await;
        assert_eq!(check.outcome, Outcome::Failed);
        assert!(check.remedy.unwrap().starts_with("nothing listens there"));
    }

    #[tokio::test]
    async fn something_else_than_a_broker_is_recognised() {
        let (url, _told) = answering(&[&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]]).await;
        let found = checked_first("", &url).await.found;
        assert!(found.contains("the answer is none of MQTT"), "{found}");
    }

    #[tokio::test]
    async fn a_password_that_is_not_there_is_said_before_connecting() {
        let credentials = "{username: u, passwordEnv: SIMCTL_TEST_NO_SUCH_VARIABLE}";
        for spec in [
            format!("broker: {{url: x, credentials: {credentials}}}"),
            format!("broker: {{url: x}}\n  observer: {{credentials: {credentials}}}"),
        ] {
            let check = check(&fleet(&spec)).await.remove(0);
            assert!(check.found.contains("SIMCTL_TEST_NO_SUCH_VARIABLE"), "{}", check.found);
            assert_eq!(check.remedy.unwrap(), "export SIMCTL_TEST_NO_SUCH_VARIABLE=…");
        }
    }
}
