//! What `MetricsObserver` counts.

#![cfg(feature = "metrics")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::float_cmp,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;
#[path = "common/fleet.rs"]
mod fleet;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use common::{Browser, HOUR, MINUTE, open};
use fleet::{Fleet, key};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use sealed_session::{
    Error, KeyRing, KeyState, Map, MetricsObserver, Session, SessionManager, SignIn, Target,
    Zeroizing,
};

/// Every metric that `work` leaves behind, as `name{label=value,…}`.
fn metrics_of(work: impl FnOnce()) -> BTreeMap<String, f64> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, work);
    let number = |value: DebugValue| match value {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        DebugValue::Counter(count) => count as f64,
        DebugValue::Gauge(value) => value.into_inner(),
        DebugValue::Histogram(_) => f64::NAN,
    };
    let of = |(key, _, _, value): (metrics_util::CompositeKey, _, _, _)| {
        let key = key.key();
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = key.name().strip_prefix("sealed_session_").unwrap();
        (format!("{name}{{{}}}", labels.join(",")), number(value))
    };
    snapshotter.snapshot().into_vec().into_iter().map(of).collect()
}

fn id_of(line: &str) -> String {
    line.parse::<KeyRing>().unwrap().status(SystemTime::now())[0].id().to_string()
}

#[test]
fn opened_is_counted_by_key_so_that_an_old_key_is_seen_to_be_needed_by_nobody() {
    let fleet = Fleet::new();
    let (old, new) = (key(), key());
    let [before, after] = [old.clone(), format!("{old}\n{new} seal_from=2020-01-01T00:00:00Z")];

    let metrics = metrics_of(|| {
        let build =
            |ring: &str| fleet.builder(ring).observer(MetricsObserver::new()).build().unwrap();
        let first = build(&before);
        let mut browser = Browser { cookie: Some(first.cookie_for::<Map>("alice").unwrap()) };
        let second = build(&after);
        for _ in 0..3 {
            browser.request(&second, |session: &Session<Map>| drop(session.data()));
        }
    });

    assert_eq!(metrics[&format!("opened_total{{key={}}}", id_of(&old))], 1.0);
    assert_eq!(metrics[&format!("opened_total{{key={}}}", id_of(&new))], 2.0);
    assert_eq!(metrics["resealed_total{}"], 1.0);
    assert_eq!(metrics["issued_total{kind=browser}"], 1.0);
}

#[test]
fn a_ring_shows_its_fingerprint_and_what_each_key_does_until_when() {
    let [old, new] = [key(), key()];
    let text = Arc::new(Mutex::new(old.clone()));
    let source = Arc::clone(&text);
    let load = move || Ok::<_, Error>(Zeroizing::new(source.lock().unwrap().clone()));
    let mut prints = Vec::new();

    let metrics = metrics_of(|| {
        let keys = KeyRing::watch(load).unwrap();
        let sessions = SessionManager::builder("shop", keys.clone())
            .observer(MetricsObserver::new())
            .build()
            .unwrap();
        prints.push(keys.ring().fingerprint());
        *text.lock().unwrap() =
            format!("{old} open_until=2100-01-01T00:00:00Z\n{new} seal_from=2020-01-01T00:00:00Z");
        keys.reload_now().unwrap();
        prints.push(keys.ring().fingerprint());
        *text.lock().unwrap() = "no ring".to_owned();
        keys.reload_now().unwrap_err();
        drop(sessions);
    });

    let state = |key: &str, state: KeyState| {
        metrics.get(&format!("key_state{{key={},state={state}}}", id_of(key))).copied()
    };
    let until = |key: &str| metrics[&format!("key_open_until_seconds{{key={}}}", id_of(key))];
    assert_eq!(metrics[&format!("key_ring{{fingerprint={}}}", prints[0])], 0.0);
    assert_eq!(metrics[&format!("key_ring{{fingerprint={}}}", prints[1])], 1.0);
    assert_eq!(state(&old, KeyState::Active), Some(0.0));
    assert_eq!(state(&old, KeyState::AcceptOnly), Some(1.0));
    assert_eq!(state(&new, KeyState::Active), Some(1.0));
    assert_eq!(until(&old), 4_102_444_800.0);
    assert_eq!(until(&new), f64::INFINITY);
    assert_eq!(metrics["key_ring_failures_total{}"], 1.0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 600.0..=now).contains(&metrics["key_ring_read_seconds{}"]));
}

#[test]
fn everything_else_is_counted_under_its_name() {
    let fleet = Fleet::new();
    let ring = key();

    let metrics = metrics_of(|| {
        let builder = fleet.builder(&ring).observer(MetricsObserver::new());
        let sessions = builder.build().unwrap();
        let mut alice = Browser {
            cookie: Some(sessions.cookie_for::<Map>(SignIn::new("a").remember()).unwrap()),
        };
        let stranger =
            Browser { cookie: Fleet::new().instance(&key()).cookie_for::<Map>("b").ok() };
        stranger.clone().request(&sessions, |session: &Session<Map>| {
            session.insert("cart", 7).unwrap();
        });
        alice.request(&sessions, |session: &Session<Map>| {
            session.insert("text", "x".repeat(4096)).unwrap_err();
            session.renew().unwrap();
        });
        let late = open(&sessions, &alice);
        drop(late.close().unwrap());
        late.insert("late", 1).unwrap_err();
        Browser::default().request(&sessions, |session: &Session<Map>| {
            session.insert("cart", 7).unwrap();
        });
        sessions.revoke(Target::subject("a")).unwrap();
        drop(open(&sessions, &alice));
        fleet.clock.advance(HOUR + MINUTE);
    });

    let counted = |name: &str| metrics.get(name).copied().unwrap_or_default();
    for name in [
        "issued_total{kind=remember}",
        "issued_total{kind=anonymous}",
        "rejected_total{kind=KeyUnknown}",
        "rejected_total{kind=Revoked}",
        "revoked_total{scope=subject}",
        "withheld_total{}",
        "renewed_total{}",
        "too_large_total{}",
        "closed_late_total{}",
        "key_unknown_total{}",
    ] {
        assert_eq!(counted(name), 1.0, "{name}: {metrics:?}");
    }
}
