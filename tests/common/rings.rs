//! Texts of key rings, and a source of them that a test sets.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use sealed_session::{Error, Event, KeyId, KeyRing, KeySource, KeyState, Observer, Zeroizing};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A fresh key, as a line without dates.
pub fn key() -> String {
    KeyRing::generate().unwrap().expose_text().lines().nth(1).unwrap().to_owned()
}

pub fn date(at: SystemTime) -> String {
    OffsetDateTime::from(at).replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap()
}

/// A date so many seconds from now on; before now if negative.
pub fn in_seconds(seconds: i64) -> String {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    date(if seconds < 0 { now - by } else { now + by })
}

/// The id of a key, by its line.
pub fn id(line: &str) -> KeyId {
    let key = line.split(' ').next().unwrap();
    key.parse::<KeyRing>().unwrap().status(SystemTime::now())[0].id()
}

/// Ids and states of a ring's keys, in the order of its lines.
pub fn states(ring: &KeyRing, now: SystemTime) -> Vec<(KeyId, KeyState)> {
    ring.status(now).iter().map(|key| (key.id(), key.state())).collect()
}

/// A source that gives what it is told to.
#[derive(Clone)]
pub struct Desk {
    answer: Arc<Mutex<Result<String, String>>>,
    loads: Arc<Mutex<usize>>,
}

impl Desk {
    pub fn new(text: &str) -> Self {
        Self { answer: Arc::new(Mutex::new(Ok(text.to_owned()))), loads: Arc::default() }
    }

    pub fn put(&self, text: &str) {
        *self.answer.lock().unwrap() = Ok(text.to_owned());
    }

    pub fn fail(&self, reason: &str) {
        *self.answer.lock().unwrap() = Err(reason.to_owned());
    }

    /// How often it was read.
    pub fn loads(&self) -> usize {
        *self.loads.lock().unwrap()
    }
}

impl KeySource for Desk {
    fn load(&self) -> Result<Zeroizing<String>, Error> {
        *self.loads.lock().unwrap() += 1;
        self.answer.lock().unwrap().clone().map(Zeroizing::new).map_err(Error::backend)
    }

    fn name(&self) -> String {
        "the desk".into()
    }
}

/// What keys did, as the `Debug` text of the events.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// The events since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// The names of the events since the last call.
    pub fn names(&self) -> Vec<String> {
        self.take().iter().map(|text| text.split(' ').next().unwrap().to_owned()).collect()
    }

    pub fn observer(&self) -> impl Observer {
        let log = Arc::clone(&self.0);
        move |event: &Event<'_>| log.lock().unwrap().push(format!("{event:?}"))
    }
}
