//! The file of a key ring, and how it is changed: as a whole, by one process at a time.
//!
//! A new text is written into `.NAME.tmp` beside the file, and that takes its place. The temporary
//! file is locked before anything is read: so no change is lost between two runs, and what a killed
//! run left behind is used again, never left lying about. A reader sees the old file or the new one.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind as Io, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::key;

/// The file of a ring, which no other run of this command changes meanwhile.
pub(super) struct RingFile<'a> {
    path: &'a Path,
    temp: PathBuf,
    lock: File,
    done: bool,
}

impl<'a> RingFile<'a> {
    /// Takes hold of a file that is there.
    pub(super) fn hold(path: &'a Path) -> Result<Self, Failure> {
        check_kind(path)?;
        key::check_place(path, path)?;
        Self::lock(path)
    }

    /// Takes hold of the place of a file that is to be made.
    pub(super) fn hold_place(path: &'a Path) -> Result<Self, Failure> {
        let held = Self::lock(path)?;
        if fs::symlink_metadata(path).is_ok() {
            let advice = "it exists and stays as it is: `sealed-session keys rotate` adds a key to a \
                          ring; what is none, remove first";
            return Err(format!("{}: {advice}", path.display()).into());
        }
        Ok(held)
    }

    /// Puts the first text in place, never over a file that is there.
    pub(super) fn create(mut self, text: &str) -> Result<(), Failure> {
        self.fill(text, None)
            .and_then(|()| fs::hard_link(&self.temp, self.path))
            .map_err(|error| format!("{}: nothing was made: {error}", self.path.display()))?;
        // From here on the temporary file is another name of the file.
        fs::remove_file(&self.temp)
            .and_then(|()| sync_directory(self.path))
            .map_err(|error| format!("{}: made, but {error}", self.path.display()))?;
        self.done = true;
        Ok(())
    }

    /// Puts a text in place of the one that is there.
    pub(super) fn replace(mut self, text: &str) -> Result<(), Failure> {
        let put = || {
            let old = fs::symlink_metadata(self.path)?;
            if !old.is_file() {
                return Err(io::Error::other("it is no file any more"));
            }
            self.fill(text, Some(&old))?;
            fs::rename(&self.temp, self.path)
        };
        put().map_err(|error| {
            format!("{}: not written, the file is as it was: {error}", self.path.display())
        })?;
        self.done = true;
        sync_directory(self.path).map_err(|error| {
            format!("{}: written, but its directory was not: {error}", self.path.display()).into()
        })
    }

    /// Writes the temporary file, with the rights of the file that it is to replace.
    fn fill(&self, text: &str, old: Option<&Metadata>) -> io::Result<()> {
        let mut file = &self.lock;
        keep_private(file)?;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        old.map_or(Ok(()), |old| copy_rights(file, old))?;
        file.sync_all()
    }

    /// Opens the temporary file and locks it.
    fn lock(path: &'a Path) -> Result<Self, Failure> {
        let refuse = |reason: &str| Failure::from(format!("{}: {reason}", path.display()));
        let Some(name) = path.file_name() else { return Err(refuse("not the name of a file")) };
        let mut temp = OsString::from(".");
        temp.push(name);
        temp.push(".tmp");
        let temp = path.with_file_name(temp);
        let directory = directory_of(path);
        fs::metadata(directory).map_err(|error| at(directory, &error))?;
        // Another run may put the file in place, or take it away, between any two of these steps.
        for _ in 0..TRIES {
            let Some(lock) = open(&temp).map_err(|error| at(&temp, &error))? else { continue };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(refuse("another rotation of this file is under way: try again"));
                }
                Err(TryLockError::Error(error)) => {
                    // Of no use to anybody, unless a run had written to it.
                    if lock.metadata().is_ok_and(|opened| opened.len() == 0) {
                        let _ = fs::remove_file(&temp);
                    }
                    return Err(at(&temp, &error));
                }
            }
            let opened = lock.metadata().map_err(|error| at(&temp, &error))?;
            if !names(&temp, &opened) {
                continue;
            }
            // In a directory with the sticky bit it may be somebody else's, who would read along.
            let placed = key::check_place(&temp, path);
            // Again: from here on nobody else can move it away, if it passed.
            if !names(&temp, &opened) {
                continue;
            }
            if let Err(error) = placed {
                if opened.len() == 0 {
                    let _ = fs::remove_file(&temp);
                }
                return Err(error.into());
            }
            if has_other_names(&opened) {
                // A killed run had put it in place, and it is the file: no more to be written to.
                fs::remove_file(&temp).map_err(|error| at(&temp, &error))?;
                continue;
            }
            return Ok(Self { path, temp, lock, done: false });
        }
        Err(refuse("other rotations of this file are under way: try again"))
    }
}

impl Drop for RingFile<'_> {
    fn drop(&mut self) {
        if !self.done {
            // Locked still, so it is ours. What stays behind after all is used by the next run.
            let _ = fs::remove_file(&self.temp);
        }
    }
}

const TRIES: usize = 16;

/// Opens the temporary file or makes it, following no link. None: it came or went meanwhile.
fn open(temp: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let opened = match fs::symlink_metadata(temp) {
        // It does not follow a link either: that would be a name which is taken.
        Err(error) if error.kind() == Io::NotFound => new_private(&mut options).open(temp),
        Err(error) => Err(error),
        // Should it become a link now, the look at the name after locking finds out; nothing is
        // written before.
        Ok(found) if found.is_file() => options.open(temp),
        Ok(_) => Err(io::Error::other("not a file: remove it")),
    };
    match opened {
        Err(error) if matches!(error.kind(), Io::NotFound | Io::AlreadyExists) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Refuses what is no plain file: a link would be replaced, and what it points to would not.
fn check_kind(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            Err(format!("{}: is a link: name the file itself", path.display()).into())
        }
        Ok(found) if !found.is_file() => Err(format!("{}: not a file", path.display()).into()),
        Err(error) if error.kind() == Io::NotFound => {
            let advice = "not found: bring it back, or make the first ring with `sealed-session keys \
                          new`; to give several ids, repeat --revoke";
            Err(format!("{}: {advice}", path.display()).into())
        }
        found => found.map(|_| ()).map_err(|error| at(path, &error)),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn at(path: &Path, error: &io::Error) -> Failure {
    format!("{}: {error}", path.display()).into()
}

#[cfg(unix)]
fn new_private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;

    options.create_new(true).mode(0o600)
}

/// Makes sure that only its owner can read what a killed run may have opened to others.
#[cfg(unix)]
fn keep_private(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    file.set_permissions(fs::Permissions::from_mode(0o600))
}

/// Gives a file owner and mode of another one; the owner first, or the wrong group could read it.
#[cfg(unix)]
fn copy_rights(file: &File, old: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};

    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(file, Some(old.uid()), Some(old.gid())).map_err(|error| {
            io::Error::new(error.kind(), format!("its owner cannot be kept: {error}"))
        })?;
    }
    file.set_permissions(old.permissions())
}

/// Whether the path still names this file, and is no link to it.
#[cfg(unix)]
fn names(path: &Path, opened: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    fs::symlink_metadata(path)
        .is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino()))
}

#[cfg(unix)]
fn has_other_names(opened: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    opened.nlink() > 1
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

#[cfg(not(unix))]
fn new_private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.create_new(true)
}

#[cfg(not(unix))]
fn keep_private(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn copy_rights(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn names(path: &Path, _: &Metadata) -> bool {
    path.exists()
}

#[cfg(not(unix))]
fn has_other_names(_: &Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
