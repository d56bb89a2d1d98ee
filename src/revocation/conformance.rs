//! The suite that proves a backend: what [`RevocationLog`] promises, checked with one call.
//!
//! The author of a backend writes one test. It starts the server, empties or makes a log that nobody
//! else uses, and says how to open handles on it and how to lose it. That takes a few seconds, and
//! 31,000 facts, which are good until 2100: let the log be one that is thrown away.
//!
//! ```
//! use sealed_session::revocation::{MemoryLog, conformance::Suite};
//!
//! # fn main() -> Result<(), sealed_session::Error> {
//! let log = MemoryLog::new()?;
//! Suite::new(|| Ok(log.clone())).wiped_by(|| log.wipe()).run()?;
//! # Ok(())
//! # }
//! ```
//!
//! The rules are checked one after the other, and the first one that is broken ends it: the error
//! names the rule, what was expected and what came. A call that does not return in its time is left
//! behind on its thread, and is an error as well.
//!
//! What it cannot show is left to the backend's own tests: that facts survive when the server is
//! killed, and that every call ends in its time while the server is frozen or not there at all.

mod adding;
mod bench;
mod cursors;
mod lineage;
mod loss;
mod reading;

use std::fmt;

use self::bench::Bench;
use super::RevocationLog;
use crate::error::Error;

/// Checks a log that cannot be wiped: [`Suite::new`] and [`Suite::run`].
///
/// # Errors
///
/// As [`Suite::run`].
pub fn run<L: RevocationLog>(open: impl Fn() -> Result<L, Error>) -> Result<(), Error> {
    Suite::new(open).run()
}

/// What the suite has to know of a backend.
pub struct Suite<'a, L> {
    open: Box<Open<'a, L>>,
    wipe: Option<Box<Wipe<'a>>>,
}

type Open<'a, L> = dyn Fn() -> Result<L, Error> + 'a;
type Wipe<'a> = dyn Fn() -> Result<(), Error> + 'a;

impl<'a, L: RevocationLog> Suite<'a, L> {
    /// A suite for the log that `open` gives handles on: each as another instance would have it,
    /// with connections of its own, and all on the same log, which is empty at first.
    pub fn new(open: impl Fn() -> Result<L, Error> + 'a) -> Self {
        Self { open: Box::new(open), wipe: None }
    }

    /// Says how the backend loses the log with all it holds, as a server without persistence does
    /// that is started anew. It is called twice, while handles are in use, and has to come back when
    /// the backend answers again.
    #[must_use]
    pub fn wiped_by(self, wipe: impl Fn() -> Result<(), Error> + 'a) -> Self {
        Self { wipe: Some(Box::new(wipe)), ..self }
    }

    /// Checks every rule; those about a lost log only after [`wiped_by`](Self::wiped_by).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) for the first rule that is broken. If a
    /// call failed, its error is the [`source`](std::error::Error::source).
    pub fn run(self) -> Result<(), Error> {
        let mut bench = Bench::new(&*self.open);
        for (name, rule) in rules() {
            rule(&mut bench).map_err(|error| named(name, error))?;
        }
        if let Some(wipe) = &self.wipe {
            for (name, rule) in rules_of_loss() {
                rule(&mut bench, &**wipe).map_err(|error| named(name, error))?;
            }
        }
        Ok(())
    }
}

/// Later rules build on what earlier ones have shown, so a broken one ends the suite.
type Rule<L> = fn(&mut Bench<'_, L>) -> Result<(), Error>;

fn rules<L: RevocationLog>() -> [(&'static str, Rule<L>); 21] {
    [
        ("all handles see one lineage", lineage::same_everywhere),
        ("an empty log gives empty pages", reading::empty),
        ("a read with nothing new waits, then gives an empty page", reading::heartbeat),
        ("a read that may not wait returns at once", reading::at_once),
        ("a read sees what was added before it began", reading::up_to_date),
        ("a read with old facts only waits", reading::heartbeat),
        ("facts come back byte for byte", adding::bytes),
        ("facts that differ in any field are all kept", adding::near_twins),
        ("adding a fact again is no error", adding::again),
        ("adding nothing is no error", adding::nothing),
        ("adding a fact that is long over is no error", adding::over),
        ("a waiting read is woken by a fact", reading::woken),
        ("a waiting read holds up no other call", reading::alone),
        ("a cursor works on every handle", cursors::everywhere),
        ("a cursor can be used again", cursors::again),
        ("writers who overtake each other leave no hole", adding::at_once),
        ("5,000 facts can be added at a time", adding::many),
        ("pages add up to the whole", cursors::pages),
        ("a log keeps what was added, and nothing else", lineage::keeps),
        ("an old cursor stays good", cursors::old),
        ("the age of a log grows by its clock", lineage::ages),
    ]
}

type RuleOfLoss<L> = fn(&mut Bench<'_, L>, &Wipe<'_>) -> Result<(), Error>;

fn rules_of_loss<L: RevocationLog>() -> [(&'static str, RuleOfLoss<L>); 2] {
    [
        ("a log that was lost is noticed, and works again", loss::noticed),
        ("a log that is made anew by writers is noticed, and loses nothing", loss::written_anew),
    ]
}

fn named(rule: &str, error: Error) -> Error {
    error.at(&format!("rule broken: {rule}"))
}

impl<L> fmt::Debug for Suite<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("wiped_by", &self.wipe.is_some()).finish_non_exhaustive()
    }
}
