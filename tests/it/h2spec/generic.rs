//! h2spec's "generic": what any server of HTTP/2 takes.

use super::Must::{Acknowledge, Answer, Data, Farewell, Pong, Preface, Whole};
use super::*;

#[tokio::test]
async fn what_every_server_takes() {
    hold(cases()).await;
}

pub(super) fn cases() -> Vec<Case> {
    let whole = minimal("GET", "/");
    let (begun, rest) = whole.split_at(5);
    let (some, more) = rest.split_at(5);
    let shut = || settings([(INITIAL_WINDOW_SIZE, 0)]);
    let upload = minimal("POST", "/");
    let announced = [&upload[..], &literals([("trailer", "x-test")])].concat();
    let mut cases = vec![
        case("generic/1/1: a preface", [preface()], Preface).silent(),
        case(
            "generic/2/1: PRIORITY on an idle stream",
            [priority(1, 0, 255), ping(OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "generic/2/2: WINDOW_UPDATE on a half-closed stream",
            [shut(), get(1), window_update(1, 1)],
            Data(1, 1),
        ),
        case(
            "generic/2/3: PRIORITY on a half-closed stream",
            [shut(), get(1), priority(1, 0, 255), window_update(1, 1)],
            Data(1, 1),
        ),
        case(
            "generic/2/4: RST_STREAM on a half-closed stream",
            [get(1), reset(1, CANCEL), ping(OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "generic/2/5: PRIORITY on a closed stream",
            [get(1)],
            Whole(1),
        )
        .then([priority(1, 0, 255), ping(OPAQUE)], Pong(OPAQUE)),
        case(
            "generic/3.1/1: DATA",
            [post(1), data(1, END_STREAM, TEST)],
            Answer(1),
        ),
        case(
            "generic/3.1/2: several DATA",
            [post(1), data(1, 0, TEST), data(1, END_STREAM, TEST)],
            Answer(1),
        ),
        case(
            "generic/3.1/3: DATA with padding",
            [post(1), data(1, END_STREAM | PADDED, b"\x05test\0\0\0\0\0")],
            Answer(1),
        ),
        case("generic/3.2/1: HEADERS", [get(1)], Answer(1)),
        case(
            "generic/3.2/2: HEADERS with padding",
            [head(
                1,
                END_STREAM | PADDED,
                &[&[8], &whole[..], &[0; 8]].concat(),
            )],
            Answer(1),
        ),
        case(
            "generic/3.2/3: HEADERS with priority",
            [head(
                1,
                END_STREAM | WITH_PRIORITY,
                &[dependency(0, 255), whole.clone()].concat(),
            )],
            Answer(1),
        ),
        case(
            "generic/3.3/1: PRIORITY 1",
            [priority(1, 0, 0), get(1)],
            Answer(1),
        ),
        case(
            "generic/3.3/2: PRIORITY 256",
            [priority(1, 0, 255), get(1)],
            Answer(1),
        ),
        case(
            "generic/3.3/3: PRIORITY with a dependency",
            [priority(3, 1, 0), get(1)],
            Answer(1),
        ),
        case(
            "generic/3.3/4: PRIORITY that is exclusive",
            [priority(1, 1 << 31, 0), get(1)],
            Answer(1),
        ),
        case(
            "generic/3.3/5: PRIORITY on an idle stream, then a request on a lower one",
            [priority(3, 0, 255), get(1)],
            Answer(1),
        ),
        case(
            "generic/3.4/1: RST_STREAM",
            [head(1, 0, &whole), reset(1, CANCEL), ping(OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "generic/3.5/1: SETTINGS",
            [settings([
                (HEADER_TABLE_SIZE, 4096),
                (ENABLE_PUSH, 1),
                (MAX_CONCURRENT_STREAMS, 100),
                (INITIAL_WINDOW_SIZE, 65_535),
                (MAX_FRAME_SIZE, 16_384),
                (MAX_HEADER_LIST_SIZE, 100),
            ])],
            Acknowledge,
        ),
        case("generic/3.7/1: PING", [ping(OPAQUE)], Pong(OPAQUE)),
        case(
            "generic/3.8/1: GOAWAY",
            [goaway(0, NO_ERROR, b"h2spec")],
            Farewell,
        ),
        case(
            "generic/3.9/1: WINDOW_UPDATE for the connection",
            [window_update(0, 1), ping(OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "generic/3.9/2: WINDOW_UPDATE for a stream",
            [get(1), window_update(1, 1)],
            Answer(1),
        ),
        case(
            "generic/3.10/1: CONTINUATION",
            [
                frame(HEADERS, END_STREAM, 1, begun),
                continuation(1, END_HEADERS, rest),
            ],
            Answer(1),
        ),
        case(
            "generic/3.10/2: several CONTINUATION",
            [
                frame(HEADERS, END_STREAM, 1, begun),
                continuation(1, 0, some),
                continuation(1, END_HEADERS, more),
            ],
            Answer(1),
        ),
        case("generic/4/1: GET", [get(1)], Answer(1)),
        case(
            "generic/4/2: HEAD",
            [head(1, END_STREAM, &minimal("HEAD", "/"))],
            Answer(1),
        ),
        case(
            "generic/4/3: POST",
            [post(1), data(1, END_STREAM, TEST)],
            Answer(1),
        ),
        case(
            "generic/4/4: POST with trailers",
            [
                head(1, 0, &announced),
                data(1, 0, TEST),
                head(1, END_STREAM, &literals([("x-test", "ok")])),
            ],
            Answer(1),
        ),
        case("generic/5/1: an index", [get_with(b"\xba")], Answer(1)),
        case(
            "generic/5/14: a smaller table",
            [head(1, END_STREAM, &[b"\x3f\x61", &whole[..]].concat())],
            Answer(1),
        ),
        case(
            "generic/5/15: a smaller table, then the largest",
            [head(
                1,
                END_STREAM,
                &[b"\x3f\x61\x3f\xe1\x1f", &whole[..]].concat(),
            )],
            Answer(1),
        ),
    ];
    // Of each kind (RFC 7541 §6.2): a name of the table, with a value in Huffman's code, then a name of its own, likewise.
    const NAMES: [&[u8]; 4] = [
        b"\x06h2spec",
        b"\x84\x9c\x48\xac\xa4",
        b"\x06x-test\x06h2spec",
        b"\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4",
    ];
    let kinds = [
        // `user-agent` is entry 58, which four bits have no room for.
        (
            [&b"\x7a"[..], b"\x7a", b"\x40", b"\x40"],
            [
                "generic/5/2: kept, an indexed name",
                "generic/5/3: kept, an indexed name, Huffman",
                "generic/5/4: kept, a new name",
                "generic/5/5: kept, a new name, Huffman",
            ],
        ),
        (
            [b"\x0f\x2b", b"\x0f\x2b", b"\x00", b"\x00"],
            [
                "generic/5/6: not kept, an indexed name",
                "generic/5/7: not kept, an indexed name, Huffman",
                "generic/5/8: not kept, a new name",
                "generic/5/9: not kept, a new name, Huffman",
            ],
        ),
        (
            [b"\x1f\x2b", b"\x1f\x2b", b"\x10", b"\x10"],
            [
                "generic/5/10: never kept, an indexed name",
                "generic/5/11: never kept, an indexed name, Huffman",
                "generic/5/12: never kept, a new name",
                "generic/5/13: never kept, a new name, Huffman",
            ],
        ),
    ];
    for (prefixes, names) in kinds {
        for (number, name) in names.into_iter().enumerate() {
            let field = [prefixes[number], NAMES[number]].concat();
            cases.push(case(name, [get_with(&field)], Answer(1)));
        }
    }
    cases
}
