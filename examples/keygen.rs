//! Makes the text of a key file: a ring of one fresh key.
//!
//! ```sh
//! (umask 077; cargo run --example keygen > session.keys)
//! ```
//!
//! Prints two lines, a comment and the key. Whoever reads them can forge every session.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use sealed_session::{Error, KeyRing};

fn main() -> Result<(), Error> {
    print!("{}", *KeyRing::generate()?.expose_text());
    Ok(())
}
