//! How things look: times, states, foreign text, JSON.

use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::{Failure, Streams};
use crate::clock::Timestamp;
use crate::key::{Date, KeyState};

/// An instant in UTC.
pub(super) fn date(at: SystemTime) -> String {
    Date(Timestamp::from_system(at)).to_string()
}

/// An instant in UTC, and how far off it is.
pub(super) fn date_from(now: SystemTime, at: SystemTime) -> String {
    format!("{} ({})", date(at), relative(now, at))
}

/// How far off an instant is, as in "in 23h 59m" and "3d ago".
pub(super) fn relative(now: SystemTime, at: SystemTime) -> String {
    match at.duration_since(now) {
        Ok(ahead) if ahead < Duration::from_secs(1) => "now".to_owned(),
        Ok(ahead) => format!("in {}", length(ahead)),
        Err(behind) => format!("{} ago", length(behind.duration())),
    }
}

/// A length of time in its two largest units, rounded down.
pub(super) fn length(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut parts = Vec::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        let count = rest.checked_div(seconds).unwrap_or_default();
        rest = rest.checked_rem(seconds).unwrap_or_default();
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// The state of a key in its colour, as wide as the widest one.
pub(super) fn state(state: KeyState, width: usize) -> String {
    let style = match state {
        KeyState::Active => AnsiColor::Green.on_default(),
        KeyState::Pending => AnsiColor::Cyan.on_default(),
        KeyState::AcceptOnly => AnsiColor::Yellow.on_default(),
        KeyState::Expired | KeyState::Revoked => AnsiColor::Red.on_default().dimmed(),
    };
    painted(style, format_args!("{state:width$}"))
}

pub(super) fn yellow(text: &str) -> String {
    painted(AnsiColor::Yellow.on_default(), text)
}

pub(super) fn green(text: &str) -> String {
    painted(AnsiColor::Green.on_default(), text)
}

pub(super) fn red(text: &str) -> String {
    painted(AnsiColor::Red.on_default(), text)
}

fn painted(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Text from a token, without what could speak to the terminal that shows it.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

/// Writes an object, and nothing in it that could speak to a terminal.
pub(super) fn json(streams: &mut Streams, object: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(object)?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Outside of strings there is nothing but ASCII, and in ASCII only this one is left.
        if c == '\u{7f}' || (!c.is_ascii() && c.escape_debug().len() > 1) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Ok(writeln!(streams.out, "{out}")?)
}

/// An instant as JSON has it.
pub(super) fn json_date(at: Option<SystemTime>) -> Value {
    at.map_or(Value::Null, |at| date(at).into())
}
