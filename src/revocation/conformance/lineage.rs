//! Rules about the log as a whole: which one it is, how old, and what it holds.

use std::thread;
use std::time::Duration;

use super::super::{Lineage, Page, RevocationLog};
use super::bench::{Bench, Start, broken, has, since, whole};
use crate::clock::monotonic;
use crate::error::Error;

/// Four instances come at once, and the log does not exist yet: one of them makes it.
pub(super) fn same_everywhere<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let handles = [bench.handle()?, bench.handle()?, bench.handle()?, bench.handle()?];
    let asked = monotonic();
    let reads = handles.each_ref().map(|handle| handle.start_read(None, Duration::ZERO));
    let mut pages = Vec::with_capacity(reads.len());
    for read in reads {
        pages.push(read?.answer().and_then(whole)?);
    }
    let answered = monotonic();
    // Once more: one that made a log and was overtaken must not go on with its own.
    for handle in &handles {
        pages.push(handle.read(None, Duration::ZERO)?);
    }
    let first = pages.swap_remove(0);
    for page in &pages {
        same(first.lineage, page.lineage)?;
    }
    let Page { lineage, cursor, .. } = first;
    bench.start = Some(Start { lineage, cursor, asked, answered });
    Ok(())
}

/// A list trusts a log only when it is older than a while: an age that stands still, or counts in
/// other units, keeps it from ever being ready, or makes it ready too early.
pub(super) fn ages<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let Start { lineage: first, asked, answered, .. } = bench.start()?;
    // Clocks may tell whole seconds only, so it takes more than one.
    thread::sleep(Duration::from_millis(1200).saturating_sub(since(*answered)));
    let shortest = since(*answered);
    let last = bench.handle()?.read(None, Duration::ZERO)?.lineage;
    let longest = since(*asked);
    same(*first, last)?;
    if last.now < last.born {
        return Err(broken(format!("expected a birth before now, but came {last:?}")));
    }
    let grown = last.now.since(first.now);
    let second = Duration::from_secs(1);
    let enough = !grown.is_zero() && grown >= shortest.saturating_sub(second);
    if enough && grown <= longest.saturating_add(second) {
        return Ok(());
    }
    Err(broken(format!(
        "expected an age that grows by {shortest:?}, but it grew by {grown:?}: from {first:?} to \
         {last:?}"
    )))
}

pub(super) fn keeps<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let all = bench.handle()?.catch_up(None)?;
    same(bench.start()?.lineage, all.lineage)?;
    let added: Vec<_> = bench.added.iter().copied().collect();
    has(&all.facts, &added, "in the end")?;
    let known = |fact| bench.added.contains(fact) || bench.over.contains(fact);
    match all.facts.iter().find(|fact| !known(fact)) {
        None => Ok(()),
        Some(fact) => {
            Err(broken(format!("expected only what was added, but there came {fact:?} as well")))
        }
    }
}

/// That `other` is the lineage of the same log.
pub(super) fn same(one: Lineage, other: Lineage) -> Result<(), Error> {
    if (one.id, one.born) == (other.id, other.born) {
        return Ok(());
    }
    Err(broken(format!("expected one lineage, but came {one:?}, and then {other:?}")))
}
