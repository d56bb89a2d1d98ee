//! The key file: made on the first start, kept from then on.
//!
//! Whoever can read it can be anyone in the shop, and whoever can write the directory can put in a
//! key of their own: both are for their owner alone. `FileKeys` checks that at every reading.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use sealed_session::KeyRing;

use crate::Trouble;

/// Makes the file at `path`, with one fresh key, unless there is one.
pub(crate) fn make_if_missing(path: &Path) -> Result<(), Trouble> {
    let made = match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => make(path),
        Err(error) => Err(error.into()),
    };
    made.map_err(|trouble| format!("{}: {trouble}", path.display()).into())
}

fn make(path: &Path) -> Result<(), Trouble> {
    let ring = KeyRing::generate()?;
    if let Some(directory) = path.parent() {
        make_directory(directory)?;
    }
    // Never overwritten, should another start have been faster: a lost key signs everybody out.
    let mut file = private_file().open(path)?;
    let written = file.write_all(ring.expose_text().as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key would stop every start from now on.
        let _ = fs::remove_file(path);
        return Err(error.into());
    }
    Ok(())
}

/// Makes a directory for the shop alone, and those on the way to it, unless it is there.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    let mut options = DirBuilder::new();
    options.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut options, 0o700);
    options.create(path)
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
