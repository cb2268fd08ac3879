//! No bytes of a target make the reader of responses panic; an answer to HEAD has no body.
#![no_main]

use albedo::hatch::read_response;
use http::Method;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((body, used)) = read_response(bytes, &Method::GET) {
        assert!(body.len() < used && used <= bytes.len());
    }
    assert!(read_response(bytes, &Method::HEAD).is_none_or(|(body, _)| body.is_empty()));
});
