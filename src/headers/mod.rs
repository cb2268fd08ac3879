//! The headers of a message as they travel: their text in one piece, as it came, and where each of them stands in it.
//! Spelling, order and what nobody looks at stay as they are without anyone's care. Never knows what a header means.

mod map;
mod name;
mod spare;

pub(crate) use name::{Name, Names};

use std::fmt;
use std::ops::Range;

/// Headers in order. Empty they hold no memory, and what they held serves the worker's next message.
#[derive(Default)]
pub(crate) struct Headers(Option<Box<Block>>);

/// What a message's headers are kept in.
#[derive(Default)]
struct Block {
    /// The head as it came, and behind it what was added.
    text: Vec<u8>,
    fields: Vec<Field>,
    /// Which of the known names are there.
    names: Names,
    /// Whether it is known that all names are of letters, digits and hyphens alone.
    are_plain: bool,
}

/// One header: where in the text.
#[derive(Clone, Copy, Debug)]
struct Field {
    at: u32,
    value_at: u32,
    value_len: u32,
    name_len: u16,
    name: Option<Name>,
    layout: Layout,
}

/// How a header lies in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `Name: value`, then CRLF: it can be sent as it lies there.
    Line,
    /// With other space around its value.
    Loose,
}

/// A piece of a head that is no header, such as the request target. Means something only beside the headers it is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    at: u32,
    len: u32,
}

impl Span {
    /// A range of the head's bytes.
    pub(crate) fn of(piece: Range<usize>) -> Self {
        Self {
            at: piece.start as u32,
            len: piece.len() as u32,
        }
    }

    /// A piece of this span.
    pub(crate) fn slice(self, piece: Range<usize>) -> Self {
        let (start, end) = (piece.start as u32, piece.end as u32);
        debug_assert!(start <= end && end <= self.len);
        Self {
            at: self.at + start,
            len: end - start,
        }
    }
}

/// The fields of a head whose end has not been found yet.
pub(crate) struct Fields(Headers);

impl Fields {
    pub(crate) fn new() -> Self {
        Self(Headers(Some(spare::take())))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Notes that a header stands in these bytes, behind those before it.
    pub(crate) fn note(&mut self, bytes: &[u8], name: Range<usize>, value: Range<usize>) {
        let is_line = value.start == name.end + 2
            && bytes[name.end..value.start] == *b": "
            && bytes[value.end..].starts_with(b"\r\n");
        self.0.block().push(Field {
            at: name.start as u32,
            value_at: value.start as u32,
            value_len: value.len() as u32,
            name_len: name.len() as u16,
            name: Name::find(&bytes[name]),
            layout: if is_line { Layout::Line } else { Layout::Loose },
        });
    }

    /// The headers of this head, in which all of them stand: copies its bytes, once. The caller bounds its length; 4 GiB
    /// is the end. `are_plain`: whether all names are of letters, digits and hyphens alone.
    pub(crate) fn of_head(mut self, head: &[u8], are_plain: bool) -> Headers {
        let block = self.0.block();
        block.are_plain = are_plain;
        let text = &mut block.text;
        text.reserve(head.len() + ROOM_FOR_OURS);
        text.extend_from_slice(head);
        self.0
    }
}

impl Headers {
    /// Keeps some text beside the headers.
    pub(crate) fn keep(&mut self, text: &[u8]) -> Span {
        let kept = &mut self.block().text;
        let at = kept.len() as u32;
        kept.extend_from_slice(text);
        Span {
            at,
            len: text.len() as u32,
        }
    }

    /// Gives back memory that is at hand for more, for texts that are kept long.
    pub(crate) fn shrink(&mut self) {
        if let Some(block) = &mut self.0 {
            block.text.shrink_to_fit();
            block.fields.shrink_to_fit();
        }
    }

    /// What `span` covers.
    pub(crate) fn text(&self, span: Span) -> &[u8] {
        let text = self.0.as_deref().map_or(&[][..], |block| &block.text);
        &text[span.at as usize..][..span.len as usize]
    }

    /// Whether there is a header of this name.
    pub(crate) fn has(&self, name: Name) -> bool {
        self.0.as_deref().is_some_and(|block| block.names.has(name))
    }

    /// Whether there is a header of any of these names.
    pub(crate) fn has_any(&self, names: Names) -> bool {
        let block = self.0.as_deref();
        block.is_some_and(|block| block.names.meets(names))
    }

    /// The first value under this name.
    pub(crate) fn get(&self, name: Name) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Where the first value under this name stands.
    pub(crate) fn find(&self, name: Name) -> Option<Span> {
        let block = self.0.as_deref()?;
        let field = block.fields.iter().find(|field| field.name == Some(name))?;
        Some(Span {
            at: field.value_at,
            len: field.value_len,
        })
    }

    /// Every value under this name.
    pub(crate) fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let (text, fields) = match self.0.as_deref() {
            Some(block) if block.names.has(name) => (&*block.text, &*block.fields),
            _ => (&[][..], &[][..]),
        };
        let fields = fields.iter().filter(move |field| field.name == Some(name));
        fields.map(|field| field.value(text))
    }

    /// Every value under a name that may be any, in whatever case.
    pub(crate) fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let named = move |(candidate, _): &(&[u8], _)| candidate.eq_ignore_ascii_case(name);
        self.iter().filter(named).map(|(_, value)| value)
    }

    /// Names and values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (text, fields) = match self.0.as_deref() {
            Some(block) => (&*block.text, &*block.fields),
            None => (&[][..], &[][..]),
        };
        fields
            .iter()
            .map(|field| (field.name(text), field.value(text)))
    }

    /// Whether a name that is none of the known ones is such; those of fewer than `length_min` bytes are not looked at.
    pub(crate) fn any_unknown(&self, length_min: u16, is_such: impl Fn(&[u8]) -> bool) -> bool {
        let Some(block) = self.0.as_deref() else {
            return false;
        };
        block.fields.iter().any(|field| {
            field.name_len >= length_min && field.name.is_none() && is_such(field.name(&block.text))
        })
    }

    /// Whether it is known, without looking at any, that all names are of letters, digits and hyphens alone.
    pub(crate) fn are_plain(&self) -> bool {
        self.0.as_deref().is_none_or(|block| block.are_plain)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.as_deref().map_or(0, |block| block.fields.len())
    }

    /// Adds a header behind all others. `value` must hold no line ends; one that does is left out, since it would be
    /// read as headers that nobody set.
    pub(crate) fn append(&mut self, name: Name, value: &[u8]) {
        self.append_with(name, |text| text.extend_from_slice(value));
    }

    /// The same, for a value that `write` appends to the text it is given.
    pub(crate) fn append_with(&mut self, name: Name, write: impl FnOnce(&mut Vec<u8>)) {
        self.block()
            .append(name.as_str().as_bytes(), Some(name), write);
    }

    /// Adds a header of any name, which must be a token.
    pub(crate) fn append_named(&mut self, name: &[u8], value: &[u8]) {
        self.block().append(name, Name::find(name), |text| {
            text.extend_from_slice(value);
        });
    }

    /// In place of whatever was said under this name.
    pub(crate) fn set(&mut self, name: Name, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    /// Removes every header of this name.
    pub(crate) fn remove(&mut self, name: Name) {
        self.remove_all(Names::of(&[name]));
    }

    /// Removes every header of these names.
    pub(crate) fn remove_all(&mut self, names: Names) {
        if !self.has_any(names) {
            return;
        }
        let block = self.block();
        block
            .fields
            .retain(|field| !field.name.is_some_and(|name| names.has(name)));
        block.names = block.names.without(names);
    }

    /// Removes every header whose name is such.
    pub(crate) fn remove_where(&mut self, mut is_such: impl FnMut(&[u8]) -> bool) {
        let Some(Block {
            text,
            fields,
            names,
            are_plain: _,
        }) = self.0.as_deref_mut()
        else {
            return;
        };
        *names = Names::NONE;
        fields.retain(|field| {
            let stays = !is_such(field.name(text));
            if let Some(name) = field.name.filter(|_| stays) {
                names.insert(name);
            }
            stays
        });
    }

    /// Writes them as lines of a head, without those of the names in `except`. What lies in the text as it is to be
    /// sent goes in one piece with its neighbours.
    pub(crate) fn write(&self, out: &mut Vec<u8>, except: Names) {
        let Some(block) = self.0.as_deref() else {
            return;
        };
        let mut run = 0..0;
        for field in &block.fields {
            if field.name.is_some_and(|name| except.has(name)) {
                continue;
            }
            let value_end = (field.value_at + field.value_len) as usize;
            let line = field.at as usize..value_end + b"\r\n".len();
            if field.layout == Layout::Line && line.start == run.end {
                run.end = line.end;
                continue;
            }
            out.extend_from_slice(&block.text[run]);
            if field.layout == Layout::Line {
                run = line;
            } else {
                run = 0..0;
                out.extend_from_slice(field.name(&block.text));
                out.extend_from_slice(b": ");
                out.extend_from_slice(field.value(&block.text));
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(&block.text[run]);
    }

    fn block(&mut self) -> &mut Block {
        self.0.get_or_insert_with(spare::take)
    }
}

/// Bytes of the headers that a hop adds; reserved, so that the text hardly ever moves.
const ROOM_FOR_OURS: usize = 256;

impl Field {
    fn name<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.at as usize..][..usize::from(self.name_len)]
    }

    fn value<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.value_at as usize..][..self.value_len as usize]
    }
}

impl Block {
    fn append(&mut self, name: &[u8], known: Option<Name>, write: impl FnOnce(&mut Vec<u8>)) {
        self.are_plain &= known.is_some();
        let at = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(b": ");
        let value_at = self.text.len();
        write(&mut self.text);
        let value = &self.text[value_at..];
        // All of it, without stopping: that is a few vector instructions.
        let ends_its_line = |ends, &byte| ends | matches!(byte, b'\r' | b'\n' | 0);
        if value.iter().fold(false, ends_its_line) {
            debug_assert!(false, "a value holds the end of a line");
            self.text.truncate(at);
            return;
        }
        let value_len = value.len() as u32;
        self.text.extend_from_slice(b"\r\n");
        self.push(Field {
            at: at as u32,
            value_at: value_at as u32,
            value_len,
            name_len: name.len() as u16,
            name: known,
            layout: Layout::Line,
        });
    }

    fn push(&mut self, field: Field) {
        if let Some(known) = field.name {
            self.names.insert(known);
        }
        self.fields.push(field);
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        if let Some(block) = self.0.take() {
            spare::give_back(block);
        }
    }
}

/// Names and how long their values are: a value may be a secret.
impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self.iter().map(|(name, value)| (Text(name), value.len()));
        formatter.debug_map().entries(lengths).finish()
    }
}

struct Text<'a>(&'a [u8]);

impl fmt::Debug for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
impl Headers {
    /// These headers, for unit tests.
    pub(crate) fn for_test(lines: &[(&str, &str)]) -> Self {
        let mut headers = Self::default();
        for (name, value) in lines {
            headers.append_named(name.as_bytes(), value.as_bytes());
        }
        headers
    }

    /// The first value under a name, as text, for unit tests.
    pub(crate) fn line(&self, name: &str) -> Option<&str> {
        let mut values = self
            .iter()
            .filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()));
        values
            .next()
            .map(|(_, value)| str::from_utf8(value).unwrap())
    }

    /// Every value under a name, as text, for unit tests.
    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        let values = self
            .iter()
            .filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()));
        values
            .map(|(_, value)| str::from_utf8(value).unwrap())
            .collect()
    }
}

#[cfg(test)]
mod tests;
