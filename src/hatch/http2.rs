//! A whole load balancer on loopback, and clients that say whatever bytes they like over HTTP/2.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::read;
use crate::app::{self, Running};
use crate::model::{Certificate, Pem, Protocol, Secret};
use crate::tls;

/// Answers by itself, whatever it is asked: what targets do is not looked at here.
const CONFIG: &str = "admin: 127.0.0.1:0\n\
    workers: 1\n\
    listeners: [ { port: 80, protocol: HTTP, default_actions: \
    [ { fixed_response: { status_code: 200, content_type: text/plain, message_body: hello } } ] } ]\n";
/// What a client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One HTTPS listener with one worker.
#[derive(Debug)]
pub struct Http2Server {
    runtime: Runtime,
    address: SocketAddr,
    // One for all, so that handshakes are short.
    tls: Arc<ClientConfig>,
    _running: Running,
}

impl Http2Server {
    /// Starts it on any free port.
    pub fn start() -> Self {
        let (mut config, _warnings) = read(CONFIG);
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let pair = pair.expect("a certificate");
        let inline = |text: String| Pem::Inline(Secret::new(text.into_bytes()));
        let listener = &mut config.listeners[0];
        listener.address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        listener.port = 0;
        listener.protocol = Protocol::Https;
        listener.certificates = vec![Certificate {
            certificate: inline(pair.cert.pem()),
            key: inline(pair.signing_key.serialize_pem()),
        }];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let running = runtime.block_on(app::start(config));
        let running = running.expect("a configuration that runs");
        let mut tls = (*tls::client::unverified().expect("settings")).clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            runtime,
            address: running.listeners()[0],
            tls: Arc::new(tls),
            _running: running,
        }
    }

    /// Says these bytes behind the preface and nothing after them; gives what came until the connection ended. Panics
    /// where the server takes no more clients.
    pub fn hear(&self, frames: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        let conversation = async {
            let tcp = TcpStream::connect(self.address).await;
            let tcp = tcp.expect("a connection");
            tcp.set_nodelay(true).expect("a socket of TCP");
            let name = ServerName::try_from("localhost").expect("a name");
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            let tls = connector.connect(name, tcp).await.expect("a greeting");
            let (mut reader, mut writer) = tokio::io::split(tls);
            let say = async {
                writer.write_all(&[PREFACE, frames].concat()).await?;
                writer.shutdown().await
            };
            // It may have had enough before we have said everything.
            let (_said, outcome) = tokio::join!(say, reader.read_to_end(&mut heard));
            // A connection that ends with bytes unread is reset.
            outcome
        };
        drop(self.runtime.block_on(conversation));
        heard
    }
}
