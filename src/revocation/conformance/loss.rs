//! Rules about a log that is lost while it is in use.

use std::thread;
use std::time::{Duration, Instant};

use super::super::{Revocation, RevocationLog};
use super::Wipe;
use super::bench::{Bench, Call, CaughtUp, Handle, LIMIT, begin_to_wait, broken, has, since};
use super::lineage::same;
use crate::clock::monotonic;
use crate::error::Error;

/// How long a handle may fail after the loss.
const RECOVERY: Duration = Duration::from_secs(5);

/// A reader comes first: one that waited, and then all the others.
pub(super) fn noticed<L: RevocationLog>(
    bench: &mut Bench<'_, L>,
    wipe: &Wipe<'_>,
) -> Result<(), Error> {
    let [reader, writer] = [bench.handle()?, bench.handle()?];
    let old = writer.catch_up(None)?;
    let waiting = reader.start_read(Some(&old.cursor), Duration::from_secs(1))?;
    begin_to_wait();
    lose(wipe)?;
    let wiped = monotonic();
    // What it says belongs to before or after; that it returns at all is what counts.
    let _ = waiting.outcome()?;

    for handle in [&reader, &writer, &bench.handle()?] {
        notices(handle, &old, wiped)?;
    }
    goes_on(bench, &[reader, writer], wiped, &[])
}

/// Writers come first. The log that they make must not look like the old one to a reader, though
/// its places may have the same numbers.
pub(super) fn written_anew<L: RevocationLog>(
    bench: &mut Bench<'_, L>,
    wipe: &Wipe<'_>,
) -> Result<(), Error> {
    let [reader, one, two] = [bench.handle()?, bench.handle()?, bench.handle()?];
    let old = reader.catch_up(None)?;
    for handle in [&one, &two] {
        handle.catch_up(None)?;
    }
    let facts = bench.facts(2);
    lose(wipe)?;
    let wiped = monotonic();
    let mut writes = Vec::new();
    for (handle, fact) in [&one, &two].into_iter().zip(&facts) {
        let (handle, fact) = (handle.clone(), *fact);
        let limit = RECOVERY.saturating_add(LIMIT).saturating_add(LIMIT);
        writes.push(Call::start("`append` after the loss", limit, move || {
            append_after_loss(&handle, fact, wiped)
        })?);
    }
    for write in writes {
        write.answer()?;
    }
    for handle in [&reader, &one, &two] {
        notices(handle, &old, wiped)?;
    }
    goes_on(bench, &[reader, one, two], wiped, &facts)
}

/// That all handles are on one new log, which has `facts` and takes more.
fn goes_on<L: RevocationLog>(
    bench: &mut Bench<'_, L>,
    handles: &[Handle<L>],
    wiped: Instant,
    facts: &[Revocation],
) -> Result<(), Error> {
    let fresh = bench.handle()?;
    let all = fresh.catch_up(None)?;
    has(&all.facts, facts, "that were added after the loss")?;
    for handle in handles {
        let fact = bench.fact();
        append_after_loss(handle, fact, wiped)?;
        for reader in handles.iter().chain([&fresh]) {
            for after in [Some(&all.cursor), None] {
                let news = reader.catch_up(after)?;
                same(all.lineage, news.lineage)?;
                news.has(&[fact], "that were added after the loss")?;
            }
        }
    }
    Ok(())
}

/// That a handle reads another log than the old one, with a read that waits and one that does not:
/// they may have a connection each. As a list does it, it begins anew after an error.
fn notices<L: RevocationLog>(
    handle: &Handle<L>,
    old: &CaughtUp,
    wiped: Instant,
) -> Result<(), Error> {
    for wait in [Duration::ZERO, Duration::from_millis(100)] {
        let mut after = Some(&old.cursor);
        loop {
            match handle.read(after, wait) {
                Ok(page) if page.lineage.id == old.lineage.id => {
                    return Err(broken(format!(
                        "expected an error or another lineage once the log was lost, but came \
                         {page:?} of the old one"
                    )));
                }
                Ok(_) => break,
                Err(error) if since(wiped) > RECOVERY => return Err(too_long(error)),
                Err(_) => after = None,
            }
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn append_after_loss<L: RevocationLog>(
    handle: &Handle<L>,
    fact: Revocation,
    wiped: Instant,
) -> Result<(), Error> {
    loop {
        match handle.append(&[fact]) {
            Err(error) if since(wiped) > RECOVERY => return Err(too_long(error)),
            Err(_) => thread::sleep(PAUSE),
            Ok(()) => return Ok(()),
        }
    }
}

const PAUSE: Duration = Duration::from_millis(50);

fn too_long(error: Error) -> Error {
    Error::backend(error).at("expected a handle to work again within 5 s, but it still fails")
}

fn lose(wipe: &Wipe<'_>) -> Result<(), Error> {
    wipe().map_err(|error| Error::backend(error).at("expected the wipe to succeed, but it failed"))
}
