//! What a session of the shop holds.

use sealed_session::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// The session data. New fields get a default, so that sessions of an older release still open.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Shop {
    pub(crate) cart: Vec<String>,
}

impl Shop {
    /// Puts an item into the cart.
    pub(crate) fn add(&mut self, item: &str) -> Result<(), Refusal> {
        let item = item.trim();
        if item.is_empty() {
            return Err(Refusal::Empty);
        }
        if item.chars().count() > MAX_ITEM {
            return Err(Refusal::TooLong);
        }
        self.cart.push(item.to_owned());
        if serde_json::to_vec(&self.cart).map_or(usize::MAX, |json| json.len()) > MAX_CART {
            return Err(Refusal::Full);
        }
        Ok(())
    }
}

/// Characters of one item.
pub(crate) const MAX_ITEM: usize = 200;

/// Bytes of the whole cart as JSON. A cookie holds about 2,900: the rest is for what comes later, a
/// subject at sign-in and messages. With a cart up to the brim nobody could sign in any more.
const MAX_CART: usize = 2_400;

/// Why an item did not go into the cart.
pub(crate) enum Refusal {
    Empty,
    TooLong,
    Full,
    Session(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::TooLarge => Self::Full,
            _ => Self::Session(error),
        }
    }
}
