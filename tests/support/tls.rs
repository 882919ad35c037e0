//! TLS: certificates that sign themselves, and clients that trust them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use paddock::proxy::Tls;
use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use super::folder::Folder;

/// What the certificates are for.
pub const HOST: &str = "localhost";

/// A certificate for [`HOST`] and 127.0.0.1, with its key.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
    pub der: CertificateDer<'static>,
}

impl Identity {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// One that is special.
    pub fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([HOST.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let cert = params.self_signed(&key).unwrap();
        Self { cert_pem: cert.pem(), key_pem: key.serialize_pem(), der: cert.der().clone() }
    }

    /// Puts it into the folder, as `cert.pem` and `key.pem`.
    pub fn install(&self, folder: &Folder) {
        folder.replace("cert.pem", &self.cert_pem);
        folder.replace("key.pem", &self.key_pem);
    }

    /// What a gateway with this certificate runs on; its files are in the folder.
    pub fn server(&self, folder: &Folder) -> Arc<Tls> {
        self.install(folder);
        Arc::new(Tls::open(&folder.path("cert.pem"), &folder.path("key.pem")).unwrap())
    }

    /// A client that trusts this certificate alone, and offers these protocols.
    pub fn client(&self, alpn: &[&str]) -> TlsClient {
        TlsClient::new(&[self], alpn, &[&version::TLS12, &version::TLS13])
    }
}

/// What a client trusts and offers.
#[derive(Debug, Clone)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    pub fn new(trusted: &[&Identity], alpn: &[&str], versions: &[&'static SupportedProtocolVersion]) -> Self {
        let mut roots = RootCertStore::empty();
        for identity in trusted {
            roots.add(identity.der.clone()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }

    /// A connection, its handshake done. For a raw client: `RawClient::over(client.connect(addr).await)`.
    pub async fn connect(&self, addr: SocketAddr) -> TlsStream<TcpStream> {
        self.try_connect(addr).await.unwrap()
    }

    /// The same, or why there is none.
    pub async fn try_connect(&self, addr: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(self.0.clone()).connect(ServerName::try_from(HOST).unwrap(), stream).await
    }
}

/// The certificate that the server showed.
pub fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}
