//! The outcome of a revocation, which is known only later.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;

/// Tells when a revocation is in force everywhere.
///
/// Where it was called for, it is in force already. Awaiting a receipt, or [`wait`](Self::wait),
/// gives `Ok` once a shared list has it durably; it need not be awaited, and the layers of this
/// crate do so by themselves before they send the headers. Other instances refuse the sessions
/// milliseconds later, and in any case within the list's `max_staleness`: one that cannot learn of
/// it by then lets nobody in.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// None where there was nothing to wait for.
    outcome: Option<Arc<Outcome>>,
    reaches_copies: bool,
}

impl Receipt {
    pub(crate) const fn done(reaches_copies: bool) -> Self {
        Self { outcome: None, reaches_copies }
    }

    pub(super) const fn pending(outcome: Arc<Outcome>) -> Self {
        Self { outcome: Some(outcome), reaches_copies: true }
    }

    /// Whether copies of the ended sessions are refused from now on. False without a revocation
    /// list: then only this visitor's cookie was changed, and copies live until their limits.
    pub const fn reaches_copies(&self) -> bool {
        self.reaches_copies
    }

    /// Blocks until the outcome is known, about 2 s at most. Not for a thread that runs futures:
    /// there, await the receipt.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`] when a shared list did not confirm. The revocation stays in force here
    /// and is retried until the process ends.
    pub fn wait(&self) -> Result<(), Error> {
        self.outcome.as_ref().map_or(Ok(()), |outcome| outcome.wait())
    }
}

impl Future for Receipt {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.outcome {
            Some(outcome) => outcome.poll(context),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// What becomes of something: told once, to whoever asks.
#[derive(Default)]
pub(super) struct Outcome {
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Default)]
struct State {
    result: Option<Result<(), Error>>,
    waiting: Vec<Waker>,
}

impl Outcome {
    /// Tells the outcome. Only the first one counts.
    pub(super) fn tell(&self, result: Result<(), Error>) {
        let mut state = self.state();
        if state.result.is_some() {
            return;
        }
        state.result = Some(result);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.told.notify_all();
        for waker in waiting {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
        }
    }

    pub(super) fn wait(&self) -> Result<(), Error> {
        let mut state = self.state();
        loop {
            if let Some(result) = &state.result {
                return result.clone();
            }
            state = self.told.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Like `wait`, but gives up; then None.
    pub(super) fn wait_for(&self, patience: Duration) -> Option<Result<(), Error>> {
        let state = self.state();
        let untold = |state: &mut State| state.result.is_none();
        let waited = self.told.wait_timeout_while(state, patience, untold);
        waited.unwrap_or_else(PoisonError::into_inner).0.result.clone()
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state();
        if let Some(result) = &state.result {
            return Poll::Ready(result.clone());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().result.fmt(f)
    }
}
