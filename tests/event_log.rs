//! What `TracingObserver` writes, and what it never writes.

#![cfg(feature = "tracing")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod common;
#[path = "common/fleet.rs"]
mod fleet;
#[path = "common/paper.rs"]
mod paper;

use common::{Browser, MINUTE, open};
use fleet::{Fleet, key};
use paper::Paper;
use sealed_session::{ErrorKind, Map, RevocationList, Session, SignIn, Target, TracingObserver};
use tracing::Level;

/// All that happens here, written to paper, and what must not stand on it.
fn a_day_in_the_shop() -> (Vec<String>, Vec<String>) {
    let paper = Paper::default();
    let mut secrets = ["s3cret-payload", "alice@example.org", "phone-tag", "flash-text"]
        .map(str::to_owned)
        .to_vec();
    tracing::subscriber::with_default(paper.clone(), || {
        let fleet = Fleet::new();
        let (old, new) = (key(), key());
        let list = RevocationList::in_process().max_entries(2);
        let rotated = format!("{old}\n{new} seal_from=2020-01-01T00:00:00Z");
        let [first, sessions] = [&old, &rotated].map(|ring| {
            let builder = fleet.builder(ring).revocations(list.clone());
            builder.observer(TracingObserver::default()).build().unwrap()
        });
        let sign_in = || {
            SignIn::new("alice@example.org")
                .tag("phone-tag")
                .data(Map::from_iter([("k".to_owned(), "s3cret-payload".into())]))
        };
        let mut browser = Browser { cookie: Some(first.cookie_for(sign_in()).unwrap()) };
        let elder = browser.clone();
        let mut visit = |handler: &dyn Fn(&Session<Map>)| {
            secrets.extend(browser.cookie.clone());
            browser.request(&sessions, |s| {
                handler(s);
                secrets.extend(s.id().map(|id| id.to_string()));
            });
        };
        visit(&|s| drop(s.data()));
        fleet.clock.advance(10 * MINUTE);
        visit(&|s| drop(s.data()));
        visit(&|s| drop(s.csrf_token().unwrap()));
        visit(&|s| s.flash("info", "flash-text").unwrap());
        visit(&|s| drop(s.insert("k", "s3cret-payload".repeat(400)).unwrap_err()));
        visit(&|s| drop(s.renew().unwrap()));
        drop(open(&sessions, &elder));
        let newer = Browser { cookie: fleet.instance(&key()).cookie_for::<Map>("bob").ok() };
        open(&sessions, &newer).sign_out().unwrap();
        let two = format!("{}; {}", browser.cookie.clone().unwrap(), {
            sessions.cookie_for(sign_in()).unwrap()
        });
        let session = open(&sessions, &Browser { cookie: Some(two) });
        assert!(session.close().unwrap().into_iter().next().is_none());
        session.insert("k", "s3cret-payload").unwrap_err();
        sessions.revoke(Target::subject("alice@example.org")).unwrap();
        sessions.revoke(Target::tag("phone-tag")).unwrap_err();
        let token = sessions.bearer::<Map>().issue(sign_in()).unwrap();
        drop(sessions.bearer::<Map>().open(&token).unwrap());
        secrets.extend([old, new, token]);
    });
    let lines = paper.lines.lock().unwrap().clone();
    (lines, secrets)
}

#[test]
fn no_token_key_payload_subject_or_whole_id_is_written_to_tracing() {
    let (lines, secrets) = a_day_in_the_shop();

    let said = ["opened", "signed in", "refreshed", "resealed", "rejected", "withheld", "revoked"];
    let more = ["renewed", "outdated", "two sessions", "too large", "after the response", "full"];
    for word in said.iter().chain(&more) {
        assert!(lines.iter().any(|line| line.contains(word)), "{word}: {lines:#?}");
    }
    assert!(secrets.len() > 15);
    for secret in secrets {
        // Cookies and keys in part, too.
        let value = secret.split(' ').next().unwrap().trim_start_matches("__Host-Http-id=");
        let value = value.trim_start_matches("sealsess_k1_");
        let start = &value[..value.len().min(12)];
        assert!(lines.iter().all(|line| !line.contains(start)), "{start}: {lines:#?}");
    }
    assert!(lines.iter().all(|line| line.split(' ').nth(1) == Some("sealed_session")));
}

#[test]
fn trouble_is_warned_of_and_everyday_is_not() {
    let (lines, _) = a_day_in_the_shop();
    let levels = |word: &str| -> Vec<&str> {
        let lines = lines.iter().filter(|line| line.contains(word));
        lines.map(|line| line.split(' ').next().unwrap()).collect()
    };
    let (debug, info, warn) = (Level::DEBUG, Level::INFO, Level::WARN);
    let table = [
        (debug, vec!["opened", "refreshed", "resealed"]),
        (info, vec!["signed in", "message=revoked", "renewed"]),
        (warn, vec!["outdated", "withheld", "two sessions", "too large", "list full"]),
    ];
    for (level, words) in table {
        for word in words {
            let found = levels(word);
            assert!(!found.is_empty(), "{word}");
            assert!(found.iter().all(|found| *found == level.as_str()), "{word}: {found:?}");
        }
    }
}

#[test]
fn an_error_is_written_by_its_message() {
    let paper = Paper::default();
    tracing::subscriber::with_default(paper.clone(), || {
        let observer = TracingObserver::default();
        let sessions = common::builder().0.observer(observer).build().unwrap();
        let session = open(&sessions, &Browser::default());
        let error =
            session.update(|map| map.insert("text".into(), "x".repeat(4096).into())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    });
    let lines = paper.lines.lock().unwrap().clone();

    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("key ring loaded"));
    assert!(lines[1].contains("the limit is 4096"));
}
