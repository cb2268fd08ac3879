//! A PROXY header ends at one byte, whatever comes behind it, and says what it says when it is written anew.
#![no_main]

use albedo::hatch::{read_proxy_header, write_proxy_headers};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((named, used))) = read_proxy_header(bytes) {
        assert_eq!(read_proxy_header(&bytes[..used]), Ok(Some((named, used))));
        assert_eq!(read_proxy_header(&bytes[..used - 1]), Ok(None));
        for header in write_proxy_headers(named) {
            assert_eq!(read_proxy_header(&header), Ok(Some((named, header.len()))));
        }
    }
});
