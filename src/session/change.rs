//! One change at a time, made on a copy while no lock is held.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::draft::Draft;
use super::{Session, SessionData, Shared, State};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::revocation::{Appended, Receipt, Seen, Verdict};
use crate::token::{self, Facts};

impl<T: SessionData> Session<T> {
    /// Takes the right to change the session, and a copy of it to change.
    pub(super) fn begin_change(&self) -> Result<Change<'_, T>, Error> {
        let mut state = self.settled(|_| true)?;
        if state.closed {
            let id = state.draft.facts.map(|facts| facts.id);
            drop(state);
            self.shared.manager.emit(&Event::ClosedLate { id });
            return Err(Error::new(ErrorKind::Closed));
        }
        state.changing = Some(Changing { by: thread::current().id(), in_closure: false });
        let (draft, seen) = (state.draft.clone(), state.seen.clone());
        Ok(Change { session: self, draft, seen })
    }

    /// The state once no change that one must `wait_for` is under way. One of this very thread is
    /// `Busy`.
    pub(super) fn settled(
        &self,
        wait_for: fn(&Changing) -> bool,
    ) -> Result<MutexGuard<'_, State<T>>, Error> {
        let me = thread::current().id();
        let mut state = self.state();
        while let Some(changing) = state.changing.filter(wait_for) {
            if changing.by == me {
                return Err(Error::new(ErrorKind::Busy));
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(state)
    }
}

/// Who is changing a session right now.
#[derive(Clone, Copy)]
pub(super) struct Changing {
    by: ThreadId,
    /// Whether the application's closure is running, which may take any time.
    in_closure: bool,
}

impl Changing {
    /// What the end of the request waits for: verbs are short, and may have revoked already what
    /// they replace. A closure works on a copy, and is refused as too late.
    pub(super) fn is_verb(&self) -> bool {
        !self.in_closure || self.by == thread::current().id()
    }
}

/// A change under way: other changes wait until it is finished or dropped.
pub(super) struct Change<'a, T> {
    session: &'a Session<T>,
    pub(super) draft: Draft<T>,
    pub(super) seen: Seen,
}

impl<T: SessionData> Change<'_, T> {
    /// Gives an anonymous session its id and times, unless it has them or writes are withheld.
    pub(super) fn begin_session(&mut self) -> Result<(), Error> {
        let manager = &self.session.shared.manager;
        if self.draft.facts.is_some() || self.draft.withheld.is_some() {
            self.draft.withheld_writes |= self.draft.withheld.is_some();
            return Ok(());
        }
        let issued_at = manager.issue_at("", &[], &Seen::everything())?;
        self.draft.begin(issued_at, manager)
    }

    /// Who is signed in, unless the session was ended since the request began.
    pub(super) fn alive(&self) -> Result<(Arc<str>, Facts), Error> {
        let manager = &self.session.shared.manager;
        let (subject, facts) = self.draft.signed_in()?;
        if let Some(opened) = self.session.shared.arrived(&self.draft)
            && manager.ring().check_revoked(opened.key).is_err()
        {
            return Err(Error::new(ErrorKind::SignedOut));
        }
        match manager.check(&self.draft.presented(&facts), manager.now())? {
            Verdict::Clear => Ok((subject, facts)),
            _ => Err(Error::new(ErrorKind::SignedOut)),
        }
    }

    /// Drops what arrived under a key that was revoked meanwhile: whoever has the key may have made it.
    pub(super) fn forget_if_revoked(&mut self) {
        let Shared { manager, arrival, .. } = &*self.session.shared;
        let key = arrival.session.as_ref().map(|opened| opened.key);
        if key.is_some_and(|key| manager.ring().check_revoked(key).is_err()) {
            self.draft.clear();
        }
    }

    /// Runs the application's code on the data.
    pub(super) fn run<R>(&self, closure: impl FnOnce() -> R) -> R {
        self.set_in_closure(true);
        let result = closure();
        self.set_in_closure(false);
        result
    }

    fn set_in_closure(&self, in_closure: bool) {
        if let Some(changing) = &mut self.session.state().changing {
            changing.in_closure = in_closure;
        }
        self.session.shared.changed.notify_all();
    }

    /// Refuses a change that could not be sealed, or not be opened again.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Shared { manager, arrival, .. } = &*self.session.shared;
        self.draft.check_readable(manager)?;
        let parts = self.draft.parts(arrival)?;
        token::check_size(manager.cookie().name().len(), &parts.blocks())
            .inspect_err(|error| manager.emit(&Event::TooLarge { error }))
    }

    /// Puts the change in force, unless the response began meanwhile.
    pub(super) fn finish(mut self, appended: Option<Appended>) -> Result<Receipt, Error> {
        let draft = std::mem::take(&mut self.draft);
        let mut state = self.session.state();
        let receipt = match appended {
            Some(Appended { receipt, mark }) => {
                state.seen.own.extend(mark);
                state.receipts.push(receipt.clone());
                receipt
            }
            None => Receipt::done(false),
        };
        if state.closed {
            let id = state.draft.facts.map(|facts| facts.id);
            drop(state);
            self.session.shared.manager.emit(&Event::ClosedLate { id });
            return Err(Error::new(ErrorKind::Closed));
        }
        let old = std::mem::replace(&mut state.draft, draft);
        drop(state);
        drop(old);
        Ok(receipt)
    }
}

impl<T> Drop for Change<'_, T> {
    fn drop(&mut self) {
        self.session.state().changing = None;
        self.session.shared.changed.notify_all();
    }
}
