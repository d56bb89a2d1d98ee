//! Durations as people write them.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A duration from text such as `30m`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DurationText(pub(super) Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30m\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
                parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text).map(Self)
    }
}

/// An idle limit: a duration, or none from the text `none`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct IdleText(pub(super) Option<Duration>);

impl<'de> Deserialize<'de> for IdleText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Option<Duration>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30m\", or \"none\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Option<Duration>, E> {
                match text {
                    "none" => Ok(None),
                    _ => parse(text).map(Some).map_err(|error| {
                        E::custom(format_args!("{error}, or \"none\" for no idle limit"))
                    }),
                }
            }
        }
        deserializer.deserialize_str(Text).map(Self)
    }
}

/// A duration as it may be written, for messages.
pub(super) fn shown(duration: Duration) -> impl fmt::Display {
    humantime::format_duration(duration)
}

fn parse(text: &str) -> Result<Duration, String> {
    if text.contains('M') {
        return Err(format!("{text:?}: M is months: write \"30m\" for minutes, \"30d\" for days"));
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?}: {error}: write a duration such as \"30m\""))
}
