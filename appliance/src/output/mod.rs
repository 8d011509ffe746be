//! What people and programs read: tables, colour, JSON, errors, and files that appear whole or not at all.
//!
//! Results go to standard output, everything else to standard error. Colour only on a terminal, and never where `NO_COLOR` is set.

mod failure;
mod file;
mod style;
mod table;

pub(crate) use failure::{Failure, conclude};
pub(crate) use file::NewFile;
pub(crate) use style::Style;
pub(crate) use table::{Align, Table};

use serde::Serialize;
use std::io::{self, Write};

/// Writes `text` to standard output. A reader that has gone away (`nva check … | head`) is no failure.
///
/// # Errors
/// A [`Failure`] of exit code 1 when it cannot be written, as on a full disk.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes `value` to standard output as indented JSON and a line end.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::failed(format!("standard output: {error}")))?;
    text.push('\n');
    print(&text)
}

/// Writes a line to standard error. There is nobody left to tell when that fails.
pub(crate) fn complain(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
