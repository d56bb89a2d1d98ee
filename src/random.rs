//! Random bytes, from the operating system at every call: no pool that a fork or the snapshot of a
//! virtual machine could make repeat itself.

use crate::error::{Error, ErrorKind};

/// Fills an array with random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut out = [0; N];
    getrandom::fill(&mut out).map_err(|_| Error::new(ErrorKind::Random))?;
    Ok(out)
}
