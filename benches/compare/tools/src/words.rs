//! Reads command lines and ends programs. A word that nobody asked for is an error.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::str::FromStr;

/// Why a program could not do its work.
#[derive(Debug)]
pub enum Trouble {
    Words(String),
    Run(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Run(error)
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Run(error.into())
    }
}

/// Runs a program over the words of its command line.
pub fn run(usage: &str, program: fn(Words) -> Result<(), Trouble>) -> ExitCode {
    match program(Words(std::env::args().skip(1).collect())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Words(sentence)) => {
            eprintln!("{sentence}\nusage: {usage}");
            ExitCode::from(2)
        }
        Err(Trouble::Run(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The words that nobody has taken yet.
#[derive(Debug)]
pub struct Words(Vec<String>);

impl Words {
    /// The first word, whatever it is.
    pub fn first(&mut self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// The next word as an address. Named values and switches are taken before.
    pub fn address(&mut self) -> Result<SocketAddr, Trouble> {
        let word = self.first().ok_or_else(|| words("an address is missing"))?;
        parse("ADDRESS", &word)
    }

    /// All other words as addresses, at least one.
    pub fn addresses(&mut self) -> Result<Vec<SocketAddr>, Trouble> {
        let mut all = vec![self.address()?];
        while !self.0.is_empty() {
            all.push(self.address()?);
        }
        Ok(all)
    }

    pub fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|word| word == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    /// The word that follows `name`.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Trouble> {
        let Some(at) = self.0.iter().position(|word| word == name) else {
            return Ok(None);
        };
        if at + 1 == self.0.len() {
            return Err(words(format!("{name} needs a value")));
        }
        self.0.remove(at);
        Ok(Some(self.0.remove(at)))
    }

    pub fn number<T>(
        &mut self,
        name: &str,
        otherwise: T,
        range: RangeInclusive<T>,
    ) -> Result<T, Trouble>
    where
        T: FromStr<Err: Display> + PartialOrd + Display,
    {
        let Some(word) = self.text(name)? else {
            return Ok(otherwise);
        };
        let number = parse(name, &word)?;
        if range.contains(&number) {
            return Ok(number);
        }
        let (least, most) = range.into_inner();
        Err(words(format!(
            "{name} is {number}, but it goes from {least} to {most}"
        )))
    }

    /// Call it when everything is taken.
    pub fn end(mut self) -> Result<(), Trouble> {
        match self.first() {
            Some(word) => Err(words(format!("'{word}' means nothing here"))),
            None => Ok(()),
        }
    }
}

pub fn words(sentence: impl Into<String>) -> Trouble {
    Trouble::Words(sentence.into())
}

fn parse<T: FromStr<Err: Display>>(name: &str, word: &str) -> Result<T, Trouble> {
    word.parse()
        .map_err(|error| words(format!("{name} '{word}': {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Words {
        Words(text.split_whitespace().map(String::from).collect())
    }

    #[test]
    fn names_may_stand_before_and_after_addresses() {
        let mut words = line("--tls 127.0.0.1:80 --seconds 2.5");
        assert!(words.flag("--tls"));
        assert_eq!(words.number("--seconds", 8.0, 0.1..=100.0).unwrap(), 2.5);
        assert_eq!(words.address().unwrap(), "127.0.0.1:80".parse().unwrap());
        words.end().unwrap();
    }

    #[test]
    fn what_is_left_over_is_wrong() {
        assert!(matches!(line("--sceonds 3").end(), Err(Trouble::Words(_))));
    }

    #[test]
    fn numbers_have_bounds() {
        assert!(line("--rate 0").number("--rate", 1, 1..=5).is_err());
        assert!(line("--rate").number("--rate", 1, 1..=5).is_err());
    }
}
