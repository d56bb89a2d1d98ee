//! Logs that are not one, or not what they were.

use std::sync::Arc;
use std::time::Duration;

use sealed_session::revocation::conformance::Suite;
use sealed_session::revocation::{Cursor, Lineage, MemoryLog, RevocationLog as _};

use crate::wrong::{Wrong, born_and_now, place, refused, some_fact, with_lineage};

#[test]
fn a_log_with_a_lineage_for_each_handle_is_refused() {
    let log = MemoryLog::new().unwrap();
    let open = || {
        let id = Lineage::new_id()?;
        let read = move |log: &MemoryLog, after: Option<&Cursor>, wait| {
            let page = log.read(after, wait)?;
            let (born, now) = born_and_now(&page);
            Ok(with_lineage(&page, Lineage::new(id, born, now)))
        };
        Ok(Arc::new(Wrong::of(&log).read(read)))
    };
    refused("all handles see one lineage", Suite::new(open));
}

#[test]
fn a_log_that_is_not_empty_at_first_is_refused() {
    let log = MemoryLog::new().unwrap();
    log.append(&[some_fact()]).unwrap();
    refused("an empty log gives empty pages", Suite::new(|| Ok(log.clone())));
}

#[test]
fn a_log_that_always_has_more_is_refused() {
    let log = Wrong::default().read(|log, after, wait| Ok(log.read(after, wait)?.with_more(true)));
    refused("an empty log gives empty pages", log.suite());
}

#[test]
fn a_log_that_has_more_as_soon_as_it_has_facts_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let page = log.read(after, wait)?;
        let more = !page.facts().is_empty() || after.is_some_and(|after| place(after) > 0);
        Ok(page.with_more(more))
    });
    refused("a read sees what was added before it began", log.suite());
}

#[test]
fn a_log_whose_age_stands_still_is_refused() {
    aged(|_| Duration::from_secs(100));
}

#[test]
fn a_log_whose_age_counts_in_other_units_is_refused() {
    aged(|age| age / 1000);
    aged(|age| age * 1000);
}

#[test]
fn a_log_whose_age_goes_back_is_refused() {
    aged(|age| Duration::from_secs(100).saturating_sub(age));
}

fn aged(age: impl Fn(Duration) -> Duration + Send + Sync + 'static) {
    let log = Wrong::default().read(move |log, after, wait| {
        let page = log.read(after, wait)?;
        let (born, now) = born_and_now(&page);
        let wrong = born + age(now.duration_since(born).unwrap());
        let id = page.lineage().id();
        Ok(with_lineage(&page, Lineage::new(id, born, wrong)))
    });
    refused("the age of a log grows by its clock", log.suite());
}

#[test]
fn a_log_that_is_born_after_now_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let page = log.read(after, wait)?;
        let (born, now) = born_and_now(&page);
        let id = page.lineage().id();
        Ok(with_lineage(&page, Lineage::new(id, born + Duration::from_secs(3600), now)))
    });
    refused("the age of a log grows by its clock", log.suite());
}

#[test]
fn a_log_that_changes_its_lineage_one_day_is_refused() {
    let log = Wrong::default().read(|log, after, wait| {
        let page = log.read(after, wait)?;
        let (born, now) = born_and_now(&page);
        let id = if place(page.cursor()) > 30_000 { [7; 16] } else { page.lineage().id() };
        Ok(with_lineage(&page, Lineage::new(id, born, now)))
    });
    refused("a log keeps what was added, and nothing else", log.suite());
}
