//! What a test of a running load balancer needs around it: targets that it can see and steer, certificates, clients.
//! Everything lives on the test's own runtime and ends with it.

use std::fmt::Display;
use std::fs;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use albedo::app::{self, Running, TargetStatus};
use albedo::model::{
    self, Actions, AdminAddress, Certificate, Config, Listener, Pem, Protocol, Secret, TargetGroup,
    TargetGroupName,
};
use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

/// Longest wait for something that must happen; a machine under load may take its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds, and says what was waited for when it never does.
pub(crate) async fn until(what: impl Display, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: impl Display, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("still not so: {what}"),
    }
}

// Configurations.

/// One worker, an admin address of its own.
pub(crate) fn config(
    listeners: impl Into<Vec<Listener>>,
    groups: impl Into<Vec<TargetGroup>>,
) -> Config {
    Config {
        admin: AdminAddress::Tcp((Ipv4Addr::LOCALHOST, 0).into()),
        workers: workers(1),
        listeners: listeners.into(),
        target_groups: groups.into(),
        ..Config::default()
    }
}

pub(crate) fn workers(count: usize) -> model::Workers {
    count.to_string().parse().unwrap()
}

fn name(group: &str) -> TargetGroupName {
    group.parse().unwrap()
}

/// A listener on any free port that forwards everything to one group.
pub(crate) fn http(group: &str) -> Listener {
    let mut listener = Listener::new(0, Protocol::Http, Actions::forward(name(group)));
    listener.address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    listener
}

/// The same with TLS; the first certificate is the default.
pub(crate) fn https(group: &str, certificates: &[&Certified]) -> Listener {
    let mut listener = http(group);
    listener.protocol = Protocol::Https;
    listener.certificates = certificates.iter().map(|one| one.model()).collect();
    listener
}

/// A group that probes often and hurries to its verdicts.
pub(crate) fn group(group: &str, targets: &[SocketAddr]) -> TargetGroup {
    let mut group = TargetGroup::new(name(group), Protocol::Http, 80);
    group.targets = targets.iter().map(|&address| address.into()).collect();
    group.health_check.interval = Duration::from_millis(20);
    group.health_check.timeout = Duration::from_secs(1);
    group.health_check.healthy_threshold = 2;
    group.health_check.unhealthy_threshold = 2;
    group
}

pub(crate) async fn start(config: Config) -> Running {
    app::start(config).await.unwrap()
}

/// The only target of a group as the status tells it.
pub(crate) fn target_status(running: &Running, group: &str, index: usize) -> TargetStatus {
    let status = running.status();
    let group = status.target_groups.iter().find(|one| one.name == group);
    group.unwrap().targets[index].clone()
}

/// Waits until every target of every group is `healthy`.
pub(crate) async fn all_healthy(running: &Running) {
    until("every target is healthy", || {
        let status = running.status();
        let mut targets = status.target_groups.iter().flat_map(|group| &group.targets);
        targets.all(|target| target.state == "healthy")
    })
    .await;
}

// Targets.

/// A target in this process. Health checks get its `status`; requests get what it plays.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

/// The status of a target that hears probes and says nothing.
pub(crate) const SILENCE: u16 = 0;

/// What a target saw, and what it says.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What probes hear.
    pub(crate) status: AtomicU16,
    /// Heads of requests and of probes.
    pub(crate) requests: Mutex<Vec<String>>,
    pub(crate) probes: Mutex<Vec<String>>,
    /// Connections that are open now and are not probes'.
    pub(crate) open: AtomicUsize,
}

impl Target {
    /// Answers every request with its name, and keeps the connection.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::playing(move |_, mut client| async move {
            client.answer(name).await;
            Some(client)
        })
        .await
    }

    /// Plays a part for each request, body unread: gives the connection back where it goes on.
    pub(crate) async fn playing<F>(part: impl Part<F>) -> Self
    where
        F: Future<Output = Option<Conversation>> + Send + 'static,
    {
        Self::serving(None, part).await
    }

    /// The same behind TLS.
    pub(crate) async fn serving<F>(tls: Option<Arc<ServerConfig>>, part: impl Part<F>) -> Self
    where
        F: Future<Output = Option<Conversation>> + Send + 'static,
    {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let seen = Arc::new(Seen {
            status: AtomicU16::new(200),
            requests: Mutex::default(),
            probes: Mutex::default(),
            open: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(socket, tls, Arc::clone(&seen), part));
        Self {
            address,
            seen,
            accepting,
        }
    }

    pub(crate) fn set_status(&self, status: u16) {
        self.seen.status.store(status, Ordering::Relaxed);
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    pub(crate) fn probes(&self) -> usize {
        self.seen.probes.lock().unwrap().len()
    }

    pub(crate) fn last_request(&self) -> String {
        self.seen.requests.lock().unwrap().last().unwrap().clone()
    }

    pub(crate) fn open(&self) -> usize {
        self.seen.open.load(Ordering::Relaxed)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What a target does with a request.
pub(crate) trait Part<F>: Fn(String, Conversation) -> F + Clone + Send + 'static {}
impl<F, P: Fn(String, Conversation) -> F + Clone + Send + 'static> Part<F> for P {}

async fn accept<F>(
    socket: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    seen: Arc<Seen>,
    part: impl Part<F>,
) where
    F: Future<Output = Option<Conversation>> + Send + 'static,
{
    loop {
        let (tcp, _) = socket.accept().await.unwrap();
        let (tls, seen, part) = (tls.clone(), Arc::clone(&seen), part.clone());
        tokio::spawn(async move {
            let client = match tls {
                None => Conversation::over(tcp),
                // A client that does not trust us leaves.
                Some(tls) => match TlsAcceptor::from(tls).accept(tcp).await {
                    Ok(tls) => Conversation::over(tls),
                    Err(_) => return,
                },
            };
            play(client, &seen, part).await;
        });
    }
}

async fn play<F>(mut client: Conversation, seen: &Seen, part: impl Part<F>)
where
    F: Future<Output = Option<Conversation>>,
{
    let mut open = None;
    while let Some(head) = client.head().await {
        if head.contains("ELB-HealthChecker") {
            let status = seen.status.load(Ordering::Relaxed);
            seen.probes.lock().unwrap().push(head);
            if status == SILENCE {
                return drop(client.end().await);
            }
            client
                .say(format!(
                    "HTTP/1.1 {status} Probed\r\nContent-Length: 0\r\n\r\n"
                ))
                .await;
            return;
        }
        open.get_or_insert_with(|| Open::count(&seen.open));
        seen.requests.lock().unwrap().push(head.clone());
        match part(head, client).await {
            Some(next) => client = next,
            None => return,
        }
    }
}

/// One in a target's count of open connections.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn count(open: &'a AtomicUsize) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// HTTP/1.1, either side.

/// Bytes in clear or under TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// HTTP/1.1 by hand: heads as text, bodies by their length.
pub(crate) struct Conversation {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

impl Conversation {
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            unread: Vec::new(),
        }
    }

    /// A client of a listener without TLS.
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// The next head, without its empty line; `None` at the end.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head[..end]).into_owned());
            }
            if self.read_more().await == 0 {
                return None;
            }
        }
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            assert_ne!(self.read_more().await, 0, "the line ended early");
        }
    }

    /// So many bytes of a body.
    pub(crate) async fn body(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert_ne!(self.read_more().await, 0, "the body ended early");
        }
        self.unread.drain(..length).collect()
    }

    /// The next bytes, whatever they are; none at the end.
    pub(crate) async fn piece(&mut self) -> Vec<u8> {
        let mut buffer = [0; 16 * 1024];
        let count = soon("more", self.stream.read(&mut buffer))
            .await
            .unwrap_or(0);
        buffer[..count].to_vec()
    }

    /// Takes what is there, 0 at the end, and forgets it.
    pub(crate) async fn skim(&mut self) -> usize {
        if self.unread.is_empty() {
            self.read_more().await;
        }
        let count = self.unread.len();
        self.unread.clear();
        count
    }

    async fn read_more(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        // A reset is an end, too.
        let count = self.stream.read(&mut buffer).await.unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..count]);
        count
    }

    /// Says it as far as the other side listens.
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.stream.write_all(bytes.as_ref()).await);
        drop(self.stream.flush().await);
    }

    /// One write of some of it.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes).await
    }

    /// A whole answer with this body.
    pub(crate) async fn answer(&mut self, body: &str) {
        let length = body.len();
        self.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Sends a request and reads its answer: head and body.
    pub(crate) async fn ask(&mut self, request: &str) -> (String, String) {
        self.say(request).await;
        let answer = async {
            let head = self.head().await.expect("an answer");
            let length =
                header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            (head, self.body(length).await)
        };
        let (head, body) = soon("an answer", answer).await;
        (head, String::from_utf8(body).unwrap())
    }

    /// The body of the answer to a plain GET.
    pub(crate) async fn get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: web.example\r\n\r\n");
        self.ask(&request).await.1
    }

    /// Waits for the other side to end, and says whether it said anything before.
    pub(crate) async fn end(&mut self) -> String {
        soon("the connection ends", async {
            while self.read_more().await > 0 {}
        })
        .await;
        String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned()
    }
}

/// A header of a head, by its name in lower case.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

// TLS.

/// An authority that signs whatever a test asks for.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub(crate) struct Certified {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for these names and addresses.
    pub(crate) fn sign(&self, names: &[&str]) -> Certified {
        self.sign_with(names, |_| {})
    }

    /// The same with something else about it.
    pub(crate) fn sign_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certified {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Certified { certificate, key }
    }

    /// The authority's own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A client that trusts this authority alone and offers these protocols.
    pub(crate) fn client(&self, alpn: &[&str]) -> ClientConfig {
        let mut config = self.client_of(rustls::DEFAULT_VERSIONS);
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// A client that speaks these versions of TLS, without ALPN.
    pub(crate) fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

impl Certified {
    /// As a configuration has it.
    pub(crate) fn model(&self) -> Certificate {
        let inline = |text: String| Pem::Inline(Secret::new(text.into_bytes()));
        Certificate {
            certificate: inline(self.certificate.pem()),
            key: inline(self.key.serialize_pem()),
        }
    }

    /// As files of this name, `.pem` and `.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.pem")), self.certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), self.key.serialize_pem()).unwrap();
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// The certificate and its key as files have them.
    pub(crate) fn pem(&self) -> (String, String) {
        (self.certificate.pem(), self.key.serialize_pem())
    }

    /// As a target shows it.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        Arc::new(
            config
                .with_single_cert(vec![self.der().clone()], key)
                .unwrap(),
        )
    }
}

/// A handshake, with the server name that makes SNI.
pub(crate) async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    server_name: &str,
) -> io::Result<client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(server_name.to_owned()).unwrap();
    let tcp = TcpStream::connect(address).await?;
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, tcp);
    soon("a handshake ends", handshake).await
}

// HTTP/2.

/// A client's connection, and how it ends.
pub(crate) struct Http2 {
    pub(crate) sender: http2::SendRequest<Content>,
    pub(crate) connection: JoinHandle<hyper::Result<()>>,
}

/// An HTTP/2 connection to a listener whose certificate `authority` signed for `web.example`.
pub(crate) async fn http2(address: SocketAddr, authority: &Authority) -> Http2 {
    let config = Arc::new(authority.client(&["h2"]));
    let tls = connect(address, &config, "web.example").await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
        .await
        .unwrap();
    Http2 {
        sender,
        connection: tokio::spawn(connection),
    }
}

impl Http2 {
    /// Sends a request to `web.example` and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        content: Content,
    ) -> hyper::Result<http::Response<hyper::body::Incoming>> {
        self.send_request(request(method, path, content)).await
    }

    pub(crate) async fn send_request(
        &self,
        request: http::Request<Content>,
    ) -> hyper::Result<http::Response<hyper::body::Incoming>> {
        let mut sender = self.sender.clone();
        soon("an answer", sender.send_request(request)).await
    }

    /// Status and body of the answer to a GET.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self.send("GET", path, Content::none()).await.unwrap();
        let status = response.status().as_u16();
        let body = read(response.into_body()).await.unwrap();
        (status, String::from_utf8(body).unwrap())
    }
}

pub(crate) fn request(method: &str, path: &str, content: Content) -> http::Request<Content> {
    http::Request::builder()
        .method(method)
        .uri(format!("https://web.example{path}"))
        .body(content)
        .unwrap()
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn piece(body: &mut hyper::body::Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// A whole body.
pub(crate) async fn read(mut body: hyper::body::Incoming) -> hyper::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = soon("the body goes on", piece(&mut body)).await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// A request body, piece by piece.
#[derive(Debug)]
pub(crate) struct Content(mpsc::Receiver<Frame<Bytes>>);

impl Content {
    pub(crate) fn none() -> Self {
        Self(mpsc::channel(1).1)
    }

    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let (pieces, content) = Self::pieces();
        pieces.try_send(Frame::data(bytes.into())).unwrap();
        content
    }

    /// What is sent is sent on as far as the connection takes it.
    pub(crate) fn pieces() -> (mpsc::Sender<Frame<Bytes>>, Self) {
        let (pieces, content) = mpsc::channel(1);
        (pieces, Self(content))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}
