//! Every event in its situation, once.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;
#[path = "common/fleet.rs"]
mod fleet;

use common::{Browser, HOUR, MILLI, MINUTE, SECOND, open};
use fleet::{Fleet, key};
use http::{HeaderMap, HeaderValue};
use sealed_session::{
    Clock as _, Limits, Map, RevocationList, Session, SessionManager, SessionManagerBuilder,
    SignIn, Target,
};

type Verb = fn(&Session<Map>);

/// One instance, whose events the test reads.
fn shop() -> (Fleet, SessionManager) {
    let fleet = Fleet::new();
    let sessions = fleet.instance(&key());
    (fleet, sessions)
}

fn signed_in(sessions: &SessionManager) -> Browser {
    Browser { cookie: Some(sessions.cookie_for::<Map>("alice").unwrap()) }
}

/// The names of the events since the last call.
fn names(fleet: &Fleet) -> Vec<String> {
    let name = |event: String| event.split([' ', '{']).next().unwrap_or_default().to_owned();
    fleet.events().into_iter().map(name).collect()
}

#[test]
fn a_stranger_who_only_reads_is_no_event() {
    let (fleet, sessions) = shop();

    Browser::default().request(&sessions, |s: &Session<Map>| drop(s.data()));

    assert!(names(&fleet).is_empty());
}

#[test]
fn issued_tells_all_that_a_table_of_devices_needs() {
    let (fleet, sessions) = shop();
    let mut browser = Browser::default();

    browser.request(&sessions, |s: &Session<Map>| s.insert("cart", 7).unwrap());

    let anonymous = open(&sessions, &browser);
    let expected = format!(
        "Issued {{ id: {:?}, subject: \"\", issued_at: {:?}, expires_at: {:?}, persistent: false, \
         tags: [] }}",
        anonymous.id().unwrap(),
        fleet.now(),
        fleet.now() + 12 * HOUR,
    );
    assert_eq!(fleet.events()[0], expected);

    fleet.clock.advance(MINUTE);
    browser.request(&sessions, |s: &Session<Map>| {
        s.sign_in(SignIn::new("alice").remember().tag("phone")).unwrap();
    });

    let events = fleet.events();
    let id = open(&sessions, &browser).id().unwrap();
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(events[1], format!("Revoked {{ scope: Session, id: {:?} }}", anonymous.id()));
    assert!(events[2].starts_with(&format!("Issued {{ id: {id:?}, subject: \"alice\"")));
    let expires_at = fleet.now() + 30 * 24 * HOUR;
    assert!(events[2].contains(&format!("expires_at: {expires_at:?}, persistent: true")));
    assert!(!events[2].contains("tags: []"));
    assert!(!events[2].contains("phone"));
}

#[test]
fn bearer_tokens_are_issued_opened_and_refreshed_like_cookies() {
    let (fleet, sessions) = shop();
    let bearer = sessions.bearer::<Map>();
    let token = bearer.issue("alice").unwrap();
    assert_eq!(names(&fleet), ["Issued"]);
    let opened = bearer.open(&token).unwrap();
    assert_eq!(names(&fleet), ["Opened"]);
    assert_eq!(opened.refresh().unwrap(), None);
    fleet.clock.advance(10 * MINUTE);
    let opened = bearer.open(&token).unwrap();
    assert!(opened.refresh().unwrap().is_some());
    assert_eq!(names(&fleet), ["Opened", "Refreshed"]);
    opened.revoke().unwrap();
    assert_eq!(names(&fleet), ["Revoked"]);
    bearer.open(&token).unwrap_err();
    assert_eq!(names(&fleet), ["Rejected"]);
    bearer.issue(SignIn::new("alice").data(large())).unwrap_err();
    assert_eq!(names(&fleet), ["TooLarge"]);
}

/// Data that fits into no cookie.
fn large() -> Map {
    Map::from_iter([("text".to_owned(), "x".repeat(4096).into())])
}

#[test]
fn opened_and_refreshed_come_once_for_each_request_that_does_so() {
    let (fleet, sessions) = shop();
    let mut browser = signed_in(&sessions);
    names(&fleet);

    browser.request(&sessions, |s: &Session<Map>| drop((s.data(), s.subject(), s.id())));
    assert_eq!(names(&fleet), ["Opened"]);
    fleet.clock.advance(10 * MINUTE);
    browser.request(&sessions, |s: &Session<Map>| drop(s.data()));
    assert_eq!(names(&fleet), ["Opened", "Refreshed"]);
    browser.request(&sessions, |s: &Session<Map>| s.insert("cart", 7).unwrap());
    assert_eq!(names(&fleet), ["Opened"]);
    fleet.clock.advance(10 * MINUTE);
    browser.request(&sessions, |s: &Session<Map>| drop(s.passive().data()));
    assert_eq!(names(&fleet), ["Opened"]);
}

#[test]
fn resealed_comes_in_place_of_refreshed() {
    let fleet = Fleet::new();
    let (old, new) = (key(), key());
    let ring = format!("{old}\n{new} seal_from=2020-01-01T00:00:00Z");
    let mut browser = signed_in(&fleet.instance(&old));
    fleet.clock.advance(10 * MINUTE);
    names(&fleet);

    browser.request(&fleet.instance(&ring), |s: &Session<Map>| drop(s.data()));

    assert_eq!(names(&fleet), ["Opened", "Resealed"]);
}

#[test]
fn rejected_names_the_reason() {
    let fleet = Fleet::new();
    let (ring, other) = (key(), key());
    let sessions = fleet.instance(&ring);
    let good = signed_in(&sessions).cookie.unwrap();
    let (name, token) = good.split_once('=').unwrap();
    let altered = |at: usize, to: char| {
        let (start, end) = token.split_at(at);
        let to = if end.starts_with(to) { '-' } else { to };
        format!("{name}={start}{to}{}", &end[1..])
    };
    let bearer = sessions.bearer::<Map>().issue("alice").unwrap();
    let unknown = signed_in(&fleet.instance(&other)).cookie.unwrap();
    let cases = [
        ("Malformed", "None", format!("{name}=AQ")),
        ("Malformed", "None", altered(60, '.')),
        ("Version", "None", altered(1, 'g')),
        ("KeyUnknown", "None", unknown),
        ("Forged", "None", altered(60, 'A')),
        ("Forged", "None", format!("{name}={bearer}")),
    ];
    for (kind, id, cookie) in cases {
        fleet.events();
        drop(open(&sessions, &Browser { cookie: Some(cookie) }));
        let mut events = fleet.events();
        assert_eq!(events.pop().unwrap(), format!("Rejected {{ kind: {kind}, id: {id} }}"));
        let asked = events.iter().all(|event| event.starts_with("KeyUnknown { key: "));
        assert!(asked && events.len() == usize::from(kind == "KeyUnknown"), "{events:?}");
    }

    let id = open(&sessions, &Browser { cookie: Some(good.clone()) }).id();
    let expect = |kind: &str, id: Option<sealed_session::SessionId>, ring: &str| {
        let sessions = fleet.instance(ring);
        fleet.events();
        drop(open(&sessions, &Browser { cookie: Some(good.clone()) }));
        assert_eq!(fleet.events(), [format!("Rejected {{ kind: {kind}, id: {id:?} }}")]);
    };
    expect("KeyRevoked", None, &format!("{ring} revoked\n{other}"));
    let past = "2020-01-01T00:00:00Z";
    expect("KeyExpired", None, &format!("{ring} open_until={past}\n{other} seal_from={past}"));
    let begin = fleet.now();
    fleet.clock.set(begin - 2 * MINUTE - SECOND - MILLI);
    expect("NotYet", id, &ring);
    fleet.clock.set(begin + 30 * MINUTE + MILLI);
    expect("Idle", id, &ring);
    fleet.clock.set(begin + 12 * HOUR + MILLI);
    expect("Expired", id, &ring);
    fleet.clock.set(begin);
    sessions.revoke(Target::session(id.unwrap())).unwrap();
    expect("Revoked", id, &ring);
}

#[test]
fn revoked_tells_how_far_it_reaches() {
    let (fleet, sessions) = shop();
    let mut browser = signed_in(&sessions);
    let id = open(&sessions, &browser).id();
    let targets = [
        ("Session", id, Target::session(id.unwrap())),
        ("Subject", None, Target::subject("bob")),
        ("Tag", None, Target::tag("phone")),
        ("Everyone", None, Target::everyone()),
    ];
    for (scope, id, target) in targets {
        fleet.events();
        sessions.revoke(target).unwrap();
        assert_eq!(fleet.events(), [format!("Revoked {{ scope: {scope}, id: {id:?} }}")]);
    }

    let verbs: [(&str, Verb); 3] = [
        ("Subject", |s| drop(s.sign_out_others().unwrap())),
        ("Subject", |s| drop(s.sign_out_everywhere().unwrap())),
        ("Session", |s| drop(s.sign_out().unwrap())),
    ];
    for (scope, verb) in verbs {
        browser = signed_in(&sessions);
        fleet.clock.advance(SECOND);
        fleet.events();
        browser.request(&sessions, verb);
        let events = fleet.events();
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events[1].starts_with(&format!("Revoked {{ scope: {scope}")), "{events:?}");
    }
    browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());
    assert!(names(&fleet).is_empty(), "nobody was signed in");
}

#[test]
fn renewed_and_reuse_tell_the_generations() {
    let (fleet, sessions) = shop();
    let mut browser = signed_in(&sessions);
    let copy = browser.clone();
    let id = open(&sessions, &browser).id().unwrap();
    fleet.events();

    browser.request(&sessions, |s: &Session<Map>| s.renew().unwrap());
    assert_eq!(fleet.events()[1..], [format!("Renewed {{ id: {id:?}, generation: 1 }}")]);
    drop(open(&sessions, &copy));
    assert_eq!(fleet.events()[0], format!("Reuse {{ id: {id:?}, generation: 0 }}"));
    drop(open(&sessions, &browser));
    assert_eq!(names(&fleet), ["Opened"]);
}

#[test]
fn two_sessions_are_told_once_without_opening_either() {
    let (fleet, sessions) = shop();
    let cookies = [(); 3].map(|()| signed_in(&sessions).cookie.unwrap());
    names(&fleet);

    let session = open(&sessions, &Browser { cookie: Some(cookies.join("; ")) });

    assert_eq!(names(&fleet), ["TwoSessions"]);
    session.sign_out().unwrap();
    assert_eq!(names(&fleet), ["Revoked"; 3]);
}

#[test]
fn withheld_is_told_once_for_a_request() {
    let (fleet, sessions) = shop();
    let mut browser = signed_in(&Fleet::new().instance(&key()));

    browser.request(&sessions, |s: &Session<Map>| {
        s.insert("cart", 7).unwrap();
        s.insert("cart", 8).unwrap();
        s.flash("info", "added").unwrap();
    });
    assert_eq!(names(&fleet), ["KeyUnknown", "Rejected", "Withheld"]);
    browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());
    assert_eq!(fleet.events()[2..], ["Withheld { signed_out: true }"]);
}

#[test]
fn too_large_and_closed_late_are_told_for_each_call() {
    let (fleet, sessions) = shop();
    let session = open(&sessions, &Browser::default());

    session.update(|map| *map = large()).unwrap_err();
    session.flash("info", "x".repeat(4096)).unwrap_err();
    session.sign_in(SignIn::new("alice").data(large())).unwrap_err();
    assert_eq!(names(&fleet), ["TooLarge"; 3]);
    assert!(session.close().unwrap().into_iter().next().is_none());
    session.insert("cart", 7).unwrap_err();
    assert_eq!(fleet.events(), ["ClosedLate { id: None }"]);
}

#[test]
fn headers_that_were_changed_and_refreshes_that_were_skipped_are_told() {
    let (fleet, sessions) = shop();
    let browser = signed_in(&sessions);
    fleet.clock.advance(10 * MINUTE);
    let respond = |cache_control: &'static str, write: bool| {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static(cache_control));
        if write {
            headers.insert("cdn-cache-control", HeaderValue::from_static("max-age=60"));
            headers.insert("surrogate-control", HeaderValue::from_static("max-age=60"));
        }
        let session = open(&sessions, &browser);
        if write {
            session.insert("cart", 7).unwrap();
        }
        session.close().unwrap().apply(&mut headers);
        fleet.events().split_off(1)
    };
    respond("no-store", false);
    let id = open(&sessions, &browser).id().unwrap();
    fleet.events();

    assert_eq!(respond("public", false), [format!("RefreshSkipped {{ id: {id:?} }}")]);
    assert_eq!(respond("private", false), [format!("Refreshed {{ id: {id:?} }}")]);
    let changed = ["cache-control", "cdn-cache-control", "surrogate-control"];
    let changed = changed.map(|name| format!("CacheHeaderChanged {{ header: \"{name}\" }}"));
    assert_eq!(respond("public", true), changed);
    assert_eq!(respond("no-store", true), changed[1..]);
}

#[test]
fn an_answer_that_a_sign_out_overtook_is_told_as_not_sent() {
    let (fleet, sessions) = shop();
    let mut browser = signed_in(&sessions);
    let slow = open(&sessions, &browser);
    slow.insert("cart", 7).unwrap();
    browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap());
    fleet.events();

    assert!(slow.close().unwrap().into_iter().next().is_none());

    assert_eq!(fleet.events(), ["NotSent { error: Error { kind: Revoked } }"]);
}

#[test]
fn a_full_list_is_told_for_each_refusal() {
    let fleet = Fleet::new();
    let list = RevocationList::in_process().max_entries(0);
    let sessions = fleet.builder(&key()).revocations(list).build().unwrap();
    let mut browser = signed_in(&sessions);
    names(&fleet);

    sessions.revoke(Target::everyone()).unwrap_err();
    assert_eq!(names(&fleet), ["ListFull"]);
    browser.request(&sessions, |s: &Session<Map>| s.sign_out().unwrap_err());
    assert_eq!(names(&fleet), ["Opened", "ListFull"]);
}

#[test]
fn every_observer_gets_every_event() {
    let (records, logs): (Vec<_>, Vec<_>) = (0..3).map(|_| common::recorder()).unzip();
    let builder = common::builder().0;
    let sessions =
        records.into_iter().fold(builder, SessionManagerBuilder::observer).build().unwrap();

    drop(open(&sessions, &signed_in(&sessions)));

    let logs: Vec<Vec<String>> = logs.iter().map(|log| log.lock().unwrap().clone()).collect();
    assert_eq!(logs[0].len(), 2);
    assert!(logs.iter().all(|log| *log == logs[0]));
}

#[test]
fn events_have_one_time_and_it_is_the_clocks() {
    let (fleet, sessions) = shop();
    let limits = Limits { absolute_timeout: HOUR, idle_timeout: None };
    fleet.clock.advance(MILLI);

    sessions.cookie_for::<Map>(SignIn::new("alice").limits(limits)).unwrap();

    let expected =
        format!("issued_at: {:?}, expires_at: {:?}", fleet.clock.now(), fleet.clock.now() + HOUR);
    assert!(fleet.events()[0].contains(&expected));
}
