//! Where a process listens, as people write it: `127.0.0.1:9464`, `localhost:9464`, `:9464` for all addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why a text is no address to listen at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected ADDRESS:PORT such as `127.0.0.1:9464`, `localhost:9464`, or `:9464` for all addresses, found `{0}`")]
pub struct ParseError(String);

/// The address that is meant. No host means every address of the machine, of IPv4 as well; of names only `localhost` is
/// one that cannot move.
///
/// # Errors
/// When it is neither an address with a port nor one of these two.
pub fn parse(text: &str) -> Result<SocketAddr, ParseError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let error = || ParseError(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
    let host: IpAddr = match host {
        "" | "*" => Ipv6Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        _ => return Err(error()),
    };
    Ok(SocketAddr::new(host, port.parse().map_err(|_| error())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_people_write() {
        let parsed = |text: &str| parse(text).map(|address| address.to_string());
        assert_eq!(parsed("127.0.0.1:0").unwrap(), "127.0.0.1:0");
        assert_eq!(parsed("[::1]:9464").unwrap(), "[::1]:9464");
        assert_eq!(parsed("localhost:21950").unwrap(), "127.0.0.1:21950");
        assert_eq!(parsed(":21950").unwrap(), "[::]:21950");
        assert_eq!(parsed("*:1").unwrap(), "[::]:1");
        for text in ["", "9464", "localhost", "broker.example:1", ":65536", ":-1", "::1:9464x"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.ends_with(&format!("found `{text}`")), "{error}");
        }
    }
}
