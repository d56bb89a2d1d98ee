//! Which sessions a revocation means.

use std::fmt;

use super::asked::Realm;
use super::fact::{Fact, Revocation, Spared};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::event::Scope;
use crate::token::SessionId;

/// Which sessions to end, for [`SessionManager::revoke`](crate::SessionManager::revoke).
///
/// All but [`session`](Self::session) mean those issued up to now; who signs in afterwards is not
/// touched.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    what: What<'a>,
    except: Option<Spared>,
}

#[derive(Clone, Copy)]
enum What<'a> {
    Session(SessionId),
    Subject(&'a str),
    Tag(&'a str),
    Everyone,
}

impl<'a> Target<'a> {
    /// One session, by its id.
    pub const fn session(id: SessionId) -> Self {
        Self { what: What::Session(id), except: None }
    }

    /// Every session of a subject, compared byte for byte.
    pub const fn subject(subject: &'a str) -> Self {
        Self { what: What::Subject(subject), except: None }
    }

    /// Every session that was given this tag at sign-in.
    pub const fn tag(tag: &'a str) -> Self {
        Self { what: What::Tag(tag), except: None }
    }

    /// Every session of the realm, anonymous ones included.
    pub const fn everyone() -> Self {
        Self { what: What::Everyone, except: None }
    }

    /// Spares one session, from this revocation only. Where a visitor ends his own other sessions,
    /// [`sign_out_others`](crate::Session::sign_out_others) does the same with fewer entries.
    #[must_use]
    pub const fn except(mut self, id: SessionId) -> Self {
        self.except = Some(Spared { id, issued_at: None });
        self
    }

    /// Spares a session that was issued at a known instant.
    #[must_use]
    pub(crate) const fn sparing(mut self, id: SessionId, issued_at: Timestamp) -> Self {
        self.except = Some(Spared { id, issued_at: Some(issued_at) });
        self
    }

    pub(crate) const fn scope(&self) -> Scope {
        match self.what {
            What::Session(_) => Scope::Session,
            What::Subject(_) => Scope::Subject,
            What::Tag(_) => Scope::Tag,
            What::Everyone => Scope::Everyone,
        }
    }

    pub(crate) const fn id(&self) -> Option<SessionId> {
        match self.what {
            What::Session(id) => Some(id),
            _ => None,
        }
    }

    /// Refuses a target that means nobody.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        match self.what {
            What::Subject("") => Err(Error::new(ErrorKind::Subject)),
            _ => Ok(()),
        }
    }

    /// The fact that ends these sessions; it can be forgotten at `until`.
    pub(crate) fn fact(&self, realm: &Realm, before: Timestamp, until: Timestamp) -> Revocation {
        let key = match self.what {
            What::Session(id) if self.except.is_some_and(|spared| spared.id == id) => {
                return Revocation::nothing(id);
            }
            What::Session(id) => return Revocation::session(id, until),
            What::Subject(subject) => realm.subject(subject),
            What::Tag(tag) => realm.tag(tag),
            What::Everyone => realm.everyone,
        };
        Revocation { fact: Fact::Issued { key, before, except: self.except }, until }
    }
}

/// Shows how many it reaches, not whom: subjects and tags may name people.
impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("scope", &self.scope())
            .field("id", &self.id())
            .field("except", &self.except.map(|spared| spared.id))
            .finish()
    }
}
