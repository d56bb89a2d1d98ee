//! A thief who keeps a stolen copy alive: he is out as soon as the victim signs in or out, however
//! far the victim's own copy is behind, and nobody outlives the idle limit by being slow.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/fleet.rs"]
mod fleet;

use common::{Browser, HOUR, MILLI, MINUTE};
use fleet::{Fleet, key};
use sealed_session::{
    Clock as _, Error, ErrorKind, Limits, Map, Policy, RevocationList, Session, SessionManager,
    SignIn,
};

type Verb = fn(&Session<Map>) -> Result<(), Error>;

/// What a victim can do without knowing of the thief.
const ENDS: [(&str, Verb); 3] = [
    ("sign-out", |s| s.sign_out().map(drop)),
    ("sign-in", |s| s.sign_in("alice").map(drop)),
    ("sign-in of another", |s| s.sign_in("bob").map(drop)),
];

/// A victim, and a thief with a copy of the cookie.
fn robbed(sessions: &SessionManager) -> (Browser, Browser) {
    let mut victim = Browser::default();
    victim.sign_in(sessions, "alice");
    let thief = victim.clone();
    (victim, thief)
}

fn is_active(browser: &mut Browser, sessions: &SessionManager) -> bool {
    browser.request(sessions, |s: &Session<Map>| s.subject().is_some())
}

#[test]
fn a_thief_who_stayed_active_is_out_once_the_idle_victim_signs_in_or_out() {
    for (name, end) in ENDS {
        let (sessions, clock) = common::manager(Policy::default());
        let (mut victim, mut thief) = robbed(&sessions);
        for _ in 0..4 {
            clock.advance(10 * MINUTE);
            assert!(is_active(&mut thief, &sessions));
        }
        assert_eq!(victim.subject(&sessions), None, "idle for 40 minutes");

        victim.request(&sessions, |s| end(s).unwrap());

        assert_eq!(thief.subject(&sessions), None, "{name}");
    }
}

#[test]
fn a_thief_who_renewed_is_out_once_the_victim_signs_in_or_out() {
    for (name, end) in ENDS {
        let (sessions, _) = common::manager(Policy::default());
        let (mut victim, mut thief) = robbed(&sessions);
        thief.request(&sessions, |s: &Session<Map>| s.renew().unwrap());
        assert_eq!(thief.subject(&sessions).as_deref(), Some("alice"));
        assert_eq!(victim.subject(&sessions), None, "outdated");

        victim.request(&sessions, |s| end(s).unwrap());

        assert_eq!(thief.subject(&sessions), None, "{name}");
    }
}

#[test]
fn a_thief_is_out_once_the_victim_signs_in_or_out_where_a_slow_clock_does_not_know_him_yet() {
    for (name, end) in ENDS {
        let (sessions, clock) = common::manager(Policy::default());
        let (mut victim, thief) = robbed(&sessions);
        let now = clock.now();
        clock.set(now - 3 * MINUTE);
        assert_eq!(victim.subject(&sessions), None, "not yet");

        victim.request(&sessions, |s| end(s).unwrap());

        clock.set(now + MINUTE);
        assert_eq!(thief.subject(&sessions), None, "{name}");
    }
}

#[test]
fn a_thief_is_out_once_the_victim_signs_in_or_out_under_a_tighter_policy() {
    let limits = |absolute_timeout| Limits { absolute_timeout, idle_timeout: None };
    for (name, end) in ENDS {
        let fleet = Fleet::new();
        let ring = key();
        let instance = |hours: u32| {
            let policy = Policy::default().browser(limits(hours * HOUR));
            fleet.builder(&ring).policy(policy).build().unwrap()
        };
        let (before, tighter) = (instance(12), instance(1));
        let (mut victim, mut thief) = robbed(&before);
        fleet.clock.advance(2 * HOUR);
        assert_eq!(victim.subject(&tighter), None, "expired there");
        assert!(is_active(&mut thief, &before));

        victim.request(&tighter, |s| end(s).unwrap());

        assert_eq!(thief.subject(&before), None, "{name}");
    }
}

/// A cookie that somebody else's copy may outlive is worth an entry; one that is over everywhere is
/// not, or old cookies could fill the list.
#[test]
fn a_cookie_adds_an_entry_until_its_sealed_limit_and_none_after_it() {
    let limits = Limits { absolute_timeout: 2 * HOUR, idle_timeout: Some(10 * MINUTE) };
    for (name, end) in ENDS {
        for (after, entries) in [(2 * HOUR, 1), (2 * HOUR + MILLI, 0)] {
            let list = RevocationList::in_process();
            let (builder, clock) = common::builder();
            let sessions = builder.revocations(list.clone()).build().unwrap();
            let idle = SignIn::<Map>::new("alice").limits(limits);
            let mut browser = Browser { cookie: Some(sessions.cookie_for(idle).unwrap()) };
            clock.advance(after);
            assert_eq!(browser.subject(&sessions), None);

            browser.request(&sessions, |s| end(s).unwrap());

            assert_eq!(list.entries(), entries, "{name} after {after:?}");
        }
    }
}

#[test]
fn the_sign_out_with_an_idle_anonymous_cookie_adds_no_entry() {
    let list = RevocationList::in_process();
    let (builder, clock) = common::builder();
    let sessions = builder.revocations(list.clone()).build().unwrap();
    let mut browser = Browser::default();
    browser.request(&sessions, |s: &Session<Map>| s.insert("cart", 7).unwrap());
    clock.advance(HOUR);

    browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());

    assert_eq!((browser.cookie, list.entries()), (None, 0));
}

#[test]
fn of_two_requests_that_renew_at_once_the_second_is_a_conflict_and_one_copy_lives() {
    let (sessions, _) = common::manager(Policy::default());
    let (mut victim, mut thief) = robbed(&sessions);
    let (first, second): (Session, Session) = (victim.open(&sessions), thief.open(&sessions));

    first.insert("admin", false).unwrap();
    first.renew().unwrap();
    second.insert("admin", true).unwrap();
    assert_eq!(second.renew().unwrap_err().kind(), ErrorKind::Conflict);

    assert!(victim.take_answer(&first));
    assert!(!thief.take_answer(&second), "what was written beside the renewal is not sent either");
    assert_eq!(thief.subject(&sessions), None);
    let session: Session = victim.open(&sessions);
    assert_eq!(session.subject().as_deref(), Some("alice"));
    assert_eq!(session.get::<bool>("admin").unwrap(), Some(false));
}

/// What a slow request can have done before it is answered at last.
const SLOW: [(&str, Verb); 3] =
    [("read", |_| Ok(())), ("write", |s| s.insert("seen", 1)), ("renew", |s| s.renew().map(drop))];

#[test]
fn activity_counts_from_the_arrival_of_a_request_however_late_its_answer_is() {
    for (name, work) in SLOW {
        let answers = [
            (45 * MINUTE, true),
            (50 * MINUTE, true),
            (50 * MINUTE + MILLI, false),
            (5 * HOUR, false),
        ];
        for (answered, sent) in answers {
            let (sessions, clock) = common::manager(Policy::default());
            let mut browser = Browser::default();
            browser.sign_in(&sessions, "alice");
            let begin = clock.now();
            // Idle since the sign-in, which is within the 30 minutes.
            clock.advance(20 * MINUTE);
            let slow: Session = browser.open(&sessions);
            work(&slow).unwrap();

            clock.set(begin + answered);
            assert_eq!(browser.take_answer(&slow), sent, "{name}, {answered:?}");

            // However late it came, the session ends 30 minutes after the arrival.
            for late in [50 * MINUTE, 50 * MINUTE + MILLI] {
                clock.set(begin + late.max(answered));
                let alive = sent && late <= 50 * MINUTE;
                let subject = browser.subject(&sessions);
                assert_eq!(subject.is_some(), alive, "{name}, {answered:?}, {late:?}");
            }
        }
    }
}

#[test]
fn recheck_says_of_a_kept_handle_what_the_visitors_next_request_would_find() {
    let (sessions, clock) = common::manager(Policy::default());
    let mut browser = Browser::default();
    browser.sign_in(&sessions, "alice");
    let begin = clock.now();
    clock.advance(20 * MINUTE);
    let [in_time, late] = [(); 2].map(|()| browser.open::<Map>(&sessions));
    let agree = |browser: &Browser, handle: &Session, expected: Option<ErrorKind>| {
        assert_eq!(handle.recheck().err().map(|error| error.kind()), expected);
        assert_eq!(browser.subject(&sessions).is_none(), expected.is_some());
    };

    // Nothing was answered yet: the browser has the cookie of the sign-in.
    clock.set(begin + 30 * MINUTE);
    agree(&browser, &in_time, None);
    clock.advance(MILLI);
    agree(&browser, &in_time, Some(ErrorKind::Idle));

    // With the answer the activity of the arrival reaches it.
    let without_answer = browser.clone();
    assert!(browser.take_answer(&in_time));
    clock.set(begin + 50 * MINUTE);
    agree(&browser, &in_time, None);
    clock.advance(MILLI);
    agree(&browser, &in_time, Some(ErrorKind::Idle));

    // An answer that comes too late is none.
    agree(&without_answer, &late, Some(ErrorKind::Idle));
    assert!(!browser.take_answer(&late));
    agree(&browser, &late, Some(ErrorKind::Idle));
}

#[test]
fn a_kept_bearer_token_is_not_refreshed_beyond_the_idle_limit() {
    let (sessions, clock) = common::manager(Policy::default());
    let bearer = sessions.bearer::<Map>();
    let token = bearer.issue("alice").unwrap();
    let begin = clock.now();
    clock.advance(20 * MINUTE);
    let opened = bearer.open(&token).unwrap();

    // Activity that arrived in time counts, and from then on.
    for late in [45 * MINUTE, 50 * MINUTE] {
        clock.set(begin + late);
        assert_eq!(bearer.open(&token).unwrap_err().kind(), ErrorKind::Idle);
        let next = opened.refresh().unwrap().unwrap();
        assert_eq!(bearer.open(&next).unwrap().refreshed_at(), begin + 20 * MINUTE);
        clock.set(begin + 50 * MINUTE + MILLI);
        assert_eq!(bearer.open(&next).unwrap_err().kind(), ErrorKind::Idle);
    }

    for late in [50 * MINUTE + MILLI, 5 * HOUR] {
        clock.set(begin + late);
        assert_eq!(opened.refresh().unwrap_err().kind(), ErrorKind::Idle, "{late:?}");
    }
}
