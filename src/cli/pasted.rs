//! The token to look at: from standard input, in the shapes in which it is copied.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use zeroize::Zeroizing;

use super::{Failure, Streams};
use crate::cookie::candidates;

/// Two of the largest cookies: what is longer was not copied from one.
const MAX_INPUT: usize = 8 * 1024;

/// Reads the token of the cookie `name`, or the bearer token where there is no name.
pub(super) fn read(
    name: Option<&str>,
    streams: &mut Streams,
) -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        writeln!(streams.err, "paste the token, then press Enter and Ctrl-D")?;
    }
    // Room for all of it: a string that grows would leave the token behind in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(MAX_INPUT.saturating_add(2)));
    let limit = u64::try_from(MAX_INPUT).unwrap_or(u64::MAX).saturating_add(1);
    let read = stdin.lock().take(limit).read_to_string(&mut text);
    if text.len() > MAX_INPUT {
        return Err("standard input: over 8 KiB: give one token".into());
    }
    read.map_err(|_| "standard input: not text: give one token")?;
    let token = token(text.trim(), name)?;
    Ok(Zeroizing::new(token.to_owned()))
}

/// Finds the token in what was pasted.
fn token<'a>(text: &'a str, name: Option<&str>) -> Result<&'a str, String> {
    if text.is_empty() {
        return Err("standard input: empty: give a token".to_owned());
    }
    if text.contains(['\n', '\r']) {
        return Err("standard input: more than one line: give one token".to_owned());
    }
    let Some(name) = name else {
        let text = after_word(text, "authorization:").unwrap_or(text);
        return Ok(after_word(text, "bearer ").unwrap_or(text));
    };
    let set_cookie = after_word(text, "set-cookie:").map(|pair| {
        // What follows the first `;` are attributes.
        pair.split(';').next().unwrap_or_default()
    });
    let Some(pairs) = set_cookie.or_else(|| after_word(text, "cookie:")) else {
        // A token has no `=`.
        return if text.contains('=') { value(text, name) } else { Ok(text) };
    };
    value(pairs, name)
}

/// The one value that the pairs hold under this name.
fn value<'a>(pairs: &'a str, name: &str) -> Result<&'a str, String> {
    let mut values = candidates([pairs.as_bytes()], name).into_iter();
    match (values.next().and_then(|value| str::from_utf8(value).ok()), values.next()) {
        (Some(value), None) => Ok(value),
        (Some(_), Some(_)) => {
            Err(format!("standard input: several cookies {name}: give one token"))
        }
        (None, _) => Err(format!(
            "standard input: no cookie {name} of at most 4096 characters: give its line, or the token \
             alone"
        )),
    }
}

/// What follows a word, in whatever case that is written.
fn after_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then(|| rest.trim_start())
}
