//! Time: the only place that reads the system clock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Tells the time. The default is [`SystemClock`]; tests inject a [`ManualClock`].
///
/// It is asked under locks of this crate, so it must not block, nor call back into a session.
pub trait Clock: Send + Sync + 'static {
    /// The present instant. Sessions count in milliseconds; what is finer is dropped.
    fn now(&self) -> SystemTime;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The clock that nobody sets: for how long to wait, never for when something ends.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// A clock that stands still until told otherwise: for tests, of this crate and of applications.
///
/// Clones share one time.
///
/// ```
/// # use sealed_session::{Clock, ManualClock};
/// # use std::time::Duration;
/// let clock = ManualClock::new(std::time::SystemTime::UNIX_EPOCH);
/// clock.clone().advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that shows `now`, to the millisecond. Times before 1970 count as 1970.
    pub fn new(now: SystemTime) -> Self {
        Self { now: Arc::new(AtomicU64::new(Timestamp::from_system(now).as_millis())) }
    }

    /// Moves the clock ahead, by whole milliseconds.
    pub fn advance(&self, by: Duration) {
        self.set(Timestamp(self.now.load(Ordering::SeqCst)).plus(by).to_system());
    }

    /// Sets the clock, ahead or back.
    pub fn set(&self, now: SystemTime) {
        self.now.store(Timestamp::from_system(now).as_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        Timestamp(self.now.load(Ordering::SeqCst)).to_system()
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, never beyond what 48 bits hold (the year 10889).
/// Arithmetic saturates at both ends: a limit can be pushed out of reach, never wrapped round.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Timestamp(u64);

impl Timestamp {
    pub(crate) const MAX: Self = Self((1 << 48) - 1);

    pub(crate) const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.0 { Self::MAX } else { Self(millis) }
    }

    pub(crate) fn from_system(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self::from_millis(millis(since))
    }

    pub(crate) const fn as_millis(self) -> u64 {
        self.0
    }

    pub(crate) fn to_system(self) -> SystemTime {
        // 48 bits of milliseconds are within every platform's SystemTime.
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_millis(self.0))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(crate) fn plus(self, by: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(millis(by)))
    }

    pub(crate) fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }

    /// The same instant, or the next whole second: dates in a key ring have no finer.
    pub(crate) const fn whole_second(self) -> Self {
        Self::from_millis(self.0.div_ceil(1000).saturating_mul(1000))
    }

    /// The time from `earlier` to `self`, zero when `earlier` is later.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
