//! Random bytes, from the operating system at every call: no pool that a fork or the snapshot of a
//! virtual machine could make repeat itself.

use crate::error::{Error, ErrorKind};

/// An array of random bytes, for what is not secret.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut out = [0; N];
    fill(&mut out).map(|()| out)
}

/// Fills a place with random bytes. Nothing but the place holds them, so that it can be wiped.
pub(crate) fn fill(out: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(out).map_err(|_| Error::new(ErrorKind::Random))
}
