//! Coherent key rings, drawn at random, and a second opinion on what their keys do.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use sealed_session::KeyState;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::key;

/// What a line of a ring is to say.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    key: String,
    pub(crate) seal_from: Option<u32>,
    pub(crate) open_until: Option<u32>,
    revoked: bool,
}

impl Line {
    pub(crate) fn state(&self, plan: &[Self], now: SystemTime) -> KeyState {
        let sealing =
            |line: &&Self| !line.revoked && line.seal_from.is_none_or(|at| instant(at) <= now);
        let active = plan.iter().filter(sealing).max_by_key(|line| line.seal_from);
        match active {
            _ if self.revoked => KeyState::Revoked,
            Some(active) if active.key == self.key => KeyState::Active,
            _ if !sealing(&self) => KeyState::Pending,
            _ if self.open_until.is_some_and(|at| instant(at) <= now) => KeyState::Expired,
            _ => KeyState::AcceptOnly,
        }
    }
}

/// Rings that are coherent, in any order of lines.
pub(crate) fn plan() -> impl Strategy<Value = Vec<Line>> {
    let line = (1..1_000_000_u32, any::<bool>(), any::<Option<u16>>());
    let lines = prop::collection::vec(line, 1..=16);
    (lines, any::<bool>(), any::<prop::sample::Index>()).prop_map(coherent).prop_shuffle()
}

/// The seconds until the next line's key begins, whether it is revoked, how long it opens on.
type Drawn = (u32, bool, Option<u16>);

fn coherent((mut lines, dated, kept): (Vec<Drawn>, bool, prop::sample::Index)) -> Vec<Line> {
    let count = lines.len();
    lines[kept.index(count)].1 = false;
    let mut begin = 100_000_000;
    let mut next = None;
    let mut plan = Vec::new();
    for (number, (gap, revoked, extra)) in (0..).zip(lines) {
        begin -= gap;
        let seal_from = Some(begin).filter(|_| dated || plan.len() + 1 < count);
        let end = if revoked { Some(5) } else { next };
        let open_until = end.zip(extra).map(|(end, extra)| end + u32::from(extra));
        next = if revoked { next } else { seal_from };
        plan.push(Line { key: key(number), seal_from, open_until, revoked });
    }
    plan
}

pub(crate) fn written(plan: &[Line], offset: i32) -> String {
    let offset = UtcOffset::from_whole_seconds(offset / 60 * 60).unwrap();
    let date = |at: u32| {
        let at = OffsetDateTime::from_unix_timestamp(at.into()).unwrap();
        at.to_offset(offset).format(&Rfc3339).unwrap()
    };
    let line = |line: &Line| {
        let seal_from = line.seal_from.map(|at| format!(" seal_from={}", date(at)));
        let open_until = line.open_until.map(|at| format!(" open_until={}", date(at)));
        let revoked = Some(" revoked\n").filter(|_| line.revoked).unwrap_or("\n");
        [&line.key, &*seal_from.unwrap_or_default(), &open_until.unwrap_or_default(), revoked]
            .concat()
    };
    plan.iter().map(line).collect()
}

pub(crate) fn instant(seconds: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into())
}
