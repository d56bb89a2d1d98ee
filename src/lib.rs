//! Sessions sealed into the cookie itself.

mod base64url;
mod clock;
mod error;
mod random;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, ErrorKind};
