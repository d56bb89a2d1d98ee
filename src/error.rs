//! The one error type of the crate.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What went wrong, as one opaque type with an [`ErrorKind`].
///
/// Messages say what failed, where, and what to do. None of them holds bytes of a token, a key or
/// session data, so an `Error` may be logged as it is. What a *visitor* is told is another matter:
/// answer every [rejection](ErrorKind::is_rejection) alike.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    detail: Option<Arc<str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Wraps the failure of a backend: a revocation log, a key store.
    ///
    /// The cause is kept as [`source`](StdError::source). The kind is [`ErrorKind::Backend`].
    pub fn backend(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind: ErrorKind::Backend, detail: None, source: Some(Arc::from(cause.into())) }
    }

    /// The kind, to decide on.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) const fn new(kind: ErrorKind) -> Self {
        Self { kind, detail: None, source: None }
    }

    /// An error whose message goes on after the kind's own: what, where, what to do instead.
    pub(crate) fn with_detail(kind: ErrorKind, detail: impl Into<Arc<str>>) -> Self {
        Self { kind, detail: Some(detail.into()), source: None }
    }

    /// The same error with the place where it happened before its detail.
    pub(crate) fn at(self, place: &str) -> Self {
        let detail = match &self.detail {
            Some(detail) => format!("{place}: {detail}"),
            None => place.to_owned(),
        };
        Self { detail: Some(detail.into()), ..self }
    }

    pub(crate) fn config(detail: impl Into<Arc<str>>) -> Self {
        Self::with_detail(ErrorKind::Config, detail)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind);
        if let Some(detail) = &self.detail {
            out.field("detail", detail);
        }
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.message())?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The kinds of [`Error`], in three groups: the visitor's, the application's, the server's.
///
/// The rejections stand in the order in which opening a token checks for them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Rejection: not base64url, not canonical, too short, or over 4096 characters.
    Malformed,
    /// Rejection: a version byte that this release does not read.
    Version,
    /// Rejection: sealed under a key that is not in this ring.
    KeyUnknown,
    /// Rejection: sealed under a key whose `open_until` has passed.
    KeyExpired,
    /// Rejection: sealed under a key marked `revoked`. Sign of a leak.
    KeyRevoked,
    /// Rejection: authentication failed. Altered, made without the key, or sealed for another
    /// realm, transport or cookie name.
    Forged,
    /// Rejection: authentic, but the record inside breaks the format or has an unknown flag.
    Record,
    /// Rejection: issued or refreshed further in the future than clock skew explains.
    NotYet,
    /// Rejection: past the absolute limit.
    Expired,
    /// Rejection: past the idle limit.
    Idle,
    /// Rejection: ended early, by sign-out or by force.
    Revoked,
    /// Rejection: the data inside does not decode as the type asked for.
    Data,
    /// Rejection: the CSRF token is missing, foreign or malformed.
    Csrf,
    /// Rejection: no one is signed in.
    SignedOut,
    /// Usage: the session would not fit into a cookie of 4096 octets. Nothing was changed.
    TooLarge,
    /// Usage: the session data cannot be serialized as JSON.
    Serialize,
    /// Usage: a subject is empty or longer than 255 bytes.
    Subject,
    /// Usage: the response has begun, so nothing can be changed any more.
    Closed,
    /// Usage: a change was asked for from inside the closure of another change.
    Busy,
    /// Usage: the sign-in was overtaken by a revocation of its subject or of everyone.
    Conflict,
    /// Usage: the request did not pass through a session layer for this type.
    NoLayer,
    /// Server: the revocation list or another backend cannot answer now.
    Backend,
    /// Server: the revocation list has no room. Nothing was forgotten.
    Full,
    /// Server: the session manager was built without what this call needs.
    Unsupported,
    /// Server: the key ring cannot be used as it stands.
    KeyRing,
    /// Server: a setting is unsafe, contradictory or out of range.
    Config,
    /// Server: the operating system gave no random bytes.
    Random,
}

impl ErrorKind {
    /// Whether a client can cause this: treat the visitor as signed out, and never say why.
    pub const fn is_rejection(self) -> bool {
        matches!(
            self,
            Self::Malformed
                | Self::Version
                | Self::KeyUnknown
                | Self::KeyExpired
                | Self::KeyRevoked
                | Self::Forged
                | Self::Record
                | Self::NotYet
                | Self::Expired
                | Self::Idle
                | Self::Revoked
                | Self::Data
                | Self::Csrf
                | Self::SignedOut
        )
    }

    /// The HTTP status that answers this kind, where an adapter has to answer at all.
    ///
    /// 401 signed out or rejected, 403 CSRF, 409 conflict and busy, 413 too large, 503 backend and
    /// full, 500 the rest.
    pub const fn status(self) -> u16 {
        match self {
            Self::Csrf => 403,
            Self::Conflict | Self::Busy => 409,
            Self::TooLarge => 413,
            Self::Backend | Self::Full => 503,
            kind if kind.is_rejection() => 401,
            _ => 500,
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::Version => "the token has an unknown version",
            Self::KeyUnknown => "the token was sealed under an unknown key",
            Self::KeyExpired => "the token was sealed under an expired key",
            Self::KeyRevoked => "the token was sealed under a revoked key",
            Self::Forged => "the token is not authentic",
            Self::Record => "the record in the token is invalid",
            Self::NotYet => "the session lies in the future",
            Self::Expired => "the session has reached its absolute limit",
            Self::Idle => "the session has reached its idle limit",
            Self::Revoked => "the session was revoked",
            Self::Data => "the session data does not decode",
            Self::Csrf => "the CSRF token does not match",
            Self::SignedOut => "no one is signed in",
            Self::TooLarge => "the session is too large for a cookie",
            Self::Serialize => "the session data cannot be serialized",
            Self::Subject => "the subject must have 1 to 255 bytes",
            Self::Closed => "the response has begun",
            Self::Busy => "the session is being changed by this thread",
            Self::Conflict => "the sign-in was overtaken by a revocation",
            Self::NoLayer => "no session layer",
            Self::Backend => "a backend cannot answer",
            Self::Full => "the revocation list is full",
            Self::Unsupported => "not supported by this session manager",
            Self::KeyRing => "the key ring is unusable",
            Self::Config => "the configuration is invalid",
            Self::Random => "the operating system gave no random bytes",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}
