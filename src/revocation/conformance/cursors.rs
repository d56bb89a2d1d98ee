//! Rules about cursors and pages.

use std::time::Duration;

use super::super::RevocationLog;
use super::bench::{Bench, broken};
use crate::error::Error;

pub(super) fn everywhere<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let cursor = bench.handle()?.end()?;
    let facts = bench.facts(3);
    bench.handle()?.append(&facts)?;
    let other = bench.handle()?;
    other.catch_up(Some(&cursor))?.has(&facts, "after a cursor of another handle")
}

pub(super) fn again<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let handle = bench.handle()?;
    let cursor = handle.end()?;
    let facts = bench.facts(3);
    handle.append(&facts)?;
    handle.catch_up(Some(&cursor))?.has(&facts, "after a cursor")?;
    handle.catch_up(Some(&cursor))?.has(&facts, "after the same cursor again")
}

pub(super) fn pages<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let writer = bench.handle()?;
    let cursor = writer.end()?;
    let facts = bench.facts(25_000);
    for batch in facts.chunks(5_000) {
        writer.append(batch)?;
    }
    let reader = bench.handle()?;
    for after in [Some(&cursor), None] {
        reader.catch_up(after)?.has(&facts, "in all pages together")?;
    }
    // The thread that follows the log may wait, but not where there is something.
    let (page, took) = reader.start_read(Some(&cursor), Duration::from_secs(4))?.timed()?;
    if took > Duration::from_secs(2) || page.facts().is_empty() {
        return Err(broken(format!(
            "expected a page of the 25,000 facts at once, but after {took:?} came {page:?}"
        )));
    }
    Ok(())
}

/// The one from before the first fact.
pub(super) fn old<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let cursor = &bench.start()?.cursor;
    let added: Vec<_> = bench.added.iter().copied().collect();
    bench.handle()?.catch_up(Some(cursor))?.has(&added, "after the first cursor of all")
}
