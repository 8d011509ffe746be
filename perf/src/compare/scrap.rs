//! Folders for a comparison's files and sockets, gone with everything in them when they are dropped.

use std::path::{Path, PathBuf};

/// What the names of all of them begin with; the process's number follows.
pub(crate) const PREFIX: &str = "nva-perf-";

/// A folder in the temporary folder, of this process.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes an empty one.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("{PREFIX}{}-{name}", std::process::id()));
        // What is there has been left by a process that had the same number.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).map_err(|error| format!("mkdir {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where a file of it is, or is to be.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left in the temporary folder at worst, for the next sweep.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a name is that of something whose process is gone.
pub(crate) fn is_left_over(name: &str) -> bool {
    let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split(['-', '.']).next());
    owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
}

/// Takes away what comparisons left whose process was killed.
pub(crate) fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_left_over)) {
        // What cannot be removed is another user's.
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_what_is_in_it() {
        let folder = Folder::new("test").unwrap();
        let path = folder.path().to_owned();
        std::fs::write(folder.file("x"), "y").unwrap();
        assert!(path.join("x").is_file());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn only_the_dead_leave_something() {
        let own = std::process::id();
        assert!(!is_left_over(&format!("nva-perf-{own}-road")));
        // No process has this number: the kernel's largest is 2^22.
        assert!(is_left_over("nva-perf-4194305-road"));
        assert!(!is_left_over("nva-perf-x-road") && !is_left_over("another-4194305"));
    }
}
