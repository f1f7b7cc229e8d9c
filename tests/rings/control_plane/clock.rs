//! A worker's clock that is off, as whoever asks the worker sees it.
//!
//! ```text
//! controller ── HTTP ──► here, at the pod's address ── HTTP ──► worker, at another port
//! ```
//!
//! A process has the clock of its machine, which no test sets. So the two instants of each reading are shifted on their way, by
//! which the controller compares clocks; the devices go by the machine's.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::PLANE;

/// How long a side may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// A clock that is ahead and goes too fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    ahead: Duration,
    /// So many millionths too fast, from `since` on.
    gains: u32,
    since: Instant,
}

impl Clock {
    /// One that is ahead by so much now.
    pub(crate) fn new(ahead: Duration, gains: u32) -> Self {
        Self { ahead, gains, since: Instant::now() }
    }

    /// How far it is ahead now.
    pub(crate) fn ahead(&self) -> Duration {
        self.ahead + self.since.elapsed() * self.gains / 1_000_000
    }
}

/// What stands before a worker and shifts what it says of the time; it ends on drop.
pub(crate) struct Shift {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shift {
    /// Listens at `address` in the control plane's network for the worker that listens at `worker`.
    pub(crate) fn start(address: SocketAddr, worker: SocketAddr, clock: Clock) -> Shift {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let listener = PLANE.network().listen(address).unwrap();
        // The connections that it makes are of that network, too.
        let serve = move || Ok(thread::spawn(move || accept(&listener, worker, clock, &seen)));
        let thread = PLANE.network().within(serve).unwrap();
        Shift { address, is_over, thread: Some(thread) }
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        // One more connection, for it to look.
        let woken = PLANE.network().within(|| Ok(TcpStream::connect(self.address)?));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            drop(thread.join());
        }
    }
}

fn accept(listener: &TcpListener, worker: SocketAddr, clock: Clock, is_over: &AtomicBool) {
    for mut near in listener.incoming().flatten() {
        if is_over.load(SeqCst) {
            return;
        }
        // Where one of the two ends early, so does the other: whoever has asked gets no answer.
        thread::spawn(move || pass(&mut near, worker, clock));
    }
}

/// Passes one question and its answer on; each has a connection of its own.
fn pass(near: &mut TcpStream, worker: SocketAddr, clock: Clock) -> io::Result<()> {
    near.set_read_timeout(Some(SILENCE))?;
    let question = Message::read(near)?;
    let mut far = TcpStream::connect(worker)?;
    far.set_read_timeout(Some(SILENCE))?;
    question.write(&mut far)?;
    let mut answer = Message::read(&mut far)?;
    if question.head.lines().next().is_some_and(|line| line.contains(" /v1/stats"))
        && let Some(shifted) = shifted(&answer.body, clock)
    {
        answer.body = shifted;
    }
    answer.write(near)
}

/// A reading by the clock; `None` where it is none.
fn shifted(reading: &[u8], clock: Clock) -> Option<Vec<u8>> {
    let mut reading: Value = serde_json::from_slice(reading).ok()?;
    let ahead = u64::try_from(clock.ahead().as_micros()).ok()?;
    for instant in ["begun", "at"] {
        let place = reading.get_mut(instant)?;
        *place = (place.as_u64()? + ahead).into();
    }
    serde_json::to_vec(&reading).ok()
}

/// A question or an answer of HTTP/1.1, with a body of a known length.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    fn read(stream: &mut TcpStream) -> io::Result<Self> {
        const END: &[u8] = b"\r\n\r\n";
        let (mut bytes, mut buffer) = (Vec::<u8>::new(), vec![0_u8; 64 * 1024]);
        let mut more = |bytes: &mut Vec<u8>| {
            let count = stream.read(&mut buffer)?;
            bytes.extend_from_slice(&buffer[..count]);
            if count == 0 { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) } else { Ok(()) }
        };
        let end = loop {
            if let Some(end) = bytes.windows(END.len()).position(|window| window == END) {
                break end;
            }
            more(&mut bytes)?;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = value(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = bytes.split_off(end + END.len());
        while body.len() < length {
            more(&mut body)?;
        }
        Ok(Self { head, body })
    }

    /// Nothing is compressed on the way, and nothing follows.
    fn write(&self, stream: &mut TcpStream) -> io::Result<()> {
        let is_other = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default();
            !["content-length", "accept-encoding", "connection"].iter().any(|own| name.eq_ignore_ascii_case(own))
        };
        let head: String = self.head.lines().filter(is_other).map(|line| format!("{line}\r\n")).collect();
        let length = self.body.len();
        let head = format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n");
        stream.write_all(&[head.as_bytes(), self.body.as_slice()].concat())
    }
}

/// The value of a header.
fn value<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
}
