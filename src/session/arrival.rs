//! What a request brought: its cookies of our name, judged.

use super::data::{self, SessionData};
use super::draft::Draft;
use crate::clock::Timestamp;
use crate::cookie::Candidates;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::key;
use crate::manager::{Opened, Refusal, SessionManager};
use crate::policy::Times;
use crate::revocation::Revocation;
use crate::token::{Facts, Record, SessionId};

/// The outcome, which stays as it is for the whole request.
#[derive(Default)]
pub(super) struct Arrival {
    /// When: the instant of the visitor's activity.
    pub(super) at: Timestamp,
    /// Whether any cookie of our name came, so that there is one to remove.
    pub(super) presented: bool,
    /// Whether one of them is of a session that was ended a moment ago, and all can be judged.
    pub(super) just_ended: bool,
    /// The session of the request.
    pub(super) session: Option<Opened>,
    /// Live sessions that are not the session of the request: two under one name, or data that
    /// does not decode. Signing in or out ends them as well.
    strays: Vec<Known>,
    /// Sessions that this request's copy does not open any more, but others may. Signing in or out
    /// ends them as well, or a thief who kept his copy alive would outlast the visitor.
    behind: Vec<Known>,
}

/// A session whose token was authentic.
#[derive(Clone, Copy)]
struct Known {
    id: SessionId,
    times: Times,
    signed_in: bool,
}

/// Opens all candidates and picks the session of the request.
pub(super) fn judge<T: SessionData>(
    manager: &SessionManager,
    candidates: &Candidates<'_>,
) -> Result<(Arrival, Draft<T>), Error> {
    let at = manager.now();
    let mut arrival = Arrival { at, presented: !candidates.is_empty(), ..Arrival::default() };
    if !arrival.presented {
        return Ok((arrival, Draft::default()));
    }
    let (mut unjudged, mut overtaken) = (false, false);
    for candidate in *candidates {
        match manager.authenticate(candidate, manager.cookie_context(), at) {
            Ok(opened) => arrival.take(opened),
            Err(Refusal::Backend(error)) => return Err(error),
            Err(Refusal::Rejected(kind)) => unjudged |= cannot_be_judged(kind),
            Err(Refusal::Dead(dead)) => {
                overtaken |= dead.is_overtaken(at);
                arrival.just_ended |= dead.was_just_ended();
                if dead.may_live_on(at) {
                    arrival.behind.push(Known::from(&dead.record));
                }
            }
        }
    }
    if let Some(draft) = arrival.pick(manager) {
        return Ok((arrival, draft));
    }
    arrival.just_ended &= !unjudged;
    // Strays are real sessions, too, of which a write would overwrite one.
    let withheld =
        (unjudged || overtaken || !arrival.strays.is_empty()).then(|| hash_of(candidates));
    Ok((arrival, Draft::anonymous(withheld)))
}

impl Arrival {
    /// Adds a live session: copies of one session leave the latest, different ones are strays.
    fn take(&mut self, opened: Opened) {
        match &self.session {
            None if self.strays.is_empty() => self.session = Some(opened),
            Some(session) if session.record.facts.id == opened.record.facts.id => {
                let age = |opened: &Opened| {
                    let facts = &opened.record.facts;
                    (facts.generation, facts.times.refreshed)
                };
                if age(&opened) > age(session) {
                    self.session = Some(opened);
                }
            }
            _ => {
                let first = self.session.take();
                for known in first.iter().chain([&opened]).map(|opened| Known::from(&opened.record))
                {
                    if self.strays.iter().all(|stray| stray.id != known.id) {
                        self.strays.push(known);
                    }
                }
            }
        }
    }

    /// The session of the request as its handler will see it.
    fn pick<T: SessionData>(&mut self, manager: &SessionManager) -> Option<Draft<T>> {
        if let [one, other, ..] = self.strays.as_slice() {
            manager.emit(&Event::TwoSessions { ids: [one.id, other.id] });
            return None;
        }
        let opened = self.session.as_ref()?;
        let id = opened.record.facts.id;
        let Some(data) = data::from_json(opened.record.data(), manager.migration()) else {
            manager.emit(&Event::Rejected { kind: ErrorKind::Data, id: Some(id) });
            self.strays.extend(self.session.take().map(|opened| Known::from(&opened.record)));
            return None;
        };
        manager.emit(&Event::Opened { id, key: opened.key });
        Some(Draft::arrived(&opened.record, data))
    }

    /// The facts that end every session of before: those that a sign-in replaces.
    pub(super) fn ended_by_sign_in(&self, manager: &SessionManager) -> Vec<Revocation> {
        self.known().iter().map(|known| known.end(manager)).collect()
    }

    /// The facts that end the sessions that speak for someone. Anonymous ones are not worth an
    /// entry that anybody can cause.
    pub(super) fn ended_by_sign_out(&self, manager: &SessionManager) -> Vec<Revocation> {
        self.known()
            .iter()
            .filter(|known| known.signed_in)
            .map(|known| known.end(manager))
            .collect()
    }

    /// Every session of which an authentic token came, each once.
    fn known(&self) -> Vec<Known> {
        let mut known: Vec<Known> = Vec::new();
        let session = self.session.as_ref().map(|opened| Known::from(&opened.record));
        for one in session.iter().chain(&self.strays).chain(&self.behind) {
            if known.iter().all(|known| known.id != one.id) {
                known.push(*one);
            }
        }
        known
    }
}

impl Known {
    fn end(&self, manager: &SessionManager) -> Revocation {
        Revocation::session(self.id, end_of(&self.times, manager))
    }
}

impl From<&Record> for Known {
    fn from(record: &Record) -> Self {
        let Facts { id, times, .. } = record.facts;
        Self { id, times, signed_in: !record.subject().is_empty() }
    }
}

/// The instant after which a session with these times is dead on every instance.
pub(super) fn end_of(times: &Times, manager: &SessionManager) -> Timestamp {
    let lifetime = std::time::Duration::from_secs(u64::from(times.lifetime));
    times.issued_at.plus(lifetime).plus(manager.policy().slack())
}

/// Whether a token may well be good elsewhere: made by a newer ring or release than this one.
fn cannot_be_judged(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::KeyUnknown | ErrorKind::Version | ErrorKind::Record)
}

/// Stands in for a session id that cannot be known; the same for the same cookies in any order.
fn hash_of(candidates: &Candidates<'_>) -> [u8; 32] {
    let mut values: Vec<&[u8]> = candidates.into_iter().collect();
    values.sort_unstable();
    key::digest("sealed-session v1 withheld", &values)
}
