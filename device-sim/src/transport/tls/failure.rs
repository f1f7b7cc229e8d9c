//! The ways in which TLS fails, by name.

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, pki_types::UnixTime};

/// Why there is no TLS with a broker. The variant's name, after `tls_`, is the metric label.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", prefix = "tls_")]
pub enum Failure {
    /// The broker's certificate is signed by nobody who is trusted.
    #[error(
        "nobody who is trusted has signed the broker's certificate: name its authority's file with --ca or as `broker.tls.ca`"
    )]
    UnknownAuthority,
    /// The broker shows the certificate of an authority as its own.
    #[error(
        "the broker's own certificate is that of an authority (CA:TRUE): name this very file with --ca, or make one with \
         basicConstraints=critical,CA:FALSE and a subjectAltName"
    )]
    AuthorityAsServer,
    /// The broker's certificate has expired.
    #[error("the broker's certificate{} has expired: renew it", .0.as_deref().map(|dates| format!(" {dates}")).unwrap_or_default())]
    CertificateExpired(Option<String>),
    /// The broker's certificate is not valid yet.
    #[error("the broker's certificate{} is not valid yet: look at both clocks", .0.as_deref().map(|dates| format!(" {dates}")).unwrap_or_default())]
    CertificateNotYetValid(Option<String>),
    /// The broker's certificate names somebody else.
    #[error("the broker's certificate {0}")]
    WrongName(String),
    /// The broker's certificate was taken back.
    #[error("expected a certificate that was not taken back: {0}")]
    CertificateRevoked(#[source] Box<Error>),
    /// The broker's certificate is wrong in another way.
    #[error("expected a valid certificate: {0}")]
    CertificateInvalid(#[source] Box<Error>),
    /// The broker wants a certificate of its clients.
    #[error("the broker requires a client certificate; name one in `broker.tls.certificate` and `broker.tls.key`")]
    ClientCertificateRequired,
    /// The broker does not take the clients' certificate.
    #[error("the broker does not accept the client certificate: {0}")]
    ClientCertificateRefused(#[source] Box<Error>),
    /// The broker has no certificate for the name.
    #[error("the broker does not know itself by this name; set `broker.tls.serverName`: {0}")]
    NameRefused(#[source] Box<Error>),
    /// The broker ends the handshake without saying why.
    #[error("the broker refuses the handshake; before TLS 1.3 that may mean a missing client certificate: {0}")]
    HandshakeRefused(#[source] Box<Error>),
    /// The broker speaks none of the protocols that were offered by ALPN.
    #[error(
        "the broker speaks none of the protocols in `broker.tls.alpn` (RFC 7301); ask its operator for the name, or leave `alpn` out: {0}"
    )]
    AlpnRefused(#[source] Box<Error>),
    /// There is no version or cipher that both sides speak.
    #[error("the broker speaks neither TLS 1.2 nor 1.3 with ciphers of today: {0}")]
    Incompatible(#[source] Box<Error>),
    /// What came is no TLS.
    #[error("expected TLS, found something else; is this port one without TLS? {0}")]
    NotSpoken(#[source] Box<Error>),
    /// The broker closed the connection within the handshake.
    #[error("the broker closed the connection within the TLS handshake; is this port one without TLS?")]
    HandshakeClosed,
    /// The broker has sent an alert of another kind.
    #[error("the broker ends TLS: {0}")]
    Alert(#[source] Box<Error>),
    /// The broker broke the protocol.
    #[error("the broker broke the TLS protocol: {0}")]
    ProtocolViolation(#[source] Box<Error>),
    /// A record or a message of the handshake is longer than any may be.
    #[error("the broker sends a TLS message without an end")]
    Endless,
    /// Nothing can be sent any more.
    #[error("TLS is over")]
    Over,
    /// It is our side that cannot go on.
    #[error("TLS cannot go on: {0}")]
    Own(#[source] Box<Error>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(ref certificate) => of_certificate(certificate, &error),
            Error::AlertReceived(AlertDescription::CertificateRequired) => Self::ClientCertificateRequired,
            Error::AlertReceived(alert) => of_alert(alert)(error.into()),
            Error::PeerIncompatible(_) => Self::Incompatible(error.into()),
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                Self::NotSpoken(error.into())
            }
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::NoCertificatesPresented
            | Error::DecryptError
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord => Self::ProtocolViolation(error.into()),
            _ => Self::Own(error.into()),
        }
    }
}

/// Whether a certificate was refused because it is that of an authority.
pub(super) fn is_of_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

fn of_certificate(certificate: &CertificateError, error: &Error) -> Failure {
    use CertificateError as Fault;
    match certificate {
        // Signed by another key of an authority of the same name: it was made anew.
        Fault::UnknownIssuer | Fault::BadSignature => Failure::UnknownAuthority,
        Fault::Expired => Failure::CertificateExpired(None),
        Fault::ExpiredContext { time, not_after } => {
            Failure::CertificateExpired(dates("was valid until", *not_after, *time))
        }
        Fault::NotValidYet => Failure::CertificateNotYetValid(None),
        Fault::NotValidYetContext { time, not_before } => {
            Failure::CertificateNotYetValid(dates("is valid from", *not_before, *time))
        }
        Fault::NotValidForName => Failure::WrongName("does not have the broker's name".into()),
        Fault::NotValidForNameContext { expected, presented } if presented.is_empty() => Failure::WrongName(format!(
            "has no subjectAltName, and a name in CN alone does not count (RFC 9525): make one with \
             subjectAltName=DNS:{0}, or IP:{0} for an address",
            expected.to_str()
        )),
        Fault::NotValidForNameContext { expected, presented } => Failure::WrongName(format!(
            "is for {}, not for `{}`: use a name that it has in the address or as `broker.tls.serverName`",
            presented.iter().map(|name| format!("`{}`", plain(name))).collect::<Vec<_>>().join(", "),
            expected.to_str()
        )),
        Fault::Revoked => Failure::CertificateRevoked(error.clone().into()),
        _ if is_of_authority(error) => Failure::AuthorityAsServer,
        _ => Failure::CertificateInvalid(error.clone().into()),
    }
}

/// A date of a certificate, and what time it is.
fn dates(what: &str, date: UnixTime, now: UnixTime) -> Option<String> {
    let instant = |time: UnixTime| Timestamp::from_second(i64::try_from(time.as_secs()).ok()?).ok();
    Some(format!("({what} {}, and it is {})", instant(date)?, instant(now)?))
}

/// A name of a certificate without what rustls writes around it: `DnsName("a.example")`.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn of_alert(alert: AlertDescription) -> fn(Box<Error>) -> Failure {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => Failure::ClientCertificateRefused,
        AlertDescription::UnrecognisedName => Failure::NameRefused,
        AlertDescription::NoApplicationProtocol => Failure::AlpnRefused,
        AlertDescription::HandshakeFailure => Failure::HandshakeRefused,
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => Failure::Incompatible,
        _ => Failure::Alert,
    }
}
