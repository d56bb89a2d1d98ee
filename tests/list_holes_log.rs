//! Holes that a shared list once had towards its log: whom it believed, what piled up, what ended its
//! threads or kept them from ending, and how often it asked.
// Slow, and the same whatever else is built: with the default features, and with all of them.
#![cfg(feature = "ring")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;
#[path = "common/hooked_log.rs"]
mod hooked_log;

use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{DAY, MINUTE, SECOND};
use hooked_log::{
    HookedLog, Switch, aged, away, builder, days, eventually, list, manager, settled,
};
use sealed_session::revocation::{MemoryLog, RevocationLog as _, WhenMissing};
use sealed_session::{
    ErrorKind, KeyRing, Keys, Map, Receipt, RevocationList, Session, SignIn, Target,
};

fn keys() -> Keys {
    KeyRing::for_tests().unwrap().into()
}

fn poll(receipt: &mut Receipt, waker: &Waker) -> Poll<Result<(), sealed_session::Error>> {
    Pin::new(receipt).poll(&mut Context::from_waker(waker))
}

/// When things happened.
#[derive(Clone, Debug, Default)]
struct Instants(Arc<Mutex<Vec<Instant>>>);

impl Instants {
    fn note(&self) {
        self.0.lock().unwrap().push(Instant::now());
    }

    /// How long it took from the first until so many had happened.
    fn took(&self, count: usize) -> Duration {
        eventually("they happen", || self.0.lock().unwrap().len() >= count);
        let instants = self.0.lock().unwrap();
        instants.get(count.saturating_sub(1)).unwrap().duration_since(*instants.first().unwrap())
    }
}

// Whom to believe.

#[test]
fn a_log_is_asked_twice_within_the_time_in_which_its_loss_has_to_be_noticed() {
    for (of_log, of_list) in [(2, None), (60, Some(2)), (0, Some(2))] {
        let longest: Arc<Mutex<Duration>> = Arc::default();
        let waits = Arc::clone(&longest);
        let log = HookedLog::to(&MemoryLog::new().unwrap())
            .on_settle(move || Duration::from_secs(of_log))
            .on_read(move |log, after, wait| {
                let mut longest = waits.lock().unwrap();
                *longest = wait.max(*longest);
                drop(longest);
                log.read(after, wait.min(Duration::from_millis(50)))
            });
        let builder = RevocationList::builder(log)
            .when_missing(WhenMissing::StartEmpty)
            .max_staleness(10 * MINUTE);
        let list = match of_list {
            Some(settle) => builder.settle(Duration::from_secs(settle)).build().unwrap(),
            None => builder.build().unwrap(),
        };
        eventually("believed", || list.is_fresh());

        eventually("asked", || !longest.lock().unwrap().is_zero());
        eventually("asked for as long as ever", || *longest.lock().unwrap() >= SECOND);
        assert_eq!(*longest.lock().unwrap(), SECOND, "{of_log} s, {of_list:?}");
    }
}

#[test]
fn a_server_that_was_just_started_is_believed_by_those_who_know_and_by_others_later() {
    let log = MemoryLog::new().unwrap();
    drop(settled(log.clone()));
    let [restarted, up] = [Switch::default(), Switch::default()];
    let started = restarted.clone();
    let server = HookedLog::to(&log).on_settle(|| MINUTE).on_read(move |log, after, wait| {
        let up = if started.is_on() { Duration::ZERO } else { DAY };
        Ok(aged(&log.read(after, wait)?, DAY, up))
    });
    let (survivor, unread) = (server.clone(), server.clone());
    let follows = up.clone();
    let latecomer = HookedLog::to(&log).on_settle(|| MINUTE).on_read(move |_, after, wait| {
        if follows.is_on() { unread.read(after, wait) } else { Err(away()) }
    });
    let build = |log: HookedLog| {
        RevocationList::builder(log)
            .max_staleness(SECOND)
            .when_missing(WhenMissing::Refuse)
            .build()
            .unwrap()
    };
    let survivor = build(survivor);
    eventually("it knows", || survivor.is_fresh());
    let newcomer = build(latecomer);

    restarted.set(true);
    up.set(true);

    eventually("read", || newcomer.status().reconciles > 0);
    let error = newcomer.catch_up().wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(!newcomer.is_fresh(), "it may be an older state: settle has not passed");
    eventually("the survivor follows", || survivor.catch_up().wait().is_ok());
    restarted.set(false);
    eventually("believed", || newcomer.is_fresh());
}

// What is compared and found to be there.

#[test]
fn two_comparisons_in_a_row_give_nothing_back() {
    let (log, keys, fails) = (MemoryLog::new().unwrap(), keys(), Switch::default());
    let list = settled(HookedLog::to(&log).failing_once(&fails));
    let elsewhere = settled(log.clone());
    // Each knows of other lives at first, and both revoke for the same subjects and tags.
    let managers = [(&list, 30), (&elsewhere, 31)]
        .map(|(list, n)| builder(&keys, list).policy(days(n)).build().unwrap());
    let mut receipts = Vec::new();
    for (n, sessions) in managers.iter().cycle().take(60).enumerate() {
        let (subject, tag) = (format!("subject {}", n % 5), format!("tag {}", n % 3));
        let bearer = sessions.bearer::<Map>();
        let id = bearer.open(&bearer.issue("alice").unwrap()).unwrap().id();
        for target in [
            Target::subject(&subject),
            Target::subject(&subject).except(id),
            Target::tag(&tag),
            Target::session(id),
        ] {
            receipts.push(sessions.revoke(target).unwrap());
        }
        let cookie = sessions.cookie_for::<Map>(SignIn::new(&*subject)).unwrap();
        let session: Session = sessions.open([&cookie]).unwrap();
        receipts.push(session.renew().unwrap());
        receipts.push(session.sign_out_others().unwrap());
    }
    for receipt in receipts {
        receipt.wait().unwrap();
    }
    assert!(log.read(None, Duration::ZERO).unwrap().facts().len() > 300);

    let given_back = [(); 3].map(|()| {
        let before = list.status().reconciles;
        fails.set(true);
        eventually("compared", || list.status().reconciles > before);
        eventually("written", || list.status().unsaved == 0 && list.catch_up().wait().is_ok());
        list.status().given_back
    });

    // What was revoked before the longer life was known may have to be kept for longer, once.
    let [first, second, third] = given_back;
    assert_eq!((second, third), (first, first));
}

// What piles up while a log cannot be written.

#[test]
fn what_cannot_be_given_back_is_queued_once() {
    let [down, fails] = [Switch::default(), Switch::default()];
    let log = HookedLog::to(&MemoryLog::new().unwrap()).unwritten_while(&down);
    let list = settled(log.failing_once(&fails));
    let sessions = manager(&keys(), &list);
    eventually("announced", || list.status().unsaved == 0);
    down.set(true);
    for n in 0..100 {
        sessions.revoke(Target::subject(&format!("user {n}"))).unwrap();
    }

    for _ in 0..6 {
        let before = list.status().reconciles;
        fails.set(true);
        eventually("compared", || list.status().reconciles > before);
    }

    // Each may wait once more: given back, it is kept a little longer than it must.
    let unsaved = list.status().unsaved;
    assert!((100..=300).contains(&unsaved), "{unsaved} wait after 6 comparisons");
    down.set(false);
    eventually("written", || list.status().unsaved == 0);
}

#[test]
fn what_waits_for_a_log_is_bounded_though_it_fills_no_entries() {
    let down = Switch::default();
    let log = HookedLog::to(&MemoryLog::new().unwrap()).unwritten_while(&down);
    let list = RevocationList::builder(log)
        .when_missing(WhenMissing::StartEmpty)
        .max_entries(10)
        .build()
        .unwrap();
    let sessions = manager(&keys(), &list);
    eventually("announced", || list.is_fresh() && list.status().unsaved == 0);
    let cookie = sessions.cookie_for::<Map>("mallory").unwrap();
    let end_others = || {
        let session: Session = sessions.open([&cookie]).unwrap();
        session.sign_out_others()
    };

    down.set(true);
    let mut refused = (0..6_000).filter_map(|_| end_others().err());

    let error = refused.next().unwrap();
    assert_eq!((error.kind(), list.status().unsaved), (ErrorKind::Full, 5_000));
    assert!(refused.all(|error| error.kind() == ErrorKind::Full));
    assert_eq!(list.status().unsaved, 5_000);
    assert!(list.entries() < 10, "it is not the entries that are too many");
    down.set(false);
    eventually("written", || list.status().unsaved == 0);
    end_others().unwrap();
}

// What ends threads, and what keeps them from ending.

#[test]
fn a_receipt_has_an_answer_though_its_list_was_dropped() {
    let down = Switch::default();
    let list = settled(HookedLog::to(&MemoryLog::new().unwrap()).unwritten_while(&down));
    let sessions = manager(&keys(), &list);
    eventually("announced", || list.status().unsaved == 0);
    down.set(true);
    let mut receipt = sessions.revoke(Target::subject("alice")).unwrap();

    drop((sessions, list));

    eventually("an answer", || poll(&mut receipt, Waker::noop()).is_ready());
    assert_eq!(receipt.wait().unwrap_err().kind(), ErrorKind::Backend);
}

#[test]
fn threads_end_though_a_log_says_for_ever_that_there_is_more() {
    let lies = Switch::default();
    let (lying, held) = (lies.clone(), Arc::new(()));
    let alive = Arc::downgrade(&held);
    let log = HookedLog::to(&MemoryLog::new().unwrap()).on_read(move |log, after, wait| {
        let _ = &held;
        let lies = lying.is_on() && after.is_some();
        let wait = if lies { Duration::ZERO } else { wait.min(Duration::from_millis(100)) };
        Ok(log.read(after, wait)?.with_more(lies))
    });
    let list = settled(log);

    lies.set(true);

    assert_eq!(list.catch_up().wait().unwrap_err().kind(), ErrorKind::Backend);
    drop(list);
    eventually("nobody holds the log", || alive.strong_count() == 0);
}

#[test]
fn a_panic_in_settle_does_not_end_the_thread_of_strict_requests() {
    let panics = Switch::default();
    let panicking = panics.clone();
    let log = HookedLog::to(&MemoryLog::new().unwrap()).on_settle(move || {
        let strict = thread::current().name() == Some("revoke-strict");
        assert!(!(strict && panicking.take()), "as planned");
        Duration::ZERO
    });
    let list = settled(log);

    panics.set(true);

    assert_eq!(list.catch_up().wait().unwrap_err().kind(), ErrorKind::Backend);
    eventually("it goes on", || list.catch_up().wait().is_ok());
}

/// A waker of an executor that is gone.
struct Gone;

impl Wake for Gone {
    fn wake(self: Arc<Self>) {
        panic!("as planned");
    }
}

#[test]
fn a_waker_that_panics_does_not_end_the_thread_that_writes() {
    let held = Switch::default();
    let holds = held.clone();
    let log = HookedLog::to(&MemoryLog::new().unwrap()).on_append(move |log, facts| {
        holds.wait_until_off();
        log.append(facts)
    });
    let list = settled(log);
    let sessions = manager(&keys(), &list);
    eventually("announced", || list.status().unsaved == 0);
    held.set(true);
    let mut receipt = sessions.revoke(Target::subject("alice")).unwrap();
    assert!(poll(&mut receipt, &Waker::from(Arc::new(Gone))).is_pending());

    held.set(false);
    eventually("the waker was called", || poll(&mut receipt, Waker::noop()).is_ready());

    sessions.revoke(Target::subject("bob")).unwrap();
    eventually("bob's is written, too", || list.status().unsaved == 0);
}

// How often a log is asked. Pauses may be longer than they must, so only too short ones fail.

#[test]
fn a_log_that_does_not_wait_is_not_asked_without_pause() {
    let reads = Instants::default();
    let read = reads.clone();
    let log = HookedLog::to(&MemoryLog::new().unwrap()).on_read(move |log, after, _| {
        if after.is_some() {
            read.note();
        }
        log.read(after, Duration::ZERO)
    });

    let _list = list(log);

    let took = reads.took(51);
    assert!(took >= SECOND / 4, "50 readings in {took:?}");
}

#[test]
fn a_log_whose_waiting_reads_fail_is_read_whole_less_and_less_often() {
    let readings = Instants::default();
    let read = readings.clone();
    let log = HookedLog::to(&MemoryLog::new().unwrap()).on_read(move |log, after, wait| {
        if after.is_none() {
            read.note();
        }
        if wait.is_zero() { log.read(after, wait) } else { Err(away()) }
    });

    let _list = list(log);

    // 20, 40, 80, 160, 320 ms, and a tenth less by chance.
    let took = readings.took(6);
    assert!(took >= SECOND / 2, "six readings in {took:?}");
}
