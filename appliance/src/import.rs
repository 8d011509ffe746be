//! `nva import`: rules from the cloud as a configuration file. Reads the inputs, writes the file and the report; what the rules mean is for
//! [`nva_config::import`] to say.

use crate::cli::{ImportAzureArgs, ImportCommand};
use crate::files;
use crate::output::{Failure, NewFile, Style, complain, conclude, print};
use nva_config::Source;
use nva_config::import::{Account, Ignored, Import, Input, Note, Options, Role, azure};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// So many notes of one kind are printed; the report has all.
const PRINTED_MAX: usize = 20;

/// Runs the command.
pub(crate) fn import(command: &ImportCommand) -> ExitCode {
    match command {
        ImportCommand::Azure(args) => conclude(try_azure(args)),
    }
}

fn try_azure(args: &ImportAzureArgs) -> Result<(), Failure> {
    let import = azure(&inputs(args)?, Options { keep_tags: args.keep_tags });
    if let Some(path) = &args.report {
        let mut text = serde_json::to_string_pretty(&Report::of(&import))
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        text.push('\n');
        write(path, &text)?;
    }
    let Some(text) = &import.text else {
        let lines = import.account.lines().into_iter().map(|problem| problem.to_string());
        let more = (import.account.more > 0)
            .then(|| format!("{} more are not listed; mend these first", import.account.more));
        return Err(Failure { lines: lines.chain(more).collect(), code: 1 });
    };
    match &args.out {
        Some(path) if path != Path::new("-") => write(path, text)?,
        _ => print(text)?,
    }
    summarize(&import.account, args);
    Ok(())
}

/// The files that the command line names, groups first, in the order of each option.
fn inputs(args: &ImportAzureArgs) -> Result<Vec<Input>, Failure> {
    let given = [
        (Role::Groups, &args.nsg),
        (Role::Balancers, &args.lb),
        (Role::Members, &args.asg),
        (Role::Routes, &args.routes),
        (Role::Tags, &args.tags),
    ];
    let mut inputs = Vec::new();
    let mut unreadable = Vec::new();
    for (role, paths) in given {
        for path in paths {
            match files::read(path) {
                Ok(text) => inputs.push(Input { role, source: Source { path: path.clone(), text } }),
                Err(error) => unreadable
                    .push(format!("{} cannot be read: {error}; name a readable file", path.display())),
            }
        }
    }
    if unreadable.is_empty() { Ok(inputs) } else { Err(Failure::usage_all(unreadable)) }
}

/// Writes a file whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let mut file = NewFile::create(path)?;
    file.write_all(text.as_bytes())
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    file.commit()
}

/// Says on standard error what became of the inputs.
fn summarize(account: &Account, args: &ImportAzureArgs) {
    let style = Style::stderr();
    let Account { taken, differs, left_out, ignored, more, .. } = account;
    complain(format_args!(
        "{}: {} taken, {} different, {} left out, {} kinds of values ignored",
        style.good("imported"),
        taken.len(),
        differs.len(),
        left_out.len(),
        ignored.len()
    ));
    list(&style.bad("left out").to_string(), left_out);
    list(&style.warn("different").to_string(), differs);
    if *more > 0 {
        complain(format_args!("{more} more notes were not kept"));
    }
    if args.report.is_none() && taken.len() + ignored.len() > 0 {
        complain("--report R writes down everything, also what was taken and what ignored");
    }
}

fn list(title: &str, notes: &[Note]) {
    for note in notes.iter().take(PRINTED_MAX) {
        complain(format_args!("{title}: {}", note.to_problem()));
    }
    if notes.len() > PRINTED_MAX {
        complain(format_args!("{title}: {} more; --report R lists all", notes.len() - PRINTED_MAX));
    }
}

/// What `--report` writes.
#[derive(Serialize)]
struct Report<'a> {
    /// Whether there is a configuration.
    ok: bool,
    taken: Vec<TakenLine<'a>>,
    differs: Vec<NoteLine<'a>>,
    left_out: Vec<NoteLine<'a>>,
    ignored: Vec<IgnoredLine<'a>>,
    problems: Vec<NoteLine<'a>>,
    /// Notes that were not kept.
    more: usize,
}

/// A value that went into the configuration.
#[derive(Serialize)]
struct TakenLine<'a> {
    file: PathBuf,
    line: usize,
    column: usize,
    path: &'a str,
    /// Where it is in the configuration.
    r#as: &'a str,
}

/// A sentence about a value.
#[derive(Serialize)]
struct NoteLine<'a> {
    file: PathBuf,
    line: usize,
    column: usize,
    path: &'a str,
    message: &'a str,
}

/// Values without a meaning here, all of one kind.
#[derive(Serialize)]
struct IgnoredLine<'a> {
    file: PathBuf,
    line: usize,
    column: usize,
    path: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    what: &'a str,
    count: usize,
}

impl<'a> Report<'a> {
    fn of(import: &'a Import) -> Self {
        let account = &import.account;
        let notes = |notes: &'a [Note]| notes.iter().map(NoteLine::from).collect();
        Self {
            ok: import.text.is_some(),
            taken: account.taken.iter().map(TakenLine::from).collect(),
            differs: notes(&account.differs),
            left_out: notes(&account.left_out),
            ignored: account.ignored.iter().map(IgnoredLine::from).collect(),
            problems: notes(&account.problems),
            more: account.more,
        }
    }
}

impl<'a> From<&'a Note> for TakenLine<'a> {
    fn from(note: &'a Note) -> Self {
        let NoteLine { file, line, column, path, message } = note.into();
        Self { file, line, column, path, r#as: message }
    }
}

impl<'a> From<&'a Note> for NoteLine<'a> {
    fn from(note: &'a Note) -> Self {
        let place = &note.location;
        Self {
            file: place.file.clone(),
            line: place.line,
            column: place.column,
            path: &note.path,
            message: &note.message,
        }
    }
}

impl<'a> From<&'a Ignored> for IgnoredLine<'a> {
    fn from(ignored: &'a Ignored) -> Self {
        let place = &ignored.location;
        Self {
            file: place.file.clone(),
            line: place.line,
            column: place.column,
            path: &ignored.path,
            what: &ignored.what,
            count: ignored.count,
        }
    }
}
