//! The format against the second implementation, which was written from SECURITY.md alone:
//! `tests/interop/sealed_session.py`, and the answers it computed.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use sealed_session::{
    Cookie, ErrorKind, KeyRing, ManualClock, Map, Session, SessionManager, SignIn,
};
use serde_json::{Value, json};

const SCRIPT: &str = "sealed_session.py";

#[test]
fn rings_are_read_as_the_second_implementation_reads_them() {
    let cases = read("rings.txt");
    let cases: Vec<&str> = cases.lines().collect();
    assert!(cases.len() >= 50);

    for case in cases {
        let [now, expected, text] = fields(case);
        let now = at(now);
        let (expected, ring) = match expected.strip_suffix(" (published)") {
            Some(expected) => (expected, text.parse()),
            None => (expected, KeyRing::insecure_published_keys(text)),
        };
        // A ring without an active key is refused by whoever wants to seal with it.
        let usable = ring.and_then(|ring| {
            let states: Vec<String> =
                ring.status(now).iter().map(|key| key.state().to_string()).collect();
            SessionManager::builder("shop", ring).clock(ManualClock::new(now)).build()?;
            Ok(states.join(" "))
        });
        match (usable, expected.strip_prefix("refused")) {
            (Ok(states), None) => assert_eq!(states, expected, "{case}"),
            (Err(error), Some(line)) => {
                assert_eq!(error.kind(), ErrorKind::KeyRing, "{case}");
                let line = line.trim();
                let named = line.is_empty() || error.to_string().contains(&format!("line {line}"));
                assert!(named, "{case}: {error}");
            }
            (ours, _) => panic!("{case}: {ours:?}"),
        }
    }
}

#[test]
fn csrf_tokens_are_judged_as_the_second_implementation_judges_them() {
    let text = read("csrf.txt");
    // A withheld binding stands for cookies of its own: see the known answers.
    let cases: Vec<[&str; 8]> =
        text.lines().map(fields).filter(|case: &[&str; 8]| case[5].len() == 32).collect();
    assert!(cases.len() >= 15);

    for [now, expected, keys, realm, name, id, token, comment] in cases {
        let id = unhex(id);
        let sessions = manager(now, keys, realm, name);
        let cookie = python_seals(&json!({
            "keys": keys, "realm": realm, "transport": "cookie", "name": name,
            "now": now.parse::<u64>().unwrap(),
            "record": {
                "id": base64url(&id), "lifetime": 43_200, "idle": 1_800, "generation": 0,
                "persistent": false, "subject": "alice", "data": {},
            },
        }));
        let session: Session<Map> = sessions.open(Some(format!("{name}={cookie}"))).unwrap();
        assert!(session.id().is_some(), "{comment}");

        match session.verify_csrf(token) {
            Ok(()) => assert_eq!(expected, "accepted", "{comment}"),
            Err(error) => assert_eq!(format!("{:?}", error.kind()), expected, "{comment}"),
        }
    }
}

#[test]
fn the_second_implementation_agrees_both_ways() {
    let keys = "sealsess_k1_x7QlJXq9hMoPCtjRWI4GsWPJCbNU-za3tIXWCQHP_Fk_V0m_AQ";
    let now = "1796126490250";
    for (realm, name) in [("shop", "__Host-Http-id"), ("mandant-ü", "__Host-x")] {
        let sessions = manager(now, keys, realm, name);

        // Ours, opened by the other.
        let sign_in = SignIn::new("älice").remember().tag("device 7").data(map());
        let cookie = sessions.cookie_for(sign_in.clone()).unwrap();
        let bearer = sessions.bearer::<Map>().issue(sign_in).unwrap();
        let (_, token) = cookie.split_once('=').unwrap();
        for (token, transport, name) in [(token, "cookie", name), (&bearer, "bearer", "")] {
            let vector = format!(
                "comment: ours\nexpect: session\nnow: {now}\nkeys: {keys}\nrealm: {realm}\n\
                 transport: {transport}\nname: {name}\n\n{token}\n"
            );
            let opened: Value = serde_json::from_str(&python("open", &vector)).unwrap();
            let opened = &opened["session"];
            assert_eq!(opened["subject"], "älice", "{opened}");
            assert_eq!(opened["persistent"], true, "{opened}");
            assert_eq!(opened["issued_at"].to_string(), now, "{opened}");
            assert_eq!(opened["data"], Value::Object(map()), "{opened}");
        }

        // The other's, opened by us.
        let token = python_seals(&json!({
            "keys": keys, "realm": realm, "transport": "bearer", "name": "",
            "now": now.parse::<u64>().unwrap(),
            "record": {
                "id": base64url(&[7; 16]), "lifetime": 43_200, "idle": 1_800, "generation": 3,
                "persistent": true, "subject": "bob", "tags": ["device 7"],
                "flash": [["info", "hello"]], "data": map(),
            },
        }));
        let opened = sessions.bearer::<Map>().open(&token).unwrap();
        assert_eq!(opened.subject(), "bob");
        assert_eq!(opened.id().as_bytes(), &[7; 16]);
        assert_eq!(opened.generation(), 3);
        assert_eq!(*opened.data(), map());
    }
}

#[test]
fn the_second_implementation_opens_every_vector() {
    let output = Command::new("python3")
        .arg(folder("interop").join(SCRIPT))
        .arg("check")
        .arg(folder("vectors"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);

    assert!(output.status.success(), "{text}");
    assert!(text.trim_end().ends_with(" 0 failed"), "{text}");
}

fn map() -> Map {
    json!({ "cart": [7, 8], "note": "für später" }).as_object().unwrap().clone()
}

fn manager(now: &str, keys: &str, realm: &str, name: &str) -> SessionManager {
    SessionManager::builder(realm, KeyRing::insecure_published_keys(keys).unwrap())
        .cookie(Cookie::new(name))
        .clock(ManualClock::new(at(now)))
        .build()
        .unwrap()
}

fn python_seals(request: &Value) -> String {
    python("seal", &request.to_string()).trim().to_owned()
}

/// Runs the second implementation. `tests/run` installs Python where it is missing.
fn python(command: &str, input: &str) -> String {
    let mut child = Command::new("python3")
        .arg(folder("interop").join(SCRIPT))
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed: tests/run installs it");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command}: {input}");
    String::from_utf8(output.stdout).unwrap()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(folder("interop").join(name)).unwrap()
}

fn fields<const N: usize>(line: &str) -> [&str; N] {
    let fields: Vec<&str> = line.splitn(N, '|').map(str::trim).collect();
    fields.try_into().unwrap_or_else(|_| panic!("{line}"))
}

fn at(millis: &str) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.parse().unwrap())
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
