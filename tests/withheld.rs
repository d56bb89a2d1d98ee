//! A visitor whose token this instance cannot judge: made by a newer key, a newer release, or with
//! data of another shape. He is a stranger here, and keeps his cookie.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/fleet.rs"]
mod fleet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Browser, SECOND};
use fleet::{Fleet, key};
use sealed_session::{Error, ErrorKind, Map, Session, SessionData, SessionManager};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Cart {
    items: Vec<u32>,
}

type Verb = fn(&Session<Cart>) -> Result<(), Error>;

fn signed_in(sessions: &SessionManager) -> Browser {
    Browser { cookie: Some(sessions.cookie_for::<Map>("alice").unwrap()) }
}

fn open<T: SessionData>(sessions: &SessionManager, cookie: &str) -> Session<T> {
    sessions.open(Some(cookie)).unwrap()
}

fn answer<T: SessionData>(session: &Session<T>) -> Option<String> {
    session.close().unwrap().into_iter().next()
}

/// Cookies of Alice's that an instance with `ring` cannot judge as the session of a `Cart`.
fn unjudged(fleet: &Fleet, ring: &str) -> [(&'static str, String); 3] {
    let newer = fleet.instance(&key()).cookie_for::<Cart>("alice").unwrap();
    let good = fleet.instance(ring).cookie_for::<Cart>("alice").unwrap();
    let (name, token) = good.split_once('=').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
    bytes[0] = 2;
    let version = format!("{name}={}", URL_SAFE_NO_PAD.encode(bytes));
    let mut other_data = Browser::default();
    other_data.request(&fleet.instance(ring), |s: &Session<Map>| {
        s.sign_in("alice").unwrap();
        s.insert("items", "three").unwrap();
    });
    [("key", newer), ("version", version), ("data", other_data.cookie.unwrap())]
}

#[test]
fn a_token_that_cannot_be_judged_outlives_every_read_and_write() {
    let writes: [(&str, bool, Verb); 5] = [
        ("read", false, |s| s.verify_csrf("").or(Ok(()))),
        ("cart post", true, |s| s.update(|cart| cart.items.push(7))),
        ("flash", true, |s| s.flash("info", "added")),
        ("empty update", false, |s| s.update(|_| ())),
        ("renew", false, |s| s.renew().map(drop)),
    ];
    let fleet = Fleet::new();
    let ring = key();
    let sessions = fleet.instance(&ring);
    for (what, cookie) in unjudged(&fleet, &ring) {
        for (name, is_told, write) in writes {
            let session: Session<Cart> = open(&sessions, &cookie);
            assert_eq!((session.subject(), session.id()), (None, None), "{what}");
            assert_eq!(*session.data(), Cart::default());
            fleet.events();

            write(&session).unwrap();

            let items: &[u32] = if name == "cart post" { &[7] } else { &[] };
            assert_eq!(session.data().items, items, "{what}: visible in its own request");
            assert_eq!(answer(&session), None, "{what}, {name}");
            let told = if is_told { vec!["Withheld { signed_out: false }"] } else { vec![] };
            assert_eq!(fleet.events(), told, "{what}, {name}");
        }
    }
}

#[test]
fn forms_work_while_writes_are_withheld() {
    let fleet = Fleet::new();
    let ring = key();
    let sessions = fleet.instance(&ring);
    let cookies = unjudged(&fleet, &ring).map(|(_, cookie)| cookie);
    let open = |header: &str| open::<Cart>(&sessions, header);
    let verify =
        |header: &str, token: &str| open(header).verify_csrf(token).map_err(|error| error.kind());
    for cookie in &cookies {
        let form = open(cookie);
        let token = form.csrf_token().unwrap();
        assert_eq!(token.len(), 70);
        assert_eq!(form.verify_csrf(&token).map_err(|error| error.kind()), Ok(()));
        assert_eq!(answer(&form), None);

        assert_eq!(verify(cookie, &token), Ok(()));
        assert_eq!(verify(&format!("a=b; {cookie}; {cookie}"), &token), Ok(()));
        for other in cookies.iter().filter(|other| *other != cookie) {
            assert_eq!(verify(other, &token), Err(ErrorKind::Csrf));
            assert_eq!(verify(&format!("{cookie}; {other}"), &token), Err(ErrorKind::Csrf));
        }
        assert_eq!(verify("", &token), Err(ErrorKind::Csrf));
    }
    for [one, other] in [[0, 1], [1, 0]].map(|pair| pair.map(|n: usize| &cookies[n])) {
        let token = open(&format!("{one}; {other}")).csrf_token().unwrap();
        assert_eq!(verify(&format!("{one}; {other}"), &token), Ok(()));
        assert_eq!(verify(&format!("{other}; {one}"), &token), Ok(()));
        assert_eq!(verify(one, &token), Err(ErrorKind::Csrf));
    }
}

#[test]
fn a_sign_in_works_while_writes_are_withheld() {
    let fleet = Fleet::new();
    let ring = key();
    let sessions = fleet.instance(&ring);
    for (what, cookie) in unjudged(&fleet, &ring) {
        let mut browser = Browser { cookie: Some(cookie) };
        fleet.events();

        browser.request(&sessions, |s: &Session<Cart>| {
            s.update(|cart| cart.items.push(7)).unwrap();
            s.sign_in("alice").unwrap();
        });

        assert!(fleet.events().iter().all(|event| !event.starts_with("Withheld")), "{what}");
        browser.request(&sessions, |s: &Session<Cart>| {
            assert_eq!(s.subject().as_deref(), Some("alice"), "{what}");
            assert_eq!(s.data().items, [7], "{what}");
        });
    }
}

#[test]
fn a_sign_out_works_while_writes_are_withheld_and_tells_when_it_could_not_revoke() {
    let fleet = Fleet::new();
    let ring = key();
    let sessions = fleet.instance(&ring);
    for (what, cookie) in unjudged(&fleet, &ring) {
        let mut browser = Browser { cookie: Some(cookie) };
        fleet.events();

        browser.request(&sessions, |s: &Session<Cart>| {
            s.update(|cart| cart.items.push(7)).unwrap();
            s.sign_out().unwrap();
            assert_eq!(*s.data(), Cart::default());
        });

        assert_eq!(browser.cookie, None, "{what}");
        let events = fleet.events();
        let count = |start| events.iter().filter(|event| event.starts_with(start)).count();
        let revoked = count("Revoked { scope: Session");
        let told = count("Withheld { signed_out: true }");
        assert_eq!((revoked, told), if what == "data" { (1, 0) } else { (0, 1) }, "{what}");
        assert_eq!(count("Withheld"), told, "{what}");
    }
}

#[test]
fn a_visitor_signs_in_with_an_old_cookie_after_the_keys_were_lost() {
    let fleet = Fleet::new();
    let mut browser = signed_in(&fleet.instance(&key()));
    fleet.clock.advance(SECOND);

    // The key file is gone; the server starts with a fresh one, and an empty list.
    let restarted = Fleet::new();
    let sessions = restarted.instance(&key());
    let before = browser.cookie.clone();
    let token = browser.request(&sessions, |s: &Session<Map>| s.csrf_token().unwrap());
    assert_eq!(browser.cookie, before);

    browser.request(&sessions, |s: &Session<Map>| {
        s.verify_csrf(&token).unwrap();
        s.sign_in("alice").unwrap();
    });

    assert_eq!(browser.subject(&sessions).as_deref(), Some("alice"));
}

// Data of another release.

#[test]
fn data_that_does_not_decode_is_a_rejection_and_a_sign_out_or_sign_in_still_revokes_it() {
    let verbs: [Verb; 2] = [|s| s.sign_out().map(drop), |s| s.sign_in("alice").map(drop)];
    for verb in verbs {
        let fleet = Fleet::new();
        let ring = key();
        let sessions = fleet.instance(&ring);
        let [_, _, (_, cookie)] = unjudged(&fleet, &ring);
        let id = open::<Map>(&sessions, &cookie).id().unwrap();
        fleet.events();

        let session: Session<Cart> = open(&sessions, &cookie);
        assert_eq!(fleet.events(), [format!("Rejected {{ kind: Data, id: Some({id:?}) }}")]);
        verb(&session).unwrap();

        assert!(answer(&session).is_some());
        assert_eq!(open::<Map>(&sessions, &cookie).id(), None);
        assert_eq!(fleet.list.entries(), 1);
    }
}

#[test]
fn a_migration_rescues_data_of_an_older_release() {
    let fleet = Fleet::new();
    let ring = key();
    let rescue = |old: Value| match old.get("items")?.as_str()? {
        "three" => Some(Cart { items: vec![1, 2, 3] }),
        _ => None,
    };
    let sessions = fleet.builder(&ring).migrate::<Cart>(rescue).build().unwrap();
    let [_, _, (_, cookie)] = unjudged(&fleet, &ring);
    let mut browser = Browser { cookie: Some(cookie) };

    browser.request(&sessions, |s: &Session<Cart>| {
        assert_eq!(s.subject().as_deref(), Some("alice"));
        assert_eq!(s.data().items, [1, 2, 3]);
        s.update(|cart| cart.items.push(4)).unwrap();
    });

    // Written once, it needs no migration any more.
    browser.request(&fleet.instance(&ring), |s: &Session<Cart>| {
        assert_eq!(s.data().items, [1, 2, 3, 4]);
    });
    let mut hopeless = Browser { cookie: browser.cookie.clone() };
    hopeless.request(&sessions, |s: &Session<Map>| s.insert("items", "four").unwrap());
    fleet.events();
    hopeless.request(&sessions, |s: &Session<Cart>| assert_eq!(s.subject(), None));
    assert!(fleet.events()[0].starts_with("Rejected { kind: Data"));
}
