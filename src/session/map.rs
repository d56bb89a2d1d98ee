//! Sessions without a type of their own: named values.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Map, Session};
use crate::error::{Error, ErrorKind};

impl Session<Map> {
    /// The value under `key`, None where there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Data`] when the value is not a `V`.
    pub fn get<V: DeserializeOwned>(&self, key: &str) -> Result<Option<V>, Error> {
        self.data()
            .get(key)
            .map(V::deserialize)
            .transpose()
            .map_err(|_| Error::new(ErrorKind::Data))
    }

    /// Sets the value under `key`.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update).
    pub fn insert(&self, key: impl Into<String>, value: impl Serialize) -> Result<(), Error> {
        let value = serde_json::to_value(value).map_err(|_| Error::new(ErrorKind::Serialize))?;
        self.update(|map| map.insert(key.into(), value)).map(drop)
    }

    /// Removes the value under `key` and returns it.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update).
    pub fn remove(&self, key: &str) -> Result<Option<Value>, Error> {
        self.update(|map| map.remove(key))
    }
}
