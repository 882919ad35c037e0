//! TLS before the fake AWS, whose connections can be closed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::environment::Certificate;

/// Dropping it closes everything.
pub struct Front {
    addr: SocketAddr,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    accepting: JoinHandle<()>,
}

impl Front {
    pub async fn start(server: SocketAddr, certificate: &Certificate) -> Self {
        let chain = vec![CertificateDer::from_pem_file(&certificate.chain).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
        let config = ServerConfig::builder_with_provider(default_provider().into());
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = config.with_single_cert(chain, key).unwrap();
        // Each handshake is a whole one.
        config.send_tls13_tickets = 0;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn(accept(listener, acceptor, server, Arc::clone(&connections)));
        Self { addr, connections, accepting }
    }

    pub fn endpoint(&self) -> String {
        format!("https://{}", self.addr)
    }

    /// Closes every connection.
    pub fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    server: SocketAddr,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let acceptor = acceptor.clone();
        let connection = tokio::spawn(async move {
            let mut client = acceptor.accept(client).await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            server.set_nodelay(true).unwrap();
            // A client that leaves without a word is none of ours.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
        connections.lock().unwrap().push(connection.abort_handle());
    }
}
