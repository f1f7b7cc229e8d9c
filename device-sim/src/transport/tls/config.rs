//! From what a document says of TLS to what rustls needs: whom to trust and what to show.

use std::sync::Arc;

use fleet_contract::fleet;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
};

use super::{failure, tickets::Tickets};
use crate::transport::RouteError;

/// The one configuration of all connections of a fleet.
pub(in crate::transport) fn config(tls: &fleet::Tls) -> Result<ClientConfig, RouteError> {
    let fleet::Tls { ca, certificate, key, ca_secret_name, secret_name, server_name: _, insecure_skip_verify, alpn } =
        tls;
    if ca_secret_name.is_some() || secret_name.is_some() {
        return Err(RouteError::Secret);
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(RouteError::Identity)?;
    let trust = if *insecure_skip_verify {
        Trust::Anybody
    } else {
        let named = ca.as_deref().map(|file| certificates("certificates of authorities", file)).transpose()?;
        let authorities = authorities(ca.as_deref(), named.as_deref())?;
        Trust::named(authorities, named.unwrap_or_default(), Arc::clone(&provider))?
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier { trust, provider }));
    let mut config = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates("a certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("a private key", key, error))?;
            builder.with_client_auth_cert(chain, key).map_err(RouteError::Identity)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::store(Arc::new(Tickets::default()));
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

/// Those that were named in a file, or those that the machine trusts.
fn authorities(file: Option<&str>, named: Option<&[CertificateDer<'static>]>) -> Result<RootCertStore, RouteError> {
    let mut store = RootCertStore::empty();
    if let (Some(file), Some(named)) = (file, named) {
        for certificate in named {
            let added = store.add(certificate.clone());
            added.map_err(|source| RouteError::Authority { file: file.into(), source })?;
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

/// Whose certificates are accepted; whoever shows one has to prove in any case that it is its own.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trust {
    /// Any: `insecureSkipVerify`.
    Anybody,
    /// What authorities have signed, and a certificate that is itself in the file of authorities: the usual command that
    /// makes one for a broker makes one of an authority (CA:TRUE), which no server is to show (RFC 5280, section 4.2.1.9),
    /// but whoever has named this very certificate trusts it. Its name and its dates count all the same.
    Named { authorities: Arc<WebPkiServerVerifier>, named: Vec<CertificateDer<'static>> },
}

impl Trust {
    fn named(
        authorities: RootCertStore,
        named: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, RouteError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider).build();
        let authorities = verifier.map_err(|error| RouteError::Identity(rustls::Error::General(error.to_string())))?;
        Ok(Self::Named { authorities, named })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trust::Named { authorities, named } = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // Its dates were looked at before that was found.
            Err(error) if failure::is_of_authority(&error) && named.iter().any(|named| named == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
