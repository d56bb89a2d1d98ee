//! Session data and its JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// What a type must be to serve as session data. Every type that qualifies does.
///
/// It is serialized as JSON, so a field that a release adds should have `#[serde(default)]`. What it
/// serializes to must decode again, or a change is refused: JSON turns a NaN into `null`, which no
/// `f64` decodes from, and nests at most 127 deep.
pub trait SessionData:
    Clone + Default + DeserializeOwned + Send + Serialize + Sync + 'static
{
}

impl<T> SessionData for T where
    T: Clone + Default + DeserializeOwned + Send + Serialize + Sync + 'static
{
}

/// Session data without a type: a JSON object.
pub type Map = serde_json::Map<String, Value>;

/// Most sessions fit, so that the buffer need not grow.
const TYPICAL: usize = 1024;

pub(super) fn to_json<T: SessionData>(data: &T) -> Result<Vec<u8>, Error> {
    let mut json = Vec::with_capacity(TYPICAL);
    // The cause could quote the data, so it is not kept.
    serde_json::to_writer(&mut json, data).map_err(|_| {
        let advice = "map keys must be strings, and no Serialize implementation may fail";
        Error::with_detail(ErrorKind::Serialize, advice)
    })?;
    Ok(json)
}

/// Decodes data, or lets a migration rescue what no longer decodes.
pub(super) fn from_json<T: SessionData>(
    json: &[u8],
    migration: Option<fn(Value) -> Option<T>>,
) -> Option<T> {
    // One check of the whole text is cheaper than one for each string in it.
    let text = str::from_utf8(json).ok()?;
    serde_json::from_str(text)
        .ok()
        .or_else(|| migration.and_then(|rescue| rescue(serde_json::from_str(text).ok()?)))
}
