//! Rings that follow their source: what is taken, what is refused, who hears of it, and how often a
//! source is read.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;
#[path = "common/folder.rs"]
mod folder;
#[path = "common/rings.rs"]
mod rings;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::DAY;
use folder::Folder;
use rings::{Desk, Log, id, in_seconds, key, states};
use sealed_session::{
    Error, ErrorKind, Event, FileKeys, KeyRing, KeyState, Map, Policy, Rotation, Session,
    SessionManager, WatchedKeys, Zeroizing,
};

/// A ring of three: accept-only, active, pending.
fn three() -> [String; 3] {
    let (old, new, until) = (in_seconds(-1_000), in_seconds(100_000), in_seconds(900_000));
    [
        format!("{} seal_from={} open_until={until}", key(), in_seconds(-9_000)),
        format!("{} seal_from={old} open_until={until}", key()),
        format!("{} seal_from={new}", key()),
    ]
}

fn watched(text: &str) -> (WatchedKeys, Desk, SessionManager, Log) {
    let (desk, log) = (Desk::new(text), Log::default());
    let keys = KeyRing::watch_every(desk.clone(), DAY).unwrap();
    let builder = SessionManager::builder("shop", keys.clone()).observer(log.observer());
    let sessions = builder.build().unwrap();
    assert_eq!(log.names(), ["KeyRingLoaded"]);
    (keys, desk, sessions, log)
}

/// That the ring stays as it is, and the observer hears why.
#[track_caller]
fn assert_kept(keys: &WatchedKeys, log: &Log, reason: &str) {
    let before = keys.ring().fingerprint();
    let error = keys.reload_now().unwrap_err();

    assert_eq!(keys.ring().fingerprint(), before);
    let message = error.to_string();
    assert!(message.contains("the desk: ") && message.contains(reason), "{message}");
    assert_eq!(keys.last_error().unwrap().to_string(), message);
    assert_eq!(log.take(), [format!("KeyRingFailed {{ error: {error:?} }}")]);
}

#[test]
fn a_text_that_is_no_ring_leaves_the_old_one_and_a_good_one_is_taken_afterwards() {
    let lines = three();
    let text = lines.join("\n");
    let (keys, desk, _sessions, log) = watched(&text);
    let typo = format!("{}\n{}", lines[0], lines[1].replacen("sealsess_k1_", "sealsess_k1_A", 1));
    for (bad, reason) in [
        ("", "it holds no key"),
        ("\n# later\n", "it holds no key"),
        ("<html>502 Bad Gateway</html>", "line 1: no key"),
        (&typo, "line 2: not a whole key"),
        (&format!("{text}\n{} retired", key()), "line 4: an unknown word"),
        (&text[..text.len() - 40], "line 3: not a whole key"),
        (&text[..text.len() - 31], "line 2: open_until without a later key"),
    ] {
        desk.put(bad);
        assert_kept(&keys, &log, reason);
    }

    let next = format!("{text}\n{} seal_from={}", key(), in_seconds(200_000));
    let next = next.replace(&lines[2], &format!("{} open_until={}", lines[2], in_seconds(900_000)));
    desk.put(&next);
    keys.reload_now().unwrap();
    assert_eq!(keys.ring().fingerprint(), next.parse::<KeyRing>().unwrap().fingerprint());
    assert!(keys.last_error().is_none());
    assert!(log.take()[0].ends_with("changed: true, recovered: true }"));
    keys.reload_now().unwrap();
    assert!(log.take()[0].ends_with("changed: false, recovered: false }"));
}

#[test]
fn a_source_that_fails_or_panics_leaves_the_old_ring_and_is_named() {
    let (keys, desk, _sessions, log) = watched(&key());
    let before = keys.ring().fingerprint();

    desk.fail("connection refused");
    let error = keys.reload_now().unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(error.to_string().contains("the desk"), "{error}");
    assert!(format!("{error:?}").contains("connection refused"));
    assert_eq!(log.names(), ["KeyRingFailed"]);
    assert_eq!(keys.ring().fingerprint(), before);

    let panics = Arc::new(AtomicBool::new(false));
    let (when, text) = (Arc::clone(&panics), key());
    let keys = KeyRing::watch(move || {
        assert!(!when.load(Ordering::SeqCst), "the source's own");
        Ok(Zeroizing::new(text.clone()))
    })
    .unwrap();
    panics.store(true, Ordering::SeqCst);
    assert_eq!(keys.reload_now().unwrap_err().kind(), ErrorKind::Backend);
    panics.store(false, Ordering::SeqCst);
    keys.reload_now().unwrap();
}

/// All that a cut can take is the line of a revoked key, which then opens as little as before.
#[test]
fn a_text_cut_anywhere_loses_no_key_and_no_revocation() {
    let plain = three();
    let mut first = three();
    first[0].push_str(" revoked");
    let mut last = three();
    last[1] = last[1].split(" open_until").next().unwrap().to_owned();
    last[2].push_str(" revoked");
    for (lines, cuts) in [(plain, 1), (first, 1), (last, 3)] {
        let text = lines.join("\n") + "\n";
        let (keys, desk, _sessions, _) = watched(&text);
        let before = states(&keys.ring(), SystemTime::now());
        let mut taken = 0;
        for length in 0..text.len() {
            desk.put(&text[..length]);
            taken += usize::from(keys.reload_now().is_ok());
            let after = states(&keys.ring(), SystemTime::now());
            for (id, state) in &before {
                let now = after.iter().find(|(other, _)| other == id).map(|(_, state)| *state);
                let gone = *state == KeyState::Revoked && now.is_none();
                assert!(now == Some(*state) || gone, "cut at {length}: {after:?}");
            }
            assert!(after.len() <= before.len());
        }
        // Without the last end of a line, and without the last line where that is revoked.
        assert_eq!(taken, cuts, "{text}");
        desk.put(&text.replace(" revoked", ""));
        assert_eq!(keys.reload_now().is_ok(), !text.contains("revoked"));
        desk.put(&text);
        keys.reload_now().unwrap();
        assert_eq!(states(&keys.ring(), SystemTime::now()), before);
    }
}

#[test]
fn an_older_ring_is_refused_whatever_it_lacks() {
    let [old, now, next] = three();
    let of = |line: &str| id(line).to_string();
    let all = [&*old, &now, &next].join("\n");
    let (keys, desk, _sessions, log) = watched(&all);
    let endless = now.split(" open_until").next().unwrap();
    for (text, missing) in [
        (format!("{old}\n{endless}"), of(&next)),
        (format!("{now}\n{next}"), of(&old)),
        (format!("{old}\n{next}"), of(&now)),
    ] {
        desk.put(&text);
        assert_kept(&keys, &log, &format!("key {missing} is missing, though it still opens"));
    }

    desk.put(&format!("{old} revoked\n{now}\n{next}"));
    keys.reload_now().unwrap();
    log.take();
    desk.put(&all);
    let reason = format!("key {} was revoked, and comes without `revoked`", of(&old));
    assert_kept(&keys, &log, &reason);
    // Also once its line is gone.
    desk.put(&format!("{now}\n{next}"));
    keys.reload_now().unwrap();
    log.take();
    desk.put(&all);
    assert_kept(&keys, &log, &reason);
}

#[test]
fn a_ring_in_which_the_active_key_is_over_all_at_once_is_refused() {
    let [old, now, next] = three();
    let (keys, desk, _sessions, log) = watched(&[&*old, &now, &next].join("\n"));
    // Of a key that is superseded the end may be moved.
    let earlier = old.split(" open_until").next().unwrap().to_owned();
    desk.put(&format!("{earlier} open_until={}\n{now}\n{next}", in_seconds(-1)));
    keys.reload_now().unwrap();
    assert_eq!(states(&keys.ring(), SystemTime::now())[0].1, KeyState::Expired);
    log.take();
    // A wrong year, or a rotation under a clock that stood at 1970.
    let hours = in_seconds(-500);
    let ended = now.split(" open_until").next().unwrap().to_owned() + " open_until=" + &hours;
    let begun = next.split(' ').next().unwrap().to_owned() + " seal_from=" + &hours;
    desk.put(&format!("{old}\n{ended}\n{begun}"));
    assert_kept(&keys, &log, &format!("key {} is active and would end at once", id(&now)));

    desk.put(&format!("{old}\n{ended} revoked\n{begun}"));
    keys.reload_now().unwrap();
    assert_eq!(states(&keys.ring(), SystemTime::now())[1].1, KeyState::Revoked);
}

#[test]
fn what_a_rotation_makes_is_taken_by_servers_that_follow() {
    // A key that leaked long after it was superseded: it never ended.
    let lines = [key(), format!("{} seal_from=2020-01-01T00:00:00Z", key())];
    let (keys, desk, _sessions, _) = watched(&lines.join("\n"));
    let (rotation, now) = (Rotation::default(), SystemTime::now());

    let revoked = keys.ring().revoke_keys(&[id(&lines[0])], &rotation, now).unwrap();
    desk.put(&revoked.ring().expose_text());
    keys.reload_now().unwrap();
    assert_eq!(states(&keys.ring(), now)[0], (id(&lines[0]), KeyState::Revoked));

    let (keys, desk, _sessions, _) = watched(&lines.join("\n"));
    for _ in 0..3 {
        let rotated = keys.ring().rotate(&rotation, SystemTime::now()).unwrap();
        desk.put(&rotated.ring().expose_text());
        keys.reload_now().unwrap();
    }
}

#[test]
fn a_source_without_a_usable_ring_stops_the_start() {
    let start = |text: &str| KeyRing::watch(Desk::new(text)).unwrap_err();

    assert!(start("").to_string().contains("the desk: it holds no key"));
    let early = start(&format!("{} seal_from=2099-01-01T00:00:00Z", key()));
    assert!(early.to_string().contains("the desk: no key seals yet"), "{early}");
    for poll_every in [Duration::from_millis(999), DAY + Duration::from_millis(1)] {
        let error = KeyRing::watch_every(Desk::new(&key()), poll_every).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}

#[test]
fn two_managers_hear_of_one_source_and_one_that_is_gone_is_forgotten() {
    let (keys, desk, sessions, log) = watched(&key());
    let other = Log::default();
    let builder = SessionManager::builder("other", keys.clone()).observer(other.observer());
    let second = builder.build().unwrap();
    assert_eq!(other.names(), ["KeyRingLoaded"]);

    keys.reload_now().unwrap();
    assert_eq!(
        (log.names(), other.names()),
        (vec!["KeyRingLoaded".into()], vec!["KeyRingLoaded".into()])
    );

    drop(second);
    desk.put("");
    keys.reload_now().unwrap_err();
    assert_eq!((log.names(), other.names()), (vec!["KeyRingFailed".into()], vec![]));
    drop(sessions);
}

#[test]
fn an_observer_that_panics_keeps_no_other_from_hearing() {
    let (desk, log) = (Desk::new(&key()), Log::default());
    let keys = KeyRing::watch_every(desk.clone(), DAY).unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let when = Arc::clone(&armed);
    let panics = move |_: &Event<'_>| assert!(!when.load(Ordering::SeqCst), "the observer's own");
    let _first = SessionManager::builder("a", keys.clone()).observer(panics).build().unwrap();
    let second = SessionManager::builder("b", keys.clone()).observer(log.observer());
    let _second = second.build().unwrap();
    log.take();
    armed.store(true, Ordering::SeqCst);

    keys.reload_now().unwrap();

    assert_eq!(log.names(), ["KeyRingLoaded"]);
}

#[test]
fn a_failure_before_there_is_a_manager_reaches_its_observer() {
    let (desk, log) = (Desk::new(&key()), Log::default());
    let keys = KeyRing::watch_every(desk.clone(), DAY).unwrap();
    desk.put("");
    keys.reload_now().unwrap_err();

    let builder = SessionManager::builder("shop", keys).observer(log.observer());
    let _sessions = builder.build().unwrap();

    assert_eq!(log.names(), ["KeyRingLoaded", "KeyRingFailed"]);
}

#[test]
fn of_loads_on_many_threads_the_newest_stays() {
    let (old, new) = (key(), key());
    let count = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&count);
    // The later it was read, the longer the old key opens.
    let keys = KeyRing::watch_every(
        move || {
            let number = at.fetch_add(1, Ordering::SeqCst);
            thread::yield_now();
            let until = in_seconds(100_000 + 10 * i64::try_from(number).unwrap());
            let from = in_seconds(-100);
            Ok(Zeroizing::new(format!("{old} open_until={until}\n{new} seal_from={from}")))
        },
        DAY,
    )
    .unwrap();

    let end = || keys.ring().status(SystemTime::now())[0].open_until().unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let before = end();
                    keys.reload_now().unwrap();
                    assert!(end() > before);
                }
            });
        }
    });

    assert_eq!(count.load(Ordering::SeqCst), 401);
    let least = SystemTime::now() + Duration::from_secs(100_000 + 4_000 - 30);
    assert!(end() > least);
}

/// Waits until something is so; an error after a time that no machine needs.
fn until(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not come");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_file_is_followed_without_anybody_asking() {
    let (folder, one, two) = (Folder::new(), key(), key());
    let path = folder.file("keys", &one);
    let keys = KeyRing::watch_every(FileKeys::new(&path), Duration::from_secs(1)).unwrap();
    let checked_at = keys.checked_at();

    folder.file("keys", format!("{one} revoked\n{two}"));

    until(|| states(&keys.ring(), SystemTime::now()).len() == 2);
    assert!(keys.checked_at() > checked_at);
    folder.file("keys", "");
    until(|| keys.last_error().is_some());
    assert_eq!(states(&keys.ring(), SystemTime::now()).len(), 2);
}

#[test]
fn a_ring_that_ends_too_early_for_the_policy_is_told_on_both_sides_of_the_limit() {
    let policy = Policy::default();
    let (now, log) = (SystemTime::now(), Log::default());
    let rotation = Rotation::new(&policy).reload_lag(Duration::ZERO);
    let ring = key().parse::<KeyRing>().unwrap().rotate(&rotation, now).unwrap();
    let until = ring.ring().status(now)[0].open_until().unwrap();
    let text = ring.ring().expose_text();
    let shorter = text.replace(
        &rings::date(until),
        &rings::date(until.checked_sub(Duration::from_secs(1)).unwrap()),
    );
    let events = |text: &str| {
        let keys = KeyRing::watch_every(Desk::new(text), DAY).unwrap();
        let builder = SessionManager::builder("shop", keys).policy(policy.clone());
        drop(builder.observer(log.observer()).build().unwrap());
        log.take()
    };

    assert_eq!(events(&text).len(), 1);
    let told = events(&shorter);
    let key = ring.ring().status(now)[0].id();
    assert_eq!(told[1..], [format!("KeyEndsEarly {{ key: {key}, needed: {until:?} }}")]);
}

/// A token of the right form under a key of this number.
fn token(number: u32) -> String {
    let [a, b, c, d] = number.to_be_bytes();
    let head = URL_SAFE_NO_PAD.encode([1, a, b, c, d, 0]);
    format!("{head}{}", "A".repeat(112))
}

#[test]
fn a_source_that_hangs_holds_up_no_request() {
    let (release, hold) = mpsc::channel::<()>();
    let (hold, begun) = (Mutex::new(hold), Arc::new(AtomicUsize::new(0)));
    let (loads, text) = (Arc::clone(&begun), key());
    let keys = KeyRing::watch_every(
        move || {
            if loads.fetch_add(1, Ordering::SeqCst) > 0 {
                let _ = hold.lock().unwrap().recv();
            }
            Ok(Zeroizing::new(text.clone()))
        },
        DAY,
    )
    .unwrap();
    let sessions = SessionManager::builder("shop", keys.clone()).build().unwrap();
    let mine = format!("__Host-Http-id={}", token(0));
    let session: Session = sessions.open(Some(&*mine)).unwrap();
    assert!(session.subject().is_none());
    until(|| begun.load(Ordering::SeqCst) == 2);

    let good = sessions.bearer::<Map>().issue("alice").unwrap();
    for number in 0..1_000 {
        let error = sessions.bearer::<Map>().open(&token(number)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyUnknown);
        sessions.bearer::<Map>().open(&good).unwrap();
    }
    assert!(keys.last_error().is_none());
    assert_eq!(begun.load(Ordering::SeqCst), 2);
    drop(release);
}

#[test]
fn a_flood_of_unknown_keys_causes_a_load_in_five_seconds_and_a_new_key_still_comes() {
    let (one, two) = (key(), key());
    let next = format!("{one}\n{two} seal_from={}", in_seconds(-60));
    let new = SessionManager::builder("shop", next.parse::<KeyRing>().unwrap()).build().unwrap();
    let genuine = new.bearer::<Map>().issue("alice").unwrap();
    let text = Arc::new(Mutex::new(one));
    let (loads, source) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&text));
    let times = Arc::clone(&loads);
    let keys = KeyRing::watch_every(
        move || -> Result<Zeroizing<String>, Error> {
            times.lock().unwrap().push(Instant::now());
            Ok(Zeroizing::new(source.lock().unwrap().clone()))
        },
        DAY,
    )
    .unwrap();
    let sessions = SessionManager::builder("shop", keys).build().unwrap();
    let flood = |from: u32| {
        let sessions = &sessions;
        thread::scope(|scope| {
            for part in 0..4 {
                scope.spawn(move || {
                    for number in 0..2_500 {
                        let token = token(from + 2_500 * part + number);
                        sessions.bearer::<Map>().open(&token).unwrap_err();
                        sessions.bearer::<Map>().open(&self::token(from)).unwrap_err();
                    }
                });
            }
        });
    };

    flood(0);
    until(|| loads.lock().unwrap().len() == 2);
    // After that load the new text is there, and a visitor comes with a session under its key.
    *text.lock().unwrap() = next;
    assert_eq!(sessions.bearer::<Map>().open(&genuine).unwrap_err().kind(), ErrorKind::KeyUnknown);
    flood(10_000);
    until(|| sessions.bearer::<Map>().open(&genuine).is_ok());

    let loads = loads.lock().unwrap();
    assert_eq!(loads.len(), 3);
    for pair in loads.windows(2) {
        let between = pair[1] - pair[0];
        assert!(between >= Duration::from_millis(4_990), "{between:?}");
        // Without being asked it would come after a day, and for one id alone after a minute.
        assert!(between < Duration::from_secs(40), "{between:?}");
    }
}
