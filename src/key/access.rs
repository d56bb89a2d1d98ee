//! Who may write the place where keys lie: whoever can, can put in a key that they know.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::source::Fault;

/// Refuses a file that others may write; warns of one that they may read.
#[cfg(unix)]
pub(super) fn check_file(file: &File) -> Result<Option<String>, Fault> {
    let mode = mode(&file.metadata()?);
    if mode & GROUP_OR_OTHERS_WRITE != 0 {
        return Err(Fault::Refused(
            "its group or others may write this file: chmod 600, and make new keys if they did"
                .into(),
        ));
    }
    Ok((mode & OTHERS_READ != 0).then(|| "all users may read this file: chmod 600 or 640".into()))
}

/// Refuses a path that others could put another file at: the file's directory, and that of each
/// link on the way to it.
#[cfg(unix)]
pub(super) fn check_directory_of(path: &Path) -> Result<(), Fault> {
    let mut path = path.to_owned();
    // As many links as Linux follows.
    for _ in 0..40 {
        let Some(directory) = directory_of(&path)? else { return Ok(()) };
        let entry = fs::symlink_metadata(&path)?;
        check_directory(&directory, &entry)?;
        if !entry.is_symlink() {
            return Ok(());
        }
        path = directory.join(fs::read_link(&path)?);
    }
    Err(Fault::Refused("too many links".into()))
}

#[cfg(unix)]
fn check_directory(directory: &Path, entry: &Metadata) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt;

    let of_directory = fs::metadata(directory)?;
    let mode = mode(&of_directory);
    let kept = mode & STICKY != 0 && of_directory.uid() == entry.uid();
    if mode & GROUP_OR_OTHERS_WRITE == 0 || kept {
        return Ok(());
    }
    let directory = directory.display();
    Err(Fault::Refused(
        format!(
            "its group or others may write the directory {directory}: chmod 755, and make new keys \
             if they put in their own"
        )
        .into(),
    ))
}

/// Where the entry of this path stands; None for the root.
#[cfg(unix)]
fn directory_of(path: &Path) -> Result<Option<PathBuf>, io::Error> {
    let Some(parent) = path.parent() else { return Ok(None) };
    let here = parent.as_os_str().is_empty();
    fs::canonicalize(if here { Path::new(".") } else { parent }).map(Some)
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;

    metadata.permissions().mode()
}

#[cfg(unix)]
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
#[cfg(unix)]
const OTHERS_READ: u32 = 0o004;
#[cfg(unix)]
const STICKY: u32 = 0o1000;

#[cfg(not(unix))]
pub(super) fn check_file(_: &File) -> Result<Option<String>, Fault> {
    Ok(None)
}

#[cfg(not(unix))]
pub(super) fn check_directory_of(_: &Path) -> Result<(), Fault> {
    Ok(())
}
