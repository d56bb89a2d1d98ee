//! The tower layer: who sees which session, and what becomes of the answer.
#![cfg(feature = "tower")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
#[path = "common/vector.rs"]
mod vector;
#[path = "common/web.rs"]
mod web;

use std::convert::Infallible;
use std::future::{self, Future, Ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use common::{Browser, manager};
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{HeaderMap, Request, Response, StatusCode};
use sealed_session::tower::SessionLayer;
use sealed_session::{
    Cookie, ErrorKind, Event, Map, Policy, RevocationList, Session, SessionManager, Target,
};
use tower::util::ServiceExt as _;
use tower::{Layer as _, Service, service_fn};
use web::{block_on, call, cookie_of, handler, names, ok, opened, request, session, set_cookies};

const OURS: &str = "__Host-Http-id";

/// Data of another type than the default one.
type Cart = Vec<u32>;

fn sessions() -> SessionManager {
    manager(Policy::default()).0
}

/// A manager whose cookie has this name.
fn named(name: &str) -> SessionManager {
    let (builder, _) = common::builder();
    builder.cookie(Cookie::new(name)).build().unwrap()
}

fn layer(sessions: &SessionManager) -> SessionLayer<Map> {
    SessionLayer::new(sessions.clone())
}

/// Looks at the session of `T` between two layers, before the inner one is reached.
fn between<S>(
    look: impl Fn(&Request<()>) + Clone,
    inner: S,
) -> impl Service<Request<()>, Response = S::Response, Error = S::Error> + Clone
where
    S: Service<Request<()>> + Clone,
{
    service_fn(move |request: Request<()>| {
        look(&request);
        inner.clone().oneshot(request)
    })
}

#[test]
fn the_session_cookie_stands_beside_the_cookies_of_others() {
    let service = layer(&sessions()).layer(handler(|request| {
        session::<Map>(request).sign_in("alice").unwrap();
        let mut response = ok();
        response.headers_mut().append(SET_COOKIE, HeaderValue::from_static("lang=de; Path=/"));
        response.headers_mut().append(SET_COOKIE, HeaderValue::from_static("theme=dark"));
        response
    }));

    let response = call(service, request([]));

    assert_eq!(names(&response), ["lang", "theme", OURS]);
    assert_eq!(set_cookies(response.headers())[..2], ["lang=de; Path=/", "theme=dark"]);
    assert_eq!(*response.body(), "body");
    let ours = response.headers().get_all(SET_COOKIE).iter().nth(2).unwrap();
    assert!(ours.is_sensitive());
}

#[test]
fn a_cookie_of_our_name_that_the_handler_set_itself_is_replaced() {
    let service = layer(&sessions()).layer(handler(|request| {
        session::<Map>(request).sign_in("alice").unwrap();
        let mut response = ok();
        for value in ["__Host-Http-id=mine", "__Host-Http-id2=x", "__Host-Http-id=again; Path=/"] {
            response.headers_mut().append(SET_COOKIE, HeaderValue::from_static(value));
        }
        response
    }));

    let response = call(service, request([]));

    assert_eq!(names(&response), ["__Host-Http-id2", OURS]);
    assert!(!set_cookies(response.headers()).concat().contains("mine"));
}

#[test]
fn client_and_server_errors_carry_the_cookie_too() {
    for status in [400, 401, 404, 500, 503] {
        let sessions = sessions();
        let service = layer(&sessions).layer(handler(move |request| {
            session::<Map>(request).sign_in("alice").unwrap();
            let mut response = ok();
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        }));

        let response = call(service, request([]));

        assert_eq!(response.status(), status);
        let browser = Browser { cookie: Some(cookie_of(&response)) };
        assert_eq!(browser.subject(&sessions).as_deref(), Some("alice"), "{status}");
    }
}

#[test]
fn the_same_layer_twice_is_one_session_and_one_cookie() {
    let layer = layer(&sessions());
    let inner = layer.layer(handler(|request| {
        let session: Session = session(request);
        assert_eq!(session.get::<u32>("outer").unwrap(), Some(1));
        session.insert("inner", 2).unwrap();
        ok()
    }));
    let look = |request: &Request<()>| session::<Map>(request).insert("outer", 1).unwrap();

    let response = call(layer.layer(between(look, inner)), request([]));

    assert_eq!(names(&response), [OURS]);
    let service = layer.layer(handler(|request| {
        let data = session::<Map>(request).data();
        assert_eq!((&data["outer"], &data["inner"]), (&1.into(), &2.into()));
        ok()
    }));
    call(service, request([cookie_of(&response).as_str()]));
}

#[test]
fn layers_of_two_types_and_names_are_two_sessions() {
    let (outer, inner) = (named("__Host-map"), named("__Host-cart"));
    let service =
        layer(&outer).layer(SessionLayer::<Cart>::new(inner.clone()).layer(handler(|request| {
            session::<Map>(request).sign_in("alice").unwrap();
            session::<Cart>(request).update(|cart| cart.push(7)).unwrap();
            ok()
        })));

    let response = call(service, request([]));

    assert_eq!(names(&response), ["__Host-cart", "__Host-map"]);
    let cookies = cookie_of(&response);
    let map: Session = outer.open([&cookies]).unwrap();
    let cart: Session<Cart> = inner.open([&cookies]).unwrap();
    assert_eq!((map.subject().as_deref(), &*cart.data()), (Some("alice"), &vec![7]));
}

#[test]
fn of_two_managers_with_one_type_the_inner_wins_inside_and_both_commit() {
    let (outer, inner) = (named("__Host-outer"), named("__Host-inner"));
    let service = layer(&inner).layer(handler(|request| {
        session::<Map>(request).sign_in("inner").unwrap();
        ok()
    }));
    let look = |request: &Request<()>| drop(session::<Map>(request).sign_in("outer").unwrap());

    let response = call(layer(&outer).layer(between(look, service)), request([]));

    assert_eq!(names(&response), ["__Host-inner", "__Host-outer"]);
    let browser = Browser { cookie: Some(cookie_of(&response)) };
    assert_eq!(browser.subject(&outer).as_deref(), Some("outer"));
    assert_eq!(browser.subject(&inner).as_deref(), Some("inner"));
}

#[test]
fn the_inner_of_two_layers_with_one_cookie_name_opens_nothing_and_says_why() {
    let (outer, inner) = (sessions(), sessions());
    let cookie = outer.cookie_for::<Map>("alice").unwrap();
    let clashes = |error: sealed_session::Error| {
        assert_eq!(error.kind(), ErrorKind::NoLayer);
        assert!(error.to_string().contains("cookie name __Host-Http-id"), "{error}");
    };

    // Two managers and one type: only what stands between the layers sees the outer session.
    let service = layer(&inner).layer(handler(move |request| {
        clashes(opened::<Map>(request).unwrap_err());
        ok()
    }));
    let look = |request: &Request<()>| {
        let session: Session = session(request);
        assert_eq!(session.subject().as_deref(), Some("alice"));
        session.insert("seen", true).unwrap();
    };
    let response = call(layer(&outer).layer(between(look, service)), request([cookie.as_str()]));
    assert_eq!(names(&response), [OURS]);
    assert!(outer.open::<Map>([cookie_of(&response)]).unwrap().data().contains_key("seen"));

    // Two types, of two managers or of one: the outer session is seen everywhere.
    for inner in [inner, outer.clone()] {
        let inner = SessionLayer::<Cart>::new(inner).layer(handler(move |request| {
            clashes(opened::<Cart>(request).unwrap_err());
            session::<Map>(request).insert("seen", true).unwrap();
            ok()
        }));
        let response = call(layer(&outer).layer(inner), request([cookie.as_str()]));
        assert_eq!(names(&response), [OURS]);
    }
}

#[test]
fn without_a_layer_of_its_type_a_session_says_which_one_to_add() {
    let service = layer(&sessions()).layer(handler(|request| {
        let error = opened::<Cart>(request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoLayer);
        assert!(error.to_string().contains("SessionLayer::<alloc::vec::Vec<u32>>"), "{error}");
        ok()
    }));

    assert_eq!(names(&call(service, request([]))), Vec::<&str>::new());
    assert_eq!(opened::<Map>(&request([])).unwrap_err().kind(), ErrorKind::NoLayer);
}

#[test]
fn an_error_of_the_service_goes_through_and_revocations_stand() {
    let sessions = sessions();
    let browser = Browser { cookie: Some(sessions.cookie_for::<Map>("alice").unwrap()) };
    let service = layer(&sessions).layer(service_fn(|request: Request<()>| {
        session::<Map>(&request).sign_out().unwrap();
        future::ready(Err::<Response<()>, _>(io::Error::other("connection lost")))
    }));

    let error = block_on(service.oneshot(request(browser.cookie.as_deref()))).unwrap_err();

    assert_eq!(error.to_string(), "connection lost");
    assert_eq!(browser.subject(&sessions), None);
}

#[test]
fn a_panic_of_the_handler_goes_through_and_revocations_stand() {
    let sessions = sessions();
    let browser = Browser { cookie: Some(sessions.cookie_for::<Map>("alice").unwrap()) };
    let service = layer(&sessions).layer(handler(|request| -> Response<()> {
        session::<Map>(request).sign_out().unwrap();
        panic!("in the handler");
    }));

    let outcome = catch_unwind(AssertUnwindSafe(|| {
        call(service, request(browser.cookie.as_deref()));
    }));

    assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"in the handler"));
    assert_eq!(browser.subject(&sessions), None);
}

#[test]
fn inside_a_layer_only_the_layer_closes_the_session() {
    let service = layer(&sessions()).layer(handler(|request| {
        let session: Session = session(request);
        session.sign_in("alice").unwrap();
        let error = session.close().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().contains("layer"), "{error}");
        session.insert("still", "open").unwrap();
        ok()
    }));

    assert_eq!(names(&call(service, request([]))), [OURS]);
}

#[test]
fn every_cookie_field_of_the_request_is_read() {
    let sessions = sessions();
    let cookie = sessions.cookie_for::<Map>("alice").unwrap();
    let service = layer(&sessions).layer(handler(|request| {
        assert_eq!(session::<Map>(request).subject().as_deref(), Some("alice"));
        ok()
    }));

    let both = format!("b=2; {cookie}");
    call(service.clone(), request(["a=1", &both, "c=3"]));
    call(service.clone(), request([cookie.as_str(), "__Host-Http-id=AAAA"]));

    let mut odd = request([]);
    odd.headers_mut().append(COOKIE, HeaderValue::from_bytes(b"caf\xe9=1; \xff").unwrap());
    odd.headers_mut().append(COOKIE, HeaderValue::try_from(cookie).unwrap());
    call(service, odd);
}

/// What a handler that looks at the session answers, for each kind of rejected cookie.
fn rejected() -> Vec<(String, ErrorKind, Response<&'static str>)> {
    let by_vector = vector::all().into_iter().filter_map(|vector| {
        let kind = vector.kind().filter(|_| vector.is_cookie() && !vector.is_text())?;
        let (clock, list) = (vector.clock(), RevocationList::in_process());
        let sessions = vector.manager(&clock, &list, None, |_: &Event<'_>| {});
        // Facts are left to the test of the vectors.
        let response = vector.revocations.is_empty().then(|| refused(&sessions, &vector.cookie()));
        Some((vector.file, kind, response?))
    });
    let (revoked, newer) = (sessions(), sessions());
    let cookie = revoked.cookie_for::<Map>("alice").unwrap();
    revoked.revoke(Target::everyone()).unwrap();
    let version_2 = format!("{OURS}=Ag{}", "A".repeat(58));
    let others = [
        ("revoked".into(), ErrorKind::Revoked, refused(&revoked, &cookie)),
        ("version 2".into(), ErrorKind::Version, refused(&newer, &version_2)),
    ];
    by_vector.chain(others).collect()
}

fn refused(sessions: &SessionManager, cookie: &str) -> Response<&'static str> {
    let service = layer(sessions).layer(handler(|request| {
        assert_eq!(session::<Map>(request).subject(), None);
        ok()
    }));
    let mut request = request([]);
    request.headers_mut().append(COOKIE, cookie.try_into().unwrap());
    call(service, request)
}

#[test]
fn every_rejection_gives_the_same_response() {
    let service = layer(&sessions()).layer(handler(|request| {
        session::<Map>(request).data();
        ok()
    }));
    let without = call(service, request([]));
    let parts = |response: &Response<&'static str>| {
        (response.status(), response.headers().clone(), *response.body())
    };

    let rejected = rejected();

    for (file, kind, response) in &rejected {
        assert_eq!(parts(response), parts(&without), "{file}: {kind:?}");
    }
    for kind in vector::KINDS {
        assert!(rejected.iter().any(|(_, other, _)| *other == kind), "{kind:?} did not occur");
    }
}

#[test]
fn no_rejection_removes_the_cookie() {
    for (file, kind, response) in rejected() {
        assert_eq!(response.headers().get(SET_COOKIE), None, "{file}: {kind:?}");
    }
}

#[test]
fn readiness_is_that_of_the_inner_service() {
    #[derive(Clone)]
    struct Busy(Arc<AtomicUsize>);

    impl Service<Request<()>> for Busy {
        type Response = Response<()>;
        type Error = io::Error;
        type Future = Ready<Result<Response<()>, io::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => Poll::Pending,
                1 => Poll::Ready(Ok(())),
                _ => Poll::Ready(Err(io::Error::other("shut down"))),
            }
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            future::ready(Ok(Response::new(())))
        }
    }

    let mut service = layer(&sessions()).layer(Busy(Arc::default()));
    let cx = &mut Context::from_waker(Waker::noop());

    assert!(service.poll_ready(cx).is_pending());
    assert!(matches!(service.poll_ready(cx), Poll::Ready(Ok(()))));
    let Poll::Ready(Err(error)) = service.poll_ready(cx) else { panic!("no error") };
    assert_eq!(error.to_string(), "shut down");
}

#[test]
fn a_service_that_waits_is_waited_for() {
    let service = layer(&sessions()).layer(service_fn(|request: Request<()>| async move {
        let session: Session = session(&request);
        let mut waited = false;
        future::poll_fn(|_| {
            if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        session.sign_in("alice").unwrap();
        Ok::<_, Infallible>(Response::new(()))
    }));
    let mut future = pin!(service.oneshot(request([])));
    let cx = &mut Context::from_waker(Waker::noop());

    assert!(future.as_mut().poll(cx).is_pending());
    let Poll::Ready(Ok(response)) = future.as_mut().poll(cx) else { panic!("not ready") };
    assert_eq!(names(&response), [OURS]);
}

#[test]
fn layer_service_and_future_are_what_servers_ask_for() {
    fn is_server_ready<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn is_send<F: Future + Send + 'static>(future: F) -> F {
        future
    }

    let layer = layer(&sessions());
    let mut service = layer.clone().layer(service_fn(|_: Request<()>| async {
        future::ready(()).await;
        Ok::<_, Infallible>(ok())
    }));
    is_server_ready(&layer);
    is_server_ready(&service);
    let response = block_on(is_send(service.clone().call(request([])))).unwrap();
    assert_eq!(response.headers(), &HeaderMap::new());
    block_on(is_send(service.call(request([])))).unwrap();
}
