//! The routes of the shop and their handlers.

use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use sealed_session::axum::{SignedIn, Strict};
use sealed_session::tower::SessionLayer;
use sealed_session::{Error, ErrorKind, Session, SessionManager, SignIn};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::accounts;
use crate::cart::{MAX_ITEM, Refusal, Shop};
use crate::guard::{self, Checked, Guarded};
use crate::pages::{self, Kept};

/// More than any of the forms needs.
const MAX_FORM: usize = 16 * 1024;

/// The whole application.
pub(crate) fn router(sessions: SessionManager) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/whoami", get(whoami))
        .route("/account", get(account))
        .route("/sign-in", post(sign_in))
        .route("/cart", post(add_to_cart))
        .route("/sign-out", post(sign_out))
        .route("/sign-out-everywhere", post(sign_out_everywhere))
        .route("/style.css", get(style))
        .fallback(async || pages::not_found())
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .layer(middleware::map_response(pages::around_error))
        .layer(SessionLayer::<Shop>::new(sessions))
        .layer(middleware::map_response(guard::add_headers))
}

async fn home(session: Session<Shop>) -> Result<Html<String>, Error> {
    pages::home(&session, None, &Kept::default())
}

async fn whoami(session: Session<Shop>) -> Result<Json<Value>, Error> {
    let id = session.id();
    let data = id.map(|_| session.data());
    Ok(Json(json!({
        "subject": session.subject().as_deref(),
        "id": id.map(|id| id.to_string()),
        "issued_at": session.issued_at().and_then(rfc_3339),
        "expires_at": session.expires_at().and_then(rfc_3339),
        "data": data.as_deref(),
    })))
}

/// What an account shows to nobody but its owner asks the revocation log itself: a session that was
/// ended on another server a moment ago does not get here.
async fn account(Strict(visitor): Strict<SignedIn<Shop>>) -> Html<String> {
    pages::account(visitor.subject())
}

async fn sign_in(Checked { session, form }: Checked<SignInForm>) -> Result<Redirect, Error> {
    let Some(user) = accounts::authenticate(&form.user, &form.password) else {
        // The same words for both mistakes, so that nobody learns which names exist.
        tell(&session, "error", "User name or password is wrong.")?;
        return Ok(Redirect::to("/"));
    };
    let sign_in = SignIn::new(user);
    let remember = form.remember == "on";
    // What the visitor put into the cart before stays there. It is their own input, as it was.
    session.sign_in(if remember { sign_in.remember() } else { sign_in })?;
    tell(&session, "info", "You are signed in.")?;
    Ok(Redirect::to("/"))
}

async fn add_to_cart(Checked { session, form }: Checked<CartForm>) -> Result<Response, Error> {
    let full = StatusCode::PAYLOAD_TOO_LARGE;
    let (status, why) = match session.try_update(|shop| shop.add(&form.item)) {
        Ok(()) => return Ok(Redirect::to("/").into_response()),
        Err(Refusal::Empty) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "Please name the item.".to_owned())
        }
        Err(Refusal::TooLong) => (full, format!("An item has at most {MAX_ITEM} characters.")),
        Err(Refusal::Full) => (full, "The cart is full: this item did not fit.".to_owned()),
        Err(Refusal::Session(error)) => return Err(error),
    };
    Ok(pages::home_again(&session, status, &why, &form.into_kept()))
}

async fn sign_out(Checked { session, .. }: Checked<Button>) -> Result<Redirect, Error> {
    // No message: it would start a new session, when the cookie is to go.
    session.sign_out()?;
    Ok(Redirect::to("/"))
}

async fn sign_out_everywhere(Checked { session, .. }: Checked<Button>) -> Result<Redirect, Error> {
    session.sign_out_everywhere()?;
    Ok(Redirect::to("/"))
}

/// Does not look at the session, so any cache may keep it.
async fn style() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "max-age=3600"),
    ];
    (headers, include_str!("style.css"))
}

/// Leaves a message for the next page. Where it does not fit, the answer goes out without it: a
/// message is a courtesy, and no ground to fail.
fn tell(session: &Session<Shop>, level: &str, text: &str) -> Result<(), Error> {
    session.flash(level, text).or_else(|error| match error.kind() {
        ErrorKind::TooLarge => Ok(()),
        _ => Err(error),
    })
}

/// None beyond the year 9999, which the format does not have.
fn rfc_3339(instant: SystemTime) -> Option<String> {
    OffsetDateTime::from(instant).format(&Rfc3339).ok()
}

// None of the forms is `Debug`: a password in a log stays there.

#[derive(Default, Deserialize)]
#[serde(default)]
struct SignInForm {
    csrf: String,
    user: String,
    password: String,
    remember: String,
}

impl Guarded for SignInForm {
    fn csrf(&self) -> &str {
        &self.csrf
    }

    fn into_kept(self) -> Kept {
        Kept { user: self.user, remember: self.remember == "on", ..Kept::default() }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CartForm {
    csrf: String,
    item: String,
}

impl Guarded for CartForm {
    fn csrf(&self) -> &str {
        &self.csrf
    }

    fn into_kept(self) -> Kept {
        Kept { item: self.item, ..Kept::default() }
    }
}

/// A form with nothing to fill in.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Button {
    csrf: String,
}

impl Guarded for Button {
    fn csrf(&self) -> &str {
        &self.csrf
    }

    fn into_kept(self) -> Kept {
        Kept::default()
    }
}
