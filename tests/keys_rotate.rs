//! Rotation as a pure function: what the next ring must hold, for whatever ring came before.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;
#[allow(dead_code, reason = "each test file uses its own part")]
#[path = "rotation_ring/plan.rs"]
mod plan;
#[path = "common/rings.rs"]
mod rings;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{DAY, HOUR, MILLI, MINUTE, SECOND};
use plan::{instant, plan, written};
use proptest::prelude::*;
use rings::date;
use sealed_session::{
    Error, ErrorKind, KeyId, KeyRing, KeyState, KeyStatus, Limits, Policy, RingChange, RingFinding,
    Rotated, Rotation,
};
use sha2::{Digest, Sha256};

/// The text of a key of the tests' own.
fn key(number: u8) -> String {
    let head = format!("sealsess_k1_{}_", URL_SAFE_NO_PAD.encode(Sha256::digest([number])));
    let checksum = crc32fast::hash(head.as_bytes()).to_be_bytes();
    format!("{head}{}", URL_SAFE_NO_PAD.encode(checksum))
}

/// A day in 2026.
fn day(number: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) + number * DAY
}

type Keys = BTreeMap<KeyId, KeyStatus>;

fn keys(ring: &KeyRing, now: SystemTime) -> Keys {
    ring.status(now).into_iter().map(|key| (key.id(), key)).collect()
}

fn opens(key: &KeyStatus) -> bool {
    matches!(key.state(), KeyState::Pending | KeyState::Active | KeyState::AcceptOnly)
}

fn active(keys: &Keys) -> Option<KeyId> {
    keys.values().find(|key| key.state() == KeyState::Active).map(KeyStatus::id)
}

/// The changes, as they show from outside.
fn differences(before: &Keys, after: &Keys) -> Vec<RingChange> {
    let mut changes = Vec::new();
    for (id, old) in before {
        let Some(new) = after.get(id) else {
            changes.push(RingChange::Dropped(*id));
            continue;
        };
        assert_eq!(old.seal_from(), new.seal_from());
        if old.state() != KeyState::Revoked && new.state() == KeyState::Revoked {
            changes.push(RingChange::Revoked(*id));
        } else if old.open_until() != new.open_until() {
            changes.push(RingChange::OpenUntil(*id));
        }
    }
    changes.extend(
        after.keys().filter(|id| !before.contains_key(id)).map(|id| RingChange::Added(*id)),
    );
    changes
}

fn sorted(changes: &[RingChange]) -> Vec<String> {
    let mut changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
    changes.sort_unstable();
    changes
}

/// What holds of every ring that follows another one.
fn assert_follows(before: &Keys, rotated: &Rotated, rotation: &Rotation, now: SystemTime) {
    let after = keys(rotated.ring(), now);
    let text = rotated.ring().expose_text();
    let again: KeyRing = text.parse().unwrap();
    assert_eq!(again.fingerprint(), rotated.ring().fingerprint());
    assert_eq!(sorted(rotated.changes()), sorted(&differences(before, &after)));
    for (id, old) in before {
        match after.get(id) {
            // Servers refuse a ring without a key that opens.
            None => assert!(!opens(old), "{old:?} is gone"),
            Some(new) if new.state() == KeyState::Revoked => {}
            Some(new) => {
                assert_ne!(old.state(), KeyState::Revoked, "{new:?}");
                assert_eq!(opens(old), opens(new), "{old:?} became {new:?}");
            }
        }
    }
    for finding in rotated.ring().check(rotation, now) {
        let harmless =
            matches!(finding, RingFinding::RotationDue { .. } | RingFinding::Droppable { .. });
        assert!(harmless, "{finding}");
    }
    assert!(active(&after).is_some());
}

fn rotations() -> impl Strategy<Value = (Rotation, Duration)> {
    let policy = prop_oneof![
        Just(Policy::default()),
        Just(Policy::pci()),
        Just(Policy::nist_aal1()),
        Just(Policy::pci().clock_skew(Duration::ZERO)),
    ];
    let slack = |policy: &Policy| {
        if *policy == Policy::pci().clock_skew(Duration::ZERO) {
            Duration::ZERO
        } else {
            2 * MINUTE
        }
    };
    (policy, 1..3_000_000_u32, 0..2_000_000_u32).prop_map(move |(policy, delay, lag)| {
        let rotation =
            Rotation::new(&policy).activation_delay(delay * MILLI * 100).reload_lag(lag * MILLI);
        (rotation, slack(&policy))
    })
}

/// An instant at which something happens in the ring, or a little beside it, or any other.
fn instants() -> impl Strategy<Value = (prop::sample::Index, i64)> {
    let beside = prop_oneof![-3_000..3_000_i64, -4_000_000_000..4_000_000_000_i64];
    (any::<prop::sample::Index>(), beside)
}

fn at(ring: &KeyRing, (which, beside): (prop::sample::Index, i64)) -> SystemTime {
    let keys = ring.status(instant(0));
    let dates: Vec<_> =
        keys.iter().flat_map(|key| [key.seal_from(), key.open_until()]).flatten().collect();
    let date = if dates.is_empty() { instant(90_000_000) } else { dates[which.index(dates.len())] };
    let by = Duration::from_millis(beside.unsigned_abs());
    if beside < 0 { date.checked_sub(by).unwrap().max(instant(0)) } else { date + by }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_rotation_keeps_what_seals_and_what_opens_and_is_done_once(
        plan in plan(), when in instants(), (rotation, _) in rotations(),
    ) {
        let ring: KeyRing = written(&plan, 0).parse().unwrap();
        let now = at(&ring, when);
        let before = keys(&ring, now);

        let rotated = match ring.rotate(&rotation, now) {
            Ok(rotated) => rotated,
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::KeyRing);
                let full = error.to_string().contains("keys, none of which may go yet");
                let explained = if full { before.len() >= 13 } else { active(&before).is_none() };
                prop_assert!(explained, "{}", error);
                return Ok(());
            }
        };

        assert_follows(&before, &rotated, &rotation, now);
        let after = keys(rotated.ring(), now);
        prop_assert_eq!(active(&after), active(&before));
        prop_assert!(after.values().any(|key| key.state() == KeyState::Pending));
        let added = rotated.changes().iter().filter(|change| matches!(change, RingChange::Added(_)));
        let waited = before.values().any(|key| key.state() == KeyState::Pending);
        prop_assert_eq!(added.count(), usize::from(!waited));
        let findings = rotated.ring().check(&rotation, now);
        prop_assert!(findings.is_empty(), "{:?}", findings);
        let again = rotated.ring().rotate(&rotation, now).unwrap();
        prop_assert_eq!(again.changes(), &[]);
        prop_assert_eq!(&*again.ring().expose_text(), &*rotated.ring().expose_text());
    }

    #[test]
    fn revoked_keys_never_open_and_some_other_key_seals_on_every_clock(
        plan in plan(), when in instants(), (rotation, slack) in rotations(), mask in any::<u16>(),
    ) {
        let ring: KeyRing = written(&plan, 0).parse().unwrap();
        let now = at(&ring, when);
        let before = keys(&ring, now);
        let ids: Vec<_> = ring.status(now).iter().map(KeyStatus::id).collect();
        let ids: Vec<_> =
            ids.into_iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|(_, id)| id).collect();

        let rotated = match ring.revoke_keys(&ids, &rotation, now) {
            Ok(rotated) => rotated,
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::KeyRing);
                let full = error.to_string().contains("keys, none of which may go yet");
                // Of those none opened nowhere for long enough: see the full ring below.
                let explained = if full { before.len() > 14 } else { active(&before).is_none() };
                prop_assert!(explained, "{}", error);
                return Ok(());
            }
        };

        let after = keys(rotated.ring(), now);
        assert_follows(&before, &rotated, &rotation, now);
        for id in &ids {
            prop_assert_eq!(after.get(id).map_or(KeyState::Revoked, KeyStatus::state), KeyState::Revoked);
        }
        let servers = [now, now - slack.min(now.duration_since(instant(0)).unwrap())];
        if active(&before).is_none_or(|id| ids.contains(&id)) {
            for now in servers {
                prop_assert!(active(&keys(rotated.ring(), now)).is_some(), "{:?}", now);
            }
        } else {
            prop_assert_eq!(active(&after), active(&before));
        }
        let waits = |keys: &Keys| keys.values().any(|key| key.state() == KeyState::Pending);
        prop_assert!(!waits(&before) || waits(&after));
        // A full ring may have lost those that opened nowhere.
        let ids: Vec<_> = ids.into_iter().filter(|id| after.contains_key(id)).collect();
        let again = rotated.ring().revoke_keys(&ids, &rotation, now).unwrap();
        prop_assert_eq!(again.changes(), &[]);
        prop_assert_eq!(&*again.ring().expose_text(), &*rotated.ring().expose_text());
    }
}

fn text_of(ring: &KeyRing) -> String {
    ring.expose_text().lines().skip(1).collect::<Vec<_>>().join("\n")
}

fn ids(ring: &KeyRing) -> Vec<KeyId> {
    ring.status(day(0)).iter().map(KeyStatus::id).collect()
}

#[test]
fn the_old_key_opens_for_the_lag_the_clocks_and_the_longest_idle_time_after_the_new_one_seals() {
    let ring: KeyRing = key(1).parse().unwrap();
    let policy = Policy::default()
        .remember(Limits { absolute_timeout: 20 * DAY, idle_timeout: Some(3 * DAY) })
        .clock_skew(7 * SECOND);
    let rotation = Rotation::new(&policy).activation_delay(HOUR).reload_lag(11 * SECOND);

    let rotated = ring.rotate(&rotation, day(0)).unwrap();

    let keys = rotated.ring().status(day(0));
    let seals = day(0) + HOUR;
    assert_eq!(keys[1].seal_from(), Some(seals));
    let overlap = 11 * SECOND + 2 * 7 * SECOND + SECOND + 3 * DAY;
    assert_eq!(keys[0].open_until(), Some(seals + overlap));
    // The line stays until the last session sealed under the key has ended.
    let last = seals + 11 * SECOND + 15 * SECOND + 20 * DAY;
    let at = |now| rotated.ring().check(&rotation, now);
    let old = keys[0].id();
    let tells = |now| {
        at(now)
            .iter()
            .any(|found| matches!(found, RingFinding::Droppable { key, .. } if *key == old))
    };
    assert!(!tells(last - MILLI));
    assert!(tells(last));
    assert_eq!(ids(rotated.ring().rotate(&rotation, last - MILLI).unwrap().ring()).len(), 3);
    let dropped = rotated.ring().rotate(&rotation, last).unwrap();
    assert!(dropped.changes().contains(&RingChange::Dropped(keys[0].id())));
}

#[test]
fn without_an_idle_limit_the_old_key_opens_for_the_absolute_limit() {
    let rotation = Rotation::new(&Policy::nist_aal1());

    let rotated = key(1).parse::<KeyRing>().unwrap().rotate(&rotation, day(0)).unwrap();

    let overlap = 5 * MINUTE + 2 * MINUTE + SECOND + 30 * DAY;
    assert_eq!(rotated.ring().status(day(0))[0].open_until(), Some(day(1) + overlap));
}

#[test]
fn a_key_that_never_ended_gets_an_end_that_servers_can_follow() {
    let (rotation, now) = (Rotation::default(), day(400));
    let ring = format!("{}\n{} seal_from={}", key(1), key(2), date(day(0)));
    let ring: KeyRing = ring.parse().unwrap();

    let rotated = ring.rotate(&rotation, now).unwrap();

    let [old, ..] = rotated.ring().status(now)[..] else { panic!("no key") };
    assert_eq!(old.state(), KeyState::AcceptOnly);
    assert!(old.open_until().unwrap() >= now + 5 * MINUTE);
    assert_eq!(rotated.ring().rotate(&rotation, now).unwrap().changes(), &[]);
    let later = now + DAY;
    let dropped = rotated.ring().rotate(&rotation, later).unwrap();
    assert!(dropped.changes().contains(&RingChange::Dropped(old.id())));
}

#[test]
fn a_key_that_was_just_revoked_stays_listed_until_servers_know() {
    let (rotation, now) = (Rotation::default(), day(400));
    let ring = format!("{}\n{} seal_from={}", key(1), key(2), date(day(0)));
    let ring: KeyRing = ring.parse().unwrap();
    let leaked = ids(&ring)[0];

    let revoked = ring.revoke_keys(&[leaked], &rotation, now).unwrap();
    assert_eq!(revoked.changes(), &[RingChange::Revoked(leaked)]);
    let rotated = revoked.ring().rotate(&rotation, now + MINUTE).unwrap();
    assert_eq!(keys(rotated.ring(), now)[&leaked].state(), KeyState::Revoked);
    // So does one that somebody revoked with an editor.
    let by_hand = format!("{} revoked\n{} seal_from={}", key(1), key(2), date(day(0)));
    let rotated = by_hand.parse::<KeyRing>().unwrap().rotate(&rotation, now).unwrap();
    assert_eq!(keys(rotated.ring(), now)[&leaked].state(), KeyState::Revoked);
    assert_eq!(rotated.ring().rotate(&rotation, now).unwrap().changes(), &[]);

    let later = rotated.ring().rotate(&rotation, now + HOUR).unwrap();
    assert_eq!(later.changes(), &[RingChange::Dropped(leaked)]);
}

#[test]
fn a_full_ring_still_lets_a_leaked_key_be_revoked() {
    // Thirteen keys, a day after the other: all but the last ones are over, and none may go yet.
    let rotation = Rotation::default();
    let mut ring: KeyRing = key(1).parse().unwrap();
    let mut now = day(0);
    let refused = loop {
        match ring.rotate(&rotation, now) {
            Ok(rotated) => ring = rotated.ring().expose_text().parse().unwrap(),
            Err(error) => break error,
        }
        now += DAY;
    };
    assert_eq!(ids(&ring).len(), 13);
    assert_eq!(refused.kind(), ErrorKind::KeyRing);
    assert!(refused.to_string().ends_with("13 keys, none of which may go yet: rotate less often"));
    let before = keys(&ring, now);
    let leaked = active(&before).unwrap();

    let revoked = ring.revoke_keys(&[leaked], &rotation, now).unwrap();

    assert_follows(&before, &revoked, &rotation, now);
    assert_eq!(keys(revoked.ring(), now)[&leaked].state(), KeyState::Revoked);
    assert!(active(&keys(revoked.ring(), now)).is_some());
    assert_eq!(revoked.ring().revoke_keys(&[leaked], &rotation, now).unwrap().changes(), &[]);
}

#[test]
fn a_rotation_a_month_never_fills_the_ring() {
    let rotation = Rotation::default();
    let mut ring: KeyRing = key(1).parse().unwrap();
    for month in 0..48 {
        ring =
            ring.rotate(&rotation, day(30 * month)).unwrap().ring().expose_text().parse().unwrap();
        assert!(ids(&ring).len() <= 4, "{ring:?}");
    }
}

#[test]
fn without_a_delay_a_rotation_is_done_once_as_well() {
    let rotation = Rotation::default().activation_delay(Duration::ZERO);
    for now in [day(0), day(0) + MILLI] {
        let ring: KeyRing = key(1).parse().unwrap();

        let rotated = ring.rotate(&rotation, now).unwrap();

        assert_eq!(active(&keys(rotated.ring(), now)), Some(ids(&ring)[0]));
        assert_eq!(rotated.ring().rotate(&rotation, now).unwrap().changes(), &[]);
        assert!(active(&keys(rotated.ring(), now + 2 * SECOND)) != Some(ids(&ring)[0]));
    }
}

#[test]
fn a_pending_key_that_is_revoked_is_replaced_and_the_active_one_goes_on() {
    let rotation = Rotation::default();
    let ring = key(1).parse::<KeyRing>().unwrap().rotate(&rotation, day(0)).unwrap();
    let [first, second] = ids(ring.ring())[..] else { panic!("two keys") };

    let revoked = ring.ring().revoke_keys(&[second], &rotation, day(0) + HOUR).unwrap();

    let keys = revoked.ring().status(day(0) + HOUR);
    let states: Vec<_> = keys.iter().map(KeyStatus::state).collect();
    assert_eq!(states, [KeyState::Active, KeyState::Revoked, KeyState::Pending]);
    assert_eq!(keys[2].seal_from(), Some(day(1) + HOUR));
    assert_eq!(keys[0].open_until(), Some(day(8) + HOUR + 7 * MINUTE + SECOND));
    assert_eq!(active(&self::keys(revoked.ring(), day(1) + HOUR - MILLI)), Some(first));
}

#[test]
fn a_clock_before_the_first_key_is_refused() {
    let ring: KeyRing = format!("{} seal_from={}", key(1), date(day(0))).parse().unwrap();
    let rotation = Rotation::default();
    let id = ids(&ring);

    let refuse = |result: Result<Rotated, Error>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyRing);
        assert!(error.to_string().contains("no key seals yet"), "{error}");
    };
    for now in [SystemTime::UNIX_EPOCH, day(0) - MILLI] {
        refuse(ring.rotate(&rotation, now));
        refuse(ring.revoke_keys(&id, &rotation, now));
    }
    ring.rotate(&rotation, day(0)).unwrap();
}

#[test]
fn dates_at_the_end_of_time_are_no_reason_for_change_after_change() {
    let end = "9999-12-31T23:59:59Z";
    let ring: KeyRing = format!("{}\n{} seal_from={end}", key(1), key(2)).parse().unwrap();
    let rotation = Rotation::default();

    let rotated = ring.rotate(&rotation, day(0)).unwrap();

    assert_eq!(
        text_of(rotated.ring()).lines().next().unwrap(),
        format!("{} open_until={end}", key(1))
    );
    assert_eq!(rotated.ring().rotate(&rotation, day(0)).unwrap().changes(), &[]);
    let distant = Rotation::default().activation_delay(Duration::MAX);
    let rotated = key(1).parse::<KeyRing>().unwrap().rotate(&distant, day(0)).unwrap();
    assert_eq!(rotated.ring().rotate(&distant, day(0)).unwrap().changes(), &[]);
}

#[test]
fn an_id_that_is_not_in_the_ring_is_refused_by_name() {
    let (ring, other): (KeyRing, KeyRing) = (key(1).parse().unwrap(), key(2).parse().unwrap());
    let (here, there) = (ids(&ring)[0], ids(&other)[0]);

    let error = ring.revoke_keys(&[here, there], &Rotation::default(), day(0)).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::KeyRing);
    assert!(error.to_string().ends_with(&format!("it holds no key {there}, only {here}")));
}

/// A ring of so many keys, added this long after each other, and when it was done.
fn ring_of(count: usize, apart: Duration) -> (KeyRing, Rotation, SystemTime) {
    let rotation = Rotation::default().activation_delay(SECOND);
    let (mut ring, mut now) = (key(1).parse::<KeyRing>().unwrap(), day(0));
    while ids(&ring).len() < count {
        ring = text_of(ring.rotate(&rotation, now).unwrap().ring()).parse().unwrap();
        now += apart;
    }
    (ring, rotation, now)
}

#[test]
fn a_rotation_leaves_room_to_revoke_every_key_of_the_ring() {
    for apart in [MINUTE, DAY] {
        let (ring, rotation, now) = ring_of(13, apart);
        assert_eq!(ring.rotate(&rotation, now).unwrap_err().kind(), ErrorKind::KeyRing);
        let all = ids(&ring);
        let sealing = active(&keys(&ring, now)).unwrap();

        for leaked in [&all[..], &[sealing]] {
            let revoked = ring.revoke_keys(leaked, &rotation, now).unwrap();

            let after = keys(revoked.ring(), now);
            assert!(active(&after).is_some_and(|id| !all.contains(&id)));
            let opens = |id| after.get(id).is_some_and(|key| key.state() != KeyState::Revoked);
            assert!(!leaked.iter().any(opens));
        }
    }
}

#[test]
fn all_keys_but_one_can_be_revoked_whichever_is_spared() {
    for apart in [MINUTE, 12 * HOUR, DAY] {
        let (ring, rotation, now) = ring_of(12, apart);
        let rotation = rotation.activation_delay(DAY);
        let ring: KeyRing = text_of(ring.rotate(&rotation, now).unwrap().ring()).parse().unwrap();
        for spared in ids(&ring) {
            let leaked: Vec<_> = ids(&ring).into_iter().filter(|id| *id != spared).collect();

            let revoked = ring.revoke_keys(&leaked, &rotation, now).unwrap();

            assert!(active(&keys(revoked.ring(), now)).is_some());
        }
    }
}

#[test]
fn the_room_that_a_leak_took_is_not_filled_by_rotations() {
    let (ring, rotation, now) = ring_of(13, MINUTE);
    let mut ring = text_of(ring.revoke_keys(&ids(&ring), &rotation, now).unwrap().ring());
    for day in 0..60 {
        let now = now + day * DAY;
        let old: KeyRing = ring.parse().unwrap();
        let Ok(rotated) = old.rotate(&rotation, now) else { continue };
        let added = |change: &RingChange| matches!(change, RingChange::Added(_));
        if rotated.changes().iter().any(added) {
            assert!(ids(rotated.ring()).len() <= 13, "on day {day}");
        }
        ring = text_of(rotated.ring());
    }
}
