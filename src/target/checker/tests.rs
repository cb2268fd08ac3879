use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

use super::*;
use crate::model::{self, HealthCheckPort, Pem, Protocol, Secret, SslPolicy, UpstreamTls};
use crate::target::TargetKey;
use crate::target::group::tests::metrics;
use crate::target::health::{Health, State, Usage};
use crate::tls::{self, server::Http2Offer};
use crate::upstream::{PoolId, Upstream};

/// Long enough for any machine; nothing waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What the service behind a probe does with a connection.
#[derive(Clone, Debug)]
enum Service {
    Answers(String),
    /// Reads and never answers.
    Silent,
    /// Closes before it answers.
    Closes,
}

/// A target on loopback whose behaviour can change, and the requests that it saw.
struct Server {
    address: SocketAddr,
    service: Arc<Mutex<Service>>,
    seen: mpsc::UnboundedReceiver<String>,
    _stop: DropGuard,
}

async fn server(service: Service, tls: Option<TlsAcceptor>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Arc::new(Mutex::new(service));
    let (sender, seen) = mpsc::unbounded_channel();
    let (stop, shared) = (CancellationToken::new(), Arc::clone(&service));
    let tasks = TaskTracker::new();
    let accept = stop.clone().run_until_cancelled_owned(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (service, sender, tls) = (Arc::clone(&shared), sender.clone(), tls.clone());
            tasks.spawn(async move {
                match tls {
                    None => serve(tcp, &service, &sender).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(tcp).await {
                            serve(stream, &service, &sender).await;
                        }
                    }
                }
            });
        }
    });
    tokio::spawn(accept);
    Server {
        address,
        service,
        seen,
        _stop: stop.drop_guard(),
    }
}

async fn serve(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    service: &Mutex<Service>,
    seen: &mpsc::UnboundedSender<String>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let _ = seen.send(String::from_utf8(head).unwrap());
    let service = service.lock().unwrap().clone();
    match service {
        Service::Answers(answer) => {
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Service::Silent => drop(stream.read_u8().await),
        Service::Closes => {}
    }
}

impl Server {
    fn now(&self, service: Service) {
        *self.service.lock().unwrap() = service;
    }

    async fn request(&mut self) -> String {
        let request = tokio::time::timeout(PATIENCE, self.seen.recv()).await;
        request.expect("a probe comes").unwrap()
    }
}

/// A group with one target that is being checked.
struct Checked {
    group: Arc<Group>,
    target: Arc<Target>,
    _stop: DropGuard,
}

fn settings() -> model::TargetGroup {
    let mut settings = model::TargetGroup::new("app".parse().unwrap(), Protocol::Http, 80);
    settings.health_check.interval = Duration::from_millis(20);
    settings.health_check.timeout = Duration::from_secs(5);
    settings.health_check.healthy_threshold = 2;
    settings.health_check.unhealthy_threshold = 2;
    settings
}

fn check_of(
    settings: &model::TargetGroup,
    addresses: Vec<SocketAddr>,
    tls: Option<Tls>,
) -> Checked {
    let mut chance = fastrand::Rng::with_seed(7);
    let group = Arc::new(Group::new(
        settings,
        Usage::InUse,
        1,
        metrics(),
        &mut chance,
    ));
    let first = addresses.first().copied();
    let written: model::Target = match first {
        Some(address) => address.into(),
        None => "a.example".parse().unwrap(),
    };
    let key = TargetKey::of(&written, settings.port);
    let port = settings.health_check.port.resolve(key.port);
    let upstream = Upstream::new(PoolId(0), addresses, None, None);
    let health = Health::registered(std::time::Instant::now());
    let target = Arc::new(Target::new(group.name(), key, upstream, health));
    group.adopt(vec![Arc::clone(&target)], Vec::new());
    let probe = Probe::new(path(&settings.health_check.path).unwrap(), port, None, tls);
    let schedule = Schedule::draw(settings.health_check.interval, &mut chance);
    let stop = CancellationToken::new();
    let (shared, checked) = (Arc::clone(&group), Arc::clone(&target));
    tokio::spawn(run(shared, checked, probe, schedule, stop.clone()));
    Checked {
        group,
        target,
        _stop: stop.drop_guard(),
    }
}

fn check(settings: &model::TargetGroup, server: &Server) -> Checked {
    check_of(settings, vec![server.address], None)
}

impl Checked {
    async fn becomes(&self, state: State) {
        let reached = async {
            while self.target.health().current() != state {
                tokio::task::yield_now().await;
            }
        };
        let health = || self.target.health();
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("expected {state:?}, is {:?}", health());
        }
    }
}

fn answer(status: &str) -> Service {
    Service::Answers(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
}

const MISMATCH: State = State::Unhealthy(Failure::ResponseCodeMismatch(503));
const TIMEOUT: State = State::Unhealthy(Failure::Timeout);
const FAILED: State = State::Unhealthy(Failure::FailedHealthChecks);

#[tokio::test]
async fn a_probe_reads_as_albs() {
    let mut server = server(Service::Answers(OK.into()), None).await;
    let mut settings = settings();
    settings.health_check.path = "/ping?deep=1".into();
    let _checked = check(&settings, &server);
    let expected = format!(
        "GET /ping?deep=1 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         User-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed\r\n\r\n",
        server.address
    );
    assert_eq!(server.request().await, expected);
    assert_eq!(server.request().await, expected);
}

#[test]
fn an_ipv6_host_stands_in_brackets() {
    let probe = Probe::new(path("/").unwrap(), 8011, None, None);
    let request = request(&probe, "[2001:db8::1]:8011".parse().unwrap());
    assert_eq!(request.headers()[HOST], "[2001:db8::1]:8011");
}

#[test]
fn a_path_that_no_request_can_carry_is_refused() {
    for bad in ["", "ping", "/a b", "/\u{7f}", "http://a/", "*"] {
        assert!(path(bad).is_none(), "{bad:?}");
    }
    for good in ["/", "/ping?a=b&c=d", "//a", "/%20"] {
        assert_eq!(path(good).unwrap().to_string(), good);
    }
}

#[tokio::test]
async fn a_target_is_healthy_after_its_first_good_answer_and_follows_what_it_answers() {
    let server = server(Service::Answers(OK.into()), None).await;
    let checked = check(&settings(), &server);
    checked.becomes(State::Healthy).await;
    server.now(answer("503 Service Unavailable"));
    checked.becomes(MISMATCH).await;
    server.now(Service::Closes);
    checked.becomes(FAILED).await;
    server.now(answer("200 OK"));
    checked.becomes(State::Healthy).await;
    assert!(checked.group.pick(0, &[]).is_some());
}

#[tokio::test]
async fn a_silent_target_times_out() {
    let server = server(Service::Silent, None).await;
    let mut settings = settings();
    settings.health_check.timeout = Duration::from_millis(15);
    check(&settings, &server).becomes(TIMEOUT).await;
}

#[tokio::test]
async fn a_target_that_takes_no_connection_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    check_of(&settings(), vec![address], None)
        .becomes(FAILED)
        .await;
}

#[tokio::test]
async fn an_answer_that_is_not_http_fails() {
    let server = server(Service::Answers("220 smtp ready\r\n".into()), None).await;
    check(&settings(), &server).becomes(FAILED).await;
}

#[tokio::test]
async fn an_endless_head_fails_and_does_not_wait_for_its_end() {
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(2 * HEAD_MAX));
    let server = server(Service::Answers(head), None).await;
    check(&settings(), &server).becomes(FAILED).await;
}

#[tokio::test]
async fn the_verdict_does_not_wait_for_the_body() {
    let unfinished = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok".to_owned();
    let large = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(4 * BODY_MAX));
    for answer in [unfinished, large] {
        let mut server = server(Service::Answers(answer), None).await;
        let checked = check(&settings(), &server);
        checked.becomes(State::Healthy).await;
        for _ in 0..3 {
            server.request().await;
        }
        assert!(checked.target.health().is_healthy());
    }
}

#[tokio::test]
async fn a_redirect_is_judged_by_its_code_and_not_followed() {
    let mut elsewhere = server(Service::Answers(OK.into()), None).await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
        elsewhere.address
    );
    let server = server(Service::Answers(redirect), None).await;
    let state = State::Unhealthy(Failure::ResponseCodeMismatch(302));
    check(&settings(), &server).becomes(state).await;
    let mut lenient = settings();
    lenient.health_check.matcher = "200-399".parse().unwrap();
    check(&lenient, &server).becomes(State::Healthy).await;
    assert!(elsewhere.seen.try_recv().is_err());
}

#[tokio::test]
async fn checks_go_to_their_own_port() {
    let traffic = server(Service::Closes, None).await;
    let mut service = server(Service::Answers(OK.into()), None).await;
    let mut settings = settings();
    settings.health_check.port = HealthCheckPort::Port(service.address.port());
    let checked = check(&settings, &traffic);
    checked.becomes(State::Healthy).await;
    let request = service.request().await;
    assert!(request.contains(&format!("Host: {}\r\n", service.address)));
}

#[tokio::test]
async fn addresses_are_tried_in_order() {
    let server = server(Service::Answers(OK.into()), None).await;
    let port = server.address.port();
    // Nobody listens on the first.
    let addresses = vec![([127, 0, 0, 9], port).into(), server.address];
    check_of(&settings(), addresses, None)
        .becomes(State::Healthy)
        .await;
}

#[tokio::test]
async fn a_first_probe_waits_for_the_name_to_be_found() {
    let server = server(Service::Answers(OK.into()), None).await;
    let mut settings = settings();
    settings.port = server.address.port();
    settings.health_check.timeout = PATIENCE;
    let checked = check_of(&settings, Vec::new(), None);
    checked.target.set_addresses(&[server.address.ip()]);
    checked.becomes(State::Healthy).await;
    assert_eq!(checked.target.health().failures(), 0);
}

#[tokio::test]
async fn a_name_that_leads_nowhere_fails() {
    let mut settings = settings();
    settings.health_check.timeout = Duration::from_millis(10);
    check_of(&settings, Vec::new(), None).becomes(FAILED).await;
}

#[tokio::test]
async fn https_probes_take_any_certificate() {
    let (certificate, key) = tls::certificate::self_signed(&["other.example"]).unwrap();
    let inline = |pem: String| Pem::Inline(Secret::new(pem.into_bytes()));
    let certificate = model::Certificate {
        certificate: inline(certificate),
        key: inline(key),
    };
    let config = tls::server::config(&[certificate], SslPolicy::default(), Http2Offer::No).unwrap();
    let server = server(Service::Answers(OK.into()), Some(config.into())).await;
    let tls = Tls {
        config: tls::client::config(&UpstreamTls::Unverified).unwrap(),
        name: server.address.ip().into(),
    };
    let checked = check_of(&settings(), vec![server.address], Some(tls));
    checked.becomes(State::Healthy).await;
    server.now(answer("503 Service Unavailable"));
    checked.becomes(MISMATCH).await;
}

#[tokio::test]
async fn a_target_without_tls_fails_an_https_probe() {
    let server = server(Service::Answers(OK.into()), None).await;
    server.now(Service::Closes);
    let tls = Tls {
        config: tls::client::config(&UpstreamTls::Unverified).unwrap(),
        name: server.address.ip().into(),
    };
    let mut settings = settings();
    settings.health_check.timeout = Duration::from_millis(200);
    let checked = check_of(&settings, vec![server.address], Some(tls));
    checked.becomes(TIMEOUT).await;
}

#[tokio::test]
async fn nothing_is_probed_once_a_check_is_stopped() {
    let mut server = server(Service::Answers(OK.into()), None).await;
    let checked = check(&settings(), &server);
    checked.becomes(State::Healthy).await;
    let group = Arc::downgrade(&checked.group);
    drop(checked);
    let ended = async {
        while group.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("the task ends");
    while server.seen.try_recv().is_ok() {}
}

#[test]
fn first_probes_come_soon_and_second_ones_within_the_interval() {
    let mut chance = fastrand::Rng::with_seed(1);
    for interval in [
        Duration::from_millis(100),
        Duration::from_secs(5),
        Duration::from_secs(300),
    ] {
        let drawn: Vec<_> = (0..2000)
            .map(|_| Schedule::draw(interval, &mut chance))
            .collect();
        let within = interval.min(FIRST_PROBE_WITHIN);
        assert!(drawn.iter().all(|drawn| drawn.first < within));
        assert!(
            drawn
                .iter()
                .all(|drawn| drawn.second > interval / 2 && drawn.second <= interval)
        );
        let early = drawn
            .iter()
            .filter(|drawn| drawn.first < within / 10)
            .count();
        assert!(
            (100..300).contains(&early),
            "{early} of 2000 in the first tenth"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_does_not_shift_the_schedule() {
    // On paused time a probe to nowhere takes exactly its timeout.
    let mut settings = settings();
    settings.health_check.interval = Duration::from_secs(5);
    settings.health_check.timeout = Duration::from_secs(3);
    let checked = check_of(&settings, Vec::new(), None);
    let mut times = Vec::new();
    let mut last = None;
    while times.len() < 5 {
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_millis(1)).await;
        let seen = checked.target.health().last();
        if seen != last {
            last = seen;
            times.push(Instant::now());
        }
    }
    for pair in times[1..].windows(2) {
        let distance = pair[1] - pair[0];
        let away = distance.abs_diff(settings.health_check.interval);
        assert!(away <= Duration::from_millis(5), "{distance:?}");
    }
}
