//! What is secret appears in no `Debug`, error, event or log line.
//!
//! Keys, tokens, CSRF tokens and session data are secret; so is the subject, except where
//! `Event::Issued` hands it to the application's own table of devices. `Flash` and a backend's cause
//! are the application's own words, shown back to it, and so are free to show them; the session that
//! carries a `Flash` is not.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod common;
#[path = "common/folder.rs"]
mod folder;
#[cfg(feature = "tracing")]
#[path = "common/paper.rs"]
mod paper;
#[path = "common/secrets.rs"]
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use common::{DAY, HOUR, MINUTE};
use folder::Folder;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderValue, SET_COOKIE};
use sealed_session::{
    Clock as _, Cookie, DirectoryKeys, EnvKeys, ErrorKind, Event, FileKeys, KeyRing, KeySource,
    Keys, ManualClock, Map, RevocationList, Rotation, Session, SessionId, SessionManager,
    SessionManagerBuilder, SignIn, Target,
};
use secrets::{Secrets, Texts};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

const SUBJECT: &str = "subject-7f3a9c";
const DATA: &str = "data-51b0e8";
const FLASH: &str = "flash-c2d46a";
const TAG: &str = "tag-93e7f1";
const OTHER: &str = "other-0b8d25";
const MARKERS: [&str; 5] = [SUBJECT, DATA, FLASH, TAG, OTHER];

/// Two keys of which the second seals from tomorrow on, with a clock, and the secrets of both.
fn two_keys() -> (String, ManualClock, Secrets) {
    let text = || KeyRing::generate().unwrap().expose_text().lines().nth(1).unwrap().to_owned();
    let ring = format!("{}\n{} seal_from=2026-09-22T14:13:20Z", text(), text());
    let mut secrets = Secrets(MARKERS.map(|marker| ("marker", marker.to_owned())).into());
    secrets.ring(&ring);
    (ring, common::clock(), secrets)
}

fn builder(ring: &str, clock: &ManualClock) -> SessionManagerBuilder {
    SessionManager::builder("shop", ring.parse::<KeyRing>().unwrap())
        .revocations(RevocationList::in_process())
        .clock(clock.clone())
}

fn value_of(cookie: &str) -> &str {
    cookie.split(';').next().unwrap().split_once('=').unwrap().1
}

fn marked() -> SignIn<Map> {
    let data = Map::from_iter([(DATA.to_owned(), DATA.into())]);
    SignIn::new(SUBJECT).tag(TAG).data(data)
}

/// The scan itself must be able to fail.
#[test]
fn a_secret_in_any_form_is_noticed() {
    let (ring, _, secrets) = two_keys();
    let root = URL_SAFE_NO_PAD.decode(&ring[12..55]).unwrap();
    let planted = [
        format!("key {ring}"),
        format!("{:?}", &root[..12]),
        format!("{:#?}", &root[20..]),
        format!("{:02X?}", &root[..8]).replace(", ", ""),
        STANDARD.encode(&root),
        format!("Session {{ data: {DATA} }}"),
    ];
    for planted in planted {
        let texts = Texts(vec![("planted".into(), planted.clone())]);
        let scan = || secrets.assert_absent(&texts);
        assert!(std::panic::catch_unwind(scan).is_err(), "not noticed: {planted}");
    }
}

#[test]
fn no_secret_in_debug_errors_or_events() {
    let (ring, clock, mut secrets) = two_keys();
    let mut texts = Texts::default();

    values(&mut texts, &mut secrets, &ring, &clock);
    errors(&mut texts, &mut secrets, &ring, &clock);
    events(&mut texts, &mut secrets, &ring, &clock);

    secrets.assert_absent(&texts);
}

/// A value of every public type that an application holds.
fn values(texts: &mut Texts, secrets: &mut Secrets, ring: &str, clock: &ManualClock) {
    let keys: KeyRing = ring.parse().unwrap();
    let status = keys.status(std::time::SystemTime::now());
    texts.debug(&keys);
    texts.debug(Keys::from(keys));
    texts.debug((&status[0], status[0].id(), status[0].id().to_string()));
    texts.debug(builder(ring, clock));
    let sessions = builder(ring, clock).build().unwrap();
    texts.debug(&sessions);
    texts.debug(sessions.bearer::<Map>());
    texts.debug(marked().remember());
    for target in [Target::subject(SUBJECT), Target::tag(TAG), Target::everyone()] {
        texts.debug(target.except(SessionId::from_bytes([7; 16])));
    }
    texts.debug((Cookie::default(), clock, RevocationList::in_process()));

    let session: Session = sessions.open(None::<&str>).unwrap();
    texts.debug(session.sign_in(marked()).unwrap());
    session.flash(FLASH, FLASH).unwrap();
    let csrf = session.csrf_token().unwrap();
    secrets.bytes("CSRF token", &URL_SAFE_NO_PAD.decode(&csrf).unwrap()[4..]);
    texts.debug(&session);
    let closing = session.close().unwrap();
    texts.debug(&closing);
    texts.debug(&session);
    let mut headers = HeaderMap::new();
    closing.apply(&mut headers);
    assert!(headers[SET_COOKIE].is_sensitive());
    secrets.token(value_of(headers[SET_COOKIE].to_str().unwrap()));
    texts.debug(&headers);

    let token = sessions.bearer().issue(marked()).unwrap();
    secrets.token(&token);
    texts.debug(sessions.bearer::<Map>().open(&token).unwrap());
    let session: Session = sessions.open([&headers[SET_COOKIE]]).unwrap();
    assert_eq!(session.subject().as_deref(), Some(SUBJECT));
    texts.debug(&session);

    #[cfg(feature = "tower")]
    {
        use tower::Layer as _;
        let layer = sealed_session::tower::SessionLayer::<Map>::new(sessions);
        texts.debug(&layer);
        texts.debug(layer.layer(()));
    }
}

/// Fails to serialize, and says what it is about.
#[derive(Clone, Debug, Default)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom(DATA))
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom(DATA))
    }
}

/// Errors about things that hold a secret.
fn errors(texts: &mut Texts, secrets: &mut Secrets, ring: &str, clock: &ManualClock) {
    let sessions = builder(ring, clock).build().unwrap();
    let open = || -> Session { sessions.open(None::<&str>).unwrap() };
    let (bearer, stubborn) = (sessions.bearer::<Map>(), sessions.bearer::<Stubborn>());
    let token = bearer.issue(marked()).unwrap();
    secrets.token(&token);

    // The ring's text, with something wrong on a line: a typo, a word, a date, a key twice.
    let first = ring.lines().next().unwrap();
    let typo = first.replace("sealsess_k1_", "sealsess_k1_A");
    let wrong = [
        typo,
        format!("{first}x"),
        format!("{first} {OTHER}"),
        format!("{first} seal_from={OTHER}"),
        format!("{first} seal_from={}", &first[12..]),
        format!("{first}\n{first}"),
        format!("{first} open_until=2026-01-01T00:00:00Z"),
        format!("{first} revoked"),
        first[12..].to_owned(),
        format!("{OTHER}{ring}"),
    ];
    for text in wrong {
        texts.error(ErrorKind::KeyRing, &text.parse::<KeyRing>().unwrap_err());
    }

    let reject = |token: &str| bearer.open(token).unwrap_err();
    texts.error(ErrorKind::Malformed, &reject(&format!("\"{OTHER}")));
    texts.error(ErrorKind::Malformed, &reject(&format!("{token}=")));
    texts.error(ErrorKind::Version, &reject(&format!("Ag{}", &token[2..])));
    texts.error(ErrorKind::KeyUnknown, &reject(&format!("AQAAAAAA{}", &token[8..])));
    let cut = token.len() - 8;
    texts.error(ErrorKind::Forged, &reject(&format!("{}AAAAAAAA", &token[..cut])));
    texts.error(ErrorKind::Data, &stubborn.open(&token).unwrap_err());
    clock.advance(31 * MINUTE);
    texts.error(ErrorKind::Idle, &reject(&token));
    clock.advance(12 * HOUR);
    texts.error(ErrorKind::Expired, &reject(&token));
    let clock_back = builder(ring, &common::clock()).build().unwrap();
    let early = bearer.issue(marked()).unwrap();
    texts.error(ErrorKind::NotYet, &clock_back.bearer::<Map>().open(&early).unwrap_err());
    bearer.open(&early).unwrap().revoke().unwrap();
    texts.error(ErrorKind::Revoked, &reject(&early));

    texts.error(ErrorKind::Csrf, &open().verify_csrf(OTHER).unwrap_err());
    let large = SUBJECT.repeat(20);
    texts.error(ErrorKind::Subject, &open().sign_in(&*large).unwrap_err());
    let data = DATA.repeat(400);
    texts.error(ErrorKind::TooLarge, &open().insert(DATA, &data).unwrap_err());
    texts.error(ErrorKind::TooLarge, &open().flash(FLASH, FLASH.repeat(400)).unwrap_err());
    texts.error(ErrorKind::Serialize, &open().insert(DATA, Stubborn).unwrap_err());
    let keyed = BTreeMap::from([((DATA, DATA), DATA)]);
    texts.error(ErrorKind::Serialize, &open().insert(DATA, keyed).unwrap_err());
    let signed_in = SignIn::new(SUBJECT).data(Stubborn);
    texts.error(ErrorKind::Serialize, &stubborn.issue(signed_in).unwrap_err());
    let session = open();
    session.insert(DATA, DATA).unwrap();
    texts.error(ErrorKind::Data, &session.get::<Stubborn>(DATA).unwrap_err());
    texts.error(ErrorKind::Data, &session.get::<u32>(DATA).unwrap_err());
    let busy = session.update(|_| session.insert(DATA, OTHER)).unwrap();
    texts.error(ErrorKind::Busy, &busy.unwrap_err());
    let overtaken = open();
    sessions.revoke(Target::subject(SUBJECT)).unwrap();
    texts.error(ErrorKind::Conflict, &overtaken.sign_in(marked()).unwrap_err());
    drop(session.close().unwrap());
    texts.error(ErrorKind::Closed, &session.insert(DATA, OTHER).unwrap_err());
    texts.error(ErrorKind::SignedOut, &open().sign_out_everywhere().unwrap_err());
    texts.error(ErrorKind::Malformed, &OTHER.parse::<SessionId>().unwrap_err());
    let tags = (0..5).fold(SignIn::<Map>::new(SUBJECT), |sign_in, _| sign_in.tag(TAG));
    texts.error(ErrorKind::TooLarge, &open().sign_in(tags).unwrap_err());
}

/// Every event, as an observer and as a log would show it.
fn events(texts: &mut Texts, secrets: &mut Secrets, ring: &str, clock: &ManualClock) {
    clock.set(common::clock().now());
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    let observer = move |event: &Event<'_>| {
        let mut event = event.clone();
        // The one place where a subject is meant to be.
        if let Event::Issued { subject, .. } = &mut event {
            *subject = "";
        }
        writer.lock().unwrap().push((format!("{event:?}"), format!("{event:#?}")));
    };
    let list = RevocationList::in_process();
    let build =
        |ring: &str| builder(ring, clock).revocations(list.clone()).observer(observer.clone());
    #[cfg(feature = "tracing")]
    let build = |ring: &str| build(ring).observer(sealed_session::TracingObserver::default());

    let lines = lines_of(|| {
        let sessions = build(ring).build().unwrap();
        every_event(&sessions, &build, clock, &list, secrets);
    });

    let log = log.lock().unwrap();
    let word = |text: &String| text.split([' ', '{']).next().unwrap().to_owned();
    let kinds: BTreeSet<String> = log.iter().map(|(text, _)| word(text)).collect();
    let wanted = [
        "Opened",
        "Issued",
        "KeyRingLoaded",
        "KeyUnknown",
        "Refreshed",
        "Resealed",
        "Rejected",
        "Withheld",
        "Revoked",
        "Renewed",
        "Reuse",
        "TwoSessions",
        "TooLarge",
        "ClosedLate",
        "RefreshSkipped",
        "CacheHeaderChanged",
        "NotSent",
        "ListFull",
    ];
    assert_eq!(kinds, BTreeSet::from(wanted.map(str::to_owned)));
    for (text, pretty) in log.iter() {
        texts.0.extend([(word(text), text.clone()), (word(text), pretty.clone())]);
    }
    if cfg!(feature = "tracing") {
        assert!(lines.len() >= log.len(), "{lines:?}");
    }
    texts.0.extend(lines.into_iter().map(|line| ("log line".into(), line)));
}

fn every_event(
    sessions: &SessionManager,
    build: &dyn Fn(&str) -> SessionManagerBuilder,
    clock: &ManualClock,
    list: &RevocationList,
    secrets: &mut Secrets,
) {
    let mut cookie = || {
        let cookie = sessions.cookie_for(marked()).unwrap();
        secrets.token(value_of(&cookie));
        cookie
    };
    let open = |cookies: &[&str]| -> Session { sessions.open(cookies).unwrap() };
    let close = |session: &Session| session.close().unwrap().into_iter().next();

    // Opened, Issued, Renewed, Reuse, TooLarge, ClosedLate, TwoSessions, Revoked.
    let (one, other) = (cookie(), cookie());
    let session = open(&[&one]);
    session.renew().unwrap();
    session.insert(DATA, DATA.repeat(400)).unwrap_err();
    let newer = close(&session).unwrap();
    session.insert(DATA, DATA).unwrap_err();
    open(&[&one]);
    open(&[value_of(&newer), &newer, &other]).sign_out().unwrap();

    // NotSent: revoked while the answer was under way.
    let third = cookie();
    let session = open(&[&third]);
    session.insert(DATA, OTHER).unwrap();
    sessions.revoke(Target::subject(SUBJECT)).unwrap();
    assert_eq!(close(&session), None);

    // Refreshed, RefreshSkipped, CacheHeaderChanged, Resealed.
    clock.advance(Duration::from_millis(1));
    let fourth = cookie();
    clock.advance(10 * MINUTE);
    secrets.token(value_of(&close(&open(&[&fourth])).unwrap()));
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    open(&[&fourth]).close().unwrap().apply(&mut headers);
    let session = open(&[&fourth]);
    session.insert(DATA, OTHER).unwrap();
    session.close().unwrap().apply(&mut headers);
    secrets.token(value_of(headers[SET_COOKIE].to_str().unwrap()));
    let persistent = sessions.cookie_for(marked().remember()).unwrap();
    clock.advance(DAY);
    secrets.token(value_of(&close(&open(&[&persistent])).unwrap()));

    // Rejected, Withheld: sealed by a key that is unknown here, and by none at all.
    let foreign = KeyRing::generate().unwrap().expose_text();
    secrets.ring(&foreign);
    let session: Session = build(&foreign).build().unwrap().open([&persistent]).unwrap();
    session.insert(DATA, OTHER).unwrap();
    session.sign_out().unwrap();
    open(&[&format!("__Host-Http-id={OTHER}")]);

    // ListFull.
    let _ = list.clone().max_entries(0);
    sessions.revoke(Target::tag(TAG)).unwrap_err();
}

/// The lines that `tracing` gets from `work`, none without the feature.
#[cfg(feature = "tracing")]
fn lines_of(work: impl FnOnce()) -> Vec<String> {
    let paper = paper::Paper::default();
    tracing::subscriber::with_default(paper.clone(), work);
    let lines = paper.lines.lock().unwrap().clone();
    assert!(lines.iter().any(|line| line.contains("signed in")), "{lines:?}");
    lines
}

#[cfg(not(feature = "tracing"))]
fn lines_of(work: impl FnOnce()) -> Vec<String> {
    work();
    Vec::new()
}

#[test]
fn no_key_in_what_rotations_and_sources_say() {
    let (ring, _, mut secrets) = two_keys();
    let (mut texts, folder) = (Texts::default(), Folder::new());
    // The first key ends before the second one takes over everywhere.
    let ring = ring.replacen('\n', " open_until=2099-09-22T14:13:21Z\n", 1);
    let ring = ring.replace("2026-09-22T14:13:20Z", "2099-09-22T14:13:20Z");
    let now = std::time::SystemTime::now();
    let parsed: KeyRing = ring.parse().unwrap();
    let rotation = Rotation::default();
    let active = parsed.status(now)[0].id();
    for rotated in [
        parsed.rotate(&rotation, now).unwrap(),
        parsed.revoke_keys(&[active], &rotation, now).unwrap(),
    ] {
        secrets.ring(&rotated.ring().expose_text());
        texts.debug(&rotated);
        rotated.changes().iter().for_each(|change| texts.debug((change, change.to_string())));
        rotated.ring().check(&rotation, now).iter().for_each(|found| texts.debug(found));
    }
    for found in parsed.check(&rotation, now) {
        texts.debug((&found, found.to_string()));
    }
    texts.debug(&rotation);

    let path = folder.file("keys", &ring);
    folder.mode(0o644, "keys");
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    let observer = move |event: &Event<'_>| writer.lock().unwrap().push(format!("{event:?}"));
    let keys = KeyRing::watch(FileKeys::new(&path)).unwrap();
    let sessions =
        SessionManager::builder("shop", keys.clone()).observer(observer).build().unwrap();
    let broken = [
        ring.replace("open_until", OTHER),
        ring.lines().next().unwrap()[12..].to_owned(),
        ring.lines().nth(1).unwrap().to_owned(),
        ring[..ring.len() - 30].to_owned(),
        format!("{ring}\n{ring}"),
    ];
    let bytes = [ring.as_bytes(), b"\xff"].concat();
    for bad in broken.iter().map(String::as_bytes).chain([&*bytes]) {
        folder.file("keys", bad);
        texts.error(ErrorKind::KeyRing, &keys.reload_now().unwrap_err());
        let directory = DirectoryKeys::new(folder.path());
        if let Err(error) = KeyRing::watch(DirectoryKeys::new(folder.path())) {
            texts.error(ErrorKind::KeyRing, &error);
        }
        let _ = directory.load();
        texts.debug((&directory, directory.name(), directory.warning()));
    }
    let file = FileKeys::new(&path);
    texts.debug((&file, file.name(), file.warning(), EnvKeys::new("KEYS")));
    texts.debug((&keys, keys.last_error(), Keys::from(keys.clone())));
    texts.debug(&sessions);

    let log = log.lock().unwrap();
    let told = ["KeyRingLoaded", "KeySourceWarning", "KeyRingFailed"];
    #[cfg(unix)]
    for name in told.iter().chain(&["KeyEndsEarly"]) {
        assert!(log.iter().any(|event| event.starts_with(name)), "{name}: {log:?}");
    }
    texts.0.extend(log.iter().map(|text| ("event".to_owned(), text.clone())));
    secrets.assert_absent(&texts);
}

#[test]
fn a_token_shows_nothing_of_subject_or_data() {
    let (ring, clock, _) = two_keys();
    let sessions = builder(&ring, &clock).build().unwrap();
    let token = |sign_in: SignIn<Map>| {
        URL_SAFE_NO_PAD.decode(sessions.bearer().issue(sign_in).unwrap()).unwrap()
    };
    let one = token(marked());
    let same = token(marked());
    let swapped = Map::from_iter([(OTHER[..11].to_owned(), OTHER[..11].into())]);
    let alike = token(SignIn::new(&SUBJECT.replace('7', "8")[..]).tag(OTHER).data(swapped));

    for marker in MARKERS {
        for piece in marker.as_bytes().windows(6) {
            assert!(!one.windows(6).any(|window| window == piece));
        }
    }
    // Version and key id, and nothing more, are the same in all; the length is that of the parts.
    for other in [&same, &alike] {
        assert_eq!(other.len(), one.len());
        assert_eq!(other[..5], one[..5]);
        let common = one[5..].windows(6).filter(|piece| other.windows(6).any(|w| w == *piece));
        assert_eq!(common.count(), 0);
    }
}
