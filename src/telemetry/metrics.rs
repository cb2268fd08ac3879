//! Every metric, its name once. Handles are bound when a load balancer is built; on the way of a request they are only
//! counted up. Never installs anything for the whole process: each load balancer has its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::StatusCode;
use jiff::Timestamp;
use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::tally::{Tallies, Tally};
use crate::http1::desync::Class;
use crate::message::Limit;
use crate::message::headers::InvalidNames;
use crate::model::{LoadBalancerName, Protocol, TargetGroupName};

/// The metrics of one load balancer. Series of a listener stay to the end, since ports are few. Those of a group are told
/// while it is there; when it comes back they go on from where they were: a counter that came back at zero would mislead
/// whoever sums it up. So some memory stays for each name that operators ever wrote.
#[derive(Debug)]
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    counted: Mutex<Counted>,
}

/// What workers count, until it is told.
#[derive(Debug)]
struct Counted {
    tallies: Tallies,
    told: HashMap<(&'static str, Vec<Label>), (Tally, Counter)>,
    /// Every group that there ever was, by its name.
    groups: HashMap<String, Weak<()>>,
}

/// What one listener counts, by its port, and what all of them count together. Ports and protocols come from the configuration, so the labels are bounded.
#[derive(Clone, Debug)]
pub(crate) struct ListenerMetrics {
    pub(crate) connections_total: Tally,
    pub(crate) connections: Gauge,
    pub(crate) tls_errors: Tally,
    pub(crate) proxy_protocol_errors: Tally,
    pub(crate) requests: Tally,
    pub(crate) received_bytes: Tally,
    pub(crate) sent_bytes: Tally,
    pub(crate) fixed_responses: Tally,
    pub(crate) redirects: Tally,
    limits: [Tally; Limit::ALL.len()],
    acceptable: Tally,
    ambiguous: Tally,
    severe: Tally,
    dropped_invalid_header: Tally,
    forwarded_invalid_header: Tally,
    elb_3xx: Tally,
    elb_4xx: Tally,
    elb_5xx: Tally,
    elb_500: Tally,
    elb_502: Tally,
    elb_503: Tally,
    elb_504: Tally,
}

/// What one target group counts, by its name.
#[derive(Clone, Debug)]
pub(crate) struct GroupMetrics {
    pub(crate) requests: Tally,
    pub(crate) connection_errors: Tally,
    pub(crate) tls_errors: Tally,
    pub(crate) healthy: Gauge,
    pub(crate) unhealthy: Gauge,
    target_2xx: Tally,
    target_3xx: Tally,
    target_4xx: Tally,
    target_5xx: Tally,
    /// While any of these is held, the group's series are told.
    _told: Arc<()>,
}

/// What there is one of.
#[derive(Clone, Debug)]
pub(crate) struct ProcessMetrics {
    pub(crate) generation: Gauge,
    pub(crate) workers: Gauge,
    pub(crate) access_log_dropped: Counter,
}

/// What becomes of changes of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct ReloadMetrics {
    applied: Counter,
    refused: Counter,
    successful: Gauge,
    success_time: Gauge,
}

/// What became of a change of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Applied,
    Refused,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
        }
    }
}

impl Metrics {
    /// The metrics of this load balancer; all its series carry its name. So many workers count.
    pub(crate) fn new(load_balancer: &LoadBalancerName, workers: usize) -> Self {
        let recorder = PrometheusBuilder::new()
            .add_global_label("load_balancer", load_balancer.as_str())
            .build_recorder();
        describe(&recorder);
        let handle = recorder.handle();
        let counted = Mutex::new(Counted {
            tallies: Tallies::new(workers),
            told: HashMap::new(),
            groups: HashMap::new(),
        });
        Self {
            recorder,
            handle,
            counted,
        }
    }

    /// The handles of the listener on this port. Asking again gives the same counters.
    pub(crate) fn listener(&self, port: u16, protocol: Protocol) -> ListenerMetrics {
        let labels = || {
            vec![
                Label::new("listener", port.to_string()),
                Label::new("protocol", protocol.as_str()),
            ]
        };
        let counter = |name| self.tally(name, labels());
        let elb = |class| self.tally(ELB_RESPONSES, with(labels(), "class", class));
        let elb_error = |code| self.tally(ELB_ERRORS, with(labels(), "code", code));
        // Of the load balancer as a whole.
        let of_all = |metric, label, value| self.tally(metric, with(Vec::new(), label, value));
        let noncompliant = |class: Class| of_all(NONCOMPLIANT, "class", class.as_str());
        let bytes = |direction| self.tally(PROCESSED_BYTES, with(labels(), "direction", direction));
        ListenerMetrics {
            connections_total: counter(CONNECTIONS_TOTAL),
            connections: self.gauge(CONNECTIONS, labels()),
            tls_errors: counter(CLIENT_TLS_ERRORS),
            proxy_protocol_errors: counter(CLIENT_PROXY_PROTOCOL_ERRORS),
            requests: counter(REQUESTS),
            received_bytes: bytes("received"),
            sent_bytes: bytes("sent"),
            fixed_responses: counter(FIXED_RESPONSES),
            redirects: counter(REDIRECTS),
            limits: Limit::ALL.map(|limit| of_all(LIMITED, "limit", limit.as_str())),
            acceptable: noncompliant(Class::Acceptable),
            ambiguous: noncompliant(Class::Ambiguous),
            severe: noncompliant(Class::Severe),
            dropped_invalid_header: self.tally(DROPPED_INVALID_HEADER, Vec::new()),
            forwarded_invalid_header: self.tally(FORWARDED_INVALID_HEADER, Vec::new()),
            elb_3xx: elb("3xx"),
            elb_4xx: elb("4xx"),
            elb_5xx: elb("5xx"),
            elb_500: elb_error("500"),
            elb_502: elb_error("502"),
            elb_503: elb_error("503"),
            elb_504: elb_error("504"),
        }
    }

    /// The handles of the target group of this name. Asking again gives the same counters.
    pub(crate) fn group(&self, name: &TargetGroupName) -> GroupMetrics {
        let labels = || vec![Label::new("target_group", name.as_str().to_owned())];
        let counter = |name| self.tally(name, labels());
        let responses = |class| self.tally(TARGET_RESPONSES, with(labels(), "class", class));
        GroupMetrics {
            requests: counter(TARGET_REQUESTS),
            connection_errors: counter(TARGET_CONNECTION_ERRORS),
            tls_errors: counter(TARGET_TLS_ERRORS),
            healthy: self.gauge(HEALTHY_TARGETS, labels()),
            unhealthy: self.gauge(UNHEALTHY_TARGETS, labels()),
            target_2xx: responses("2xx"),
            target_3xx: responses("3xx"),
            target_4xx: responses("4xx"),
            target_5xx: responses("5xx"),
            _told: self.hold_group(name),
        }
    }

    fn hold_group(&self, name: &TargetGroupName) -> Arc<()> {
        let groups = &mut self.lock().groups;
        let held = groups.entry(name.as_str().to_owned()).or_default();
        held.upgrade().unwrap_or_else(|| {
            let first = Arc::new(());
            *held = Arc::downgrade(&first);
            first
        })
    }

    /// The handles of the process.
    pub(crate) fn process(&self) -> ProcessMetrics {
        let version = vec![Label::new("version", env!("CARGO_PKG_VERSION"))];
        self.gauge(BUILD_INFO, version).set(1);
        ProcessMetrics {
            generation: self.gauge(GENERATION, Vec::new()),
            workers: self.gauge(WORKERS, Vec::new()),
            access_log_dropped: self.counter(ACCESS_LOG_DROPPED, Vec::new()),
        }
    }

    /// The handles of changes of the configuration.
    pub(crate) fn reloads(&self) -> ReloadMetrics {
        let counted =
            |outcome: Outcome| self.counter(RELOADS, with(Vec::new(), "outcome", outcome.as_str()));
        ReloadMetrics {
            applied: counted(Outcome::Applied),
            refused: counted(Outcome::Refused),
            successful: self.gauge(LAST_RELOAD_SUCCESSFUL, Vec::new()),
            success_time: self.gauge(LAST_RELOAD_SUCCESS_TIME, Vec::new()),
        }
    }

    /// Prometheus text.
    pub(crate) fn render(&self) -> String {
        let Counted { told, groups, .. } = &*self.lock();
        for (tally, counter) in told.values() {
            counter.absolute(tally.sum());
        }
        let text = self.handle.render();
        let is_gone = |name: &str| {
            groups
                .get(name)
                .is_some_and(|held| held.strong_count() == 0)
        };
        // The recorder forgets nothing.
        let lines = text.split_inclusive('\n');
        let told = lines.filter(|line| !group_of(line).is_some_and(is_gone));
        told.collect()
    }

    /// A counter for workers. Asking again gives the same one.
    fn tally(&self, metric: Metric, labels: Vec<Label>) -> Tally {
        let Counted { tallies, told, .. } = &mut *self.lock();
        let (tally, _) = told.entry((metric.name, labels)).or_insert_with_key(|key| {
            let counter = self.counter(metric, key.1.clone());
            (tallies.next(), counter)
        });
        tally.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        // Both parts are sound after every step, even if a thread died between two.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counter(&self, metric: Metric, labels: Vec<Label>) -> Counter {
        self.recorder
            .register_counter(&Key::from_parts(metric.name, labels), &METADATA)
    }

    fn gauge(&self, metric: Metric, labels: Vec<Label>) -> Gauge {
        self.recorder
            .register_gauge(&Key::from_parts(metric.name, labels), &METADATA)
    }
}

impl ReloadMetrics {
    /// The first configuration runs: what was applied last is good.
    pub(crate) fn started(&self, now: Timestamp) {
        self.successful.set(1);
        self.success_time.set(now.as_second() as f64);
    }

    /// Counts a change and what became of it.
    pub(crate) fn count(&self, outcome: Outcome, now: Timestamp) {
        match outcome {
            Outcome::Applied => {
                self.applied.increment(1);
                self.started(now);
            }
            Outcome::Refused => {
                self.refused.increment(1);
                self.successful.set(0);
            }
        }
    }
}

impl ListenerMetrics {
    /// Counts a connection or a request that has reached a limit.
    pub(crate) fn count_limit(&self, limit: Limit) {
        self.limits[limit as usize].increment(1);
    }

    /// Counts a request that is not compliant.
    pub(crate) fn count_class(&self, class: Class) {
        match class {
            Class::Compliant => {}
            Class::Acceptable => self.acceptable.increment(1),
            Class::Ambiguous => self.ambiguous.increment(1),
            Class::Severe => self.severe.increment(1),
        }
    }

    /// Counts a request that had names which ALB calls invalid.
    pub(crate) fn count_invalid_names(&self, names: InvalidNames) {
        match names {
            InvalidNames::None => {}
            InvalidNames::Dropped => self.dropped_invalid_header.increment(1),
            InvalidNames::Forwarded => self.forwarded_invalid_header.increment(1),
        }
    }

    /// Counts an answer that albedo made itself.
    pub(crate) fn count_elb_response(&self, status: StatusCode) {
        match status.as_u16() {
            300..400 => self.elb_3xx.increment(1),
            400..500 => self.elb_4xx.increment(1),
            500..600 => self.elb_5xx.increment(1),
            _ => {}
        }
        match status.as_u16() {
            500 => self.elb_500.increment(1),
            502 => self.elb_502.increment(1),
            503 => self.elb_503.increment(1),
            504 => self.elb_504.increment(1),
            _ => {}
        }
    }
}

impl GroupMetrics {
    /// Counts an answer that a target made.
    pub(crate) fn count_response(&self, status: StatusCode) {
        match status.as_u16() {
            200..300 => self.target_2xx.increment(1),
            300..400 => self.target_3xx.increment(1),
            400..500 => self.target_4xx.increment(1),
            500..600 => self.target_5xx.increment(1),
            _ => {}
        }
    }
}

/// A metric's name and what it means; the help text names the CloudWatch metric that it stands for.
#[derive(Clone, Copy)]
struct Metric {
    name: &'static str,
    help: &'static str,
}

const CONNECTIONS_TOTAL: Metric = Metric {
    name: "albedo_connections_total",
    help: "Connections accepted from clients (CloudWatch: NewConnectionCount, the client side of it)",
};
const CONNECTIONS: Metric = Metric {
    name: "albedo_connections",
    help: "Client connections that are open (CloudWatch: ActiveConnectionCount, the client side of it)",
};
const CLIENT_TLS_ERRORS: Metric = Metric {
    name: "albedo_client_tls_errors_total",
    help: "Handshakes with clients that failed (CloudWatch: ClientTLSNegotiationErrorCount)",
};
const CLIENT_PROXY_PROTOCOL_ERRORS: Metric = Metric {
    name: "albedo_client_proxy_protocol_errors_total",
    help: "Connections closed because they came from an address that is not trusted to send PROXY headers, or without a sound one (CloudWatch: none)",
};
const REQUESTS: Metric = Metric {
    name: "albedo_requests_total",
    help: "Requests read from clients, those included that no target saw (CloudWatch: RequestCount counts the others alone)",
};
const PROCESSED_BYTES: Metric = Metric {
    name: "albedo_processed_bytes_total",
    help: "Bytes from and to clients, heads included (CloudWatch: ProcessedBytes)",
};
const LIMITED: Metric = Metric {
    name: "albedo_limited_total",
    help: "Connections and requests that have reached a limit of clients, by its name (CloudWatch: RejectedConnectionCount for `connections`)",
};
const NONCOMPLIANT: Metric = Metric {
    name: "albedo_noncompliant_requests_total",
    help: "Requests that are not RFC-compliant, by class, whatever became of them (CloudWatch: DesyncMitigationMode_NonCompliant_Request_Count)",
};
const DROPPED_INVALID_HEADER: Metric = Metric {
    name: "albedo_dropped_invalid_header_requests_total",
    help: "Requests forwarded without headers whose names are not [-A-Za-z0-9]+ (CloudWatch: DroppedInvalidHeaderRequestCount)",
};
const FORWARDED_INVALID_HEADER: Metric = Metric {
    name: "albedo_forwarded_invalid_header_requests_total",
    help: "Requests forwarded with headers whose names are not [-A-Za-z0-9]+ (CloudWatch: ForwardedInvalidHeaderRequestCount)",
};
const ELB_RESPONSES: Metric = Metric {
    name: "albedo_elb_responses_total",
    help: "Answers made by albedo itself (CloudWatch: HTTPCode_ELB_3XX_Count, HTTPCode_ELB_4XX_Count, HTTPCode_ELB_5XX_Count)",
};
const ELB_ERRORS: Metric = Metric {
    name: "albedo_elb_errors_total",
    help: "Errors told by albedo itself (CloudWatch: HTTPCode_ELB_500_Count, HTTPCode_ELB_502_Count, HTTPCode_ELB_503_Count, HTTPCode_ELB_504_Count)",
};
const FIXED_RESPONSES: Metric = Metric {
    name: "albedo_fixed_responses_total",
    help: "Fixed responses given (CloudWatch: HTTP_Fixed_Response_Count)",
};
const REDIRECTS: Metric = Metric {
    name: "albedo_redirects_total",
    help: "Redirects given (CloudWatch: HTTP_Redirect_Count)",
};
const TARGET_REQUESTS: Metric = Metric {
    name: "albedo_target_requests_total",
    help: "Requests for which a target of the group was chosen (CloudWatch: RequestCount by TargetGroup, the basis of RequestCountPerTarget)",
};
const TARGET_RESPONSES: Metric = Metric {
    name: "albedo_target_responses_total",
    help: "Answers made by targets (CloudWatch: HTTPCode_Target_2XX_Count to HTTPCode_Target_5XX_Count)",
};
const TARGET_CONNECTION_ERRORS: Metric = Metric {
    name: "albedo_target_connection_errors_total",
    help: "Connections to targets that failed, health checks apart (CloudWatch: TargetConnectionErrorCount)",
};
const TARGET_TLS_ERRORS: Metric = Metric {
    name: "albedo_target_tls_errors_total",
    help: "Handshakes with targets that failed (CloudWatch: TargetTLSNegotiationErrorCount)",
};
const HEALTHY_TARGETS: Metric = Metric {
    name: "albedo_healthy_targets",
    help: "Targets that are healthy (CloudWatch: HealthyHostCount)",
};
const UNHEALTHY_TARGETS: Metric = Metric {
    name: "albedo_unhealthy_targets",
    help: "Targets that are unhealthy (CloudWatch: UnHealthyHostCount)",
};
const GENERATION: Metric = Metric {
    name: "albedo_generation",
    help: "Number of the configuration that runs (CloudWatch: none)",
};
const RELOADS: Metric = Metric {
    name: "albedo_config_reloads_total",
    help: "Changes of the configuration, by what became of them (CloudWatch: none)",
};
const LAST_RELOAD_SUCCESSFUL: Metric = Metric {
    name: "albedo_config_last_reload_successful",
    help: "1 while the newest configuration runs, 0 after one that was refused (CloudWatch: none)",
};
const LAST_RELOAD_SUCCESS_TIME: Metric = Metric {
    name: "albedo_config_last_reload_success_timestamp_seconds",
    help: "When a configuration was last applied, in seconds since 1970 (CloudWatch: none)",
};
const WORKERS: Metric = Metric {
    name: "albedo_workers",
    help: "Data-plane threads (CloudWatch: none)",
};
const ACCESS_LOG_DROPPED: Metric = Metric {
    name: "albedo_access_log_dropped_total",
    help: "Access log lines lost because they could not be written in time (CloudWatch: none)",
};
const BUILD_INFO: Metric = Metric {
    name: "albedo_build_info",
    help: "Always 1; the label names the version (CloudWatch: none)",
};

const COUNTERS: [Metric; 19] = [
    CONNECTIONS_TOTAL,
    CLIENT_TLS_ERRORS,
    CLIENT_PROXY_PROTOCOL_ERRORS,
    REQUESTS,
    PROCESSED_BYTES,
    LIMITED,
    NONCOMPLIANT,
    DROPPED_INVALID_HEADER,
    FORWARDED_INVALID_HEADER,
    ELB_RESPONSES,
    ELB_ERRORS,
    FIXED_RESPONSES,
    REDIRECTS,
    TARGET_REQUESTS,
    TARGET_RESPONSES,
    TARGET_CONNECTION_ERRORS,
    TARGET_TLS_ERRORS,
    ACCESS_LOG_DROPPED,
    RELOADS,
];
const GAUGES: [Metric; 8] = [
    CONNECTIONS,
    HEALTHY_TARGETS,
    UNHEALTHY_TARGETS,
    GENERATION,
    LAST_RELOAD_SUCCESSFUL,
    LAST_RELOAD_SUCCESS_TIME,
    WORKERS,
    BUILD_INFO,
];

/// The recorder wants to know who registers; it does not use it.
const METADATA: Metadata<'static> = Metadata::new("albedo", Level::INFO, None);

fn describe(recorder: &PrometheusRecorder) {
    for metric in COUNTERS {
        recorder.describe_counter(metric.name.into(), None, metric.help.into());
    }
    for metric in GAUGES {
        recorder.describe_gauge(metric.name.into(), None, metric.help.into());
    }
}

/// The group whose series this line tells.
fn group_of(line: &str) -> Option<&str> {
    let (_, named) = line.split_once("target_group=\"")?;
    let (name, _) = named.split_once('"')?;
    Some(name)
}

fn with(mut labels: Vec<Label>, name: &'static str, value: &'static str) -> Vec<Label> {
    labels.push(Label::new(name, value));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered<T>(touch: impl FnOnce(&Metrics) -> T) -> String {
        let metrics = Metrics::new(&"shop".parse().unwrap(), 1);
        let _held = touch(&metrics);
        metrics.render()
    }

    fn everything(metrics: &Metrics) -> GroupMetrics {
        metrics.listener(443, Protocol::Https);
        metrics.process();
        metrics.reloads();
        metrics.group(&"web".parse().unwrap())
    }

    #[test]
    fn every_metric_has_its_help_and_its_type() {
        let text = rendered(everything);
        for (metric, kind) in COUNTERS
            .iter()
            .map(|metric| (metric, "counter"))
            .chain(GAUGES.iter().map(|metric| (metric, "gauge")))
        {
            let Metric { name, help } = metric;
            assert!(
                text.contains(&format!("# HELP {name} {help}\n")),
                "{name}\n{text}"
            );
            assert!(
                text.contains(&format!("# TYPE {name} {kind}\n")),
                "{name}\n{text}"
            );
        }
        let helps = text.matches("# HELP ").count();
        assert_eq!(helps, text.matches("# TYPE ").count());
        assert_eq!(helps, COUNTERS.len() + GAUGES.len());
    }

    #[test]
    fn every_metric_says_which_cloudwatch_metric_it_is() {
        for metric in COUNTERS.iter().chain(&GAUGES) {
            assert!(metric.help.contains("(CloudWatch: "), "{}", metric.name);
            let is_total = metric.name.ends_with("_total");
            let is_counter = COUNTERS.iter().any(|counter| counter.name == metric.name);
            assert_eq!(is_total, is_counter, "{}", metric.name);
        }
    }

    #[test]
    fn series_are_there_before_anything_happened() {
        let text = rendered(everything);
        assert!(text.contains(
            "albedo_requests_total{load_balancer=\"shop\",listener=\"443\",protocol=\"HTTPS\"} 0\n"
        ), "{text}");
    }

    #[test]
    fn answers_are_counted_by_class_and_errors_by_code() {
        let text = rendered(|metrics| {
            let listener = metrics.listener(80, Protocol::Http);
            for code in [301, 404, 502, 503, 503, 505] {
                listener.count_elb_response(StatusCode::from_u16(code).unwrap());
            }
        });
        let series = |metric: &str, label: &str| {
            let start = format!(
                "{metric}{{load_balancer=\"shop\",listener=\"80\",protocol=\"HTTP\",{label}}} "
            );
            let line = text.lines().find(|line| line.starts_with(&start));
            line.map(|line| line[start.len()..].to_owned())
        };
        assert_eq!(
            series("albedo_elb_responses_total", "class=\"3xx\"").as_deref(),
            Some("1")
        );
        assert_eq!(
            series("albedo_elb_responses_total", "class=\"4xx\"").as_deref(),
            Some("1")
        );
        assert_eq!(
            series("albedo_elb_responses_total", "class=\"5xx\"").as_deref(),
            Some("4")
        );
        assert_eq!(
            series("albedo_elb_errors_total", "code=\"503\"").as_deref(),
            Some("2")
        );
        assert_eq!(
            series("albedo_elb_errors_total", "code=\"500\"").as_deref(),
            Some("0")
        );
    }

    #[test]
    fn a_group_counts_what_its_targets_answer() {
        let text = rendered(|metrics| {
            let group = metrics.group(&"web".parse().unwrap());
            group.count_response(StatusCode::NO_CONTENT);
            // A later generation binds the same series.
            metrics
                .group(&"web".parse().unwrap())
                .count_response(StatusCode::OK);
            group.healthy.set(3);
            group
        });
        let labels = "load_balancer=\"shop\",target_group=\"web\"";
        assert!(
            text.contains(&format!(
                "albedo_target_responses_total{{{labels},class=\"2xx\"}} 2\n"
            )),
            "{text}"
        );
        assert!(
            text.contains(&format!("albedo_healthy_targets{{{labels}}} 3\n")),
            "{text}"
        );
    }

    #[test]
    fn a_group_is_told_of_while_it_is_there_and_goes_on_when_it_comes_back() {
        let metrics = Metrics::new(&"shop".parse().unwrap(), 1);
        let requests = "albedo_target_requests_total{load_balancer=\"shop\",target_group=\"web\"} ";
        let told = || {
            let text = metrics.render();
            let line = text.lines().find_map(|line| line.strip_prefix(requests));
            line.map(str::to_owned)
        };
        let name = "web".parse().unwrap();
        let other = metrics.group(&"other".parse().unwrap());
        let before = metrics.group(&name);
        let after = metrics.group(&name);
        before.requests.increment(3);
        drop(before);
        assert_eq!(told().as_deref(), Some("3"));
        drop(after);
        assert_eq!(told(), None);
        assert!(!metrics.render().contains("\"web\""));
        assert!(metrics.render().contains("\"other\""));
        metrics.group(&name).requests.increment(1);
        let _back = metrics.group(&name);
        assert_eq!(told().as_deref(), Some("4"));
        drop(other);
    }

    #[test]
    fn a_refused_change_is_an_alarm_until_one_is_applied() {
        let metrics = Metrics::new(&"shop".parse().unwrap(), 1);
        let reloads = metrics.reloads();
        let value = |series: &str| {
            let text = metrics.render();
            let line = text.lines().find_map(|line| line.strip_prefix(series));
            line.map(str::to_owned).unwrap_or_default()
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let successful = "albedo_config_last_reload_successful{load_balancer=\"shop\"} ";
        let time = "albedo_config_last_reload_success_timestamp_seconds{load_balancer=\"shop\"} ";
        reloads.started(at(1_000));
        assert_eq!(
            (value(successful), value(time)),
            ("1".into(), "1000".into())
        );
        reloads.count(Outcome::Refused, at(2_000));
        assert_eq!(
            (value(successful), value(time)),
            ("0".into(), "1000".into())
        );
        reloads.count(Outcome::Applied, at(3_000));
        assert_eq!(
            (value(successful), value(time)),
            ("1".into(), "3000".into())
        );
        let refused = "albedo_config_reloads_total{load_balancer=\"shop\",outcome=\"refused\"} ";
        assert_eq!(value(refused), "1");
    }

    #[test]
    fn two_load_balancers_count_apart() {
        let one = Metrics::new(&"one".parse().unwrap(), 1);
        let two = Metrics::new(&"two".parse().unwrap(), 1);
        one.process().generation.set(7);
        two.process().generation.set(1);
        assert!(
            one.render()
                .contains("albedo_generation{load_balancer=\"one\"} 7\n")
        );
        assert!(
            two.render()
                .contains("albedo_generation{load_balancer=\"two\"} 1\n")
        );
    }
}
