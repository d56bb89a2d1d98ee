//! The axum extractors: what they give, and what they answer where there is nothing to give.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
#[path = "common/vector.rs"]
mod vector;
#[path = "common/web.rs"]
mod web;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use common::{Browser, HOUR, manager};
use http::header::{COOKIE, LOCATION, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use sealed_session::axum::SignedIn;
use sealed_session::tower::SessionLayer;
use sealed_session::{
    Cookie, Error, ErrorKind, Event, KeyRing, Limits, Map, Policy, RevocationList, Session,
    SessionManager, SignIn, Target,
};
use serde::{Deserialize, Serialize};
use tower::util::ServiceExt as _;
use web::{block_on, set_cookies};

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Shop {
    cart: Vec<u32>,
}

/// The handler of the front page.
async fn add(session: Session<Shop>) -> Result<Redirect, Error> {
    session.update(|shop| shop.cart.push(7))?;
    Ok(Redirect::to("/"))
}

async fn cart(session: Session<Shop>) -> String {
    format!("{:?}", session.data().cart)
}

async fn profile(user: SignedIn<Shop>) -> String {
    // `subject` is its own, everything else the session's.
    format!("{} {:?}", user.subject(), user.data().cart)
}

async fn greeting(user: Option<SignedIn<Shop>>) -> String {
    user.map_or("hello".into(), |user| format!("hello {}", user.subject()))
}

async fn login(session: Session<Shop>) -> Result<StatusCode, Error> {
    session.sign_in("alice")?;
    Ok(StatusCode::NO_CONTENT)
}

async fn logout(user: SignedIn<Shop>) -> Result<String, Error> {
    user.sign_out()?;
    Ok(format!("bye {}", user.subject()))
}

fn routes() -> Router {
    Router::new()
        .route("/add", post(add))
        .route("/cart", get(cart))
        .route("/profile", get(profile))
        .route("/greeting", get(greeting))
        .route("/login", post(login))
        .route("/logout", post(logout))
}

fn app(sessions: &SessionManager) -> Router {
    routes().layer(SessionLayer::<Shop>::new(sessions.clone()))
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

fn ask(app: &Router, method: &Method, path: &str, cookie: Option<&str>) -> Answer {
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    if let Some(cookie) = cookie {
        request.headers_mut().append(COOKIE, HeaderValue::try_from(cookie).unwrap());
    }
    let Ok(response) = block_on(app.clone().oneshot(request));
    answer(response)
}

fn answer(response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    let body = block_on(to_bytes(body, usize::MAX)).unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

impl Browser {
    fn get(&mut self, app: &Router, path: &str) -> Answer {
        self.ask(app, &Method::GET, path)
    }

    fn post(&mut self, app: &Router, path: &str) -> Answer {
        self.ask(app, &Method::POST, path)
    }

    fn ask(&mut self, app: &Router, method: &Method, path: &str) -> Answer {
        let answer = ask(app, method, path, self.cookie.as_deref());
        for set_cookie in set_cookies(&answer.headers) {
            self.take(set_cookie);
        }
        answer
    }
}

#[test]
fn the_handler_of_the_front_page_fills_a_cart() {
    let app = app(&manager(Policy::default()).0);
    let mut browser = Browser::default();

    for _ in 0..2 {
        let answer = browser.post(&app, "/add");
        assert_eq!(
            (answer.status, &answer.headers[LOCATION]),
            (StatusCode::SEE_OTHER, &"/".parse().unwrap())
        );
    }

    assert_eq!(browser.get(&app, "/cart").body, "[7, 7]");
}

#[test]
fn signed_in_gives_subject_and_session_until_sign_out() {
    let app = app(&manager(Policy::default()).0);
    let mut browser = Browser::default();

    browser.post(&app, "/add");
    assert_eq!(browser.post(&app, "/login").status, StatusCode::NO_CONTENT);
    assert_eq!(browser.get(&app, "/profile").body, "alice [7]");
    assert_eq!(browser.get(&app, "/greeting").body, "hello alice");

    let copy = browser.clone();
    assert_eq!(browser.post(&app, "/logout").body, "bye alice");
    assert_eq!(browser.cookie, None);
    for mut signed_out in [browser, copy] {
        assert_eq!(signed_out.get(&app, "/profile").status, StatusCode::UNAUTHORIZED);
        assert_eq!(signed_out.get(&app, "/greeting").body, "hello");
    }
}

#[test]
fn signed_in_answers_401_without_a_session() {
    let (sessions, clock) = manager(Policy::default());
    let app = app(&sessions);
    let mut anonymous = Browser::default();
    anonymous.post(&app, "/add");
    let mut expired = Browser::default();
    expired.post(&app, "/login");
    clock.advance(13 * HOUR);

    for mut browser in [Browser::default(), anonymous, expired] {
        let answer = browser.get(&app, "/profile");
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.body, "");
        assert_eq!(answer.headers[VARY], "Cookie");
        assert!(!answer.headers.contains_key(SET_COOKIE));
        assert_eq!(browser.get(&app, "/greeting").body, "hello");
        assert_eq!(browser.get(&app, "/cart").status, StatusCode::OK);
    }
}

#[test]
fn an_extractor_without_its_layer_answers_500_and_names_it() {
    let (other, _) = manager(Policy::default());
    let another_type = routes().layer(SessionLayer::<Map>::new(other));

    for app in [routes(), another_type] {
        for path in ["/cart", "/profile", "/greeting"] {
            let answer = ask(&app, &Method::GET, path, None);
            assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            assert!(text.contains("SessionLayer::<axum::Shop>"), "{path}: {text}");
        }
    }
}

#[test]
fn an_extractor_under_a_clash_of_cookie_names_answers_500_and_names_it() {
    let (outer, inner) = (manager(Policy::default()).0, manager(Policy::default()).0);
    let app = app(&inner).layer(SessionLayer::<Map>::new(outer));

    let answer = ask(&app, &Method::GET, "/cart", None);

    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("__Host-Http-id"), "{text}");
}

/// The errors that the API gives without a broken backend, each where an application meets it.
fn errors() -> Vec<(ErrorKind, Error)> {
    let (sessions, _) = manager(Policy::default());
    let open = || -> Session { sessions.open(None::<&str>).unwrap() };
    let other = SessionManager::builder("shop", KeyRing::for_tests().unwrap()).build().unwrap();
    let foreign = other.bearer::<Map>().issue("alice").unwrap();
    let listless: Session = other.open([other.cookie_for::<Map>("alice").unwrap()]).unwrap();
    let closed = open();
    drop(closed.close().unwrap());
    let overtaken = open();
    sessions.revoke(Target::subject("alice")).unwrap();
    let full = RevocationList::in_process().max_entries(0);
    let (builder, _) = common::builder();
    let full = builder.revocations(full).build().unwrap();
    let zero = Limits { absolute_timeout: std::time::Duration::ZERO, idle_timeout: None };
    let unserializable = std::collections::BTreeMap::from([((1, 2), 3)]);
    let large = "x".repeat(5_000);
    let garbage = sessions.bearer::<Map>().open("garbage").err();
    let unknown = sessions.bearer::<Map>().open(&foreign).err();
    let busy = open();
    vec![
        (ErrorKind::Malformed, garbage.unwrap()),
        (ErrorKind::KeyUnknown, unknown.unwrap()),
        (ErrorKind::Csrf, open().verify_csrf("garbage").unwrap_err()),
        (ErrorKind::SignedOut, open().sign_out_others().unwrap_err()),
        (ErrorKind::TooLarge, open().insert("x", large).unwrap_err()),
        (ErrorKind::Serialize, open().insert("x", unserializable).unwrap_err()),
        (ErrorKind::Subject, open().sign_in("").unwrap_err()),
        (ErrorKind::Closed, closed.insert("x", 1).unwrap_err()),
        (ErrorKind::Busy, busy.update(|_| busy.flash("x", "y")).unwrap().unwrap_err()),
        (ErrorKind::Conflict, overtaken.sign_in("alice").unwrap_err()),
        (ErrorKind::Backend, Error::backend("no route to host")),
        (ErrorKind::Full, full.revoke(Target::everyone()).unwrap_err()),
        (ErrorKind::Unsupported, listless.sign_out_everywhere().unwrap_err()),
        (ErrorKind::KeyRing, "".parse::<KeyRing>().unwrap_err()),
        (ErrorKind::Config, open().sign_in(SignIn::new("alice").limits(zero)).unwrap_err()),
    ]
}

#[test]
fn an_error_as_a_response_is_its_status_and_nothing_else() {
    for (kind, error) in errors() {
        assert_eq!(error.kind(), kind, "{error}");
        let expected = match kind {
            ErrorKind::Malformed | ErrorKind::KeyUnknown | ErrorKind::SignedOut => 401,
            ErrorKind::Csrf => 403,
            ErrorKind::Conflict | ErrorKind::Busy => 409,
            ErrorKind::TooLarge => 413,
            ErrorKind::Backend | ErrorKind::Full => 503,
            _ => 500,
        };

        let response = error.into_response();
        // For a layer that draws a page around it.
        assert_eq!(response.extensions().get::<Error>().map(Error::kind), Some(kind));
        let answer = answer(response);

        assert_eq!(answer.status, expected, "{kind:?}");
        assert_eq!(answer.body, "", "{kind:?}");
        assert_eq!(answer.headers, HeaderMap::new(), "{kind:?}");
    }
}

#[test]
fn every_rejection_gives_the_same_bytes_on_every_kind_of_route() {
    let no_cookie = app(&manager(Policy::default()).0);
    let mut seen = Vec::new();
    for vector in vector::all() {
        let Some(kind) = vector.kind().filter(|_| vector.is_cookie() && !vector.is_text()) else {
            continue;
        };
        if !vector.revocations.is_empty() {
            continue;
        }
        let (clock, list) = (vector.clock(), RevocationList::in_process());
        let sessions = vector.manager(&clock, &list, None, |_: &Event<'_>| {});
        // Of `Data` too: a map is decoded as a map there, as the vector asks.
        let app = Router::new()
            .route("/cart", get(|session: Session| async move { format!("{:?}", session.data()) }))
            .route("/profile", get(|user: SignedIn| async move { user.subject().to_owned() }))
            .layer(SessionLayer::<Map>::new(sessions));
        let cookie = vector.cookie();
        let none = |path| ask(&app, &Method::GET, path, None);
        let with = |path| ask(&app, &Method::GET, path, Some(&cookie));
        for path in ["/cart", "/profile"] {
            let (without, rejected) = (none(path), with(path));
            assert_eq!(rejected.status, without.status, "{}", vector.file);
            assert_eq!(rejected.headers, without.headers, "{}", vector.file);
            assert_eq!(rejected.body, without.body, "{}", vector.file);
        }
        assert_eq!(with("/profile").status, StatusCode::UNAUTHORIZED);
        seen.push(kind);
    }
    let wanted = vector::KINDS.into_iter().filter(|kind| {
        // Those two are in vectors of the other transport and with facts; below.
        !matches!(kind, ErrorKind::Version | ErrorKind::Revoked)
    });
    for kind in wanted {
        assert!(seen.contains(&kind), "{kind:?}");
    }

    let (sessions, _) = manager(Policy::default());
    let mut revoked = Browser::default();
    revoked.post(&app(&sessions), "/login");
    sessions.revoke(Target::everyone()).unwrap();
    let version_2 = format!("__Host-Http-id=Ag{}", "A".repeat(58));
    for cookie in [revoked.cookie.unwrap(), version_2] {
        for path in ["/cart", "/profile", "/greeting"] {
            let rejected = ask(&app(&sessions), &Method::GET, path, Some(&cookie));
            let without = ask(&no_cookie, &Method::GET, path, None);
            assert_eq!(rejected.status, without.status, "{path}");
            assert_eq!(rejected.headers, without.headers, "{path}");
            assert_eq!(rejected.body, without.body, "{path}");
        }
    }
}

#[test]
fn sessions_of_two_types_live_beside_each_other() {
    let named = |name| common::builder().0.cookie(Cookie::new(name)).build().unwrap();
    let app = Router::new()
        .route(
            "/",
            get(|shop: Session<Shop>, admin: Session<Map>| async move {
                shop.update(|shop| shop.cart.push(1)).unwrap();
                admin.insert("role", "clerk").unwrap();
            }),
        )
        .layer(SessionLayer::<Shop>::new(named("__Host-shop")))
        .layer(SessionLayer::<Map>::new(named("__Host-admin")));

    let answer = ask(&app, &Method::GET, "/", None);

    assert_eq!(set_cookies(&answer.headers).len(), 2);
}
