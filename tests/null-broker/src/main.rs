//! An MQTT 3.1.1 sink that acknowledges and does nothing else, so that a generator can be measured.
//!
//! It stores nothing: no session, no retained message, no will. With `--echo` it forwards at QoS 0, to measure what
//! observing costs. Never reachable from outside unless told so by `--bind`; not a broker for anything but tests.

#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

mod counters;
mod packet;
mod sink;

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use counters::Counters;
use sink::{Event, Routing, Sink};

/// Acknowledges MQTT 3.1.1 messages and forgets them
///
/// Counters (sessions, connects, messages by QoS, bytes, …) are one line of JSON, printed on SIGUSR1, at the end
/// (SIGTERM, SIGINT) and with --every.
///
/// Example: null-broker --port 1883 --bind 127.0.0.1 --bind 127.0.0.2 --every 1
#[derive(Parser)]
#[command(version)]
struct Args {
    /// TCP port; 0 takes a free one, printed as `listening on ADDRESS:PORT`
    #[arg(long, value_name = "PORT", default_value_t = 1883)]
    port: u16,
    /// Address to listen on; may be given several times
    #[arg(long, value_name = "ADDRESS", default_values_t = [IpAddr::V4(Ipv4Addr::LOCALHOST)])]
    bind: Vec<IpAddr>,
    /// Forward each message at QoS 0 to every session with a matching subscription
    #[arg(long)]
    echo: bool,
    /// Where the counters go: a file, replaced each time, or - for stdout
    #[arg(long, value_name = "FILE", default_value = "-")]
    stats: PathBuf,
    /// Seconds between two prints of the counters
    #[arg(long, value_name = "SECONDS")]
    every: Option<u64>,
}

fn main() -> Result<()> {
    let Args { port, bind, echo, stats, every } = Args::parse();
    rlimit::increase_nofile_limit(u64::MAX).context("the open-file limit cannot be raised")?;
    let routing = if echo { Routing::Echo } else { Routing::Discard };
    let mut sink = Sink::listen(&bind, port, routing)?;
    announce(sink.addresses())?;
    loop {
        match sink.run(every.map(Duration::from_secs))? {
            Event::Report => report(sink.counters(), &stats)?,
            Event::Stop => return report(sink.counters(), &stats),
        }
    }
}

fn announce(addresses: &[SocketAddr]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    for address in addresses {
        writeln!(stdout, "listening on {address}")?;
    }
    Ok(stdout.flush()?)
}

fn report(counters: &Counters, to: &PathBuf) -> Result<()> {
    let line = counters.to_json();
    if to.as_os_str() == "-" {
        writeln!(io::stdout().lock(), "{line}")?;
        return Ok(());
    }
    // Renamed when complete: a reader never sees half a line.
    let fresh = to.with_extension("tmp");
    std::fs::write(&fresh, format!("{line}\n"))
        .and_then(|()| std::fs::rename(&fresh, to))
        .with_context(|| format!("{} cannot be written", to.display()))
}
