//! A network in which packets take time.
//!
//! What its namespace sends to [`BROKER`] goes into a tunnel (VXLAN) whose other end is a UDP socket of this process, as
//! frames of Ethernet. Each goes back into the namespace when its time has come, with sender and receiver exchanged, so
//! that a broker in there takes it as from a client at [`BROKER`]. Exchanging addresses leaves all checksums right. (A TUN
//! device would do the same, but cannot be opened without `unsafe`.)

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::PORT;
use crate::sandbox::{Network, Sandbox};

/// Where clients find the broker.
const BROKER: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);

/// The ends of the tunnel: the kernel's and ours.
const KERNEL_PORT: u16 = 4789;
const OUR_PORT: u16 = 4790;

/// How long the thread may not notice that it is to end.
const IDLE: Duration = Duration::from_millis(100);

/// Header of VXLAN, and then that of Ethernet (RFC 7348).
const ETHERNET: usize = 8;
const IP: usize = ETHERNET + 14;

/// Flags of TCP.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

/// How packets of one direction are delayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delay {
    /// In the middle of what it varies around; the least of an exponential one.
    pub base: Duration,
    /// By how much it varies.
    pub jitter: Duration,
    /// How it varies.
    pub spread: Spread,
}

/// A distribution of delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Evenly, by up to the jitter more or less.
    Uniform,
    /// Normal; the jitter is the standard deviation.
    Normal,
    /// The base, and what is exponential on top; the jitter is its mean.
    Exponential,
}

/// Which packets are delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those to the broker.
    Up,
    /// Those from it.
    Down,
    /// All.
    Both,
}

/// A network and the thread that passes its packets on; both end on drop.
pub struct Delayer {
    sandbox: Sandbox,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Duration>>>,
}

impl Delayer {
    /// Makes the network; without a delay, packets go on at once.
    ///
    /// # Errors
    /// [`Unavailable`](crate::unavailable::Unavailable) where this machine has no such networks.
    pub fn start(delay: Option<(Delay, Direction)>, seed: u64) -> Result<Delayer> {
        let sandbox = super::sandbox("delayer", &script())?;
        let socket = sandbox.network().within(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, OUR_PORT))?))?;
        socket.set_nonblocking(true)?;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let relay = Relay {
            socket,
            delay,
            draws: Draws(seed),
            last_at: HashMap::new(),
            waiting: BinaryHeap::new(),
            count: 0,
            late: Vec::new(),
            is_stopped: Arc::clone(&is_stopped),
        };
        Ok(Delayer { sandbox, is_stopped, thread: Some(thread::spawn(move || relay.run())) })
    }

    /// The network, in which broker and fleet are to run.
    pub fn network(&self) -> Network {
        self.sandbox.network()
    }

    /// Where the fleet finds a broker that listens on [`PORT`] of all addresses.
    pub fn url(&self) -> String {
        format!("mqtt://{BROKER}:{PORT}")
    }

    /// Half of the packets go on no later than this after the instant that was drawn for them: an oracle that is late itself would
    /// find anything alike.
    pub const LATE_MAX: Duration = Duration::from_millis(1);

    /// Ends it, and says how late half of the packets were at most.
    ///
    /// # Errors
    /// Why it could not pass packets on.
    pub fn end(mut self) -> Result<Duration> {
        self.is_stopped.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it has ended")?;
        thread.join().map_err(|_| anyhow::anyhow!("the delayer panicked"))?
    }
}

impl Drop for Delayer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// Makes the tunnel. The kernel takes tunnels to an address of its own for ones between its devices, but not those to a
/// broadcast address. Segments come as they go over Ethernet, not several in one.
pub(super) fn script() -> String {
    format!(
        "ip link set lo up
         ip link add far type vxlan id 1 local 127.0.0.1 dstport {KERNEL_PORT} nolearning
         ip link set far mtu 1500 gso_max_segs 1 up
         ip address add 10.98.0.1/24 dev far
         ip neighbour add {BROKER} lladdr 02:00:00:00:00:02 dev far
         bridge fdb add 02:00:00:00:00:02 dev far dst 127.255.255.255 port {OUR_PORT}"
    )
}

/// What passes packets on.
struct Relay {
    socket: UdpSocket,
    delay: Option<(Delay, Direction)>,
    draws: Draws,
    /// When the last packet of a direction of a connection goes on, by the client's port.
    last_at: HashMap<(bool, u16), Instant>,
    /// In the order in which they go on; those of one instant in that in which they came.
    waiting: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    count: u64,
    /// How long after its instant each packet went on.
    late: Vec<Duration>,
    is_stopped: Arc<AtomicBool>,
}

impl Relay {
    fn run(mut self) -> Result<Duration> {
        let mut frame = vec![0; 64 * 1024];
        while !self.is_stopped.load(Ordering::Relaxed) {
            let next = self.waiting.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
            let timeout = Timespec::try_from(next.unwrap_or(IDLE).min(IDLE))?;
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("the tunnel cannot be awaited"),
            }
            loop {
                match self.socket.recv(&mut frame) {
                    Ok(length) => self.take(&frame[..length], Instant::now()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("the tunnel cannot be read"),
                }
            }
            self.pass_on(Instant::now())?;
        }
        self.late.sort_unstable();
        Ok(self.late.get(self.late.len() / 2).copied().unwrap_or_default())
    }

    fn take(&mut self, frame: &[u8], now: Instant) {
        let Some(segment) = Segment::of(frame) else { return };
        let mut at = now;
        if let Some((delay, direction)) = self.delay
            && direction.is_of(&segment)
        {
            at += delay.draw(&mut self.draws);
            // TCP hands bytes over in their order, so that one segment which is late holds up those behind it, however
            // soon they arrive. To let them overtake here would only make TCP send some again. What is a mere
            // acknowledgement has no bytes: it waits for nobody, and nobody for it.
            if !segment.is_acknowledgement {
                let last = self.last_at.entry((segment.is_up, segment.client)).or_insert(at);
                *last = at.max(*last);
                at = *last;
            }
        }
        self.waiting.push(Reverse((at, self.count, exchanged(frame))));
        self.count += 1;
    }

    fn pass_on(&mut self, now: Instant) -> Result<()> {
        while self.waiting.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((at, _, frame))) = self.waiting.pop() else { break };
            self.late.push(now.saturating_duration_since(at));
            let kernel = SocketAddr::from((Ipv4Addr::LOCALHOST, KERNEL_PORT));
            self.socket.send_to(&frame, kernel).context("the tunnel does not take a packet")?;
        }
        Ok(())
    }
}

/// A segment of TCP, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    is_up: bool,
    /// The client's port.
    client: u16,
    /// Whether it is that and nothing else.
    is_acknowledgement: bool,
}

impl Segment {
    /// Of a frame in VXLAN; `None` for what is no TCP over IPv4 with the broker.
    fn of(frame: &[u8]) -> Option<Segment> {
        let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        let byte = |at: usize| frame.get(at).copied();
        if word(ETHERNET + 12)? != 0x0800 || byte(IP + 9)? != 6 {
            return None;
        }
        let tcp = IP + usize::from(byte(IP)? & 0x0f) * 4;
        let data = tcp + usize::from(byte(tcp + 12)? >> 4) * 4;
        let end = IP + usize::from(word(IP + 2)?);
        let (from, to) = (word(tcp)?, word(tcp + 2)?);
        let client = if to == PORT { from } else { to };
        let is_with_broker = from == PORT || to == PORT;
        // What begins or ends a connection has a place among the bytes.
        let is_acknowledgement = data == end && byte(tcp + 13)? & (FIN | SYN | RST) == 0;
        is_with_broker.then_some(Segment { is_up: to == PORT, client, is_acknowledgement })
    }
}

/// The frame with its senders and receivers exchanged, those of Ethernet and of IP.
fn exchanged(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for (at, length) in [(ETHERNET, 6), (IP + 12, 4)] {
        let (first, second) = frame[at..at + 2 * length].split_at_mut(length);
        first.swap_with_slice(second);
    }
    frame
}

impl Direction {
    fn is_of(self, segment: &Segment) -> bool {
        match self {
            Direction::Up => segment.is_up,
            Direction::Down => !segment.is_up,
            Direction::Both => true,
        }
    }
}

impl Delay {
    fn draw(&self, draws: &mut Draws) -> Duration {
        let jitter = self.jitter.as_secs_f64();
        let by = match self.spread {
            Spread::Uniform => jitter * (2.0 * draws.unit() - 1.0),
            // Box and Muller, 1958.
            Spread::Normal => jitter * (-2.0 * draws.unit().ln()).sqrt() * (std::f64::consts::TAU * draws.unit()).cos(),
            Spread::Exponential => -jitter * draws.unit().ln(),
        };
        Duration::from_secs_f64((self.base.as_secs_f64() + by).max(0.0))
    }
}

/// Random numbers of a seed: `xorshift64*` (Vigna, 2016), which is none of the product's.
struct Draws(u64);

impl Draws {
    /// Above 0, up to 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment in VXLAN, from port 40000 to the broker.
    fn frame(flags: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; IP + 40];
        frame[ETHERNET..ETHERNET + 14].copy_from_slice(&[2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 8, 0]);
        (frame[IP], frame[IP + 9], frame[IP + 3]) = (0x45, 6, 40 + u8::try_from(data.len()).unwrap());
        frame[IP + 12..IP + 20].copy_from_slice(&[10, 98, 0, 1, 10, 98, 0, 2]);
        frame[IP + 20..IP + 22].copy_from_slice(&40_000_u16.to_be_bytes());
        frame[IP + 22..IP + 24].copy_from_slice(&PORT.to_be_bytes());
        (frame[IP + 32], frame[IP + 33]) = (5 << 4, flags);
        frame.extend_from_slice(data);
        frame
    }

    #[test]
    fn a_mere_acknowledgement_is_told_from_what_has_a_place_among_the_bytes() {
        for (flags, data, is_acknowledgement) in [(0x10, &[][..], true), (0x18, &[7], false), (0x02, &[], false)] {
            let segment = Segment::of(&frame(flags, data)).unwrap();
            assert_eq!(segment, Segment { is_up: true, client: 40_000, is_acknowledgement });
        }
        assert_eq!(Segment::of(&frame(0x10, &[])[..40]), None);
    }

    #[test]
    fn what_goes_on_comes_from_where_it_went() {
        let back = exchanged(&frame(0x18, &[7]));
        assert_eq!(back[ETHERNET..ETHERNET + 12], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
        assert_eq!(back[IP + 12..IP + 20], [10, 98, 0, 2, 10, 98, 0, 1]);
        assert_eq!(back.last(), Some(&7));
    }

    #[test]
    fn delays_are_distributed_as_asked() {
        // Quantiles of the distributions, in milliseconds.
        for (spread, expected) in [
            (Spread::Uniform, [60.8, 100.0, 139.2]),
            (Spread::Normal, [6.9, 100.0, 193.1]),
            (Spread::Exponential, [100.4, 127.7, 284.2]),
        ] {
            let delay = Delay { base: Duration::from_millis(100), jitter: Duration::from_millis(40), spread };
            let mut draws = Draws(1);
            let mut found: Vec<f64> = (0..100_000).map(|_| delay.draw(&mut draws).as_secs_f64() * 1e3).collect();
            found.sort_unstable_by(f64::total_cmp);
            for (place, expected) in [1_000, 50_000, 99_000].into_iter().zip(expected) {
                assert!(
                    (found[place] - expected).abs() < 3.0,
                    "{spread:?}: {} at {place}, not {expected}",
                    found[place]
                );
            }
        }
    }
}
