//! A response's body says the same however it comes in, and ends at the same byte.
#![no_main]

use albedo::hatch::{read_response, read_response_by};
use http::Method;

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (piece_max, bytes) = (usize::from(input.0).max(1), input.1);
    let at_once = read_response(bytes, &Method::GET);
    assert_eq!(read_response_by(bytes, &Method::GET, piece_max), at_once);
});
