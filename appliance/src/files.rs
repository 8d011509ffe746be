//! Configuration files from the file system: the ones that `--config` names, and those that they name in turn.

use nva_config::{Config, Files, Location, Problem, Source};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The longest file that is read: ten times the cloud's published service tags. What is longer is a mistake, or a device.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// How far to follow the files that a configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Not at all.
    Alone,
    /// Only where they say what becomes of a packet: published service tags. Keys and certificates are not looked at.
    PacketPath,
    /// All of them.
    WithFiles,
}

/// Reads and checks the configuration in these files.
///
/// # Errors
/// Every problem, sorted by place; a file that cannot be read is one at its first character.
pub(crate) fn load(paths: &[PathBuf], depth: Depth) -> Result<Config, Vec<Problem>> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        match source(path) {
            Ok(source) => sources.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    match depth {
        Depth::Alone => nva_config::load(&sources, None),
        Depth::WithFiles => nva_config::load(&sources, Some(&FileSystem)),
        Depth::PacketPath => {
            let config = nva_config::load(&sources, None)?;
            let named = config.places.get("service_tags.file").is_some();
            if named { nva_config::load(&sources, Some(&FileSystem)) } else { Ok(config) }
        }
    }
}

/// The files of this machine.
struct FileSystem;

impl Files for FileSystem {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        read(path)
    }
}

/// The whole file, of up to 64 MiB.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let limit = FILE_BYTES_MAX >> 20;
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} MiB")));
    }
    Ok(bytes)
}

fn source(path: &Path) -> Result<Source, Problem> {
    match read(path) {
        Ok(text) => Ok(Source { path: path.to_path_buf(), text }),
        Err(error) => Err(Problem {
            location: Location { file: path.to_path_buf(), line: 1, column: 1 },
            message: format!("cannot be read: {error}; --config names a readable file"),
        }),
    }
}

/// Says that the configuration has no port of this name, and which it has.
pub(crate) fn no_such_port(config: &Config, name: &str) -> String {
    let names: Vec<&str> = config.ports.iter().map(|port| port.name.as_str()).collect();
    no_such("port", name, &names)
}

/// The same, where the name of a tunnel of a gateway would do too.
pub(crate) fn no_such_port_or_tunnel(config: &Config, name: &str) -> String {
    let tunnels: Vec<&str> = config
        .gateways
        .iter()
        .flat_map(|gateway| &gateway.tunnels)
        .map(|tunnel| tunnel.name.as_str())
        .collect();
    match tunnels.as_slice() {
        [] => no_such_port(config, name),
        _ => format!("{}; its tunnels are `{}`", no_such_port(config, name), tunnels.join("`, `")),
    }
}

/// Says that there is nothing of this kind and name, and what there is.
pub(crate) fn no_such(kind: &str, name: &str, known: &[&str]) -> String {
    match known {
        [] => format!("the configuration has no {kind} `{name}`, and no other {kind}"),
        [only] => format!("the configuration has no {kind} `{name}`; its only one is `{only}`"),
        _ => format!("the configuration has no {kind} `{name}`; it has `{}`", known.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("nva-files-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("a file in the temporary folder");
        path
    }

    fn problems(path: &Path) -> Vec<Problem> {
        load(&[path.to_path_buf()], Depth::WithFiles).err().unwrap_or_default()
    }

    #[test]
    fn every_file_that_cannot_be_read_is_a_problem() {
        let missing: Vec<PathBuf> = vec!["/nonexistent/a.yaml".into(), "/".into()];
        let problems = load(&missing, Depth::Alone).err().unwrap_or_default();
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].starts_with("/nonexistent/a.yaml:1:1: cannot be read: "), "{texts:?}");
    }

    #[test]
    fn what_is_not_text_is_a_problem_at_its_place() {
        let path = written("latin1", b"version: 1\nname: \xc3\xa4\xff\n");
        let problems = problems(&path);
        let place = problems.first().map(|problem| (problem.location.line, problem.location.column));
        std::fs::remove_file(&path).expect("the test's own file");
        assert_eq!(place, Some((2, 8)));
    }

    #[test]
    fn reading_has_an_end() {
        let error = read(Path::new("/dev/zero")).err().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::FileTooLarge));
    }

    #[test]
    fn a_missing_name_is_told_what_there_is() {
        assert!(no_such("port", "x", &[]).ends_with("no other port"));
        assert!(no_such("port", "x", &["a"]).ends_with("only one is `a`"));
        assert!(no_such("backend", "x", &["a", "b"]).ends_with("it has `a`, `b`"));
    }
}
