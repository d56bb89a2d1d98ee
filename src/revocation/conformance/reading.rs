//! Rules about `read`: what it waits for, and what not.

use std::time::Duration;

use super::super::{Cursor, RevocationLog};
use super::bench::{Bench, Handle, begin_to_wait, broken, since, whole};
use crate::clock::monotonic;
use crate::error::Error;

pub(super) fn empty<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let handle = bench.handle()?;
    let first = handle.read(None, Duration::ZERO)?;
    let next = handle.read(Some(first.cursor()), Duration::ZERO)?;
    for page in [first, next] {
        if !page.facts().is_empty() || page.has_more() {
            return Err(broken(format!(
                "expected an empty log, and no page that says there is more, but came {page:?}; \
                 give the suite a new log each time"
            )));
        }
    }
    Ok(())
}

pub(super) fn heartbeat<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let wait = Duration::from_millis(400);
    let handle = bench.handle()?;
    let mut cursor = handle.end()?;
    // Facts may come twice, so a page of old ones is good, but not for ever.
    for _ in 0..3 {
        let (page, took) = handle.start_read(Some(&cursor), wait)?.timed()?;
        let page = whole(page)?;
        if let Some(fact) = page.facts().iter().find(|fact| !bench.added.contains(*fact))
            && !bench.over.contains(fact)
        {
            return Err(broken(format!("expected nothing new, but came {fact:?}")));
        }
        if took >= Duration::from_millis(300) {
            return Ok(());
        }
        if page.facts().is_empty() {
            return Err(broken(format!(
                "expected the empty page after about {wait:?}, but it came after {took:?}"
            )));
        }
        cursor = page.cursor;
    }
    Err(broken("expected a read to wait, but three in a row gave old facts at once"))
}

pub(super) fn at_once<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let handle = bench.handle()?;
    let cursor = handle.end()?;
    returns_at_once(&handle, &cursor)
}

/// A strict route reads like this, so what another handle has added, or this one, has to be there.
pub(super) fn up_to_date<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let handles = [bench.handle()?, bench.handle()?];
    let mut cursors = Vec::with_capacity(handles.len());
    for handle in &handles {
        cursors.push(handle.end()?);
    }
    for _ in 0..10 {
        for writer in &handles {
            let fact = bench.fact();
            writer.append(&[fact])?;
            for (reader, cursor) in handles.iter().zip(&mut cursors) {
                let news = reader.catch_up(Some(cursor))?;
                news.has(&[fact], "right after `append` had returned")?;
                *cursor = news.cursor;
            }
        }
    }
    Ok(())
}

pub(super) fn woken<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let [reader, writer] = [bench.handle()?, bench.handle()?];
    let fact = bench.fact();
    let wait = Duration::from_secs(5);
    let mut waiting = reader.start_read(Some(&reader.end()?), wait)?;
    begin_to_wait();
    writer.append(&[fact])?;
    let added = monotonic();
    loop {
        let page = waiting.answer().and_then(whole)?;
        let took = since(added);
        if took > Duration::from_millis(2500) {
            return Err(broken(format!(
                "expected the fact well before the read had waited for {wait:?}, but after \
                 {took:?} it had not come, or only now"
            )));
        }
        if page.facts().contains(&fact) {
            return Ok(());
        }
        waiting = reader.start_read(Some(page.cursor()), wait)?;
    }
}

/// The thread that follows the log waits in `read` all day. Revocations and strict routes of the
/// same instance do not wait with it.
pub(super) fn alone<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let handle = bench.handle()?;
    let cursor = handle.end()?;
    let fact = bench.fact();
    let waiting = handle.start_read(Some(&cursor), Duration::from_secs(5))?;
    begin_to_wait();
    returns_at_once(&handle, &cursor)?;
    handle.append(&[fact])?;
    handle.catch_up(Some(&cursor))?.has(&[fact], "while another read waited")?;
    waiting.answer().and_then(whole).map(|_| ())
}

/// Of three, so that a busy machine breaks no rule.
fn returns_at_once<L: RevocationLog>(handle: &Handle<L>, cursor: &Cursor) -> Result<(), Error> {
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let (_, took) = handle.start_read(Some(cursor), Duration::ZERO)?.timed()?;
        fastest = fastest.min(took);
    }
    if fastest > Duration::from_millis(250) {
        return Err(broken(format!(
            "expected a read to return at once, but the fastest of three took {fastest:?}"
        )));
    }
    Ok(())
}
