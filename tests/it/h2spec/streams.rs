//! RFC 9113 §5: states of streams, their numbers, errors.

use super::Must::{Answer, ConnectionError, Pong, StreamError, Whole};
use super::*;

#[tokio::test]
async fn states_of_streams_and_errors() {
    hold(cases()).await;
}

pub(super) fn cases() -> Vec<Case> {
    let begun = || head(1, 0, &minimal("GET", "/"));
    let more = || continuation(1, END_HEADERS, &dummy());
    let mut all = vec![
        case(
            "http2/5.1/1: idle: DATA",
            [data(1, END_STREAM, TEST)],
            StreamError(1, NOT_OPEN),
        ),
        case(
            "http2/5.1/2: idle: RST_STREAM",
            [reset(1, CANCEL)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/5.1/3: idle: WINDOW_UPDATE",
            [window_update(1, 100)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/5.1/4: idle: CONTINUATION",
            [more()],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/5.1/5: half-closed: DATA",
            [get(1), data(1, END_STREAM, TEST)],
            StreamError(1, NOT_OPEN),
        ),
        case(
            "http2/5.1/6: half-closed: HEADERS",
            [get(1), get(1)],
            StreamError(1, NOT_OPEN),
        ),
        case(
            "http2/5.1/7: half-closed: CONTINUATION",
            [get(1), more()],
            StreamError(1, NOT_OPEN),
        ),
        case(
            "http2/5.1/8: reset: DATA",
            [begun(), reset(1, CANCEL), data(1, END_STREAM, TEST)],
            StreamError(1, NOT_OPEN),
        ),
        case(
            "http2/5.1/9: reset: HEADERS",
            [begun(), reset(1, CANCEL), get(1)],
            StreamError(1, NOT_OPEN),
        ),
        case(
            "http2/5.1/10: reset: CONTINUATION",
            [begun(), reset(1, CANCEL), more()],
            StreamError(1, NOT_OPEN),
        ),
        case("http2/5.1/11: closed: DATA", [get(1)], Whole(1))
            .then([data(1, END_STREAM, TEST)], StreamError(1, NOT_OPEN)),
        case("http2/5.1/12: closed: HEADERS", [get(1)], Whole(1))
            .then([get(1)], ConnectionError(NOT_OPEN)),
        case("http2/5.1/13: closed: CONTINUATION", [get(1)], Whole(1))
            .then([more()], ConnectionError(NOT_OPEN)),
        case(
            "+5.1: closed: what may have been on its way",
            [get(1)],
            Whole(1),
        )
        .then(
            [window_update(1, 1), reset(1, CANCEL), ping(OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "+5.1: closed by the use of a later one: DATA",
            [get(5), data(3, END_STREAM, TEST)],
            StreamError(3, NOT_OPEN),
        ),
        case(
            "http2/5.1.1/1: an even number",
            [get(2)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/5.1.1/2: a smaller number",
            [get(5), get(3)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "+5.1.1: numbers may be left out",
            [get(1), get(99)],
            Answer(99),
        ),
        case(
            "+5.1.1: the largest number, and no more after it",
            [get(WINDOW_MAX)],
            Whole(WINDOW_MAX),
        )
        .then([get(1)], ConnectionError(NOT_OPEN)),
        case(
            "http2/5.3.1/1: HEADERS that depend on themselves",
            [head(
                1,
                END_STREAM | WITH_PRIORITY,
                &[dependency(1, 255), minimal("GET", "/")].concat(),
            )],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "http2/5.3.1/2: PRIORITY that depends on itself",
            [priority(1, 1, 255)],
            StreamError(1, &[PROTOCOL_ERROR]),
        ),
        case(
            "http2/5.4.1/1: after an error, the end",
            [frame(PING, 0, 3, &OPAQUE)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/5.4.1/2: before the end, GOAWAY",
            [frame(PING, 0, 3, &OPAQUE)],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/5.5/1: an unknown frame",
            [frame(0x16, 0, 0, &[0; 8]), ping(OPAQUE)],
            Pong(OPAQUE),
        ),
        case(
            "http2/5.5/2: an unknown frame within a block",
            [
                frame(HEADERS, END_STREAM, 1, &minimal("GET", "/")),
                frame(0x16, 0, 0, &[0; 8]),
            ],
            ConnectionError(&[PROTOCOL_ERROR]),
        ),
        case(
            "+5.5: an unknown frame on a stream",
            [
                post(1),
                frame(0x16, 0xff, 1, &[0; 8]),
                data(1, END_STREAM, TEST),
            ],
            Answer(1),
        ),
    ];
    let shut = settings([(INITIAL_WINDOW_SIZE, 0)]);
    let many: Vec<u8> = (0..=128).flat_map(|number| get(2 * number + 1)).collect();
    all.push(case(
        "http2/5.1.2/1: one stream too many",
        [shut, many],
        StreamError(257, &[REFUSED_STREAM]),
    ));
    all
}
