//! Rotates a ring, and ends keys.

use std::io::Write as _;
use std::path::Path;
use std::time::SystemTime;

use super::args::Rotate;
use super::check::is_mended_by_rotation;
use super::ring_file::RingFile;
use super::settings::Ring;
use super::{Failure, Status, Streams, show};
use crate::clock::{Clock as _, SystemClock};
use crate::key::{
    FileKeys, KeyId, KeyRing, KeySource as _, KeyState, KeyStatus, RingChange, RingFinding,
    Rotated, Rotation,
};

pub(super) fn rotate(args: &Rotate, streams: &mut Streams) -> Result<Status, Failure> {
    let found = Ring::find(&args.ring)?;
    let Some(file) = &found.file else {
        let name = found.source.name();
        return Err(format!("{name}: not in a file: rotate the ring where it is kept").into());
    };
    let rotation = match args.activation_delay {
        Some(delay) => found.rotation.activation_delay(delay),
        None => found.rotation,
    };
    let shortest = rotation.shortest_delay(found.poll_every);
    if args.activation_delay.is_some_and(|delay| delay < shortest) {
        streams.warn(&format!(
            "a server that does not have the new key when it seals knows nobody who comes with it: \
             servers read their keys every {}, so let it wait {} or more",
            show::length(found.poll_every),
            show::length(shortest)
        ))?;
    }
    // Held before it is read: another run could change it in between.
    let held = RingFile::hold(file)?;
    let (source, now) = (FileKeys::new(file), SystemClock.now());
    let old = source.load()?;
    let ring: KeyRing = old.parse::<KeyRing>().map_err(|error| error.at(&source.name()))?;
    if let Some(warning) = source.warning() {
        streams.warn(&format!("{}: {warning}", file.display()))?;
    }
    let findings = ring.check(&rotation, now);
    if args.if_due && !is_mended_by_rotation(&findings) {
        return Ok(Status::Well);
    }
    let is_old = findings.iter().any(|found| matches!(found, RingFinding::RotationDue { .. }));
    let rotated = if args.if_due && !is_old {
        ring.mend(&rotation, now).map_err(|error| error.at(&file.display().to_string()))?
    } else {
        next(args, file, &ring, &rotation, now)?
    };
    if !rotated.changes().is_empty() {
        held.replace(&rotated.ring().expose_text_over(&old))?;
    }
    let (before, after) = (ring.status(now), rotated.ring().status(now));
    let again = found.arguments.unwrap_or_else(|| file.display().to_string());
    let revokes = !args.revoke.is_empty();
    let told = Told { file, again, old: before, new: after, now, revokes };
    told.write(rotated.changes(), streams).map_err(|error| match rotated.changes() {
        [] => error,
        _ => format!("{}: written, but not all was told: {error}", file.display()).into(),
    })?;
    Ok(Status::Well)
}

fn next(
    args: &Rotate,
    file: &Path,
    ring: &KeyRing,
    rotation: &Rotation,
    now: SystemTime,
) -> Result<Rotated, Failure> {
    let keys = ring.status(now);
    let holds = |id: &&KeyId| keys.iter().any(|key| key.id() == **id);
    if let Some(id) = args.revoke.iter().find(|id| !holds(id)) {
        let ids: Vec<_> = keys.iter().map(|key| key.id().to_string()).collect();
        return Err(format!("{}: no key {id}: it holds {}", file.display(), ids.join(", ")).into());
    }
    let active = keys.iter().find(|key| key.state() == KeyState::Active).map(KeyStatus::id);
    if let Some(active) = active.filter(|id| args.revoke.contains(id) && !args.now) {
        return Err(format!(
            "{}: key {active} is active: to revoke it ends all its sessions at once and needs a key \
             that seals at once: add --now",
            file.display()
        )
        .into());
    }
    let rotated = if args.revoke.is_empty() {
        ring.rotate(rotation, now)
    } else {
        ring.revoke_keys(&args.revoke, rotation, now)
    };
    Ok(rotated.map_err(|error| error.at(&file.display().to_string()))?)
}

/// What the operator is told of a rotation.
struct Told<'a> {
    file: &'a Path,
    /// What to call the command with once more.
    again: String,
    old: Vec<KeyStatus>,
    new: Vec<KeyStatus>,
    now: SystemTime,
    /// Whether it was asked to end keys, perhaps once more.
    revokes: bool,
}

impl Told<'_> {
    fn write(&self, changes: &[RingChange], streams: &mut Streams) -> Result<(), Failure> {
        if changes.is_empty() {
            let reason = match self.waiting().filter(|_| !self.revokes) {
                Some(key) => format!("key {} waits already", key.id()),
                None => "it was done before".to_owned(),
            };
            writeln!(streams.out, "nothing to do: {reason}")?;
        }
        for change in changes {
            writeln!(streams.out, "{}", self.line(*change))?;
        }
        writeln!(streams.out, "next: {}", self.next(changes))?;
        let revoked = |state: KeyState| {
            let is_new = |key: &KeyStatus| changes.contains(&RingChange::Revoked(key.id()));
            self.old.iter().any(|key| key.state() == state && is_new(key))
        };
        if revoked(KeyState::Active) {
            self.warn_of_the_others("lay in the same file: if the file leaked", streams)?;
        } else if revoked(KeyState::AcceptOnly) {
            // At a rotation a thief's session went on as everybody's did.
            let why = "may hold sessions that went on from it: if it leaked before they sealed";
            self.warn_of_the_others(why, streams)?;
        }
        Ok(())
    }

    fn line(&self, change: RingChange) -> String {
        match change {
            RingChange::Added(id) => match self.key(id).and_then(KeyStatus::seal_from) {
                Some(from) if from > self.now && self.revokes => {
                    format!("added {id} in its place: seals from {}", self.date(from))
                }
                Some(from) if from > self.now => {
                    format!("added {id}: seals from {}", self.date(from))
                }
                _ if self.key(id).map(KeyStatus::state) != Some(KeyState::Active) => {
                    format!("added {id}: seals where a clock is behind")
                }
                _ => format!("added {id}: seals at once"),
            },
            RingChange::Revoked(id) => format!("revoked {id}: refused wherever this file is read"),
            RingChange::OpenUntil(id) => match self.key(id).and_then(KeyStatus::open_until) {
                Some(since) if self.key(id).map(KeyStatus::state) == Some(KeyState::Revoked) => {
                    format!("noted that {id} is revoked, at the latest since {}", show::date(since))
                }
                Some(until) => format!("set the end of {id}: opens until {}", self.date(until)),
                None => format!("removed the end of {id}: it has no successor now"),
            },
            RingChange::Dropped(id) => format!("dropped {id}: no session needs it"),
        }
    }

    fn next(&self, changes: &[RingChange]) -> String {
        let file = self.file.display();
        if self.revokes {
            return format!(
                "bring {file} to every server now: a server that has not read it goes on as before"
            );
        }
        match self.waiting().and_then(KeyStatus::seal_from) {
            Some(from) => format!("bring {file} to every server before {}", self.date(from)),
            None if changes.is_empty() => format!("`sealed-session keys list {file}` shows it"),
            None => format!("bring {file} to every server"),
        }
    }

    /// Who read one key of a file read them all, and a key that opens is as good to forge with.
    fn warn_of_the_others(&self, why: &str, streams: &mut Streams) -> Result<(), Failure> {
        let opens = |id| {
            self.key(id).is_some_and(|key| {
                matches!(key.state(), KeyState::Pending | KeyState::AcceptOnly | KeyState::Active)
            })
        };
        let others: Vec<KeyId> =
            self.old.iter().map(KeyStatus::id).filter(|id| opens(*id)).collect();
        if others.is_empty() {
            return Ok(());
        }
        let each =
            |prefix: &str| others.iter().map(|id| format!("{prefix}{id}")).collect::<Vec<_>>();
        let is_active = |id: &KeyId| self.key(*id).map(KeyStatus::state) == Some(KeyState::Active);
        let now = if others.iter().any(is_active) { " --now" } else { "" };
        streams.warn(&format!(
            "{} {why}, revoke as well: sealed-session keys rotate {}{}{now}",
            each("").join(", "),
            self.again,
            each(" --revoke ").concat()
        ))
    }

    /// The next key to seal.
    fn waiting(&self) -> Option<&KeyStatus> {
        let waits = self.new.iter().filter(|key| key.state() == KeyState::Pending);
        waits.min_by_key(|key| key.seal_from())
    }

    fn key(&self, id: KeyId) -> Option<&KeyStatus> {
        self.new.iter().find(|key| key.id() == id)
    }

    fn date(&self, at: SystemTime) -> String {
        show::date_from(self.now, at)
    }
}
