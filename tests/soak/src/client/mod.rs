//! Clients that ask without a pause, each in its own way, and enter into the ledger what became of it.

pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod socket;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates::NAMES;
use crate::clock::{Millis, now};
use crate::content::Check;
use crate::ledger::{End, Id, Ledger, Repeats, What};
use crate::target::Form;
use crate::world::{CLEAR_PORT, Place, TLS_PORT, TargetId};

/// Longest wait for the end of anything that is not a WebSocket: nothing may hang.
const PATIENCE: Duration = Duration::from_secs(40);

/// What clients share.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) front: Ipv4Addr,
    pub(crate) tls_http1: Arc<ClientConfig>,
    pub(crate) tls_http2: Arc<ClientConfig>,
}

/// What a client asks most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Small and large answers and uploads.
    Quick,
    /// Long polling and server-sent events.
    Slow,
}

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) place: Place,
    pub(crate) what: What,
    pub(crate) size: usize,
    pub(crate) form: Form,
    pub(crate) wait: u64,
    pub(crate) count: u64,
}

impl Ask {
    pub(crate) fn any(random: &mut fastrand::Rng, mix: Mix, place: Place) -> Self {
        let what = match (mix, random.u32(..100)) {
            (Mix::Quick, 0..60) => What::Get,
            (Mix::Quick, 60..75) => What::Put,
            (Mix::Quick, _) => What::Post,
            (Mix::Slow, 0..50) => What::Events,
            (Mix::Slow, _) => What::Poll,
        };
        let size = match random.u32(..100) {
            0..5 => 0,
            5..80 => random.usize(1..1500),
            80..97 => random.usize(1500..40_000),
            _ => random.usize(40_000..400_000),
        };
        let form = match random.u32(..100) {
            0..70 => Form::Length,
            70..95 => Form::Chunked,
            _ => Form::UntilClose,
        };
        Self {
            place,
            what,
            size,
            form,
            wait: match what {
                What::Events => random.u64(1..300),
                _ => random.u64(100..3000),
            },
            count: random.u64(1..12),
        }
    }

    pub(crate) fn method(&self) -> &'static str {
        match self.what {
            What::Put => "PUT",
            What::Post => "POST",
            What::Get | What::Events | What::Poll | What::Socket | What::Leaver => "GET",
        }
    }

    pub(crate) fn repeats(&self) -> Repeats {
        match self.what {
            What::Post => Repeats::Forbidden,
            _ => Repeats::Allowed,
        }
    }

    pub(crate) fn has_body(&self) -> bool {
        matches!(self.what, What::Put | What::Post)
    }

    pub(crate) fn path(&self, id: Id) -> String {
        let what = match self.what {
            What::Get | What::Leaver => "get",
            What::Put => "put",
            What::Post => "post",
            What::Events => "events",
            What::Poll => "poll",
            What::Socket => "socket",
        };
        let Self {
            size,
            form,
            wait,
            count,
            ..
        } = self;
        let (place, form) = (self.place.name(), form.name());
        format!("/{place}/{what}/{id}?size={size}&form={form}&wait={wait}&count={count}")
    }

    /// Looks at an answer while it comes.
    pub(crate) fn inspect(&self, id: Id) -> Inspection {
        Inspection {
            id,
            what: self.what,
            size: if self.has_body() { 32 } else { self.size },
            count: self.count,
            check: Check::of(id),
            events: Vec::new(),
            seen: 0,
            latest: 0,
            wrong: None,
        }
    }
}

/// An answer's body, compared with what was asked for.
pub(crate) struct Inspection {
    id: Id,
    what: What,
    size: usize,
    count: u64,
    check: Check,
    events: Vec<u8>,
    seen: u64,
    /// How late the latest event came, in milliseconds.
    pub(crate) latest: Millis,
    wrong: Option<String>,
}

impl Inspection {
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        if self.what != What::Events {
            return self.check.take(bytes);
        }
        self.events.extend_from_slice(bytes);
        while let Some(end) = memchr::memmem::find(&self.events, b"\n\n") {
            let event: Vec<u8> = self.events.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&event).into_owned();
            let expected = format!("id: {}.{}\ndata: ", self.id, self.seen);
            match text
                .strip_prefix(&expected)
                .map(str::trim_end)
                .map(str::parse)
            {
                Some(Ok(sent)) => self.latest = self.latest.max(now().saturating_sub(sent)),
                _ => self.wrong = Some(format!("event {} is {text:?}", self.seen)),
            }
            self.seen += 1;
        }
    }

    pub(crate) fn verdict(self) -> Result<(), String> {
        match (self.wrong, self.what) {
            (Some(wrong), _) => Err(wrong),
            (None, What::Events) if self.seen != self.count || !self.events.is_empty() => {
                Err(format!("{} events instead of {}", self.seen, self.count))
            }
            (None, What::Events) => Ok(()),
            (None, _) => self.check.verdict(self.size),
        }
    }
}

/// Who answered, as the head of an answer says; or the end that this is already.
pub(crate) fn answerer<'a>(
    id: Id,
    status: u16,
    header: impl Fn(&str) -> Option<&'a str>,
) -> Result<TargetId, End> {
    match (header("x-id"), header("x-target")) {
        (None, None) if header("server") == Some("awselb/2.0") => Err(End::Refused(status)),
        (None, None) => Err(End::Stranger),
        (Some(other), _) if other != id.to_string() => {
            Err(End::Wrong(format!("the answer to id {other}")))
        }
        (_, Some(name)) if status == 200 || status == 101 => {
            TargetId::of_name(name).ok_or_else(|| End::Wrong(format!("answered by {name}")))
        }
        (_, Some(_)) if status == 500 => Err(End::TargetFailed),
        _ => Err(End::Wrong(format!("status {status}"))),
    }
}

/// What becomes of an answer that came whole.
pub(crate) fn whole(scene: &Scene, target: TargetId, inspection: Inspection) -> End {
    let latest = inspection.latest;
    match inspection.verdict() {
        Ok(()) => {
            if latest > 0 {
                let mut sums = scene.ledger.sums();
                sums.slowest_event = sums.slowest_event.max(latest);
            }
            End::Whole(target)
        }
        Err(wrong) => End::Wrong(wrong),
    }
}

/// Opens a connection in clear; that must always succeed.
async fn open_clear(scene: &Scene) -> Option<TcpStream> {
    let address = SocketAddr::from((scene.front, CLEAR_PORT));
    match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            let _late = stream.set_nodelay(true);
            Some(stream)
        }
        failed => {
            scene.ledger.violation(format!("no connection: {failed:?}"));
            None
        }
    }
}

/// Opens a connection under TLS, and looks at the certificate.
async fn open_tls(
    scene: &Scene,
    config: &Arc<ClientConfig>,
    random: &mut fastrand::Rng,
) -> Option<TlsStream<TcpStream>> {
    let name = NAMES[random.usize(..NAMES.len())];
    let server_name = ServerName::try_from(name).expect("a name");
    let address = SocketAddr::from((scene.front, TLS_PORT));
    let began = now();
    let opening = async {
        let stream = TcpStream::connect(address).await?;
        let _late = stream.set_nodelay(true);
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(server_name, stream).await
    };
    let stream = match tokio::time::timeout(PATIENCE, opening).await {
        Ok(Ok(stream)) => stream,
        failed => {
            let failed = failed.map(|failed| failed.map(|_| ()));
            scene
                .ledger
                .violation(format!("no TLS connection: {failed:?}"));
            return None;
        }
    };
    let tls = stream.get_ref().1;
    if tls.handshake_kind() == Some(HandshakeKind::Resumed) {
        scene.ledger.note("TLS sessions resumed", 1);
        return Some(stream);
    }
    scene.ledger.note("TLS sessions begun", 1);
    let shown = tls.peer_certificates().and_then(|chain| chain.first());
    let shown = shown
        .map(|certificate| certificate.as_ref())
        .unwrap_or_default();
    if !scene.ledger.history.may_show(name, shown, began, now()) {
        scene.ledger.violation(format!(
            "{name} shows a certificate that is not its own any more"
        ));
    }
    Some(stream)
}
