//! Files that appear under their name whole or not at all.

use super::Failure;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Large enough that a write is worth its system call.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file in the making: written beside its final name, put there by [`commit`](Self::commit), taken away when dropped before.
/// What is there already and is no regular file (a device, a pipe) is written to as it goes, and never replaced.
#[derive(Debug)]
pub(crate) struct NewFile {
    /// `None` where there is nothing to rename or to remove.
    temporary: Option<PathBuf>,
    path: PathBuf,
    writer: BufWriter<File>,
}

impl NewFile {
    /// Begins the file that will be `path`; its folder must exist.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 that names the path.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        options.write(true);
        let temporary = match fs::metadata(path) {
            Ok(there) if there.is_dir() => return Err(failed(path, "is a directory")),
            Ok(there) if !there.is_file() => None,
            Ok(_) => Some(temporary_for(&fs::canonicalize(path).map_err(|error| failed(path, error))?)),
            Err(_) => Some(temporary_for(path)),
        };
        if temporary.is_some() {
            options.create(true).truncate(true);
        }
        let opened = options.open(temporary.as_deref().unwrap_or(path));
        let writer = BufWriter::with_capacity(BUFFER_BYTES, opened.map_err(|error| failed(path, error))?);
        Ok(Self { temporary, path: path.to_path_buf(), writer })
    }

    /// The name that it will have.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sees to it that every byte is on the disk; the file still has no name.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 that names the path.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let synced = self.writer.flush().and_then(|()| match self.temporary {
            Some(_) => self.writer.get_ref().sync_all(),
            None => Ok(()),
        });
        synced.map_err(|error| failed(&self.path, error))
    }

    /// Gives the file its name, in place of what had it before.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 that names the path.
    pub(crate) fn commit(mut self) -> Result<(), Failure> {
        self.finish()?;
        if let Some(temporary) = &self.temporary {
            // Through a symbolic link: the file that it leads to is replaced, the link stays.
            let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
            fs::rename(temporary, path).map_err(|error| failed(&self.path, error))?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing more can be done about a leftover that cannot be removed: it does not have the final name.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// A name in the same folder, so that renaming neither copies nor crosses a file system.
fn temporary_for(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

fn failed(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of the test's own, gone with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("nva-file-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder in the temporary folder");
            Self(path)
        }

        fn entries(&self) -> usize {
            fs::read_dir(&self.0).expect("the test's own folder").count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_appears_whole_in_place_of_the_old_one() {
        let folder = Folder::new("whole");
        let path = folder.0.join("out");
        fs::write(&path, "old").expect("writable");
        let mut file = NewFile::create(&path).expect("creatable");
        file.write_all(b"new").expect("writable");
        file.finish().expect("on the disk");
        assert_eq!(fs::read(&path).expect("readable"), b"old");
        file.commit().expect("renamed");
        assert_eq!(fs::read(&path).expect("readable"), b"new");
        assert_eq!(folder.entries(), 1);
    }

    #[test]
    fn dropped_it_leaves_nothing() {
        let folder = Folder::new("dropped");
        let mut file = NewFile::create(&folder.0.join("out")).expect("creatable");
        file.write_all(b"half").expect("writable");
        drop(file);
        assert_eq!(folder.entries(), 0);
    }

    #[test]
    fn links_are_followed_and_devices_written_to() {
        let folder = Folder::new("links");
        let (file, link, device) = (folder.0.join("file"), folder.0.join("link"), folder.0.join("device"));
        fs::write(&file, "old").expect("writable");
        std::os::unix::fs::symlink("file", &link).expect("a link");
        std::os::unix::fs::symlink("/dev/null", &device).expect("a link");
        for path in [&link, &device] {
            let mut new = NewFile::create(path).expect("creatable");
            new.write_all(b"new").expect("writable");
            new.commit().expect("in place");
        }
        assert_eq!(fs::read(&file).expect("readable"), b"new");
        assert_eq!(fs::read_link(&link).expect("still a link"), Path::new("file"));
        assert_eq!(fs::read_link(&device).expect("still a link"), Path::new("/dev/null"));
        assert_eq!(folder.entries(), 3);
    }

    #[test]
    fn a_folder_that_is_not_there_and_a_folder_in_the_way_are_failures() {
        let folder = Folder::new("missing");
        assert_eq!(NewFile::create(&folder.0.join("no/out")).err().map(|failure| failure.code), Some(1));
        assert_eq!(NewFile::create(&folder.0).err().map(|failure| failure.code), Some(1));
        assert_eq!(folder.entries(), 0);
    }
}
