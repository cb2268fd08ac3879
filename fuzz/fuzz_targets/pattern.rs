//! Patterns fit what the definition of their wildcards says. Control characters stand in no path and no pattern.
#![no_main]

fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|run| fits(rest, &text[run..])),
        ([b'?', rest @ ..], [_, after @ ..]) => fits(rest, after),
        ([one, rest @ ..], [byte, after @ ..]) => one == byte && fits(rest, after),
        (pattern, text) => pattern.is_empty() && text.is_empty(),
    }
}
libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    let (pattern, path) = (input.0.as_bytes(), input.1.as_bytes());
    if pattern.len() <= 8 && path.len() <= 16 && !path.iter().any(u8::is_ascii_control) {
        assert_eq!(
            albedo::hatch::path_pattern_matches(input.0, path),
            fits(pattern, path)
        );
    }
});
