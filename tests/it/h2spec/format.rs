//! RFC 9113 §3 and §4: how a connection begins, and what a frame is.

use super::Must::{Answer, ConnectionError, End, Pong, Preface, Refused, Reset, StreamError};
use super::*;
use crate::http2::literal;

/// The largest frame that a server takes which says nothing about it (RFC 9113 §6.5.2), as ours.
const FRAME_MAX: usize = 16_384;

#[tokio::test]
async fn how_a_connection_begins_and_what_a_frame_is() {
    hold(cases()).await;
}

#[tokio::test]
async fn a_server_begins_with_its_limits() {
    let target = target().await;
    let scene = Scene::before(&target).await;
    let first = scene.silent().await.read().await.unwrap();
    assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
    let setting = |id: u16| {
        let mut all = first.payload.chunks(6);
        let found = all.find(|setting| setting[..2] == id.to_be_bytes());
        found.map(|setting| word(&setting[2..]))
    };
    assert_eq!(setting(MAX_CONCURRENT_STREAMS), Some(128));
    assert_eq!(setting(INITIAL_WINDOW_SIZE), Some(256 * 1024));
    assert_eq!(setting(MAX_HEADER_LIST_SIZE), Some(64 * 1024));
    assert_eq!(setting(ENABLE_CONNECT_PROTOCOL), Some(1));
    // What the protocol says where nothing is said.
    assert_eq!(setting(HEADER_TABLE_SIZE).unwrap_or(4096), 4096);
    assert_eq!(setting(MAX_FRAME_SIZE).unwrap_or(16_384), 16_384);
    assert_eq!(setting(ENABLE_PUSH), None, "a server pushes or does not");
}

pub(super) fn cases() -> Vec<Case> {
    let unknown = || frame(0x16, 0, 0, &[0; 8]);
    let whole = minimal("GET", "/");
    let begun = || frame(HEADERS, 0, 1, &minimal("GET", "/"));
    let large: Vec<u8> = (0..5)
        .flat_map(|number| literal(&format!("x-dummy{number}"), &"x".repeat(4000)))
        .collect();
    let kept = [&whole[..], b"\x40\x06x-test\x06h2spec"].concat();
    let too_large = [&kept[..], &large, &large, &large, &large].concat();
    let too_large: Vec<_> = too_large.chunks(FRAME_MAX).map(<[u8]>::to_vec).collect();
    vec![
        case("http2/3.5/1: a preface", [preface()], Preface).silent(),
        case(
            "http2/3.5/2: no preface",
            [b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec()],
            End,
        )
        .silent(),
        case(
            "+3.4: a preface without SETTINGS",
            [PREFACE.to_vec(), get(1)],
            // §3.4 has it end the connection; h2 takes it, and nothing else is affected.
            Answer(1),
        )
        .silent(),
        case(
            "http2/4.1/1: an unknown type",
            [unknown(), ping(OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "http2/4.1/2: undefined flags",
            [frame(PING, 0x16, 0, &OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "http2/4.1/3: the reserved bit",
            [frame(PING, 0x16, 1 << 31, &OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "+4.1: the reserved bit of a stream",
            [head(1 << 31 | 1, END_STREAM, &whole)],
            Answer(1),
        ),
        case(
            "http2/4.2/1: the largest DATA",
            [post(1), data(1, END_STREAM, &[b'x'; FRAME_MAX])],
            Answer(1),
        ),
        case(
            "http2/4.2/2: DATA that is too large",
            [post(1), data(1, END_STREAM, &[b'x'; FRAME_MAX + 1])],
            StreamError(1, &[FRAME_SIZE_ERROR]),
        ),
        case(
            "http2/4.2/3: HEADERS that are too large",
            [get_with(&large)],
            ConnectionError(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "+4.2: an unknown type that is too large",
            [frame(0x16, 0, 0, &[0; FRAME_MAX + 1])],
            ConnectionError(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "http2/4.3/1: a block that ends in a field",
            [head(1, END_STREAM, b"\x40")],
            ConnectionError(WRONG_BLOCK),
        ),
        case(
            "http2/4.3/2: PRIORITY within a block",
            [
                begun(),
                priority(1, 0, 255),
                continuation(1, END_HEADERS, &dummy()),
            ],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/4.3/3: another stream's HEADERS within a block",
            [begun(), get(3), continuation(1, END_HEADERS, &dummy())],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "+4.3: what a refused request has added to the table stays there",
            [head(
                1,
                END_STREAM,
                &[
                    &whole[..],
                    b"\x40\x06x-test\x06h2spec",
                    b"\x00\x0aconnection\x05close",
                ]
                .concat(),
            )],
            Reset(1, PROTOCOL_ERROR),
        )
        .then(
            [head(3, END_STREAM, &[&whole[..], b"\xbe"].concat())],
            Answer(3),
        ),
        case(
            "+4.3: nor is it lost with a head that is too large",
            [
                frame(HEADERS, END_STREAM, 1, &too_large[0]),
                continuation(1, 0, &too_large[1]),
                continuation(1, 0, &too_large[2]),
                continuation(1, 0, &too_large[3]),
                continuation(1, END_HEADERS, &too_large[4]),
            ],
            Refused(1),
        )
        .then(
            [head(3, END_STREAM, &[&whole[..], b"\xbe"].concat())],
            Answer(3),
        ),
    ]
}
