//! Clients of HTTP/2: several questions at a time on one connection.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Ask, Mix, PATIENCE, Scene, answerer, open_tls, whole};
use crate::content;
use crate::ledger::{End, Id, Kind, Way, What};
use crate::world::Place;

/// A connection's window and a stream's: enough that neither waits for the other's updates all the time.
const WINDOW: u32 = 1 << 20;

/// One connection after another, each with so many questions at a time.
pub(crate) async fn client(scene: Scene, seed: u64, mix: Mix, at_once: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !scene.ledger.is_stopping() {
        let Some(sender) = open(&scene, &mut random).await else {
            continue;
        };
        let mut askers = JoinSet::new();
        let uses = random.u32(20..300);
        for _ in 0..at_once {
            askers.spawn(asker(
                scene.clone(),
                random.u64(..),
                mix,
                sender.clone(),
                uses,
            ));
        }
        drop(sender);
        while askers.join_next().await.is_some() {}
    }
}

/// A connection, which runs until nobody has anything to ask.
pub(super) async fn open(scene: &Scene, random: &mut fastrand::Rng) -> Option<SendRequest<Bytes>> {
    let stream = open_tls(scene, &scene.tls_http2, random).await?;
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    match builder.handshake(stream).await {
        Ok((sender, connection)) => {
            tokio::spawn(connection);
            Some(sender)
        }
        Err(error) => {
            scene.ledger.violation(format!("no HTTP/2: {error}"));
            None
        }
    }
}

async fn asker(scene: Scene, seed: u64, mix: Mix, mut sender: SendRequest<Bytes>, uses: u32) {
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..uses {
        if scene.ledger.is_stopping() {
            return;
        }
        // Not begun: told to go.
        sender = match sender.ready().await {
            Ok(sender) => sender,
            Err(_) => return,
        };
        let place = Place::any(&mut random);
        let ask = Ask::any(&mut random, mix, place);
        let leaves = mix == Mix::Quick && random.u32(..50) == 0;
        let what = if leaves { What::Leaver } else { ask.what };
        let kind = Kind {
            what,
            way: Way::Http2,
        };
        let id = scene.ledger.begin(place, kind, ask.repeats());
        if leaves {
            let limit = Duration::from_millis(random.u64(..20));
            let _dropped = timeout(limit, exchange(&scene, &mut sender, &ask, id)).await;
            scene.ledger.end(id, End::Left);
            continue;
        }
        let end = match timeout(PATIENCE, exchange(&scene, &mut sender, &ask, id)).await {
            Ok(end) => end,
            Err(_) => End::Wrong(format!("no end within {} s", PATIENCE.as_secs())),
        };
        scene.ledger.end(id, end);
        sleep(Duration::from_millis(random.u64(0..5))).await;
    }
}

async fn exchange(scene: &Scene, sender: &mut SendRequest<Bytes>, ask: &Ask, id: Id) -> End {
    let mut request = Request::builder()
        .method(Method::from_bytes(ask.method().as_bytes()).expect("a method"))
        .uri(format!("https://web.example{}", ask.path(id)));
    if ask.has_body() && ask.form != crate::target::Form::Chunked {
        request = request.header("content-length", ask.size);
    }
    let request = request.body(()).expect("a request");
    let (answer, stream) = match sender.send_request(request, !ask.has_body()) {
        Ok(sent) => sent,
        Err(error) => return not_sent(&error),
    };
    let answer = if ask.has_body() {
        upload(answer, stream, ask, id).await
    } else {
        answer.await
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return ended(&error),
    };
    read(scene, answer, ask, id).await
}

/// Sends a body while it waits for the answer, which may come early.
async fn upload(
    mut answer: ResponseFuture,
    stream: SendStream<Bytes>,
    ask: &Ask,
    id: Id,
) -> Result<Response<RecvStream>, h2::Error> {
    let mut sending = std::pin::pin!(send_body(stream, ask, id));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // A stream that takes no more has an answer, or an end.
        _ = &mut sending => answer.await,
    }
}

async fn send_body(mut stream: SendStream<Bytes>, ask: &Ask, id: Id) -> Result<(), h2::Error> {
    let mut sent = 0;
    while sent < ask.size {
        stream.reserve_capacity((ask.size - sent).min(16 * 1024));
        let granted = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(granted) = granted.transpose()? else {
            return Ok(());
        };
        let mut piece = vec![0; granted.min(ask.size - sent)];
        content::fill(id, sent, &mut piece);
        sent += piece.len();
        stream.send_data(piece.into(), false)?;
    }
    stream.send_data(Bytes::new(), true)
}

async fn read(scene: &Scene, answer: Response<RecvStream>, ask: &Ask, id: Id) -> End {
    let (head, mut body) = answer.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let who = answerer(id, head.status.as_u16(), header);
    let mut inspection = ask.inspect(id);
    while let Some(piece) = body.data().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                return match who {
                    Err(End::Wrong(wrong)) => End::Wrong(wrong),
                    _ => End::Broken(error.to_string()),
                };
            }
        };
        inspection.take(&piece);
        // It was as long as the window let it be.
        let _ended = body.flow_control().release_capacity(piece.len());
    }
    match who {
        Ok(target) => whole(scene, target, inspection),
        Err(end) => end,
    }
}

/// What it means that a request was not even sent: between the moment when the connection was ready and this one it was
/// told that it ends.
pub(super) fn not_sent(error: &h2::Error) -> End {
    if error.is_go_away() || error.is_io() {
        return End::Behind;
    }
    End::Broken(error.to_string())
}

/// What the end of a stream without an answer means. One past the last that a GOAWAY without an error names was not looked
/// at, and may be asked again elsewhere (RFC 9113 §6.8): this client's library answers the PING by which the server learns
/// that its GOAWAY has come before it sends what was waiting.
pub(super) fn ended(error: &h2::Error) -> End {
    match error.reason() {
        Some(h2::Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => End::Behind,
        Some(h2::Reason::REFUSED_STREAM) => End::Unanswered,
        _ if error.is_go_away() || error.is_io() => End::Unanswered,
        _ => End::Broken(error.to_string()),
    }
}
