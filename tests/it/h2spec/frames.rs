//! RFC 9113 §6: each type of frame.

use super::Must::{Acknowledge, Answer, ConnectionError, Data, Pong, Reset, StreamError, Whole};
use super::*;

#[tokio::test]
async fn each_type_of_frame() {
    hold(cases()).await;
}

pub(super) fn cases() -> Vec<Case> {
    [
        messages(),
        resets_and_priorities(),
        settings_and_pings(),
        windows(),
        blocks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// §6.1, §6.2.
fn messages() -> Vec<Case> {
    let whole = minimal("GET", "/");
    let begun = || frame(HEADERS, 0, 1, &minimal("GET", "/"));
    let padded = [&[whole.len() as u8 + 2], &whole[..]].concat();
    let announced = [
        &minimal("POST", "/")[..],
        &literals([("content-length", "4")]),
    ]
    .concat();
    vec![
        case(
            "http2/6.1/1: DATA on stream 0",
            [data(0, END_STREAM, TEST)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/6.1/2: DATA on a stream that is not open",
            [get(1), data(1, END_STREAM, TEST)],
            StreamError(1, NOT_OPEN),
        ),
        case(
            "http2/6.1/3: more padding than DATA",
            [
                head(1, 0, &announced),
                data(1, END_STREAM | PADDED, b"\x06Test"),
            ],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "+6.1: DATA with nothing but padding",
            [
                head(1, 0, &announced),
                data(1, PADDED, b"\x04\0\0\0\0"),
                data(1, END_STREAM | PADDED, b"\0test"),
            ],
            Answer(1),
        ),
        case(
            "+6.1: padded DATA without a length of it",
            [post(1), data(1, END_STREAM | PADDED, b"")],
            ConnectionError(WRONG_SIZE),
        ),
        case(
            "http2/6.2/1: PRIORITY within a block",
            [
                begun(),
                priority(1, 0, 255),
                continuation(1, END_HEADERS, &dummy()),
            ],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/6.2/2: another stream's HEADERS within a block",
            [begun(), get(3), continuation(1, END_HEADERS, &dummy())],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/6.2/3: HEADERS on stream 0",
            [get(0)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/6.2/4: more padding than HEADERS",
            [head(1, END_STREAM | PADDED, &padded)],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "+6.2: HEADERS too short for their priority",
            [head(1, END_STREAM | WITH_PRIORITY, &[0; 4])],
            ConnectionError(WRONG_SIZE),
        ),
    ]
}

/// §6.3, §6.4.
fn resets_and_priorities() -> Vec<Case> {
    vec![
        case(
            "http2/6.3/1: PRIORITY on stream 0",
            [priority(0, 0, 255)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/6.3/2: PRIORITY of 4 bytes",
            [get(1), frame(PRIORITY, 0, 1, b"\x80\0\0\x01")],
            StreamError(1, WRONG_SIZE),
        ),
        case(
            "http2/6.4/1: RST_STREAM on stream 0",
            [reset(0, CANCEL)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/6.4/2: RST_STREAM on an idle stream",
            [reset(1, CANCEL)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/6.4/3: RST_STREAM of 3 bytes",
            [get(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            StreamError(1, WRONG_SIZE),
        ),
        case(
            "+6.4: RST_STREAM of 5 bytes",
            [get(1), frame(RST_STREAM, 0, 1, &[0; 5])],
            ConnectionError(WRONG_SIZE),
        ),
        case(
            "+6.4: one RST_STREAM after another",
            [post(1), reset(1, CANCEL), reset(1, CANCEL), get(3)],
            Answer(3),
        ),
    ]
}

/// §6.5 to §6.8.
fn settings_and_pings() -> Vec<Case> {
    let setting = |id, value, must, name| case(name, [settings([(id, value)])], must);
    let protocol = ConnectionError(&[PROTOCOL_ERROR]);
    let flow = ConnectionError(WRONG_WINDOW);
    let size = ConnectionError(WRONG_SIZE);
    vec![
        case(
            "http2/6.5/1: an acknowledgement with a payload",
            [frame(SETTINGS, ACK, 0, &[0])],
            size,
        ),
        case(
            "http2/6.5/2: SETTINGS on a stream",
            [frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 0x64])],
            protocol,
        ),
        case(
            "http2/6.5/3: SETTINGS of 3 bytes",
            [frame(SETTINGS, 0, 0, &[0, 3, 0])],
            ConnectionError(WRONG_SIZE),
        ),
        setting(ENABLE_PUSH, 2, protocol, "http2/6.5.2/1: ENABLE_PUSH"),
        setting(
            INITIAL_WINDOW_SIZE,
            WINDOW_MAX + 1,
            flow,
            "http2/6.5.2/2: INITIAL_WINDOW_SIZE",
        ),
        setting(
            MAX_FRAME_SIZE,
            16_383,
            protocol,
            "http2/6.5.2/3: MAX_FRAME_SIZE that is too small",
        ),
        setting(
            MAX_FRAME_SIZE,
            1 << 24,
            protocol,
            "http2/6.5.2/4: MAX_FRAME_SIZE that is too large",
        ),
        case(
            "http2/6.5.2/5: an unknown setting",
            [settings([(0xff, 1)]), ping(OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "http2/6.5.3/1: settings hold in their order",
            [settings([
                (INITIAL_WINDOW_SIZE, 100),
                (INITIAL_WINDOW_SIZE, 1),
            ])],
            Acknowledge,
        )
        .then([get(1)], Data(1, 1)),
        case(
            "http2/6.5.3/2: SETTINGS are acknowledged",
            [settings([(ENABLE_PUSH, 0)])],
            Acknowledge,
        ),
        case(
            "+6.5.2: a table of no size",
            [settings([(HEADER_TABLE_SIZE, 0)])],
            Acknowledge,
        )
        .then([get(1), get(3)], Answer(3)),
        case("http2/6.7/1: PING", [ping(OPAQUE)], Pong(OPAQUE)),
        case(
            "http2/6.7/2: a PING's answer",
            [frame(PING, ACK, 0, b"invalid\0"), ping(OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "http2/6.7/3: PING on a stream",
            [frame(PING, 0, 1, &OPAQUE)],
            protocol,
        ),
        case(
            "http2/6.7/4: PING of 6 bytes",
            [frame(PING, 0, 0, &[0; 6])],
            size,
        ),
        case(
            "http2/6.8/1: GOAWAY on a stream",
            [goaway(1, NO_ERROR, b"")],
            protocol,
        ),
        case(
            "+6.8: GOAWAY of 7 bytes",
            [frame(GOAWAY, 0, 0, &[0; 7])],
            ConnectionError(WRONG_SIZE),
        ),
        case(
            "+6.8: what was asked before GOAWAY is answered",
            [post(1), goaway(0, NO_ERROR, b""), data(1, END_STREAM, TEST)],
            Whole(1),
        ),
    ]
}

/// §6.9.
fn windows() -> Vec<Case> {
    let initially = |size| settings([(INITIAL_WINDOW_SIZE, size)]);
    vec![
        case(
            "http2/6.9/1: an increment of 0",
            [window_update(0, 0)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/6.9/2: an increment of 0 on a stream",
            [post(1), window_update(1, 0)],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "http2/6.9/3: WINDOW_UPDATE of 3 bytes",
            [frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])],
            ConnectionError(WRONG_SIZE),
        ),
        case("http2/6.9.1/1: a window of 1", [initially(1)], Acknowledge)
            .then([get(1)], Data(1, 1)),
        case(
            "http2/6.9.1/2: a window too large",
            [window_update(0, WINDOW_MAX), window_update(0, WINDOW_MAX)],
            ConnectionError(&[FLOW_CONTROL_ERROR]),
        ),
        case(
            "http2/6.9.1/3: a window too large on a stream",
            [
                post(1),
                window_update(1, WINDOW_MAX),
                window_update(1, WINDOW_MAX),
            ],
            Reset(1, FLOW_CONTROL_ERROR),
        ),
        case(
            "+6.9.1: an answer without bytes needs no window",
            [initially(0), head(1, END_STREAM, &minimal("HEAD", "/"))],
            Whole(1),
        ),
        case(
            "http2/6.9.2/1: a window that opens",
            [initially(0)],
            Acknowledge,
        )
        .then([get(1), initially(1)], Data(1, 1)),
        case(
            "http2/6.9.2/2: a window below 0",
            [initially(3)],
            Acknowledge,
        )
        .then([get(1)], Data(1, 3))
        .then([initially(2)], Acknowledge)
        .then([window_update(1, 2)], Data(1, 1)),
        case(
            "http2/6.9.2/3: a first window too large",
            [initially(WINDOW_MAX + 1)],
            ConnectionError(WRONG_WINDOW),
        ),
        case(
            "+6.9.2: a change that makes a stream's window too large",
            [
                initially(0),
                post(1),
                window_update(1, WINDOW_MAX),
                initially(1),
            ],
            ConnectionError(&[FLOW_CONTROL_ERROR]),
        ),
        case(
            "+6.9.2: settings leave the connection's window alone",
            [initially(0), window_update(0, 1), initially(5), get(1)],
            Data(1, 5),
        ),
    ]
}

/// §6.10.
fn blocks() -> Vec<Case> {
    let begun = |flags| frame(HEADERS, flags, 1, &minimal("GET", "/"));
    let more = |flags| continuation(1, flags, &dummy());
    let protocol = ConnectionError(&[PROTOCOL_ERROR]);
    vec![
        case(
            "http2/6.10/1: several CONTINUATION",
            [begun(END_STREAM), more(0), more(END_HEADERS)],
            Answer(1),
        ),
        case(
            "http2/6.10/2: another frame than CONTINUATION",
            [begun(0), more(0), data(1, END_STREAM, TEST)],
            protocol,
        ),
        case(
            "http2/6.10/3: CONTINUATION on stream 0",
            [begun(END_STREAM), continuation(0, END_HEADERS, &dummy())],
            protocol,
        ),
        case(
            "http2/6.10/4: CONTINUATION after the end of HEADERS",
            [get(1), more(END_HEADERS)],
            protocol,
        ),
        case(
            "http2/6.10/5: CONTINUATION after the end of a block",
            [begun(END_STREAM), more(END_HEADERS), more(END_HEADERS)],
            protocol,
        ),
        case(
            "http2/6.10/6: CONTINUATION after DATA",
            [
                begun(0),
                data(1, END_STREAM, TEST),
                more(0),
                continuation(0, END_HEADERS, &dummy()),
            ],
            protocol,
        ),
        case(
            "+6.10: CONTINUATION without bytes",
            [
                begun(END_STREAM),
                continuation(1, 0, b""),
                more(END_HEADERS),
            ],
            Answer(1),
        ),
    ]
}
