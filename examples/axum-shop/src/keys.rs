//! The key file: made on the first start, kept from then on.
//!
//! Whoever can read it can be anyone in the shop, so only its owner may.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use sealed_session::KeyRing;

use crate::Trouble;

/// Reads the key ring from `path`, or makes one there.
pub(crate) fn load_or_create(path: &Path) -> Result<KeyRing, Trouble> {
    load(path).map_err(|trouble| format!("{}: {trouble}", path.display()).into())
}

fn load(path: &Path) -> Result<KeyRing, Trouble> {
    match File::open(path) {
        Ok(file) => {
            refuse_writable_by_others(&file)?;
            Ok(std::io::read_to_string(file)?.parse()?)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => create(path),
        Err(error) => Err(error.into()),
    }
}

/// Makes the file with one fresh key. A file that is there already is never overwritten: a lost key
/// signs everybody out.
fn create(path: &Path) -> Result<KeyRing, Trouble> {
    let ring = KeyRing::generate()?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file = options().open(path)?;
    let written = file.write_all(ring.expose_text().as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key would stop every start from now on.
        let _ = fs::remove_file(path);
        return Err(error.into());
    }
    Ok(ring)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Whoever can write the file can put in a key that they know.
#[cfg(unix)]
fn refuse_writable_by_others(file: &File) -> Result<(), Trouble> {
    use std::os::unix::fs::PermissionsExt;

    if file.metadata()?.permissions().mode() & 0o022 != 0 {
        return Err("others may write this file: chmod 600, and make new keys if they did".into());
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_writable_by_others(_: &File) -> Result<(), Trouble> {
    Ok(())
}
