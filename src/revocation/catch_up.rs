//! Reading ahead of the follower, for those who cannot wait for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::follower::{self, Reader};
use super::receipt::Outcome;
use super::shared::Shared;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;

/// Tells when a list has read what was revoked before [`RevocationList::catch_up`] was called.
///
/// [`RevocationList::catch_up`]: crate::RevocationList::catch_up
#[derive(Debug)]
#[must_use = "a list has caught up only once this says so"]
pub struct CatchUp {
    outcomes: Vec<Arc<Outcome>>,
}

impl CatchUp {
    /// Asks all logs of a list.
    pub(super) fn ask(shared: &Shared) -> Self {
        let ask = |source: &super::shared::Source| {
            let outcome = Arc::new(Outcome::default());
            shared.promises.add(&outcome, "it gave no answer within 2 s");
            source.strict.ask(&outcome);
            outcome
        };
        Self { outcomes: shared.sources.iter().map(ask).collect() }
    }

    /// There is nothing to read.
    pub(super) const fn done() -> Self {
        Self { outcomes: Vec::new() }
    }

    /// Blocks until it is done, about 2 s at most. Not for a thread that runs futures: there, await
    /// it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`] when a log cannot be read.
    pub fn wait(&self) -> Result<(), Error> {
        self.outcomes.iter().try_for_each(|outcome| outcome.wait())
    }
}

impl Future for CatchUp {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        for outcome in &self.outcomes {
            ready!(outcome.poll(context))?;
        }
        Poll::Ready(Ok(()))
    }
}

/// Those who wait for a reading of one log. All who come while one is under way share the next.
#[derive(Default)]
pub(super) struct Strict {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Arc<Outcome>>,
    closed: bool,
}

impl Strict {
    fn ask(&self, outcome: &Arc<Outcome>) {
        self.state().waiting.push(Arc::clone(outcome));
        self.changed.notify_one();
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn take(&self) -> Option<Vec<Arc<Outcome>>> {
        let mut state = self.state();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut state.waiting))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread.
pub(super) fn read_ahead(shared: &Shared, log: usize) {
    let Some(source) = shared.source(log) else { return };
    while let Some(waiting) = source.strict.take() {
        let result = catch_up(shared, log).map_err(|error| error.at(&source.name));
        for outcome in waiting {
            outcome.tell(result.clone());
        }
    }
}

fn catch_up(shared: &Shared, log: usize) -> Result<(), Error> {
    let position = shared.source(log).map(|source| {
        let position = source.position.lock().unwrap_or_else(PoisonError::into_inner);
        position.clone()
    });
    // The follower is at it, and goes on from an error as only it can.
    let out_of_step = || Error::backend("it was not read whole yet, or cannot be read");
    let mut position = position.flatten().ok_or_else(out_of_step)?;
    loop {
        let asked = shared.now();
        let page = follower::read(shared, log, Some(&position.cursor), Duration::ZERO)?;
        let before = position.cursor.clone();
        let ready = follower::guarded(|| {
            follower::take_in(shared, log, &mut position, &page, asked, Reader::Ahead)
        })?;
        if page.more && (shared.is_closed() || before == page.cursor) {
            return Err(out_of_step());
        }
        if !page.more {
            return if ready { Ok(()) } else { Err(out_of_step()) };
        }
    }
}
