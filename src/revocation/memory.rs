//! A log in memory: for tests of several instances in one process.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Cursor, Lineage, Page, Revocation, RevocationLog};
use crate::clock::{Clock as _, SystemClock, monotonic};
use crate::error::Error;

/// A log in memory, for tests: clones share it, so that several lists in one process follow it as
/// several instances follow a backend.
///
/// An application of one process does not need it: [`RevocationList::in_process`] is that, without
/// threads.
///
/// [`RevocationList::in_process`]: super::RevocationList::in_process
///
/// ```
/// # use std::time::Duration;
/// # use sealed_session::revocation::{MemoryLog, RevocationLog};
/// let log = MemoryLog::new()?;
/// let page = log.clone().read(None, Duration::ZERO)?;
/// assert!(page.facts().is_empty());
/// # Ok::<(), sealed_session::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

struct Shared {
    kept: Mutex<Kept>,
    added: Condvar,
}

struct Kept {
    lineage: Lineage,
    facts: Vec<Revocation>,
    known: HashSet<Revocation>,
}

impl MemoryLog {
    /// An empty log.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Random`](crate::ErrorKind::Random).
    pub fn new() -> Result<Self, Error> {
        let kept = Mutex::new(Kept::new()?);
        Ok(Self { shared: Arc::new(Shared { kept, added: Condvar::new() }) })
    }

    /// Loses everything, as a server without persistence does that is started anew.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Random`](crate::ErrorKind::Random).
    pub fn wipe(&self) -> Result<(), Error> {
        *self.kept() = Kept::new()?;
        self.shared.added.notify_all();
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RevocationLog for MemoryLog {
    fn append(&self, facts: &[Revocation]) -> Result<(), Error> {
        let mut kept = self.kept();
        for fact in facts {
            if kept.known.insert(*fact) {
                kept.facts.push(*fact);
            }
        }
        drop(kept);
        self.shared.added.notify_all();
        Ok(())
    }

    fn read(&self, after: Option<&Cursor>, wait: Duration) -> Result<Page, Error> {
        let place = after.map(place_of).transpose()?;
        let began = monotonic();
        let mut kept = self.kept();
        while let Some((lineage, count)) = place
            && lineage == kept.lineage.id
            && count >= kept.facts.len()
        {
            let left = wait.saturating_sub(monotonic().saturating_duration_since(began));
            if left.is_zero() {
                break;
            }
            let waited = self.shared.added.wait_timeout(kept, left);
            kept = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let from = place.filter(|(lineage, _)| *lineage == kept.lineage.id).map_or(0, |(_, n)| n);
        let rest = kept.facts.get(from..).unwrap_or_default();
        let count = from.saturating_add(rest.len().min(PAGE));
        let cursor = [&kept.lineage.id[..], &count.to_be_bytes()].concat();
        let lineage = Lineage { now: now(), ..kept.lineage };
        let mut page = Page::new(lineage, Cursor::new(cursor)).with_more(rest.len() > PAGE);
        page.facts.extend(rest.iter().take(PAGE));
        Ok(page)
    }

    fn name(&self) -> Cow<'_, str> {
        "memory".into()
    }

    /// A wiped log is noticed at once.
    fn settle(&self) -> Duration {
        Duration::ZERO
    }
}

impl Kept {
    fn new() -> Result<Self, Error> {
        let lineage = Lineage { id: Lineage::new_id()?, born: now(), now: now(), started: None };
        Ok(Self { lineage, facts: Vec::new(), known: HashSet::new() })
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").field("facts", &self.kept().facts.len()).finish()
    }
}

const PAGE: usize = 10_000;

fn now() -> crate::clock::Timestamp {
    crate::clock::Timestamp::from_system(SystemClock.now())
}

fn place_of(cursor: &Cursor) -> Result<([u8; 16], usize), Error> {
    let foreign = || Error::backend("a cursor of another log");
    let (lineage, count) = cursor.as_bytes().split_first_chunk().ok_or_else(foreign)?;
    let count = count.try_into().map(usize::from_be_bytes).map_err(|_| foreign())?;
    Ok((*lineage, count))
}
