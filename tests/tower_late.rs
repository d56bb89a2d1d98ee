//! The tower layer where something cannot be sent: the response has begun, or the browser may have
//! kept its cookie back.
#![cfg(feature = "tower")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
#[path = "common/web.rs"]
mod web;

use common::recorder;
use http::header::{COOKIE, SET_COOKIE};
use http::{Extensions, Request, Response};
use sealed_session::tower::SessionLayer;
use sealed_session::{Cookie, ErrorKind, Map, SameSite, Session, SessionManager};
use tower::Layer as _;
use web::{call, cookie_of, handler, ok, request, session};

fn layer(sessions: &SessionManager) -> SessionLayer<Map> {
    SessionLayer::new(sessions.clone())
}

#[test]
fn a_change_after_the_response_began_is_refused() {
    // A body that goes on working when the headers are out, as a stream does.
    type Body = Box<dyn FnOnce() -> Session + Send>;

    let (observer, log) = recorder();
    let sessions = common::builder().0.observer(observer).build().unwrap();
    let service = layer(&sessions).layer(handler(|request| {
        let session: Session = session(request);
        session.sign_in("alice").unwrap();
        Response::new(Box::new(move || {
            assert_eq!(session.insert("late", 1).unwrap_err().kind(), ErrorKind::Closed);
            session
        }) as Body)
    }));

    let response = call(service, request([]));
    let cookie = cookie_of(&response);
    let kept = response.into_body()();

    assert_eq!(kept.flash("info", "late").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(kept.sign_in("bob").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(kept.subject().as_deref(), Some("alice"));
    assert!(sessions.open::<Map>([cookie]).unwrap().data().is_empty());
    let log = log.lock().unwrap();
    assert_eq!(log.iter().filter(|event| event.starts_with("ClosedLate")).count(), 3, "{log:?}");
}

#[test]
fn a_session_looked_at_only_after_the_response_began_cannot_be_changed() {
    let (observer, log) = recorder();
    let sessions = common::builder().0.observer(observer).build().unwrap();
    let cookie = sessions.cookie_for::<Map>("alice").unwrap();
    let service = layer(&sessions)
        .layer(handler(|request: &Request<()>| Response::new(request.extensions().clone())));

    let response: Response<Extensions> = call(service, request([cookie.as_str()]));

    assert!(response.headers().is_empty());
    let late: Session = Session::from_extensions(response.body()).unwrap();
    assert_eq!(late.subject().as_deref(), Some("alice"));
    assert_eq!(late.insert("late", 1).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(late.close().unwrap_err().kind(), ErrorKind::Closed);
    // Too late for the cookie, but not for the list.
    assert_eq!(late.sign_out().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(sessions.open::<Map>([&cookie]).unwrap().subject(), None);
    let log = log.lock().unwrap();
    assert_eq!(log.iter().filter(|event| event.starts_with("ClosedLate")).count(), 2, "{log:?}");
}

/// CK-14: a request that another site caused can come without a cookie that the visitor has, and
/// the cookie of a new anonymous session would overwrite it.
#[test]
fn an_anonymous_write_overwrites_no_cookie_that_was_kept_back() {
    let safe = ["GET", "HEAD", "OPTIONS", "TRACE"];
    let others = ["POST", "PUT", "DELETE", "PATCH", "get"];
    for same_site in [SameSite::Strict, SameSite::Lax, SameSite::None] {
        let cookie = Cookie::default().same_site(same_site);
        let sessions = common::builder().0.cookie(cookie).build().unwrap();
        let answers = |method: &str, site: Option<&str>, cookie: Option<&str>, sign_in: bool| {
            let service = layer(&sessions).layer(handler(|request| {
                let session: Session = session(request);
                session.insert("cart", [7]).unwrap();
                if sign_in {
                    session.sign_in("bob").unwrap();
                }
                ok()
            }));
            let mut request = Request::builder().method(method).body(()).unwrap();
            for (name, value) in [("sec-fetch-site", site), (COOKIE.as_str(), cookie)] {
                if let Some(value) = value {
                    let name = http::HeaderName::try_from(name).unwrap();
                    request.headers_mut().insert(name, value.parse().unwrap());
                }
            }
            call(service, request).headers().contains_key(SET_COOKIE)
        };
        for method in safe.into_iter().chain(others) {
            let held_back = match same_site {
                SameSite::Strict => true,
                SameSite::Lax => others.contains(&method),
                _ => false,
            };
            let context = format!("{same_site:?} {method}");
            assert_eq!(answers(method, Some("cross-site"), None, false), !held_back, "{context}");
            assert!(answers(method, Some("cross-site"), None, true), "sign-in: {context}");
            for site in [None, Some("same-origin"), Some("same-site"), Some("none")] {
                assert!(answers(method, site, None, false), "{context} {site:?}");
            }
            // A cookie that came was not kept back, whether it is alive or dead.
            let alice = sessions.cookie_for::<Map>("alice").unwrap();
            for cookie in [&alice, "__Host-Http-id=dead"] {
                assert!(answers(method, Some("cross-site"), Some(cookie), false), "{context}");
            }
        }
    }
}
