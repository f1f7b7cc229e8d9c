//! One client's connection, from accept to close.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Connect, LastWill};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::hub::{Attachment, Closed, Full, Hub, TakenOver};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::socket::{Broken, Ready, Socket};
use crate::users::{Door, Verdict};
use crate::wire::{self, ConnectCode, Fault, Hello, Packet, Reply};

/// While so many bytes wait for the socket, nothing more is read from the client or taken from its
/// queue: a client that does not read is not served.
const ENOUGH: usize = 64 * 1024;

/// What every connection shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hub: Arc<Hub>,
    /// Who may connect; everybody without it.
    pub(crate) door: Option<Door>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: CancellationToken,
}

/// Why an accepted connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client disconnected")]
    Disconnect,
    #[error("the client was silent for one and a half times its keep-alive")]
    KeepAlive,
    #[error("another connection with the same client id took over")]
    TakenOver,
    #[error("clients without credentials are no longer admitted")]
    NotAuthorized,
    #[error("the broker is shutting down")]
    Shutdown,
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl End {
    fn label(&self) -> &'static str {
        match self {
            End::Disconnect => "disconnect",
            End::Broken(Broken::Lost) => "lost",
            End::Broken(Broken::Io(_)) => "io",
            End::KeepAlive => "keep_alive",
            End::TakenOver => "taken_over",
            End::NotAuthorized => "not_authorized",
            End::Shutdown => "shutdown",
            End::Broken(Broken::Fault(fault)) => fault.into(),
        }
    }

    /// The will is published when a connection ends without DISCONNECT (MQTT-3.1.2-8). When the
    /// broker itself stops there is nobody left to receive it.
    fn publishes_will(&self) -> bool {
        !matches!(self, End::Disconnect | End::Shutdown)
    }
}

impl From<TakenOver> for End {
    fn from(_: TakenOver) -> Self {
        End::TakenOver
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        End::Broken(fault.into())
    }
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        End::Shutdown
    }
}

/// Serves a client until it leaves, breaks the protocol, or the broker shuts down.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let mut socket = Socket::new(stream, shared.limits.packet_bytes, Arc::clone(&shared.metrics));
    let evict = shared.shutdown.child_token();
    let accepted = tokio::select! {
        accepted = accept(&mut socket, &shared, &evict) => accepted,
        () = evict.cancelled() => Err("shutdown"),
    };
    let Accepted { attachment, connect, guest } = match accepted {
        Ok(accepted) => accepted,
        Err(reason) => {
            shared.metrics.refused.with_label_values(&[reason]).inc();
            debug!(%peer, reason, "connection refused");
            return;
        }
    };
    shared.metrics.connections.inc();
    shared.metrics.connections_total.inc();
    let mut connection = Connection {
        socket,
        shared: &shared,
        attachment,
        keep_alive: Duration::from_secs(connect.keep_alive.into()) * 3 / 2,
    };
    let dismissed = async {
        match &guest {
            Some(guest) => guest.cancelled().await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        end = connection.run(&evict) => end,
        () = dismissed => End::NotAuthorized,
    };
    connection.close(&end, connect.last_will).await;
    debug!(%peer, client = connect.client_id, reason = %end, "connection ended");
}

/// A client that was let in.
struct Accepted {
    attachment: Attachment,
    connect: Connect,
    /// Of a client without credentials: cancelled when it has to leave.
    guest: Option<CancellationToken>,
}

/// Reads CONNECT and answers it; the error is the reason of the refusal.
async fn accept(socket: &mut Socket, shared: &Shared, evict: &CancellationToken) -> Result<Accepted, &'static str> {
    let hello = match timeout(shared.limits.connect_timeout, socket.hello()).await {
        Err(_) => return Err("connect_timeout"),
        Ok(Err(Broken::Fault(fault))) => return Err(fault.into()),
        Ok(Err(_)) => return Err("lost"),
        Ok(Ok(hello)) => hello,
    };
    match welcome(hello, shared, evict) {
        Ok(accepted) => {
            wire::put_connack(&mut socket.out, accepted.attachment.session_present, ConnectCode::Accepted);
            Ok(accepted)
        }
        Err(refusal) => {
            refusal.put(&mut socket.out);
            // Best effort: a few bytes into the empty buffer of a new socket.
            socket.flush().ok();
            Err(refusal.label())
        }
    }
}

/// Why a CONNECT is answered by a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Version5,
    UnknownVersion,
    Identifier,
    WillTopic,
    Full(Full),
    NotAuthorized,
    BadCredentials,
}

impl Refusal {
    fn label(self) -> &'static str {
        match self {
            Refusal::Version5 => "version_5",
            Refusal::UnknownVersion => "unknown_version",
            Refusal::Identifier => "identifier",
            Refusal::WillTopic => "will_topic",
            Refusal::Full(full) => full.into(),
            Refusal::NotAuthorized => "not_authorized",
            Refusal::BadCredentials => "bad_credentials",
        }
    }

    fn put(self, out: &mut BytesMut) {
        let code = match self {
            Refusal::Version5 => return wire::put_connack_version5(out),
            // A malformed CONNECT is closed without an answer (MQTT-3.1.4-1).
            Refusal::WillTopic => return,
            Refusal::UnknownVersion => ConnectCode::UnacceptableVersion,
            Refusal::Identifier => ConnectCode::IdentifierRejected,
            Refusal::Full(_) => ConnectCode::ServerUnavailable,
            Refusal::NotAuthorized => ConnectCode::NotAuthorized,
            Refusal::BadCredentials => ConnectCode::BadCredentials,
        };
        wire::put_connack(out, false, code);
    }
}

fn welcome(hello: Hello, shared: &Shared, evict: &CancellationToken) -> Result<Accepted, Refusal> {
    let mut connect = match hello {
        Hello::Connect(connect) => connect,
        Hello::Version5 => return Err(Refusal::Version5),
        Hello::UnknownVersion => return Err(Refusal::UnknownVersion),
    };
    let will = connect.last_will.as_ref();
    if will.is_some_and(|will| !wire::is_valid_topic(&will.topic)) {
        return Err(Refusal::WillTopic);
    }
    let mut guest = None;
    if let Some(door) = &shared.door {
        let login = connect.login.as_ref();
        let (verdict, leaves) = door.judge(login.map(|l| (l.username.as_str(), l.password.as_str())));
        match verdict {
            Verdict::Welcome | Verdict::Guest => guest = leaves,
            Verdict::Anonymous => return Err(Refusal::NotAuthorized),
            Verdict::Wrong => return Err(Refusal::BadCredentials),
        }
    }
    if connect.client_id.is_empty() {
        // MQTT-3.1.3-7 and MQTT-3.1.3-6.
        if !connect.clean_session {
            return Err(Refusal::Identifier);
        }
        connect.client_id = shared.hub.unused_id();
    }
    let attachment =
        shared.hub.join(&connect.client_id, !connect.clean_session, evict.clone()).map_err(Refusal::Full)?;
    Ok(Accepted { attachment, connect, guest })
}

struct Connection<'a> {
    socket: Socket,
    shared: &'a Shared,
    attachment: Attachment,
    /// One and a half times what the client asked for; zero is for ever (MQTT-3.1.2-24).
    keep_alive: Duration,
}

impl Connection<'_> {
    async fn run(&mut self, evict: &CancellationToken) -> End {
        if let Err(end) = self.resume() {
            return end;
        }
        let mut evicted = pin!(evict.cancelled());
        let mut heard = Instant::now();
        let mut overdue = pin!(sleep_until(heard + self.keep_alive));
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
            let may_take = self.socket.out.len() < ENOUGH;
            let seat = Arc::clone(&self.attachment.seat);
            tokio::select! {
                () = &mut evicted => return self.evicted(),
                () = &mut overdue, if !self.keep_alive.is_zero() => {
                    let deadline = heard + self.keep_alive;
                    if Instant::now() >= deadline {
                        return End::KeepAlive;
                    }
                    overdue.as_mut().reset(deadline);
                }
                ready = self.socket.ready(may_take) => match ready {
                    Ok(Ready::Read) => heard = Instant::now(),
                    Ok(Ready::Written) => {}
                    Err(broken) => return broken.into(),
                },
                () = seat.wake.notified(), if may_take => {}
            }
        }
    }

    fn evicted(&self) -> End {
        if self.shared.shutdown.is_cancelled() { End::Shutdown } else { End::TakenOver }
    }

    fn resume(&mut self) -> Result<(), End> {
        let out = &mut self.socket.out;
        let hub = &self.shared.hub;
        hub.with(&self.attachment, |session| session.resend(out))?;
        Ok(())
    }

    /// Handles what the client sent, then sends it what is due, as far as the socket takes it.
    async fn turn(&mut self) -> Result<(), End> {
        while self.socket.out.len() < ENOUGH {
            let Some(frame) = self.socket.frame()? else {
                break;
            };
            self.handle(wire::packet(&frame)?).await?;
        }
        let out = &mut self.socket.out;
        let hub = &self.shared.hub;
        let sent = hub.with(&self.attachment, |session| session.fill(out, ENOUGH))?;
        self.shared.metrics.traffic.messages_out.inc_by(sent);
        self.socket.flush().map_err(Broken::from)?;
        if sent > 0 && self.socket.out.is_empty() {
            // There may be more; but first the client is heard, and others have their turn.
            self.attachment.seat.wake.notify_one();
        }
        Ok(())
    }

    async fn handle(&mut self, packet: Packet<'_>) -> Result<(), End> {
        let hub = &self.shared.hub;
        let attachment = &self.attachment;
        let out = &mut self.socket.out;
        match packet {
            Packet::Publish(publish) => return self.publish(publish).await,
            // Acknowledgements that nothing waits for are left alone: they are what a client
            // sends whose session was lost.
            Packet::PubAck(id) => {
                hub.with(attachment, |session| session.puback(id))?;
            }
            Packet::PubRec(id) => {
                hub.with(attachment, |session| session.pubrec(id))?;
                wire::put_reply(out, Reply::Release, id);
            }
            Packet::PubComp(id) => {
                hub.with(attachment, |session| session.pubcomp(id))?;
            }
            Packet::PubRel(id) => {
                hub.with(attachment, |session| session.release(id))?;
                wire::put_reply(out, Reply::Complete, id);
            }
            Packet::Subscribe(id, filters) => {
                let mut granted = Vec::with_capacity(filters.len());
                for filter in &filters {
                    granted.push(hub.subscribe(attachment, &filter.path, filter.qos).await?);
                }
                wire::put_suback(out, id, &granted);
            }
            Packet::Unsubscribe(id, filters) => {
                for filter in &filters {
                    hub.unsubscribe(attachment, filter);
                }
                wire::put_unsuback(out, id);
            }
            Packet::PingReq => wire::put_pingresp(out),
            Packet::Disconnect => return Err(End::Disconnect),
        }
        Ok(())
    }

    async fn publish(&mut self, publish: wire::Publish<'_>) -> Result<(), End> {
        let hub = &self.shared.hub;
        let id = publish.id;
        let is_new = publish.qos != QoS::ExactlyOnce || hub.with(&self.attachment, |session| session.receive(id))?;
        if is_new {
            self.shared.metrics.traffic.messages_in.inc();
            hub.publish(publish.topic, publish.payload, publish.qos, publish.retain).await?;
        }
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => wire::put_reply(&mut self.socket.out, Reply::Acknowledge, id),
            QoS::ExactlyOnce => wire::put_reply(&mut self.socket.out, Reply::Receive, id),
        }
        Ok(())
    }

    async fn close(&mut self, end: &End, will: Option<LastWill>) {
        // What was answered already, a last time; the socket closes when it is dropped.
        self.socket.flush().ok();
        self.shared.hub.leave(&self.attachment);
        let metrics = &self.shared.metrics;
        metrics.connections.dec();
        metrics.closed.with_label_values(&[end.label()]).inc();
        if let Some(will) = will.filter(|_| end.publishes_will()) {
            let hub = &self.shared.hub;
            let published = hub.publish(&will.topic, &will.message, will.qos, will.retain);
            if published.await.is_ok() {
                metrics.wills.inc();
            }
        }
        if let End::Broken(Broken::Fault(fault)) = end {
            info!(error = %fault, "client closed");
        }
    }
}
