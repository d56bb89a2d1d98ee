//! What `sealed-session inspect` tells of a token, and what it takes for one.
#![cfg(all(feature = "cli", unix))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "common/shell.rs"]
mod shell;

use std::time::{Duration, SystemTime};

use sealed_session::{KeyState, ManualClock, Map, SessionManager, SignIn};
use serde_json::{Value, json};
use shell::{Place, Ran};

const ARGS: [&str; 5] = ["inspect", "--keys", "session.keys", "--realm", "shop"];
const NAME: &str = "__Host-Http-id";

/// A ring, and the cookie of a session that began this long ago.
fn session(name: &str, sign_in: impl Into<SignIn<Map>>, ago: Duration) -> (Place, String) {
    let (place, _) = Place::with_ring(name);
    let clock = ManualClock::new(SystemTime::now() - ago);
    let sessions = SessionManager::builder("shop", place.ring()).clock(clock).build().unwrap();
    let set_cookie = sessions.cookie_for(sign_in).unwrap();
    (place, set_cookie.strip_prefix(NAME).unwrap()[1..].to_owned())
}

fn inspect(place: &Place, more: &[&str], input: &str) -> Ran {
    place.feed(&[&ARGS, more].concat(), input.as_bytes())
}

fn parsed(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"))
}

#[test]
fn a_session_that_lives_is_accepted_and_shown_whole() {
    let data: Map = serde_json::from_str(r#"{"cart":[7,9]}"#).unwrap();
    let sign_in = SignIn::new("alice").data(data).tag("device 1").remember();
    let (place, token) = session("alive", sign_in, Duration::ZERO);

    let ran = inspect(&place, &["--json"], &token);
    assert_eq!(ran.status, 0, "{ran:?}");
    let found = parsed(&ran);
    assert_eq!(found["accepted"], true);
    assert_eq!(found["reason"], Value::Null);
    assert_eq!(found["revocations_asked"], false);
    assert_eq!(found["size"], token.len());
    assert_eq!(found["version"], 1);
    assert_eq!(found["key_state"], "active");
    let session = &found["session"];
    assert_eq!(session["subject"], "alice");
    assert_eq!(session["persistent"], true);
    assert_eq!((&session["tags"], &session["data_size"]), (&json!(1), &json!(14)));
    let at = |field: &str| humantime::parse_rfc3339(session[field].as_str().unwrap()).unwrap();
    let issued_at = at("issued_at");
    assert!(SystemTime::now().duration_since(issued_at).unwrap() < Duration::from_secs(60));
    assert_eq!(at("expires_at").duration_since(issued_at).unwrap().as_secs(), 30 * 86_400);
    assert_eq!(at("idle_expires_at").duration_since(issued_at).unwrap().as_secs(), 7 * 86_400);
    assert_eq!(session.get("data"), None, "only when asked for");

    let with_data = parsed(&inspect(&place, &["--json", "--data"], &token));
    assert_eq!(with_data["session"]["data"], json!({ "cart": [7, 9] }));
    let text = inspect(&place, &["--data"], &token).out;
    assert!(text.contains("data             {\"cart\":[7,9]}\n"), "{text}");
    assert!(!inspect(&place, &[], &token).out.contains("cart"));
}

#[test]
fn a_session_past_a_limit_is_refused_and_shown_all_the_same() {
    let (place, token) = session("idle", "alice", Duration::from_secs(3_500));

    let ran = inspect(&place, &[], &token);

    assert_eq!(ran.status, 1, "{ran:?}");
    let reason = "accepted         no: the session has reached its idle limit\n";
    assert!(ran.out.starts_with(reason), "{ran:?}");
    assert!(ran.out.contains("subject          alice\n"), "{ran:?}");
    assert!(ran.err.contains("the list of revoked sessions was not asked"), "{ran:?}");
}

#[test]
fn a_token_under_a_revoked_key_is_refused_and_the_key_named() {
    let (place, token) = session("revoked", "alice", Duration::ZERO);
    let id = place.id(KeyState::Active);
    assert_eq!(place.run(&["keys", "rotate", "--revoke", &id, "--now"]).status, 0);

    let ran = inspect(&place, &[], &token);

    assert_eq!(ran.status, 1, "{ran:?}");
    let reason = "accepted         no: the token was sealed under a revoked key\n";
    assert!(ran.out.starts_with(reason), "{ran:?}");
    assert!(ran.out.contains(&format!("key              {id} (revoked)\n")), "{ran:?}");
}

#[test]
fn nothing_is_shown_of_a_token_that_is_not_authentic() {
    let (place, token) = session("forged", "alice", Duration::ZERO);
    let other_realm = [&ARGS[..4], &["market"]].concat();
    let (other, _) = Place::with_ring("forged-other");

    for (ran, reason) in [
        (place.feed(&other_realm, token.as_bytes()), "the token is not authentic"),
        (inspect(&place, &["--cookie", "id"], &token), "the token is not authentic"),
        (inspect(&place, &[], &token[1..]), "the token has an unknown version"),
        (inspect(&place, &[], &token[..7]), "the token is malformed"),
        (inspect(&place, &[], "with spaces"), "the token is malformed"),
        (inspect(&other, &[], &token), "the token was sealed under an unknown key"),
    ] {
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.out.starts_with(&format!("accepted         no: {reason}\n")), "{ran:?}");
        assert!(!ran.out.contains("session  "), "{ran:?}");
    }
    let unknown = inspect(&other, &[], &token).out;
    assert!(unknown.contains(" (not in this ring)\n"), "{unknown}");
}

#[test]
fn a_token_is_found_in_what_people_paste() {
    let (place, token) = session("shapes", "alice", Duration::ZERO);

    for shape in [
        format!("{token}\n"),
        format!("{NAME}={token}\r\n"),
        format!("Cookie: theme=dark; {NAME}={token}; lang=de"),
        format!("cookie: {NAME}={token}"),
        format!("  COOKIE:{NAME}={token}; {NAME}={token}"),
        format!("Set-Cookie: {NAME}={token}; Path=/; Secure; HttpOnly; SameSite=Lax"),
        format!("{NAME}={token}; Path=/; Secure"),
    ] {
        let ran = inspect(&place, &[], &shape);
        assert_eq!(ran.status, 0, "{shape}: {ran:?}");
    }
    for (shape, reason) in [
        (format!("Cookie: id={token}"), "no cookie __Host-Http-id"),
        (format!("Set-Cookie: id=1; {NAME}={token}"), "no cookie __Host-Http-id"),
        (format!("{NAME}={token}; {NAME}=other"), "several cookies __Host-Http-id"),
        (format!("{token}\n{token}"), "more than one line"),
        (" \n".to_owned(), "empty"),
    ] {
        let ran = inspect(&place, &[], &shape);
        assert_eq!(ran.status, 2, "{shape}: {ran:?}");
        assert!(ran.err.contains(reason), "{shape}: {ran:?}");
        assert!(!ran.err.contains(&token[..8]), "{ran:?}");
    }
    let not_text = place.feed(&ARGS, b"\xff\xfe");
    assert_eq!((not_text.status, not_text.err.contains("not text")), (2, true), "{not_text:?}");
}

#[test]
fn at_most_8_kib_are_read() {
    let (place, _) = Place::with_ring("long");

    let most = inspect(&place, &[], &"A".repeat(8_192));
    assert_eq!(most.status, 1, "{most:?}");
    assert!(most.out.contains("size             8192 characters\n"), "{most:?}");
    let more = inspect(&place, &[], &"A".repeat(8_193));
    assert_eq!(more.status, 2, "{more:?}");
    assert!(more.err.contains("over 8 KiB"), "{more:?}");
}

#[test]
fn nothing_in_a_token_speaks_to_the_terminal() {
    // An escape sequence, a C1 control, a change of direction, a deletion, a forged line.
    let evil = "\u{1b}[2J\u{9b}31m\u{202e}\u{7f}\r\nsubject root";
    let data = Map::from_iter([("note".to_owned(), evil.into())]);
    let (place, token) = session("evil", SignIn::new(evil).data(data), Duration::ZERO);

    for more in [&["--data"][..], &["--data", "--json"]] {
        let ran = inspect(&place, more, &token);
        assert_eq!(ran.status, 0, "{ran:?}");
        let speaks = |c: &char| *c != '\n' && (c.is_control() || *c == '\u{202e}');
        assert_eq!(ran.out.chars().find(speaks), None, "{ran:?}");
        assert!(!ran.out.contains("\nsubject root"), "{ran:?}");
    }
    let found = parsed(&inspect(&place, &["--data", "--json"], &token));
    assert_eq!(found["session"]["subject"], evil);
    assert_eq!(found["session"]["data"]["note"], evil);
}
