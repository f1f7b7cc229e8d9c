//! A way of one client to the API server that a test breaks, while all others have theirs.
//!
//! ```text
//! client ── HTTP ──► Proxy ── HTTP ──► kubectl proxy ── TLS, identity ──► API server
//! ```
//!
//! TLS ends behind the proxy: it could not hold up answers alone where a handshake needs them.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result};

use super::{PATIENCE, client::Client};
use crate::{
    process::{Process, Stream},
    proxy::Proxy,
    sandbox::Network,
};

/// The way; it ends on drop.
pub struct Detour {
    /// What becomes of the bytes.
    pub proxy: Proxy,
    /// Whoever goes this way, with the identity of the client that it was made for.
    pub client: Client,
    _kubectl: Process,
}

impl Detour {
    pub(super) fn start(
        client: &Client,
        network: &Network,
        logs: &Path,
        by_way_of: impl FnOnce(&str) -> Result<Client>,
    ) -> Result<Detour> {
        let mut command = client.kubectl_command();
        command.args(["proxy", "--address=127.0.0.1", "--port=0"]);
        let kubectl = Process::spawn("kubectl-proxy", &mut command, logs)?;
        let line = kubectl.wait_for_line(Stream::Stdout, PATIENCE, |line| line.starts_with("Starting to serve on"))?;
        let address: SocketAddr = line.rsplit(' ').next().context("kubectl proxy names no address")?.parse()?;
        let proxy = network.within(|| Proxy::start(address))?;
        let client = by_way_of(&format!("http://{}", proxy.address()))?;
        Ok(Detour { proxy, client, _kubectl: kubectl })
    }
}
