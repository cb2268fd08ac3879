//! Where a value stands in a configuration, as its user would say it: `listeners[0].rules[2].actions`.

use std::fmt;

/// The way from the whole configuration down to one value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FieldPath(String);

impl FieldPath {
    /// The whole configuration.
    pub(crate) fn root() -> Self {
        Self::default()
    }

    /// A path as somebody wrote it.
    pub(crate) fn written(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// This field of it.
    pub(crate) fn field(&self, name: &str) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        Self([self.0.as_str(), dot, name].concat())
    }

    /// This element of it.
    pub(crate) fn index(&self, index: usize) -> Self {
        // Tens of thousands of these are made of a large file, and `format!` would take a large part of its reading.
        let mut digits = itoa::Buffer::new();
        Self([self.0.as_str(), "[", digits.format(index), "]"].concat())
    }

    /// As text; empty for the whole configuration.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What holds it; none for the whole configuration.
    pub(crate) fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.rfind(['.', '[']).unwrap_or(0);
        Some(Self(self.0[..end].to_owned()))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => f.write_str("configuration"),
            path => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_file() {
        let rule = FieldPath::root()
            .field("listeners")
            .index(0)
            .field("rules")
            .index(2);
        assert_eq!(
            rule.field("actions").to_string(),
            "listeners[0].rules[2].actions"
        );
        assert_eq!(rule.parent().unwrap().to_string(), "listeners[0].rules");
        assert_eq!(FieldPath::root().to_string(), "configuration");
    }
}
