//! Keys come and go while visitors stay: which key seals, which open, and when a token is sealed
//! anew.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;
#[path = "common/fleet.rs"]
mod fleet;
#[path = "common/orders.rs"]
mod orders;

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Browser, DAY, MILLI, MINUTE};
use fleet::{Fleet, key};
use sealed_session::{Clock as _, ErrorKind, KeyRing, KeyState, Map, Session, SessionManager};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

fn date(at: SystemTime) -> String {
    OffsetDateTime::from(at).replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap()
}

/// The id of the first key of a ring, which is the same whatever stands after it.
fn id_of(key: &str) -> [u8; 4] {
    let ring: KeyRing = key.parse().unwrap();
    *ring.status(SystemTime::UNIX_EPOCH)[0].id().as_bytes()
}

fn token_of(cookie: &str) -> &str {
    cookie.split_once('=').unwrap().1
}

/// Version and key id, out of the first eight characters.
fn head_of(cookie: &str) -> (u8, [u8; 4]) {
    let bytes = URL_SAFE_NO_PAD.decode(&token_of(cookie)[..8]).unwrap();
    (bytes[0], bytes[1..5].try_into().unwrap())
}

fn signed_in(sessions: &SessionManager) -> Browser {
    Browser { cookie: Some(sessions.cookie_for::<Map>("alice").unwrap()) }
}

fn open(sessions: &SessionManager, cookie: &str) -> Session<Map> {
    sessions.open(Some(cookie)).unwrap()
}

fn answer(session: &Session<Map>) -> Option<String> {
    session.close().unwrap().into_iter().next()
}

#[test]
fn the_active_key_seals_whatever_the_order_of_lines() {
    let fleet = Fleet::new();
    let keys = [key(), key(), key(), key()];
    let [now, later] = [fleet.now(), fleet.now() + DAY].map(date);
    let mut lines = [
        keys[0].clone(),
        format!("{} seal_from={now}", keys[1]),
        format!("{} seal_from={later}", keys[2]),
        format!("{} revoked", keys[3]),
    ];
    orders::each(&mut lines, |lines| {
        let text = lines.join("\n");
        let ring: KeyRing = text.parse().unwrap();
        let sessions = fleet.instance(&text);
        let seals = |at: SystemTime| {
            fleet.clock.set(at);
            let active =
                ring.status(at).into_iter().find(|key| key.state() == KeyState::Active).unwrap();
            let token = sessions.cookie_for::<Map>("alice").unwrap();
            assert_eq!(head_of(&token), (1, *active.id().as_bytes()));
            head_of(&token).1
        };
        let begin = common::clock().now();

        assert_eq!(seals(begin), id_of(&keys[1]));
        assert_eq!(seals(begin - MILLI), id_of(&keys[0]));
        assert_eq!(seals(begin + DAY - MILLI), id_of(&keys[1]));
        assert_eq!(seals(begin + DAY), id_of(&keys[2]));
        fleet.clock.set(begin);
    });
}

#[test]
fn a_token_under_an_accept_only_key_is_sealed_anew_at_the_next_look() {
    let fleet = Fleet::new();
    let (old, new) = (key(), key());
    let from = date(fleet.now() + MINUTE);
    let sessions = fleet.instance(&format!("{old}\n{new} seal_from={from}"));
    fleet.clock.advance(MINUTE - MILLI);
    let mut browser = signed_in(&sessions);
    let bearer = sessions.bearer::<Map>();
    let token = bearer.issue("alice").unwrap();
    assert_eq!(head_of(browser.cookie.as_ref().unwrap()).1, id_of(&old));
    let opened = bearer.open(&token).unwrap();
    assert_eq!(opened.refresh().unwrap(), None);
    fleet.clock.advance(MILLI);
    fleet.events();

    let facts = |s: &Session<Map>| (s.id(), s.issued_at(), s.expires_at(), s.subject());
    let before = browser.request(&sessions, facts);

    let (from, to) = (hex(id_of(&old)), hex(id_of(&new)));
    let id = before.0.unwrap();
    let expected = [
        format!("Opened {{ id: {id:?}, key: {from} }}"),
        format!("Resealed {{ id: {id:?}, from: {from}, to: {to} }}"),
    ];
    assert_eq!(fleet.events(), expected);
    assert_eq!(head_of(browser.cookie.as_ref().unwrap()).1, id_of(&new));
    let sealed_anew = browser.clone();
    assert_eq!(browser.request(&sessions, facts), before);
    assert_eq!(browser.cookie, sealed_anew.cookie);
    let next = bearer.open(&token).unwrap().refresh().unwrap().unwrap();
    assert_eq!(head_of(&format!("token={next}")).1, id_of(&new));
    assert_eq!(bearer.open(&next).unwrap().id(), opened.id());
}

fn hex(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

#[test]
fn a_write_seals_under_the_active_key_as_well() {
    let fleet = Fleet::new();
    let (old, new) = (key(), key());
    let mut browser = signed_in(&fleet.instance(&old));
    let sessions = fleet.instance(&format!("{old}\n{new} seal_from={}", date(fleet.now())));
    fleet.events();

    browser.request(&sessions, |s: &Session<Map>| s.insert("cart", 7).unwrap());

    assert_eq!(head_of(browser.cookie.as_ref().unwrap()).1, id_of(&new));
    assert_eq!(fleet.events().iter().filter(|event| event.starts_with("Resealed")).count(), 1);
}

#[test]
fn a_token_under_a_pending_key_opens_and_is_left_as_it_is() {
    let fleet = Fleet::new();
    let (old, new) = (key(), key());
    let ring = format!("{old}\n{new} seal_from={}", date(fleet.now() + MINUTE));
    let ahead = Fleet::new();
    ahead.clock.advance(MINUTE);
    let browser = signed_in(&ahead.instance(&ring));
    assert_eq!(head_of(browser.cookie.as_ref().unwrap()).1, id_of(&new));

    let session: Session<Map> = open(&fleet.instance(&ring), browser.cookie.as_ref().unwrap());

    assert_eq!(session.subject().as_deref(), Some("alice"));
    assert_eq!(answer(&session), None, "this instance's clock is behind, the key is no older one");
}

#[test]
fn expired_revoked_and_unknown_keys_are_refused_by_name_and_the_cookie_stays() {
    let fleet = Fleet::new();
    let (old, new) = (key(), key());
    let browser = signed_in(&fleet.instance(&old));
    let cookie = browser.cookie.unwrap();
    let bearer = fleet.instance(&old).bearer::<Map>().issue("alice").unwrap();
    let until = fleet.now() + MINUTE;
    let dated = format!("{old} open_until={}\n{new} seal_from={}", date(until), date(until));
    let cases = [
        (dated.as_str(), until - MILLI, None),
        (dated.as_str(), until, Some(ErrorKind::KeyExpired)),
        (&format!("{old} revoked\n{new}"), until, Some(ErrorKind::KeyRevoked)),
        (&new, until, Some(ErrorKind::KeyUnknown)),
    ];
    for (ring, now, refused) in cases {
        fleet.clock.set(now);
        let sessions = fleet.instance(ring);
        fleet.events();

        let result = sessions.bearer::<Map>().open(&bearer).map(drop);
        assert_eq!(result.map_err(|error| error.kind()).err(), refused);
        let session: Session<Map> = open(&sessions, &cookie);
        assert_eq!(session.subject().is_some(), refused.is_none());
        assert_eq!(answer(&session), None);
        // Once for the bearer token, and once for the cookie.
        let expected = refused.map(|kind| format!("Rejected {{ kind: {kind:?}, id: None }}"));
        let rejected = fleet
            .events()
            .into_iter()
            .filter(|event| event.starts_with("Rejected"))
            .collect::<Vec<_>>();
        assert_eq!(expected.map_or_else(Vec::new, |event| vec![event; 2]), rejected);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// An instance gets the ring with the next key.
    Reload(usize),
    /// Its clock reaches the next key's `seal_from`.
    Turn(usize),
    Visit(usize),
}

#[test]
fn a_rotation_never_answers_anonymously_in_whatever_order_instances_learn_of_it() {
    let (old, new) = (key(), key());
    let begin = common::clock().now();
    let rings = [old.clone(), format!("{old}\n{new} seal_from={}", date(begin + MINUTE))];
    let mut steps = [
        Step::Reload(0),
        Step::Reload(1),
        Step::Turn(0),
        Step::Turn(1),
        Step::Visit(0),
        Step::Visit(1),
        Step::Visit(0),
    ];
    let mut tried = 0;
    orders::each(&mut steps, |steps| {
        let at = |step| steps.iter().position(|other| *other == step).unwrap();
        // The new key is announced to all before it seals anywhere.
        let announced = at(Step::Reload(0)).max(at(Step::Reload(1)));
        if announced > at(Step::Turn(0)).min(at(Step::Turn(1))) {
            return;
        }
        tried += 1;
        let clocks = [common::clock(), common::clock()];
        let instance = |n: usize, ring: &str| {
            let ring: KeyRing = ring.parse().unwrap();
            SessionManager::builder("shop", ring).clock(clocks[n].clone()).build().unwrap()
        };
        let mut instances = [instance(0, &rings[0]), instance(1, &rings[0])];
        let mut browser = signed_in(&instances[1]);
        for step in steps {
            match *step {
                Step::Reload(n) => instances[n] = instance(n, &rings[1]),
                Step::Turn(n) => clocks[n].advance(MINUTE),
                Step::Visit(n) => browser.request(&instances[n], |s: &Session<Map>| {
                    assert_eq!(s.subject().as_deref(), Some("alice"), "{steps:?}");
                }),
            }
        }
    });
    assert_eq!(tried, 840);
}
