//! How a list that follows a log is set up.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::catch_up::{self, Strict};
use super::follower;
use super::list::RevocationList;
use super::log::RevocationLog;
use super::receipt::Outcome;
use super::replica::Replica;
use super::shared::{Settings, Shared, Source};
use super::writer::{self, Unsaved};
use crate::clock::{Clock, SystemClock, monotonic};
use crate::error::{Error, ErrorKind};

/// Gathers the settings of a [`RevocationList`] that follows a log.
#[must_use]
pub struct RevocationListBuilder {
    logs: Vec<(Arc<dyn RevocationLog>, Duration)>,
    settle: Option<Duration>,
    reconcile_every: Duration,
    clock_skew: Duration,
    on_stale: OnStale,
    when_missing: WhenMissing,
    max_entries: Option<usize>,
    clock: Box<dyn Clock>,
}

/// What a list does that is older than its `max_staleness`, when it is asked about a session that it
/// does not know. One that it knows is refused however old it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum OnStale {
    /// Refuses to answer: [`ErrorKind::Backend`], status 503, and the cookie stays.
    #[default]
    Refuse,
    /// Lets the session in, though it may be revoked, for as long as the log cannot be read. Each time
    /// is an event. **Whoever can cut the server off from its log can use revoked sessions.**
    Accept,
}

/// What happens when the log is new, and no instance is alive that could give anything back: at the
/// first start of all, and after the backend was lost together with all instances.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum WhenMissing {
    /// Ends all sessions that were issued before: nobody can tell which of them were revoked.
    #[default]
    SignOutEveryone,
    /// Refuses to answer until somebody has brought the log back, or decides otherwise.
    Refuse,
    /// Starts with nothing. **What was revoked before lives again**, if there was anything.
    StartEmpty,
}

impl RevocationListBuilder {
    pub(super) fn new(log: impl RevocationLog) -> Self {
        Self {
            logs: vec![(Arc::new(log), MAX_STALENESS)],
            settle: None,
            reconcile_every: Duration::from_secs(600),
            clock_skew: Duration::from_secs(60),
            on_stale: OnStale::default(),
            when_missing: WhenMissing::default(),
            max_entries: None,
            clock: Box::new(SystemClock),
        }
    }

    /// Sets how old the list may be: 30 s, and 1 s to 1 h.
    ///
    /// For so long a session that was revoked elsewhere may go on here, **only** while this instance
    /// cannot read the log; afterwards it lets nobody in that it does not know as revoked. The log is
    /// asked at least every quarter of it, and every 5 s.
    pub fn max_staleness(mut self, max_staleness: Duration) -> Self {
        if let Some(home) = self.logs.first_mut() {
            home.1 = max_staleness;
        }
        self
    }

    /// Sets what happens beyond that.
    pub fn on_stale(mut self, on_stale: OnStale) -> Self {
        self.on_stale = on_stale;
        self
    }

    /// Sets what happens when the log is new and nobody has anything to give back.
    pub fn when_missing(mut self, when_missing: WhenMissing) -> Self {
        self.when_missing = when_missing;
        self
    }

    /// Sets how old a log must be before it is believed, at most 10 min: until then every instance has
    /// noticed that the one before was lost. Unset, it is what the
    /// [log says](RevocationLog::settle), 1 s to 10 s for those of this crate.
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settle = Some(settle);
        self
    }

    /// Sets how often all of the log is compared with what is known here, though nothing seems wrong:
    /// every 10 min, give or take a tenth; 1 s to 1 d. A proxy may hide that a backend has failed
    /// over and lost something.
    pub fn reconcile_every(mut self, reconcile_every: Duration) -> Self {
        self.reconcile_every = reconcile_every;
        self
    }

    /// Sets how far clocks may be off, 60 s by default: the same as
    /// [`Policy::clock_skew`](crate::Policy::clock_skew) of the session managers.
    pub fn clock_skew(mut self, clock_skew: Duration) -> Self {
        self.clock_skew = clock_skew;
        self
    }

    /// Sets how many entries this instance accepts new revocations up to, 1,000,000 by default. See
    /// [`RevocationList::max_entries`].
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = Some(max_entries);
        self
    }

    /// Follows another log as well, of another region, say, with a `max_staleness` of its own. What is
    /// revoked here goes into the first log only; other regions follow that one in turn. Whether a new
    /// one is believed is decided by its own region's instances: start those first.
    pub fn also_follow(mut self, log: impl RevocationLog, max_staleness: Duration) -> Self {
        self.logs.push((Arc::new(log), max_staleness));
        self
    }

    /// Sets the clock, for tests: the same as that of the session manager.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Starts the list: its threads, which end when the last handle is dropped.
    ///
    /// Waits until the log was read, for 5 s at most. If it cannot be read, or takes longer, the list
    /// starts all the same, answers [`ErrorKind::Backend`] and goes on trying;
    /// [`RevocationList::is_fresh`] tells. A process that forks has to call this after it forked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for a setting out of its range, and for a log that will not do until its
    /// settings are changed: a Redis that may throw the list away, say.
    pub fn build(self) -> Result<RevocationList, Error> {
        self.validate()?;
        let staleness: Vec<Duration> = self.logs.iter().map(|(_, staleness)| *staleness).collect();
        let shortest = staleness.iter().min().copied().unwrap_or(MAX_STALENESS);
        // Whoever shall be believed after so short a time has to look often enough.
        let settle = |log: &Arc<dyn RevocationLog>| self.settle.unwrap_or_else(|| log.settle());
        let settle = self.logs.iter().map(|(log, _)| settle(log)).filter(|it| !it.is_zero()).min();
        let noticed = settle
            .map_or(LONGEST_WAIT, |settle| settle.checked_div(2).unwrap_or(settle))
            .min(LONGEST_WAIT);
        let settings = Settings {
            wait: shortest.checked_div(4).unwrap_or(shortest).min(noticed),
            patience: staleness.first().copied().unwrap_or(MAX_STALENESS),
            settle: self.settle,
            reconcile_every: self.reconcile_every,
            clock_skew: self.clock_skew,
            on_stale: self.on_stale,
            when_missing: self.when_missing,
        };
        let replica = Arc::new(Replica::new(self.logs.len()));
        if let Some(max_entries) = self.max_entries {
            replica.set_max_entries(max_entries);
        }
        let sources = self.logs.into_iter().map(|(log, _)| Source {
            name: log.name().into_owned(),
            log,
            unsaved: Unsaved::default(),
            position: Mutex::new(None),
            heard: Mutex::default(),
            strict: Strict::default(),
            errors: [Mutex::new(None), Mutex::new(None)],
        });
        let sources: Vec<Source> = sources.collect();
        let shared = Shared::new(replica, sources, &staleness, settings, self.clock);
        let shared = Arc::new(shared);
        let list = RevocationList::following(Arc::clone(&shared));
        // Dropping the list on the way out ends what was started.
        start(&shared)?;
        Ok(list)
    }

    fn validate(&self) -> Result<(), Error> {
        let refuse = |advice: &str| Err(Error::config(format!("revocation.{advice}")));
        for (_, max_staleness) in &self.logs {
            if *max_staleness < SECOND || *max_staleness > HOUR {
                return refuse("max_staleness: must be 1 s to 1 h");
            }
        }
        if self.settle.is_some_and(|settle| settle > Duration::from_secs(600)) {
            return refuse("settle: must be at most 10 min");
        }
        if self.reconcile_every < SECOND || self.reconcile_every > DAY {
            return refuse("reconcile_every: must be 1 s to 1 d");
        }
        if self.max_entries.is_some_and(|entries| entries == 0) {
            return refuse("max_entries: must be 1 or more");
        }
        Ok(())
    }
}

impl fmt::Debug for RevocationListBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.logs.iter().map(|(log, _)| log.name().into_owned()).collect();
        f.debug_struct("RevocationListBuilder").field("logs", &names).finish_non_exhaustive()
    }
}

const MAX_STALENESS: Duration = Duration::from_secs(30);
/// A lost log is noticed after so long at the latest, which is what `settle` counts on.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// How long the start waits for the first reading.
const START: Duration = Duration::from_secs(5);

fn start(shared: &Arc<Shared>) -> Result<(), Error> {
    let mut firsts = Vec::new();
    for log in 0..shared.sources.len() {
        let first = Arc::new(Outcome::default());
        firsts.push(Arc::clone(&first));
        spawn("revoke-read", shared, move |shared| follower::follow(shared, log, &first))?;
        spawn("revoke-write", shared, move |shared| writer::write(shared, log))?;
        spawn("revoke-strict", shared, move |shared| catch_up::read_ahead(shared, log))?;
    }
    spawn("revoke-clock", shared, keep_time)?;
    let until = monotonic().checked_add(START).unwrap_or_else(monotonic);
    for first in firsts {
        match first.wait_for(until.saturating_duration_since(monotonic())) {
            Some(Err(error)) if error.kind() == ErrorKind::Config => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The thread that lets nothing wait for a log: neither a receipt, nor the end of the freshness.
fn keep_time(shared: &Shared) {
    let home = shared.source(super::replica::HOME).map_or("", |source| source.name.as_str());
    while !shared.is_closed() || shared.promises.any() {
        let next = shared.freshness.expire();
        shared.promises.keep(next, home);
    }
}

fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    run: impl FnOnce(&Shared) + Send + 'static,
) -> Result<(), Error> {
    let shared = Arc::clone(shared);
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || run(&shared)).map(drop).map_err(|error| {
        Error::with_detail(ErrorKind::Backend, format!("cannot start a thread: {error}"))
    })
}
