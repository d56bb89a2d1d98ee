//! Session data on its way through JSON: what does not come back as it was is refused, and what the
//! handler saw is what the next request finds.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::atomic::{AtomicU32, Ordering};

use common::{Browser, manager};
use sealed_session::{Error, ErrorKind, Map, Policy, Session, SessionData, SignIn};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// JSON has no NaN: it is written as `null`, and that is no number.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Reading {
    value: f64,
}

/// What is left out when it is written is missing when it is read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Account {
    name: String,
    #[serde(skip_serializing_if = "is_seven")]
    number: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_seven(number: &u32) -> bool {
    *number == 7
}

/// Left out whatever it is, so that even the default does not come back.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Secret {
    #[serde(skip_serializing)]
    secret: u32,
}

/// Arrays in arrays, `depth` of them.
fn nested(depth: usize) -> Value {
    (1..depth).fold(Value::Array(Vec::new()), |inner, _| Value::Array(vec![inner]))
}

fn nested_map(depth: usize) -> Map {
    Map::from_iter([("nested".to_owned(), nested(depth))])
}

fn assert_serialize<R>(result: Result<R, Error>) {
    assert_eq!(result.map(drop).unwrap_err().kind(), ErrorKind::Serialize);
}

/// Every way in: refused, and the session is what it was before.
fn assert_refused<T: SessionData + PartialEq + std::fmt::Debug>(good: &T, bad: &T) {
    let (sessions, _) = manager(Policy::default());
    let cookie = sessions.cookie_for(SignIn::new("alice").data(good.clone())).unwrap();
    let mut browser = Browser { cookie: Some(cookie) };
    let given = |subject: &str| SignIn::new(subject).data(bad.clone());

    let session: Session<T> = browser.open(&sessions);
    let id = session.id();
    assert_serialize(session.update(|data| *data = bad.clone()));
    assert_serialize(session.try_update(|data| {
        *data = bad.clone();
        Ok::<_, Error>(())
    }));
    assert_serialize(session.sign_in(given("alice")));
    assert_serialize(session.sign_in(given("bob")));

    assert_eq!((session.subject().as_deref(), session.id()), (Some("alice"), id));
    assert_eq!(*session.data(), *good);
    assert!(!browser.take_answer(&session));
    browser.request(&sessions, |s: &Session<T>| {
        assert_eq!((s.subject().as_deref(), s.id()), (Some("alice"), id));
        assert_eq!(*s.data(), *good);
    });
    assert_serialize(sessions.bearer().issue(given("alice")));
    assert_serialize(sessions.cookie_for(given("alice")));
}

#[test]
fn a_number_that_json_does_not_have_is_refused_and_changes_nothing() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_refused(&Reading { value: 1.5 }, &Reading { value });
    }
}

#[test]
fn a_field_that_is_missing_when_it_is_read_is_refused_and_changes_nothing() {
    let account = |number| Account { name: "savings".to_owned(), number };

    assert_refused(&account(6), &account(7));
}

#[test]
fn a_type_whose_default_does_not_come_back_signs_nobody_in() {
    let (sessions, _) = manager(Policy::default());
    let mut browser = Browser::default();

    let session: Session<Secret> = browser.open(&sessions);
    assert_serialize(session.sign_in("alice"));

    assert_eq!((session.subject(), session.id()), (None, None));
    assert!(!browser.take_answer(&session));
    assert_serialize(sessions.bearer::<Secret>().issue("alice"));
}

#[test]
fn data_nests_127_deep_and_no_deeper() {
    // The map itself is one level.
    let (deepest, too_deep) = (nested_map(126), nested_map(127));

    assert_refused(&deepest, &too_deep);
}

/// Starts from another number each time.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Ticket {
    number: u32,
    note: String,
}

impl Default for Ticket {
    fn default() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        Self { number, note: String::new() }
    }
}

#[test]
fn data_whose_default_varies_is_sealed_as_the_handler_saw_it() {
    type Verb = fn(&Session<Ticket>) -> Result<(), Error>;
    let verbs: [(&str, Verb); 5] = [
        ("sign_in", |s| s.sign_in("alice").map(drop)),
        ("csrf_token", |s| s.csrf_token().map(drop)),
        ("flash", |s| s.flash("info", "hello")),
        ("update", |s| s.update(|ticket| ticket.note.push('!'))),
        ("another subject", |s| s.sign_in("alice").and_then(|_| s.sign_in("bob")).map(drop)),
    ];
    for (name, verb) in verbs {
        let (sessions, _) = manager(Policy::default());
        let mut browser = Browser::default();

        let saw = browser.request(&sessions, |s: &Session<Ticket>| {
            verb(s).unwrap();
            s.data()
        });

        assert!(browser.cookie.is_some(), "{name}");
        browser.request(&sessions, |s: &Session<Ticket>| assert_eq!(s.data(), saw, "{name}"));
    }
}
