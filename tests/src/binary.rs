//! The binary under test.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The `nva` to test: `NVA_BIN` where it is set, else the one that was built beside the running test.
///
/// # Panics
/// When there is none, saying how to build it.
pub fn path() -> PathBuf {
    if let Some(given) = std::env::var_os("NVA_BIN") {
        let given = PathBuf::from(given);
        assert!(given.is_file(), "NVA_BIN={} is no file; build the binary first", given.display());
        return given;
    }
    // target/PROFILE/deps/TEST
    let test = std::env::current_exe().expect("a running test has a path");
    let built = test.parent().and_then(|deps| deps.parent()).map(|profile| profile.join("nva"));
    match built {
        Some(built) if built.is_file() => built,
        _ => panic!(
            "no `nva` beside {}; build it with `cargo build -p nva` and the same profile, or set NVA_BIN",
            test.display()
        ),
    }
}

/// Runs `nva` to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let path = path();
    let output = Command::new(&path).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
