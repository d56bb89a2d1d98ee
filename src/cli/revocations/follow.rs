//! Shows facts as they arrive.

use std::collections::HashSet;
use std::io::Write as _;
use std::thread;
use std::time::Duration;

use super::super::args::RevocationsFollow;
use super::super::log::{Log, warn_unreadable};
use super::super::{Failure, Status, Streams, chain};
use super::facts::{json_fact, line};
use crate::revocation::outside::Reading;
use crate::revocation::{Cursor, Revocation};

pub(in super::super) fn follow(
    args: &RevocationsFollow,
    streams: &mut Streams,
) -> Result<Status, Failure> {
    let log = Log::of(&args.log)?;
    let reading = log.read_all()?;
    warn_unreadable(reading.unreadable.as_ref(), &log, streams)?;
    let count = reading.facts.len();
    writeln!(streams.err, "following {}, which holds {count} facts; Ctrl-C ends it", log.name)?;
    let (lineage, cursor) = (reading.lineage.id(), reading.cursor);
    let known = reading.facts.into_iter().collect();
    let mut follower = Follower { log, json: args.json, known, lineage, cursor };
    while !streams.out.gone {
        if let Err(error) = follower.step(streams) {
            streams.warn(&format!("{}: goes on trying", chain(&*error)))?;
            follower.recover(streams)?;
        }
    }
    // Nobody reads any more.
    Ok(Status::Well)
}

struct Follower {
    log: Log,
    json: bool,
    /// What was there or was shown: a log may give a fact again.
    known: HashSet<Revocation>,
    lineage: [u8; 16],
    cursor: Cursor,
}

impl Follower {
    /// Waits for facts, and shows them.
    fn step(&mut self, streams: &mut Streams) -> Result<(), Failure> {
        let page = self.log.read(Some(self.cursor.clone()), WAIT)?;
        if page.lineage().id() != self.lineage {
            return Err(format!("{}: it was lost or replaced", self.log.name).into());
        }
        warn_unreadable(page.unreadable(), &self.log, streams)?;
        self.cursor = page.cursor().clone();
        self.show(page.facts(), streams)
    }

    /// Reads all of the log again as soon as that can be done, and shows what was missed.
    fn recover(&mut self, streams: &mut Streams) -> Result<(), Failure> {
        let mut last = None;
        loop {
            thread::sleep(PAUSE);
            match self.log.read_all() {
                Ok(reading) => return self.take_over(reading, streams),
                Err(error) => {
                    let text = chain(&*error);
                    if last.as_ref() != Some(&text) {
                        streams.warn(&text)?;
                        last = Some(text);
                    }
                }
            }
        }
    }

    fn take_over(&mut self, mut reading: Reading, streams: &mut Streams) -> Result<(), Failure> {
        let (now, count) = (reading.now(), reading.facts.len());
        let counts = |fact: &Revocation| fact.until().is_none_or(|until| until > now.to_system());
        // What is over was shown when it was not, and is forgotten here and there.
        reading.facts.retain(counts);
        self.known.retain(counts);
        if reading.lineage.id() != self.lineage {
            let text = "it was lost or replaced; servers that run give back what they know";
            streams.warn(&format!("{}: {text}", self.log.name))?;
        }
        writeln!(streams.err, "following {} again, which holds {count} facts", self.log.name)?;
        (self.lineage, self.cursor) = (reading.lineage.id(), reading.cursor);
        self.show(&reading.facts, streams)
    }

    fn show(&mut self, facts: &[Revocation], streams: &mut Streams) -> Result<(), Failure> {
        for fact in facts {
            if !self.known.insert(*fact) {
                continue;
            }
            if self.json {
                // Nothing but dates, hashes and ids: all of it is ASCII.
                writeln!(streams.out, "{}", json_fact(fact, &self.log.realm))?;
            } else {
                writeln!(streams.out, "{}", line(fact, &self.log.realm))?;
            }
        }
        Ok(streams.out.flush()?)
    }
}

const WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);
