//! Several instances of one application.

#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use sealed_session::{
    Clock as _, Event, KeyRing, ManualClock, RevocationList, SessionManager, SessionManagerBuilder,
};

/// Instances that share a clock, a revocation list and a log, each with a ring of its own.
pub(crate) struct Fleet {
    pub(crate) clock: ManualClock,
    pub(crate) list: RevocationList,
    log: Arc<Mutex<Vec<String>>>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self {
            clock: super::common::clock(),
            list: RevocationList::in_process(),
            log: Arc::default(),
        }
    }

    pub(crate) fn builder(&self, ring: &str) -> SessionManagerBuilder {
        let ring: KeyRing = ring.parse().unwrap();
        let log = Arc::clone(&self.log);
        SessionManager::builder("shop", ring)
            .clock(self.clock.clone())
            .revocations(self.list.clone())
            .observer(move |event: &Event<'_>| {
                // What the sessions do: each instance starts with a ring.
                if !matches!(event, Event::KeyRingLoaded { .. }) {
                    log.lock().unwrap().push(format!("{event:?}"));
                }
            })
    }

    pub(crate) fn instance(&self, ring: &str) -> SessionManager {
        self.builder(ring).build().unwrap()
    }

    /// The events since the last call.
    pub(crate) fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

/// A fresh key, as a line without dates.
pub(crate) fn key() -> String {
    KeyRing::generate().unwrap().expose_text().lines().nth(1).unwrap().to_owned()
}
