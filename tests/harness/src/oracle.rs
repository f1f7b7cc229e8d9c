//! Networks that others than the product make worse: the oracle for its faults of links.
//!
//! | what | by whom |
//! | --- | --- |
//! | [`Delayer`] | packets take time, by draws of this process |
//! | [`Line`] | so many bits a second fit through, by the kernel's token bucket (TBF) |
//!
//! Both are in network namespaces of their own ([`Sandbox`]), in which a broker and a fleet run as ever.

mod delayer;
mod line;

use std::process::Command;

use anyhow::{Context, Result};

pub use self::{
    delayer::{Delay, Delayer, Direction, Spread},
    line::{Line, SEGMENT},
};
use crate::{command, debian::Packages, sandbox::Sandbox, unavailable::Unavailable};

/// The port of the broker in each of them.
pub const PORT: u16 = 1883;

/// What a connection is paced by: that of every kernel, and no draws or bandwidth estimates of its own.
const STEADY: &str = "echo reno > /proc/sys/net/ipv4/tcp_congestion_control\n";

/// The programs that such networks need, where this machine can make them.
///
/// # Errors
/// [`Unavailable`] with the reason.
pub fn requirements() -> Result<Packages, Unavailable> {
    Sandbox::check().map_err(|reason| Unavailable::new("namespaces", reason))?;
    let packages = Packages::unpack(&["iproute2"]).map_err(|reason| Unavailable::new("Debian's iproute2", reason))?;
    let tried = |what, script: &str| {
        let mut command = packages.command("unshare");
        command.args(["--net", "bash", "-euc", script]);
        command::run(&mut command).map_err(|reason| Unavailable::new(what, reason))
    };
    tried("tunnels (VXLAN) in the kernel", &delayer::script())?;
    tried("token buckets (TBF, HTB, u32) in the kernel", &line::script(&[line::source(0)], 1_000_000))?;
    Ok(packages)
}

/// A sandbox whose network `script` has made.
fn sandbox(purpose: &str, script: &str) -> Result<Sandbox> {
    let sandbox = Sandbox::start(purpose, &requirements()?)?;
    let script = format!("{STEADY}{script}");
    command::run(&mut sandbox.inside(Command::new("bash").args(["-euc", &script])))
        .context("the network of the oracle cannot be made")?;
    Ok(sandbox)
}
