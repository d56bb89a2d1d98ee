//! Extractors for axum, over the [tower layer](super::tower).
//!
//! `Session<T>` gives any visitor's session, [`SignedIn<T>`](SignedIn) only that of someone who is
//! signed in, `Option<SignedIn<T>>` both. The extractors answer where there is no session to give:
//! 503 when the revocation list cannot answer, 401 when nobody is signed in, 500 without a layer.
//! For pages, a redirect serves better than a bare 401:
//!
//! ```
//! # use axum::response::{IntoResponse, Redirect, Response};
//! # use sealed_session::{Map, axum::SignedIn};
//! async fn account(visitor: Option<SignedIn<Map>>) -> Response {
//!     match visitor {
//!         Some(visitor) => visitor.subject().to_owned().into_response(),
//!         None => Redirect::to("/sign-in").into_response(),
//!     }
//! }
//! ```

use std::ops::Deref;
use std::sync::Arc;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use super::tower::manager_of;
use crate::error::{Error, ErrorKind};
use crate::session::{Map, Session, SessionData};

/// The session of a visitor who is signed in. Derefs to [`Session`].
#[derive(Clone, Debug)]
pub struct SignedIn<T = Map> {
    session: Session<T>,
    subject: Arc<str>,
}

impl<T> SignedIn<T> {
    /// Who was signed in when the request came.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl<T> Deref for SignedIn<T> {
    type Target = Session<T>;

    fn deref(&self) -> &Session<T> {
        &self.session
    }
}

/// An extractor that first reads what is new in the revocation log: `Strict(session): Strict<Session>`,
/// or [`SignedIn`] in place of [`Session`]. For the routes where the milliseconds count that a
/// revocation takes to arrive, such as changing a password.
///
/// It costs a round trip to the backend, and answers 503 when that cannot be read, even while the
/// list is fresh. An `Option` makes no sense here: extract `Strict<Session>` and ask for its subject.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "taken apart in a handler's arguments")]
pub struct Strict<V>(pub V);

impl<T: SessionData, S: Sync> FromRequestParts<S> for Strict<Session<T>> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        caught_up::<T>(parts).await.map(Self)
    }
}

impl<T: SessionData, S: Sync> FromRequestParts<S> for Strict<SignedIn<T>> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        caught_up::<T>(parts).await?;
        signed_in(parts)?.map(Self).ok_or(Error::new(ErrorKind::SignedOut))
    }
}

async fn caught_up<T: SessionData>(parts: &Parts) -> Result<Session<T>, Error> {
    let manager = manager_of::<T>(&parts.extensions);
    if let Some(list) = manager.as_ref().and_then(|manager| manager.revocations()) {
        list.catch_up().await?;
    }
    let session = Session::<T>::from_extensions(&parts.extensions)?;
    // Somebody may have looked at it before, in a middleware, say.
    if session.subject().is_some() {
        session.recheck()?;
    }
    Ok(session)
}

impl<T: SessionData, S: Sync> FromRequestParts<S> for Session<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Self::from_extensions(&parts.extensions)
    }
}

impl<T: SessionData, S: Sync> FromRequestParts<S> for SignedIn<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        signed_in(parts)?.ok_or(Error::new(ErrorKind::SignedOut))
    }
}

impl<T: SessionData, S: Sync> OptionalFromRequestParts<S> for SignedIn<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Error> {
        signed_in(parts)
    }
}

fn signed_in<T: SessionData>(parts: &Parts) -> Result<Option<SignedIn<T>>, Error> {
    let session = Session::<T>::from_extensions(&parts.extensions)?;
    Ok(session.subject().map(|subject| SignedIn { session, subject }))
}

/// The status of the [kind](ErrorKind::status), with an empty body: a visitor learns nothing else.
/// Only a missing layer, which is the developer's, says what to do. The error itself is left in the
/// response's extensions, for a layer that wants to draw a page around it.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.kind().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = match self.kind() {
            ErrorKind::NoLayer => (status, self.to_string()).into_response(),
            _ => status.into_response(),
        };
        response.extensions_mut().insert(self);
        response
    }
}
