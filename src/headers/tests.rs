use proptest::prelude::*;

use super::*;

/// Headers of a head that consists of these lines; each is `name:value` with the space as given.
fn of_lines(lines: &[&str]) -> Headers {
    let head: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let mut fields = Fields::new();
    let mut at = 0;
    for line in lines {
        let colon = line.find(':').unwrap();
        let value = line[colon + 1..].trim();
        let value_at = at + line.len() - line[colon + 1..].trim_start().len();
        fields.note(
            head.as_bytes(),
            at..at + colon,
            value_at..value_at + value.len(),
        );
        at += line.len() + 2;
    }
    fields.of_head(head.as_bytes(), false)
}

fn written(headers: &Headers, except: Names) -> String {
    let mut out = Vec::new();
    headers.write(&mut out, except);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_came_goes_as_it_came() {
    let headers = of_lines(&["hOST: a", "X-Some: one", "ACCEPT: */*", "x-some: two"]);
    let text = "hOST: a\r\nX-Some: one\r\nACCEPT: */*\r\nx-some: two\r\n";
    assert_eq!(written(&headers, Names::NONE), text);
    assert_eq!(headers.lines("x-some"), ["one", "two"]);
    assert_eq!(headers.get(Name::Host), Some(&b"a"[..]));
}

#[test]
fn odd_space_is_made_even() {
    let headers = of_lines(&["A:b", "C:  d", "E: f  ", "G: h"]);
    let text = "A: b\r\nC: d\r\nE: f\r\nG: h\r\n";
    assert_eq!(written(&headers, Names::NONE), text);
}

#[test]
fn what_is_removed_or_excepted_is_not_written() {
    let mut headers = of_lines(&["Host: a", "Te: b", "X: c", "Content-Length: 5", "Y: d"]);
    headers.remove(Name::Te);
    headers.append(Name::XForwardedProto, b"https");
    headers.remove_where(|name| name == b"Y");
    let framing = Names::of(&[Name::ContentLength]);
    let text = "Host: a\r\nX: c\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(written(&headers, framing), text);
    assert!(!headers.has(Name::Te) && headers.has(Name::ContentLength));
}

#[test]
fn to_set_is_to_replace() {
    let mut headers = of_lines(&["host: a", "X: c", "HOST: b"]);
    headers.set(Name::Host, b"d");
    assert_eq!(written(&headers, Names::NONE), "X: c\r\nHost: d\r\n");
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "the end of a line"))]
fn a_value_cannot_end_its_line() {
    let mut headers = Headers::default();
    headers.append(Name::Location, b"/\r\nSet-Cookie: a=b");
    assert_eq!(headers.len(), 0);
}

#[test]
fn spans_are_kept_beside_headers() {
    let mut headers = of_lines(&["Host: a.example:80"]);
    let host = headers.find(Name::Host).unwrap();
    let kept = headers.keep(b"/path");
    headers.remove(Name::Host);
    headers.append(Name::Host, b"other");
    assert_eq!(headers.text(host), b"a.example:80");
    assert_eq!(headers.text(host.slice(2..9)), b"example");
    assert_eq!(headers.text(kept), b"/path");
    assert_eq!(headers.text(Span::default()), b"");
    assert_eq!(written(&headers, Names::NONE), "Host: other\r\n");
}

#[test]
fn values_are_not_shown() {
    let headers = Headers::for_test(&[("Cookie", "secret")]);
    assert_eq!(format!("{headers:?}"), "{Cookie: 6}");
}

#[test]
fn empty_headers_hold_nothing() {
    let mut headers = Headers::default();
    headers.remove(Name::Host);
    headers.remove_where(|_| true);
    assert_eq!((headers.len(), headers.get(Name::Host)), (0, None));
    assert_eq!(written(&headers, Names::NONE), "");
    assert_eq!(size_of::<Headers>(), size_of::<usize>());
}

/// One of the things that are done to headers.
#[derive(Clone, Debug)]
enum Step {
    Append(Name, String),
    AppendNamed(String, String),
    Set(Name, String),
    Remove(Name),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || prop_oneof![Just(Name::Host), Just(Name::Cookie), Just(Name::Te)];
    let value = || "[a-z ]{0,8}".prop_map(|value| value.trim().to_owned());
    prop_oneof![
        (name(), value()).prop_map(|(name, value)| Step::Append(name, value)),
        ("(host|TE|x-[ab]|Cookie)", value())
            .prop_map(|(name, value)| Step::AppendNamed(name, value)),
        (name(), value()).prop_map(|(name, value)| Step::Set(name, value)),
        name().prop_map(Step::Remove),
    ]
}

proptest! {
    #[test]
    fn they_are_a_list_of_pairs(
        lines in proptest::collection::vec("[A-Za-z]{1,6}: ?[a-z]{0,5} ?", 0..5),
        steps in proptest::collection::vec(step(), 0..8),
    ) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut headers = of_lines(&lines);
        let mut pairs: Vec<(String, String)> = lines
            .iter()
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let is = |name: Name| move |pair: &(String, String)| !pair.0.eq_ignore_ascii_case(name.as_str());
        for step in steps {
            match step {
                Step::Append(name, value) => {
                    headers.append(name, value.as_bytes());
                    pairs.push((name.as_str().to_owned(), value));
                }
                Step::AppendNamed(name, value) => {
                    headers.append_named(name.as_bytes(), value.as_bytes());
                    pairs.push((name, value));
                }
                Step::Set(name, value) => {
                    headers.set(name, value.as_bytes());
                    pairs.retain(is(name));
                    pairs.push((name.as_str().to_owned(), value));
                }
                Step::Remove(name) => {
                    headers.remove(name);
                    pairs.retain(is(name));
                }
            }
        }
        let expected: String = pairs.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        prop_assert_eq!(written(&headers, Names::NONE), expected);
        for name in [Name::Host, Name::Cookie, Name::Te] {
            let values: Vec<_> = pairs.iter().filter(|pair| !is(name)(pair)).map(|pair| pair.1.as_bytes()).collect();
            prop_assert_eq!(headers.has(name), !values.is_empty());
            prop_assert_eq!(headers.all(name).collect::<Vec<_>>(), values);
        }
    }
}
