//! What a sign-in asks for.

use std::fmt;
use std::sync::Arc;

use super::SessionData;
use super::draft::Draft;
use crate::error::{Error, ErrorKind};
use crate::manager::SessionManager;
use crate::policy::Limits;
use crate::token::{MAX_TAGS, Tag, kind_of};

const MAX_SUBJECT: usize = 255;

/// Who signs in, and how: for [`Session::sign_in`](super::Session::sign_in) and bearer tokens.
///
/// ```
/// # use sealed_session::{Map, SignIn};
/// let sign_in: SignIn<Map> = SignIn::new("alice").remember();
/// # let _ = sign_in;
/// ```
#[derive(Clone)]
#[must_use]
pub struct SignIn<T = super::Map> {
    subject: String,
    persistent: bool,
    limits: Option<Limits>,
    tags: Vec<String>,
    data: Option<T>,
}

impl<T> SignIn<T> {
    /// A sign-in of `subject`: the application's own stable id for whose session it is, 1 to 255
    /// bytes, compared byte for byte.
    pub fn new(subject: impl Into<String>) -> Self {
        let subject = subject.into();
        Self { subject, persistent: false, limits: None, tags: Vec::new(), data: None }
    }

    /// Lets the session outlive the browser, under the policy's limits for "remember me".
    pub fn remember(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Shortens the policy's limits for this session. Longer ones are not granted.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Adds a name by which the session can be ended, with
    /// [`Target::tag`](crate::Target::tag): an identity provider's session id, a
    /// device, a tenant. Four at most; only a hash is sealed. A sign-in without tags of a subject
    /// that is signed in already keeps the tags there are.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Sets the data to begin with, in place of what a sign-in would keep. It is for this subject:
    /// never make it from the [`data`](super::Session::data) of a session that may be another's.
    pub fn data(mut self, data: T) -> Self {
        self.data = Some(data);
        self
    }
}

impl<T: SessionData> SignIn<T> {
    /// Settles what the sign-in leaves open, against the session it replaces.
    pub(super) fn resolve(
        self,
        manager: &SessionManager,
        old: &Draft<T>,
    ) -> Result<Next<T>, Error> {
        if self.subject.is_empty() || self.subject.len() > MAX_SUBJECT {
            return Err(Error::new(ErrorKind::Subject));
        }
        if self.tags.len() > MAX_TAGS {
            return Err(Error::with_detail(ErrorKind::TooLarge, "a session has at most four tags"));
        }
        let kind = kind_of(&self.subject, self.persistent);
        let limits = manager.limits(kind, self.limits)?;
        let same = old.subject.as_deref() == Some(self.subject.as_str());
        let tags = if self.tags.is_empty() && same {
            old.tags.clone()
        } else {
            self.tags.iter().map(|tag| manager.realm().tag(tag)).collect()
        };
        let subject = self.subject.into();
        Ok(Next { subject, persistent: self.persistent, limits, tags, data: self.data })
    }
}

/// A sign-in with nothing left open.
pub(super) struct Next<T> {
    pub(super) subject: Arc<str>,
    pub(super) persistent: bool,
    /// Absolute and idle limit in seconds, as they will be sealed.
    pub(super) limits: (u32, u32),
    pub(super) tags: Vec<Tag>,
    pub(super) data: Option<T>,
}

impl<T> From<&str> for SignIn<T> {
    fn from(subject: &str) -> Self {
        Self::new(subject)
    }
}

impl<T> From<String> for SignIn<T> {
    fn from(subject: String) -> Self {
        Self::new(subject)
    }
}

impl<T> From<&String> for SignIn<T> {
    fn from(subject: &String) -> Self {
        Self::new(subject.as_str())
    }
}

/// Shows neither subject nor data.
impl<T> fmt::Debug for SignIn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn")
            .field("persistent", &self.persistent)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
