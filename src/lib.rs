//! Sessions sealed into the cookie itself: encrypted, authenticated, with no session store.
//!
//! A [`SessionManager`] opens the [`Session`] of a request from its cookies and seals it into the
//! answer. Inside the seal stand whose session it is, two limits, and data of your own type. What
//! makes it more than an encrypted cookie:
//!
//! - **Two limits**, absolute and idle, checked on the server; activity slides the idle one. See
//!   [`Policy`].
//! - **Keys that rotate** by configuration. Every token names its key, and a [`KeyRing`] says by
//!   dates which key seals and which ones still open. Servers follow its file while they run, see
//!   [`KeyRing::watch`]; the `sealed-session` command writes the next one.
//! - **Revocation** that follows a session through every refresh: sign-out kills copies of the
//!   cookie, too, in one process, on one machine or in a fleet. See [`RevocationList`] and
//!   [`revocation`].
//! - **Any framework**: plain strings ([`SessionManager::open`], [`Session::close`]), `http` 1
//!   headers ([`SessionManager::open_headers`], [`Closing::apply`]), a layer with feature `tower`,
//!   extractors with feature `axum`; and tokens without cookies ([`SessionManager::bearer`]).
//!
//! What it cannot do stands in SECURITY.md: a copy that is kept in use lives until the absolute
//! limit, old copies bring back old data, and the last of two answers wins. So keep no counters or
//! one-time codes in a session, and keep it small: a cookie holds 4096 octets.
//!
//! ```
//! use sealed_session::{Error, KeyRing, RevocationList, Session, SessionManager};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Shop {
//!     cart: Vec<u32>,
//! }
//!
//! # fn main() -> Result<(), Error> {
//! # let text = KeyRing::generate()?.expose_text();
//! let keys: KeyRing = text.parse()?; // the text of a key file, the same on every server
//! let sessions = SessionManager::builder("shop", keys)
//!     .revocations(RevocationList::in_process())
//!     .build()?;
//!
//! // A request: the values of its Cookie headers, of which there are none yet.
//! let session: Session<Shop> = sessions.open(None::<&str>)?;
//! session.update(|shop| shop.cart.push(7))?;
//! session.sign_in("alice")?;
//! let set_cookie = session.close()?.into_iter().next().unwrap_or_default();
//!
//! // The next one brings the cookie back.
//! let cookie = set_cookie.split(';').next().unwrap_or_default();
//! let session: Session<Shop> = sessions.open(Some(cookie))?;
//! assert_eq!(session.subject().as_deref(), Some("alice"));
//! assert_eq!(session.data().cart, [7]);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! Each only adds; none changes what the others do.
//!
//! - `ring` (default): the AEAD of the *ring* crate beside the pure-Rust one. The same bytes, about
//!   five times as fast.
//! - `tower`: the layer. `axum`: the extractors, and [`Error`] as a response.
//! - `tracing`: an [`Observer`] that writes events to `tracing`. `metrics`: one that counts them
//!   through the `metrics` facade.
//! - `sqlite`, `redis`, `postgres`: where instances share their revocations, see [`revocation`].
//! - `cli`: the operator's command, `cargo install sealed-session --features cli`.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod base64url;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod clock;
mod config;
mod cookie;
pub mod csrf;
mod error;
mod event;
mod key;
mod manager;
mod policy;
mod random;
pub mod revocation;
mod session;
mod token;
mod web;

pub use clock::{Clock, ManualClock, SystemClock};
pub use config::Config;
pub use cookie::{Cookie, SameSite};
pub use error::{Error, ErrorKind};
#[cfg(feature = "metrics")]
pub use event::MetricsObserver;
#[cfg(feature = "tracing")]
pub use event::TracingObserver;
pub use event::{Event, Observer, Scope};
pub use key::{
    DirectoryKeys, EnvKeys, FileKeys, KeyId, KeyRing, KeySource, KeyState, KeyStatus, Keys,
    RingChange, RingFinding, Rotated, Rotation, WatchedKeys, Zeroizing,
};
pub use manager::{SessionManager, SessionManagerBuilder};
pub use policy::{Limits, Policy};
pub use revocation::list::RevocationList;
pub use revocation::receipt::Receipt;
pub use revocation::target::Target;
pub use session::{Bearer, Closing, Flash, Map, Opened, Session, SessionData, SignIn};
pub use token::SessionId;
#[cfg(feature = "axum")]
pub use web::axum;
#[cfg(feature = "tower")]
pub use web::tower;

/// The examples of README.md, compiled and run.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;
