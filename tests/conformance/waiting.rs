//! Logs that wait wrongly.

use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use sealed_session::revocation::conformance::Suite;
use sealed_session::revocation::{Cursor, MemoryLog, Revocation, RevocationLog as _};

use crate::wrong::{Wrong, moved, place, refused};

#[test]
fn a_log_that_never_waits_is_refused() {
    let log = Wrong::default().read(|log, after, _| log.read(after, Duration::ZERO));
    refused("a read with nothing new waits, then gives an empty page", log.suite());
}

#[test]
fn a_log_that_waits_for_too_long_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let page = log.read(after, wait)?;
        if wait > Duration::from_millis(300) {
            thread::sleep(Duration::from_millis(2500));
        }
        Ok(page)
    });
    refused("a read with nothing new waits, then gives an empty page", log.suite());
}

#[test]
fn a_log_that_wakes_for_facts_that_it_has_given_is_refused() {
    // As a notification does that was sent before the facts were read.
    let log = Wrong::default().read(|log, after, wait| {
        let any = !log.read(None, Duration::ZERO)?.facts().is_empty();
        log.read(after, if any { Duration::ZERO } else { wait })
    });
    refused("a read with old facts only waits", log.suite());
}

#[test]
fn a_log_that_gives_its_last_fact_again_and_again_is_refused() {
    // As a cursor does that means "from" and not "after".
    let log = Wrong::default().read(|log, after, wait| {
        let place = after.map_or(0, place);
        if place == 0 {
            return log.read(after, wait);
        }
        log.read(Some(&moved(after.unwrap(), place - 1)), wait)
    });
    refused("a read with old facts only waits", log.suite());
}

#[test]
fn a_log_that_waits_though_it_must_not_is_refused() {
    let log = Wrong::default()
        .read(|log, after, wait| log.read(after, wait.max(Duration::from_millis(400))));
    refused("a read that may not wait returns at once", log.suite());
}

#[test]
fn a_log_that_gives_facts_only_after_its_wait_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let began = Instant::now();
        let page = log.read(after, Duration::ZERO)?;
        if !page.facts().is_empty() || wait.is_zero() {
            return Ok(page);
        }
        thread::sleep(wait.saturating_sub(began.elapsed()));
        log.read(after, Duration::ZERO)
    });
    refused("a waiting read is woken by a fact", log.suite());
}

#[test]
fn a_log_that_waits_even_where_there_are_facts_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        if wait > Duration::from_secs(3) && after.is_some_and(|after| place(after) > 5_000) {
            thread::sleep(wait);
        }
        log.read(after, wait)
    });
    refused("pages add up to the whole", log.suite());
}

#[test]
fn a_log_with_one_connection_for_all_reads_is_refused() {
    let log = MemoryLog::new().unwrap();
    let open = || {
        let connection = Mutex::new(());
        let read = move |log: &MemoryLog, after: Option<&Cursor>, wait| {
            let _mine = connection.lock().unwrap();
            log.read(after, wait)
        };
        Ok(Arc::new(Wrong::of(&log).read(read)))
    };
    refused("a waiting read holds up no other call", Suite::new(open));
}

#[test]
fn a_log_that_cannot_add_while_it_waits_is_refused() {
    let log = MemoryLog::new().unwrap();
    let open = || {
        let connection = Arc::new(RwLock::new(()));
        let other = Arc::clone(&connection);
        let read = move |log: &MemoryLog, after: Option<&Cursor>, wait| {
            let _mine = connection.read().unwrap();
            log.read(after, wait)
        };
        let append = move |log: &MemoryLog, facts: &[Revocation]| {
            let _mine = other.write().unwrap();
            log.append(facts)
        };
        Ok(Arc::new(Wrong::of(&log).read(read).append(append)))
    };
    refused("a waiting read holds up no other call", Suite::new(open));
}
