//! Patterns fit what the definition of their wildcards says.
#![no_main]

fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|run| fits(rest, &text[run..])),
        [one, rest @ ..] => {
            matches!(text, [byte, after @ ..] if (*one == b'?' || one == byte) && fits(rest, after))
        }
    }
}
libfuzzer_sys::fuzz_target!(|input: (&str, &[u8])| {
    let (pattern, path) = (
        &input.0[..input.0.floor_char_boundary(12)],
        &input.1[..input.1.len().min(40)],
    );
    assert_eq!(
        albedo::hatch::path_pattern_matches(pattern, path),
        fits(pattern.as_bytes(), path)
    );
});
