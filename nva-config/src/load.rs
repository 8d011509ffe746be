//! From the files to the checked configuration.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Config, Problem};
use crate::report::Report;
use crate::{check, raw, tree};

/// One configuration file as the caller read it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file as the user named it; problems repeat it, and relative paths in the file start from its folder.
    pub path: PathBuf,
    /// What is in it. Larger than 16 MiB is refused.
    pub text: Vec<u8>,
}

/// How files that the configuration names are read.
pub trait Files {
    /// The content of the file at `path`, which is relative where both the configuration file's own path and the path in it are. An implementation
    /// should refuse to read without end, as from a device.
    ///
    /// # Errors
    /// Whatever keeps the file from being read; it is reported at the place that names the file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// Reads and checks a configuration of one or more files, whose sections are taken together: mappings key by key, lists end to end.
/// With `files` absent, the files that it names are not read: their names are accepted, and a service tag that could be in the
/// published file is taken as one without prefixes.
///
/// Takes any bytes: it ends in bounded time and memory.
///
/// # Errors
/// Every problem (beyond a thousand, their number), sorted by place.
pub fn load(sources: &[Source], files: Option<&dyn Files>) -> Result<Config, Vec<Problem>> {
    let mut report = Report::new(sources);
    let mut roots = Vec::new();
    let mut readable = true;
    for (index, source) in sources.iter().enumerate() {
        let file = u32::try_from(index).unwrap_or(u32::MAX);
        match tree::parse(file, &source.text, &mut report) {
            Ok(root) => roots.extend(root),
            Err(tree::Unreadable) => readable = false,
        }
    }
    let root = tree::merge(roots, &mut report);
    if !readable {
        // What a file that cannot be read declares is unknown, so nothing can be said about the others' references.
        return Err(report.finish().err().unwrap_or_default());
    }
    let Some(raw) = raw::read(&root, &mut report) else {
        return Err(report.finish().err().unwrap_or_default());
    };
    let mut config = check::check(&raw, files, &mut report);
    if report.is_clean() {
        config.places = tree::places(root, &report);
    }
    config.warnings = report.finish()?;
    Ok(config)
}
