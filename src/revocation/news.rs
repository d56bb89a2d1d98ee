//! What happens to a list on its own threads, told to the managers that share it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::builder::WhenMissing;
use crate::error::Error;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) enum ListNews {
    /// A log was read: how many facts there are now, how many came, and how long they took.
    Fresh { entries: usize, added: usize, delay: Option<Duration> },
    /// All of a log was compared with what is known here.
    Reconciled { entries: usize, given_back: usize },
    /// A log was found empty that nobody could give anything back to.
    Missing { decision: WhenMissing },
    /// So many facts are in force here and not in their log yet.
    Unsaved { facts: usize },
    /// A log cannot be read or written.
    Failed(Error),
}

/// Hears of each, and tells whether it wants to hear of the next.
pub(crate) type Listener = Arc<dyn Fn(&ListNews) -> bool + Send + Sync>;

/// Everyone who listens.
#[derive(Default)]
pub(super) struct Listeners {
    all: Mutex<Vec<Listener>>,
}

impl Listeners {
    pub(super) fn add(&self, listener: Listener) {
        self.all().push(listener);
    }

    /// Outside of all locks, since a listener may do what it likes.
    pub(super) fn tell(&self, news: &ListNews) {
        let all = self.all().clone();
        for listener in all {
            // One that panics shall not keep the others from hearing.
            let stays = catch_unwind(AssertUnwindSafe(|| listener(news))).unwrap_or(true);
            if !stays {
                self.all().retain(|other| !Arc::ptr_eq(other, &listener));
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
