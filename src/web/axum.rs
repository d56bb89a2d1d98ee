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
