//! RFC 7541: what a block of headers may hold.

use super::Must::{Answer, ConnectionError};
use super::*;

#[tokio::test]
async fn what_a_block_may_hold() {
    hold(cases()).await;
}

pub(super) fn cases() -> Vec<Case> {
    let whole = minimal("GET", "/");
    let broken = |name, field: &[u8]| case(name, [get_with(field)], ConnectionError(WRONG_BLOCK));
    let resized = |update: &[u8]| head(1, END_STREAM, &[update, &whole].concat());
    vec![
        broken("hpack/2.3.3/1: an index of nothing", b"\xc6"),
        broken("hpack/2.3.3/2: a name's index of nothing", b"\x7f\x07\x00"),
        broken("+2.3.3: the first index of an empty table", b"\xbe"),
        case(
            "+2.3.3: the first index of a table that is not empty",
            [get_with(b"\x40\x06x-test\x06h2spec\xbe")],
            Answer(1),
        ),
        broken("hpack/4.2/1: a change of size at the end", b"\x21"),
        broken(
            "+4.2: a change of size in the midst",
            b"\x00\x06x-test\x02ok\x21\x00\x06x-test\x02ok",
        ),
        case(
            "+4.3: a smaller table forgets",
            [
                get_with(b"\x40\x06x-test\x06h2spec"),
                head(3, END_STREAM, &[&b"\x20"[..], &whole, b"\xbe"].concat()),
            ],
            ConnectionError(WRONG_BLOCK),
        ),
        case(
            "+4.4: what is larger than the table empties it",
            [head(
                1,
                END_STREAM,
                // 100 bytes have no room for `x-test: ` and 80 more.
                &[
                    &b"\x3f\x45"[..],
                    &whole,
                    b"\x40\x06x-test\x50",
                    &[b'x'; 80],
                    b"\xbe",
                ]
                .concat(),
            )],
            ConnectionError(WRONG_BLOCK),
        ),
        broken(
            "+5.1: a length without end",
            b"\x00\x06x-test\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ),
        broken(
            "+5.1: an index without end",
            b"\xff\xff\xff\xff\xff\xff\xff\x7f",
        ),
        broken(
            "+5.2: a string longer than its block",
            b"\x00\x06x-test\x06h2",
        ),
        broken(
            "hpack/5.2/1: padding longer than 7 bits",
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff",
        ),
        broken(
            "hpack/5.2/2: padding of zeros",
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90",
        ),
        broken(
            "hpack/5.2/3: the end of a string within it",
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f",
        ),
        broken("hpack/6.1/1: index 0", b"\x80"),
        case(
            "hpack/6.3/1: a table larger than was agreed",
            [resized(b"\x3f\xe2\x1f")],
            ConnectionError(WRONG_BLOCK),
        ),
        case(
            "+6.3: the largest table that was agreed",
            [resized(b"\x3f\xe1\x1f")],
            Answer(1),
        ),
    ]
}
