//! The end of a request: what to answer with.

use std::fmt;
use std::option;

use super::change::Changing;
use super::data::SessionData;
use super::draft::Draft;
use super::{Asked, Session, Shared, flash};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::key::{Key, KeyId, KeyRing};
use crate::manager::{Opened, SessionManager};
use crate::revocation::{Receipt, Verdict};
use crate::token::{self, Blocks, Facts, SessionId};

impl<T: SessionData> Session<T> {
    /// Closes the session and yields the `Set-Cookie` value to answer with, if any.
    ///
    /// Send it on every answer, error pages included. Nothing is sent where nothing changed and no
    /// refresh is due, nor for a session that was revoked meanwhile: an answer that was under way
    /// while the visitor signed in or out elsewhere must not undo that.
    ///
    /// On an answer with a cookie set `Cache-Control: no-store`, on every other `Vary: Cookie`, or
    /// let [`Closing::apply`] do it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] the second time, and inside a layer, which closes by itself.
    /// [`ErrorKind::Busy`] inside a change of this thread.
    /// [`ErrorKind::Random`], [`ErrorKind::KeyRing`] when nothing can be sealed.
    pub fn close(&self) -> Result<Closing, Error> {
        if self.state().layered {
            return Err(Error::with_detail(ErrorKind::Closed, "the layer closes this session"));
        }
        let mut closing = self.commit()?;
        closing.failure.take().map_or(Ok(closing), Err)
    }

    /// Closes the session, for whoever opened it. Waits for another thread's verb to finish, so that
    /// none is half in the answer.
    pub(crate) fn commit(&self) -> Result<Closing, Error> {
        let Shared { manager, arrival, .. } = &*self.shared;
        let (draft, asked, receipts) = {
            let mut state = self.settled(Changing::is_verb)?;
            if std::mem::replace(&mut state.closed, true) {
                return Err(Error::new(ErrorKind::Closed));
            }
            (state.draft.clone(), state.asked, std::mem::take(&mut state.receipts))
        };
        let (set_cookie, failure) = match self.shared.answer(&draft, asked) {
            Ok(set_cookie) => (set_cookie, None),
            Err(error) => (None, Some(error)),
        };
        // What `recheck` goes by from now on.
        self.state().sealed_under = set_cookie.as_ref().and_then(|set_cookie| set_cookie.key);
        if set_cookie.is_some()
            && !asked.passive
            && let Some(facts) = &mut self.state().draft.facts
        {
            facts.times = facts.times.refreshed_by(arrival.at);
        }
        Ok(Closing { manager: manager.clone(), set_cookie, failure, receipts })
    }
}

impl<T> Session<T> {
    /// Closes a session of which nothing will be sent any more.
    #[cfg(feature = "tower")]
    pub(crate) fn refuse_changes(&self) {
        self.state().closed = true;
    }
}

/// What becomes of the visitor's cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Nothing,
    /// A new session, or new contents of the one that arrived.
    Write,
    /// New times, or a new key, for the session that arrived.
    Refresh,
    /// An anonymous session that holds nothing any more.
    Drop,
    /// Sign-out.
    Remove,
}

impl<T: SessionData> Shared<T> {
    fn answer(&self, draft: &Draft<T>, asked: Asked) -> Result<Option<SetCookie>, Error> {
        let Self { manager, arrival, .. } = self;
        let (ring, now) = (manager.ring(), manager.now());
        if draft.withheld.is_some() && draft.withheld_writes {
            manager.emit(&Event::Withheld { signed_out: false });
        }
        let outcome = self.outcome(draft, asked, &ring, now)?;
        if !self.still_alive(draft, outcome, &ring, now) {
            return Ok(None);
        }
        match (outcome, draft.facts, &arrival.session) {
            (Outcome::Drop | Outcome::Remove, _, _) => {
                Ok(Some(SetCookie { text: manager.cookie().remove(), key: None, refreshed: None }))
            }
            (Outcome::Refresh, Some(facts), Some(opened)) => {
                let sealing = self.sealing(ring.seal_key(now)?, asked, now);
                sealing.refresh(&facts, opened).map(Some)
            }
            (Outcome::Write, Some(facts), _) => {
                let sealing = self.sealing(ring.seal_key(now)?, asked, now);
                let parts = draft.parts(arrival)?;
                let text = sealing.write(&facts, &parts.blocks())?;
                self.tell_written(draft, &facts, sealing.key);
                Ok(Some(SetCookie { text, key: Some(sealing.key.id()), refreshed: None }))
            }
            _ => Ok(None),
        }
    }

    fn outcome(
        &self,
        draft: &Draft<T>,
        asked: Asked,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<Outcome, Error> {
        let nothing_left = draft.subject.is_none() && draft.flash.is_empty() && !asked.csrf;
        match (draft.facts, self.arrived(draft)) {
            (Some(facts), Some(opened)) => {
                let old = &opened.record;
                let changed = draft.written.is_some()
                    || facts.generation != old.facts.generation
                    || draft.flash != flash::from_json(old.flash());
                let due = || {
                    self.manager.policy().refresh_due(draft.kind(), &facts.times, self.arrival.at)
                        || ring.is_superseded(opened.key, now)
                };
                Ok(match changed {
                    true if nothing_left && draft.was_emptied()? => Outcome::Drop,
                    true => Outcome::Write,
                    false if !asked.passive && due() => Outcome::Refresh,
                    false => Outcome::Nothing,
                })
            }
            (Some(_), None) if !nothing_left || draft.written.is_some() => Ok(Outcome::Write),
            _ if draft.signed_out && self.arrival.presented => Ok(Outcome::Remove),
            _ => Ok(Outcome::Nothing),
        }
    }

    /// Judges the session once more, just before the headers go out: what would be sent may have
    /// ended while the request took its time. A list that cannot answer any more holds up no write,
    /// since the next request asks it again, but is no ground for a refresh.
    ///
    /// So may its key: what came under a key that was revoked meanwhile must not go out under
    /// another one.
    fn still_alive(
        &self,
        draft: &Draft<T>,
        outcome: Outcome,
        ring: &KeyRing,
        now: Timestamp,
    ) -> bool {
        let Some(facts) = draft.facts else { return true };
        if matches!(outcome, Outcome::Nothing | Outcome::Remove) {
            return true;
        }
        let times = facts.times.refreshed_by(self.arrival.at);
        let key = self.check_key(draft, ring);
        let verdict = key.and_then(|()| self.manager.policy().verdict(draft.kind(), &times, now));
        let verdict = verdict.map_err(Error::new).and_then(|()| {
            match self.manager.check(&draft.presented(&facts), now) {
                Ok(Verdict::Clear) => Ok(true),
                Ok(_) => Err(Error::new(ErrorKind::Revoked)),
                Err(_) => Ok(outcome != Outcome::Refresh),
            }
        });
        verdict.unwrap_or_else(|error| {
            self.manager.emit(&Event::NotSent { error: &error });
            false
        })
    }

    /// Refuses to seal what came under a key that was revoked meanwhile: the session itself, or what
    /// a sign-in kept of it. Whether data is kept that no longer serializes is not asked: it fails.
    fn check_key(&self, draft: &Draft<T>, ring: &KeyRing) -> Result<(), ErrorKind> {
        let Some(opened) = &self.arrival.session else { return Ok(()) };
        let kept = self.arrived(draft).is_some() || draft.keeps_any(&self.arrival).unwrap_or(true);
        if kept { ring.check_revoked(opened.key) } else { Ok(()) }
    }

    fn sealing<'a>(&'a self, key: &'a Key, asked: Asked, now: Timestamp) -> Sealing<'a> {
        let activity = (!asked.passive).then_some(self.arrival.at);
        Sealing { manager: &self.manager, key, activity, now }
    }

    fn tell_written(&self, draft: &Draft<T>, facts: &Facts, key: &Key) {
        let id = facts.id;
        if let Some(opened) = self.arrived(draft) {
            if opened.key != key.id() {
                self.manager.emit(&Event::Resealed { id, from: opened.key, to: key.id() });
            }
            return;
        }
        let expires_at = self.manager.policy().expires_at(draft.kind(), &facts.times);
        self.manager.emit(&Event::Issued {
            id,
            subject: draft.subject.as_deref().unwrap_or_default(),
            issued_at: facts.times.issued_at.to_system(),
            expires_at: expires_at.to_system(),
            persistent: facts.persistent,
            tags: &draft.tags,
        });
    }

    /// The session that arrived, if the draft is still the same.
    pub(super) fn arrived(&self, draft: &Draft<T>) -> Option<&Opened> {
        let opened = self.arrival.session.as_ref()?;
        draft.facts.filter(|facts| facts.id == opened.record.facts.id).map(|_| opened)
    }
}

/// What it takes to seal a cookie.
struct Sealing<'a> {
    manager: &'a SessionManager,
    key: &'a Key,
    /// When the visitor was active, if this counts as activity: on arrival, or whoever keeps a slow
    /// request open would never go idle.
    activity: Option<Timestamp>,
    now: Timestamp,
}

impl Sealing<'_> {
    fn write(&self, facts: &Facts, blocks: &Blocks<'_>) -> Result<String, Error> {
        let Self { manager, key, activity, now } = *self;
        let times = activity.map_or(facts.times, |at| facts.times.refreshed_by(at));
        let facts = Facts { times, ..*facts };
        let token = token::seal(key, manager.cookie_context(), &facts, blocks)?;
        let kind = token::kind_of(blocks.subject, facts.persistent);
        let left = manager.policy().expires_at(kind, &times).since(now).as_secs();
        Ok(manager.cookie().set(&token, facts.persistent.then_some(left)))
    }

    /// The data goes from token to token as it is, never parsed.
    fn refresh(&self, facts: &Facts, opened: &Opened) -> Result<SetCookie, Error> {
        let record = &opened.record;
        let text = self.write(facts, &record.blocks())?;
        let note = Note::new(facts.id, opened.key, self.key.id());
        Ok(SetCookie { text, key: Some(self.key.id()), refreshed: Some(note) })
    }
}

/// What to answer with: an iterator over whole `Set-Cookie` values, none or one.
#[must_use = "a session that is not sent is lost"]
pub struct Closing {
    pub(crate) manager: SessionManager,
    pub(crate) set_cookie: Option<SetCookie>,
    /// Why there is no cookie, where there should be one.
    pub(crate) failure: Option<Error>,
    pub(crate) receipts: Vec<Receipt>,
}

pub(crate) struct SetCookie {
    pub(crate) text: String,
    /// What it is sealed under; None where it removes the cookie.
    key: Option<KeyId>,
    /// Set where the contents are those that the visitor has: it can be left out.
    pub(crate) refreshed: Option<Note>,
}

/// What is to be told of a refresh once it is really sent.
#[derive(Clone, Copy)]
pub(crate) struct Note {
    pub(crate) id: SessionId,
    resealed: Option<(KeyId, KeyId)>,
}

impl Note {
    pub(crate) fn new(id: SessionId, from: KeyId, to: KeyId) -> Self {
        Self { id, resealed: (from != to).then_some((from, to)) }
    }

    pub(crate) fn tell(&self, manager: &SessionManager) {
        let id = self.id;
        match self.resealed {
            Some((from, to)) => manager.emit(&Event::Resealed { id, from, to }),
            None => manager.emit(&Event::Refreshed { id }),
        }
    }
}

impl Closing {
    /// Blocks until every revocation of this request is in force everywhere: for programs that exit
    /// right after they answered. At most 2 s each.
    ///
    /// # Errors
    ///
    /// The first error of a [`Receipt`].
    pub fn wait(&self) -> Result<(), Error> {
        self.receipts.iter().try_for_each(Receipt::wait)
    }
}

impl IntoIterator for Closing {
    type Item = String;
    type IntoIter = option::IntoIter<String>;

    fn into_iter(self) -> Self::IntoIter {
        let Self { manager, set_cookie, .. } = self;
        if let Some(note) = set_cookie.as_ref().and_then(|set_cookie| set_cookie.refreshed) {
            note.tell(&manager);
        }
        set_cookie.map(|set_cookie| set_cookie.text).into_iter()
    }
}

/// Shows whether there is something to send, never what.
impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing")
            .field("sets_cookie", &self.set_cookie.is_some())
            .finish_non_exhaustive()
    }
}
