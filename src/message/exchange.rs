//! What is known of one request so far: who asked, what was decided, when each step was reached. The hallway fills
//! it in, the access log reads it. Never formats, never reads a clock, and allocates nothing of its own.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use http::{Method, StatusCode, Version};

use super::headers::InvalidNames;
use super::{Client, Limit, Request};
use crate::headers::{Headers, Name, Span};
use crate::http1::desync::Verdict;
use crate::worker;

/// One request and its answer. Ends in the access log, if there is one.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) client: Rc<Client>,
    pub(crate) connection: ConnectionId,
    pub(crate) kind: Kind,
    /// When the first byte of the request was seen; every other instant is told relative to it.
    pub(crate) started: Instant,
    /// The same moment as people write it; `None` where nobody will read this record.
    pub(crate) started_at: Option<SystemTime>,
    /// `None` while the head is unread, and for ever if it could not be read.
    pub(crate) asked: Option<Asked>,
    /// The X-Amzn-Trace-Id that the target saw.
    pub(crate) trace_id: Option<Span>,
    pub(crate) rule: MatchedRule,
    pub(crate) action: Action,
    /// The ARN of the group that was to answer.
    pub(crate) target_group: Option<Span>,
    /// Where the request was sent, or was tried to be.
    pub(crate) target: Option<SocketAddr>,
    /// When the request was with the target.
    pub(crate) request_sent: Option<Instant>,
    /// When the target's answer began, or when the wait for it ended without one.
    pub(crate) response_head: Option<Instant>,
    /// When the answer to the client began.
    pub(crate) response_started: Option<Instant>,
    /// When the last byte went to the client, or the connection broke.
    pub(crate) finished: Option<Instant>,
    /// What the client was told; 460 if it left before.
    pub(crate) elb_status: Option<StatusCode>,
    pub(crate) target_status: Option<StatusCode>,
    /// Why albedo answered for itself, or has answered nobody.
    pub(crate) reason: Option<&'static str>,
    /// From the client, head included.
    pub(crate) received_bytes: u64,
    /// To the client, head included.
    pub(crate) sent_bytes: u64,
    /// The Location of a redirect.
    pub(crate) redirect_url: Option<Box<[u8]>>,
    /// One of ALB's `error_reason` words.
    pub(crate) error_reason: Option<&'static str>,
    /// ALB's classification.
    pub(crate) desync: Verdict,
    /// Which limit it has reached.
    pub(crate) limit: Option<Limit>,
    pub(crate) invalid_names: InvalidNames,
    /// What the spans above cover. There are no headers in it; it serves because a worker has its memory at hand.
    texts: Headers,
}

/// What the client asked for, as it was sent.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) authority: Span,
    pub(crate) target: Span,
    pub(crate) version: Version,
    pub(crate) user_agent: Option<Span>,
}

/// Tells client connections apart; drawn at random when one is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(pub(crate) [u8; 16]);

/// The access log's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    Https,
    H2,
    /// WebSocket or another protocol in a tunnel.
    Ws,
    /// The same from a client that came over TLS.
    Wss,
}

/// Which rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatchedRule {
    /// None was asked: the request was refused before.
    None,
    /// By its priority.
    Priority(u16),
    Default,
}

/// Which action was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    None,
    Forward,
    Redirect,
    FixedResponse,
}

/// How long each part took; `None` for a part that was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) request_processing: Option<Duration>,
    pub(crate) target_processing: Option<Duration>,
    pub(crate) response_processing: Option<Duration>,
}

impl Exchange {
    /// A request of which nothing is known but its connection and its moment, and whether it is one too many.
    pub(crate) fn begin(
        client: &Rc<Client>,
        connection: ConnectionId,
        kind: Kind,
        started: Instant,
        started_at: Option<SystemTime>,
        limit: Option<Limit>,
    ) -> Self {
        Self {
            client: Rc::clone(client),
            connection,
            kind,
            started,
            started_at,
            asked: None,
            trace_id: None,
            rule: MatchedRule::None,
            action: Action::None,
            target_group: None,
            target: None,
            request_sent: None,
            response_head: None,
            response_started: None,
            finished: None,
            elb_status: None,
            target_status: None,
            reason: None,
            received_bytes: 0,
            sent_bytes: 0,
            redirect_url: None,
            error_reason: None,
            desync: Verdict::COMPLIANT,
            limit,
            invalid_names: InvalidNames::None,
            texts: Headers::default(),
        }
    }

    /// Remembers what a readable head asked for; worth its copies only where a record is kept.
    pub(crate) fn asked(&mut self, request: &Request) {
        let user_agent = request.headers.get(Name::UserAgent);
        self.asked = Some(Asked {
            method: request.method.clone(),
            authority: self.texts.keep(request.authority()),
            target: self.texts.keep(request.target()),
            version: request.version,
            user_agent: user_agent.map(|value| self.texts.keep(value)),
        });
    }

    /// Remembers which group is to answer.
    pub(crate) fn goes_to(&mut self, group_arn: &[u8]) {
        self.target_group = Some(self.texts.keep(group_arn));
    }

    /// Remembers by which id the request is traced from here on.
    pub(crate) fn is_traced(&mut self, trace_id: Option<&[u8]>) {
        self.trace_id = trace_id.map(|value| self.texts.keep(value));
    }

    /// The host of what was asked for, as sent, and its port where the client named one.
    pub(crate) fn host_and_port(&self, asked: &Asked) -> (&[u8], Option<&[u8]>) {
        super::split_port(self.text(asked.authority))
    }

    /// What one of its spans covers.
    pub(crate) fn text(&self, span: Span) -> &[u8] {
        self.texts.text(span)
    }

    /// Notes that a tunnel follows; ALB tells those apart by whether the client came over TLS.
    pub(crate) fn tunnelled(&mut self) {
        self.kind = match self.client.tls {
            None => Kind::Ws,
            Some(_) => Kind::Wss,
        };
        // It may be kept for days, and in the memory of a large head.
        self.texts.shrink();
    }

    /// Whether anybody will read this record.
    pub(crate) fn is_kept(&self) -> bool {
        self.started_at.is_some()
    }

    /// The time of a step.
    pub(crate) fn moment(&self) -> Instant {
        self.clock()()
    }

    /// The clock of its steps: exact where a record is kept, the worker's tick where nobody will read it.
    pub(crate) fn clock(&self) -> fn() -> Instant {
        if self.is_kept() {
            worker::refresh_clock
        } else {
            worker::now
        }
    }

    /// How long each part took (ALB user guide, "Access log entries").
    pub(crate) fn times(&self) -> Times {
        let sent = self.request_sent;
        // A response that is albedo's own was not waited for between a target and a client.
        let head = self.response_head.filter(|_| self.target_status.is_some());
        Times {
            request_processing: between(Some(self.started), sent),
            target_processing: between(sent, self.response_head),
            response_processing: between(head, self.response_started),
        }
    }

    /// When the exchange began.
    pub(crate) fn began_at(&self) -> SystemTime {
        self.started_at.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// When the exchange ended, as far as it has.
    pub(crate) fn ended_at(&self) -> SystemTime {
        let ended = self.finished.or(self.response_started);
        self.began_at() + between(Some(self.started), ended).unwrap_or_default()
    }
}

impl Kind {
    /// The word in the access log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2 => "h2",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

impl Action {
    /// The word in the access log.
    pub(crate) fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Forward => Some("forward"),
            Self::Redirect => Some("redirect"),
            Self::FixedResponse => Some("fixed-response"),
        }
    }
}

fn between(from: Option<Instant>, to: Option<Instant>) -> Option<Duration> {
    Some(to?.saturating_duration_since(from?))
}

#[cfg(test)]
impl Exchange {
    /// An exchange on a made-up HTTP connection at a made-up moment, for unit tests of other rooms.
    pub(crate) fn for_test(started: Instant) -> Self {
        let client = Client {
            peer: "203.0.113.9:51514".parse().unwrap(),
            local: "192.0.2.1:80".parse().unwrap(),
            tls: None,
        };
        // 2026-01-02T03:04:05.173Z
        let started_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_173);
        let connection = ConnectionId([
            0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
            0xee, 0xff,
        ]);
        Self::begin(
            &Rc::new(client),
            connection,
            Kind::Http,
            started,
            Some(started_at),
            None,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_stays_within_nine_cache_lines() {
        let size = size_of::<Exchange>();
        assert!(size <= 9 * 64, "an Exchange has {size} bytes");
    }

    #[test]
    fn steps_of_a_record_that_is_kept_are_exact_though_no_head_was_read() {
        let exchange = Exchange::for_test(worker::refresh_clock());
        assert!(exchange.asked.is_none());
        let later = Instant::now();
        assert!(exchange.moment() >= later);
    }

    #[test]
    fn times_are_counted_from_step_to_step() {
        let started = Instant::now();
        let mut exchange = Exchange::for_test(started);
        exchange.request_sent = Some(started + Duration::from_millis(1));
        exchange.response_head = Some(started + Duration::from_millis(13));
        exchange.response_started = Some(started + Duration::from_millis(15));
        exchange.target_status = Some(StatusCode::OK);
        let times = exchange.times();
        assert_eq!(times.request_processing, Some(Duration::from_millis(1)));
        assert_eq!(times.target_processing, Some(Duration::from_millis(12)));
        assert_eq!(times.response_processing, Some(Duration::from_millis(2)));
    }

    #[test]
    fn a_target_that_hung_up_has_no_response_time() {
        let started = Instant::now();
        let mut exchange = Exchange::for_test(started);
        exchange.request_sent = Some(started);
        exchange.response_head = Some(started + Duration::from_millis(3));
        exchange.response_started = Some(started + Duration::from_millis(3));
        let times = exchange.times();
        assert_eq!(times.target_processing, Some(Duration::from_millis(3)));
        assert_eq!(times.response_processing, None);
    }

    #[test]
    fn an_exchange_ends_when_its_last_byte_is_sent() {
        let started = Instant::now();
        let mut exchange = Exchange::for_test(started);
        assert_eq!(exchange.ended_at(), exchange.began_at());
        exchange.response_started = Some(started + Duration::from_secs(1));
        exchange.finished = Some(started + Duration::from_secs(2));
        assert_eq!(
            exchange.ended_at(),
            exchange.began_at() + Duration::from_secs(2)
        );
    }
}
