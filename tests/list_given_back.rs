//! What is given back to a log, and what comes back from it, is told once and in full.
// Slow, and the same whatever else is built: with the default features, and with all of them.
#![cfg(feature = "ring")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test may panic")]
mod common;
#[path = "common/hooked_log.rs"]
mod hooked_log;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::{DAY, HOUR, SECOND};
use hooked_log::*;
use sealed_session::revocation::{
    Lineage, MemoryLog, Page, Revocation, RevocationLog as _, WhenMissing,
};
use sealed_session::{KeyRing, Keys, Map, RevocationList, Session, SessionManager, SignIn, Target};

fn keys() -> Keys {
    KeyRing::for_tests().unwrap().into()
}
fn breaking(log: &MemoryLog, fails: &Switch) -> HookedLog {
    let breaks = fails.clone();
    HookedLog::to(log).on_read(move |log, after, wait| {
        if after.is_some() && breaks.take() {
            return Err(away());
        }
        log.read(after, wait.min(Duration::from_millis(50)))
    })
}
fn compare(list: &RevocationList, fails: &Switch) {
    let before = list.status().reconciles;
    fails.set(true);
    eventually("compared", || list.status().reconciles > before);
    eventually("read again", || list.catch_up().wait().is_ok());
}

#[test]
fn a_lost_log_fails_no_sign_in_whose_subject_was_not_revoked_meanwhile() {
    let (log, keys) = (MemoryLog::new().unwrap(), keys());
    let list = RevocationList::builder(log.clone()).build().unwrap(); // the default: one fact, everyone
    eventually("fresh", || list.is_fresh() && list.status().unsaved == 0);
    let sessions = manager(&keys, &list);
    eventually("announced", || list.status().unsaved == 0);
    list.catch_up().wait().unwrap();
    let reads = list.status().reconciles;
    let request: Session = sessions.open(None::<&str>).unwrap();
    log.wipe().unwrap();
    eventually("given back", || list.status().reconciles > reads && list.status().unsaved == 0);
    eventually("read again", || list.catch_up().wait().is_ok());
    let facts = log.read(None, Duration::ZERO).unwrap().facts().len();
    assert!(facts >= 2);
    request.sign_in("bob").expect("nobody revoked anything");
}

#[test]
fn a_request_that_ended_all_sessions_can_sign_in_though_a_comparison_came_between() {
    let (log, keys, down, fails) =
        (MemoryLog::new().unwrap(), keys(), Switch::default(), Switch::default());
    let list = settled(breaking(&log, &fails).unwritten_while(&down));
    let sessions = manager(&keys, &list);
    eventually("announced", || list.status().unsaved == 0);
    let cookie = sessions.cookie_for::<Map>("alice").unwrap();
    let request: Session = sessions.open([&cookie]).unwrap();
    down.set(true);
    let _receipt = request.sign_out_everywhere().unwrap();
    compare(&list, &fails);
    down.set(false);
    eventually("written", || list.status().unsaved == 0);
    list.catch_up().wait().unwrap();
    // the follower
    eventually("read", || list.catch_up().wait().is_ok());
    std::thread::sleep(SECOND / 2);
    request.sign_in("alice").expect("it was its own");
}

#[test]
fn what_the_log_has_forgotten_in_time_is_not_given_back() {
    let (log, keys, later) = (MemoryLog::new().unwrap(), keys(), Switch::default());
    let fails = Switch::default();
    let (breaks, aged) = (fails.clone(), later.clone());
    let link = HookedLog::to(&log).on_read(move |log, after, wait| {
        if after.is_some() && breaks.take() {
            return Err(away());
        }
        let page = log.read(after, wait.min(Duration::from_millis(50)))?;
        let last =
            log.read(None, Duration::ZERO)?.facts().iter().filter_map(Revocation::until).max();
        let now = match last {
            Some(last) if aged.is_on() => last + HOUR + SECOND,
            _ => SystemTime::now(),
        };
        let lineage = Lineage::new(page.lineage().id(), now - DAY, now);
        let mut kept = Page::new(lineage, page.cursor().clone());
        for fact in page.facts().iter().filter(|f| f.until().is_none_or(|u| u + HOUR > now)) {
            kept.push(&fact.to_bytes());
        }
        Ok(kept)
    });
    let list = settled(link);
    let sessions = builder(&keys, &list).policy(days(30)).build().unwrap();
    sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    compare(&list, &fails);
    assert_eq!(list.status().given_back, 0);
    later.set(true);
    compare(&list, &fails);
    assert_eq!(list.status().given_back, 0, "it was over an hour ago, and the log deleted it");
}

#[test]
fn a_log_of_another_region_that_cannot_be_written_is_not_written() {
    let (home, other, keys, down) =
        (MemoryLog::new().unwrap(), MemoryLog::new().unwrap(), keys(), Switch::default());
    let there = settled(other.clone());
    let sessions = builder(&keys, &there).policy(days(30)).build().unwrap();
    sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    let fails = Switch::default();
    let replica = breaking(&other, &fails).unwritten_while(&down);
    down.set(true); // a read replica
    let list = RevocationList::builder(home)
        .when_missing(WhenMissing::StartEmpty)
        .also_follow(replica, 30 * SECOND)
        .build()
        .unwrap();
    builder(&keys, &list).policy(days(60)).build().unwrap();
    eventually("fresh", || list.is_fresh());
    let before = list.status().reconciles;
    fails.set(true);
    eventually("compared", || list.status().reconciles > before);
    std::thread::sleep(SECOND);
    assert_eq!(list.status().unsaved, 0, "{:?}", list.status());
}

#[test]
fn a_new_log_of_another_region_is_not_read_whole_over_and_over() {
    let (home, other) = (MemoryLog::new().unwrap(), MemoryLog::new().unwrap());
    let whole = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&whole);
    let link = HookedLog::to(&other).on_read(move |log, after, wait| {
        if after.is_none() {
            counts.fetch_add(1, Ordering::SeqCst);
        }
        log.read(after, wait)
    });
    let facts = Arc::new(Mutex::new(Vec::new()));
    {
        // facts, as another region's instances write them
        let l = MemoryLog::new().unwrap();
        let list = settled(l.clone());
        let m = manager(&keys(), &list);
        for n in 0..40 {
            m.revoke(Target::subject(&format!("u{n}"))).unwrap();
        }
        eventually("w", || list.status().unsaved == 0);
        *facts.lock().unwrap() = l.read(None, Duration::ZERO).unwrap().facts().to_vec();
    }
    let _list = RevocationList::builder(home)
        .when_missing(WhenMissing::StartEmpty)
        .also_follow(link, 30 * SECOND)
        .build()
        .unwrap();
    let first = whole.load(Ordering::SeqCst);
    for fact in facts.lock().unwrap().iter() {
        other.append(&[*fact]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    let n = whole.load(Ordering::SeqCst) - first;
    assert!(n <= 2, "{n} whole readings for 40 facts");
}

#[test]
fn what_cannot_be_given_back_waits_once() {
    let (down, fails) = (Switch::default(), Switch::default());
    let list = settled(breaking(&MemoryLog::new().unwrap(), &fails).unwritten_while(&down));
    let sessions = manager(&keys(), &list);
    eventually("announced", || list.status().unsaved == 0);
    down.set(true);
    for n in 0..100 {
        sessions.revoke(Target::subject(&format!("user {n}"))).unwrap();
    }
    compare(&list, &fails);
    assert_eq!(list.status().unsaved, 100);
}

#[test]
fn what_the_writer_is_at_is_not_given_back_again() {
    let (log, fails, down) = (MemoryLog::new().unwrap(), Switch::default(), Switch::default());
    let d = down.clone();
    let link = breaking(&log, &fails).on_append(move |log, facts| {
        if d.is_on() {
            // as a database that is locked: it says so after a while
            std::thread::sleep(SECOND);
            return Err(away());
        }
        log.append(facts)
    });
    let list = settled(link);
    let sessions = manager(&keys(), &list);
    eventually("announced", || list.status().unsaved == 0);
    let tokens: Vec<_> = (0..100)
        .map(|n| {
            let b = sessions.bearer::<Map>();
            b.open(&b.issue(format!("u{n}")).unwrap()).unwrap().id()
        })
        .collect();
    down.set(true);
    let targets: Vec<_> = tokens.into_iter().map(Target::session).collect();
    sessions.revoke_all(&targets).unwrap();
    for _ in 0..10 {
        compare(&list, &fails);
    }
    assert_eq!(list.status().unsaved, 100);
}

#[test]
fn a_session_issued_in_the_millisecond_of_a_revocation_is_ended() {
    let (log, keys) = (MemoryLog::new().unwrap(), keys());
    let exact = |log: HookedLog| {
        let list = RevocationList::builder(log)
            .clock_skew(Duration::ZERO)
            .when_missing(WhenMissing::StartEmpty)
            .build()
            .unwrap();
        eventually("fresh", || list.is_fresh());
        let policy = sealed_session::Policy::default().clock_skew(Duration::ZERO);
        builder(&keys, &list).policy(policy).build().unwrap()
    };
    let (a, b) = (exact(HookedLog::to(&log)), exact(HookedLog::to(&log)));
    let mut missed = 0;
    for n in 0..300 {
        let subject = format!("u{n}");
        let token = b.bearer::<Map>().issue(subject.as_str()).unwrap();
        a.revoke(Target::subject(&subject)).unwrap();
        missed += usize::from(lives(&a, &token));
    }
    assert_eq!(missed, 0);
}

#[test]
fn two_comparisons_in_a_row_give_nothing_back() {
    let (log, keys, fails) = (MemoryLog::new().unwrap(), keys(), Switch::default());
    let list = settled(breaking(&log, &fails));
    let other = settled(log.clone());
    let shorter = builder(&keys, &list).policy(days(30)).build().unwrap();
    let longer: SessionManager = builder(&keys, &other).policy(days(31)).build().unwrap();
    eventually("announced", || list.status().unsaved == 0 && other.status().unsaved == 0);
    let mut receipts = vec![];
    for n in 0..60 {
        let sessions = if n % 2 == 0 { &shorter } else { &longer };
        let (subject, tag) = (format!("s{}", n % 5), format!("t{}", n % 3));
        let bearer = sessions.bearer::<Map>();
        let id = bearer.open(&bearer.issue("x").unwrap()).unwrap().id();
        receipts.push(sessions.revoke(Target::subject(&subject)).unwrap());
        receipts.push(sessions.revoke(Target::subject(&subject).except(id)).unwrap());
        receipts.push(sessions.revoke(Target::tag(&tag)).unwrap());
        receipts.push(sessions.revoke(Target::session(id)).unwrap());
        let cookie = sessions.cookie_for::<Map>(SignIn::new(subject.as_str())).unwrap();
        let session: Session = sessions.open([&cookie]).unwrap();
        session.renew().unwrap();
        receipts.push(session.sign_out_others().unwrap());
    }
    for receipt in receipts {
        receipt.wait().unwrap();
    }
    let mut counts = vec![];
    for _ in 0..4 {
        compare(&list, &fails);
        eventually("given back", || list.status().unsaved == 0);
        list.catch_up().wait().unwrap();
        counts.push(list.status().given_back);
    }
    assert_eq!(counts[1], counts[3], "it bounces: {counts:?}");
    assert_eq!(counts[0], 0, "spurious: {counts:?}");
}

#[test]
fn a_restart_behind_a_proxy_is_noticed() {
    let (log, keys) = (MemoryLog::new().unwrap(), keys());
    let [restored, given] = [Switch::default(), Switch::default()];
    let (r, g, g2, r2) = (restored.clone(), given.clone(), given.clone(), restored.clone());
    let restart: Arc<Mutex<Option<SystemTime>>> = Arc::default();
    let at = Arc::clone(&restart);
    let link = HookedLog::to(&log)
        .on_settle(|| SECOND)
        .on_append(move |log, facts| {
            if r2.is_on() && facts.iter().any(|f| f.until().is_some()) {
                g2.set(true);
            }
            log.append(facts)
        })
        .on_read(move |log, after, wait| {
            let page = log.read(after, wait)?;
            let now = SystemTime::now();
            let started = at.lock().unwrap().unwrap_or(now - DAY);
            let lineage = Lineage::new(page.lineage().id(), now - DAY, now).started(started);
            let mut out = Page::new(lineage, page.cursor().clone()).with_more(page.has_more());
            let lost = r.is_on() && !g.is_on();
            for f in page.facts().iter().filter(|f| !lost || f.until().is_none()) {
                out.push(&f.to_bytes());
            }
            Ok(out)
        });
    let survivor = settled(link.clone());
    let one = manager(&keys, &survivor);
    let token = issue(&one);
    one.revoke(Target::subject("alice")).unwrap().wait().unwrap();
    survivor.catch_up().wait().unwrap();
    *restart.lock().unwrap() = Some(SystemTime::now());
    restored.set(true);
    let new = list(link);
    eventually("fresh", || new.is_fresh());
    assert!(!lives(&manager(&keys, &new), &token), "a survivor knew, and settle has passed");
}
