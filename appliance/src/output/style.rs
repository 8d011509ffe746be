//! Colour, where it helps and is wanted.

use std::fmt;
use std::io::{self, IsTerminal};

/// Whether a stream gets colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// No colour, as into a file.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colour: false };

    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self::of(io::stdout().is_terminal())
    }

    /// For standard error.
    pub(crate) fn stderr() -> Self {
        Self::of(io::stderr().is_terminal())
    }

    fn of(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { colour: terminal && !refused && !dumb }
    }

    /// A heading.
    pub(crate) fn bold<T: fmt::Display>(self, text: T) -> Painted<T> {
        self.paint("1", text)
    }

    /// Less important.
    pub(crate) fn dim<T: fmt::Display>(self, text: T) -> Painted<T> {
        self.paint("2", text)
    }

    /// As it should be.
    pub(crate) fn good<T: fmt::Display>(self, text: T) -> Painted<T> {
        self.paint("32", text)
    }

    /// Worth a look.
    pub(crate) fn warn<T: fmt::Display>(self, text: T) -> Painted<T> {
        self.paint("33", text)
    }

    /// Wrong, refused, lost.
    pub(crate) fn bad<T: fmt::Display>(self, text: T) -> Painted<T> {
        self.paint("31", text)
    }

    fn paint<T>(self, code: &'static str, text: T) -> Painted<T> {
        Painted { code: self.colour.then_some(code), text }
    }
}

/// Text between the escape sequences of its colour, if it has one.
pub(crate) struct Painted<T> {
    code: Option<&'static str>,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "\x1b[{code}m{}\x1b[0m", self.text),
            None => self.text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_has_no_escapes() {
        assert_eq!(Style::PLAIN.bad("x").to_string(), "x");
    }

    #[test]
    fn colour_ends_where_the_text_ends() {
        assert_eq!(Style { colour: true }.good("x").to_string(), "\x1b[32mx\x1b[0m");
    }

    #[test]
    fn what_is_no_terminal_gets_none() {
        assert_eq!(Style::of(false), Style::PLAIN);
    }
}
