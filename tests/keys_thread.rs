//! The thread that follows a key source: it ends with the last handle and survives what panics.
//! In a process of its own, since it counts threads.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/rings.rs"]
mod rings;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rings::{Desk, key};
use sealed_session::{Error, Event, KeyRing, KeySource, SessionManager, Zeroizing};

fn followers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks.filter_map(|task| name(task.unwrap())).filter(|name| name == "session-keys\n").count()
}

fn until(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Panics at every third load, and at every third one after it.
struct Panicking {
    loads: Arc<AtomicUsize>,
    text: String,
}

impl KeySource for Panicking {
    fn load(&self) -> Result<Zeroizing<String>, Error> {
        // The first one is the start's.
        let number = self.loads.fetch_add(1, Ordering::SeqCst);
        assert_ne!(number % 3, 1, "the source's own");
        Ok(Zeroizing::new(self.text.clone()))
    }

    fn warning(&self) -> Option<String> {
        assert_ne!(self.loads.load(Ordering::SeqCst) % 3, 0, "the warning's own");
        None
    }
}

#[test]
fn the_thread_outlives_panics_and_ends_with_the_last_handle() {
    let second = Duration::from_secs(1);
    let loads = Arc::new(AtomicUsize::new(0));
    let panicking = Panicking { loads: Arc::clone(&loads), text: key() };
    let keys = KeyRing::watch_every(panicking, second).unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let events = Arc::clone(&heard);
    let observer = move |_: &Event<'_>| {
        let first = events.fetch_add(1, Ordering::SeqCst) == 0;
        assert!(first, "the observer's own");
    };
    let builder = SessionManager::builder("shop", keys.clone()).observer(observer);
    let sessions = builder.build().unwrap();
    let a_day = Duration::from_secs(86_400);
    let quiet = KeyRing::watch_every(Desk::new(&key()), a_day).unwrap();
    until(|| followers() == 2);

    until(|| loads.load(Ordering::SeqCst) >= 5 && heard.load(Ordering::SeqCst) >= 3);

    assert_eq!(followers(), 2);
    drop(keys);
    assert_eq!(followers(), 2, "the manager follows on");
    drop(sessions);
    until(|| followers() == 1);
    let copy = quiet.clone();
    drop(quiet);
    copy.reload_now().unwrap();
    assert_eq!(followers(), 1);
    drop(copy);
    until(|| followers() == 0);
}
