//! The text of a ring: one key a line, with its dates.
//!
//! What is read here is well-formed; whether it makes a ring is for the ring to say.

use std::fmt::{self, Write as _};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::Key;
use super::ring::{Entry, refused, refused_at};
use crate::base64url;
use crate::clock::Timestamp;
use crate::error::Error;

/// Reads the lines, in their order.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Error> {
    if text.len() > MAX_TEXT {
        return Err(refused("over 64 KiB of text: keep at most 16 keys"));
    }
    let mut entries = Vec::new();
    for (line, number) in text.split(['\n', ';']).zip(1..) {
        let line = line.strip_suffix('\r').unwrap_or(line).trim_matches(BLANKS);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if entries.len() >= MAX_KEYS {
            return Err(refused_at(number, "more than 16 keys: remove expired and revoked ones"));
        }
        entries.push(entry(line, number).map_err(|reason| refused_at(number, reason))?);
    }
    Ok(entries)
}

/// Writes what `parse` reads.
pub(super) fn print(entries: &[Entry]) -> Zeroizing<String> {
    // Room for all of it: a string that grows would leave its secrets behind in freed memory.
    let room = entries.len().saturating_add(1).saturating_mul(MAX_LINE);
    let mut out = Zeroizing::new(String::with_capacity(room));
    out.push_str("# newest last\n");
    for entry in entries {
        print_line(entry, &mut out);
    }
    out
}

/// Writes what `parse` reads over a text that it read: what need not change stays as it was, comments
/// and the order of lines among it.
#[cfg(feature = "cli")]
pub(super) fn print_over(entries: &[Entry], old: &str) -> Zeroizing<String> {
    // Room for all of it, as above: no line gets longer by more than one can be long.
    let room = entries.len().saturating_add(1).saturating_mul(MAX_LINE);
    let mut out = Zeroizing::new(String::with_capacity(old.len().saturating_add(room)));
    let mut kept = Vec::new();
    for piece in old.split_inclusive(['\n', ';']) {
        let line = piece.strip_suffix(['\n', ';']).unwrap_or(piece);
        let words = line.strip_suffix('\r').unwrap_or(line).trim_matches(BLANKS);
        // What is no key is blank or a comment, since the text was read before.
        let Ok(before) = entry(words, 0) else {
            out.push_str(piece);
            continue;
        };
        let id = before.key.id();
        let Some(after) = entries.iter().find(|entry| entry.key.id() == id) else { continue };
        kept.push(id);
        if after.says_same(&before) {
            out.push_str(piece);
        } else {
            let (indent, rest) = line.split_at(line.find(PREFIX).unwrap_or_default());
            let key = rest.split([' ', '\t', '\r']).next().unwrap_or_default();
            let end = piece.get(line.trim_end_matches('\r').len()..).unwrap_or_default();
            // Writing to a string does not fail.
            let _ = write!(out, "{indent}{key}{}{end}", Words(after));
        }
    }
    if !out.is_empty() && !out.ends_with(['\n', ';']) {
        out.push('\n');
    }
    let added = entries.iter().filter(|entry| !kept.contains(&entry.key.id()));
    added.for_each(|entry| print_line(entry, &mut out));
    out
}

fn print_line(entry: &Entry, out: &mut String) {
    let start = out.len();
    out.push_str(PREFIX);
    base64url::encode_onto(entry.key.root(), out);
    out.push('_');
    let checksum = crc32fast::hash(out.as_bytes().get(start..).unwrap_or_default());
    base64url::encode_onto(&checksum.to_be_bytes(), out);
    // Writing to a string does not fail.
    let _ = writeln!(out, "{}", Words(entry));
}

/// What follows the key on its line.
pub(super) struct Words<'a>(pub(super) &'a Entry);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.0.seal_from {
            write!(f, " {SEAL_FROM}{}", Date(at))?;
        }
        if let Some(at) = self.0.open_until {
            write!(f, " {OPEN_UNTIL}{}", Date(at))?;
        }
        if self.0.revoked { write!(f, " {REVOKED}") } else { Ok(()) }
    }
}

/// An instant as RFC 3339 has it, in UTC and whole seconds.
pub(crate) struct Date(pub(crate) Timestamp);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.as_millis() / 1000).unwrap_or(LAST_SECOND);
        // Dates are read up to the last second of 9999, so the second way is never taken.
        let at = OffsetDateTime::from_unix_timestamp(seconds.min(LAST_SECOND))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let ((year, month, day), (hour, minute, second)) = (at.to_calendar_date(), at.to_hms());
        let month = u8::from(month);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

pub(super) const MAX_TEXT: usize = 64 * 1024;
pub(super) const MAX_KEYS: usize = 16;
/// 62 characters of key, 31 and 32 for the dates, 8 for `revoked`, 1 for the end of the line.
const MAX_LINE: usize = 134;
const BLANKS: [char; 2] = [' ', '\t'];
const PREFIX: &str = "sealsess_k1_";
const SEAL_FROM: &str = "seal_from=";
const OPEN_UNTIL: &str = "open_until=";
const REVOKED: &str = "revoked";
/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;
pub(super) const LAST_DATE: Timestamp = Timestamp::from_millis(253_402_300_799_000);

type Reason = &'static str;

fn entry(text: &str, line: usize) -> Result<Entry, Reason> {
    let mut words = text.split(BLANKS).filter(|word| !word.is_empty());
    let key = key(words.next().unwrap_or_default())?;
    let mut entry = Entry { key, line, seal_from: None, open_until: None, revoked: false };
    for word in words {
        if let Some(at) = word.strip_prefix(SEAL_FROM) {
            if entry.seal_from.replace(date(at)?).is_some() {
                return Err("seal_from twice: remove one");
            }
        } else if let Some(at) = word.strip_prefix(OPEN_UNTIL) {
            if entry.open_until.replace(date(at)?).is_some() {
                return Err("open_until twice: remove one");
            }
        } else if word != REVOKED {
            return Err(
                "an unknown word: only seal_from=, open_until= and revoked may follow a key",
            );
        } else if std::mem::replace(&mut entry.revoked, true) {
            return Err("revoked twice: remove one");
        }
    }
    Ok(entry)
}

/// Reads a key, cut by width: its characters may be underscores themselves.
fn key(text: &str) -> Result<Key, Reason> {
    let Some(rest) = text.strip_prefix(PREFIX) else {
        return Err("no key: a line starts with sealsess_k1_ or #, and ends at a semicolon");
    };
    // 43 + 1 + 6 characters.
    let Some((head, checksum)) = text.as_bytes().split_at_checked(56).filter(|_| rest.len() == 50)
    else {
        return Err("not a whole key, which has 62 characters: copy it again");
    };
    if base64url::decode_array(checksum) != Some(crc32fast::hash(head).to_be_bytes()) {
        return Err("the checksum of the key does not match, so there is a typo: copy it again");
    }
    let root = rest.as_bytes().split_at_checked(43).filter(|(_, tail)| tail.starts_with(b"_"));
    // On the heap, where it can be wiped: an array handed on by value stays behind on the stack.
    let root = root.and_then(|(root, _)| base64url::decode(root)).map(Zeroizing::new);
    let root = root.as_ref().and_then(|root| root.as_slice().try_into().ok());
    root.map(Key::new).ok_or("the key is not canonical base64url: generate one")
}

fn date(text: &str) -> Result<Timestamp, Reason> {
    if text.get(19..).is_some_and(|rest| rest.starts_with('.')) {
        return Err("a date with a fraction of a second: give whole seconds");
    }
    let Some(date) = rfc3339(text) else {
        return Err(match rfc3339(&format!("{text}Z")) {
            Some(_) => "a date without a zone: append Z for UTC",
            None => "not a date: write it like 2026-11-30T00:00:00Z",
        });
    };
    let seconds = Some(date.unix_timestamp()).filter(|seconds| *seconds <= LAST_SECOND);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let millis = seconds.ok_or("a date outside of 1970 to 9999: correct it")?.saturating_mul(1000);
    Ok(Timestamp::from_millis(millis))
}

fn rfc3339(text: &str) -> Option<OffsetDateTime> {
    // The library takes any separator; `T` is what is documented.
    // One spelling of an instant, not two: `T` and `Z` in upper case.
    let text = Some(text).filter(|text| text.as_bytes().get(10) == Some(&b'T'))?;
    let text = Some(text).filter(|text| !text.ends_with('z'))?;
    // A leap second comes back as the last fraction of the second before it.
    OffsetDateTime::parse(text, &Rfc3339).ok().filter(|date| date.nanosecond() == 0)
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn a_text_written_over_another_is_allocated_once() {
        let ring = crate::key::KeyRing::for_tests().unwrap();
        let mut entries = ring.entries().to_vec();
        let old = print(&entries);
        let room = |entries: usize| old.len() + (entries + 1) * MAX_LINE;
        let latest = Timestamp::from_millis(u64::MAX);
        for entry in &mut entries {
            (entry.seal_from, entry.open_until, entry.revoked) = (Some(latest), Some(latest), true);
        }
        assert_eq!(print_over(&entries, &old).capacity(), room(1));

        entries = vec![crate::key::KeyRing::for_tests().unwrap().entries()[0].clone(); MAX_KEYS];
        assert_eq!(print_over(&entries, &old).capacity(), room(MAX_KEYS));
    }
}
