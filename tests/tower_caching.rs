//! The tower layer and what it does to an answer's headers: `Vary`, caches, and nothing at all
//! where nobody looked at the session.
#![cfg(feature = "tower")]
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "helpers of tests")]

mod common;
#[path = "common/web.rs"]
mod web;

use std::sync::{Arc, Mutex};

use common::{MINUTE, recorder};
use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, VARY};
use http::{Request, Response};
use proptest::prelude::*;
use proptest::sample::select;
use sealed_session::tower::SessionLayer;
use sealed_session::{ManualClock, Map, SessionManager};
use tower::Layer as _;
use web::{call, handler, ok, request, session};

const CDN: &str = "cdn-cache-control";
const SURROGATE: &str = "surrogate-control";

struct Site {
    sessions: SessionManager,
    clock: ManualClock,
    log: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn new() -> Self {
        let (observer, log) = recorder();
        let (builder, clock) = common::builder();
        Self { sessions: builder.observer(observer).build().unwrap(), clock, log }
    }

    /// The `Cookie` field of someone whose session is due for a refresh.
    fn due(&self) -> String {
        let cookie = self.sessions.cookie_for::<Map>("alice").unwrap();
        self.clock.advance(10 * MINUTE);
        self.log.lock().unwrap().clear();
        cookie
    }

    fn answer(
        &self,
        cookie: Option<&str>,
        work: impl Fn(&Request<()>) -> Response<&'static str> + Clone,
    ) -> HeaderMap {
        let layer = SessionLayer::<Map>::new(self.sessions.clone());
        call(layer.layer(handler(work)), request(cookie)).headers().clone()
    }

    /// The first words of all events since the last call.
    fn events(&self) -> Vec<String> {
        let events = std::mem::take(&mut *self.log.lock().unwrap());
        let word = |event: String| event.split([' ', '{']).next().unwrap().to_owned();
        events.into_iter().map(word).collect()
    }
}

fn with(headers: &[(&'static str, &str)]) -> Response<&'static str> {
    let mut response = ok();
    for (name, value) in headers {
        let value = HeaderValue::try_from(*value).unwrap();
        response.headers_mut().append(HeaderName::from_static(name), value);
    }
    response
}

/// A handler that writes, and answers with these headers.
fn writing(headers: &[(&'static str, &str)]) -> HeaderMap {
    Site::new().answer(None, |request| {
        session::<Map>(request).sign_in("alice").unwrap();
        with(headers)
    })
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn a_request_whose_handler_does_not_look_opens_nothing() {
    let site = Site::new();
    let cookie = site.due();
    let public = [("cache-control", "public, max-age=60"), (CDN, "max-age=600")];

    let unseen = site.answer(Some(&cookie), |_| with(&public));
    assert_eq!(unseen, *with(&public).headers());
    assert_eq!(site.events(), Vec::<String>::new());
    site.answer(Some("__Host-Http-id=garbage"), |_| ok());
    assert_eq!(site.events(), Vec::<String>::new());

    let seen = site.answer(Some(&cookie), |request| {
        session::<Map>(request).data();
        ok()
    });
    assert_eq!(all(&seen, "vary"), ["Cookie"]);
    assert!(seen.contains_key(SET_COOKIE));
    assert_eq!(site.events(), ["Opened", "Refreshed"]);
    site.answer(Some("__Host-Http-id=garbage"), |request| {
        session::<Map>(request).data();
        ok()
    });
    assert_eq!(site.events(), ["Rejected"]);
}

#[test]
fn a_session_is_opened_once_however_often_it_is_looked_at() {
    let site = Site::new();
    let cookie = site.due();

    site.answer(Some(&cookie), |request| {
        session::<Map>(request).insert("a", 1).unwrap();
        assert_eq!(session::<Map>(request).get("a").unwrap(), Some(1));
        ok()
    });

    assert_eq!(site.events().iter().filter(|event| *event == "Opened").count(), 1);
}

#[test]
fn vary_names_cookie_once_where_the_session_was_looked_at() {
    let rows: [(&[&str], &[&str]); 8] = [
        (&[], &["Cookie"]),
        (&["Accept"], &["Accept", "Cookie"]),
        (&["Cookie"], &["Cookie"]),
        (&["accept, COOKIE"], &["accept, COOKIE"]),
        (&["*"], &["*"]),
        (&["Accept, *"], &["Accept, *"]),
        (&["Accept", "cookie"], &["Accept", "cookie"]),
        (&["Cookies"], &["Cookies", "Cookie"]),
    ];
    for (before, after) in rows {
        let headers: Vec<_> = before.iter().map(|value| ("vary", *value)).collect();
        assert_eq!(all(&writing(&headers), "vary"), after, "written: {before:?}");

        // Anonymous and unchanged: the answer still depends on the cookie that might have come.
        let read = Site::new().answer(None, |request| {
            session::<Map>(request).data();
            with(&headers)
        });
        assert_eq!(all(&read, "vary"), after, "read: {before:?}");
        assert_eq!(read.keys_len(), 1, "read: {before:?}");
    }
}

#[test]
fn an_answer_that_sets_the_cookie_is_not_stored() {
    let rows: [(&[&str], &[&str]); 19] = [
        (&[], &["no-store"]),
        (&[""], &["no-store"]),
        (&["public, max-age=60"], &["no-store"]),
        (&["max-age=60"], &["no-store"]),
        (&["s-maxage=1"], &["no-store"]),
        (&["no-cache"], &["no-store"]),
        (&["private=\"set-cookie\""], &["no-store"]),
        (&["private=\"set-cookie, vary\""], &["no-store"]),
        (&["no-storage"], &["no-store"]),
        (&["public", "max-age=60"], &["no-store"]),
        (&["no-store"], &["no-store"]),
        (&["private"], &["private"]),
        (&["PRIVATE, Max-Age=60"], &["PRIVATE, Max-Age=60"]),
        (&["No-Store"], &["No-Store"]),
        (&["max-age=60", "private"], &["max-age=60", "private"]),
        (&["no-cache,\tno-store ,max-age=0"], &["no-cache,\tno-store ,max-age=0"]),
        (&["public, private"], &["public, private"]),
        (&["PUBLIC"], &["no-store"]),
        (&["foo=\"private\""], &["no-store"]),
    ];
    for (before, after) in rows {
        let headers: Vec<_> = before.iter().map(|value| ("cache-control", *value)).collect();
        let headers = writing(&headers);
        assert_eq!(all(&headers, "cache-control"), after, "{before:?}");
        assert!(headers.contains_key(SET_COOKIE));
    }
}

/// RFC 9111 5.2: what stands in quotes is an argument, commas included.
#[test]
fn a_directive_inside_a_quoted_string_is_none() {
    for value in ["ext=\"a, private\"", "ext=\"a, private , b\"", "ext=\"\\\", no-store,\""] {
        let headers = writing(&[("cache-control", value)]);
        assert_eq!(all(&headers, "cache-control"), ["no-store"], "{value}");
    }
}

#[test]
fn headers_for_shared_caches_go_from_an_answer_that_sets_the_cookie() {
    let site = Site::new();
    let work = |request: &Request<()>| {
        session::<Map>(request).sign_in("alice").unwrap();
        with(&[
            ("cache-control", "private"),
            (CDN, "max-age=60"),
            (CDN, "public"),
            (SURROGATE, "max-age=60"),
        ])
    };

    let headers = site.answer(None, work);

    assert_eq!(all(&headers, "cache-control"), ["private"]);
    assert!(!headers.contains_key(CDN) && !headers.contains_key(SURROGATE));
    let log = site.log.lock().unwrap();
    let changed: Vec<_> = log.iter().filter(|e| e.starts_with("CacheHeaderChanged")).collect();
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert!(changed[0].contains(CDN) && changed[1].contains(SURROGATE));

    let site = Site::new();
    site.answer(None, |request| {
        session::<Map>(request).sign_in("alice").unwrap();
        with(&[("cache-control", "public")])
    });
    let log = site.log.lock().unwrap();
    assert_eq!(log.iter().filter(|event| event.contains("\"cache-control\"")).count(), 1);
}

#[test]
fn a_mere_refresh_is_skipped_on_a_public_answer() {
    let rows: [(bool, &[(&'static str, &str)]); 17] = [
        (false, &[]),
        (false, &[("cache-control", "no-store")]),
        (false, &[("cache-control", "no-cache")]),
        (false, &[("cache-control", "private, max-age=60")]),
        (false, &[("cache-control", "max-age=0")]),
        (false, &[(CDN, "no-store")]),
        (false, &[(SURROGATE, "no-store")]),
        (false, &[("cache-control", "no-store"), (SURROGATE, "No-Store, content=\"ESI/1.0\"")]),
        (false, &[(CDN, "private, max-age=60"), (SURROGATE, "max-age=0")]),
        (true, &[(CDN, "no-store"), (SURROGATE, "max-age=60")]),
        (true, &[("cache-control", "public")]),
        (true, &[("cache-control", "PUBLIC, max-age=60")]),
        (true, &[("cache-control", "max-age=60")]),
        (true, &[("cache-control", "s-maxage=1")]),
        (true, &[("cache-control", "no-cache"), ("cache-control", "S-MaxAge=1")]),
        (true, &[("cache-control", "private"), (CDN, "max-age=60")]),
        (true, &[(SURROGATE, "max-age=60")]),
    ];
    for (public, headers) in rows {
        let site = Site::new();
        let cookie = site.due();

        let answer = site.answer(Some(&cookie), |request| {
            assert_eq!(session::<Map>(request).subject().as_deref(), Some("alice"));
            with(headers)
        });

        assert_eq!(!answer.contains_key(SET_COOKIE), public, "{headers:?}");
        let mut left = answer.clone();
        left.remove(VARY);
        let events = site.events();
        if public {
            assert_eq!(left, *with(headers).headers(), "touched: {headers:?}");
            assert_eq!(events, ["Opened", "RefreshSkipped"], "{headers:?}");
        } else {
            assert_eq!(events[..2], ["Opened", "Refreshed"], "{headers:?}");
        }
    }
}

#[test]
fn a_change_is_sent_on_a_public_answer_too() {
    let site = Site::new();
    let cookie = site.due();

    let answer = site.answer(Some(&cookie), |request| {
        session::<Map>(request).insert("cart", [7]).unwrap();
        with(&[("cache-control", "public, max-age=60")])
    });

    assert!(answer.contains_key(SET_COOKIE));
    assert_eq!(all(&answer, "cache-control"), ["no-store"]);
}

/// A reader of `Cache-Control` that shares nothing with ours: RFC 9110 5.6, lists of directives
/// whose arguments may be quoted strings.
fn directives(headers: &HeaderMap) -> Vec<(String, Option<String>)> {
    let value = all(headers, CACHE_CONTROL.as_str()).join(",");
    let (mut items, mut item, mut quoted, mut escaped) = (vec![], String::new(), false, false);
    for char in value.chars().chain([',']) {
        if char == ',' && !quoted {
            items.push(std::mem::take(&mut item));
            continue;
        }
        quoted ^= char == '"' && !escaped;
        escaped = quoted && char == '\\' && !escaped;
        item.push(char);
    }
    let split = |item: String| match item.trim().split_once('=') {
        Some((name, value)) => (name.to_ascii_lowercase(), Some(value.to_owned())),
        None => (item.trim().to_ascii_lowercase(), None),
    };
    items.into_iter().map(split).collect()
}

fn cache_control() -> impl Strategy<Value = Vec<String>> {
    let directive = prop_oneof![
        4 => select(vec![
            "public", "private", "no-store", "no-cache", "max-age=60", "max-age=0", "s-maxage=1",
            "private=\"set-cookie\"", "no-cache=\"x, private, y\"", "ext=\"\\\", no-store,\"", "must-revalidate", "", "privat",
            "immutable", "stale-while-revalidate=60", "private=", "no-store=1",
        ]).prop_map(str::to_owned),
        1 => "[a-z-]{1,9}(=[a-z0-9]{0,3})?",
    ];
    let directive = (directive, any::<bool>())
        .prop_map(|(text, upper)| if upper { text.to_uppercase() } else { text });
    let value = prop::collection::vec(directive, 0..4).prop_map(|all| all.join(", "));
    prop::collection::vec(value, 0..3)
}

proptest! {
    #[test]
    fn an_answer_that_a_cache_may_keep_never_carries_our_cookie(
        values in cache_control(),
        shared in prop::collection::vec(select(vec![CDN, SURROGATE]), 0..3),
        (come, write) in any::<(bool, bool)>(),
    ) {
        let site = Site::new();
        let cookie = come.then(|| site.due());
        let mut headers: Vec<_> = values.iter().map(|v| ("cache-control", v.as_str())).collect();
        headers.extend(shared.iter().map(|name| (*name, "max-age=60")));

        let answer = site.answer(cookie.as_deref(), |request| {
            let session = session::<Map>(request);
            if write {
                session.insert("cart", [7]).unwrap();
            }
            with(&headers)
        });

        let sets = answer.contains_key(SET_COOKIE);
        prop_assert!(!write || sets);
        if sets {
            let told = directives(&answer);
            let kept_out = |(name, argument): &(String, Option<String>)| {
                argument.is_none() && (name == "no-store" || name == "private")
            };
            prop_assert!(told.iter().any(kept_out), "{told:?}");
            prop_assert!(!answer.contains_key(CDN) && !answer.contains_key(SURROGATE));
        }
    }
}
