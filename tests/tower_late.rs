//! The tower layer where something cannot be sent: the response has begun, or the browser may have
//! kept its cookie back.
#![cfg(feature = "tower")]
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "helpers of tests")]

mod common;
#[path = "common/web.rs"]
mod web;

use std::convert::Infallible;
use std::future::{self, Future as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use common::{MILLI, recorder};
use http::header::{COOKIE, SET_COOKIE, VARY};
use http::{Extensions, Request, Response};
use sealed_session::tower::SessionLayer;
use sealed_session::{
    Clock as _, Cookie, ErrorKind, KeyRing, Map, SameSite, Session, SessionManager,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tower::util::ServiceExt as _;
use tower::{Layer as _, Service as _, service_fn};
use web::{block_on, call, cookie_of, handler, ok, request, session};

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

/// Keeps the session that a handler got, as a task of its own would.
type Kept = Arc<Mutex<Option<Session>>>;

/// What is answered to somebody who changes a session of which nothing will be sent.
fn assert_closed(sessions: &SessionManager, kept: &Kept, cookie: &str) {
    let session = kept.lock().unwrap().take().unwrap();
    assert_eq!(session.insert("late", 1).unwrap_err().kind(), ErrorKind::Closed);
    // Or the visitor, who never gets the new cookie, would be out.
    assert_eq!(session.renew().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(session.sign_out_everywhere().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(sessions.open::<Map>([cookie]).unwrap().subject().as_deref(), Some("alice"));
    // A sign-out is what it always was: too late for the cookie, but not for the list.
    assert_eq!(session.sign_out().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(sessions.open::<Map>([cookie]).unwrap().subject(), None);
}

#[test]
fn a_session_of_a_request_that_failed_cannot_be_changed() {
    let sessions = common::builder().0.build().unwrap();
    let cookie = sessions.cookie_for::<Map>("alice").unwrap();
    let kept = Kept::default();
    let service = layer(&sessions).layer(service_fn(|request: Request<()>| {
        *kept.lock().unwrap() = Some(session(&request));
        future::ready(Err::<Response<()>, _>("connection lost"))
    }));

    let result = block_on(service.oneshot(request([cookie.as_str()])));

    assert_eq!(result.unwrap_err(), "connection lost");
    assert_closed(&sessions, &kept, &cookie);
}

#[test]
fn a_session_of_a_request_that_was_cancelled_cannot_be_changed() {
    let sessions = common::builder().0.build().unwrap();
    let cookie = sessions.cookie_for::<Map>("alice").unwrap();
    let kept = Kept::default();
    let mut service = layer(&sessions).layer(service_fn(|request: Request<()>| {
        *kept.lock().unwrap() = Some(session(&request));
        future::pending::<Result<Response<()>, Infallible>>()
    }));

    let mut future = Box::pin(service.call(request([cookie.as_str()])));
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let session = kept.lock().unwrap().clone().unwrap();
    session.insert("in time", 1).unwrap();
    drop(future);

    assert_closed(&sessions, &kept, &cookie);
}

#[test]
fn a_session_of_a_request_that_was_cancelled_is_closed_to_who_looks_for_the_first_time() {
    let sessions = common::builder().0.build().unwrap();
    let cookie = sessions.cookie_for::<Map>("alice").unwrap();
    let kept = Mutex::new(None::<Extensions>);
    let mut service = layer(&sessions).layer(service_fn(|request: Request<()>| {
        *kept.lock().unwrap() = Some(request.extensions().clone());
        future::pending::<Result<Response<()>, Infallible>>()
    }));

    drop(service.call(request([cookie.as_str()])));

    let extensions = kept.into_inner().unwrap().unwrap();
    let late = Session::from_extensions(&extensions).unwrap();
    assert_closed(&sessions, &Arc::new(Mutex::new(Some(late))), &cookie);
}

/// The answer depended on the cookie, whatever became of the new one.
#[test]
fn vary_names_cookie_where_nothing_could_be_sealed() {
    let (observer, log) = recorder();
    let clock = common::clock();
    // The only key seals from now on, and the clock is set back in the middle of the request.
    let now = clock.now();
    let seal_from = OffsetDateTime::from(now).format(&Rfc3339).unwrap();
    let key = KeyRing::generate().unwrap().expose_text();
    let ring: KeyRing = format!("{} seal_from={seal_from}", key.trim_end()).parse().unwrap();
    let builder = SessionManager::builder("shop", ring).clock(clock.clone()).observer(observer);
    let service = layer(&builder.build().unwrap()).layer(handler(|request| {
        session::<Map>(request).insert("cart", [7]).unwrap();
        clock.set(now - MILLI);
        ok()
    }));

    let response = call(service, request([]));

    assert_eq!(response.headers().get(VARY).unwrap(), "Cookie");
    assert_eq!(response.headers().len(), 1);
    let log = log.lock().unwrap();
    assert!(
        matches!(&log[..], [event] if event.starts_with("NotSent { error: Error { kind: KeyRing")),
        "{log:?}"
    );
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

/// Whether a request that another site sent with POST, without a cookie, is answered with one.
fn cross_site_post(work: impl Fn(&Session) + Clone) -> bool {
    let sessions = common::builder().0.build().unwrap();
    let service = layer(&sessions).layer(handler(move |request| {
        work(&session(request));
        ok()
    }));
    let request = Request::post("/logout").header("sec-fetch-site", "cross-site").body(()).unwrap();
    call(service, request).headers().contains_key(SET_COOKIE)
}

#[test]
fn a_sign_out_with_a_message_overwrites_no_cookie_that_was_kept_back() {
    let message: fn(&Session) = |s| s.flash("info", "good-bye").unwrap();
    let sign_out: fn(&Session) = |s| drop(s.sign_out().unwrap());
    let orders: [&[fn(&Session)]; 4] =
        [&[sign_out], &[sign_out, message], &[message, sign_out], &[message, sign_out, message]];
    for (row, order) in (1..).zip(orders) {
        assert!(!cross_site_post(|s| order.iter().for_each(|work| work(s))), "row {row}");
    }
    // Who signs in afterwards means it.
    assert!(cross_site_post(|s| {
        sign_out(s);
        s.sign_in("bob").unwrap();
    }));
}

#[test]
fn a_form_where_the_cookie_was_kept_back_is_good_for_no_other_request() {
    let sessions = common::builder().0.build().unwrap();
    let tokens = Mutex::new(Vec::<String>::new());
    let service = layer(&sessions).layer(handler(|request| {
        let session: Session = session(request);
        let mut tokens = tokens.lock().unwrap();
        for earlier in tokens.iter() {
            let error = session.verify_csrf(earlier).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Csrf);
        }
        let token = session.csrf_token().unwrap();
        session.verify_csrf(&token).unwrap();
        tokens.push(token);
        ok()
    }));
    for site in ["cross-site", "cross-site", "same-origin"] {
        let request = Request::post("/").header("sec-fetch-site", site).body(()).unwrap();
        let sets_cookie = call(service.clone(), request).headers().contains_key(SET_COOKIE);
        assert_eq!(sets_cookie, site == "same-origin");
    }
}

/// What looks at the session while the layer makes its answer must not undo the answer.
#[test]
fn looking_at_the_session_again_while_the_answer_is_made_loses_nothing() {
    for _ in 0..500 {
        let sessions = common::builder().0.build().unwrap();
        let logger = Arc::new(Mutex::new(None));
        let started = Arc::clone(&logger);
        let answered = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&answered);
        let service = layer(&sessions).layer(handler(move |request| {
            let signed_in: Session = session(request);
            signed_in.sign_in("alice").unwrap();
            let extensions: Extensions = request.extensions().clone();
            let (begun, wait) = std::sync::mpsc::channel();
            let stop = Arc::clone(&stop);
            let task = std::thread::spawn(move || {
                begun.send(()).unwrap();
                while !stop.load(Ordering::SeqCst) {
                    Session::<Map>::from_extensions(&extensions).unwrap().subject();
                }
            });
            wait.recv().unwrap();
            *started.lock().unwrap() = Some(task);
            ok()
        }));

        let response = call(service, request([]));

        answered.store(true, Ordering::SeqCst);
        assert!(response.headers().contains_key(SET_COOKIE));
        logger.lock().unwrap().take().unwrap().join().unwrap();
    }
}

#[test]
fn several_late_looks_at_once_take_no_change() {
    for _ in 0..1_000 {
        let sessions = common::builder().0.build().unwrap();
        let kept = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&kept);
        let service = layer(&sessions).layer(handler(move |request| {
            *keep.lock().unwrap() = Some(request.extensions().clone());
            ok()
        }));
        call(service, request([]));
        let extensions = kept.lock().unwrap().take().unwrap();

        std::thread::scope(|scope| {
            let look = || session_in(&extensions).insert("late", 1).unwrap_err().kind();
            let looks = [(); 4].map(|()| scope.spawn(look));
            for look in looks {
                assert_eq!(look.join().unwrap(), ErrorKind::Closed);
            }
        });
    }
}

fn session_in(extensions: &Extensions) -> Session {
    Session::from_extensions(extensions).unwrap()
}
