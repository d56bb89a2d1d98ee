//! Finds the values of one cookie in the `Cookie` fields of a request.

use std::array;
use std::iter::{self, Take};

use crate::token::MAX_CHARS;

/// The values found under our name, at most eight, in the order of the request, none twice.
///
/// Eight, because every one costs an authentication. Who can fill them with others can also take
/// the session's place by other means, such as evicting its cookie.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Candidates<'a> {
    found: [&'a [u8]; MAX_CANDIDATES],
    len: usize,
}

const MAX_CANDIDATES: usize = 8;

impl<'a> Candidates<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Leaves out an empty value (some clients keep it after a removal), one too long for any
    /// cookie, one that is there already, and the ninth.
    fn push(&mut self, value: &'a [u8]) {
        if value.is_empty() || value.len() > MAX_CHARS || self.into_iter().any(|v| v == value) {
            return;
        }
        if let Some(slot) = self.found.get_mut(self.len) {
            *slot = value;
            self.len = self.len.saturating_add(1);
        }
    }
}

impl<'a> IntoIterator for Candidates<'a> {
    type Item = &'a [u8];
    type IntoIter = Take<array::IntoIter<&'a [u8], MAX_CANDIDATES>>;

    fn into_iter(self) -> Self::IntoIter {
        self.found.into_iter().take(self.len)
    }
}

/// Finds what the `Cookie` fields of one request hold under `name`, which must be a token.
///
/// Works on bytes, since neighbours may hold anything (CK-21). `;` divides, whether between pairs
/// or between fields; the first `=` ends the name; only spaces and tabs around either are dropped;
/// quotes are part of the value (CK-22). A segment without `=` has a value but no name, and so
/// never is ours (CK-20).
pub(crate) fn candidates<'a>(
    headers: impl IntoIterator<Item = &'a [u8]>,
    name: &str,
) -> Candidates<'a> {
    let mut candidates = Candidates::default();
    if name.is_empty() {
        return candidates;
    }
    for header in headers {
        for segment in segments(header) {
            if let Some(value) = value_of(segment, name.as_bytes()) {
                candidates.push(value);
            }
        }
    }
    candidates
}

fn segments(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(header);
    iter::from_fn(move || {
        let bytes = rest?;
        let (segment, after) = bytes.split_at_checked(semicolon(bytes).unwrap_or(bytes.len()))?;
        rest = after.split_first().map(|(_semicolon, next)| next);
        Some(segment)
    })
}

/// Where the next `;` is. A token is long and holds none, so whole blocks are skipped first, by a
/// loop without early exit that the compiler turns into vector instructions.
fn semicolon(bytes: &[u8]) -> Option<usize> {
    let holds_none = |block: &&[u8]| block.iter().fold(0, |any, &b| any | u8::from(b == b';')) == 0;
    let skipped = bytes.chunks_exact(BLOCK).take_while(holds_none).count().saturating_mul(BLOCK);
    let at = bytes.get(skipped..)?.iter().position(|&b| b == b';')?;
    Some(skipped.saturating_add(at))
}

const BLOCK: usize = 32;

fn value_of<'a>(segment: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let after_name = trim_start(segment).strip_prefix(name)?;
    let value = trim_start(after_name).strip_prefix(b"=")?;
    Some(trim_end(trim_start(value)))
}

fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "__Host-Http-id";

    fn read(headers: &[&[u8]]) -> Vec<Vec<u8>> {
        candidates(headers.iter().copied(), NAME).into_iter().map(<[u8]>::to_vec).collect()
    }

    /// The rules once more, word for word and slowly.
    fn reference(headers: &[Vec<u8>], name: &str) -> Vec<Vec<u8>> {
        let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
        let trim = |bytes: &[u8]| -> Vec<u8> {
            let mut bytes: Vec<u8> = bytes.iter().copied().skip_while(blank).collect();
            while bytes.last().is_some_and(blank) {
                bytes.pop();
            }
            bytes
        };
        let mut found: Vec<Vec<u8>> = Vec::new();
        for segment in headers.iter().flat_map(|field| field.split(|byte| *byte == b';')) {
            let mut halves = segment.splitn(2, |byte| *byte == b'=');
            let (Some(left), Some(right)) = (halves.next(), halves.next()) else {
                continue;
            };
            let value = trim(right);
            let ours = trim(left) == name.as_bytes() && !name.is_empty();
            if ours && (1..=4096).contains(&value.len()) && !found.contains(&value) {
                found.push(value);
            }
        }
        found.truncate(8);
        found
    }

    fn field() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"id".to_vec()),
            Just(b"ID".to_vec()),
            Just("\u{2000}id".as_bytes().to_vec()),
            Just(b"=".to_vec()),
            Just(b";".to_vec()),
            Just(b"; id=".to_vec()),
            proptest::sample::select(b" \t\x0B\"\r\n\0,$abc\xff\xc3".to_vec())
                .prop_map(|b| vec![b]),
            Just(vec![b'v'; 4096]),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_reader_agrees_with_a_naive_one(
            fields in prop::collection::vec(field(), 0..4),
            name in "(id)?",
        ) {
            let slices = fields.iter().map(Vec::as_slice);
            let found: Vec<_> = candidates(slices, &name).into_iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(found, reference(&fields, &name));
        }
    }

    #[test]
    fn values_are_kept_up_to_4096_bytes() {
        let field = |len| format!("{NAME}={}", "v".repeat(len)).into_bytes();
        assert_eq!(read(&[&field(4096)]).len(), 1);
        assert!(read(&[&field(4097)]).is_empty());
    }

    #[test]
    fn the_first_eight_different_values_are_kept() {
        let pairs: Vec<_> = (0..10).map(|n| format!("{NAME}={n}; {NAME}=0")).collect();
        let field = pairs.join(";");
        assert_eq!(read(&[field.as_bytes()]).concat(), b"01234567");
        assert!(candidates([], NAME).is_empty());
        assert!(!candidates([field.as_bytes()], NAME).is_empty());
    }
}
