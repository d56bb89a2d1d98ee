//! When the thread that follows a key source wakes: at its time, or a little earlier if asked.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::KeyId;
use crate::clock::monotonic;

/// Between two loads, when tokens ask for them.
const PER_PROCESS: Duration = Duration::from_secs(5);
/// Between two loads because of one key id.
const PER_ID: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    closed: bool,
    /// When somebody wants a load, and none began since.
    asked: bool,
    loaded_at: Instant,
    /// Ids that asked lately. One is accepted for each load, so there are never many.
    recent: VecDeque<(KeyId, Instant)>,
}

impl Default for Alarm {
    fn default() -> Self {
        let recent = VecDeque::new();
        let state = State { closed: false, asked: false, loaded_at: monotonic(), recent };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Alarm {
    /// Asks for a load, unless one is asked for already or this id had one lately. Never waits.
    pub(super) fn ask_for(&self, id: KeyId) {
        // Where somebody else holds it, a request for a load is on its way, or the next one comes.
        let Ok(mut state) = self.state.try_lock() else { return };
        if state.accept(id, monotonic()) {
            self.changed.notify_all();
        }
    }

    /// Notes that a load begins: who asks from now on may mean something newer than it will see.
    pub(super) fn begin(&self) {
        self.state().asked = false;
    }

    /// Notes that a load has ended.
    pub(super) fn end(&self) {
        self.state().loaded_at = monotonic();
    }

    /// Ends the thread that waits.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Waits until a load is due, `poll_after` after the last one or earlier; false when closed.
    pub(super) fn wait(&self, poll_after: Duration) -> bool {
        let mut state = self.state();
        loop {
            if state.closed {
                return false;
            }
            let left = state.left(poll_after, monotonic());
            if left.is_zero() {
                return true;
            }
            state = match self.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn accept(&mut self, id: KeyId, now: Instant) -> bool {
        let lately = |since: &Instant| now.saturating_duration_since(*since) < PER_ID;
        self.recent.retain(|(_, since)| lately(since));
        if self.asked || self.recent.iter().any(|(other, _)| *other == id) {
            return false;
        }
        self.recent.push_back((id, now));
        self.asked = true;
        true
    }

    /// How long until the next load.
    fn left(&self, poll_after: Duration, now: Instant) -> Duration {
        let after = if self.asked { poll_after.min(PER_PROCESS) } else { poll_after };
        after.saturating_sub(now.saturating_duration_since(self.loaded_at))
    }
}
