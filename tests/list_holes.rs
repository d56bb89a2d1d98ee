//! Holes that a shared list once had: revocations that were lost, kept too short or made too early,
//! and sign-ins that were refused or let through when they should not be.
// Slow, and the same whatever else is built: with the default features, and with all of them.
#![cfg(feature = "ring")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test may panic")]

mod common;
#[path = "common/hooked_log.rs"]
mod hooked_log;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use common::{DAY, HOUR, MILLI, SECOND};
use hooked_log::{
    HookedLog, Switch, aged, away, builder, days, days_sealed, eventually, issue, list, lives,
    manager, settled,
};
use sealed_session::revocation::{
    MemoryLog, Revocation, RevocationListBuilder, RevocationLog as _, WhenMissing,
};
use sealed_session::{
    Error, ErrorKind, Event, KeyRing, Keys, Map, Policy, RevocationList, Session, SessionManager,
    Target,
};

fn keys() -> Keys {
    KeyRing::for_tests().unwrap().into()
}

/// Acknowledged: the log has it durably.
fn revoke(sessions: &SessionManager) {
    sessions.revoke(Target::subject("alice")).unwrap().wait().unwrap();
}

/// An instance that reads the log for the first time, and knows no more than it says.
fn newcomer(log: &MemoryLog, keys: &Keys) -> SessionManager {
    manager(keys, &settled(log.clone()))
}

// What was acknowledged, and then lost with the log.

#[test]
fn what_was_acknowledged_while_a_comparison_began_is_given_back() {
    let (log, keys) = (MemoryLog::new().unwrap(), keys());
    let [fails, compares] = [Switch::default(), Switch::default()];
    let sessions: Arc<Mutex<Option<SessionManager>>> = Arc::default();
    let (breaks, begins, revoker) = (fails.clone(), compares.clone(), Arc::clone(&sessions));
    let link = HookedLog::to(&log).on_read(move |log, after, wait| {
        if after.is_some() && breaks.take() {
            begins.set(true);
            return Err(away());
        }
        if after.is_none() && begins.take() {
            revoke(&revoker.lock().unwrap().take().unwrap());
            log.wipe().unwrap();
        }
        log.read(after, wait.min(Duration::from_millis(100)))
    });
    let list = settled(link);
    let one = manager(&keys, &list);
    let token = issue(&one);
    *sessions.lock().unwrap() = Some(one.clone());

    fails.set(true);
    eventually("it was revoked", || !lives(&one, &token));
    eventually("compared", || list.catch_up().wait().is_ok() && list.status().unsaved == 0);

    assert!(!lives(&newcomer(&log, &keys), &token), "acknowledged, and not in the log");
}

#[test]
fn what_was_acknowledged_before_the_log_was_believed_is_given_back() {
    let (log, keys) = (MemoryLog::new().unwrap(), keys());
    let [up, settled_down] = [Switch::default(), Switch::default()];
    let older = settled_down.clone();
    let link = HookedLog::to(&log)
        .unread_until(&up)
        .on_settle(move || if older.is_on() { Duration::ZERO } else { HOUR });
    let young = RevocationList::builder(link)
        .when_missing(WhenMissing::StartEmpty)
        .max_staleness(SECOND)
        .build()
        .unwrap();
    let sessions = manager(&keys, &young);
    let token = issue(&manager(&keys, &RevocationList::in_process()));
    up.set(true);
    eventually("read", || young.status().reconciles > 0);
    revoke(&sessions);

    log.wipe().unwrap();
    settled_down.set(true);

    eventually("it can answer", || young.is_fresh() && young.status().unsaved == 0);
    assert!(!lives(&sessions, &token));
    assert!(!lives(&newcomer(&log, &keys), &token), "acknowledged, and who knows it is alive");
}

// How long a revocation is kept.

#[test]
fn what_is_revoked_before_the_first_reading_is_kept_for_as_long_as_any_session_may_live() {
    let (log, keys, up) = (MemoryLog::new().unwrap(), keys(), Switch::default());
    let known = settled(log.clone());
    builder(&keys, &known).policy(days(60)).build().unwrap();
    eventually("announced", || known.status().unsaved == 0);
    let unread = list(HookedLog::to(&log).unread_until(&up));
    let sessions = builder(&keys, &unread).policy(days(30)).build().unwrap();

    revoke(&sessions);

    assert!(days_kept(&log) >= 60, "sessions of 60 days are about");
}

#[test]
fn a_revocation_is_kept_longer_once_it_is_known_that_sessions_live_longer() {
    let (log, keys, fails) = (MemoryLog::new().unwrap(), keys(), Switch::default());
    let list = settled(HookedLog::to(&log).failing_once(&fails));
    revoke(&builder(&keys, &list).policy(days(30)).build().unwrap());
    assert!((30..60).contains(&days_kept(&log)));
    let compare = || {
        let before = list.status().reconciles;
        fails.set(true);
        eventually("compared", || list.status().reconciles > before);
        eventually("given back", || list.status().unsaved == 0);
        list.status().given_back
    };
    assert_eq!(compare(), 0, "the log has it");

    builder(&keys, &settled(log.clone())).policy(days(60)).build().unwrap();
    eventually("announced", || log.read(None, Duration::ZERO).unwrap().facts().len() > 3);
    list.catch_up().wait().unwrap();

    assert_eq!(compare(), 1);
    assert!(days_kept(&log) >= 60, "sessions of 60 days are about");
    assert_eq!([compare(), compare()], [1, 1], "it came back and is not given again");
}

#[test]
fn no_longer_life_is_sealed_before_the_log_has_told_of_shorter_ones() {
    let (log, keys, up) = (MemoryLog::new().unwrap(), keys(), Switch::default());
    let known = settled(log.clone());
    builder(&keys, &known).policy(days(30)).build().unwrap();
    eventually("announced", || known.status().unsaved == 0);
    let late = list(HookedLog::to(&log).unread_until(&up));
    let instance: Arc<Mutex<Option<SessionManager>>> = Arc::default();
    let sealed = Arc::new(Mutex::new(None));
    let (seals, notes) = (Arc::clone(&instance), Arc::clone(&sealed));
    let at_once = move |event: &Event<'_>| {
        if matches!(event, Event::ListFresh { .. })
            && let Some(sessions) = seals.lock().unwrap().take()
        {
            *notes.lock().unwrap() = Some(days_sealed(&sessions));
        }
    };
    let sessions = builder(&keys, &late).policy(days(60)).observer(at_once).build().unwrap();
    *instance.lock().unwrap() = Some(sessions);

    up.set(true);

    eventually("a session is sealed", || sealed.lock().unwrap().is_some());
    assert_eq!(*sealed.lock().unwrap(), Some(30));
}

/// The days until the log may forget the last of its facts.
fn days_kept(log: &MemoryLog) -> u64 {
    let page = log.read(None, Duration::ZERO).unwrap();
    let last = page.facts().iter().filter_map(Revocation::until).max().unwrap();
    last.duration_since(SystemTime::now()).unwrap().as_secs() / DAY.as_secs()
}

// Sign-ins that a revocation overtook, and those that none did.

#[test]
fn a_sign_in_that_was_overtaken_before_the_first_reading_is_a_conflict() {
    let (log, keys, up) = (MemoryLog::new().unwrap(), keys(), Switch::default());
    let unread = list(HookedLog::to(&log).unread_until(&up));
    let sessions = manager(&keys, &unread);
    let request: Session = sessions.open(None::<&str>).unwrap();
    revoke(&newcomer(&log, &keys));

    up.set(true);

    eventually("read", || unread.is_fresh());
    assert_eq!(request.sign_in("alice").unwrap_err().kind(), ErrorKind::Conflict);
}

/// An instance whose follower is kept from seeing anything.
struct Slow {
    sessions: SessionManager,
    held: Switch,
    /// How often its follower saw facts.
    seen: Arc<AtomicUsize>,
}

impl Slow {
    fn new(log: &MemoryLog, keys: &Keys) -> Self {
        let (held, seen) = (Switch::default(), Arc::new(AtomicUsize::new(0)));
        let list = settled(HookedLog::to(log).unseen_by_the_follower_while(&held));
        let counts = Arc::clone(&seen);
        let observer = move |event: &Event<'_>| {
            if matches!(event, Event::ListFresh { added: 1.., .. }) {
                counts.fetch_add(1, Ordering::SeqCst);
            }
        };
        let sessions = builder(keys, &list).observer(observer).build().unwrap();
        // What it says at its start is not what a test waits for.
        sessions.revoke(Target::subject("nobody")).unwrap().wait().unwrap();
        eventually("its follower follows", || seen.load(Ordering::SeqCst) > 0);
        held.set(true);
        seen.store(0, Ordering::SeqCst);
        Self { sessions, held, seen }
    }

    fn lets_the_follower_see(&self) {
        self.held.set(false);
        eventually("the follower reads it", || self.seen.load(Ordering::SeqCst) > 0);
    }
}

fn catch_up(sessions: &SessionManager) {
    sessions.revocations().unwrap().catch_up().wait().unwrap();
}

#[test]
fn a_request_that_ended_all_sessions_can_sign_in_though_others_have_read_ahead() {
    let (log, keys) = (MemoryLog::new().unwrap(), keys());
    let slow = Slow::new(&log, &keys);
    let sessions = &slow.sessions;
    let cookie = sessions.cookie_for::<Map>("alice").unwrap();
    let request: Session = sessions.open([&cookie]).unwrap();
    request.sign_out_everywhere().unwrap().wait().unwrap();

    catch_up(sessions);
    slow.lets_the_follower_see();

    request.sign_in("alice").unwrap();
}

#[test]
fn a_fact_that_was_read_ahead_overtakes_those_who_came_before_it_and_no_others() {
    let (log, keys) = (MemoryLog::new().unwrap(), keys());
    let slow = Slow::new(&log, &keys);
    let sessions = &slow.sessions;
    let before: Session = sessions.open(None::<&str>).unwrap();
    revoke(&newcomer(&log, &keys));
    catch_up(sessions);
    let after: Session = sessions.open(None::<&str>).unwrap();
    slow.lets_the_follower_see();

    assert_eq!(before.sign_in("alice").unwrap_err().kind(), ErrorKind::Conflict);
    after.sign_in("alice").unwrap();
}

#[test]
fn after_the_first_start_of_all_visitors_can_sign_in() {
    for skew in [0, 5, 60].map(Duration::from_secs) {
        let list =
            RevocationList::builder(MemoryLog::new().unwrap()).clock_skew(skew).build().unwrap();
        let policy = Policy::default().clock_skew(skew);
        let sessions = builder(&keys(), &list).policy(policy).build().unwrap();

        assert!(list.is_fresh());
        let conflict = |issued: &Result<String, Error>| {
            issued.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict)
        };
        let mut issued = sessions.bearer::<Map>().issue("alice");
        while conflict(&issued) {
            // The first fact is read back just now, and counts as one more.
            issued = sessions.bearer::<Map>().issue("alice");
        }
        assert!(lives(&sessions, &issued.unwrap()), "clock_skew {skew:?}");
    }
}

#[test]
fn the_first_start_on_a_log_that_was_made_earlier_ends_the_sessions_there_are() {
    let (log, keys) = (MemoryLog::new().unwrap(), keys());
    let link =
        HookedLog::to(&log).on_read(|log, after, wait| Ok(aged(&log.read(after, wait)?, DAY, DAY)));
    // Until today the application had a list in its process.
    let before = manager(&keys, &RevocationList::in_process());
    let token = issue(&before);
    revoke(&before);

    let list = RevocationList::builder(link).build().unwrap();

    assert!(list.is_fresh());
    assert!(!lives(&manager(&keys, &list), &token));
}

// Whose clock counts.

#[test]
fn a_slow_answer_that_tells_the_time_makes_no_revocation_miss_a_session() {
    let (log, keys) = (MemoryLog::new().unwrap(), keys());
    let link = HookedLog::to(&log).on_read(|log, after, wait| {
        let page = log.read(after, wait);
        thread::sleep(2 * SECOND);
        page
    });
    let build = |list: RevocationList| {
        eventually("fresh", || list.is_fresh());
        let policy = Policy::default().clock_skew(Duration::ZERO);
        builder(&keys, &list).policy(policy).build().unwrap()
    };
    let exact = |builder: RevocationListBuilder| {
        let builder = builder.clock_skew(Duration::ZERO).when_missing(WhenMissing::StartEmpty);
        build(builder.build().unwrap())
    };
    let slow = exact(RevocationList::builder(link));
    let quick = exact(RevocationList::builder(log.clone()));
    let token = issue(&quick);
    let issued = SystemTime::now();
    // Instants are told in whole milliseconds, here and there.
    eventually("some pass", || issued.elapsed().is_ok_and(|since| since > 10 * MILLI));

    revoke(&slow);

    catch_up(&quick);
    assert!(!lives(&quick, &token), "issued before the revocation, all clocks right");
}

#[test]
fn a_policy_and_a_list_with_different_clock_skews_are_refused() {
    let build = |skew: Duration| {
        let list =
            RevocationList::builder(MemoryLog::new().unwrap()).clock_skew(5 * SECOND).build();
        let policy = Policy::default().clock_skew(skew);
        builder(&keys(), &list.unwrap()).policy(policy).build()
    };

    for skew in [4, 6, 60].map(Duration::from_secs) {
        let error = build(skew).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("clock_skew"), "{error}");
    }
    build(5 * SECOND).unwrap();
    // A list in this process has no clock of its own.
    let policy = Policy::default().clock_skew(7 * SECOND);
    builder(&keys(), &RevocationList::in_process()).policy(policy).build().unwrap();
}
