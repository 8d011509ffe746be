//! Why a command ends without having done what it was asked to.

use super::complain;
use nva_config::Problem;
use std::process::ExitCode;

/// What goes to standard error, and the exit code that says whose fault it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One line for each thing that is wrong.
    pub(crate) lines: Vec<String>,
    /// 1: it ran and failed. 2: bad usage or bad configuration.
    pub(crate) code: u8,
}

impl Failure {
    /// It ran and failed: exit code 1.
    pub(crate) fn failed(what: impl std::fmt::Display) -> Self {
        Self { lines: vec![format!("error: {what}")], code: 1 }
    }

    /// The command line asks for something that does not exist: exit code 2.
    pub(crate) fn usage(what: impl std::fmt::Display) -> Self {
        Self { lines: vec![format!("error: {what}")], code: 2 }
    }

    /// As [`usage`](Self::usage), several at once.
    pub(crate) fn usage_all(what: impl IntoIterator<Item = String>) -> Self {
        Self { lines: what.into_iter().map(|what| format!("error: {what}")).collect(), code: 2 }
    }

    /// The configuration is bad, or asks for what this version does not do: exit code 2.
    pub(crate) fn configuration(problems: &[Problem]) -> Self {
        Self { lines: problems.iter().map(ToString::to_string).collect(), code: 2 }
    }
}

/// Ends a command: says what was wrong, if anything, and gives the exit code.
pub(crate) fn conclude(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.lines.iter().for_each(complain);
            ExitCode::from(failure.code)
        }
    }
}
