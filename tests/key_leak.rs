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
    Rotation, SessionManager, WatchedKeys, Zeroizing,
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
    type Work = fn(&sealed_session::Session<Map>);
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
