//! What is classified: filter sets of a folder with their traces, or sets of ours.

use flate2::read::MultiGzDecoder;
use nva_dataplane::policy::classifier::Pattern;
use nva_dataplane::policy::classifier::classbench::{self, Header, Problem, Style};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bad lines that are told of a file; the rest is counted.
const TOLD: usize = 20;
/// A file unpacked is not longer than this.
const FILE_MAX: u64 = 1 << 30;

/// A filter set.
pub(crate) struct FilterSet {
    pub(crate) name: String,
    pub(crate) rules: Vec<Pattern>,
    /// The trace's file and its headers.
    pub(crate) trace: Option<(PathBuf, Vec<Header>)>,
}

/// Where a set comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file of rules, and the trace beside it.
    Files(PathBuf, Option<PathBuf>),
    /// So many rules in a style, by the generator.
    Generated(Style, usize, u64),
}

impl Origin {
    /// The set's name.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Files(rules, _) => stem(rules).unwrap_or_default().to_owned(),
            Self::Generated(style, rules, seed) => format!("gen-{}-{rules}-{seed}", style.name()),
        }
    }

    /// Reads it, or makes it.
    ///
    /// # Errors
    /// Each bad line of its files.
    pub(crate) fn load(&self) -> Result<FilterSet, String> {
        let (rules, trace) = match self {
            Self::Generated(style, count, seed) => (classbench::generate(*style, *count, *seed), None),
            Self::Files(rules_path, trace_path) => {
                let rules = read(rules_path, classbench::parse_rules)?;
                let trace = trace_path.as_ref().map(|path| {
                    Ok::<_, String>((
                        path.clone(),
                        read(path, |text| classbench::parse_trace(text, rules.len()))?,
                    ))
                });
                let trace = trace.transpose()?;
                (rules, trace)
            }
        };
        if rules.is_empty() {
            return Err(format!("{}: there is no rule in it", self.name()));
        }
        Ok(FilterSet { name: self.name(), rules, trace })
    }
}

/// The sets of a folder, by their names' order: files `NAME.rules`, or `NAME.rules.gz`, or without an extension such as begin with a rule;
/// a trace is `NAME.trace` or `NAME_trace`, packed or not. A path that is a file is that set alone.
///
/// # Errors
/// When there is none, or the folder cannot be read.
pub(crate) fn find(path: &Path) -> Result<Vec<Origin>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if fs::metadata(path).map_err(failed)?.is_file() {
        return Ok(vec![Origin::Files(path.to_owned(), trace_of(path))]);
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.is_file() && is_rules(&file) {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("{}: there is no filter set in it (files NAME.rules)", path.display()));
    }
    Ok(files.into_iter().map(|rules| Origin::Files(rules.clone(), trace_of(&rules))).collect())
}

fn is_rules(file: &Path) -> bool {
    let Some(name) = file.file_name().and_then(OsStr::to_str) else { return false };
    if name.ends_with(".rules") || name.ends_with(".rules.gz") {
        return true;
    }
    let mut first = [0; 1];
    !name.contains('.')
        && !name.ends_with("_trace")
        && fs::File::open(file).is_ok_and(|mut file| file.read_exact(&mut first).is_ok() && first == *b"@")
}

fn stem(rules: &Path) -> Option<&str> {
    let name = rules.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    Some(name.strip_suffix(".rules").unwrap_or(name))
}

fn trace_of(rules: &Path) -> Option<PathBuf> {
    let stem = stem(rules)?;
    let names = [".trace", ".trace.gz", "_trace", "_trace.gz"].map(|end| format!("{stem}{end}"));
    names.into_iter().map(|name| rules.with_file_name(name)).find(|file| file.is_file())
}

fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, Vec<Problem>>) -> Result<T, String> {
    let file = fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut bytes = Vec::new();
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    reader
        .take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("{}: longer than {} MiB", path.display(), FILE_MAX >> 20));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let (good, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = good.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        format!("{}:{line}:{column}: this is not text", path.display())
    })?;
    parse(&text).map_err(|problems| {
        let mut told: Vec<String> =
            problems.iter().take(TOLD).map(|problem| format!("{}:{problem}", path.display())).collect();
        if problems.len() > TOLD {
            told.push(format!("{}: {} more bad lines", path.display(), problems.len() - TOLD));
        }
        told.join("\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_searched_for_sets_and_traces() {
        let folder = std::env::temp_dir().join(format!("perf-classify-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let rule = "@0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x00/0x00\t0x0000/0x0000\t\n";
        for (name, text) in [
            ("b.rules", rule),
            ("b.trace", "1\t2\t3\t4\t5\t0\t0\n"),
            ("a1_100", rule),
            ("a1_100_trace", "1 2 3 4 5 0\n"),
            ("bad.rules", "@0.0.0.0/0\n"),
            ("INDEX.md", "# sets\n"),
            ("Makefile", "all:\n"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let found = find(&folder).unwrap();
        assert_eq!(found.iter().map(Origin::name).collect::<Vec<_>>(), ["a1_100", "b", "bad"]);
        for origin in &found[..2] {
            let set = origin.load().unwrap();
            assert_eq!((set.rules.len(), set.trace.unwrap().1.len()), (1, 1));
        }
        let bad = found[2].load().err().unwrap();
        assert!(bad.contains("bad.rules:1:11: the line ends where a destination prefix"), "{bad}");
        assert_eq!(find(&folder.join("b.rules")).unwrap(), found[1..2]);
        fs::remove_dir_all(&folder).unwrap();
        assert!(find(&folder).is_err());
    }
}
