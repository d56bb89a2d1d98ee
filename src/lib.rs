//! Sessions sealed into the cookie itself.

mod base64url;
mod clock;
mod cookie;
pub mod csrf;
mod error;
pub mod event;
pub mod key;
mod manager;
mod policy;
mod random;
pub mod revocation;
mod session;
mod token;
mod web;

pub use clock::{Clock, ManualClock, SystemClock};
pub use cookie::{Cookie, SameSite};
pub use error::{Error, ErrorKind};
pub use event::{Event, Observer};
pub use key::{KeyId, KeyRing};
pub use manager::{SessionManager, SessionManagerBuilder};
pub use policy::{Limits, Policy};
pub use revocation::{Receipt, RevocationList};
pub use session::{Bearer, Closing, Flash, Map, Opened, Session, SessionData, SignIn};
pub use token::SessionId;
#[cfg(feature = "axum")]
pub use web::axum;
#[cfg(feature = "tower")]
pub use web::tower;
