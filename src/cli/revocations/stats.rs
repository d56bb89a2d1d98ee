//! How a log is doing.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use super::super::args::RevocationsStats;
use super::super::log::{Log, warn_unreadable};
use super::super::{Failure, Status, Streams, show};
use super::facts::hex;
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::revocation::outside::{Ahead, Reading, Says};

pub(in super::super) fn stats(
    args: &RevocationsStats,
    streams: &mut Streams,
) -> Result<Status, Failure> {
    let log = Log::of(&args.log)?;
    let reading = log.read_all()?;
    let (apart, ahead) = reading.offset(SystemClock.now());
    let counts = Counts::of(&reading, &log);
    warn_unreadable(reading.unreadable.as_ref(), &log, streams)?;
    let (age, whole) = (reading.lineage.age(), reading.is_whole());
    let (id, longest) = (hex(reading.lineage.id()), reading.longest());
    if args.json {
        let apart = i64::try_from(apart.as_millis()).unwrap_or(i64::MAX);
        let object = json!({
            "log": log.name,
            "id": id,
            "age": age.as_secs(),
            "whole": whole,
            "facts": {
                "session": counts.sessions,
                "generations": counts.generations,
                "subject_or_tag": counts.hashes,
                "everyone": counts.everyone,
                "every_realm": counts.every_realm,
            },
            "over": counts.over,
            "longest_life": longest.map(|longest| longest.as_secs()),
            "clock_ahead_ms": if ahead == Ahead::Log { apart } else { apart.saturating_neg() },
            "read_ms": u64::try_from(reading.took.as_millis()).unwrap_or(u64::MAX),
        });
        show::json(streams, &object)?;
        return Ok(Status::Well);
    }
    // When within the reading the clock was read, nobody knows.
    let doubt = reading.took.checked_div(2).unwrap_or_default();
    let ahead = match ahead {
        Ahead::Log => "ahead of",
        Ahead::Here => "behind",
    };
    let whole = if whole { "yes" } else { "no: no server has made it so yet" };
    let longest = longest.map_or_else(|| "not told by any server yet".to_owned(), show::length);
    for (name, value) in [
        ("log", log.name),
        ("id", id),
        ("age", show::length(age)),
        ("whole", whole.to_owned()),
        ("sessions", counts.sessions.to_string()),
        ("generations", counts.generations.to_string()),
        ("subjects, tags", counts.hashes.to_string()),
        ("everyone", counts.everyone.to_string()),
        ("every realm", counts.every_realm.to_string()),
        ("over", format!("{} of these", counts.over)),
        ("longest life", longest),
        ("clock", format!("{} {ahead} this machine's, give or take {}", fine(apart), fine(doubt))),
        ("read in", fine(reading.took)),
    ] {
        writeln!(streams.out, "{name:16}{value}")?;
    }
    Ok(Status::Well)
}

/// How many facts there are of each kind.
#[derive(Default)]
struct Counts {
    sessions: usize,
    generations: usize,
    hashes: usize,
    everyone: usize,
    every_realm: usize,
    /// Of these, those that could be forgotten.
    over: usize,
}

impl Counts {
    fn of(reading: &Reading, log: &Log) -> Self {
        let mut counts = Self::default();
        let now = reading.now();
        for fact in &reading.facts {
            let count = match fact.says(&log.realm) {
                Says::Session(_) => &mut counts.sessions,
                Says::Generations(..) => &mut counts.generations,
                Says::Hash(_) => &mut counts.hashes,
                Says::Everyone => &mut counts.everyone,
                Says::EveryRealm => &mut counts.every_realm,
                Says::Lifetime(_) | Says::Whole(_) => continue,
            };
            *count = count.saturating_add(1);
            if fact.until().is_some_and(|until| Timestamp::from_system(until) <= now) {
                counts.over = counts.over.saturating_add(1);
            }
        }
        counts
    }
}

/// A length of time, to the millisecond where it is short.
pub(in super::super) fn fine(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        return format!("{}ms", duration.as_millis());
    }
    show::length(duration)
}
