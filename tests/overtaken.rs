//! A request whose cookie was overtaken: the visitor has a better one, or may have, and the answer
//! does not overwrite it. Forms work meanwhile, and whoever signs in or out gets his answer.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::{Arc, Mutex};

use common::{Browser, DAY, HOUR, MILLI, MINUTE, SECOND};
use sealed_session::{
    Clock as _, Cookie, Error, ErrorKind, ManualClock, Map, Session, SessionManager, Target,
};

type Verb = fn(&Session<Map>) -> Result<(), Error>;

/// What pages do for visitors who are not signed in.
const WRITES: [(&str, Verb); 4] = [
    ("update", |s| s.insert("seen", 1)),
    ("flash", |s| s.flash("info", "please sign in")),
    ("form", |s| s.csrf_token().map(drop)),
    ("all of it", |s| {
        s.insert("seen", 1)?;
        s.csrf_token()?;
        s.flash("info", "please sign in")
    }),
];

/// A request under way, and the visitor it would be bad to overwrite.
struct Overtaken {
    sessions: SessionManager,
    clock: ManualClock,
    log: Arc<Mutex<Vec<String>>>,
    /// What the request brings.
    cookies: Vec<String>,
    /// Alice, with her cookie as it is by now.
    browser: Browser,
}

impl Overtaken {
    /// Alice, signed in with the cookie that she has.
    fn new() -> Self {
        let (record, log) = common::recorder();
        let (builder, clock) = common::builder();
        // A name without a prefix, for which other cookies can be planted.
        let sessions = builder.cookie(Cookie::new("id")).observer(record).build().unwrap();
        let browser = Browser { cookie: Some(sessions.cookie_for::<Map>("alice").unwrap()) };
        let cookies = browser.cookie.iter().cloned().collect();
        Self { sessions, clock, log, cookies, browser }
    }

    /// A tab sent its request before another one renewed the session.
    fn late_tab() -> Self {
        let mut it = Self::new();
        it.browser.request(&it.sessions, |s: &Session<Map>| s.renew().unwrap());
        it
    }

    /// The form of the sign-in was sent twice.
    fn double_tap() -> Self {
        let mut it = Self::new();
        it.browser.cookie = None;
        it.browser.request(&it.sessions, |s: &Session<Map>| s.csrf_token().map(drop).unwrap());
        it.cookies = it.browser.cookie.iter().cloned().collect();
        it.browser.sign_in(&it.sessions, "alice");
        it
    }

    /// The request reaches an instance whose clock is behind.
    fn slow_clock() -> Self {
        let it = Self::new();
        it.clock.set(it.clock.now() - 3 * MINUTE);
        it
    }

    /// Another site of the domain planted a session of its own.
    fn planted() -> Self {
        let mut it = Self::new();
        it.cookies.insert(0, it.sessions.cookie_for::<Map>("mallory").unwrap());
        it
    }

    fn open(&self) -> Session<Map> {
        self.sessions.open(&self.cookies).unwrap()
    }

    /// Whom the visitor's own cookie opens, where the clock is right again.
    fn subject(&self) -> Option<String> {
        self.clock.advance(3 * MINUTE);
        self.browser.subject(&self.sessions)
    }

    /// How many events have begun so since the last call.
    fn told(&self, start: &str) -> usize {
        let events = std::mem::take(&mut *self.log.lock().unwrap());
        events.iter().filter(|event| event.starts_with(start)).count()
    }
}

type Case = fn() -> Overtaken;

const CASES: [(&str, Case); 4] = [
    ("late tab", Overtaken::late_tab),
    ("double tap", Overtaken::double_tap),
    ("slow clock", Overtaken::slow_clock),
    ("planted session", Overtaken::planted),
];

#[test]
fn no_write_overwrites_the_cookie_of_a_visitor_whose_request_was_overtaken() {
    for (case, overtaken) in CASES {
        for (name, write) in WRITES {
            let mut it = overtaken();
            let session = it.open();
            assert_eq!((session.subject(), session.id()), (None, None), "{case}");
            it.told("");

            write(&session).unwrap();

            assert!(!it.browser.take_answer(&session), "{case}, {name}");
            // Nothing is lost by a form: its token is good without a session.
            let told = usize::from(name != "form");
            assert_eq!(it.told("Withheld { signed_out: false }"), told, "{case}, {name}");
            assert_eq!(it.subject().as_deref(), Some("alice"), "{case}, {name}");
        }
    }
}

#[test]
fn forms_work_while_a_request_is_overtaken() {
    for (case, overtaken) in CASES {
        let mut it = overtaken();
        let form = it.open();
        let token = form.csrf_token().unwrap();
        assert!(!it.browser.take_answer(&form), "{case}");

        // With the same cookies the form can be sent.
        it.open().verify_csrf(&token).unwrap();
        it.cookies.reverse();
        it.open().verify_csrf(&token).unwrap();

        // In no other session: a stranger's, a new one, or the visitor's own.
        let stranger = it.sessions.cookie_for::<Map>("mallory").unwrap();
        // On the slow instance the visitor's own cookie is the one that was overtaken.
        let own = it.browser.cookie.as_ref().filter(|_| case != "slow clock");
        for cookie in [Some(&stranger), own, None] {
            let session: Session = it.sessions.open(cookie).unwrap();
            assert_eq!(session.verify_csrf(&token).unwrap_err().kind(), ErrorKind::Csrf, "{case}");
        }
    }
}

#[test]
fn the_second_tap_on_sign_in_is_shown_the_form_again_and_the_visitor_stays_signed_in() {
    let it = Overtaken::new();
    let mut browser = Browser::default();
    let token = browser.request(&it.sessions, |s: &Session<Map>| s.csrf_token().unwrap());
    let second: Session = {
        let in_flight = browser.clone();
        browser.request(&it.sessions, |s: &Session<Map>| {
            s.verify_csrf(&token).unwrap();
            s.sign_in("alice").unwrap();
        });
        in_flight.open(&it.sessions)
    };

    // Its form belongs to the session that ended with the sign-in.
    assert_eq!(second.verify_csrf(&token).unwrap_err().kind(), ErrorKind::Csrf);
    second.csrf_token().unwrap();

    assert!(!browser.take_answer(&second));
    assert_eq!(browser.subject(&it.sessions).as_deref(), Some("alice"));
}

#[test]
fn a_sign_in_of_a_request_that_was_overtaken_is_sent() {
    for (case, overtaken) in CASES {
        let mut it = overtaken();
        let session = it.open();
        session.insert("seen", 1).unwrap();
        it.told("");

        session.sign_in("bob").unwrap();

        assert!(it.browser.take_answer(&session), "{case}");
        assert_eq!(it.told("Withheld"), 0, "{case}");
        it.browser.request(&it.sessions, |s: &Session<Map>| {
            assert_eq!(s.subject().as_deref(), Some("bob"), "{case}");
            assert_eq!(s.get::<u32>("seen").unwrap(), Some(1), "{case}");
        });
    }
}

#[test]
fn a_sign_out_of_a_request_that_was_overtaken_removes_the_cookie() {
    for (case, overtaken) in CASES {
        let mut it = overtaken();
        let session = it.open();
        session.insert("seen", 1).unwrap();

        session.sign_out().unwrap();
        assert!(session.data().is_empty());

        assert!(it.browser.take_answer(&session), "{case}");
        assert_eq!(it.browser.cookie, None, "{case}");
    }
}

/// The answer of the sign-in may be on its way for a minute, and no longer.
#[test]
fn a_revoked_cookie_is_replaced_by_the_next_write_once_a_minute_has_passed() {
    let ends: [(&str, Verb); 2] =
        [("sign-in", |s| s.sign_in("alice").map(drop)), ("sign-out", |s| s.sign_out().map(drop))];
    for (end_name, end) in ends {
        for (name, write) in WRITES {
            for (after, replaced) in [(MINUTE, false), (MINUTE + SECOND, true)] {
                let it = Overtaken::new();
                let mut late = it.browser.clone();
                it.browser.clone().request(&it.sessions, |s| end(s).unwrap());
                it.clock.advance(after);
                let before = late.cookie.clone();

                let session: Session = late.open(&it.sessions);
                write(&session).unwrap();

                let context = format!("{name}, {after:?} after the {end_name}");
                assert_eq!(late.take_answer(&session), replaced, "{context}");
                assert_eq!(late.cookie != before, replaced, "{context}");
            }
        }
    }
}

/// Nor does a lost answer of a renewal keep the visitor from writing for longer.
#[test]
fn an_outdated_cookie_is_replaced_by_the_next_write_once_a_minute_has_passed() {
    for (name, write) in WRITES {
        for (after, replaced) in [(MINUTE, false), (MINUTE + SECOND, true)] {
            let mut it = Overtaken::late_tab();
            it.clock.advance(after);

            let session = it.open();
            write(&session).unwrap();

            assert_eq!(it.browser.take_answer(&session), replaced, "{name}, after {after:?}");
        }
    }
}

/// No answer is under way that would bring a better cookie.
#[test]
fn a_session_ended_by_force_is_replaced_by_the_next_write_at_once() {
    for (name, write) in WRITES {
        let mut it = Overtaken::new();
        let id = it.open().id().unwrap();
        it.sessions.revoke(Target::session(id)).unwrap();

        let session = it.open();
        write(&session).unwrap();

        assert!(it.browser.take_answer(&session), "{name}");
    }
}

/// A clock that was an hour ahead may be another instance's; one that was a year ahead was wrong.
#[test]
fn a_cookie_from_the_far_future_is_replaced_by_the_next_write() {
    for (ahead, replaced) in [(HOUR, false), (365 * DAY, true)] {
        for (name, write) in WRITES {
            let mut it = Overtaken::new();
            it.clock.set(it.clock.now() - ahead);

            let session = it.open();
            write(&session).unwrap();

            assert_eq!(it.browser.take_answer(&session), replaced, "{name}, {ahead:?} ahead");
        }
    }
}

#[test]
fn a_late_tab_overwrites_no_sign_in_that_followed_a_sign_out_everywhere() {
    for (name, write) in WRITES {
        let mut it = Overtaken::new();
        let late = it.open();
        drop(late);
        it.browser.request(&it.sessions, |s: &Session<Map>| s.sign_out_everywhere().unwrap());
        it.clock.advance(MILLI);
        it.browser.sign_in(&it.sessions, "alice");

        // The late tab still has the cookie of before.
        let session = it.open();
        assert!(session.subject().is_none());
        write(&session).unwrap();

        assert!(!it.browser.take_answer(&session), "{name}");
        assert_eq!(it.browser.subject(&it.sessions).as_deref(), Some("alice"));
    }
}

#[test]
fn a_second_sign_out_is_not_told_as_one_that_could_not_revoke() {
    let it = Overtaken::new();
    it.browser.clone().request(&it.sessions, |s: &Session<Map>| s.sign_out().unwrap());
    it.log.lock().unwrap().clear();

    it.open().sign_out().unwrap();

    let log = it.log.lock().unwrap();
    assert!(!log.iter().any(|event| event.starts_with("Withheld")), "{log:?}");
}

/// The sign-in replaces the session all the same, and its answer is under way.
#[test]
fn a_late_tab_overwrites_no_sign_in_over_a_session_that_was_ended_by_force() {
    for (name, write) in WRITES {
        let mut it = Overtaken::new();
        let session = it.open();
        it.sessions.revoke(Target::session(session.id().unwrap())).unwrap();
        session.sign_in("alice").unwrap();
        assert!(it.browser.take_answer(&session));

        let late = it.open();
        write(&late).unwrap();

        assert!(!it.browser.take_answer(&late), "{name}");
        assert_eq!(it.browser.subject(&it.sessions).as_deref(), Some("alice"));
    }
}

#[test]
fn an_outdated_and_a_live_copy_beside_another_session_end_each_session_once() {
    let mut it = Overtaken::late_tab();
    let other = it.sessions.cookie_for::<Map>("bob").unwrap();
    it.cookies.extend(it.browser.cookie.iter().cloned().chain([other]));
    assert_eq!(it.cookies.len(), 3);
    it.log.lock().unwrap().clear();

    it.open().sign_out().unwrap();

    let log = it.log.lock().unwrap();
    assert_eq!(log.iter().filter(|event| event.starts_with("Revoked")).count(), 2, "{log:?}");
}

#[test]
fn a_sign_out_everywhere_ends_nobody_elses_session() {
    let mut it = Overtaken::late_tab();
    let bob = it.sessions.cookie_for::<Map>("bob").unwrap();
    it.cookies.push(bob);
    let session = it.open();
    assert_eq!(session.subject().as_deref(), Some("bob"));

    session.sign_out_everywhere().unwrap();

    assert_eq!(it.browser.subject(&it.sessions).as_deref(), Some("alice"));
}

#[test]
fn copies_of_two_sessions_under_one_name_end_each_once() {
    let mut it = Overtaken::new();
    let first = it.cookies.clone();
    let other = it.sessions.cookie_for::<Map>("bob").unwrap();
    it.clock.advance(10 * MINUTE);
    it.browser.request(&it.sessions, |s: &Session<Map>| drop(s.data()));
    it.cookies = [first, vec![other], it.browser.cookie.iter().cloned().collect()].concat();
    assert_eq!(it.cookies.len(), 3);
    it.log.lock().unwrap().clear();

    it.open().sign_out().unwrap();

    let log = it.log.lock().unwrap();
    assert_eq!(log.iter().filter(|event| event.starts_with("Revoked")).count(), 2, "{log:?}");
}
