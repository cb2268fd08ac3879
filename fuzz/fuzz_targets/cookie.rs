//! A cookie is found where it stands, and more than one is seen as such, whatever else a client sends.
#![no_main]

use albedo::hatch::{Cookie, find_cookie};

libfuzzer_sys::fuzz_target!(|header: &[u8]| {
    if !header.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        let now = find_cookie(&[header, b"; a=1"].concat(), "a");
        match find_cookie(header, "a") {
            Cookie::Nothing => assert_eq!(now, Cookie::One(b"1".to_vec())),
            Cookie::One(_) | Cookie::Several => assert_eq!(now, Cookie::Several),
        }
    }
});
