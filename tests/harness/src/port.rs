//! Free TCP ports on loopback.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// A port of 127.0.0.1 that is free now.
///
/// Another process could take it before its user binds; the kernel hands out ephemeral ports in turn, so in
/// practice it does not. What can bind port 0 itself should.
pub fn free() -> Result<u16> {
    Ok(free_many::<1>()?[0])
}

/// `N` different free ports of 127.0.0.1.
pub fn free_many<const N: usize>() -> Result<[u16; N]> {
    // Held together until all are chosen, so that none comes twice.
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
