//! What RFC 9113 and RFC 7541 demand of a server, as bytes in and what must come back. The cases of h2spec
//! (github.com/summerwind/h2spec) stand under its own sections and numbers, which are those of RFC 7540; what it does
//! not ask is marked by a `+` and stands under its section of RFC 9113. HTTP/2 is spoken under TLS alone, by ALPN: a
//! listener in clear knows nothing but HTTP/1.1, as ALB's.

mod exchanges; // §7, §8
mod format; // §3, §4
mod frames; // §6
mod generic;
mod hpack;
mod streams; // §5

use crate::http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PREFACE,
    RST_STREAM, RawFrame, SETTINGS, Scene, WINDOW_UPDATE, body_of, frame, literals, minimal,
};
use crate::scene::{Conversation, PATIENCE, Target};

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;

// Where h2 0.4 ends the connection, as it must, but calls the error PROTOCOL_ERROR (hyperium/h2 #900). No client acts
// on the difference.
const WRONG_SIZE: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];
const WRONG_BLOCK: &[u32] = &[COMPRESSION_ERROR, PROTOCOL_ERROR];
const WRONG_WINDOW: &[u32] = &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR];
const NOT_OPEN: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];

/// A request that is none. h2 ends the whole connection over some of them, which it may (RFC 9113 §5.4.1).
const MALFORMED: Must = Must::StreamError(1, &[PROTOCOL_ERROR]);

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

const WINDOW_MAX: u32 = i32::MAX as u32;
/// What the target says, and a body sent to it.
const PAGE: &str = "thirteen here";
const TEST: &[u8] = b"test";
const OPAQUE: [u8; 8] = *b"h2spec\0\0";

/// Bytes and what must come back, again and again, on a connection of its own.
struct Case {
    name: &'static str,
    begins: Begins,
    turns: Vec<(Vec<u8>, Must)>,
}

/// What a client has said before its first turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// Its preface, and it has heard the server's and the acknowledgement.
    Greeted,
    /// Nothing.
    Silent,
}

/// What must come back; other frames before it do not matter.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// A SETTINGS frame, and nothing before it.
    Preface,
    Acknowledge,
    /// A PING's answer, with these bytes.
    Pong([u8; 8]),
    /// The head of a 200 for stream 1 or another.
    Answer(u32),
    /// A whole 200.
    Whole(u32),
    /// The stream's by PROTOCOL_ERROR, or the head of an answer that is an error, which may come before it (RFC 9113 §8.1.1).
    Refused(u32),
    /// The next piece of a body, of this length.
    Data(u32, usize),
    /// The stream's end by one of these errors, or the connection's: an endpoint may always choose that (RFC 9113 §5.4).
    /// Where the stream alone ends, the connection goes on.
    StreamError(u32, &'static [u32]),
    /// The stream's alone.
    Reset(u32, u32),
    /// GOAWAY with one of these errors, then the end.
    ConnectionError(&'static [u32]),
    /// GOAWAY without an error, then the end.
    Farewell,
    /// The connection's end, with or without words.
    End,
}

fn case<const N: usize>(name: &'static str, says: [Vec<u8>; N], must: Must) -> Case {
    Case {
        name,
        begins: Begins::Greeted,
        turns: vec![(says.concat(), must)],
    }
}

impl Case {
    fn then<const N: usize>(mut self, says: [Vec<u8>; N], must: Must) -> Self {
        self.turns.push((says.concat(), must));
        self
    }

    /// The client says nothing of its own accord before its first turn.
    fn silent(mut self) -> Self {
        self.begins = Begins::Silent;
        self
    }

    async fn run(&self, scene: &Scene) -> Result<(), String> {
        let mut frames = match self.begins {
            Begins::Silent => scene.silent().await,
            Begins::Greeted => {
                let mut frames = scene.frames().await;
                Must::Acknowledge.come(&mut frames).await?;
                frames
            }
        };
        for (says, must) in &self.turns {
            frames
                .write(says)
                .await
                .map_err(|error| format!("{must:?}: {error}"))?;
            must.come(&mut frames)
                .await
                .map_err(|instead| format!("{must:?}, but {instead}"))?;
        }
        Ok(())
    }
}

impl Must {
    async fn come(self, frames: &mut Frames) -> Result<(), String> {
        if let Self::Preface = self {
            let first = frames.read().await.map_err(|error| error.to_string())?;
            return match (first.kind, first.flags & ACK) {
                (SETTINGS, 0) => Ok(()),
                _ => Err(format!("{first:?} came")),
            };
        }
        let mut before = Vec::new();
        let last = loop {
            let Some(frame) = frames.next().await else {
                if let Self::End = self {
                    return Ok(());
                }
                return Err(format!("the end came after {before:?}"));
            };
            match self.judge(&frame) {
                Verdict::Holds => break frame,
                Verdict::Broken => return Err(format!("{frame:?} came")),
                Verdict::Open => before.push(frame),
            }
        };
        match last.kind {
            RST_STREAM => goes_on(frames).await,
            GOAWAY => match frames.next().await {
                Some(frame) => Err(format!("{frame:?} came after GOAWAY")),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn judge(self, frame: &RawFrame) -> Verdict {
        let code = || match frame.kind {
            GOAWAY => word(&frame.payload[4..]),
            _ => word(&frame.payload),
        };
        let is_on = |stream| frame.stream == stream;
        let holds = match (self, frame.kind) {
            (Self::Acknowledge, SETTINGS) => true,
            (Self::Pong(opaque), PING) => frame.payload == opaque,
            (Self::Answer(stream) | Self::Whole(stream), HEADERS) if is_on(stream) => {
                if !frame.is_200() {
                    return Verdict::Broken;
                }
                matches!(self, Self::Answer(_)) || frame.flags & END_STREAM != 0
            }
            (Self::Whole(stream), DATA) if is_on(stream) => frame.flags & END_STREAM != 0,
            (Self::Refused(stream), HEADERS) if is_on(stream) => {
                if frame.is_200() {
                    return Verdict::Broken;
                }
                true
            }
            (Self::Refused(stream), RST_STREAM) if is_on(stream) => code() == PROTOCOL_ERROR,
            (Self::Data(stream, length), DATA) if is_on(stream) => {
                if frame.payload.len() != length {
                    return Verdict::Broken;
                }
                true
            }
            (Self::StreamError(stream, codes), RST_STREAM) if is_on(stream) => {
                codes.contains(&code())
            }
            (Self::Reset(stream, wanted), RST_STREAM) if is_on(stream) => code() == wanted,
            (Self::StreamError(_, codes) | Self::ConnectionError(codes), GOAWAY) => {
                codes.contains(&code())
            }
            (Self::Farewell, GOAWAY) => code() == NO_ERROR,
            _ => false,
        };
        match frame.kind {
            _ if holds => Verdict::Holds,
            // Nothing else is as definite.
            GOAWAY if matches!(self, Self::End) => Verdict::Open,
            GOAWAY | RST_STREAM => Verdict::Broken,
            _ => Verdict::Open,
        }
    }
}

enum Verdict {
    Holds,
    Broken,
    /// Something else may come first.
    Open,
}

/// Whether a connection goes on, one of whose streams was reset.
async fn goes_on(frames: &mut Frames) -> Result<(), String> {
    frames
        .write(&ping(*b"go on..."))
        .await
        .map_err(|error| error.to_string())?;
    loop {
        match frames.next().await {
            Some(frame) if frame.kind == PING => return Ok(()),
            Some(frame) if frame.kind != GOAWAY => {}
            other => return Err(format!("{other:?} came after the reset")),
        }
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

impl RawFrame {
    /// Static table entry 8 (RFC 7541, appendix A), behind a size update perhaps.
    fn is_200(&self) -> bool {
        let status = self.payload.iter().find(|&&byte| byte & 0xe0 != 0x20);
        status == Some(&0x88)
    }
}

/// A target that reads what it is sent and always says the same.
async fn target() -> Target {
    Target::playing(async |head: String, mut client: Conversation| {
        body_of(&head, &mut client).await;
        let length = PAGE.len();
        let body = if head.starts_with("HEAD ") { "" } else { PAGE };
        client
            .say(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        Some(client)
    })
    .await
}

/// Tries all cases and names each that does not hold.
async fn hold(cases: Vec<Case>) {
    let target = target().await;
    let scene = Scene::before(&target).await;
    let mut broken = Vec::new();
    for case in &cases {
        let outcome = match tokio::time::timeout(PATIENCE / 2, case.run(&scene)).await {
            Ok(outcome) => outcome,
            Err(_) => Err("nothing came".to_owned()),
        };
        if let Err(instead) = outcome {
            broken.push(format!("{}: {instead}", case.name));
        }
    }
    let count = broken.len();
    assert!(broken.is_empty(), "{count} broken:\n{}", broken.join("\n"));
}

/// h2spec 2.6.1 has so many, `--strict` included.
const CASES_OF_H2SPEC: usize = 147;

#[test]
fn every_case_of_h2spec_is_here() {
    let chapters = [
        generic::cases(),
        format::cases(),
        streams::cases(),
        frames::cases(),
        exchanges::cases(),
        hpack::cases(),
    ];
    let names = chapters.iter().flatten().map(|case| case.name);
    let numbers = names.map(|name| name.split_once(": ").unwrap().0);
    let mut theirs: Vec<_> = numbers.filter(|number| !number.contains('+')).collect();
    theirs.sort_unstable();
    theirs.dedup();
    assert_eq!(theirs.len(), CASES_OF_H2SPEC);
}

// What a client says.

/// How it begins (RFC 9113 §3.4), with these settings.
fn preface() -> Vec<u8> {
    let initial = settings([(INITIAL_WINDOW_SIZE, 65_535)]);
    [PREFACE, &initial].concat()
}

/// A request's head, and the whole of it where `flags` say END_STREAM.
fn head(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block)
}

fn get(stream: u32) -> Vec<u8> {
    head(stream, END_STREAM, &minimal("GET", "/"))
}

/// Fields after a request's own, in its only frame.
fn get_with(fields: &[u8]) -> Vec<u8> {
    head(1, END_STREAM, &[&minimal("GET", "/"), fields].concat())
}

/// The beginning of an upload.
fn post(stream: u32) -> Vec<u8> {
    head(stream, 0, &minimal("POST", "/"))
}

fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

fn continuation(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(CONTINUATION, flags, stream, block)
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

fn settings<const N: usize>(settings: [(u16, u32); N]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

fn ping(opaque: [u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, &opaque)
}

fn goaway(stream: u32, code: u32, debug: &[u8]) -> Vec<u8> {
    let payload = [&[0; 4][..], &code.to_be_bytes(), debug].concat();
    frame(GOAWAY, 0, stream, &payload)
}

/// What RFC 7540 §5.3 calls a dependency; `weight` is one less than what it means.
fn dependency(on: u32, weight: u8) -> Vec<u8> {
    [&on.to_be_bytes()[..], &[weight]].concat()
}

fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &dependency(on, weight))
}

/// As h2spec's: some header that means nothing.
fn dummy() -> Vec<u8> {
    literals([("x-dummy0", "x")])
}
