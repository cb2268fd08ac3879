//! X-Amzn-Trace-Id: what a request's value becomes on its way through (ALB user guide, "Request tracing").
//! Pure: the time and the chance are arguments.

use smallvec::SmallVec;

use crate::headers::{Headers, Name};

/// Longest sum of X-Amzn-Trace-Id values that is carried on, in bytes; ALB's limit is 7 KB.
const SIZE_MAX: usize = 7 * 1024;

const ROOT: &[u8] = b"Root=";
const SELF: &[u8] = b"Self=";

/// Puts the value for the target in place of the client's.
pub(super) fn renew(headers: &mut Headers, now_epoch_seconds: u32, random: [u64; 2]) {
    let ours = id(now_epoch_seconds, random);
    if !headers.has(Name::XAmznTraceId) {
        return headers.append_with(Name::XAmznTraceId, |text| {
            text.extend_from_slice(ROOT);
            text.extend_from_slice(&ours);
        });
    }
    let sent: SmallVec<[&[u8]; 2]> = headers.all(Name::XAmznTraceId).collect();
    let next = next(&sent, &ours);
    drop(sent);
    headers.set(Name::XAmznTraceId, &next);
}

/// The value for the target, made of the client's values in their order.
///
/// Without a trace we begin one (`Root`). Within one we are a new step (`Self`), written first, or in the place of
/// the step before us. Other fields stay as they are.
fn next(values: &[&[u8]], ours: &[u8]) -> Vec<u8> {
    let size: usize = values.iter().map(|value| value.len()).sum();
    let fields: SmallVec<[&[u8]; 8]> = if size > SIZE_MAX {
        SmallVec::new()
    } else {
        values.iter().copied().flat_map(fields).collect()
    };
    let has = |key: &[u8]| fields.iter().any(|field| field.starts_with(key));
    let mut next = Vec::new();
    // Where our step stands: at the front, unless an older step keeps a place for it.
    let mut place_of_step = has(SELF);
    if !place_of_step {
        let key = if has(ROOT) { SELF } else { ROOT };
        push(&mut next, &[key, ours]);
    }
    for field in &fields {
        if !field.starts_with(SELF) {
            push(&mut next, &[field]);
        } else if std::mem::take(&mut place_of_step) {
            push(&mut next, &[SELF, ours]);
        }
    }
    next
}

fn fields(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b';')
        .map(<[u8]>::trim_ascii)
        .filter(|field| !field.is_empty())
}

fn push(next: &mut Vec<u8>, parts: &[&[u8]]) {
    if !next.is_empty() {
        next.push(b';');
    }
    for part in parts {
        next.extend_from_slice(part);
    }
}

/// `1-`, eight digits of time, `-`, 24 digits of chance, all hexadecimal.
fn id(now_epoch_seconds: u32, [high, low]: [u64; 2]) -> [u8; 35] {
    let mut id = *b"1-00000000-000000000000000000000000";
    write_hexadecimal(&mut id[2..10], u64::from(now_epoch_seconds));
    write_hexadecimal(&mut id[11..27], high);
    write_hexadecimal(&mut id[27..35], low);
    id
}

/// Fills `digits` with the low end of `number`.
fn write_hexadecimal(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u32 = 0x6789_1233;
    const RANDOM: [u64; 2] = [0xabcd_ef01_2345_6789, 0xffff_ffff_1234_5678];
    const OURS: &str = "1-67891233-abcdef012345678912345678";

    fn next_of(values: &[&str]) -> String {
        let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
        String::from_utf8(next(&values, &id(NOW, RANDOM))).unwrap()
    }

    #[test]
    fn fields_become_what_alb_makes_of_them() {
        for (values, expected) in [
            (&[][..], format!("Root={OURS}")),
            (&[""], format!("Root={OURS}")),
            (&["Root=1-a-b"], format!("Self={OURS};Root=1-a-b")),
            (
                &["Root=1-a-b;CalledFrom=app"],
                format!("Self={OURS};Root=1-a-b;CalledFrom=app"),
            ),
            (
                &["Self=1-x-y;Root=1-a-b"],
                format!("Self={OURS};Root=1-a-b"),
            ),
            (
                &["Root=1-a-b; Self=1-x-y; Q=1"],
                format!("Root=1-a-b;Self={OURS};Q=1"),
            ),
            (&["Self=1;Self=2;Root=3"], format!("Self={OURS};Root=3")),
            (&["CalledFrom=app"], format!("Root={OURS};CalledFrom=app")),
            (
                &["Root=1-a-b", "Q=1"],
                format!("Self={OURS};Root=1-a-b;Q=1"),
            ),
        ] {
            assert_eq!(next_of(values), expected, "{values:?}");
        }
    }

    #[test]
    fn more_than_7_kib_is_cut_to_a_root() {
        let long = format!("Root=1-a-b;Q={}", "x".repeat(SIZE_MAX));
        assert_eq!(next_of(&[&long]), format!("Root={OURS}"));
        let half = "x".repeat(SIZE_MAX / 2 + 1);
        assert_eq!(next_of(&[&half, &half]), format!("Root={OURS}"));
    }

    proptest! {
        #[test]
        fn our_id_is_in_it_once_whatever_came(
            values in proptest::collection::vec("[RSotelf=;a ]{0,20}|Root=1;|Self=2;", 0..4),
        ) {
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            prop_assert_eq!(next_of(&values).matches(OURS).count(), 1);
        }
    }
}
