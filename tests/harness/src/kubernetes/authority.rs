//! The certificate authority of a cluster and the certificates that its parts and users show each other.

use std::{fs, path::Path};

use anyhow::Result;
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Signs certificates; its key is never written.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, in PEM.
pub(super) struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    pub(super) fn new() -> Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("test-authority", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), certificate })
    }

    /// What everybody trusts, in PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A user as Kubernetes reads certificates: the common name is the user, the organization the group.
    pub(super) fn user(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        self.sign(CertificateParams::default(), user, group)
    }

    /// A server that is reached by these names and addresses.
    pub(super) fn server(&self, user: &str, names: &[&str]) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.sign(CertificateParams::new(names)?, user, None)
    }

    fn sign(&self, mut params: CertificateParams, user: &str, group: Option<&str>) -> Result<Identity> {
        params.distinguished_name = name(user, group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }

    /// What a client needs to reach `server` as `identity`.
    pub(super) fn kubeconfig(&self, server: &str, identity: &Identity) -> String {
        let Identity { certificate, key } = identity;
        let (certificate, key) = (BASE64_STANDARD.encode(certificate), BASE64_STANDARD.encode(key));
        self.kubeconfig_of(server, &format!("{{client-certificate-data: {certificate}, client-key-data: {key}}}"))
    }

    /// As [`Authority::kubeconfig`], for somebody who shows a token.
    pub(super) fn kubeconfig_with_token(&self, server: &str, token: &str) -> String {
        self.kubeconfig_of(server, &format!("{{token: {token}}}"))
    }

    /// As [`Authority::kubeconfig`], for a way on which another one says who it is.
    pub(super) fn kubeconfig_without_identity(&self, server: &str) -> String {
        self.kubeconfig_of(server, "{}")
    }

    fn kubeconfig_of(&self, server: &str, user: &str) -> String {
        let trusted = BASE64_STANDARD.encode(&self.certificate);
        format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: test, cluster: {{server: '{server}', certificate-authority-data: {trusted}}}}}]\n\
             users: [{{name: test, user: {user}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
             current-context: test\n"
        )
    }
}

impl Identity {
    /// The certificate, in PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, in PEM.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Writes `NAME.crt` and `NAME.key`.
    pub(super) fn write(&self, dir: &Path, name: &str) -> Result<()> {
        fs::write(dir.join(name).with_extension("crt"), &self.certificate)?;
        fs::write(dir.join(name).with_extension("key"), &self.key)?;
        Ok(())
    }
}

/// The key that signs the tokens of service accounts, as `service-accounts.key` and `service-accounts.pub`.
pub(super) fn write_token_key(dir: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    fs::write(dir.join("service-accounts.key"), key.serialize_pem())?;
    fs::write(dir.join("service-accounts.pub"), key.public_key_pem())?;
    Ok(())
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}
