//! A key leaks and is revoked while servers run: nothing that came under it goes on under another.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/fleet.rs"]
mod fleet;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::{Browser, HOUR, MILLI, MINUTE, SECOND, answer, is_alive, open, recorder, signed_in};
use fleet::key;
use sealed_session::{
    Error, ErrorKind, KeyRing, KeyState, KeyStatus, ManualClock, Map, Policy, RevocationList,
    Rotation, Session, SessionManager, SignIn, WatchedKeys, Zeroizing,
};

/// A server whose active key leaks in the middle of a request.
struct Server {
    sessions: SessionManager,
    clock: ManualClock,
    keys: WatchedKeys,
    text: Arc<Mutex<String>>,
    leaked: String,
    events: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let leaked = format!("{} seal_from=2020-01-01T00:00:00Z", key());
        let text = Arc::new(Mutex::new(leaked.clone()));
        let source = Arc::clone(&text);
        let load = move || Ok::<_, Error>(Zeroizing::new(source.lock().unwrap().clone()));
        let keys = KeyRing::watch(load).unwrap();
        let (clock, (record, events)) = (common::clock(), recorder());
        let sessions = SessionManager::builder("shop", keys.clone())
            .revocations(RevocationList::in_process())
            .clock(clock.clone())
            .observer(record)
            .build()
            .unwrap();
        Self { sessions, clock, keys, text, leaked, events }
    }

    /// The key is superseded, but not revoked.
    fn rotate(&self) {
        self.load(&format!("{} open_until=2100-01-01T00:00:00Z", self.leaked));
    }

    fn revoke_the_key(&self) {
        self.load(&format!("{} revoked", self.leaked));
    }

    fn load(&self, old: &str) {
        let mut text = self.text.lock().unwrap();
        let new = text
            .lines()
            .nth(1)
            .map_or_else(|| format!("{} seal_from=2021-01-01T00:00:00Z", key()), str::to_owned);
        *text = format!("{old}\n{new}");
        drop(text);
        self.keys.reload_now().unwrap();
    }

    fn visitor(&self) -> Browser {
        signed_in(&self.sessions, "alice")
    }

    fn was_not_sent(&self) -> bool {
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        let not_sent = "NotSent { error: Error { kind: KeyRevoked } }";
        let sealed = |event: &String| event.starts_with("Resealed") || event.starts_with("Refresh");
        events.iter().any(|event| event == not_sent) && !events.iter().any(sealed)
    }
}

#[test]
fn a_request_that_was_under_way_takes_nothing_over_to_the_next_key() {
    type Work = fn(&Session<Map>);
    let works: [Work; 4] = [
        |session| drop(session.data()),
        |session| session.insert("cart", 7).unwrap(),
        |session| drop(session.renew().unwrap()),
        |session| session.flash("info", "added").unwrap(),
    ];
    for work in works {
        let server = Server::start();
        let browser = server.visitor();
        server.clock.advance(10 * MINUTE);
        let session = open(&server.sessions, &browser);
        work(&session);

        server.revoke_the_key();

        assert_eq!(session.recheck().unwrap_err().kind(), ErrorKind::KeyRevoked);
        assert_eq!(answer(&session), None);
        assert!(server.was_not_sent());
        assert!(!is_alive(&server.sessions, &browser));
    }
}

#[test]
fn a_bearer_token_that_was_open_is_not_refreshed_under_the_next_key() {
    let server = Server::start();
    let bearer = server.sessions.bearer::<Map>();
    let opened = bearer.open(&bearer.issue("alice").unwrap()).unwrap();
    server.clock.advance(10 * MINUTE);

    server.revoke_the_key();

    assert_eq!(opened.refresh().unwrap_err().kind(), ErrorKind::KeyRevoked);
}

#[test]
fn who_signs_in_during_the_revocation_is_signed_in() {
    let server = Server::start();
    let mut browser = server.visitor();
    let session = open(&server.sessions, &browser);
    session.sign_in("alice").unwrap();

    server.revoke_the_key();

    assert!(browser.take_answer(&session));
    assert_eq!(browser.subject(&server.sessions).as_deref(), Some("alice"));
}

#[test]
fn a_key_that_is_only_superseded_meanwhile_takes_nothing_away() {
    let server = Server::start();
    let mut browser = server.visitor();
    let session = open(&server.sessions, &browser);
    drop(session.data());

    server.rotate();

    assert!(browser.take_answer(&session));
    server.revoke_the_key();
    assert!(is_alive(&server.sessions, &browser), "it was sealed anew under the next key");
}

#[test]
fn a_sign_in_takes_no_data_over_from_a_key_that_is_revoked_meanwhile() {
    for signs_in_first in [true, false] {
        let server = Server::start();
        let mut thief = server.visitor();
        thief.request(&server.sessions, |s: &Session<Map>| s.insert("role", "admin").unwrap());
        let session = open(&server.sessions, &thief);
        let sign_in = || drop(session.sign_in("alice").unwrap());

        if signs_in_first {
            sign_in();
        }
        server.revoke_the_key();
        if !signs_in_first {
            sign_in();
        }

        let mut browser = Browser::default();
        if let Some(set_cookie) = answer(&session) {
            browser.take(&set_cookie);
        }
        let role: Option<String> = open(&server.sessions, &browser).get("role").unwrap();
        assert_eq!((role, browser.cookie.is_some()), (None, !signs_in_first));
    }
}

#[test]
fn a_sign_in_takes_no_message_over_from_a_key_that_is_revoked_meanwhile() {
    let server = Server::start();
    let mut thief = Browser::default();
    thief.request(&server.sessions, |s: &Session<Map>| s.flash("info", "call 555").unwrap());
    let session = open(&server.sessions, &thief);
    session.sign_in(SignIn::new("alice").data(Map::default())).unwrap();

    server.revoke_the_key();

    assert_eq!(answer(&session), None);
    assert!(server.was_not_sent());
}

#[test]
fn a_sign_in_that_keeps_nothing_is_sent_whatever_it_then_writes() {
    let server = Server::start();
    let mut browser = Browser::default();
    browser.request(&server.sessions, |s: &Session<Map>| drop(s.csrf_token().unwrap()));
    let session = open(&server.sessions, &browser);
    session.sign_in("alice").unwrap();
    session.insert("greeted", true).unwrap();

    server.revoke_the_key();

    assert!(browser.take_answer(&session));
}

#[test]
fn a_sign_in_with_data_of_its_own_is_sent() {
    let server = Server::start();
    let mut browser = server.visitor();
    browser.request(&server.sessions, |s: &Session<Map>| s.insert("role", "admin").unwrap());
    let session = open(&server.sessions, &browser);
    session.sign_in(SignIn::new("alice").data(Map::default())).unwrap();

    server.revoke_the_key();

    assert!(browser.take_answer(&session));
    assert_eq!(browser.subject(&server.sessions).as_deref(), Some("alice"));
}

#[test]
fn a_revoked_key_whose_line_is_gone_is_no_better() {
    let server = Server::start();
    let browser = server.visitor();
    let session = open(&server.sessions, &browser);
    session.insert("cart", 7).unwrap();
    let bearer = server.sessions.bearer::<Map>();
    let opened = bearer.open(&bearer.issue("alice").unwrap()).unwrap();
    server.revoke_the_key();

    let rest = server.text.lock().unwrap().lines().nth(1).unwrap().to_owned();
    *server.text.lock().unwrap() = rest;
    server.keys.reload_now().unwrap();

    assert_eq!(session.recheck().unwrap_err().kind(), ErrorKind::KeyUnknown);
    assert_eq!(opened.refresh().unwrap_err().kind(), ErrorKind::KeyUnknown);
    assert_eq!(answer(&session), None);
}

#[test]
fn who_came_under_the_key_ends_no_sessions_of_others() {
    let server = Server::start();
    let thief = open(&server.sessions, &server.visitor());
    server.revoke_the_key();
    let alice = server.visitor();

    assert_eq!(thief.sign_out_others().unwrap_err().kind(), ErrorKind::SignedOut);

    assert!(is_alive(&server.sessions, &alice));
}

#[test]
fn a_stream_ends_with_the_key_that_its_answer_was_sealed_under() {
    let server = Server::start();
    let mut browser = Browser::default();
    let session = open(&server.sessions, &browser);
    session.sign_in("alice").unwrap();
    assert!(browser.take_answer(&session));
    session.recheck().unwrap();

    server.revoke_the_key();

    assert!(!is_alive(&server.sessions, &browser));
    assert_eq!(session.recheck().unwrap_err().kind(), ErrorKind::KeyRevoked);
}

#[test]
fn a_key_that_leaks_in_its_first_second_has_a_successor_at_once() {
    let policy = Policy::default().clock_skew(Duration::ZERO);
    let rotation = Rotation::new(&policy).activation_delay(Duration::ZERO);
    let took_over = SystemTime::UNIX_EPOCH + 1_800_000_000 * SECOND;
    let ring = KeyRing::generate().unwrap().rotate(&rotation, took_over - SECOND).unwrap();
    let ids: Vec<_> = ring.ring().status(took_over).iter().map(KeyStatus::id).collect();

    for millis in [0, 1, 999, 1000] {
        let now = took_over + millis * MILLI;
        let revoked = ring.ring().revoke_keys(&ids, &rotation, now).unwrap();

        let states: Vec<_> = revoked.ring().status(now).iter().map(KeyStatus::state).collect();
        assert_eq!(states, [KeyState::Revoked, KeyState::Revoked, KeyState::Active], "{millis}");
    }
}

#[test]
fn a_leak_is_ended_though_the_clock_of_whoever_ends_it_is_set_by_the_wrong_zone() {
    let rotation = Rotation::default();
    let now = SystemTime::UNIX_EPOCH + 1_800_000_000 * SECOND;
    let ring = format!("{} seal_from=2026-01-01T00:00:00Z", key());
    let ring: KeyRing = ring.parse().unwrap();
    let leaked = [ring.status(now)[0].id()];

    for wrong in [now + 14 * HOUR, now, now - 12 * HOUR] {
        let revoked = ring.revoke_keys(&leaked, &rotation, wrong).unwrap();

        let states: Vec<_> = revoked.ring().status(now).iter().map(KeyStatus::state).collect();
        assert_eq!(states, [KeyState::Revoked, KeyState::Active]);
    }
}

#[test]
fn a_leak_is_ended_though_a_key_seems_to_have_begun_that_waits_on_servers() {
    let rotation = Rotation::default();
    let now = SystemTime::UNIX_EPOCH + 1_800_000_000 * SECOND;
    let first = format!("{} seal_from=2026-01-01T00:00:00Z", key());
    let rotated = first.parse::<KeyRing>().unwrap();
    let rotated = rotated.rotate(&rotation, now - 24 * HOUR + 30 * MINUTE).unwrap();
    let leaked = [rotated.ring().status(now)[0].id()];

    let revoked = rotated.ring().revoke_keys(&leaked, &rotation, now + HOUR).unwrap();

    let states: Vec<_> = revoked.ring().status(now).iter().map(KeyStatus::state).collect();
    assert_eq!(states, [KeyState::Revoked, KeyState::Pending, KeyState::Active]);
}
