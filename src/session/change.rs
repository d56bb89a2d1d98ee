//! One change at a time, made on a copy while no lock is held.

use std::sync::{MutexGuard, PoisonError};
use std::thread;

use super::draft::Draft;
use super::{Session, SessionData, Shared, State};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::revocation::{Appended, Receipt, Seen};
use crate::token;

impl<T: SessionData> Session<T> {
    /// Takes the right to change the session, and a copy of it to change.
    pub(super) fn begin_change(&self) -> Result<Change<'_, T>, Error> {
        let mut state = self.settled()?;
        if state.closed {
            let id = state.draft.facts.map(|facts| facts.id);
            drop(state);
            self.shared.manager.emit(&Event::ClosedLate { id });
            return Err(Error::new(ErrorKind::Closed));
        }
        state.changing = Some(thread::current().id());
        let (draft, seen) = (state.draft.clone(), state.seen.clone());
        Ok(Change { session: self, draft, seen })
    }

    /// The state while no change is under way. Waits for another thread's; one of this thread is
    /// `Busy`.
    pub(super) fn settled(&self) -> Result<MutexGuard<'_, State<T>>, Error> {
        let me = thread::current().id();
        let mut state = self.state();
        while let Some(changing) = state.changing {
            if changing == me {
                return Err(Error::new(ErrorKind::Busy));
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(state)
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
        self.draft.begin(issued_at, manager.policy())
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
