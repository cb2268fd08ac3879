//! WebSocket clients, over HTTP/1.1 and inside HTTP/2: what they say must come back, in order.

use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Ask, Mix, PATIENCE, Scene, answerer, http1, http2};
use crate::content;
use crate::frames::{self, From};
use crate::ledger::{End, Id, Kind, Repeats, Way, What};
use crate::wire::Wire;
use crate::world::{Place, TargetId};

/// How long a WebSocket lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// So many words, at most.
    Words(u64),
    /// To the end of the run, if nobody ends it.
    Whole,
}

/// Longest wait between two words, in milliseconds; below the load balancer's idle timeout.
const PAUSE_MAX: u64 = 1500;

/// What carries frames.
enum Pipe {
    Http1(Wire),
    Http2(SendStream<Bytes>, RecvStream),
}

/// One WebSocket after another.
pub(crate) async fn client(scene: Scene, seed: u64, way: Way, life: Life, place: Option<Place>) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !scene.ledger.is_stopping() {
        let place = place.unwrap_or_else(|| Place::any(&mut random));
        let mut ask = Ask::any(&mut random, Mix::Quick, place);
        ask.what = What::Socket;
        let kind = Kind {
            what: What::Socket,
            way,
        };
        // A connection first, so that the ledger's entry begins with the question.
        let end = match way {
            Way::Http1 | Way::Http1Tls => {
                let Some(wire) = http1::open(&scene, way, &mut random).await else {
                    continue;
                };
                let id = scene.ledger.begin(place, kind, Repeats::Allowed);
                let opened = timeout(PATIENCE, ask_http1(wire, &ask, id)).await;
                (id, opened)
            }
            Way::Http2 => {
                let Some(mut sender) = http2::open(&scene, &mut random).await else {
                    continue;
                };
                // The server's settings, which allow the question, must have come.
                let settled = timeout(PATIENCE, async {
                    while !sender.is_extended_connect_protocol_enabled() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                });
                let is_settled = settled.await.is_ok();
                let Ok(ready) = sender.ready().await else {
                    continue;
                };
                sender = ready;
                let id = scene.ledger.begin(place, kind, Repeats::Allowed);
                if !is_settled {
                    scene
                        .ledger
                        .end(id, End::Wrong("WebSockets are not allowed".into()));
                    continue;
                }
                let opened = timeout(PATIENCE, ask_http2(sender, &ask, id)).await;
                (id, opened)
            }
        };
        let (id, opened) = end;
        let end = match opened {
            Ok(Ok((pipe, target))) => talk(&scene, pipe, target, id, life, &mut random).await,
            Ok(Err(end)) => end,
            Err(_) => End::Wrong(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        scene.ledger.end(id, end);
    }
}

async fn ask_http1(mut wire: Wire, ask: &Ask, id: Id) -> Result<(Pipe, TargetId), End> {
    let path = ask.path(id);
    let question = format!(
        "GET {path} HTTP/1.1\r\nHost: web.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let _broken = wire.send(question).await;
    let head = match wire.reader.head().await {
        Ok(Some(head)) => head,
        _ => return Err(End::Unanswered),
    };
    let status = head.status().unwrap_or(0);
    let target = answerer(id, status, |name| head.header(name))?;
    if status != 101 || head.header("sec-websocket-accept") != Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    {
        return Err(End::Broken(format!("no upgrade but {}", head.line)));
    }
    Ok((Pipe::Http1(wire), target))
}

async fn ask_http2(
    mut sender: h2::client::SendRequest<Bytes>,
    ask: &Ask,
    id: Id,
) -> Result<(Pipe, TargetId), End> {
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://web.example{}", ask.path(id)))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(())
        .expect("a request");
    let sent = sender.send_request(request, false);
    let (answer, stream) = sent.map_err(|error| http2::not_sent(&error))?;
    let answer = answer.await.map_err(|error| http2::ended(&error))?;
    let (head, body) = answer.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let target = answerer(id, head.status.as_u16(), header)?;
    Ok((Pipe::Http2(stream, body), target))
}

/// Says one word after another, and hears each again.
async fn talk(
    scene: &Scene,
    mut pipe: Pipe,
    target: TargetId,
    id: Id,
    life: Life,
    random: &mut fastrand::Rng,
) -> End {
    let words = match life {
        Life::Words(most) => random.u64(1..=most),
        Life::Whole => u64::MAX,
    };
    let (mut said, mut heard) = (0_u64, 0_u64);
    let mut unread = Vec::new();
    let mut next = Instant::now();
    let mut is_over = false;
    loop {
        tokio::select! {
            piece = pipe.receive() => {
                let piece = match piece {
                    Ok(piece) if piece.is_empty() => return End::Broken("ended without a Close".into()),
                    Ok(piece) => piece,
                    Err(error) => return End::Broken(error),
                };
                unread.extend_from_slice(&piece);
                while let Some((opcode, payload)) = frames::decode(&mut unread) {
                    match opcode {
                        frames::BINARY if payload == word(id, heard) => heard += 1,
                        frames::CLOSE => {
                            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                            scene.ledger.note("words in WebSockets", heard);
                            if !is_over {
                                let _gone = pipe.send(frames::encode(From::Client, frames::CLOSE, &payload)).await;
                            }
                            return match code {
                                // Also while our own Close was on its way.
                                Some(frames::SERVICE_RESTART) => End::Told,
                                Some(1000) if is_over && heard == said => End::Whole(target),
                                _ => End::Wrong(format!("{heard} of {said} words came back, Close {code:?}")),
                            };
                        }
                        _ => return End::Wrong(format!("word {heard} came back as {payload:?}")),
                    }
                }
            }
            () = sleep_until(next), if !is_over => {
                let frame = if said >= words || scene.ledger.is_stopping() {
                    is_over = true;
                    frames::encode(From::Client, frames::CLOSE, &1000_u16.to_be_bytes())
                } else {
                    said += 1;
                    frames::encode(From::Client, frames::BINARY, &word(id, said - 1))
                };
                // Whatever stops it is heard.
                let _broken = pipe.send(frame).await;
                next = Instant::now() + Duration::from_millis(random.u64(10..PAUSE_MAX));
            }
            () = tokio::time::sleep(PATIENCE) => return End::Wrong("not a word came back".into()),
        }
    }
}

/// What is said at this place.
fn word(id: Id, number: u64) -> Vec<u8> {
    let size = 20 + number as usize * 37 % 900;
    content::bytes(id ^ (number % 251) << 24, size)
}

impl Pipe {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        match self {
            Self::Http1(wire) => wire.send(bytes).await.map_err(|error| error.to_string()),
            // Small enough for any window.
            Self::Http2(stream, _) => stream
                .send_data(bytes.into(), false)
                .map_err(|error| error.to_string()),
        }
    }

    /// The next bytes, none at the end.
    async fn receive(&mut self) -> Result<Bytes, String> {
        match self {
            Self::Http1(wire) => match wire.reader.some().await {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(error.to_string()),
            },
            Self::Http2(_, body) => match body.data().await {
                Some(Ok(bytes)) => {
                    let _ended = body.flow_control().release_capacity(bytes.len());
                    Ok(bytes)
                }
                Some(Err(error)) => Err(error.to_string()),
                None => Ok(Bytes::new()),
            },
        }
    }
}
