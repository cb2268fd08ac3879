//! ALB's wildcards: `*` is any run of bytes, the empty one too, `?` is exactly one; the whole text must fit.
//! Compiled once, matched without allocation and without backtracking beyond the last `*`. Never decodes
//! or normalises: a rule sees the bytes that the target will see.

/// A compiled pattern: literal ends around a middle that starts and ends with a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    prefix: Box<[u8]>,
    /// Empty when the pattern has no wildcard.
    middle: Box<[Token]>,
    suffix: Box<[u8]>,
    case: Case,
}

/// Whether capitals count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Sensitive,
    /// ASCII letters alone are folded.
    Insensitive,
}

/// What a backslash before `*` or `?` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backslash {
    /// Itself.
    Literal,
    /// It takes the wildcard's meaning away (query-string conditions).
    Escapes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    AnyByte,
    AnyRun,
}

impl Pattern {
    pub(crate) fn compile(text: &str, case: Case, backslash: Backslash) -> Self {
        let tokens = tokenize(text.as_bytes(), case, backslash);
        let literals = |token: &&Token| matches!(token, Token::Byte(_));
        let prefix = tokens.iter().take_while(literals).count();
        let suffix = tokens[prefix..].iter().rev().take_while(literals).count();
        let (start, end) = (prefix, tokens.len() - suffix);
        Self {
            prefix: literal(&tokens[..start]),
            middle: tokens[start..end].into(),
            suffix: literal(&tokens[end..]),
            case,
        }
    }

    /// Whether the whole of `text` fits.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let Some((head, rest)) = text.split_at_checked(self.prefix.len()) else {
            return false;
        };
        if !self.case.equal(head, &self.prefix) {
            return false;
        }
        let Some(cut) = rest.len().checked_sub(self.suffix.len()) else {
            return false;
        };
        let (wild, tail) = rest.split_at(cut);
        self.case.equal(tail, &self.suffix) && self.middle_matches(wild)
    }

    /// What every text that fits begins with.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.prefix
    }

    /// What every text that fits ends with.
    pub(super) fn end(&self) -> &[u8] {
        match self.middle.is_empty() {
            true => &self.prefix,
            false => &self.suffix,
        }
    }

    fn middle_matches(&self, text: &[u8]) -> bool {
        let fits = match &*self.middle {
            [] => text.is_empty(),
            [Token::AnyRun] => true,
            middle => glob(middle, text, self.case),
        };
        // ALB user guide, "Condition types for listener rules": control characters take no part in matching, so no
        // wildcard stands for one. Literal bytes of a pattern are never control characters.
        fits && !text.iter().any(u8::is_ascii_control)
    }
}

/// Two pointers and the place of the last `*`: when a byte does not fit, that star swallows one more. Earlier stars
/// never need another try, so the time is at most tokens times bytes.
fn glob(tokens: &[Token], text: &[u8], case: Case) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match tokens.get(token) {
            Some(Token::AnyRun) => {
                star = Some((token + 1, at));
                token += 1;
                continue;
            }
            Some(Token::AnyByte) => {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            Some(Token::Byte(byte)) if *byte == case.fold(text[at]) => {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            Some(Token::Byte(_)) | None => {}
        }
        let Some((after_star, swallowed)) = star else {
            return false;
        };
        star = Some((after_star, swallowed + 1));
        (token, at) = (after_star, swallowed + 1);
    }
    tokens[token..]
        .iter()
        .all(|token| matches!(token, Token::AnyRun))
}

fn tokenize(text: &[u8], case: Case, backslash: Backslash) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let token = match byte {
            b'*' if tokens.last() == Some(&Token::AnyRun) => continue,
            b'*' => Token::AnyRun,
            b'?' => Token::AnyByte,
            b'\\' if backslash == Backslash::Escapes => {
                let escaped = bytes.next_if(|next| matches!(next, b'*' | b'?'));
                Token::Byte(escaped.unwrap_or(byte))
            }
            _ => Token::Byte(case.fold(byte)),
        };
        tokens.push(token);
    }
    tokens
}

fn literal(tokens: &[Token]) -> Box<[u8]> {
    tokens
        .iter()
        .filter_map(|token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::AnyByte | Token::AnyRun => None,
        })
        .collect()
}

impl Case {
    fn fold(self, byte: u8) -> u8 {
        match self {
            Self::Sensitive => byte,
            Self::Insensitive => byte.to_ascii_lowercase(),
        }
    }

    fn equal(self, left: &[u8], right: &[u8]) -> bool {
        match self {
            Self::Sensitive => left == right,
            Self::Insensitive => left.eq_ignore_ascii_case(right),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sensitive(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern, Case::Sensitive, Backslash::Literal).matches(text.as_bytes())
    }

    fn insensitive(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern, Case::Insensitive, Backslash::Literal).matches(text.as_bytes())
    }

    fn escaping(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern, Case::Insensitive, Backslash::Escapes).matches(text.as_bytes())
    }

    #[test]
    fn literal_must_be_the_whole_text() {
        assert!(sensitive("/gone", "/gone"));
        assert!(!sensitive("/gone", "/gone/"));
        assert!(!sensitive("/gone", "/gon"));
        assert!(!sensitive("/gone", "x/gone"));
        assert!(sensitive("", ""));
        assert!(!sensitive("", "/"));
    }

    #[test]
    fn star_is_any_run_across_slashes_and_dots() {
        assert!(sensitive("/api/v2/*", "/api/v2/"));
        assert!(sensitive("/api/v2/*", "/api/v2/a/b.c"));
        assert!(!sensitive("/api/v2/*", "/api/v2"));
        assert!(insensitive("*.example.com", "a.b.example.com"));
        assert!(!insensitive("*.example.com", "example.com"));
        assert!(sensitive("*", ""));
        assert!(sensitive("/*/img/*.png", "/a/b/img/c.png"));
        assert!(!sensitive("/*/img/*.png", "/img/c.png"));
    }

    #[test]
    fn question_mark_is_exactly_one_byte() {
        assert!(sensitive("/v?/x", "/v1/x"));
        assert!(!sensitive("/v?/x", "/v/x"));
        assert!(!sensitive("/v?/x", "/v12/x"));
        assert!(sensitive("?*", "a"));
        assert!(!sensitive("?*", ""));
    }

    #[test]
    fn ends_may_not_share_bytes() {
        assert!(!sensitive("aba*aba", "aba"));
        assert!(!sensitive("aba*aba", "ababa"));
        assert!(sensitive("aba*aba", "abaaba"));
    }

    #[test]
    fn case_counts_only_where_it_should() {
        assert!(!sensitive("/Img", "/img"));
        assert!(insensitive("*.Example.COM", "WWW.example.com"));
        assert!(insensitive("a*Bc*D", "AxxbCyyd"));
    }

    #[test]
    fn escaped_wildcards_stand_for_themselves() {
        assert!(escaping(r"a\*b", "a*b"));
        assert!(!escaping(r"a\*b", "axb"));
        assert!(escaping(r"what\?", "what?"));
        assert!(!escaping(r"what\?", "whatx"));
        assert!(escaping(r"a\b", r"a\b"), "other backslashes are bytes");
        assert!(escaping(r"a\", r"a\"));
        assert!(sensitive(r"a\*", r"a\xyz"), "no escapes in paths");
    }

    #[test]
    fn wildcards_never_stand_for_control_characters() {
        assert!(!sensitive("/a*", "/a\u{1}b"));
        assert!(!sensitive("/a?", "/a\u{7f}"));
        assert!(!insensitive("*", "a\tb"));
        assert!(
            sensitive("/caf*", "/café"),
            "bytes above ASCII are no control characters"
        );
    }

    #[test]
    fn many_stars_against_a_long_text_end_soon() {
        let text = "a".repeat(16 * 1024);
        assert!(!sensitive("*a*a*a*a*a*b*c", &text));
        assert!(sensitive("*a*a*a*a*a*a*", &text));
    }

    /// The definition, with all its backtracking.
    fn reference(pattern: &[u8], text: &[u8], case: Case) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', pattern_rest)), None) => reference(pattern_rest, text, case),
            (Some((b'*', pattern_rest)), Some((_, text_rest))) => {
                reference(pattern_rest, text, case) || reference(pattern, text_rest, case)
            }
            (Some((b'?', pattern_rest)), Some((_, text_rest))) => {
                reference(pattern_rest, text_rest, case)
            }
            (Some((a, pattern_rest)), Some((b, text_rest))) => {
                case.fold(*a) == case.fold(*b) && reference(pattern_rest, text_rest, case)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn matching_is_the_definition(pattern in "[abA/*?]{0,9}", text in "[abAB/*]{0,12}") {
            for case in [Case::Sensitive, Case::Insensitive] {
                let compiled = Pattern::compile(&pattern, case, Backslash::Literal);
                prop_assert_eq!(
                    compiled.matches(text.as_bytes()),
                    reference(pattern.as_bytes(), text.as_bytes(), case)
                );
            }
        }

        #[test]
        fn escaped_text_matches_itself_alone(text in r"[a*?]{0,8}", other in r"[a*?]{0,8}") {
            let escaped = text.replace('*', r"\*").replace('?', r"\?");
            let compiled = Pattern::compile(&escaped, Case::Sensitive, Backslash::Escapes);
            prop_assert_eq!(compiled.matches(other.as_bytes()), text == other);
        }

        #[test]
        fn no_bytes_make_matching_panic(pattern in ".{0,40}", text: Vec<u8>) {
            Pattern::compile(&pattern, Case::Insensitive, Backslash::Escapes).matches(&text);
        }
    }
}
