//! No bytes make the reader of requests panic, and none that have not come yet change what those before them meant.
#![no_main]

use albedo::hatch::{End, read_requests};

libfuzzer_sys::fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = (usize::from(input.0), input.1);
    let (whole, end) = read_requests(bytes);
    let (part, end_of_part) = read_requests(&bytes[..bytes.len().min(cut)]);
    let refused = end == End::Refused && part.len() == whole.len();
    assert!(refused || end_of_part != End::Refused && part.len() <= whole.len());
    assert!(
        part.iter()
            .zip(&whole)
            .all(|(part, whole)| part.body == whole.body)
    );
});
