//! The revocation list by the clock and under load: clocks that were wrong, what is pruned and how
//! often, whose entries fill it, and a sign-in that races with a revocation.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Browser, DAY, HOUR, MILLI, MINUTE, SECOND};
use sealed_session::{
    Clock as _, ErrorKind, KeyRing, Limits, ManualClock, Map, Policy, RevocationList, Session,
    SessionId, SessionManager, SignIn, Target,
};

/// A manager whose list the test can look into.
fn shop(list: RevocationList, policy: Policy) -> (SessionManager, RevocationList, ManualClock) {
    let (builder, clock) = common::builder();
    (builder.revocations(list.clone()).policy(policy).build().unwrap(), list, clock)
}

fn in_process() -> (SessionManager, RevocationList, ManualClock) {
    shop(RevocationList::in_process(), Policy::default())
}

/// The id of a session that nobody has; numbers give ids in no order.
fn id(number: u64) -> SessionId {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    SessionId::from_bytes(bytes)
}

// Clocks that are, or were, wrong.

/// 2 × `clock_skew` + 1 s: how far ahead a token may be.
const SLACK: Duration = Duration::from_secs(121);

#[test]
fn a_revocation_that_lies_in_the_future_fails_sign_ins_until_the_clock_reaches_it() {
    for target in [Target::subject("alice"), Target::tag("phone"), Target::everyone()] {
        let (sessions, _, clock) = in_process();
        let now = clock.now();
        clock.set(now + DAY);
        sessions.revoke(target).unwrap();
        let sign_in = || SignIn::new("alice").tag("phone");

        clock.set(now + DAY - SLACK);
        let mut browser = Browser::default();
        let session: Session = browser.open(&sessions);
        assert_eq!(session.sign_in(sign_in()).unwrap_err().kind(), ErrorKind::Backend);
        assert_eq!((session.subject(), session.id()), (None, None), "{target:?}");
        assert!(!browser.take_answer(&session), "no token that is dead at birth: {target:?}");
        let issued = sessions.bearer::<Map>().issue(sign_in());
        assert_eq!(issued.unwrap_err().kind(), ErrorKind::Backend);

        // From here on a session can be issued after it and open at once.
        clock.advance(MILLI);
        browser.request(&sessions, |s: &Session<Map>| s.sign_in(sign_in()).unwrap());
        assert_eq!(browser.subject(&sessions).as_deref(), Some("alice"), "{target:?}");
        let bearer = sessions.bearer::<Map>();
        bearer.open(&bearer.issue(sign_in()).unwrap()).unwrap();
    }
}

#[test]
fn a_revocation_of_everyone_in_the_future_starts_no_anonymous_session() {
    let (sessions, _, clock) = in_process();
    let now = clock.now();
    clock.set(now + DAY);
    sessions.revoke(Target::everyone()).unwrap();
    clock.set(now);

    let mut browser = Browser::default();
    let session: Session = browser.open(&sessions);

    assert_eq!(session.insert("cart", 7).unwrap_err().kind(), ErrorKind::Backend);
    assert_eq!(session.csrf_token().unwrap_err().kind(), ErrorKind::Backend);
    assert_eq!(session.flash("info", "hello").unwrap_err().kind(), ErrorKind::Backend);
    assert!(session.data().is_empty());
    assert!(!browser.take_answer(&session));
}

#[test]
fn a_revocation_in_the_future_does_not_concern_others() {
    let (sessions, _, clock) = in_process();
    let now = clock.now();
    clock.set(now + DAY);
    sessions.revoke(Target::subject("alice")).unwrap();
    clock.set(now);

    let mut browser = Browser::default();
    browser.sign_in(&sessions, "bob");

    assert_eq!(browser.subject(&sessions).as_deref(), Some("bob"));
}

#[test]
fn a_clock_that_jumps_ahead_by_a_year_and_is_right_again_within_an_hour_forgets_nothing() {
    let (sessions, list, clock) = in_process();
    let begin = clock.now();
    let mut browser = Browser::default();
    browser.sign_in(&sessions, "alice");
    let copy = browser.clone();
    let mut forced = Browser::default();
    forced.sign_in(&sessions, "bob");
    browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());
    sessions.revoke(Target::subject("bob")).unwrap();

    for round in 0..3 {
        clock.set(begin + 365 * DAY);
        sessions.revoke(Target::session(id(round))).unwrap();
        clock.advance(HOUR - MILLI);
        sessions.revoke(Target::session(id(round))).unwrap();
        clock.set(begin + MINUTE);
        sessions.revoke(Target::session(id(round))).unwrap();
    }

    assert_eq!(list.entries(), 5);
    assert_eq!(copy.subject(&sessions), None);
    assert_eq!(forced.subject(&sessions), None);
}

#[test]
fn a_revocation_after_the_clock_was_set_back_overtakes_a_sign_in_under_way() {
    let (sessions, _, clock) = in_process();
    Browser::default().sign_in(&sessions, "bob");
    clock.set(clock.now() - 30 * SECOND);
    sessions.revoke(Target::subject("alice")).unwrap();
    clock.advance(10 * SECOND);
    let session: Session = Browser::default().open(&sessions);
    clock.advance(5 * SECOND);

    // It says no more of sessions there are than the one before it.
    sessions.revoke(Target::subject("alice")).unwrap();

    assert_eq!(session.sign_in("alice").unwrap_err().kind(), ErrorKind::Conflict);
}

// What the list costs.

/// Pruning looks at every entry, so it must not come with every fact.
#[test]
fn a_list_in_steady_state_is_pruned_once_an_hour_and_stays_bounded() {
    let limits = Limits { absolute_timeout: 2 * HOUR, idle_timeout: None };
    let policy = Policy::default().browser(limits).remember(limits);
    let (sessions, list, clock) = shop(RevocationList::in_process(), policy);
    let mut last_prune = clock.now();
    let mut prunes = 0;
    let mut before = 0;

    for minute in 0..2 * 24 * 60 {
        clock.advance(MINUTE);
        sessions.revoke(Target::session(id(minute))).unwrap();
        if list.entries() <= before {
            let pause = clock.now().duration_since(last_prune).unwrap();
            assert!(prunes == 0 || pause >= HOUR, "again after {pause:?}");
            (last_prune, prunes) = (clock.now(), prunes + 1);
        }
        before = list.entries();
        // Two hours that the sessions last, one of margin, one between prunes, and the slack.
        assert!(before <= 4 * 60 + 4, "{before}");
    }

    assert!(prunes >= 40, "{prunes}");
}

#[test]
fn one_account_cannot_use_up_the_room_of_the_administrator() {
    let list = RevocationList::in_process().max_entries(100);
    let (sessions, list, clock) = shop(list, Policy::default());

    for _ in 0..1_000 {
        clock.advance(SECOND);
        Browser::default().request(&sessions, |s: &Session<Map>| {
            s.sign_in("mallory").unwrap();
            s.sign_out_others().unwrap();
        });
    }

    assert_eq!(list.entries(), 1);
    sessions.revoke(Target::subject("alice")).unwrap();
}

// Threads.

#[test]
fn a_sign_in_that_races_with_a_revocation_is_dead_or_a_conflict() {
    let sessions = SessionManager::builder("shop", KeyRing::for_tests().unwrap())
        .revocations(RevocationList::in_process())
        .build()
        .unwrap();

    for round in 0..2_000 {
        race(&sessions, round);
    }
}

fn race(sessions: &SessionManager, round: u32) {
    let subject = format!("user {round}");
    let begun = AtomicBool::new(false);
    let mut browser = Browser::default();
    // The password is being checked while the administrator locks the account.
    let session: Session = browser.open(sessions);

    let result = thread::scope(|scope| {
        scope.spawn(|| {
            begun.store(true, Ordering::SeqCst);
            sessions.revoke(Target::subject(&subject)).unwrap();
        });
        for _ in 0..100_000 {
            if begun.load(Ordering::SeqCst) {
                break;
            }
            thread::yield_now();
        }
        // At another point of the revocation each time.
        for _ in 0..(round % 40) * 50 {
            std::hint::spin_loop();
        }
        let result = session.sign_in(subject.as_str());
        browser.take_answer(&session);
        result
    });

    match result {
        Ok(_) => assert_eq!(browser.subject(sessions), None, "round {round}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "round {round}"),
    }
}

#[test]
fn a_refused_sign_out_does_not_keep_the_room_that_pruning_made() {
    for sign_out_first in [false, true] {
        let list = RevocationList::in_process().max_entries(10);
        let (sessions, list, clock) = shop(list, Policy::default());
        sessions.revoke(Target::tag("t0")).unwrap();
        clock.advance(10 * DAY);
        for n in 1..10 {
            sessions.revoke(Target::tag(&format!("t{n}"))).unwrap();
        }
        // The first one is over now, and may be forgotten at a look two hours later.
        clock.advance(20 * DAY + HOUR);
        sessions.revoke(Target::tag("t9")).unwrap();
        clock.advance(2 * HOUR);

        if sign_out_first {
            let mut browser = Browser::default();
            browser.sign_in(&sessions, "alice");
            let session: Session<Map> = browser.open(&sessions);
            assert_eq!(session.sign_out().unwrap_err().kind(), ErrorKind::Full);
        }
        sessions.revoke(Target::everyone()).unwrap();

        assert_eq!(list.entries(), 10);
    }
}
