//! Clients of HTTP/1.1, in clear and under TLS.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::time::{sleep, timeout};

use super::{Ask, Mix, PATIENCE, Scene, answerer, open_clear, open_tls, whole};
use crate::content;
use crate::ledger::{End, Id, Kind, Repeats, Way, What};
use crate::target::Form;
use crate::wire::{Framing, Head, Stream, Wire};
use crate::world::{Group, Place, TargetId};

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) way: Way,
    pub(crate) mix: Mix,
    /// Most requests on one connection.
    pub(crate) uses: u32,
    /// Most milliseconds between an answer and the next request.
    pub(crate) thinks: u64,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Close,
}

pub(super) async fn open(scene: &Scene, way: Way, random: &mut fastrand::Rng) -> Option<Wire> {
    match way {
        Way::Http1 => open_clear(scene).await.map(Wire::new),
        _ => open_tls(scene, &scene.tls_http1, random)
            .await
            .map(Wire::new),
    }
}

/// Asks one thing after another.
pub(crate) async fn client(scene: Scene, seed: u64, manner: Manner) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !scene.ledger.is_stopping() {
        let Some(mut wire) = open(&scene, manner.way, &mut random).await else {
            continue;
        };
        for _ in 0..random.u32(1..=manner.uses) {
            if scene.ledger.is_stopping() {
                return;
            }
            let place = Place::any(&mut random);
            let ask = Ask::any(&mut random, manner.mix, place);
            let (next, _) = exchange(&scene, &mut wire, &ask, manner.way, None).await;
            if next == Next::Close {
                break;
            }
            sleep(Duration::from_millis(random.u64(0..=manner.thinks))).await;
        }
    }
}

/// Comes back to its target, whatever happens.
pub(crate) async fn sticky_client(scene: Scene, seed: u64, way: Way) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cookie: Option<String> = None;
    let mut home: Option<TargetId> = None;
    while !scene.ledger.is_stopping() {
        let Some(mut wire) = open(&scene, way, &mut random).await else {
            continue;
        };
        for _ in 0..random.u32(1..100) {
            if scene.ledger.is_stopping() {
                return;
            }
            let mut ask = Ask::any(&mut random, Mix::Quick, Place::Of(Group::Sticky));
            ask.size = ask.size.min(2000);
            let (next, told) = exchange(&scene, &mut wire, &ask, way, cookie.as_deref()).await;
            if let Some((head, target)) = told {
                if home.is_some_and(|home| home != target) {
                    scene.ledger.note("clients that lost their target", 1);
                }
                home = Some(target);
                let mut cookies = head.headers("set-cookie");
                let fresh = cookies.find_map(|value| value.strip_prefix("AWSALB="));
                if let Some(value) = fresh {
                    cookie = value.split(';').next().map(str::to_owned);
                }
            }
            if next == Next::Close {
                break;
            }
            sleep(Duration::from_millis(random.u64(0..20))).await;
        }
    }
}

/// Sends three questions at once and reads the answers.
pub(crate) async fn hasty_client(scene: Scene, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let kind = Kind {
        what: What::Get,
        way: Way::Http1,
    };
    while !scene.ledger.is_stopping() {
        let Some(mut wire) = open(&scene, Way::Http1, &mut random).await else {
            continue;
        };
        for _ in 0..random.u32(1..50) {
            if scene.ledger.is_stopping() {
                return;
            }
            let asks: Vec<(Id, Ask)> = (0..3)
                .map(|_| {
                    let place = Place::any(&mut random);
                    let mut ask = Ask::any(&mut random, Mix::Quick, place);
                    (ask.what, ask.form) = (What::Get, Form::Length);
                    ask.size = ask.size.min(20_000);
                    (scene.ledger.begin(place, kind, Repeats::Allowed), ask)
                })
                .collect();
            let heads = asks.iter().map(|(id, ask)| head(ask, *id, None));
            let sent = wire.send(heads.collect::<String>()).await;
            let mut next = Next::GoOn;
            for (id, ask) in &asks {
                if next == Next::Close {
                    scene.ledger.end(*id, End::Behind);
                    continue;
                }
                let answer = timeout(PATIENCE, read(&scene, &mut wire, ask, *id)).await;
                let (end, then, _) = answer.unwrap_or_else(|_| hung());
                next = if sent.is_err() { Next::Close } else { then };
                scene.ledger.end(*id, end);
            }
            if next == Next::Close {
                break;
            }
            sleep(Duration::from_millis(random.u64(0..10))).await;
        }
    }
}

/// Goes away amid its requests, each time in another way.
pub(crate) async fn leaver(scene: Scene, seed: u64, way: Way) {
    let mut random = fastrand::Rng::with_seed(seed);
    let kind = Kind {
        what: What::Leaver,
        way,
    };
    while !scene.ledger.is_stopping() {
        let place = Place::any(&mut random);
        let mut ask = Ask::any(&mut random, Mix::Quick, place);
        ask.size = random.usize(10_000..400_000);
        ask.wait = 500;
        let Some(mut wire) = open(&scene, way, &mut random).await else {
            continue;
        };
        let amid = Amid::any(&mut random);
        ask.what = match amid {
            Amid::Upload => What::Post,
            Amid::Answer | Amid::Question => What::Get,
            Amid::Silence => What::Poll,
        };
        ask.form = Form::Length;
        let id = scene.ledger.begin(place, kind, ask.repeats());
        let going = async {
            wire.send(head(&ask, id, None)).await?;
            match amid {
                Amid::Upload => {
                    let part = content::bytes(id, random.usize(..ask.size));
                    wire.send(part).await
                }
                Amid::Answer => wire.reader.some().await.map(drop),
                Amid::Silence => {
                    sleep(Duration::from_millis(random.u64(..400))).await;
                    Ok(())
                }
                Amid::Question => Ok(()),
            }
        };
        let _gone: Result<io::Result<()>, _> = timeout(PATIENCE, going).await;
        scene.ledger.end(id, End::Left);
        if random.bool() {
            wire.reset();
        }
        sleep(Duration::from_millis(random.u64(..100))).await;
    }
}

/// When a client goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amid {
    Upload,
    Answer,
    Silence,
    Question,
}

impl Amid {
    fn any(random: &mut fastrand::Rng) -> Self {
        match random.u32(..4) {
            0 => Self::Upload,
            1 => Self::Answer,
            2 => Self::Silence,
            _ => Self::Question,
        }
    }
}

/// One request and its answer, entered into the ledger.
async fn exchange(
    scene: &Scene,
    wire: &mut Wire,
    ask: &Ask,
    way: Way,
    cookie: Option<&str>,
) -> (Next, Option<(Head, TargetId)>) {
    let kind = Kind {
        what: ask.what,
        way,
    };
    let id = scene.ledger.begin(ask.place, kind, ask.repeats());
    let exchange = async {
        let text = head(ask, id, cookie);
        if !ask.has_body() {
            // What the other side still says of it tells more than that it takes no more.
            let _broken = wire.send(text).await;
            return read(scene, wire, ask, id).await;
        }
        upload(scene, wire, ask, id, text).await
    };
    let (end, next, told) = timeout(PATIENCE, exchange).await.unwrap_or_else(|_| hung());
    if next == Next::GoOn && wire.reader.has_unread() {
        scene.ledger.violation(format!(
            "id {id}: bytes behind its answer that nobody asked for"
        ));
    }
    scene.ledger.end(id, end);
    (next, told)
}

type Answer = (End, Next, Option<(Head, TargetId)>);

fn hung() -> Answer {
    let text = format!("no end within {} s", PATIENCE.as_secs());
    (End::Wrong(text), Next::Close, None)
}

fn head(ask: &Ask, id: Id, cookie: Option<&str>) -> String {
    let (method, path) = (ask.method(), ask.path(id));
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: web.example\r\n");
    if let Some(cookie) = cookie {
        head += &format!("Cookie: AWSALB={cookie}\r\n");
    }
    if ask.has_body() {
        head += &match ask.form {
            Form::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            _ => format!("Content-Length: {}\r\n", ask.size),
        };
    }
    head + "\r\n"
}

/// Sends a body and reads the answer at the same time, since that may come early.
async fn upload(scene: &Scene, wire: &mut Wire, ask: &Ask, id: Id, head: String) -> Answer {
    let Wire { reader, writer } = wire;
    let (answer, is_sent) = {
        let mut sending = std::pin::pin!(send_body(writer, ask, id, head));
        let mut reading = std::pin::pin!(reader.head());
        tokio::select! {
            biased;
            answer = &mut reading => (answer, false),
            sent = &mut sending => (reading.await, sent.is_ok()),
        }
    };
    let (end, next, told) = rest(scene, wire, ask, id, answer).await;
    // A connection whose request has not gone out whole carries no other.
    let next = if is_sent { next } else { Next::Close };
    (end, next, told)
}

async fn send_body(
    writer: &mut WriteHalf<Box<dyn Stream>>,
    ask: &Ask,
    id: Id,
    head: String,
) -> io::Result<()> {
    let mut bytes = head.into_bytes();
    let mut sent = 0;
    while sent < ask.size {
        let count = (ask.size - sent).min(16 * 1024);
        if ask.form == Form::Chunked {
            bytes.extend_from_slice(format!("{count:x}\r\n").as_bytes());
        }
        let begin = bytes.len();
        bytes.resize(begin + count, 0);
        content::fill(id, sent, &mut bytes[begin..]);
        if ask.form == Form::Chunked {
            bytes.extend_from_slice(b"\r\n");
        }
        sent += count;
        writer.write_all(&bytes).await?;
        bytes.clear();
    }
    if ask.form == Form::Chunked {
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    writer.write_all(&bytes).await?;
    writer.flush().await
}

async fn read(scene: &Scene, wire: &mut Wire, ask: &Ask, id: Id) -> Answer {
    let head = wire.reader.head().await;
    rest(scene, wire, ask, id, head).await
}

/// Reads an answer behind its head.
async fn rest(
    scene: &Scene,
    wire: &mut Wire,
    ask: &Ask,
    id: Id,
    head: io::Result<Option<Head>>,
) -> Answer {
    let closed = |end| (end, Next::Close, None);
    let head = match head {
        Ok(Some(head)) => head,
        Ok(None) => return closed(End::Unanswered),
        // Of a refusal amid an upload the client may see the reset alone.
        Err(error) if ask.has_body() => return closed(End::Broken(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return closed(End::Wrong(error.to_string()));
        }
        Err(_) => return closed(End::Unanswered),
    };
    let Some(status) = head.status() else {
        return closed(End::Wrong(format!(
            "an answer that begins with {:?}",
            head.line
        )));
    };
    let next = if head.closes() {
        Next::Close
    } else {
        Next::GoOn
    };
    let who = answerer(id, status, |name| head.header(name));
    let framing = match head.framing(Framing::UntilClose) {
        Ok(framing) => framing,
        Err(error) => return closed(End::Wrong(error.to_string())),
    };
    let mut inspection = ask.inspect(id);
    let read = wire
        .reader
        .body(framing, |piece| inspection.take(piece))
        .await;
    if let Err(error) = read {
        let end = match who {
            Err(End::Wrong(wrong)) => End::Wrong(wrong),
            _ => End::Broken(error.to_string()),
        };
        return closed(end);
    }
    match who {
        Ok(target) => (whole(scene, target, inspection), next, Some((head, target))),
        Err(end) => (end, next, None),
    }
}
