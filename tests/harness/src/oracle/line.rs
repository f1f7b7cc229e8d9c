//! A network in which so many bits a second fit through, by the kernel's token bucket (TBF).
//!
//! Each device has a source address of its own, and each address a bucket. The kernel counts what goes to the broker, and
//! there the bytes of MQTT alone: Ethernet, IP and TCP have 66 bytes a packet, which are taken off its size.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Result;

use super::PORT;
use crate::sandbox::{Network, Sandbox};

/// What of MQTT fits into a packet of Ethernet.
pub const SEGMENT: u32 = 1_448;

/// Headers of Ethernet, IP and TCP with time stamps.
const HEADERS: u32 = 14 + 20 + 32;

/// A network; it ends on drop.
pub struct Line {
    sandbox: Sandbox,
    sources: Vec<Ipv4Addr>,
}

impl Line {
    /// Makes the network, in which what comes from each of so many addresses has `rate` bits a second; without a rate, all is as
    /// fast as ever.
    ///
    /// # Errors
    /// [`Unavailable`](crate::unavailable::Unavailable) where this machine has no such networks.
    pub fn start(devices: u8, rate: Option<u32>) -> Result<Line> {
        let sources: Vec<Ipv4Addr> = (0..devices).map(source).collect();
        let script = rate.map_or_else(ethernet, |rate| script(&sources, rate));
        Ok(Line { sandbox: super::sandbox("line", &script)?, sources })
    }

    /// The network, in which broker and fleet are to run.
    pub fn network(&self) -> Network {
        self.sandbox.network()
    }

    /// Where the fleet finds a broker that listens on [`PORT`] of all addresses.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{PORT}")
    }

    /// The addresses from which the devices are to connect, one each.
    pub fn sources(&self) -> &[Ipv4Addr] {
        &self.sources
    }

    /// By how much earlier than on a line of that rate a segment goes on.
    ///
    /// The bucket holds one segment. A packet goes on as soon as there are tokens for all of it, which is when a line would
    /// begin to carry it; there it arrives when the line has carried its last bit.
    pub fn lead(rate: u32) -> Duration {
        Duration::from_secs_f64(f64::from(SEGMENT) * 8.0 / f64::from(rate))
    }
}

/// The address of a device.
pub(super) fn source(device: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 11 + device)
}

/// Loopback with packets as on Ethernet.
fn ethernet() -> String {
    "ip link set lo up mtu 1500 gso_max_segs 1\n".to_owned()
}

/// Loopback with a bucket for each address. The size table is the root's, as only a root can have one; the classes between
/// it and the buckets only tell devices apart.
pub(super) fn script(sources: &[Ipv4Addr], rate: u32) -> String {
    let mut script = ethernet();
    script +=
        &format!("tc qdisc add dev lo root handle 1: stab overhead -{HEADERS} linklayer ethernet htb default 1\n");
    script += "tc class add dev lo parent 1: classid 1:1 htb rate 10gbit quantum 60000\n";
    for (place, source) in sources.iter().enumerate() {
        // Numbers of classes are hexadecimal.
        let class = format!("{:x}", 0x10 + place);
        script += &format!(
            "tc class add dev lo parent 1: classid 1:{class} htb rate 10gbit quantum 60000
             tc qdisc add dev lo parent 1:{class} tbf rate {rate}bit burst {} limit 1000000
             tc filter add dev lo parent 1: protocol ip u32 match ip src {source}/32 match ip dport {PORT} 0xffff flowid 1:{class}\n",
            SEGMENT + 1
        );
    }
    script
}
