//! Every file of `tests/vectors` does what it says, seen through the public API alone.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests")]

mod common;
#[path = "common/vector.rs"]
mod vector;

use std::fmt::{Debug, Display};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sealed_session::{
    ErrorKind, Event, KeyRing, ManualClock, Map, Opened, RevocationList, Session, SessionData,
    SessionId, SessionManager, Target,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use vector::{KINDS, Vector, all, at};

#[test]
fn every_vector_opens_as_it_says() {
    let vectors = all();

    let failures: Vec<String> = vectors.iter().filter_map(|vector| check(vector).err()).collect();

    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(vectors.len() >= 40, "only {} vectors", vectors.len());
}

#[test]
fn every_rejection_of_opening_and_both_transports_have_a_vector() {
    let vectors = all();

    for kind in KINDS {
        assert!(vectors.iter().any(|vector| vector.kind() == Some(kind)), "no vector of {kind:?}");
    }
    for cookie in [true, false] {
        let alike = |vector: &&Vector| vector.is_cookie() == cookie;
        assert!(vectors.iter().filter(alike).any(|vector| vector.kind().is_none()));
        assert!(vectors.iter().filter(alike).any(|vector| vector.kind().is_some()));
    }
}

/// Whoever changes one field of a good vector must hear of it, with the file's name.
#[test]
fn a_vector_that_says_something_wrong_fails_by_name() {
    let wrong = [
        ("expect", "Forged"),
        ("id", "AAAAAAAAAAAAAAAAAAAAAA"),
        ("subject", "mallory"),
        ("issued_at", "1796126400249"),
        ("refreshed_at", "1796126459250"),
        ("expires_at", "1796169600249"),
        ("idle_expires_at", "1796128260249"),
        ("generation", "1"),
        ("persistent", "true"),
        ("data", "{}"),
    ];
    let vectors = all();
    for file in ["signed_in_browser_session.txt", "bearer_signed_in.txt"] {
        let good = vectors.iter().find(|vector| vector.file == file).unwrap();
        check(good).unwrap();
        for (field, value) in wrong {
            let mut bad = good.clone();
            bad.fields.insert(field.into(), value.into());
            assert!(check(&bad).is_err_and(|text| text.contains(file)), "{file}: {field}");
        }
    }
}

fn check(vector: &Vector) -> Result<(), String> {
    let result = if vector.is_text() { opens::<String>(vector) } else { opens::<Map>(vector) };
    result.map_err(|what| format!("{}: {what}", vector.file))
}

/// Opens a vector as its transport has it, with its facts in force.
fn opens<T: SessionData + Debug>(vector: &Vector) -> Result<(), String> {
    let (clock, list) = (vector.clock(), RevocationList::in_process());
    let events = Arc::new(Mutex::new(Events::default()));
    let writer = Arc::clone(&events);
    let observer = move |event: &Event<'_>| writer.lock().unwrap().take(event);
    let sessions = vector.manager(&clock, &list, None, observer);
    for fact in &vector.revocations {
        revoke(&sessions, &clock, &list, fact);
    }
    clock.set(at(vector.field("now")));

    if vector.is_cookie() {
        let session: Session<T> = sessions.open(Some(vector.cookie())).unwrap();
        let rejected = events.lock().unwrap().rejected.clone();
        same("rejections", &rejected, &Vec::from_iter(vector.kind()))?;
        match vector.kind() {
            Some(_) => same("subject", &session.subject(), &None),
            None => says_the_same(vector, &session, &clock, &list, &events),
        }
    } else {
        match (sessions.bearer::<T>().open(&vector.token), vector.kind()) {
            (Ok(opened), None) => bearer_says_the_same(vector, &opened),
            (opened, expected) => same("kind", &opened.err().map(|e| e.kind()), &expected),
        }
    }
}

#[derive(Default)]
struct Events {
    rejected: Vec<ErrorKind>,
    generation: Option<u16>,
}

impl Events {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Rejected { kind, .. } => self.rejected.push(*kind),
            Event::Renewed { generation, .. } => self.generation = Some(*generation),
            _ => {}
        }
    }
}

fn bearer_says_the_same<T: SessionData>(vector: &Vector, opened: &Opened<T>) -> Result<(), String> {
    text("id", opened.id(), vector)?;
    text("subject", opened.subject(), vector)?;
    text("issued_at", millis(opened.issued_at()), vector)?;
    text("refreshed_at", millis(opened.refreshed_at()), vector)?;
    text("expires_at", millis(opened.expires_at()), vector)?;
    text("idle_expires_at", millis_or_none(opened.idle_expires_at()), vector)?;
    text("generation", opened.generation(), vector)?;
    text("persistent", opened.is_persistent(), vector)?;
    data(opened.data(), vector)
}

/// A cookie's session tells generation, persistence and activity only by what comes of them.
fn says_the_same<T: SessionData>(
    vector: &Vector,
    session: &Session<T>,
    clock: &ManualClock,
    list: &RevocationList,
    events: &Mutex<Events>,
) -> Result<(), String> {
    text("id", session.id().unwrap(), vector)?;
    text("subject", session.subject().as_deref().unwrap_or_default(), vector)?;
    text("issued_at", millis(session.issued_at().unwrap()), vector)?;
    text("expires_at", millis(session.expires_at().unwrap()), vector)?;
    text("idle_expires_at", millis_or_none(session.idle_expires_at()), vector)?;
    data(&*session.data(), vector)?;
    refreshed_at::<T>(vector, clock, list)?;

    match session.renew() {
        Ok(_) => {
            let next = events.lock().unwrap().generation.unwrap();
            text("generation", next.checked_sub(1).unwrap(), vector)?;
        }
        Err(error) => {
            same("renew", &error.kind(), &ErrorKind::Unsupported)?;
            text("generation", u16::MAX, vector)?;
            session.flash("so that", "something is written").unwrap();
        }
    }
    let set_cookie = session.close().unwrap().into_iter().next().unwrap();
    text("persistent", set_cookie.contains("; Max-Age="), vector)
}

/// Under a shorter idle limit, the session's end tells when it was last refreshed.
fn refreshed_at<T: SessionData>(
    vector: &Vector,
    clock: &ManualClock,
    list: &RevocationList,
) -> Result<(), String> {
    let refreshed_at = at(vector.field("refreshed_at"));
    let age = at(vector.field("now")).duration_since(refreshed_at).unwrap_or_default();
    let idle = Duration::from_secs(age.as_millis().div_ceil(1000).max(120).try_into().unwrap());
    let sessions = vector.manager(clock, list, Some(idle.as_secs()), |_: &Event<'_>| {});
    let session: Session<T> = sessions.open(Some(vector.cookie())).unwrap();

    let shorter = refreshed_at.checked_add(idle).unwrap();
    let expected = match vector.field("idle_expires_at") {
        "none" => shorter,
        limit => shorter.min(at(limit)),
    };
    same("end under a shorter idle limit", &session.idle_expires_at(), &Some(expected))
}

fn data<T: SessionData>(data: &T, vector: &Vector) -> Result<(), String> {
    let expected: Value = serde_json::from_str(vector.field("data")).unwrap();
    same("data", &serde_json::to_value(data).unwrap(), &expected)
}

fn text(name: &str, actual: impl Display, vector: &Vector) -> Result<(), String> {
    same(name, &actual.to_string().as_str(), &vector.field(name))
}

fn same<V: Debug + PartialEq>(what: &str, actual: &V, expected: &V) -> Result<(), String> {
    if actual == expected {
        return Ok(());
    }
    Err(format!("{what}: {actual:?} instead of {expected:?}"))
}

fn millis(at: SystemTime) -> u128 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
}

fn millis_or_none(at: Option<SystemTime>) -> String {
    at.map_or_else(|| "none".into(), |at| millis(at).to_string())
}

/// Puts a fact in force: revoking means "up to now", so the clock is set to the fact's instant.
fn revoke(sessions: &SessionManager, clock: &ManualClock, list: &RevocationList, fact: &str) {
    let (fact, except) = match fact.split_once(" except ") {
        Some((fact, id)) => (fact, Some(id.parse::<SessionId>().unwrap())),
        None => (fact, None),
    };
    let target = if let Some(session) = fact.strip_prefix("session ") {
        match session.split_once(' ').unwrap() {
            (id, "all") => Target::session(id.parse().unwrap()),
            (id, below) => {
                let below = below.strip_prefix("below ").unwrap().parse().unwrap();
                return renew_to(below, id.parse().unwrap(), clock, list);
            }
        }
    } else {
        let (whom, before) = fact.rsplit_once(" before ").unwrap();
        clock.set(at(before));
        match whom.split_once(' ') {
            Some(("subject", subject)) => Target::subject(subject),
            Some(("tag", tag)) => Target::tag(tag),
            _ => {
                assert_eq!(whom, "everyone", "unknown fact");
                Target::everyone()
            }
        }
    };
    let target = except.into_iter().fold(target, Target::except);
    sessions.revoke(target).unwrap();
}

/// Ends the generations below `below`, as renewing the one before it does. That one is sealed
/// here, by the specification, since the API gives no session an id of the caller's choice.
fn renew_to(below: u16, id: SessionId, clock: &ManualClock, list: &RevocationList) {
    let root = Sha256::digest("sealed-session test key 1");
    let ring = "sealsess_k1_x7QlJXq9hMoPCtjRWI4GsWPJCbNU-za3tIXWCQHP_Fk_V0m_AQ";
    let sessions =
        SessionManager::builder("facts", KeyRing::insecure_published_keys(ring).unwrap())
            .revocations(list.clone())
            .clock(clock.clone())
            .build()
            .unwrap();
    let now = millis(sealed_session::Clock::now(clock));
    let token = seal(&root, id, u64::try_from(now).unwrap(), below.checked_sub(1).unwrap());

    let cookie = format!("__Host-Http-id={token}");
    let session: Session = sessions.open(Some(cookie)).unwrap();
    assert_eq!(session.id(), Some(id), "the token made here does not open");
    session.renew().unwrap();
}

fn seal(root: &[u8], id: SessionId, now: u64, generation: u16) -> String {
    let derive = |label: &str| {
        let mac = Hmac::<Sha256>::new_from_slice(root).unwrap();
        mac.chain_update(label).chain_update([1]).finalize().into_bytes()
    };
    let key_id = &derive("sealed-session key id")[..4];
    let nonce = [7; 24];

    let mut record = id.as_bytes().to_vec();
    record.extend_from_slice(&now.to_be_bytes()[2..]);
    for seconds in [0_u32, 3_600, 0] {
        record.extend_from_slice(&seconds.to_be_bytes());
    }
    record.extend_from_slice(&generation.to_be_bytes());
    record.extend_from_slice(b"\0\0\x05alice{}");

    let mut aad = b"sealed-session v1\x01".to_vec();
    aad.extend_from_slice(key_id);
    for part in ["facts", "cookie", "__Host-Http-id"] {
        aad.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        aad.extend_from_slice(part.as_bytes());
    }

    let cipher = XChaCha20Poly1305::new(&derive("sealed-session v1 seal"));
    let payload = Payload { msg: &record, aad: &aad };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).unwrap();
    URL_SAFE_NO_PAD.encode([&[1], key_id, &nonce, &sealed].concat())
}
