//! Logs that are lost and go on wrongly.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sealed_session::Error;
use sealed_session::revocation::conformance::Suite;
use sealed_session::revocation::{Cursor, Lineage, MemoryLog, Revocation, RevocationLog as _};

use crate::wrong::{Wrong, born_and_now, refused, with_lineage};

#[test]
fn a_log_that_keeps_its_lineage_when_it_is_lost_is_refused() {
    let log = Wrong::default();
    let first = log.log.read(None, Duration::ZERO).unwrap().lineage().id();
    let log = log.read(move |log, after, wait| {
        let page = log.read(after, wait)?;
        let (born, now) = born_and_now(&page);
        Ok(with_lineage(&page, Lineage::new(first, born, now)))
    });
    refused("a log that was lost is noticed, and works again", log.suite());
}

#[test]
fn a_log_whose_loss_is_no_loss_is_refused() {
    let log = MemoryLog::new().unwrap();
    let suite = Suite::new(|| Ok(log.clone())).wiped_by(|| Ok(()));
    refused("a log that was lost is noticed, and works again", suite);

    let suite = Suite::new(MemoryLog::new).wiped_by(|| Ok(()));
    refused("all handles see one lineage", suite);

    let log = MemoryLog::new().unwrap();
    let suite = Suite::new(|| Ok(log.clone())).wiped_by(|| Err(Error::backend("no such server")));
    refused("a log that was lost is noticed, and works again", suite);
}

#[test]
fn a_log_whose_handles_stay_broken_after_the_loss_is_refused() {
    let log = MemoryLog::new().unwrap();
    let open = || {
        let first = log.read(None, Duration::ZERO)?.lineage().id();
        let read = move |log: &MemoryLog, after: Option<&Cursor>, wait: Duration| {
            let page = log.read(after, wait)?;
            if page.lineage().id() == first { Ok(page) } else { Err(Error::backend("broken pipe")) }
        };
        Ok(Arc::new(Wrong::of(&log).read(read)))
    };
    let suite = Suite::new(open).wiped_by(|| log.wipe());
    refused("a log that was lost is noticed, and works again", suite);
}

#[test]
fn a_log_whose_handles_cannot_add_after_the_loss_is_refused() {
    let lost = Arc::new(AtomicBool::new(false));
    let log = MemoryLog::new().unwrap();
    let open = || {
        let (lost, born_after) = (Arc::clone(&lost), lost.load(Ordering::SeqCst));
        let append = move |log: &MemoryLog, facts: &[Revocation]| {
            if lost.load(Ordering::SeqCst) && !born_after {
                return Ok(()); // To a table that was there once.
            }
            log.append(facts)
        };
        Ok(Arc::new(Wrong::of(&log).append(append)))
    };
    let suite = Suite::new(open).wiped_by(|| {
        lost.store(true, Ordering::SeqCst);
        log.wipe()
    });
    refused("a log that was lost is noticed, and works again", suite);
}

#[test]
fn a_log_that_hangs_in_the_read_that_waited_through_the_loss_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let before = log.read(None, Duration::ZERO)?.lineage().id();
        let page = log.read(after, wait)?;
        while page.lineage().id() != before {
            thread::park();
        }
        Ok(page)
    });
    refused("a log that was lost is noticed, and works again", log.suite());
}

#[test]
fn a_log_that_writers_make_anew_under_its_old_name_is_refused() {
    // Whoever reads a lost log makes a lineage; who adds to it takes the one that he remembers.
    let log = MemoryLog::new().unwrap();
    let remembered = Arc::new(Mutex::new(None::<[u8; 16]>));
    let losses = AtomicUsize::new(0);
    let shown = Arc::clone(&remembered);
    let read = move |log: &MemoryLog, after: Option<&Cursor>, wait: Duration| {
        let page = log.read(after, wait)?;
        let (born, now) = born_and_now(&page);
        let id = shown.lock().unwrap().unwrap_or(page.lineage().id());
        Ok(with_lineage(&page, Lineage::new(id, born, now)))
    };
    let wrong = Arc::new(Wrong::of(&log).read(read));
    let suite = Suite::new(|| Ok(Arc::clone(&wrong))).wiped_by(|| {
        let old = log.read(None, Duration::ZERO)?.lineage().id();
        if losses.fetch_add(1, Ordering::SeqCst) == 1 {
            *remembered.lock().unwrap() = Some(old);
        }
        log.wipe()
    });
    refused("a log that is made anew by writers is noticed, and loses nothing", suite);
}

#[test]
fn a_log_that_one_writer_makes_anew_over_another_ones_is_refused() {
    let log = MemoryLog::new().unwrap();
    let losses = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&losses);
    let written = AtomicUsize::new(0);
    let append = move |log: &MemoryLog, facts: &[Revocation]| {
        // Who comes second finds no log either, and makes one.
        if count.load(Ordering::SeqCst) == 2 && written.fetch_add(1, Ordering::SeqCst) == 1 {
            log.wipe()?;
        }
        log.append(facts)
    };
    let wrong = Arc::new(Wrong::of(&log).append(append));
    let suite = Suite::new(|| Ok(Arc::clone(&wrong))).wiped_by(|| {
        losses.fetch_add(1, Ordering::SeqCst);
        log.wipe()
    });
    refused("a log that is made anew by writers is noticed, and loses nothing", suite);
}
