//! A ring that follows its source while the process runs.
//!
//! One thread reads the source every half minute, and a little earlier when a token names a key
//! that the ring does not know. A text that cannot be used leaves the ring as it is.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use super::alarm::Alarm;
use super::{KeyId, KeyRing, KeySource, KeyState, KeyStatus, Keys};
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::error::{Error, ErrorKind};
use crate::random;

impl KeyRing {
    /// Loads the ring from `source`, and follows it from then on.
    ///
    /// The source is read again every 30 s, give or take 3 s so that a fleet does not do it all at
    /// once. It is read earlier where a token names a key that the ring does not know: at most once
    /// in 5 s, and for one key id once in 60 s. No request waits for it.
    ///
    /// What cannot be used leaves the ring as it is and is told as an event: whatever does not read
    /// as a ring, and a ring that is older than the present one, which shows in that it lacks a key
    /// that still opens, or has a key without `revoked` that this process knows as revoked. So is
    /// one in which the active key is over all at once and not `revoked`: a date is wrong.
    ///
    /// The thread is named `session-keys` and ends when the last handle is dropped. A process that
    /// forks has to call this after it forked.
    ///
    /// ```no_run
    /// # use sealed_session::{FileKeys, KeyRing, SessionManager};
    /// let keys = KeyRing::watch(FileKeys::new("session.keys"))?;
    /// let sessions = SessionManager::builder("shop", keys.clone()).build()?;
    /// keys.reload_now()?; // at a signal, say
    /// # Ok::<(), sealed_session::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// That of the source; [`ErrorKind::KeyRing`], with source and line, when its text is no ring or
    /// no key of it is active now.
    pub fn watch(source: impl KeySource) -> Result<WatchedKeys, Error> {
        Self::watch_every(source, POLL_EVERY)
    }

    /// Like [`watch`](Self::watch), but reads the source as often as `poll_every` says, 1 s to 1 d,
    /// give or take a tenth.
    ///
    /// # Errors
    ///
    /// Those of [`watch`](Self::watch), and [`ErrorKind::Config`] for a time out of that range.
    pub fn watch_every(source: impl KeySource, poll_every: Duration) -> Result<WatchedKeys, Error> {
        if poll_every < SHORTEST_POLL || poll_every > LONGEST_POLL {
            return Err(Error::config("keys.poll_every: must be 1 s to 1 d"));
        }
        WatchedKeys::start(Box::new(source), poll_every)
    }
}

/// A key ring that follows its source, from [`KeyRing::watch`]. Clones share it.
///
/// Give it to [`SessionManager::builder`](crate::SessionManager::builder), whose observers then hear
/// of every load. Keep a clone to ask it for its state, or to make it [reload](Self::reload_now).
#[derive(Clone)]
pub struct WatchedKeys {
    watch: Arc<Watch>,
}

impl WatchedKeys {
    /// Reads the source now, on this thread, and waits for it. For a signal handler or an
    /// administrator's button, not for an observer: each reading would cause the next.
    ///
    /// # Errors
    ///
    /// Those of [`KeyRing::watch`], and [`ErrorKind::KeyRing`] for an older ring. The ring is left as
    /// it was.
    pub fn reload_now(&self) -> Result<(), Error> {
        self.watch.load()
    }

    /// The ring as it is now.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.watch.ring.load_full()
    }

    /// When the source was last read without an error. A source that cannot change, such as an
    /// environment variable, counts as read.
    pub fn checked_at(&self) -> SystemTime {
        self.watch.status().checked_at
    }

    /// Why the last reading failed; None if it did not.
    pub fn last_error(&self) -> Option<Error> {
        self.watch.status().error.clone()
    }

    /// Has the source read soon, because a token came under a key that the ring does not know.
    /// Never waits.
    pub(super) fn ask_for(&self, id: KeyId) {
        self.watch.alarm.ask_for(id);
    }

    /// Tells `listener` how things stand, and then of every reading until it answers false.
    pub(super) fn listen(&self, listener: Listener) {
        let watch = &self.watch;
        // Before the state is read, so that no reading is missed. One may be told twice.
        let listener: SharedListener = listener.into();
        locked(&watch.listeners).push(Arc::clone(&listener));
        let (warning, error) = {
            let status = watch.status();
            (status.warning.clone(), status.error.clone())
        };
        listener(&KeyNews::Loaded { ring: &self.ring(), changed: true, recovered: false });
        if let Some(warning) = &warning {
            listener(&KeyNews::Warning(warning));
        }
        if let Some(error) = &error {
            listener(&KeyNews::Failed(error));
        }
    }

    fn start(source: Box<dyn KeySource>, poll_every: Duration) -> Result<Self, Error> {
        let mut loader = Loader { source, revoked: HashSet::new() };
        let now = SystemClock.now();
        let Loaded { ring, warning } = loader.load(None, Timestamp::from_system(now))?;
        let alarm = Arc::new(Alarm::default());
        let watch = Arc::new(Watch {
            ring: Arc::new(ArcSwap::from_pointee(ring)),
            loader: Mutex::new(loader),
            status: Mutex::new(Status { checked_at: now, warning, error: None }),
            listeners: Mutex::default(),
            alarm: Arc::clone(&alarm),
        });
        let follower = Follower { watch: Arc::downgrade(&watch), alarm, poll_every };
        let thread = thread::Builder::new().name("session-keys".to_owned());
        thread.spawn(move || follower.run()).map_err(|error| {
            Error::with_detail(ErrorKind::KeyRing, format!("cannot start a thread: {error}"))
        })?;
        Ok(Self { watch })
    }
}

impl From<WatchedKeys> for Keys {
    fn from(watched: WatchedKeys) -> Self {
        Self { ring: Arc::clone(&watched.watch.ring), watched: Some(watched) }
    }
}

impl fmt::Debug for WatchedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedKeys").field("ring", &self.ring()).finish_non_exhaustive()
    }
}

/// What a reading of the source brought.
pub(crate) enum KeyNews<'a> {
    /// A ring that can be used, other than the one before or not, after a failure or not.
    Loaded { ring: &'a KeyRing, changed: bool, recovered: bool },
    /// What could be safer about the source.
    Warning(&'a str),
    /// The ring stays as it is.
    Failed(&'a Error),
}

/// Hears of each reading, and tells whether it wants to hear of the next.
pub(crate) type Listener = Box<dyn Fn(&KeyNews<'_>) -> bool + Send + Sync>;

type SharedListener = Arc<dyn Fn(&KeyNews<'_>) -> bool + Send + Sync>;

pub(crate) const POLL_EVERY: Duration = Duration::from_secs(30);
const SHORTEST_POLL: Duration = Duration::from_secs(1);
const LONGEST_POLL: Duration = Duration::from_secs(86_400);

struct Watch {
    ring: Arc<ArcSwap<KeyRing>>,
    loader: Mutex<Loader>,
    status: Mutex<Status>,
    listeners: Mutex<Vec<SharedListener>>,
    alarm: Arc<Alarm>,
}

struct Status {
    checked_at: SystemTime,
    warning: Option<String>,
    error: Option<Error>,
}

impl Watch {
    fn load(&self) -> Result<(), Error> {
        // One at a time, from the reading to the swap: else an older text could win.
        let mut loader = locked(&self.loader);
        let now = SystemClock.now();
        let current = self.ring.load_full();
        self.alarm.begin();
        let outcome = loader.load(Some(&current), Timestamp::from_system(now));
        self.alarm.end();
        match outcome {
            Err(error) => {
                self.status().error = Some(error.clone());
                drop(loader);
                self.tell(&KeyNews::Failed(&error));
                Err(error)
            }
            Ok(Loaded { ring, warning }) => {
                let changed = !ring.is_same(&current);
                if changed {
                    self.ring.store(Arc::new(ring));
                }
                let ring = self.ring.load_full();
                let status = Status { checked_at: now, warning: warning.clone(), error: None };
                let recovered = std::mem::replace(&mut *self.status(), status).error.is_some();
                drop(loader);
                self.tell(&KeyNews::Loaded { ring: &ring, changed, recovered });
                if let Some(warning) = warning.filter(|_| changed) {
                    self.tell(&KeyNews::Warning(&warning));
                }
                Ok(())
            }
        }
    }

    /// Outside of all locks, since a listener may do what it likes.
    fn tell(&self, news: &KeyNews<'_>) {
        let listeners = locked(&self.listeners).clone();
        for listener in listeners {
            // One that panics shall not keep the others from hearing.
            let stays = catch_unwind(AssertUnwindSafe(|| listener(news))).unwrap_or(true);
            if !stays {
                locked(&self.listeners).retain(|other| !Arc::ptr_eq(other, &listener));
            }
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        locked(&self.status)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.alarm.close();
    }
}

/// Reads the source and decides whether what it gave may follow the present ring.
struct Loader {
    source: Box<dyn KeySource>,
    /// All keys that were ever revoked here, even if their lines are gone.
    revoked: HashSet<KeyId>,
}

struct Loaded {
    ring: KeyRing,
    warning: Option<String>,
}

impl Loader {
    fn load(&mut self, current: Option<&KeyRing>, now: Timestamp) -> Result<Loaded, Error> {
        let text = match catch_unwind(AssertUnwindSafe(|| self.source.load())) {
            Ok(Err(error)) if error.kind() == ErrorKind::Backend => {
                return Err(error.at(&self.source.name()));
            }
            Ok(text) => text?,
            Err(_) => return Err(Error::backend("the key source panicked").at(&self.source.name())),
        };
        let ring = text.parse().and_then(|ring| self.judge(ring, current, now));
        let ring: KeyRing = ring.map_err(|error: Error| error.at(&self.source.name()))?;
        self.revoked.extend(ring.revoked());
        Ok(Loaded { ring, warning: self.source.warning() })
    }

    fn judge(
        &self,
        ring: KeyRing,
        current: Option<&KeyRing>,
        now: Timestamp,
    ) -> Result<KeyRing, Error> {
        ring.seal_key(now)?;
        let again = self.revoked.iter().find(|id| ring.is_unrevoked(**id));
        if let Some(id) = again {
            let detail = format!(
                "key {id} was revoked, and comes without `revoked`: an older ring, or the word was \
                 deleted; a running process takes no revocation back"
            );
            return Err(Error::with_detail(ErrorKind::KeyRing, detail));
        }
        let opens =
            |state| matches!(state, KeyState::Pending | KeyState::Active | KeyState::AcceptOnly);
        let old = current.map(|current| current.status(now.to_system())).unwrap_or_default();
        let new = ring.status(now.to_system());
        for key in old.iter().filter(|key| opens(key.state())) {
            let id = key.id();
            let wrong = match new.iter().find(|other| other.id() == id).map(KeyStatus::state) {
                None => {
                    "is missing, though it still opens: an older ring, another one, or its line was \
                     deleted; if the key is lost, restart"
                }
                // The end of a key that is superseded may well be moved, and pass before it is read.
                Some(KeyState::Expired) if key.state() == KeyState::Active => {
                    "is active and would end at once: its open_until lies in the past"
                }
                Some(_) => continue,
            };
            let detail = format!("key {id} {wrong}; to end it at once mark it `revoked`");
            return Err(Error::with_detail(ErrorKind::KeyRing, detail));
        }
        Ok(ring)
    }
}

/// The thread.
struct Follower {
    watch: Weak<Watch>,
    alarm: Arc<Alarm>,
    poll_every: Duration,
}

impl Follower {
    fn run(self) {
        while self.alarm.wait(self.next_poll()) {
            let Some(watch) = self.watch.upgrade() else { return };
            // Sources and observers are the application's, and may panic: the keys must be followed
            // all the same. What went wrong with the source was told already.
            let _ = catch_unwind(AssertUnwindSafe(|| watch.load()));
            // Also if it got no further: this loop must not turn without a pause.
            self.alarm.end();
        }
    }

    /// A tenth earlier or later, by chance.
    fn next_poll(&self) -> Duration {
        let [chance] = random::bytes::<1>().unwrap_or([128]);
        let tenth = self.poll_every.checked_div(10).unwrap_or_default();
        let jitter = tenth.saturating_mul(u32::from(chance)).checked_div(128).unwrap_or_default();
        self.poll_every.saturating_sub(tenth).saturating_add(jitter)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
