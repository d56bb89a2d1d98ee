//! A log in memory whose calls a test answers in its own way.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "helpers of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sealed_session::revocation::{
    Cursor, Lineage, MemoryLog, Page, Revocation, RevocationLog, WhenMissing,
};
use sealed_session::{
    Error, Keys, Limits, Map, Policy, RevocationList, SessionManager, SessionManagerBuilder, SignIn,
};

use crate::common::DAY;

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not come: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What a log answers that cannot be reached.
pub fn away() -> Error {
    Error::backend("away")
}

/// Something that a test turns on and off while the threads of a list look at it. Off at first.
#[derive(Clone, Debug, Default)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    pub fn set(&self, on: bool) {
        self.0.store(on, Ordering::SeqCst);
    }

    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Turns it off. Whether it was on: of several who ask, one hears so.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }

    pub fn wait_until_off(&self) {
        eventually("it is turned off", || !self.is_on());
    }
}

type Read = dyn Fn(&MemoryLog, Option<&Cursor>, Duration) -> Result<Page, Error> + Send + Sync;
type Append = dyn Fn(&MemoryLog, &[Revocation]) -> Result<(), Error> + Send + Sync;
type Settle = dyn Fn() -> Duration + Send + Sync;

/// One instance's way to a log in memory. Clones are one.
#[derive(Clone)]
pub struct HookedLog {
    log: MemoryLog,
    read: Arc<Read>,
    append: Arc<Append>,
    settle: Arc<Settle>,
}

impl HookedLog {
    /// A way with nothing in it.
    pub fn to(log: &MemoryLog) -> Self {
        Self {
            log: log.clone(),
            read: Arc::new(MemoryLog::read),
            append: Arc::new(MemoryLog::append),
            settle: Arc::new(|| Duration::ZERO),
        }
    }

    pub fn on_read(
        mut self,
        read: impl Fn(&MemoryLog, Option<&Cursor>, Duration) -> Result<Page, Error>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.read = Arc::new(read);
        self
    }

    pub fn on_append(
        mut self,
        append: impl Fn(&MemoryLog, &[Revocation]) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        self.append = Arc::new(append);
        self
    }

    pub fn on_settle(mut self, settle: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        self.settle = Arc::new(settle);
        self
    }

    /// Reads fail for as long as the switch is off.
    pub fn unread_until(self, up: &Switch) -> Self {
        let up = up.clone();
        self.on_read(
            move |log, after, wait| {
                if up.is_on() { log.read(after, wait) } else { Err(away()) }
            },
        )
    }

    /// One reading fails each time the switch is turned on, so that all is read again and compared.
    pub fn failing_once(self, fails: &Switch) -> Self {
        let fails = fails.clone();
        self.on_read(move |log, after, wait| {
            if after.is_some() && fails.take() {
                return Err(away());
            }
            log.read(after, wait.min(Duration::from_millis(50)))
        })
    }

    /// Appends fail for as long as the switch is on.
    pub fn unwritten_while(self, down: &Switch) -> Self {
        let down = down.clone();
        self.on_append(move |log, facts| if down.is_on() { Err(away()) } else { log.append(facts) })
    }

    /// Readings that wait see nothing for as long as the switch is on. Those of strict requests do.
    pub fn unseen_by_the_follower_while(self, held: &Switch) -> Self {
        let held = held.clone();
        self.on_read(move |log, after, wait| {
            let (Some(after), false) = (after, wait.is_zero()) else {
                return log.read(after, wait);
            };
            let began = Instant::now();
            loop {
                let page = log.read(Some(after), Duration::ZERO)?;
                let unseen = held.is_on();
                if !unseen && !page.facts().is_empty() {
                    return Ok(page);
                }
                if began.elapsed() >= wait {
                    return Ok(Page::new(page.lineage(), after.clone()));
                }
                thread::sleep(Duration::from_millis(2));
            }
        })
    }
}

impl RevocationLog for HookedLog {
    fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        (self.append)(&self.log, facts)
    }

    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        (self.read)(&self.log, after, wait)
    }

    fn settle(&self) -> Duration {
        (self.settle)()
    }
}

/// The same page of a log that was made, and whose server was started, so long ago.
pub fn aged(page: &Page, made: Duration, started: Duration) -> Page {
    let now = SystemTime::now();
    let before = |ago: Duration| now.checked_sub(ago).unwrap();
    let lineage = Lineage::new(page.lineage().id(), before(made), now).started(before(started));
    let mut aged = Page::new(lineage, page.cursor().clone()).with_more(page.has_more());
    page.facts().iter().for_each(|fact| aged.push(&fact.to_bytes()));
    aged
}

/// A list that starts with nothing on a new log.
pub fn list(log: impl RevocationLog) -> RevocationList {
    RevocationList::builder(log).when_missing(WhenMissing::StartEmpty).build().unwrap()
}

/// The same, once it can answer and its log has all there is to write.
pub fn settled(log: impl RevocationLog) -> RevocationList {
    let list = list(log);
    eventually("fresh", || list.is_fresh() && list.status().unsaved == 0);
    list
}

pub fn builder(keys: &Keys, list: &RevocationList) -> SessionManagerBuilder {
    SessionManager::builder("shop", keys.clone()).revocations(list.clone())
}

pub fn manager(keys: &Keys, list: &RevocationList) -> SessionManager {
    builder(keys, list).build().unwrap()
}

pub fn issue(sessions: &SessionManager) -> String {
    sessions.bearer::<Map>().issue("alice").unwrap()
}

/// Whether a token opens.
pub fn lives(sessions: &SessionManager, token: &str) -> bool {
    sessions.bearer::<Map>().open(token).is_ok()
}

/// Remembered sessions live for so many days.
pub fn days(days: u32) -> Policy {
    Policy::default().remember(Limits { absolute_timeout: DAY * days, idle_timeout: None })
}

/// How many days a remembered session lives that is sealed now.
pub fn days_sealed(sessions: &SessionManager) -> u64 {
    let bearer = sessions.bearer::<Map>();
    let opened = bearer.open(&bearer.issue(SignIn::new("alice").remember()).unwrap()).unwrap();
    let life = opened.expires_at().duration_since(opened.issued_at()).unwrap();
    life.as_secs() / DAY.as_secs()
}
