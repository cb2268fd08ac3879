//! A chunked body ends at one byte and nowhere else, whatever comes behind it.
#![no_main]

use albedo::hatch::read_chunked;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((body, used)) = read_chunked(bytes) {
        assert!(bytes[..used].ends_with(b"\r\n\r\n") && body.len() < used);
        assert_eq!(read_chunked(&bytes[..used]), Some((body, used)));
        assert_eq!(read_chunked(&bytes[..used - 1]), None);
    }
});
