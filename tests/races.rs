//! Requests that overlap: an answer under way never undoes what happened meanwhile, and facts that
//! meet count each for itself.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Browser, MILLI, MINUTE, answer, is_alive, open, signed_in};
use sealed_session::{
    Error, ErrorKind, ManualClock, Map, Policy, Session, SessionId, SessionManager, SignIn, Target,
};

type Verb = fn(&Session<Map>) -> Result<(), Error>;

/// Everything that can lead to a `Set-Cookie`, without signing in or out.
const WRITES: [(&str, Verb); 5] = [
    ("refresh", |s| s.get::<u32>("cart").map(drop)),
    ("update", |s| s.insert("cart", 8)),
    ("flash", |s| s.flash("info", "saved")),
    ("renew", |s| s.renew().map(drop)),
    ("emptying", |s| s.remove("cart").map(drop)),
];

fn shop() -> (SessionManager, ManualClock) {
    common::manager(Policy::default())
}

/// Writes late: to a session that ended meanwhile, a renewal is a conflict.
fn write_late(name: &str, write: Verb, session: &Session<Map>) {
    match write(session) {
        Err(error) if name == "renew" => assert_eq!(error.kind(), ErrorKind::Conflict),
        result => result.unwrap(),
    }
}

/// A visitor with a cart, signed in or not.
fn with_cart(sessions: &SessionManager, subject: Option<&str>) -> Browser {
    let mut browser = Browser::default();
    browser.request(sessions, |s: &Session<Map>| {
        s.insert("cart", 7).unwrap();
        subject.map(|subject| s.sign_in(subject).unwrap());
    });
    browser
}

/// A renewal under way makes the cookie that the browser still sends an outdated copy: that case
/// stands by itself below.
fn orders_of(write: &str) -> usize {
    if write == "renew" { 1 } else { 2 }
}

#[test]
fn an_answer_under_way_never_undoes_a_sign_out() {
    let sign_outs: [Verb; 2] = [|s| s.sign_out().map(drop), |s| s.sign_out_everywhere().map(drop)];
    for (name, write) in WRITES {
        for sign_out in sign_outs {
            for written_before in [false, true].into_iter().take(orders_of(name)) {
                let (sessions, clock) = shop();
                let mut browser = with_cart(&sessions, Some("alice"));
                clock.advance(10 * MINUTE);
                let slow = open(&sessions, &browser);
                if written_before {
                    write(&slow).unwrap();
                }

                browser.request(&sessions, |s| sign_out(s).unwrap());
                if !written_before {
                    write_late(name, write, &slow);
                }

                assert_eq!(answer(&slow), None, "{name}, written before: {written_before}");
            }
        }
    }
}

#[test]
fn an_answer_under_way_never_undoes_a_sign_in() {
    for before in [None, Some("alice"), Some("bob")] {
        for (name, write) in WRITES {
            for written_before in [false, true].into_iter().take(orders_of(name)) {
                let (sessions, clock) = shop();
                let mut browser = with_cart(&sessions, before);
                clock.advance(10 * MINUTE);
                let slow = open(&sessions, &browser);
                if written_before {
                    write(&slow).unwrap();
                }

                browser.sign_in(&sessions, "alice");
                if !written_before {
                    write_late(name, write, &slow);
                }

                assert_eq!(answer(&slow), None, "{name} of {before:?}");
                assert_eq!(browser.subject(&sessions).as_deref(), Some("alice"));
            }
        }
    }
}

#[test]
fn a_renewal_under_way_never_undoes_a_sign_out() {
    let (sessions, _) = shop();
    let mut browser = with_cart(&sessions, Some("alice"));
    let slow = open(&sessions, &browser);
    slow.renew().unwrap();

    browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());

    assert_eq!(answer(&slow), None);
}

#[test]
fn a_renewal_under_way_never_undoes_a_sign_in() {
    for before in [None, Some("alice"), Some("bob")] {
        let (sessions, _) = shop();
        let mut browser = with_cart(&sessions, before);
        let slow = open(&sessions, &browser);
        slow.renew().unwrap();

        browser.sign_in(&sessions, "alice");

        assert_eq!(answer(&slow), None, "{before:?}");
    }
}

#[test]
fn an_answer_under_way_is_sent_where_nothing_happened_meanwhile() {
    for (name, write) in WRITES {
        let (sessions, clock) = shop();
        let browser = with_cart(&sessions, Some("alice"));
        clock.advance(10 * MINUTE);
        let slow = open(&sessions, &browser);
        write(&slow).unwrap();
        let other = signed_in(&sessions, "bob");
        open(&sessions, &other).sign_out_everywhere().unwrap();

        assert!(answer(&slow).is_some(), "{name}");
    }
}

#[test]
fn a_sign_in_that_a_revocation_overtakes_fails_and_changes_nothing() {
    let targets = [Target::subject("alice"), Target::everyone(), Target::tag("phone")];
    for (target, before) in targets.into_iter().zip([None, Some("alice"), Some("bob")]) {
        for pause in [Duration::ZERO, MILLI] {
            let (sessions, clock) = shop();
            let session = open(&sessions, &with_cart(&sessions, before));
            let id = session.id();
            clock.advance(pause);
            sessions.revoke(target).unwrap();
            clock.advance(pause);

            let error = session.sign_in(SignIn::new("alice").tag("phone")).unwrap_err();

            assert_eq!(error.kind(), ErrorKind::Conflict, "{target:?}");
            assert_eq!(session.subject().as_deref(), before);
            assert_eq!(session.id(), id);
            assert_eq!(session.get::<u32>("cart").unwrap(), Some(7));
        }
    }
}

#[test]
fn a_sign_in_that_begins_after_a_revocation_succeeds_in_the_same_millisecond() {
    let (sessions, _) = shop();
    for target in [Target::subject("alice"), Target::everyone(), Target::tag("phone")] {
        sessions.revoke(target).unwrap();
        let browser = signed_in(&sessions, SignIn::new("alice").tag("phone"));
        assert_eq!(browser.subject(&sessions).as_deref(), Some("alice"), "{target:?}");
    }
}

#[test]
fn a_revocation_of_others_is_no_conflict() {
    let (sessions, _) = shop();
    let bob = signed_in(&sessions, "bob");
    let session = open(&sessions, &Browser::default());
    sessions.revoke(Target::subject("bob")).unwrap();
    sessions.revoke(Target::tag("phone")).unwrap();
    sessions.revoke(Target::session(open(&sessions, &bob).id().unwrap_or(ID))).unwrap();

    session.sign_in(SignIn::new("alice").tag("desk")).unwrap();

    assert!(answer(&session).is_some());
}

const ID: SessionId = SessionId::from_bytes([7; 16]);

#[test]
fn a_request_does_not_conflict_with_its_own_revocations() {
    let verbs: [Verb; 3] = [
        |s| s.sign_out_everywhere().map(drop),
        |s| s.sign_out_others().map(drop),
        |s| s.sign_out_others().and_then(|_| s.sign_out_everywhere()).map(drop),
    ];
    for verb in verbs {
        let (sessions, _) = shop();
        let phone = signed_in(&sessions, "alice");
        let mut desk = signed_in(&sessions, "alice");
        let copy = desk.clone();

        desk.request(&sessions, |s| {
            verb(s).unwrap();
            s.sign_in("alice").unwrap();
        });

        assert_eq!(desk.subject(&sessions).as_deref(), Some("alice"));
        assert!(!is_alive(&sessions, &phone));
        assert!(!is_alive(&sessions, &copy));
    }
}

#[test]
fn an_own_revocation_does_not_hide_the_one_that_overtook_the_sign_in() {
    let verbs: [Verb; 2] =
        [|s| s.sign_out_everywhere().map(drop), |s| s.sign_out_others().map(drop)];
    for verb in verbs {
        for pause in [Duration::ZERO, MILLI] {
            let (sessions, clock) = shop();
            let session = open(&sessions, &signed_in(&sessions, "alice"));
            let others = Target::subject("alice").except(session.id().unwrap());
            sessions.revoke(others).unwrap();
            clock.advance(pause);

            verb(&session).unwrap();

            assert_eq!(session.sign_in("alice").unwrap_err().kind(), ErrorKind::Conflict);
        }
    }
}

#[test]
fn a_second_revocation_in_one_millisecond_overtakes_a_sign_in_as_well() {
    for target in [Target::subject("alice"), Target::everyone(), Target::tag("phone")] {
        let (sessions, _) = shop();
        sessions.revoke(target).unwrap();
        let session = open(&sessions, &Browser::default());
        sessions.revoke(target).unwrap();

        let result = session.sign_in(SignIn::new("alice").tag("phone"));

        assert_eq!(result.map_err(|error| error.kind()).unwrap_err(), ErrorKind::Conflict);
    }
}

#[test]
fn a_revocation_reaches_sessions_that_stepped_over_another_in_the_same_millisecond() {
    let all = [Target::subject("alice"), Target::tag("phone"), Target::everyone()];
    for first in all {
        for second in all {
            let (sessions, _) = shop();
            sessions.revoke(first).unwrap();
            let browser = signed_in(&sessions, SignIn::new("alice").tag("phone"));

            sessions.revoke(second).unwrap();

            assert!(!is_alive(&sessions, &browser), "{first:?}, {second:?}");
        }
    }
}

#[test]
fn a_revocation_reaches_sessions_issued_before_the_clock_was_set_back() {
    let (sessions, clock) = shop();
    let before = sealed_session::Clock::now(&clock);
    let [desk, mut phone] = [(); 2].map(|()| signed_in(&sessions, "alice"));
    clock.set(before - MINUTE);

    phone.request(&sessions, |s: &Session<Map>| s.sign_out_others().unwrap());
    assert!(!is_alive(&sessions, &desk));
    sessions.revoke(Target::subject("alice")).unwrap();
    assert!(!is_alive(&sessions, &phone));

    let late = signed_in(&sessions, "alice");
    assert!(is_alive(&sessions, &late));
    sessions.revoke(Target::subject("alice")).unwrap();
    assert!(!is_alive(&sessions, &late));
}

#[test]
fn a_session_spared_by_its_visitor_is_dead_by_the_administrators_word() {
    for by_force in [Target::subject("alice"), Target::everyone(), Target::tag("phone")] {
        let (sessions, clock) = shop();
        let sign_in = || SignIn::new("alice").tag("phone");
        let [mut first, mut second] = [(); 2].map(|()| signed_in(&sessions, sign_in()));
        clock.advance(MILLI);

        // The visitor's word after the administrator's, in a request that began before it.
        let slow = open(&sessions, &first);
        sessions.revoke(by_force).unwrap();
        clock.advance(MILLI);
        assert_eq!(slow.sign_out_others().unwrap_err().kind(), ErrorKind::SignedOut);
        assert_eq!(answer(&slow), None);
        assert!(!is_alive(&sessions, &first), "{by_force:?}");
        assert!(!is_alive(&sessions, &second));

        // And before it.
        second = signed_in(&sessions, sign_in());
        first = signed_in(&sessions, sign_in());
        clock.advance(2 * MILLI);
        first.request(&sessions, |s: &Session<Map>| s.sign_out_others().unwrap());
        assert!(!is_alive(&sessions, &second));
        sessions.revoke(by_force).unwrap();
        assert!(!is_alive(&sessions, &first), "{by_force:?}");
    }
}
