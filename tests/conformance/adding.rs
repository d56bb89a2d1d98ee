//! Logs that add wrongly.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sealed_session::Error;
use sealed_session::revocation::conformance::Suite;
use sealed_session::revocation::{Cursor, MemoryLog, Page, Revocation, RevocationLog as _};

use crate::wrong::{Wrong, is_over, moved, only, place, refused, without_facts};

#[test]
fn a_log_that_damages_a_byte_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let page = log.read(after, wait)?;
        let mut damaged = without_facts(&page);
        for fact in page.facts() {
            let mut bytes = fact.to_bytes();
            // As a column of text does.
            if let Some(at) = bytes.windows(2).position(|pair| pair == b"\x28\xF5") {
                bytes[at + 1] = b'?';
            }
            damaged.push(&bytes);
        }
        Ok(damaged)
    });
    refused("facts come back byte for byte", log.suite());
}

#[test]
fn a_log_that_forgets_facts_without_until_is_refused() {
    let log =
        Wrong::default().append(|log, facts| log.append(&only(facts, |f| f.until().is_some())));
    refused("facts come back byte for byte", log.suite());
}

#[test]
fn a_log_that_keeps_one_fact_for_an_id_is_refused() {
    let ids = Mutex::new(HashSet::new());
    let log = Wrong::default().append(move |log, facts| {
        let mut ids = ids.lock().unwrap();
        // Not the awkward ones, of which each id has several, too.
        let new = |fact: &Revocation| {
            let bytes = fact.to_bytes();
            bytes[0] != 1 || [0, 0xFF].contains(&bytes[1]) || ids.insert(bytes[..17].to_vec())
        };
        log.append(&only(facts, new))
    });
    refused("facts that differ in any field are all kept", log.suite());
}

#[test]
fn a_log_that_refuses_a_fact_that_it_has_is_refused() {
    let known = Mutex::new(HashSet::<Revocation>::new());
    let log = Wrong::default().append(move |log, facts| {
        let mut known = known.lock().unwrap();
        if facts.iter().any(|fact| known.contains(fact)) {
            return Err(Error::backend("duplicate key"));
        }
        known.extend(facts);
        log.append(facts)
    });
    refused("adding a fact again is no error", log.suite());
}

#[test]
fn a_log_that_drops_a_batch_with_a_fact_that_it_has_is_refused() {
    let known = Mutex::new(HashSet::<Revocation>::new());
    let log = Wrong::default().append(move |log, facts| {
        let mut known = known.lock().unwrap();
        if facts.iter().any(|fact| known.contains(fact)) {
            return Ok(());
        }
        known.extend(facts);
        log.append(facts)
    });
    refused("adding a fact again is no error", log.suite());
}

#[test]
fn a_log_that_refuses_to_add_nothing_is_refused() {
    let log = Wrong::default().append(|log, facts| match facts {
        [] => Err(Error::backend("wrong number of arguments")),
        facts => log.append(facts),
    });
    refused("adding nothing is no error", log.suite());
}

#[test]
fn a_log_that_refuses_a_fact_that_is_over_is_refused() {
    let log = Wrong::default().append(|log, facts| {
        if facts.iter().any(is_over) {
            return Err(Error::backend("invalid expire time"));
        }
        log.append(facts)
    });
    refused("adding a fact that is long over is no error", log.suite());
}

#[test]
fn a_log_that_drops_what_comes_with_a_fact_that_is_over_is_refused() {
    let log = Wrong::default()
        .append(|log, facts| if facts.iter().any(is_over) { Ok(()) } else { log.append(facts) });
    refused("adding a fact that is long over is no error", log.suite());
}

#[test]
fn a_log_that_shows_facts_late_is_refused() {
    // As a replica of a database does.
    let log = Wrong::default().append(|log, facts| {
        let (log, late) = (log.clone(), facts.to_vec());
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            log.append(&late)
        });
        Ok(())
    });
    refused("a read sees what was added before it began", log.suite());
}

#[test]
fn a_log_that_shows_facts_of_other_handles_late_is_refused() {
    // As a handle with a cache does: it has its own, and fetches the others' for the next read.
    let log = MemoryLog::new().unwrap();
    let open = || {
        let known = Arc::new(Mutex::new(HashSet::<Revocation>::new()));
        let own = Arc::clone(&known);
        let append = move |log: &MemoryLog, facts: &[Revocation]| {
            own.lock().unwrap().extend(facts);
            log.append(facts)
        };
        let read = move |log: &MemoryLog, after: Option<&Cursor>, wait: Duration| {
            let page = log.read(after, wait)?;
            let mut known = known.lock().unwrap();
            let before = known.len();
            known.extend(page.facts());
            match after {
                Some(after) if known.len() > before => Ok(Page::new(page.lineage(), after.clone())),
                _ => Ok(page),
            }
        };
        Ok(Arc::new(Wrong::of(&log).append(append).read(read)))
    };
    refused("a read sees what was added before it began", Suite::new(open));
}

#[test]
fn a_log_that_cannot_take_5000_facts_is_refused() {
    let log = Wrong::default().append(|log, facts| match facts.len() {
        ..=1_000 => log.append(facts),
        _ => Err(Error::backend("too many parameters")),
    });
    refused("5,000 facts can be added at a time", log.suite());

    let log = Wrong::default().append(|log, facts| {
        facts.chunks(1_000).skip(1).for_each(|_| thread::sleep(Duration::from_millis(600)));
        log.append(facts)
    });
    refused("5,000 facts can be added at a time", log.suite());
}

#[test]
fn a_log_that_loses_every_100th_fact_is_refused() {
    let count = AtomicUsize::new(0);
    let log = Wrong::default().append(move |log, facts| {
        let kept = |_: &Revocation| count.fetch_add(1, Ordering::SeqCst) % 100 != 99;
        log.append(&only(facts, kept))
    });
    refused("writers who overtake each other leave no hole", log.suite());
}

#[test]
fn a_log_whose_late_writers_fall_behind_the_reader_is_refused() {
    // As a sequence in a database does: numbers are drawn first, and seen when the writer is done.
    let drawn = AtomicUsize::new(0);
    let seen = Arc::new(Mutex::new(Vec::<(usize, Revocation)>::new()));
    let shown = Arc::clone(&seen);
    let append = move |log: &MemoryLog, facts: &[Revocation]| {
        let first = drawn.fetch_add(facts.len(), Ordering::SeqCst);
        if (5..=20).contains(&facts.len()) {
            thread::sleep(Duration::from_millis(5));
        }
        seen.lock().unwrap().extend((first..).zip(facts.iter().copied()));
        // Wakes whoever waits.
        log.append(facts)
    };
    let read = move |log: &MemoryLog, after: Option<&Cursor>, wait: Duration| {
        let from = after.map_or(0, place);
        let rest = || -> Vec<(usize, Revocation)> {
            let shown = shown.lock().unwrap();
            shown.iter().filter(|(number, _)| *number >= from).copied().collect()
        };
        let began = Instant::now();
        while after.is_some() && rest().is_empty() && began.elapsed() < wait {
            thread::sleep(Duration::from_millis(1));
        }
        let rest = rest();
        let end = rest.iter().map(|(number, _)| number + 1).max().unwrap_or(from);
        let start = log.read(None, Duration::ZERO)?;
        let mut page = Page::new(start.lineage(), moved(start.cursor(), end));
        for (_, fact) in &rest {
            page.push(&fact.to_bytes());
        }
        Ok(page)
    };
    let log = Wrong::default().append(append).read(read);
    refused("writers who overtake each other leave no hole", log.suite());
}
