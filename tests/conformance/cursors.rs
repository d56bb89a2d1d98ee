//! Logs whose cursors and pages are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sealed_session::revocation::conformance::Suite;
use sealed_session::revocation::{Cursor, MemoryLog, RevocationLog as _};

use crate::wrong::{Wrong, moved, place, refused, some_fact, without_facts};

#[test]
fn a_log_whose_cursors_belong_to_one_handle_is_refused() {
    // As a subscription on the server's side does: the handle's place counts.
    let log = MemoryLog::new().unwrap();
    let open = || {
        let own = AtomicUsize::new(usize::MAX);
        let read = move |log: &MemoryLog, after: Option<&Cursor>, wait: Duration| {
            let page = match after {
                // A handle that has no place yet begins at the end.
                Some(after) if own.load(Ordering::SeqCst) == usize::MAX => {
                    let end = log.read(Some(after), Duration::ZERO)?;
                    log.read(Some(end.cursor()), wait)?
                }
                after => log.read(after, wait)?,
            };
            own.store(place(page.cursor()), Ordering::SeqCst);
            Ok(page)
        };
        Ok(Arc::new(Wrong::of(&log).read(read)))
    };
    refused("a cursor works on every handle", Suite::new(open));
}

#[test]
fn a_log_that_gives_facts_only_once_is_refused() {
    // As a queue does, where reading acknowledges.
    let log = MemoryLog::new().unwrap();
    let open = || {
        let given = AtomicUsize::new(0);
        let read = move |log: &MemoryLog, after: Option<&Cursor>, wait: Duration| {
            let from =
                after.map(|after| moved(after, place(after).max(given.load(Ordering::SeqCst))));
            let page = log.read(from.as_ref(), wait)?;
            // Reads that run beside another do not count, as that is another rule's matter.
            if wait.is_zero() {
                given.fetch_max(place(page.cursor()), Ordering::SeqCst);
            }
            Ok(page)
        };
        Ok(Arc::new(Wrong::of(&log).read(read)))
    };
    refused("a cursor can be used again", Suite::new(open));
}

#[test]
fn a_log_that_never_says_that_there_is_more_is_refused() {
    let log = Wrong::default().read(|log, after, wait| Ok(log.read(after, wait)?.with_more(false)));
    refused("pages add up to the whole", log.suite());
}

#[test]
fn a_log_that_skips_a_fact_between_pages_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let mut page = log.read(after, wait)?;
        if page.has_more() {
            page.set_cursor(moved(page.cursor(), place(page.cursor()) + 1));
        }
        Ok(page)
    });
    refused("pages add up to the whole", log.suite());
}

#[test]
fn a_log_that_forgets_its_oldest_facts_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let page = log.read(after, wait)?;
        if after.is_some() || log.read(Some(page.cursor()), Duration::ZERO)?.facts().is_empty() {
            return Ok(page);
        }
        let mut rest = without_facts(&page);
        page.facts().iter().skip(10).for_each(|fact| rest.push(&fact.to_bytes()));
        Ok(rest)
    });
    refused("a log keeps what was added, and nothing else", log.suite());
}

#[test]
fn a_log_that_makes_facts_up_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let mut page = log.read(after, wait)?;
        if after.is_none() && page.has_more() {
            page.push(&some_fact().to_bytes());
        }
        Ok(page)
    });
    refused("a log keeps what was added, and nothing else", log.suite());
}

#[test]
fn a_log_that_trims_what_old_cursors_need_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let page = log.read(after, wait)?;
        match after {
            // In silence, and only the first ones.
            Some(after) if place(after) < 10 && page.has_more() => {
                log.read(Some(&moved(after, 10)), wait)
            }
            _ => Ok(page),
        }
    });
    refused("an old cursor stays good", log.suite());
}
