//! What stands before every handler: the check against cross-site requests, and the headers that
//! tell browsers what a page may do.

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{FromRequest, Request};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sealed_session::Session;
use sealed_session::csrf::{FetchMetadata, Verdict};
use serde::de::DeserializeOwned;

use crate::cart::Shop;
use crate::pages::{self, Kept};

/// A form that one of our own pages sent, with the session it came in.
///
/// Both checks must pass. The browser's own word comes first, since it costs nothing and needs no
/// session. The token is asked for even where the browser says `same-origin`: that header is for
/// browsers to set, and whatever else reaches the shop can write what it likes.
pub(crate) struct Checked<F> {
    pub(crate) session: Session<Shop>,
    pub(crate) form: F,
}

/// A form with the hidden field `csrf`.
pub(crate) trait Guarded: Default + DeserializeOwned {
    /// The value of the hidden field, empty where it is missing.
    fn csrf(&self) -> &str;

    /// What the form shows when it must be sent again.
    fn into_kept(self) -> Kept;
}

impl<F: Guarded, S: Send + Sync> FromRequest<S> for Checked<F> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let facts = FetchMetadata::of(request.method(), request.uri(), request.headers());
        if facts.verdict(&[]) == Verdict::CrossSite {
            return Err(pages::cross_site());
        }
        let session = Session::<Shop>::from_extensions(request.extensions())
            .map_err(IntoResponse::into_response)?;
        let form = match Form::<F>::from_request(request, state).await {
            Ok(Form(form)) => form,
            Err(FormRejection::BytesRejection(rejection)) => {
                let text = "This form is too large, or it did not arrive whole.";
                return Err(pages::trouble(rejection.status(), text));
            }
            // What is no form carries no token either, and is answered like one without.
            Err(_) => F::default(),
        };
        match session.verify_csrf(form.csrf()) {
            Ok(()) => Ok(Self { session, form }),
            // The page was open for longer than its session, or the visitor signed in elsewhere.
            Err(_) => Err(pages::home_again(
                &session,
                StatusCode::FORBIDDEN,
                "This page was out of date, so nothing was done. Please send the form again.",
                &form.into_kept(),
            )),
        }
    }
}

/// Adds the headers to an answer; what a handler has set stays.
pub(crate) async fn add_headers(mut response: Response) -> Response {
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// `Strict-Transport-Security` is left to the proxy that speaks TLS.
const HEADERS: [(HeaderName, &str); 8] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    // Not `no-referrer`: under that, browsers send forms with `Origin: null`, which is cross-site.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];
