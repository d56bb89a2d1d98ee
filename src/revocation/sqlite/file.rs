//! The file: which one it is, who may write it, and its making.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind as Io};
use std::path::Path;
#[cfg(not(unix))]
use std::time::SystemTime;

use super::fault::Fault;
use crate::key::directory_open_to_others;

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct Identity(pub(super) [u8; 16]);

#[cfg(unix)]
pub(super) fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt as _;

    let found = fs::metadata(path)?;
    Ok(Identity(((u128::from(found.dev()) << 64) | u128::from(found.ino())).to_be_bytes()))
}

/// As well as can be: Windows does not let an open database be deleted anyway.
#[cfg(not(unix))]
pub(super) fn identity(path: &Path) -> io::Result<Identity> {
    let made = fs::metadata(path)?.created().unwrap_or(SystemTime::UNIX_EPOCH);
    let made = made.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Identity(made.as_nanos().to_be_bytes()))
}

/// Makes the file if there is none, and refuses a place that others may write.
pub(super) fn make(path: &Path) -> Result<(), Fault> {
    if path.as_os_str().is_empty() {
        return Err(Fault::Refused("the path is empty: give that of a database file".into()));
    }
    // Not after the file was made only: a refusal should leave nothing behind.
    check_directory_of(&std::path::absolute(path)?)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != Io::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    if !fs::metadata(path)?.is_file() {
        return Err(Fault::Refused("not a file: give the path of a database file".into()));
    }
    if let Some(directory) = directory_open_to_others(path)? {
        return Err(directory_refused(&directory));
    }
    check_directory_of(&fs::canonicalize(path)?)?;
    #[cfg(unix)]
    if mode(path)? & GROUP_OR_OTHERS_WRITE != 0 {
        return Err(Fault::Refused(
            "its group or others may write this file: chmod 600; if they did, start again with a \
             new file"
                .into(),
        ));
    }
    Ok(())
}

/// A sticky directory does not do: others could put a `-wal` beside the database, which SQLite
/// would take as part of it.
#[cfg(unix)]
fn check_directory_of(path: &Path) -> Result<(), Fault> {
    let Some(directory) = path.parent() else { return Ok(()) };
    if mode(directory)? & GROUP_OR_OTHERS_WRITE == 0 {
        return Ok(());
    }
    Err(directory_refused(directory))
}

#[cfg(not(unix))]
fn check_directory_of(_: &Path) -> Result<(), Fault> {
    Ok(())
}

fn directory_refused(directory: &Path) -> Fault {
    Fault::Refused(format!(
        "its group or others may write the directory {}: chmod 755, or make a directory for the \
         file alone",
        directory.display()
    ))
}

#[cfg(unix)]
fn mode(path: &Path) -> io::Result<u32> {
    use std::os::unix::fs::PermissionsExt as _;

    Ok(fs::metadata(path)?.permissions().mode())
}

#[cfg(unix)]
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
