//! No bytes make the reader of requests panic, and none that have not come yet change what those before them meant.
#![no_main]

use albedo::hatch::{End, read_requests};

libfuzzer_sys::fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let (whole, end) = read_requests(bytes);
    let (part, end_of_part) = read_requests(&bytes[..bytes.len().min(cut.into())]);
    assert!(part.len() <= whole.len());
    assert!(
        part.iter()
            .zip(&whole)
            .all(|(part, whole)| part.target == whole.target && part.body == whole.body)
    );
    assert!(end_of_part != End::Refused || end == End::Refused && part.len() == whole.len());
});
