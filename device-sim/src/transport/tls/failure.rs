//! The ways in which TLS fails, by name.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why there is no TLS with a broker. The variant's name, after `tls_`, is the metric label.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", prefix = "tls_")]
pub enum Failure {
    /// The broker's certificate is signed by nobody who is trusted.
    #[error("expected a certificate of a trusted authority; name the broker's in `broker.tls.ca`: {0}")]
    UnknownAuthority(#[source] Box<Error>),
    /// The broker's certificate has expired.
    #[error("expected a certificate that is valid now; renew the broker's: {0}")]
    CertificateExpired(#[source] Box<Error>),
    /// The broker's certificate is not valid yet.
    #[error("expected a certificate that is valid now; look at both clocks: {0}")]
    CertificateNotYetValid(#[source] Box<Error>),
    /// The broker's certificate names somebody else.
    #[error(
        "expected a certificate for the broker's name; use a name that it has in the address or as `broker.tls.serverName`: {0}"
    )]
    WrongName(#[source] Box<Error>),
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
            Error::InvalidCertificate(ref certificate) => of_certificate(certificate)(error.into()),
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

fn of_certificate(error: &CertificateError) -> fn(Box<Error>) -> Failure {
    match error {
        // Signed by another key of an authority of the same name: it was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Failure::UnknownAuthority,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Failure::CertificateExpired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Failure::CertificateNotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Failure::WrongName,
        CertificateError::Revoked => Failure::CertificateRevoked,
        _ => Failure::CertificateInvalid,
    }
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
        AlertDescription::HandshakeFailure => Failure::HandshakeRefused,
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => Failure::Incompatible,
        _ => Failure::Alert,
    }
}
