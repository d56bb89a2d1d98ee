//! Rotation: which ring comes after this one, and what is wrong with a ring or due.
//!
//! Nothing here runs in a server: servers read rings, and whoever keeps the text writes them.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::draft::{Draft, dated, successor};
use super::ring::Entry;
use super::text::{Date, MAX_KEYS};
use super::{Key, KeyId, KeyRing};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::policy::Policy;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// Places in a ring that a rotation leaves free, so that keys can be revoked at any time: for a
/// fresh active key, one for servers whose clock is behind, and one that waits.
const RESERVE: usize = 3;
/// A key that is to seal at once seals since a day ago: so that it does on every server, be its clock
/// behind or the clock of whoever made the key set by the wrong zone.
pub(crate) const HEAD_START: Duration = DAY;

/// How keys follow each other: when a new one seals, and how long the old one still opens.
///
/// | setting | default | |
/// |---|---|---|
/// | [`activation_delay`](Self::activation_delay) | 24 h | a new key seals this long after it was added |
/// | [`reload_lag`](Self::reload_lag) | 5 min | how late a server may notice |
/// | [`rotate_every`](Self::rotate_every) | 90 d | after this long the active key is due |
///
/// The rest follows from the [`Policy`]. An old key opens until its successor's `seal_from` +
/// `reload_lag` + 2 × `clock_skew` + 1 s + the longest time that a session lives without activity,
/// which is the idle limit or, where it is shorter or there is none, the absolute limit: with the
/// default policy 7 d. By then every session in use was sealed anew. Its line stays for as long as
/// the absolute limit of the last session sealed under it, so that a server which does not know a
/// key knows that its own ring is the older one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rotation {
    pub(super) activation_delay: Duration,
    pub(super) reload_lag: Duration,
    pub(super) rotate_every: Duration,
    pub(super) clock_slack: Duration,
    pub(super) longest_unused: Duration,
    pub(super) longest: Duration,
}

impl Rotation {
    /// The rotation for sessions under this policy, with the defaults above.
    ///
    /// Where several applications share a ring, take the one with the longest limits.
    pub fn new(policy: &Policy) -> Self {
        Self {
            activation_delay: DAY,
            reload_lag: MINUTE.saturating_mul(5),
            rotate_every: DAY.saturating_mul(90),
            clock_slack: policy.slack(),
            longest_unused: policy.longest_unused(),
            longest: policy.longest(),
        }
    }

    /// Sets how long a new key waits until it seals: longer, by 2 × `clock_skew`, than it takes to
    /// bring the new text to every server. A server that does not have the key by then treats those who come with a
    /// session under it as anonymous, until it has.
    #[must_use]
    pub fn activation_delay(self, activation_delay: Duration) -> Self {
        Self { activation_delay, ..self }
    }

    /// Sets how long a server goes on sealing under an old key after the new one should have taken
    /// over.
    #[must_use]
    pub fn reload_lag(self, reload_lag: Duration) -> Self {
        Self { reload_lag, ..self }
    }

    /// Sets how old the active key gets until [`KeyRing::check`] calls a rotation due.
    #[must_use]
    pub fn rotate_every(self, rotate_every: Duration) -> Self {
        Self { rotate_every, ..self }
    }

    /// How long a new key waits, how late a server may notice, and when the active key is due.
    #[cfg(feature = "cli")]
    pub(crate) const fn delays(&self) -> [Duration; 3] {
        [self.activation_delay, self.reload_lag, self.rotate_every]
    }

    /// How long a new key has to wait at least, where servers read their source this often: they are
    /// to have had two chances, whatever their clocks.
    pub(crate) fn shortest_delay(&self, poll_every: Duration) -> Duration {
        poll_every.saturating_mul(2).saturating_add(self.clock_slack)
    }

    /// How long a key opens beyond the `seal_from` of its successor.
    pub(crate) fn overlap(&self) -> Duration {
        let lag = self.reload_lag.saturating_add(self.clock_slack);
        lag.saturating_add(self.longest_unused)
    }
}

impl Default for Rotation {
    /// The rotation for the default policy.
    fn default() -> Self {
        Self::new(&Policy::default())
    }
}

/// What a rotation did to a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RingChange {
    /// This key was added.
    Added(KeyId),
    /// This key was marked revoked.
    Revoked(KeyId),
    /// The date at which this key stops opening was set or moved.
    OpenUntil(KeyId),
    /// This key was taken out: it expired or was revoked, and no session under it can be alive.
    Dropped(KeyId),
}

impl fmt::Display for RingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(id) => write!(f, "added {id}"),
            Self::Revoked(id) => write!(f, "revoked {id}"),
            Self::OpenUntil(id) => write!(f, "set open_until of {id}"),
            Self::Dropped(id) => write!(f, "dropped {id}"),
        }
    }
}

/// What is wrong with a ring that can be used, or due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RingFinding {
    /// The active key is old, or of unknown age because it has no `seal_from`: rotate.
    #[non_exhaustive]
    RotationDue {
        /// The active key.
        key: KeyId,
        /// Since when it seals.
        since: Option<SystemTime>,
    },
    /// This key ends while sessions sealed under it are in use: they are signed out.
    #[non_exhaustive]
    EndsEarly {
        /// The key.
        key: KeyId,
        /// When it has to open at least until.
        needed: SystemTime,
    },
    /// This key has a successor and never ends.
    #[non_exhaustive]
    NeverEnds {
        /// The key.
        key: KeyId,
        /// When it may end.
        enough: SystemTime,
    },
    /// No session can be alive under this key, and the next rotation takes it out.
    #[non_exhaustive]
    Droppable {
        /// The key.
        key: KeyId,
    },
}

impl fmt::Display for RingFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = |at: &SystemTime| Date(Timestamp::from_system(*at));
        match self {
            Self::RotationDue { key, since: Some(since) } => {
                write!(f, "key {key} seals since {}: rotate", date(since))
            }
            Self::RotationDue { key, since: None } => {
                write!(f, "key {key} has no seal_from, so its age is unknown: rotate")
            }
            Self::EndsEarly { key, needed } => {
                write!(
                    f,
                    "key {key} ends while sessions under it are in use: set open_until={}",
                    date(needed)
                )
            }
            Self::NeverEnds { key, enough } => {
                write!(
                    f,
                    "key {key} has a successor and never ends: set open_until={}",
                    date(enough)
                )
            }
            Self::Droppable { key } => {
                write!(f, "key {key} is no longer needed: the next rotation takes it out")
            }
        }
    }
}

/// A ring after a rotation, and what the rotation did.
#[derive(Debug)]
pub struct Rotated {
    pub(super) ring: KeyRing,
    pub(super) changes: Vec<RingChange>,
}

impl Rotated {
    /// The new ring.
    pub const fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// What differs from the old one; nothing where there was nothing to do.
    pub fn changes(&self) -> &[RingChange] {
        &self.changes
    }
}

impl KeyRing {
    /// Returns this ring with a successor of the active key, which seals `activation_delay` from
    /// now, and without keys that nothing needs any more.
    ///
    /// This ring stays as it is. Doing it twice is as doing it once: while a key waits to seal, no
    /// other is added. Servers must have the new text before the new key seals.
    ///
    /// ```
    /// # use sealed_session::{KeyRing, KeyState, Rotation};
    /// # use std::time::SystemTime;
    /// let (rotation, now) = (Rotation::default(), SystemTime::now());
    /// let rotated = KeyRing::for_tests()?.rotate(&rotation, now)?;
    /// let states: Vec<_> = rotated.ring().status(now).iter().map(|key| key.state()).collect();
    ///
    /// assert_eq!(states, [KeyState::Active, KeyState::Pending]);
    /// assert!(rotated.ring().rotate(&rotation, now)?.changes().is_empty());
    /// # Ok::<(), sealed_session::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::KeyRing`](crate::ErrorKind::KeyRing) when no key is active now, or the ring is
    /// full: 13 keys, none of which may go. Three places are left for a leak.
    /// [`ErrorKind::Random`](crate::ErrorKind::Random) without random bytes.
    pub fn rotate(&self, rotation: &Rotation, now: SystemTime) -> Result<Rotated, Error> {
        let mut draft = Draft::new(self, rotation, now);
        self.seal_key(draft.now)?;
        draft.drop_unneeded();
        if !draft.has_pending() {
            // Without any delay it would seal at once, and a second rotation add another one.
            let delay = rotation.activation_delay.max(SECOND);
            draft.add(Key::generate()?, draft.now.plus(delay));
        }
        draft.finish(self, MAX_KEYS.saturating_sub(RESERVE))
    }

    /// Like [`rotate`](Self::rotate), but adds no key: for when the dates need mending and the
    /// active key is not old.
    #[cfg(feature = "cli")]
    pub(crate) fn mend(&self, rotation: &Rotation, now: SystemTime) -> Result<Rotated, Error> {
        let mut draft = Draft::new(self, rotation, now);
        self.seal_key(draft.now)?;
        draft.drop_unneeded();
        draft.finish(self, MAX_KEYS)
    }

    /// Returns this ring with keys marked revoked: every session sealed under them ends as soon as
    /// servers have read the text.
    ///
    /// Where the active key is among them, or none is active, a fresh key takes over at once: it
    /// seals since a day ago, so that it does on every server, if no clock is a day off. A revoked
    /// key that waited to seal is replaced. A full ring loses its oldest keys that no longer open,
    /// though they would have stayed listed for longer. Doing it twice is as doing it once, unless
    /// the full ring lost one of these keys: its id is refused then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::KeyRing`](crate::ErrorKind::KeyRing) for an id that is not in the ring, when no
    /// key has begun, or when the ring is full of keys that open.
    /// [`ErrorKind::Random`](crate::ErrorKind::Random) without random bytes.
    pub fn revoke_keys(
        &self,
        ids: &[KeyId],
        rotation: &Rotation,
        now: SystemTime,
    ) -> Result<Rotated, Error> {
        let mut draft = Draft::new(self, rotation, now);
        let active = match self.seal_key(draft.now) {
            Ok(key) => Some(key.id()),
            // It was marked by hand.
            Err(_) if self.revoked_has_begun(draft.now) => None,
            Err(error) => return Err(error),
        };
        let waited = draft.has_pending();
        for id in ids {
            draft.revoke(*id)?;
        }
        if active.is_none_or(|id| draft.changes.contains(&RingChange::Revoked(id))) {
            draft.add(Key::generate()?, draft.now.minus(HEAD_START));
        }
        // By a clock that is ahead a key may seem to have begun that waits on servers.
        if !draft.changes.is_empty() && !draft.begins_in_time() {
            draft.insert(Key::generate()?, draft.now.minus(HEAD_START));
        }
        if waited && !draft.has_pending() {
            let delay = rotation.activation_delay.max(SECOND);
            draft.add(Key::generate()?, draft.now.plus(delay));
        }
        draft.make_room(ids);
        draft.finish(self, MAX_KEYS)
    }

    /// Tells what is wrong with this ring at `now`, or due; nothing if all is well.
    pub fn check(&self, rotation: &Rotation, now: SystemTime) -> Vec<RingFinding> {
        let now = Timestamp::from_system(now);
        let draft = Draft::new(self, rotation, now.to_system());
        let mut findings = Vec::new();
        if let Ok(active) = self.seal_key(now)
            && !draft.has_pending()
        {
            let since = self.entry(active.id()).and_then(|entry| entry.seal_from);
            if since.is_none_or(|since| now.since(since) >= rotation.rotate_every) {
                let since = since.map(Timestamp::to_system);
                findings.push(RingFinding::RotationDue { key: active.id(), since });
            }
        }
        for entry in self.entries() {
            let key = entry.key.id();
            if draft.is_unneeded(entry) {
                findings.push(RingFinding::Droppable { key });
                continue;
            }
            let Some(needed) = self.needed(entry, rotation) else { continue };
            let date = needed.to_system();
            match entry.open_until {
                None => findings.push(RingFinding::NeverEnds { key, enough: date }),
                // What is over can be helped no more.
                Some(until) if until < needed && until > now => {
                    findings.push(RingFinding::EndsEarly { key, needed: date });
                }
                Some(_) => {}
            }
        }
        findings
    }

    fn revoked_has_begun(&self, now: Timestamp) -> bool {
        self.entries().iter().any(|entry| entry.revoked && entry.seal_from <= Some(now))
    }

    /// Until when a key has to open, if it has a successor.
    fn needed(&self, entry: &Entry, rotation: &Rotation) -> Option<Timestamp> {
        let successor = successor(self.entries(), entry).filter(|_| !entry.revoked)?;
        successor.seal_from.map(|from| dated(from.plus(rotation.overlap())))
    }
}
