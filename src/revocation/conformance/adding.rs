//! Rules about `append`.

use std::collections::HashSet;
use std::time::Duration;

use super::super::fact::{ALL, EVERY_REALM, Fact, Spared};
use super::super::{Revocation, RevocationLog};
use super::bench::{Bench, Call, FAR, broken, has, since};
use crate::clock::{Timestamp, monotonic};
use crate::error::Error;
use crate::token::SessionId;

/// Every kind, with the bytes that text, padding and numbers with a sign would damage.
pub(super) fn bytes<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let awkward = [[0; 16], [0xFF; 16], *b"\0\n\r\\x'\";,%_\x80\xC3\x28\xF5 "];
    let before = Timestamp::from_millis(1_700_000_000_000);
    let mut facts = vec![
        Revocation::generations_below(bench.id(), 1, FAR),
        Revocation::generations_below(bench.id(), u16::MAX, FAR),
        Revocation::longest(Duration::from_secs(30 * 24 * 60 * 60)),
        Revocation::longest(Duration::from_millis(1)),
    ];
    for bytes in awkward {
        let id = SessionId::from_bytes(bytes);
        let issued = |except| Fact::Issued { key: bytes, before, except };
        let spared = |issued_at| issued(Some(Spared { id, issued_at }));
        facts.push(Revocation::session(id, FAR));
        facts.push(Revocation::session(id, Timestamp::MAX));
        facts.push(Revocation::whole(bytes));
        for fact in [issued(None), spared(None), spared(Some(before))] {
            facts.push(Revocation { fact, until: FAR });
        }
    }
    added(bench, &facts)
}

/// A table with the id as its key, or a compaction that knows better, loses some of these.
pub(super) fn near_twins<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let [id, other, key] = [bench.id(), bench.id(), bench.id()];
    let later = FAR.plus(Duration::from_millis(1));
    let mut facts = Vec::new();
    for until in [FAR, later] {
        for below in [0, 1, 2, ALL] {
            facts.push(Revocation { fact: Fact::Session { id, below }, until });
        }
        for (before, key) in [(FAR, *key.as_bytes()), (later, *key.as_bytes()), (FAR, EVERY_REALM)]
        {
            for except in [None, Some((id, None)), Some((id, Some(FAR))), Some((other, None))] {
                let except = except.map(|(id, issued_at)| Spared { id, issued_at });
                facts.push(Revocation { fact: Fact::Issued { key, before, except }, until });
            }
        }
    }
    added(bench, &facts)?;
    // The lesser ones after the greater ones, and one at a time.
    let [a, b] = [bench.id(), bench.id()];
    for (id, until) in [(a, later), (a, FAR), (b, FAR), (b, later)] {
        added(bench, &[Revocation::session(id, until)])?;
    }
    Ok(())
}

pub(super) fn again<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let facts = bench.facts(30);
    let [handle, other] = [bench.handle()?, bench.handle()?];
    let cursor = other.end()?;
    let [first, second, third] = [0..20, 10..30, 0..30].map(|part| facts.get(part));
    for batch in [first, second, third].into_iter().flatten() {
        handle.append(batch)?;
        other.append(batch)?;
    }
    let twice = bench.fact();
    handle.append(&[twice, twice])?;
    let news = other.catch_up(Some(&cursor))?;
    news.has(&[&facts[..], &[twice]].concat(), "that were added more than once")
}

pub(super) fn nothing<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    bench.handle()?.append(&[])
}

/// What is over may be left out; what was added with it may not.
pub(super) fn over<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let over = [Timestamp::default(), Timestamp::from_millis(1_000_000_000_000)]
        .map(|until| Revocation::session(bench.id(), until));
    bench.over.extend(over);
    let fact = bench.fact();
    let [one, two] = over;
    let handle = bench.handle()?;
    let cursor = handle.end()?;
    handle.append(&[one, fact, two])?;
    handle.append(&[one])?;
    handle.catch_up(Some(&cursor))?.has(&[fact], "that were added with some that are over")
}

/// Four writers and a reader that follows them. Numbers that are given before they are visible, as
/// by a sequence in a database, let a late writer fall behind the reader's cursor.
pub(super) fn at_once<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let reader = bench.handle()?;
    let mut cursor = reader.end()?;
    let expected = bench.facts(4 * 300);
    let mut writers = Vec::new();
    for facts in expected.chunks(300) {
        let (handle, facts) = (bench.handle()?, facts.to_vec());
        writers.push(Call::start("a writer of 300 facts", PATIENCE, move || {
            // Small and large ones in turn: they take different times.
            let (single, rest) = facts.split_at_checked(60).unwrap_or_default();
            single.chunks(5).zip(rest.chunks(20)).try_for_each(|(few, many)| {
                few.iter().try_for_each(|fact| handle.append(std::slice::from_ref(fact)))?;
                handle.append(many)
            })
        })?);
    }
    let began = monotonic();
    let mut came = HashSet::new();
    loop {
        // Known before the read begins: it has to see all that they wrote.
        let over = writers.iter().all(Call::is_over);
        let page = reader.read(Some(&cursor), Duration::from_millis(100))?;
        let before = came.len();
        came.extend(page.facts().iter().copied());
        if over && came.len() == before && !page.has_more() {
            break;
        }
        if since(began) > PATIENCE {
            return Err(broken(format!("expected an end of news within {PATIENCE:?}")));
        }
        cursor = page.cursor;
    }
    for writer in writers {
        writer.answer()?;
    }
    has(&came, &expected, "from 4 writers, at a reader that followed them")
}

/// For four writers of 300 facts, together.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn many<L: RevocationLog>(bench: &mut Bench<'_, L>) -> Result<(), Error> {
    let facts = bench.facts(5_000);
    let handle = bench.handle()?;
    let cursor = handle.end()?;
    handle.append(&facts)?;
    handle.catch_up(Some(&cursor))?.has(&facts, "of one `append`")
}

/// Adds facts on one handle, and reads them on another, from a cursor and from the beginning.
fn added<L: RevocationLog>(bench: &mut Bench<'_, L>, facts: &[Revocation]) -> Result<(), Error> {
    for fact in facts {
        bench.note(*fact);
    }
    let [writer, reader] = [bench.handle()?, bench.handle()?];
    let cursor = reader.end()?;
    writer.append(facts)?;
    for after in [Some(&cursor), None] {
        reader.catch_up(after)?.has(facts, "as they were added")?;
    }
    Ok(())
}
