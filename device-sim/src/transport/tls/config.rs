//! From what a document says of TLS to what rustls needs: whom to trust and what to show.

use std::sync::Arc;

use fleet_contract::fleet;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};

use super::tickets::Tickets;
use crate::transport::RouteError;

/// The one configuration of all connections of a fleet.
pub(in crate::transport) fn config(tls: &fleet::Tls) -> Result<ClientConfig, RouteError> {
    let fleet::Tls { ca, certificate, key, ca_secret_name, secret_name, server_name: _, insecure_skip_verify } = tls;
    if ca_secret_name.is_some() || secret_name.is_some() {
        return Err(RouteError::Secret);
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(RouteError::Identity)?;
    let builder = if *insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        builder.with_root_certificates(authorities(ca.as_deref())?)
    };
    let mut config = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates("a certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("a private key", key, error))?;
            builder.with_client_auth_cert(chain, key).map_err(RouteError::Identity)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::store(Arc::new(Tickets::default()));
    Ok(config)
}

/// Those of a file, or those that the machine trusts.
fn authorities(file: Option<&str>) -> Result<RootCertStore, RouteError> {
    let mut store = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in certificates("certificates of authorities", file)? {
            store.add(certificate).map_err(|source| RouteError::Authority { file: file.into(), source })?;
        }
        return Ok(store);
    }
    // Some of a machine's certificates may be of a kind that nobody uses any more.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() { Err(RouteError::NoAuthorities) } else { Ok(store) }
}

fn certificates(what: &'static str, file: &str) -> Result<Vec<CertificateDer<'static>>, RouteError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match found {
        Ok(found) if found.is_empty() => Err(RouteError::Empty { what, file: file.into() }),
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(what, file, error)),
    }
}

fn unreadable(what: &'static str, file: &str, source: pem::Error) -> RouteError {
    match source {
        pem::Error::NoItemsFound => RouteError::Empty { what, file: file.into() },
        source => RouteError::File { what, file: file.into(), source },
    }
}

/// Takes any certificate, but still wants its owner's signature: `insecureSkipVerify`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
