//! A connection of a load, plain or TLS. It is opened with waiting, and may then go on without.

use std::io::{self, BufRead, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::answer::{Answer, Head};
use crate::socket::{self, Received};

/// Taken from a socket at once.
pub const SCRATCH: usize = 256 << 10;

/// Where to, and how.
#[derive(Debug, Clone)]
pub struct Destination {
    pub address: SocketAddr,
    pub tls: Option<Tls>,
}

#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// TLS 1.3 with one group and one cipher suite, the same for every server, and each time a full handshake.
    pub fn new(name: &str, protocol: &str) -> io::Result<Self> {
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified))
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            name: ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
        })
    }
}

/// A load has nothing to protect, and what its own side costs is not the proxy's.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[derive(Debug)]
pub struct Connection {
    pub socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// What the socket did not take yet; of plain connections only, rustls has its own.
    unsent: Vec<u8>,
}

impl Connection {
    /// Connects and shakes hands, waiting for it. `number` tells the connections of a program apart.
    pub fn open(destination: &Destination, number: usize) -> io::Result<Self> {
        let socket = socket::connected(destination.address, number)?;
        let mut connection = Self {
            socket,
            tls: None,
            unsent: Vec::new(),
        };
        if let Some(Tls { config, name }) = &destination.tls {
            let mut tls =
                ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
            while tls.is_handshaking() {
                tls.complete_io(&mut connection.socket)?;
            }
            if tls
                .alpn_protocol()
                .is_some_and(|chosen| chosen != config.alpn_protocols[0])
            {
                return Err(io::Error::other("the server chose another protocol"));
            }
            connection.tls = Some(Box::new(tls));
        }
        Ok(connection)
    }

    /// From now on nothing waits.
    pub fn stop_waiting(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)
    }

    /// Sends, or keeps what the socket does not take for `flush`.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes)?,
            None if self.unsent.is_empty() => {
                let count = socket::write(&self.socket, bytes)?;
                self.unsent.extend_from_slice(&bytes[count..]);
                return Ok(());
            }
            None => self.unsent.extend_from_slice(bytes),
        }
        self.flush()
    }

    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                    other => other?,
                };
            }
        } else if !self.unsent.is_empty() {
            let count = socket::write(&self.socket, &self.unsent)?;
            self.unsent.drain(..count);
        }
        Ok(())
    }

    /// Reads once and hands on what has come, in as many pieces as it likes. The count is of the socket's bytes.
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<Received> {
        let received = socket::read(&self.socket, scratch)?;
        let Received::Bytes(count) = received else {
            return Ok(received);
        };
        let Some(tls) = &mut self.tls else {
            each(&scratch[..count]);
            return Ok(received);
        };
        let mut rest = &scratch[..count];
        while !rest.is_empty() {
            tls.read_tls(&mut rest)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let mut reader = tls.reader();
            while let Ok(plain) = reader.fill_buf() {
                if plain.is_empty() {
                    break;
                }
                let length = plain.len();
                each(plain);
                reader.consume(length);
            }
            if state.peer_has_closed() {
                return Ok(Received::End);
            }
        }
        self.flush()?;
        Ok(received)
    }

    /// One request and its answer, waiting for it.
    pub fn exchange(&mut self, request: &[u8], scratch: &mut [u8]) -> io::Result<Head> {
        self.send(request)?;
        self.answer(scratch, |_| ())
    }

    /// An answer, waiting for it; its body is handed on.
    pub fn answer(&mut self, scratch: &mut [u8], mut body: impl FnMut(&[u8])) -> io::Result<Head> {
        let mut answer = Answer::default();
        loop {
            let mut wrong = Ok(());
            let received = self.receive(scratch, |bytes| match answer.take(bytes, &mut body) {
                Ok(count) if count < bytes.len() => {
                    wrong = Err(String::from("more came than the answer has"))
                }
                Ok(_) => (),
                Err(sentence) => wrong = Err(sentence),
            })?;
            wrong.map_err(io::Error::other)?;
            if let Some(head) = answer.done() {
                return Ok(head);
            }
            match received {
                Received::Bytes(_) => (),
                Received::Later => return Err(io::Error::other("no answer in time")),
                Received::End => {
                    return Err(io::Error::other("the connection ended before the answer"));
                }
            }
        }
    }

    /// Waits for the other side to end the connection.
    pub fn drain(mut self, scratch: &mut [u8]) -> io::Result<()> {
        loop {
            let mut more = 0;
            match self.receive(scratch, |bytes| more += bytes.len())? {
                Received::End => return Ok(()),
                Received::Later => {
                    return Err(io::Error::other(
                        "the other side does not end the connection",
                    ));
                }
                Received::Bytes(_) if more > 0 => {
                    return Err(io::Error::other("more came than the answer has"));
                }
                Received::Bytes(_) => (),
            }
        }
    }
}
