//! Names of targets into addresses, and keeps them fresh as long as DNS says they are.
//! Never forgets the last good answer and never delays the start: a name that cannot be resolved is tried again.

use std::fs;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Looks names up as the system would: `/etc/hosts` first, then the name servers of `/etc/resolv.conf`. Both are read
/// again for each lookup, so that a change counts without a restart and a missing file heals by itself.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    hosts: PathBuf,
    /// `None` takes those of `/etc/resolv.conf`.
    name_servers: Option<Vec<SocketAddr>>,
}

/// What a name stands for at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// At least one, none twice, in ascending order, IPv4 before IPv6.
    pub(crate) addresses: Vec<IpAddr>,
    /// When to ask again.
    pub(crate) valid_for: Duration,
}

/// Why a name has no address now; asking again later may help.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("'{name}' is no host name")]
    Name { name: String },

    #[error("no name server can be asked ({0}); see /etc/resolv.conf")]
    System(NetError),

    #[error("'{name}' does not exist in DNS or has no address")]
    NotFound { name: String },

    #[error("no name server answered for '{name}' ({cause})")]
    Unanswered { name: String, cause: NetError },
}

/// Keeps the addresses of a name fresh until told to stop: `publish` gets every new list, never an empty one.
/// When a lookup fails the last list stays, and the next attempts follow with growing pauses.
pub(crate) async fn keep(
    resolver: &Resolver,
    name: &str,
    publish: impl Fn(Vec<IpAddr>),
    stop: CancellationToken,
) {
    let fresh = keep_fresh(name, || resolver.lookup(name), publish);
    // Cancelling loses a lookup under way, whose answer nobody would read.
    stop.run_until_cancelled(fresh).await;
}

impl Resolver {
    /// The resolver of the machine.
    pub(crate) fn system() -> Self {
        Self {
            hosts: PathBuf::from("/etc/hosts"),
            name_servers: None,
        }
    }

    /// Asks once for the IPv4 and IPv6 addresses of a name.
    pub(crate) async fn lookup(&self, name: &str) -> Result<Answer, Error> {
        // Not `from_utf8`, which refuses the underscores of container names.
        let parsed = Name::from_ascii(name).map_err(|_| Error::Name {
            name: name.to_owned(),
        })?;
        // A name in the hosts file never goes to DNS, not even for its other family: on a machine without name
        // servers that question would wait for nothing.
        if let Some(answer) = self.in_hosts(name) {
            return Ok(answer);
        }
        let found = self.dns()?.lookup_ip(parsed).await;
        let found = found.map_err(|cause| failure(name, cause))?;
        let records = found.as_lookup().answers().iter();
        let lifetime = records.map(|record| record.ttl).min().unwrap_or(0);
        answer(found.iter(), Duration::from_secs(lifetime.into())).ok_or_else(|| Error::NotFound {
            name: name.to_owned(),
        })
    }

    fn in_hosts(&self, name: &str) -> Option<Answer> {
        // A local file of a few lines: reading it blocks the control runtime for microseconds.
        let text = fs::read(&self.hosts).ok()?;
        let text = String::from_utf8_lossy(&text);
        let addresses = text.lines().filter_map(|line| address_in(line, name));
        answer(addresses, HOSTS_VALID_FOR)
    }

    fn dns(&self) -> Result<TokioResolver, Error> {
        let (config, mut options) = match &self.name_servers {
            None => read_system_conf().map_err(Error::System)?,
            Some(addresses) => (of_name_servers(addresses), ResolverOpts::default()),
        };
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        // We ask when an answer has run out, so a cache would only repeat failures.
        options.cache_size = 0;
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.build().map_err(Error::System)
    }
}

/// The address of a line of the hosts file, if the name is one of those behind it (hosts(5)).
fn address_in(line: &str, name: &str) -> Option<IpAddr> {
    let (line, _comment) = line.split_once('#').unwrap_or((line, ""));
    let mut words = line.split_whitespace();
    let address = words.next()?.parse().ok()?;
    words
        .any(|word| word.eq_ignore_ascii_case(name))
        .then_some(address)
}

async fn keep_fresh<Lookup: Future<Output = Result<Answer, Error>>>(
    name: &str,
    lookup: impl Fn() -> Lookup,
    publish: impl Fn(Vec<IpAddr>),
) {
    let mut known = Vec::new();
    let mut failures = 0;
    loop {
        let pause = match lookup().await {
            Ok(answer) => {
                report_success(name, &known, &answer, failures);
                failures = 0;
                if answer.addresses != known {
                    known.clone_from(&answer.addresses);
                    publish(answer.addresses);
                }
                answer.valid_for
            }
            Err(error) => {
                report_failure(name, &known, &error, failures);
                failures += 1;
                pause_after(failures)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// One second after the first failure, twice as long after each further one, never longer than the maximum.
fn pause_after(failures: u32) -> Duration {
    let factor = 2u32.saturating_pow(failures.saturating_sub(1));
    RETRY_MIN.saturating_mul(factor).min(RETRY_MAX)
}

fn report_success(name: &str, known: &[IpAddr], answer: &Answer, failures: u32) {
    if answer.addresses != known {
        info!(name, addresses = ?answer.addresses, "target name resolved");
    } else if failures > 0 {
        info!(name, "target name resolves again");
    }
}

fn report_failure(name: &str, known: &[IpAddr], error: &Error, failures: u32) {
    match (failures, known) {
        (0, []) => warn!(name, %error, "target name cannot be resolved, trying again"),
        (0, _) => {
            warn!(name, %error, addresses = ?known, "target name cannot be resolved, keeping its addresses")
        }
        // Said once: the state has not changed.
        _ => {}
    }
}

fn answer(found: impl Iterator<Item = IpAddr>, lifetime: Duration) -> Option<Answer> {
    // 0.0.0.0 is how filters say "blocked", and a connection to it would reach this very machine.
    let mut addresses: Vec<IpAddr> = found
        .filter(|address| !address.is_unspecified() && !address.is_multicast())
        .collect();
    // Name servers rotate their answers: only in a fixed order does the same set compare equal.
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    let valid_for = lifetime.clamp(VALID_FOR_MIN, VALID_FOR_MAX);
    (!addresses.is_empty()).then_some(Answer {
        addresses,
        valid_for,
    })
}

fn failure(name: &str, cause: NetError) -> Error {
    let name = name.to_owned();
    if cause.is_no_records_found() {
        return Error::NotFound { name };
    }
    Error::Unanswered { name, cause }
}

fn of_name_servers(addresses: &[SocketAddr]) -> ResolverConfig {
    let servers = addresses.iter().map(|address| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = address.port();
        }
        NameServerConfig::new(address.ip(), true, connections)
    });
    ResolverConfig::from_name_servers(servers.collect())
}

/// Shortest life of an answer, so that a record of 0 s does not turn into a question without end.
const VALID_FOR_MIN: Duration = Duration::from_secs(1);

/// Longest life of an answer, so that a move announced too late is noticed within the hour.
const VALID_FOR_MAX: Duration = Duration::from_secs(60 * 60);

/// How soon an edit of the hosts file counts.
const HOSTS_VALID_FOR: Duration = Duration::from_secs(10);

/// Pause after the first failure.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest pause between attempts: how long a name that came back may stay unnoticed.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Most addresses of one name: one name is one target, and a DNS answer over TCP could hold thousands.
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::{RData, Record, RecordType, rdata::CNAME};
    use tokio::net::UdpSocket;
    use tokio::time::Instant;

    use super::*;

    /// What the name server of a test says for a name: records, or a code without records.
    #[derive(Clone)]
    enum Reply {
        Records(Vec<(u32, RData)>),
        Code(ResponseCode),
    }

    /// A name server on loopback; its replies may change while it runs.
    #[derive(Clone, Default)]
    struct NameServer {
        replies: Arc<Mutex<HashMap<String, Reply>>>,
        questions: Arc<Mutex<Vec<String>>>,
    }

    impl NameServer {
        /// Starts serving; the directory holds the hosts file and must outlive the resolver.
        async fn start(&self, hosts: &str) -> (Resolver, tempfile::TempDir) {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap();
            tokio::spawn(self.clone().serve(socket));
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("hosts"), hosts).unwrap();
            let resolver = Resolver {
                hosts: directory.path().join("hosts"),
                name_servers: Some(vec![address]),
            };
            (resolver, directory)
        }

        async fn serve(self, socket: UdpSocket) {
            let mut buffer = [0; 4096];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let answer = self.answer(question).to_vec().unwrap();
                socket.send_to(&answer, peer).await.unwrap();
            }
        }

        fn answer(&self, question: Message) -> Message {
            let query = question.queries[0].clone();
            let name = query.name().to_ascii().trim_end_matches('.').to_owned();
            self.questions.lock().unwrap().push(name.clone());
            let mut response = question.into_response();
            let reply = self.replies.lock().unwrap().get(&name).cloned();
            match reply.unwrap_or(Reply::Code(ResponseCode::NXDomain)) {
                Reply::Code(code) => response.metadata.response_code = code,
                Reply::Records(records) => {
                    for (ttl, data) in records {
                        let kind = data.record_type();
                        if kind == query.query_type() || kind == RecordType::CNAME {
                            let name = query.name().clone();
                            response.add_answer(Record::from_rdata(name, ttl, data));
                        }
                    }
                }
            }
            response
        }

        fn says(&self, name: &str, reply: Reply) {
            self.replies.lock().unwrap().insert(name.to_owned(), reply);
        }

        fn asked(&self) -> usize {
            self.questions.lock().unwrap().len()
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn records(records: &[(u32, &str)]) -> Reply {
        let data = |text: &str| RData::from(address(text));
        Reply::Records(
            records
                .iter()
                .map(|(ttl, text)| (*ttl, data(text)))
                .collect(),
        )
    }

    fn found(addresses: &[&str], seconds: u64) -> Answer {
        Answer {
            addresses: addresses.iter().map(|text| address(text)).collect(),
            valid_for: Duration::from_secs(seconds),
        }
    }

    #[tokio::test]
    async fn a_name_gives_all_its_addresses_of_both_families() {
        let server = NameServer::default();
        let reply = [
            (300, "10.0.0.2"),
            (60, "10.0.0.1"),
            (90, "2001:db8::1"),
            (90, "10.0.0.2"),
        ];
        server.says("app.example", records(&reply));
        let (resolver, _hosts) = server.start("").await;
        let answer = resolver.lookup("app.example").await.unwrap();
        assert_eq!(answer, found(&["10.0.0.1", "10.0.0.2", "2001:db8::1"], 60));
    }

    #[tokio::test]
    async fn a_changed_answer_is_seen_at_once() {
        let server = NameServer::default();
        let (resolver, _hosts) = server.start("").await;
        server.says("app.example", records(&[(600, "10.0.0.1")]));
        let first = resolver.lookup("app.example").await.unwrap();
        server.says("app.example", records(&[(30, "10.0.0.2")]));
        let second = resolver.lookup("app.example").await.unwrap();
        assert_eq!(
            (first, second),
            (found(&["10.0.0.1"], 600), found(&["10.0.0.2"], 30))
        );
    }

    #[tokio::test]
    async fn lives_of_answers_have_a_floor_and_a_ceiling() {
        let server = NameServer::default();
        let (resolver, _hosts) = server.start("").await;
        for (ttl, seconds) in [(0, 1), (1, 1), (3600, 3600), (604_800, 3600)] {
            server.says("app.example", records(&[(ttl, "10.0.0.1")]));
            let answer = resolver.lookup("app.example").await.unwrap();
            assert_eq!(answer.valid_for, Duration::from_secs(seconds), "{ttl}");
        }
    }

    #[tokio::test]
    async fn a_name_that_vanished_is_found_when_it_is_back() {
        let server = NameServer::default();
        let (resolver, _hosts) = server.start("").await;
        let gone = resolver.lookup("app.example").await.unwrap_err();
        assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
        server.says("app.example", records(&[(60, "10.0.0.1")]));
        let back = resolver.lookup("app.example").await.unwrap();
        assert_eq!(back, found(&["10.0.0.1"], 60));
    }

    #[tokio::test]
    async fn a_name_server_that_fails_is_no_proof_that_a_name_is_gone() {
        let server = NameServer::default();
        server.says("app.example", Reply::Code(ResponseCode::ServFail));
        let (resolver, _hosts) = server.start("").await;
        let error = resolver.lookup("app.example").await.unwrap_err();
        assert!(matches!(error, Error::Unanswered { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_alias_is_followed_and_the_shortest_life_on_the_way_counts() {
        let server = NameServer::default();
        let alias = RData::CNAME(CNAME("real.example.".parse().unwrap()));
        server.says("app.example", Reply::Records(vec![(20, alias)]));
        server.says("real.example", records(&[(60, "10.0.0.1")]));
        let (resolver, _hosts) = server.start("").await;
        let answer = resolver.lookup("app.example").await.unwrap();
        assert_eq!(answer, found(&["10.0.0.1"], 20));
    }

    #[tokio::test]
    async fn addresses_that_reach_nobody_or_this_machine_do_not_count() {
        let server = NameServer::default();
        let (resolver, _hosts) = server.start("").await;
        server.says(
            "app.example",
            records(&[(60, "0.0.0.0"), (60, "::"), (60, "224.0.0.1")]),
        );
        let error = resolver.lookup("app.example").await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        server.says("app.example", records(&[(60, "0.0.0.0"), (60, "10.0.0.1")]));
        let answer = resolver.lookup("app.example").await.unwrap();
        assert_eq!(answer, found(&["10.0.0.1"], 60));
    }

    #[tokio::test]
    async fn names_with_underscores_and_single_labels_are_names() {
        let server = NameServer::default();
        server.says("my_app", records(&[(60, "10.0.0.1")]));
        let (resolver, _hosts) = server.start("").await;
        assert_eq!(
            resolver.lookup("my_app").await.unwrap(),
            found(&["10.0.0.1"], 60)
        );
        let error = resolver.lookup("a..b").await.unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{error}");
    }

    #[tokio::test]
    async fn the_hosts_file_comes_first_and_its_names_never_reach_dns() {
        let server = NameServer::default();
        server.says("app.example", records(&[(60, "10.9.9.9")]));
        let hosts =
            "10.0.0.2 app.example App2\n10.0.0.1 app.example # second\n::1 six_6\nbad six_6\n";
        let (resolver, directory) = server.start(hosts).await;
        let answer = resolver.lookup("app.example").await.unwrap();
        assert_eq!(answer, found(&["10.0.0.1", "10.0.0.2"], 10));
        assert_eq!(
            resolver.lookup("app2").await.unwrap(),
            found(&["10.0.0.2"], 10)
        );
        assert_eq!(resolver.lookup("six_6").await.unwrap(), found(&["::1"], 10));
        assert_eq!(server.asked(), 0);

        std::fs::write(directory.path().join("hosts"), "10.0.0.3 app.example\n").unwrap();
        let edited = resolver.lookup("app.example").await.unwrap();
        assert_eq!(edited, found(&["10.0.0.3"], 10));
    }

    #[tokio::test]
    async fn localhost_is_this_machine_with_and_without_a_hosts_file() {
        let answer = Resolver::system().lookup("localhost").await.unwrap();
        assert!(
            answer.addresses.iter().all(IpAddr::is_loopback),
            "{answer:?}"
        );
        let (resolver, directory) = NameServer::default().start("").await;
        drop(directory);
        let answer = resolver.lookup("localhost").await.unwrap();
        assert!(
            answer.addresses.contains(&address("127.0.0.1")),
            "{answer:?}"
        );
    }

    #[test]
    fn a_crowd_of_addresses_is_cut() {
        let crowd = (0..1000u32).map(|number| IpAddr::from((0x0a00_0000 + number).to_be_bytes()));
        let answer = answer(crowd, Duration::ZERO).unwrap();
        assert_eq!(answer.addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn pauses_double_from_one_second_to_thirty() {
        let pauses =
            [1, 2, 3, 4, 5, 6, 7, 100, u32::MAX].map(|failures| pause_after(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30, 30]);
    }

    /// Runs `keep_fresh` for this long over these outcomes, the last of which stays; tells when it asked, in seconds,
    /// and what it published.
    async fn played(
        outcomes: Vec<Result<Answer, Error>>,
        seconds: u64,
    ) -> (Vec<u64>, Vec<Vec<IpAddr>>) {
        let begin = Instant::now();
        let asked = RefCell::new(Vec::new());
        let published = RefCell::new(Vec::new());
        let lookup = || {
            let mut asked = asked.borrow_mut();
            let outcome = outcomes[asked.len().min(outcomes.len() - 1)].clone();
            asked.push(begin.elapsed().as_secs());
            std::future::ready(outcome)
        };
        let fresh = keep_fresh("app", lookup, |addresses| {
            published.borrow_mut().push(addresses)
        });
        let ended = tokio::time::timeout(Duration::from_millis(seconds * 1000 + 500), fresh).await;
        assert!(ended.is_err(), "it goes on until it is stopped");
        (asked.take(), published.take())
    }

    fn gone() -> Result<Answer, Error> {
        Err(Error::NotFound {
            name: "app".to_owned(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_again_when_its_answer_has_run_out() {
        let outcomes = vec![Ok(found(&["10.0.0.1"], 30)), Ok(found(&["10.0.0.2"], 60))];
        let (asked, published) = played(outcomes, 100).await;
        assert_eq!(asked, [0, 30, 90]);
        assert_eq!(published, [[address("10.0.0.1")], [address("10.0.0.2")]]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_answer_stays_while_a_name_is_gone() {
        let good = found(&["10.0.0.1"], 60);
        let outcomes = vec![Ok(good.clone()), gone(), gone(), gone(), Ok(good)];
        let (asked, published) = played(outcomes, 127).await;
        assert_eq!(asked, [0, 60, 61, 63, 67, 127]);
        assert_eq!(published, [[address("10.0.0.1")]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_unknown_at_the_start_is_published_when_it_appears() {
        let mut outcomes = vec![gone(); 7];
        outcomes.push(Ok(found(&["10.0.0.1"], 60)));
        let (asked, published) = played(outcomes, 100).await;
        assert_eq!(asked, [0, 1, 3, 7, 15, 31, 61, 91]);
        assert_eq!(published, [[address("10.0.0.1")]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_makes_the_next_failure_the_first_again() {
        let good = Ok(found(&["10.0.0.1"], 10));
        let outcomes = vec![gone(), gone(), good.clone(), gone(), good];
        let (asked, _) = played(outcomes, 20).await;
        assert_eq!(asked, [0, 1, 3, 13, 14]);
    }

    #[tokio::test]
    async fn keeping_publishes_and_ends_when_told() {
        let server = NameServer::default();
        server.says("app.example", records(&[(60, "10.0.0.1")]));
        let (resolver, _hosts) = server.start("").await;
        let stop = CancellationToken::new();
        let published = RefCell::new(Vec::new());
        let publish = |addresses| {
            published.borrow_mut().push(addresses);
            stop.cancel();
        };
        keep(&resolver, "app.example", publish, stop.clone()).await;
        assert_eq!(published.take(), [[address("10.0.0.1")]]);
    }

    #[tokio::test]
    async fn keeping_may_run_as_a_task_of_its_own() {
        let stop = CancellationToken::new();
        stop.cancel();
        let resolver = Resolver::system();
        let task = tokio::spawn(async move { keep(&resolver, "app.example", drop, stop).await });
        task.await.unwrap();
    }
}
