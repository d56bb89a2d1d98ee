//! The CSRF token of a session's forms.

use super::{Session, SessionData};
use crate::csrf::Binding;
use crate::error::{Error, ErrorKind};

impl<T: SessionData> Session<T> {
    /// A token for the forms of this session: 70 characters, to be sent back in a hidden field or a
    /// header, never in a cookie or URL.
    ///
    /// Any number of them are valid at a time; they survive refresh and
    /// [`renew`](Self::renew) and end with the session: at sign-in, sign-out, or its limits. Asking
    /// for one starts an anonymous session where there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] when a session would have to be started, [`ErrorKind::Random`],
    /// [`ErrorKind::KeyRing`], [`ErrorKind::Busy`].
    pub fn csrf_token(&self) -> Result<String, Error> {
        let manager = &self.shared.manager;
        // First, or a response that begins in between would leave the session out.
        self.state().asked.csrf = true;
        if self.csrf_binding().is_none() {
            let mut work = self.begin_change()?;
            work.begin_session()?;
            work.check()?;
            work.finish(None)?;
        }
        let to = self.csrf_binding().ok_or(Error::new(ErrorKind::Closed))?;
        self.binding(&to).token(&manager.ring(), manager.now())
    }

    /// Checks the token that came with a form.
    ///
    /// Accepted under any key that still opens, refused under revoked ones. A form that was left
    /// open beyond its session fails as well: show it again with its input kept.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Csrf`]: answer 403.
    pub fn verify_csrf(&self, token: &str) -> Result<(), Error> {
        let manager = &self.shared.manager;
        let to = self.csrf_binding().ok_or(Error::new(ErrorKind::Csrf))?;
        self.binding(&to).verify(token, &manager.ring(), manager.now())
    }

    fn binding<'a>(&'a self, to: &'a [u8]) -> Binding<'a> {
        let manager = &self.shared.manager;
        Binding { realm: manager.realm().name(), name: manager.cookie().name(), to }
    }

    /// The session's id, or what stands in for it while writes are withheld.
    fn csrf_binding(&self) -> Option<Vec<u8>> {
        let state = self.state();
        let id = || state.draft.facts.map(|facts| facts.id.as_bytes().to_vec());
        state.draft.withheld.map(|hash| hash.to_vec()).or_else(id)
    }
}
