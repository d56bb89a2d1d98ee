//! Messages for the visitor's next page.

use super::{Session, SessionData};
use crate::error::Error;
use crate::token::MAX_FLASH;

/// A message for the next page, such as "Wrong password" after a redirect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flash {
    level: String,
    text: String,
}

impl Flash {
    /// The level that the message was given, the application's own word.
    pub fn level(&self) -> &str {
        &self.level
    }

    /// The text. Escape it in HTML like any other.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T: SessionData> Session<T> {
    /// Leaves a message for the next page that takes messages. Eight at most: a ninth pushes out
    /// the oldest. It starts an anonymous session where there is none, also after a sign-out in the
    /// same request. Messages stay where a sign-in keeps the data, and go where it does not.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update).
    pub fn flash(&self, level: impl Into<String>, text: impl Into<String>) -> Result<(), Error> {
        let mut work = self.begin_change()?;
        let messages = &mut work.draft.flash;
        messages.push(Flash { level: level.into(), text: text.into() });
        let over = messages.len().saturating_sub(MAX_FLASH);
        messages.drain(..over);
        work.begin_session()?;
        work.check()?;
        work.finish(None).map(drop)
    }

    /// Takes all messages out of the session, oldest first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when there are messages but the response has begun,
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy).
    pub fn take_flash(&self) -> Result<Vec<Flash>, Error> {
        if self.state().draft.flash.is_empty() {
            return Ok(Vec::new());
        }
        let mut work = self.begin_change()?;
        let messages = std::mem::take(&mut work.draft.flash);
        work.finish(None)?;
        Ok(messages)
    }
}

/// A JSON array of [level, text], or nothing where there is nothing.
pub(super) fn to_json(messages: &[Flash]) -> Vec<u8> {
    if messages.is_empty() {
        return Vec::new();
    }
    let pairs: Vec<[&str; 2]> = messages.iter().map(|m| [m.level(), m.text()]).collect();
    // Strings always serialize.
    serde_json::to_vec(&pairs).unwrap_or_default()
}

pub(super) fn from_json(json: &[u8]) -> Vec<Flash> {
    if json.is_empty() {
        return Vec::new();
    }
    // The record was refused if this is not what it should be.
    let pairs: Vec<(String, String)> = serde_json::from_slice(json).unwrap_or_default();
    pairs.into_iter().map(|(level, text)| Flash { level, text }).collect()
}
