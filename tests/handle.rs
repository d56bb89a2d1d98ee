//! The handle that a request holds: whose data it shows, who may change it and when, and which of
//! several cookies it stands for.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Browser, MILLI, MINUTE};
use sealed_session::{
    Error, ErrorKind, KeyRing, Map, Policy, RevocationList, Session, SessionManager, SignIn,
};
use serde::{Deserialize, Serialize};

type Verb<T> = fn(&Session<T>) -> Result<(), Error>;

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Count {
    n: u32,
}

fn open(sessions: &SessionManager, cookie: Option<&str>) -> Session<Map> {
    sessions.open(cookie).unwrap()
}

fn is_alive(sessions: &SessionManager, cookie: &str) -> bool {
    open(sessions, Some(cookie)).id().is_some()
}

fn answer<T: sealed_session::SessionData>(session: &Session<T>) -> Option<String> {
    session.close().unwrap().into_iter().next()
}

// Who inherits what.

#[test]
fn another_subject_gets_nothing_of_the_session_before() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = Browser::default();
    browser.request(&sessions, |s: &Session<Map>| {
        s.sign_in(SignIn::new("alice").remember().tag("phone")).unwrap();
        s.insert("secret", "alice's").unwrap();
        s.flash("info", "for alice").unwrap();
    });

    browser.request(&sessions, |s: &Session<Map>| {
        s.insert("other", "alice's too").unwrap();
        s.flash("info", "for alice too").unwrap();
        s.sign_in("bob").unwrap();
        assert!(s.data().is_empty());
        assert_eq!(s.take_flash().unwrap(), []);
    });

    sessions.revoke(sealed_session::Target::tag("phone")).unwrap();
    browser.request(&sessions, |s: &Session<Map>| {
        assert_eq!(s.subject().as_deref(), Some("bob"));
        assert!(s.data().is_empty());
        assert_eq!(s.take_flash().unwrap(), []);
    });
}

#[test]
fn data_and_messages_of_an_anonymous_visitor_and_of_the_same_subject_are_kept() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = Browser::default();
    browser.request(&sessions, |s: &Session<Map>| {
        s.insert("cart", 7).unwrap();
        s.flash("info", "first sign in").unwrap();
    });

    browser.sign_in(&sessions, "alice");
    browser.sign_in(&sessions, "alice");

    browser.request(&sessions, |s: &Session<Map>| {
        assert_eq!(s.get::<u32>("cart").unwrap(), Some(7));
        let messages = s.take_flash().unwrap();
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].level(), messages[0].text()), ("info", "first sign in"));
    });
}

#[test]
fn a_sign_out_leaves_nothing_for_what_follows_in_the_same_request() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = Browser { cookie: Some(sessions.cookie_for::<Map>("alice").unwrap()) };
    browser.request(&sessions, |s: &Session<Map>| s.insert("secret", 1).unwrap());

    browser.request(&sessions, |s: &Session<Map>| {
        s.sign_out().unwrap();
        assert!(s.data().is_empty());
        s.flash("info", "good-bye").unwrap();
    });

    browser.request(&sessions, |s: &Session<Map>| {
        assert_eq!(s.subject(), None);
        assert!(s.data().is_empty());
        assert_eq!(s.take_flash().unwrap()[0].text(), "good-bye");
    });
}

// Several cookies of one name.

#[test]
fn two_live_sessions_are_nobody_and_both_end_with_the_next_sign_in_or_out() {
    let verbs: [Verb<Map>; 2] = [|s| s.sign_in("carol").map(drop), |s| s.sign_out().map(drop)];
    for verb in verbs {
        for turned in [false, true] {
            let (record, log) = common::recorder();
            let sessions = common::builder().0.observer(record).build().unwrap();
            let cookies = ["alice", "bob"].map(|name| sessions.cookie_for::<Map>(name).unwrap());
            let ids = cookies.each_ref().map(|c| open(&sessions, Some(c)).id().unwrap());
            let [one, other] = if turned { [1, 0] } else { [0, 1] };
            let header = format!("{}; {}", cookies[one], cookies[other]);
            log.lock().unwrap().clear();

            let session = open(&sessions, Some(&header));
            assert_eq!((session.subject(), session.id()), (None, None));
            assert!(session.data().is_empty());
            let expected = format!("TwoSessions {{ ids: [{:?}, {:?}] }}", ids[one], ids[other]);
            assert_eq!(*log.lock().unwrap(), [expected]);
            assert!(cookies.iter().all(|cookie| is_alive(&sessions, cookie)));

            verb(&session).unwrap();

            assert!(answer(&session).is_some());
            assert!(cookies.iter().all(|cookie| !is_alive(&sessions, cookie)));
        }
    }
}

#[test]
fn of_one_sessions_copies_the_highest_generation_and_then_the_latest_refresh_counts() {
    // Without a list, since with one the copies of older generations are dead.
    let clock = common::clock();
    let sessions = SessionManager::builder("shop", KeyRing::for_tests().unwrap())
        .clock(clock.clone())
        .build()
        .unwrap();
    let mut browser = Browser { cookie: Some(sessions.cookie_for::<Count>("alice").unwrap()) };
    let mut write = |n, renew: bool| {
        browser.request(&sessions, |s: &Session<Count>| {
            s.update(|count| count.n = n).unwrap();
            if renew {
                s.renew().unwrap();
            }
        });
        clock.advance(MINUTE);
        browser.clone()
    };
    let old = write(1, false);
    let late = write(2, false);
    let renewed = write(3, true);
    let later_copy_of_an_older_generation = {
        let mut copy = late.clone();
        clock.advance(10 * MINUTE);
        copy.request(&sessions, |s: &Session<Count>| s.update(|count| count.n = 4).unwrap());
        copy
    };

    let cases = [
        (&old, &late, 2),
        (&late, &renewed, 3),
        (&later_copy_of_an_older_generation, &renewed, 3),
        (&old, &later_copy_of_an_older_generation, 4),
    ];
    for (one, other, expected) in cases {
        for [first, second] in [[one, other], [other, one]] {
            let cookie = |browser: &Browser| browser.cookie.clone().unwrap();
            let header = format!("{}; {}", cookie(first), cookie(second));
            let session: Session<Count> = sessions.open(Some(header)).unwrap();
            assert_eq!(session.subject().as_deref(), Some("alice"));
            assert_eq!(session.data().n, expected);
        }
    }
}

// One change at a time.

#[test]
fn a_change_inside_a_change_is_busy_and_harms_nothing() {
    let (sessions, _) = common::manager(Policy::default());
    let verbs: [(&str, Verb<Count>); 9] = [
        ("update", |s| s.update(|count| count.n = 99)),
        ("try_update", |s| s.try_update(|_| Ok(()))),
        ("sign_in", |s| s.sign_in("bob").map(drop)),
        ("sign_out", |s| s.sign_out().map(drop)),
        ("everywhere", |s| s.sign_out_everywhere().map(drop)),
        ("others", |s| s.sign_out_others().map(drop)),
        ("renew", |s| s.renew().map(drop)),
        ("flash", |s| s.flash("info", "hello")),
        ("csrf", |s| s.csrf_token().map(drop)),
    ];
    for (name, verb) in verbs {
        let session: Session<Count> = sessions.open(None::<&str>).unwrap();

        let inner = session.update(|count| {
            count.n = 1;
            let inner = verb(&session);
            assert_eq!(session.data().n, 0, "reading goes on, and shows what is in force");
            inner
        });

        assert_eq!(inner.unwrap().unwrap_err().kind(), ErrorKind::Busy, "{name}");
        assert_eq!((session.data().n, session.subject()), (1, None), "{name}");
        session.sign_in("alice").unwrap();
        assert!(answer(&session).is_some());
    }
}

#[test]
fn a_sign_out_inside_a_change_revokes_nothing() {
    let list = RevocationList::in_process();
    let sessions = common::builder().0.revocations(list.clone()).build().unwrap();
    let cookie = sessions.cookie_for::<Map>("alice").unwrap();
    let session = open(&sessions, Some(&cookie));

    let inner = session.update(|_| session.sign_out()).unwrap();

    assert_eq!(inner.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(list.entries(), 0);
    assert!(is_alive(&sessions, &cookie));
}

#[test]
fn eight_threads_that_count_at_once_lose_nothing() {
    let (sessions, _) = common::manager(Policy::default());
    let session: Session<Count> = sessions.open(None::<&str>).unwrap();

    thread::scope(|scope| {
        for _ in 0..8 {
            let session = session.clone();
            scope.spawn(move || {
                for _ in 0..100 {
                    session.update(|count| count.n += 1).unwrap();
                    session.try_update(|_| Err::<(), _>(session_error())).unwrap_err();
                }
            });
        }
    });

    assert_eq!(session.data().n, 800);
}

/// Some error of the application's.
fn session_error() -> Error {
    Error::backend("nothing")
}

#[test]
fn the_change_of_another_thread_waits_for_this_one() {
    let (sessions, _) = common::manager(Policy::default());
    let session: Session<Count> = sessions.open(None::<&str>).unwrap();
    let entered = AtomicBool::new(false);

    thread::scope(|scope| {
        let other = session.update(|count| {
            count.n = 1;
            let other = scope.spawn(|| {
                session.update(|count| {
                    entered.store(true, Ordering::SeqCst);
                    (std::mem::replace(&mut count.n, 2), count.n)
                })
            });
            for _ in 0..10_000 {
                assert!(!entered.load(Ordering::SeqCst));
                thread::yield_now();
            }
            other
        });
        assert_eq!(other.unwrap().join().unwrap().unwrap(), (1, 2));
    });

    assert_eq!(session.data().n, 2);
}

#[test]
fn close_does_not_wait_for_a_closure_whose_change_then_comes_too_late() {
    let (sessions, _) = common::manager(Policy::default());
    let mut browser = Browser::default();
    browser.request(&sessions, |s: &Session<Count>| s.update(|count| count.n = 1).unwrap());
    let session: Session<Count> = sessions.open(browser.cookie.as_deref()).unwrap();

    let late = session.update(|count| {
        let sent = thread::scope(|scope| scope.spawn(|| answer(&session)).join().unwrap());
        assert_eq!(sent, None);
        count.n = 2;
    });

    assert_eq!(late.unwrap_err().kind(), ErrorKind::Closed);
    browser.request(&sessions, |s: &Session<Count>| assert_eq!(s.data().n, 1));
}

#[test]
fn a_close_inside_a_change_is_busy_and_the_session_stays_open() {
    let (sessions, _) = common::manager(Policy::default());
    let session: Session<Count> = sessions.open(None::<&str>).unwrap();

    let inner = session.update(|count| {
        count.n = 1;
        session.close().map(drop)
    });

    assert_eq!(inner.unwrap().unwrap_err().kind(), ErrorKind::Busy);
    assert!(answer(&session).is_some());
}

#[test]
fn a_panic_in_a_change_leaves_the_session_usable_and_unchanged() {
    let (sessions, _) = common::manager(Policy::default());
    let session: Session<Count> = sessions.open(None::<&str>).unwrap();
    session.update(|count| count.n = 7).unwrap();

    let result = catch_unwind(AssertUnwindSafe(|| {
        session.update(|count| {
            count.n = 8;
            panic!("the handler's own fault");
        })
    }));

    assert!(result.is_err());
    assert_eq!(session.data().n, 7);
    session.update(|count| count.n += 1).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| session.update(|count| count.n += 1).unwrap()).join().unwrap();
    });
    assert_eq!(session.data().n, 9);
    assert!(answer(&session).is_some());
}

#[test]
fn an_error_in_a_change_rolls_it_back() {
    let (sessions, _) = common::manager(Policy::default());
    let session: Session<Count> = sessions.open(None::<&str>).unwrap();

    let result = session.try_update(|count| {
        count.n = 8;
        Err::<(), _>(session_error())
    });

    assert_eq!(result.unwrap_err().kind(), ErrorKind::Backend);
    assert_eq!((session.data().n, session.id()), (0, None));
    assert_eq!(answer(&session), None);
}

// After the end.

#[test]
fn nothing_can_be_changed_once_the_response_has_begun() {
    let (record, log) = common::recorder();
    let sessions = common::builder().0.observer(record).build().unwrap();
    let cookie = sessions.cookie_for::<Map>("alice").unwrap();
    let session = open(&sessions, Some(&cookie));
    session.flash("info", "hello").unwrap();
    assert!(answer(&session).is_some());
    log.lock().unwrap().clear();

    let verbs: [(&str, Verb<Map>); 8] = [
        ("update", |s| s.update(|_| ())),
        ("insert", |s| s.insert("cart", 7)),
        ("sign_in", |s| s.sign_in("bob").map(drop)),
        ("everywhere", |s| s.sign_out_everywhere().map(drop)),
        ("others", |s| s.sign_out_others().map(drop)),
        ("renew", |s| s.renew().map(drop)),
        ("flash", |s| s.flash("info", "late")),
        ("take_flash", |s| s.take_flash().map(drop)),
    ];
    for (count, (name, verb)) in (1..).zip(verbs) {
        assert_eq!(verb(&session).unwrap_err().kind(), ErrorKind::Closed, "{name}");
        let expected = format!("ClosedLate {{ id: {:?} }}", session.id());
        assert_eq!(*log.lock().unwrap(), vec![expected; count], "{name}");
    }
    assert!(session.data().is_empty());
    assert_eq!(session.subject().as_deref(), Some("alice"));
    assert!(is_alive(&sessions, &cookie));
}

#[test]
fn a_sign_out_after_the_response_has_begun_still_revokes() {
    let (record, log) = common::recorder();
    let sessions = common::builder().0.observer(record).build().unwrap();
    let cookie = sessions.cookie_for::<Map>("alice").unwrap();
    let session = open(&sessions, Some(&cookie));
    assert_eq!(answer(&session), None);
    let id = session.id();
    log.lock().unwrap().clear();

    assert_eq!(session.sign_out().unwrap_err().kind(), ErrorKind::Closed);

    assert!(!is_alive(&sessions, &cookie));
    let expected = [
        format!("ClosedLate {{ id: {id:?} }}"),
        format!("Revoked {{ scope: Session, id: {id:?} }}"),
        format!("Rejected {{ kind: Revoked, id: {id:?} }}"),
    ];
    assert_eq!(*log.lock().unwrap(), expected);
}

#[test]
fn a_session_closes_once() {
    let (sessions, clock) = common::manager(Policy::default());
    let session = open(&sessions, None);
    session.insert("cart", 7).unwrap();
    assert!(answer(&session).is_some());
    clock.advance(MILLI);

    for handle in [&session.clone(), &session] {
        assert_eq!(handle.close().unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn a_verb_is_in_the_answer_exactly_when_it_succeeded() {
    let (sessions, _) = common::manager(Policy::default());
    for round in 0..6_000 {
        let session: Session<Count> = sessions.open(None::<&str>).unwrap();
        let (signed_in, asked, sent) = thread::scope(|scope| {
            let sign_in = scope.spawn(|| round % 2 == 0 && session.sign_in("alice").is_ok());
            let form = scope.spawn(|| round % 2 == 1 && session.csrf_token().is_ok());
            // The closer the race, the more it shows: close just when the form has its session.
            while round % 2 == 1 && session.id().is_none() {
                std::hint::spin_loop();
            }
            for _ in 0..round % 100 {
                std::hint::spin_loop();
            }
            let sent = answer(&session);
            (sign_in.join().unwrap(), form.join().unwrap(), sent)
        });

        assert_eq!(signed_in || asked, sent.is_some(), "round {round}");
    }
}
