//! No cookie makes the opener panic or opens without our seal, and what is read behind a seal is what was written.
#![no_main]

use albedo::hatch::{opens_stickiness_cookie, reread_stays};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert!(!opens_stickiness_cookie(bytes));
    if let Some(again) = reread_stays(bytes) {
        assert_eq!(again, bytes);
    }
});
