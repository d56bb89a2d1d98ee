//! The table `keys`: where the ring is, and how it is rotated.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, Error as _, MapAccess, Unexpected, Visitor};

use super::duration::{DurationText, shown};
use crate::error::Error;
use crate::key::{DirectoryKeys, EnvKeys, FileKeys, KeySource, POLL_EVERY, Rotation};
use crate::policy::Policy;

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysTable {
    source: Source,
    #[serde(default, deserialize_with = "no_key_text")]
    path: Option<String>,
    #[serde(default, deserialize_with = "no_key_text")]
    variable: Option<String>,
    #[serde(default = "poll_every")]
    poll_every: DurationText,
    activation_delay: Option<DurationText>,
    reload_lag: Option<DurationText>,
    rotate_every: Option<DurationText>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
enum Source {
    File,
    Directory,
    Env,
}

impl TryFrom<String> for Source {
    type Error = &'static str;

    /// By hand, so that no message repeats the text: it might be a key.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match &*text {
            "file" => Ok(Self::File),
            "directory" => Ok(Self::Directory),
            "env" => Ok(Self::Env),
            _ => Err("source must be \"file\", \"directory\" or \"env\""),
        }
    }
}

/// Reads the table, and refuses text in its place without repeating it: it might be a key.
pub(super) fn table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeysTable, D::Error> {
    struct Table;
    impl<'de> Visitor<'de> for Table {
        type Value = KeysTable;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table such as { source = \"file\", path = \"session.keys\" }")
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<KeysTable, E> {
            Err(E::invalid_type(Unexpected::Other("text"), &self))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeysTable, A::Error> {
            KeysTable::deserialize(MapAccessDeserializer::new(map))
        }
    }
    // Not as a map: who asked for one would be answered with the text.
    deserializer.deserialize_any(Table)
}

impl KeysTable {
    pub(super) const fn poll_every(&self) -> Duration {
        self.poll_every.0
    }

    /// The file, where there is one and no more.
    pub(super) fn file(&self) -> Option<&Path> {
        match self.source {
            Source::File => self.path.as_deref().map(Path::new),
            Source::Directory | Source::Env => None,
        }
    }

    /// The source that the table describes, not read yet.
    pub(super) fn source(&self) -> Result<Box<dyn KeySource>, Error> {
        Ok(match self.source {
            Source::File => Box::new(FileKeys::new(self.path("file")?)),
            Source::Directory => Box::new(DirectoryKeys::new(self.path("directory")?)),
            Source::Env => Box::new(EnvKeys::new(self.variable()?)),
        })
    }

    fn path(&self, source: &str) -> Result<PathBuf, Error> {
        if self.variable.is_some() {
            return refuse(
                "variable",
                &format!(
                    "has no place beside source = \"{source}\": write path, or source = \"env\""
                ),
            );
        }
        match self.path.as_deref() {
            None => refuse("path", &format!("missing: source = \"{source}\" needs it")),
            Some("") => refuse("path", &format!("empty: write that of the {source}")),
            Some(path) if path.contains('\0') => refuse("path", "may hold no NUL: leave it out"),
            Some(path) => Ok(path.into()),
        }
    }

    fn variable(&self) -> Result<&str, Error> {
        if self.path.is_some() {
            return refuse(
                "path",
                "has no place beside source = \"env\": write variable, or source = \"file\"",
            );
        }
        match self.variable.as_deref() {
            None => refuse("variable", "missing: source = \"env\" needs it"),
            Some("") => refuse("variable", "empty: write the name of an environment variable"),
            Some(name) if name.contains(['=', '\0']) => {
                refuse("variable", "may hold no = and no NUL: write the name, not its value")
            }
            Some(name) => Ok(name),
        }
    }

    /// Refuses a poll interval that no watch takes.
    pub(super) fn check_poll_every(&self) -> Result<(), Error> {
        let poll_every = self.poll_every();
        if poll_every < SECOND || poll_every > DAY {
            return refuse("poll_every", "must be 1s to 1d");
        }
        Ok(())
    }

    /// The rotation for sessions under `policy`, which is valid.
    pub(super) fn rotation(&self, policy: &Policy) -> Result<Rotation, Error> {
        self.check_poll_every()?;
        let activation_delay = or_default("activation_delay", self.activation_delay, DAY)?;
        let reload_lag = or_default("reload_lag", self.reload_lag, MINUTE.saturating_mul(5))?;
        let rotate_every = or_default("rotate_every", self.rotate_every, DAY.saturating_mul(90))?;
        let rotation = Rotation::new(policy)
            .activation_delay(activation_delay)
            .reload_lag(reload_lag)
            .rotate_every(rotate_every);
        self.check_activation_delay(activation_delay, policy)?;
        if rotate_every < activation_delay {
            let least = shown(activation_delay);
            return refuse("rotate_every", &format!("must be at least activation_delay, {least}"));
        }
        check_room(rotate_every, activation_delay, &rotation, policy)?;
        Ok(rotation)
    }

    /// A key must not seal before every server can have read it, even if one reading fails.
    fn check_activation_delay(&self, delay: Duration, policy: &Policy) -> Result<(), Error> {
        let least = Rotation::new(policy).shortest_delay(self.poll_every());
        if delay < least {
            let advice = format!(
                "must be at least {}: 2 x poll_every + 2 x clock_skew + 1s",
                shown(whole_up(least))
            );
            return refuse("activation_delay", &advice);
        }
        Ok(())
    }
}

/// How many keys of a ring may be older than the active one, if one waits to seal and a rotation
/// leaves three places free for a leak.
const OLD_KEYS: u32 = 11;

/// An old key stays listed until no session under it can be alive: refuses a rotation that would
/// fill the ring by then.
fn check_room(
    rotate_every: Duration,
    activation_delay: Duration,
    rotation: &Rotation,
    policy: &Policy,
) -> Result<(), Error> {
    let kept = rotation.overlap().saturating_add(policy.longest()).saturating_add(activation_delay);
    if rotate_every.saturating_mul(OLD_KEYS) >= kept {
        return Ok(());
    }
    let least = Duration::from_secs(whole_up(kept).as_secs().div_ceil(u64::from(OLD_KEYS)));
    if least > YEAR {
        return refuse("rotate_every", "no ring holds keys for so long: shorten absolute_timeout");
    }
    let advice = format!(
        "must be at least {}, or the ring fills up: 16 keys, each kept for as long as sessions under \
         it may live",
        shown(least)
    );
    refuse("rotate_every", &advice)
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// What the text `1y` is read as.
const YEAR: Duration = Duration::from_secs(31_557_600);

const fn poll_every() -> DurationText {
    DurationText(POLL_EVERY)
}

fn or_default(
    field: &str,
    given: Option<DurationText>,
    default: Duration,
) -> Result<Duration, Error> {
    match given {
        None => Ok(default),
        Some(DurationText(given)) if given > YEAR => refuse(field, "must be at most 1y"),
        Some(DurationText(given)) => Ok(given),
    }
}

fn whole_up(duration: Duration) -> Duration {
    let part = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(part))
}

/// Refuses what is no path or name but the text of a ring, which messages would repeat.
fn no_key_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    match text {
        Some(text) if text.contains("sealsess_") => Err(D::Error::custom(
            "this is the text of a key, which has no place here: keep it in a file of its own, and \
             write where that is",
        )),
        text => Ok(text),
    }
}

fn refuse<T>(field: &str, advice: &str) -> Result<T, Error> {
    Err(Error::config(format!("keys.{field}: {advice}")))
}
