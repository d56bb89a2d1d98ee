//! The ring: which key seals, which ones open, and what is refused as a ring.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::{Key, KeyId, KeyState, KeyStatus, text};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};

/// The keys of an application, and from when until when each of them seals and opens.
///
/// Read from text, one key a line:
///
/// ```text
/// # newest last
/// sealsess_k1_<43 characters>_<6>   open_until=2026-12-07T00:32:00Z
/// sealsess_k1_<43 characters>_<6>   seal_from=2026-11-30T00:00:00Z
/// ```
///
/// `;` may stand for the end of a line, so that a ring fits into an environment variable. After a
/// key follow, each at most once: `seal_from=`, `open_until=`, both with a date as in RFC 3339, with
/// a zone and in whole seconds; and `revoked`. Give all instances the same text. What each key does
/// at an instant is its [`KeyState`], and follows from the dates alone; the order of lines says
/// nothing.
///
/// ```
/// # use sealed_session::{KeyRing, KeyState};
/// # use std::time::SystemTime;
/// let text = KeyRing::generate()?.expose_text(); // for a file with mode 0600
/// let ring: KeyRing = text.parse()?;
/// assert_eq!(ring.status(SystemTime::now())[0].state(), KeyState::Active);
/// # Ok::<(), sealed_session::Error>(())
/// ```
pub struct KeyRing {
    // One to MAX_KEYS, coherent as `validate` has it.
    entries: Vec<Entry>,
}

impl KeyRing {
    /// Generates a ring of one fresh key without dates.
    ///
    /// Write its [text](Self::expose_text) to a file with mode 0600 and load it from there. A ring
    /// that lives only in memory signs everybody out at the next start, and a second instance
    /// cannot open what the first one sealed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Random`] if the operating system gives no random bytes, and
    /// [`ErrorKind::KeyRing`] if what it gives is not random.
    pub fn generate() -> Result<Self, Error> {
        let (key, line) = (Key::generate()?, 1);
        let entry = Entry { key, line, seal_from: None, open_until: None, revoked: false };
        Self::checked(vec![entry])
    }

    /// Generates a ring of one fresh key that seals since `seal_from`, so that its age is known.
    #[cfg(feature = "cli")]
    pub(crate) fn generate_since(seal_from: Timestamp) -> Result<Self, Error> {
        let mut ring = Self::generate()?;
        ring.entries.iter_mut().for_each(|entry| entry.seal_from = Some(seal_from.whole_second()));
        Ok(ring)
    }

    /// Generates a ring for a test: a fresh key that is nowhere kept.
    ///
    /// # Errors
    ///
    /// Those of [`generate`](Self::generate).
    pub fn for_tests() -> Result<Self, Error> {
        Self::generate()
    }

    /// Reads a ring that may hold published keys: for running test vectors, and nothing else.
    ///
    /// Whoever can read this crate can forge any session under such a key.
    ///
    /// # Errors
    ///
    /// Those of [`from_str`](Self::from_str), except that a published key is accepted.
    pub fn insecure_published_keys(text: &str) -> Result<Self, Error> {
        Self::read(text, Published::Accepted)
    }

    /// Tells the state of every key at `now`, in the order of the lines.
    pub fn status(&self, now: SystemTime) -> Vec<KeyStatus> {
        let now = Timestamp::from_system(now);
        let status = |entry: &Entry| KeyStatus {
            id: entry.key.id(),
            state: self.state(entry, now),
            seal_from: entry.seal_from.map(Timestamp::to_system),
            open_until: entry.open_until.map(Timestamp::to_system),
        };
        self.entries.iter().map(status).collect()
    }

    /// A short name for what this ring says: 16 hexadecimal digits over the ids of its keys and
    /// their dates. Instances with the same ring show the same one, whatever the order of lines.
    ///
    /// It reveals nothing about the keys.
    pub fn fingerprint(&self) -> String {
        let mut lines: Vec<_> = self.entries.iter().map(|entry| format!("{entry:?}")).collect();
        lines.sort_unstable();
        let lines: Vec<_> = lines.iter().map(String::as_bytes).collect();
        let [first @ .., _, _, _, _, _, _, _, _] =
            super::digest16("sealed-session ring fingerprint", &lines);
        format!("{:016x}", u64::from_be_bytes(first))
    }

    /// Writes the ring as the text that it can be read from. Keep it secret: it is the keys.
    ///
    /// Reading it back gives the same keys in the same order with the same dates; comments and
    /// zones of the text that was read are not kept. The text is wiped from memory when dropped.
    pub fn expose_text(&self) -> Zeroizing<String> {
        text::print(&self.entries)
    }

    /// Writes the ring over the text that it comes from: comments and lines that need not change stay
    /// as they are.
    #[cfg(feature = "cli")]
    pub(crate) fn expose_text_over(&self, old: &str) -> Zeroizing<String> {
        let text = text::print_over(&self.entries, old);
        // A published key was refused when the old text was read, where that matters.
        match Self::read(&text, Published::Accepted) {
            Ok(ring) if ring.is_same(self) => text,
            _ => self.expose_text(),
        }
    }

    /// The active key.
    pub(crate) fn seal_key(&self, now: Timestamp) -> Result<&Key, Error> {
        self.active(now).map(|entry| &entry.key).ok_or_else(|| {
            let first = self.unrevoked().filter_map(|entry| entry.seal_from).min();
            let begins = text::Date(first.unwrap_or_default());
            let detail =
                format!("no key seals yet: set the clock right, or copy the whole text again; the first one begins at {begins}");
            Error::with_detail(ErrorKind::KeyRing, detail)
        })
    }

    /// The key of this id, if tokens under it may be opened. Allocates nothing.
    pub(crate) fn open_key(&self, id: KeyId, now: Timestamp) -> Result<&Key, ErrorKind> {
        match self.entry(id) {
            None => Err(ErrorKind::KeyUnknown),
            Some(entry) if entry.revoked => Err(ErrorKind::KeyRevoked),
            Some(entry) if entry.is_past(now) => Err(ErrorKind::KeyExpired),
            Some(entry) => Ok(&entry.key),
        }
    }

    /// Refuses a key that was revoked since something under it was opened, or that is gone: it may
    /// have been revoked before. One that expired since is no reason to lose the session: it was
    /// opened in time.
    pub(crate) fn check_revoked(&self, id: KeyId) -> Result<(), ErrorKind> {
        match self.entry(id) {
            None => Err(ErrorKind::KeyUnknown),
            Some(entry) if entry.revoked => Err(ErrorKind::KeyRevoked),
            Some(_) => Ok(()),
        }
    }

    /// Whether this is the key that seals: tokens under any other are sealed anew.
    pub(crate) fn is_active(&self, id: KeyId, now: Timestamp) -> bool {
        self.active(now).is_some_and(|entry| entry.key.id() == id)
    }

    /// Whether another key has taken over from this one: what it opens is sealed anew. Not so a
    /// pending key, whose tokens come from an instance with a clock ahead of ours.
    pub(crate) fn is_superseded(&self, id: KeyId, now: Timestamp) -> bool {
        let begun = |entry: &Entry| entry.key.id() == id && entry.seal_from <= Some(now);
        self.entries.iter().any(begun) && !self.is_active(id, now)
    }

    pub(super) fn is_unrevoked(&self, id: KeyId) -> bool {
        self.entry(id).is_some_and(|entry| !entry.revoked)
    }

    pub(super) fn revoked(&self) -> impl Iterator<Item = KeyId> {
        self.entries.iter().filter(|entry| entry.revoked).map(|entry| entry.key.id())
    }

    /// Whether both hold the same keys with the same dates, in whatever order.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = |entry: &Entry| {
            other
                .entry(entry.key.id())
                .is_some_and(|twin| twin.key.root() == entry.key.root() && twin.says_same(entry))
        };
        self.entries.len() == other.entries.len() && self.entries.iter().all(same)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn entry(&self, id: KeyId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.id() == id)
    }

    /// The ring of these keys, as reading its text gives it.
    pub(super) fn rotated(entries: &[Entry]) -> Result<Self, Error> {
        // Keys that were there may be published ones in a test.
        Self::read(&text::print(entries), Published::Accepted)
    }

    fn read(text: &str, published: Published) -> Result<Self, Error> {
        let entries = text::parse(text)?;
        entries.iter().try_for_each(|entry| check_key(entry, published))?;
        Self::checked(entries)
    }

    fn checked(entries: Vec<Entry>) -> Result<Self, Error> {
        let ring = Self { entries };
        ring.validate()?;
        Ok(ring)
    }

    /// What must hold among the keys.
    ///
    /// A revoked key neither seals nor opens, so its dates count nowhere: it is no successor that
    /// lets another key end, and no twin of another key's date. Only its id counts, since an id
    /// must name one key: with the same key once revoked and once not, the answer would hang on
    /// the order of lines.
    fn validate(&self) -> Result<(), Error> {
        if self.entries.is_empty() {
            return Err(refused(
                "it holds no key: copy it again, or remove it and make the first ring with sealed-session \
                 keys new",
            ));
        }
        if self.unrevoked().next().is_none() {
            return Err(refused(
                "all keys are revoked: add the key of another `sealed-session keys new`",
            ));
        }
        for (entry, before) in self.entries.iter().zip(0..) {
            let earlier = || self.entries.iter().take(before);
            if let Some(twin) = earlier().find(|other| other.key.id() == entry.key.id()) {
                let line = twin.line;
                let reason = format!("the key of line {line} again: keep only one of the two");
                return Err(refused_at(entry.line, &reason));
            }
            if !entry.revoked {
                check_beginning(entry, earlier().filter(|other| !other.revoked))?;
                self.check_end(entry)?;
            }
        }
        Ok(())
    }

    /// A key seals until the next one does. If it ended before, what it seals would not open.
    fn check_end(&self, entry: &Entry) -> Result<(), Error> {
        let Some(open_until) = entry.open_until else {
            return Ok(());
        };
        let is_later = |other: &&Entry| other.seal_from > entry.seal_from;
        let next = self.unrevoked().filter(is_later).min_by_key(|other| other.seal_from);
        let reason = match next {
            Some(next) if next.seal_from <= Some(open_until) => return Ok(()),
            Some(next) => format!(
                "open_until lies before seal_from in line {}: set it to a later date, or no key would \
                 open in between",
                next.line
            ),
            // The key that was to follow has leaked: this one has to go on.
            None if self.entries.iter().any(|other| is_later(&other)) => {
                "open_until, but all later keys are revoked: remove open_until".into()
            }
            None => "open_until without a later key: is a line missing? Copy the whole text again, or remove \
                     open_until"
                .into(),
        };
        Err(refused_at(entry.line, &reason))
    }

    fn state(&self, entry: &Entry, now: Timestamp) -> KeyState {
        if entry.revoked {
            KeyState::Revoked
        } else if self.is_active(entry.key.id(), now) {
            KeyState::Active
        } else if entry.seal_from > Some(now) {
            KeyState::Pending
        } else if entry.is_past(now) {
            KeyState::Expired
        } else {
            KeyState::AcceptOnly
        }
    }

    fn active(&self, now: Timestamp) -> Option<&Entry> {
        // None, which is since ever, is before every date.
        let begun = self.unrevoked().filter(|entry| entry.seal_from <= Some(now));
        begun.max_by_key(|entry| entry.seal_from)
    }

    fn unrevoked(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.revoked)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing")?;
        f.debug_list().entries(&self.entries).finish()
    }
}

impl FromStr for KeyRing {
    type Err = Error;

    /// Reads a ring.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::KeyRing`], with the number of the line and what to do about it, but never any of
    /// its text. Refused are: lines that break the format, a mistyped key, a key that is a pattern
    /// or was published, one key twice, more than 16 keys or 64 KiB, no key that is not revoked, and
    /// dates that would leave it open which key seals, or let a key end before its successor seals.
    ///
    /// Revoked keys neither seal nor open. So they may be patterns or published, and their dates
    /// are not compared with those of others.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::read(text, Published::Refused)
    }
}

/// A line of a ring.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// Where it stood in the text, from 1, for messages.
    pub(super) line: usize,
    /// None is since ever.
    pub(super) seal_from: Option<Timestamp>,
    pub(super) open_until: Option<Timestamp>,
    pub(super) revoked: bool,
}

impl Entry {
    /// Never true of the active key: `check_end` has it that a later one is active by then.
    pub(super) fn is_past(&self, now: Timestamp) -> bool {
        self.open_until.is_some_and(|until| until <= now)
    }

    /// Whether the words after the key are the same.
    pub(super) fn says_same(&self, other: &Self) -> bool {
        (self.seal_from, self.open_until, self.revoked)
            == (other.seal_from, other.open_until, other.revoked)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.key.id(), text::Words(self))
    }
}

#[derive(Clone, Copy)]
enum Published {
    Accepted,
    Refused,
}

/// What must hold of a key by itself, unless it is revoked: then it can do no harm, and marking a
/// bad key so must be a way to get rid of it.
fn check_key(entry: &Entry, published: Published) -> Result<(), Error> {
    if entry.revoked {
        return Ok(());
    }
    if entry.key.is_weak() {
        return Err(refused_at(entry.line, "not a random key: mark it revoked and generate one"));
    }
    if matches!(published, Published::Refused) && entry.key.is_published() {
        let reason = "a published key, known to everybody: mark it revoked and generate one";
        return Err(refused_at(entry.line, reason));
    }
    Ok(())
}

/// Two keys that begin at one instant would leave it open which one seals.
fn check_beginning<'a>(
    entry: &Entry,
    mut earlier: impl Iterator<Item = &'a Entry>,
) -> Result<(), Error> {
    let Some(twin) = earlier.find(|other| other.seal_from == entry.seal_from) else {
        return Ok(());
    };
    let reason = match entry.seal_from {
        Some(_) => "the same seal_from as in line",
        None => "no seal_from, as in line",
    };
    let line = twin.line;
    let reason = format!("{reason} {line}: give the newer key a later seal_from");
    Err(refused_at(entry.line, &reason))
}

pub(super) fn refused(reason: &str) -> Error {
    Error::with_detail(ErrorKind::KeyRing, reason)
}

pub(super) fn refused_at(line: usize, reason: &str) -> Error {
    Error::with_detail(ErrorKind::KeyRing, format!("line {line}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: &str = "
        sealsess_k1_x7QlJXq9hMoPCtjRWI4GsWPJCbNU-za3tIXWCQHP_Fk_V0m_AQ seal_from=1970-01-01T00:00:10Z open_until=1970-01-01T00:00:30Z
        sealsess_k1_C_62NarZ2WrM8m8CxUATCOvDkOLmsI2fFJEvW34PCB4_Olj5WA seal_from=1970-01-01T00:00:20Z
        sealsess_k1_kuTbQB1ok2OGhDZ8Uq_QjWaiauLAitbNbxv0h75t1R4_9tWutg revoked";
    const FIRST: KeyId = KeyId::from_bytes([0x2c, 0x14, 0xda, 0x4c]);
    const SECOND: KeyId = KeyId::from_bytes([0x5f, 0xe0, 0x95, 0x96]);
    const THIRD: KeyId = KeyId::from_bytes([0x0b, 0x42, 0x34, 0x14]);

    #[test]
    fn the_key_that_seals_changes_at_the_millisecond_of_seal_from() {
        let ring = KeyRing::insecure_published_keys(RING).unwrap();
        let sealing = |millis| ring.seal_key(Timestamp::from_millis(millis)).map(Key::id);

        let error = sealing(9_999).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyRing);
        assert!(error.to_string().ends_with("the first one begins at 1970-01-01T00:00:10Z"));
        assert_eq!(sealing(10_000).unwrap(), FIRST);
        assert_eq!(sealing(19_999).unwrap(), FIRST);
        assert_eq!(sealing(20_000).unwrap(), SECOND);
        assert!(ring.is_active(FIRST, Timestamp::from_millis(19_999)));
        assert!(!ring.is_active(FIRST, Timestamp::from_millis(20_000)));
    }

    #[test]
    fn a_key_opens_from_before_it_seals_until_the_millisecond_of_open_until() {
        let ring = KeyRing::insecure_published_keys(RING).unwrap();
        let open = |id, millis| ring.open_key(id, Timestamp::from_millis(millis)).map(Key::id);

        assert_eq!(open(FIRST, 0), Ok(FIRST));
        assert_eq!(open(FIRST, 29_999), Ok(FIRST));
        assert_eq!(open(FIRST, 30_000), Err(ErrorKind::KeyExpired));
        assert_eq!(open(SECOND, u64::MAX), Ok(SECOND));
        assert_eq!(open(THIRD, 0), Err(ErrorKind::KeyRevoked));
        assert_eq!(open(KeyId::from_bytes([0; 4]), 0), Err(ErrorKind::KeyUnknown));
    }
}
