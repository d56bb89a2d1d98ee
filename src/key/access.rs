//! Who may write the place where keys lie: whoever can, can put in a key that they know.

use std::ffi::OsString;
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

/// Refuses a path that others could put another file at.
pub(super) fn check_directory_of(path: &Path) -> Result<(), Fault> {
    let Some(directory) = directory_open_to_others(path)? else { return Ok(()) };
    let directory = directory.display();
    Err(Fault::Refused(
        format!(
            "its group or others may write the directory {directory}: chmod 755, and make new keys \
             if they put in their own"
        )
        .into(),
    ))
}

/// A directory in which others could put another file at this path: the file's own, or that of a
/// link on the way to it, whether it leads to a file or to a directory.
#[cfg(unix)]
pub(crate) fn directory_open_to_others(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut here = PathBuf::new();
    let mut ahead = steps(&std::path::absolute(path)?);
    let mut links = 0_u8;
    while let Some(step) = ahead.pop() {
        if step == ".." {
            here.pop();
            continue;
        }
        let there = here.join(&step);
        let entry = fs::symlink_metadata(&there)?;
        if (entry.is_symlink() || ahead.is_empty()) && is_open_to_others(&here, &entry)? {
            return Ok(Some(here));
        }
        if !entry.is_symlink() {
            here = there;
            continue;
        }
        links = links.saturating_add(1);
        // As many as Linux follows.
        if links > 40 {
            return Err(io::Error::other("too many links: give the path that they lead to"));
        }
        ahead.extend(steps(&fs::read_link(&there)?));
    }
    Ok(None)
}

/// The parts of a path, the first one last.
#[cfg(unix)]
fn steps(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(unix)]
fn is_open_to_others(directory: &Path, entry: &Metadata) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let of_directory = fs::metadata(directory)?;
    let mode = mode(&of_directory);
    let kept = mode & STICKY != 0 && of_directory.uid() == entry.uid();
    Ok(mode & GROUP_OR_OTHERS_WRITE != 0 && !kept)
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
pub(crate) fn directory_open_to_others(_: &Path) -> io::Result<Option<PathBuf>> {
    Ok(None)
}
