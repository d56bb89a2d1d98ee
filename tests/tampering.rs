//! Whatever is done to a token: it is rejected, with the kind that fits, and the visitor is told
//! nothing.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "helpers of tests")]
#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use sealed_session::{ErrorKind, Event, Map, Session, SessionData, SessionManager, SignIn};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const NAME: &str = "__Host-Http-id";
/// Version, key id and nonce, and the tag: no token is shorter.
const FRAME: usize = 1 + 4 + 24 + 16;
/// Version and key id.
const HEAD: usize = 1 + 4;

/// A manager that keeps the kinds of its rejections.
struct App {
    sessions: SessionManager,
    rejected: Arc<Mutex<Vec<ErrorKind>>>,
}

impl App {
    fn new() -> Self {
        let rejected = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&rejected);
        let observer = move |event: &Event<'_>| {
            if let Event::Rejected { kind, .. } = event {
                writer.lock().unwrap().push(*kind);
            }
        };
        let sessions = common::builder().0.observer(observer).build().unwrap();
        Self { sessions, rejected }
    }

    /// Tokens whose lengths leave 0, 2 and 3 when divided by four, as bearer and as cookie values.
    fn tokens(&self) -> Vec<(Transport, String)> {
        ["a", "al", "ali"]
            .into_iter()
            .flat_map(|subject| {
                let bearer = self.sessions.bearer::<Map>().issue(subject).unwrap();
                let cookie = self.sessions.cookie_for::<Map>(subject).unwrap();
                let value = cookie.strip_prefix(NAME).unwrap().strip_prefix('=').unwrap();
                [(Transport::Bearer, bearer), (Transport::Cookie, value.to_owned())]
            })
            .collect()
    }

    /// What becomes of this value: None if it opens.
    fn verdict(&self, transport: Transport, value: &[u8]) -> Option<ErrorKind> {
        match (transport, str::from_utf8(value)) {
            (Transport::Bearer, Ok(text)) => {
                self.sessions.bearer::<Map>().open(text).err().map(|error| error.kind())
            }
            // Bearer tokens are strings.
            (Transport::Bearer, Err(_)) => Some(ErrorKind::Malformed),
            (Transport::Cookie, _) => self.cookie::<Map>(value),
        }
    }

    /// The same for a cookie, and the answer to the visitor: nothing, whatever the reason.
    fn cookie<T: SessionData>(&self, value: &[u8]) -> Option<ErrorKind> {
        self.rejected.lock().unwrap().clear();
        let field = [NAME.as_bytes(), b"=", value].concat();
        let session: Session<T> = self.sessions.open([field]).unwrap();
        let rejected = self.rejected.lock().unwrap().clone();
        let anonymous = session.subject().is_none() && session.id().is_none();
        assert_eq!(session.close().unwrap().into_iter().next(), None);
        if !anonymous {
            assert!(rejected.is_empty());
            return None;
        }
        assert!(session.issued_at().is_none() && session.expires_at().is_none());
        // A value divided by a semicolon is the part before it, an empty one is none.
        Some(rejected.first().copied().unwrap_or(ErrorKind::SignedOut))
    }

    #[track_caller]
    fn assert_verdict(&self, transport: Transport, value: &str, kind: ErrorKind) {
        assert_eq!(self.verdict(transport, value.as_bytes()), Some(kind), "{transport:?} {value}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Transport {
    Bearer,
    Cookie,
}

fn decode(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token).unwrap()
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The kind that a token altered at this byte is rejected with.
const fn altered_at(byte: usize) -> ErrorKind {
    match byte {
        0 => ErrorKind::Version,
        1..HEAD => ErrorKind::KeyUnknown,
        _ => ErrorKind::Forged,
    }
}

#[test]
fn an_untouched_token_opens() {
    let app = App::new();
    let mut remainders = Vec::new();
    for (transport, token) in app.tokens() {
        assert_eq!(app.verdict(transport, token.as_bytes()), None);
        assert_eq!(encode(&decode(&token)), token);
        remainders.push(token.len() % 4);
    }
    remainders.sort_unstable();
    assert_eq!(remainders, [0, 0, 2, 2, 3, 3]);
}

#[test]
fn every_single_bit_flip_is_rejected() {
    let app = App::new();
    for (transport, token) in app.tokens() {
        let mut bytes = decode(&token);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                app.assert_verdict(transport, &encode(&bytes), altered_at(at));
                bytes[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn every_other_version_is_rejected_as_such() {
    let app = App::new();
    for (transport, token) in app.tokens() {
        let mut bytes = decode(&token);
        for version in (0..=255).filter(|version| *version != 1) {
            bytes[0] = version;
            app.assert_verdict(transport, &encode(&bytes), ErrorKind::Version);
            // Whatever follows in it, a later version may have any length.
            app.assert_verdict(transport, &encode(&bytes[..6]), ErrorKind::Version);
        }
    }
}

#[test]
fn every_truncation_in_bytes_is_rejected() {
    let app = App::new();
    for (transport, token) in app.tokens() {
        let bytes = decode(&token);
        for len in 1..bytes.len() {
            let kind = if len < FRAME { ErrorKind::Malformed } else { ErrorKind::Forged };
            app.assert_verdict(transport, &encode(&bytes[..len]), kind);
            // Too short is told before the key is looked up.
            let mut unknown = bytes[..len].to_vec();
            if len >= FRAME - 1 {
                unknown[1] ^= 1;
                let kind = if len < FRAME { kind } else { ErrorKind::KeyUnknown };
                app.assert_verdict(transport, &encode(&unknown), kind);
            }
        }
        for from in 1..bytes.len() {
            let verdict = app.verdict(transport, encode(&bytes[from..]).as_bytes());
            assert!(verdict.is_some_and(ErrorKind::is_rejection), "{from}");
        }
    }
}

#[test]
fn every_truncation_in_characters_is_rejected() {
    let app = App::new();
    for (transport, token) in app.tokens() {
        for len in 1..token.len() {
            let canonical = URL_SAFE_NO_PAD.decode(&token[..len]).is_ok();
            let long_enough = len >= FRAME * 4 / 3;
            let kind =
                if canonical && long_enough { ErrorKind::Forged } else { ErrorKind::Malformed };
            app.assert_verdict(transport, &token[..len], kind);
        }
    }
}

#[test]
fn every_extension_by_a_character_is_rejected() {
    let app = App::new();
    for (transport, token) in app.tokens() {
        for extra in (0..=0x7F).map(char::from).chain(['é', '\u{FEFF}', '\u{2028}']) {
            if transport == Transport::Cookie && [';', ' ', '\t'].contains(&extra) {
                continue; // not part of the value
            }
            let longer = format!("{token}{extra}");
            let canonical = URL_SAFE_NO_PAD.decode(&longer).is_ok();
            let kind = if canonical { ErrorKind::Forged } else { ErrorKind::Malformed };
            app.assert_verdict(transport, &longer, kind);
            let shifted = format!("{extra}{token}");
            let verdict = app.verdict(transport, shifted.as_bytes());
            assert!(verdict.is_some_and(ErrorKind::is_rejection), "{shifted}");
        }
    }
}

/// Other texts that a lenient reader takes for the same bytes: trailing bits set, padding, the
/// standard alphabet.
fn twins(token: &str) -> Vec<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = ALPHABET.iter().position(|byte| token.as_bytes().last() == Some(byte)).unwrap();
    let spare = [0, 0, 15, 3][token.len() % 4];
    assert_eq!(last & spare, 0);
    let bits = (1..=spare).map(|bits| {
        let twin = char::from(ALPHABET[last | bits]);
        format!("{}{twin}", &token[..token.len() - 1])
    });
    let padded = ["=", "==", "===", "===="].map(|padding| format!("{token}{padding}"));
    let standard = token.replace('-', "+").replace('_', "/");
    bits.chain(padded).chain(Some(standard).filter(|twin| twin != token)).collect()
}

#[test]
fn only_the_canonical_text_opens() {
    let app = App::new();
    // One token in fifty has no character in which the alphabets differ.
    for (transport, token) in (0..20).flat_map(|_| app.tokens()) {
        assert_eq!(app.verdict(transport, token.as_bytes()), None);
        for twin in twins(&token) {
            app.assert_verdict(transport, &twin, ErrorKind::Malformed);
        }
    }
}

#[test]
fn a_foreign_character_anywhere_is_rejected() {
    let app = App::new();
    let (transport, token) = app.tokens().swap_remove(0);
    let (other, value) = app.tokens().swap_remove(1);
    assert_eq!((transport, other), (Transport::Bearer, Transport::Cookie));
    for (transport, token) in [(transport, token), (other, value)] {
        for foreign in ["\0", " ", "\t", "\r", "\n", "\r\n", "\u{7F}", ".", "=", "%2D", ",", "\""] {
            for at in 0..=token.len() {
                let edge = at == 0 || at == token.len();
                if transport == Transport::Cookie
                    && edge
                    && foreign.trim_matches([' ', '\t']).is_empty()
                {
                    continue; // trimmed, as around every cookie
                }
                let (before, after) = token.split_at(at);
                let inserted = format!("{before}{foreign}{after}");
                app.assert_verdict(transport, &inserted, ErrorKind::Malformed);
            }
        }
    }
}

#[test]
fn a_token_of_other_bytes_than_text_is_rejected() {
    let app = App::new();
    for (transport, token) in app.tokens() {
        for at in [0, 7, 8, 40, token.len() - 1] {
            for byte in 0x80..=0xFF {
                let mut bytes = token.clone().into_bytes();
                bytes[at] = byte;
                assert_eq!(app.verdict(transport, &bytes), Some(ErrorKind::Malformed));
            }
        }
    }
}

/// A JSON array in an array, and so on.
#[derive(Clone, Default, Deserialize, Serialize)]
struct Deep(Vec<Deep>);

fn deep(levels: usize) -> Deep {
    (1..levels).fold(Deep::default(), |inner, _| Deep(vec![inner]))
}

#[test]
fn data_nested_too_deep_to_be_read_again_is_refused_without_a_panic() {
    let app = App::new();
    // Two octets a level, so 10 KB of brackets do not fit by far.
    let deepest = (4096 * 3 / 4 - 84 - "alice".len()) / 2;
    let bearer = app.sessions.bearer::<Deep>();
    let issue = |levels| bearer.issue(SignIn::new("alice").data(deep(levels)));

    // The JSON reader stops at 128 levels, before the stack ends.
    for levels in [128, 129, 1_000, deepest, deepest + 1] {
        assert_eq!(issue(levels).unwrap_err().kind(), ErrorKind::Serialize, "{levels}");
    }
    let token = issue(127).unwrap();
    assert!(app.sessions.bearer::<Deep>().open(&token).is_ok());
    assert!(app.sessions.bearer::<Value>().open(&token).is_ok());
    assert_eq!(app.sessions.bearer::<Map>().open(&token).unwrap_err().kind(), ErrorKind::Data);
    assert_eq!(app.sessions.bearer::<u8>().open(&token).unwrap_err().kind(), ErrorKind::Data);
}

#[test]
fn brackets_as_data_of_another_type_are_rejected_without_a_panic() {
    let app = App::new();
    let brackets = SignIn::new("alice").data("[".repeat(2_900));
    let token = app.sessions.bearer::<String>().issue(brackets).unwrap();
    assert!(app.sessions.bearer::<String>().open(&token).is_ok());
    assert_eq!(app.sessions.bearer::<Map>().open(&token).unwrap_err().kind(), ErrorKind::Data);
    assert_eq!(app.sessions.bearer::<Deep>().open(&token).unwrap_err().kind(), ErrorKind::Data);
}

/// What a forger's bytes may be refused as: all that comes before authentication, and itself.
fn is_refused_unread(verdict: Option<ErrorKind>) -> bool {
    use ErrorKind::{Forged, KeyUnknown, Malformed, Version};
    matches!(verdict, Some(Malformed | Version | KeyUnknown | Forged))
}

#[test]
fn arbitrary_bytes_of_every_length_are_rejected() {
    let app = App::new();
    let (_, token) = app.tokens().swap_remove(0);
    let head = decode(&token)[..HEAD].to_vec();
    // Some noise without a generator: 64-bit steps of Knuth's.
    let mut state = 1_u64;
    let mut noise = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    for len in 0..200_usize {
        let random: Vec<u8> = (0..len).map(|_| noise()).collect();
        let headed: Vec<u8> =
            head.iter().copied().chain(random.iter().copied()).take(len).collect();
        for transport in [Transport::Bearer, Transport::Cookie] {
            for bytes in [&random, &headed, &vec![0; len], &vec![0xFF; len], &vec![1; len]] {
                let text = encode(bytes);
                let none = transport == Transport::Cookie && text.is_empty();
                let verdict = app.verdict(transport, text.as_bytes());
                assert!(is_refused_unread(verdict) || none, "{transport:?} {text}");
            }
            let kind = if len < FRAME { ErrorKind::Malformed } else { ErrorKind::Forged };
            if len > HEAD {
                app.assert_verdict(transport, &encode(&headed), kind);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn arbitrary_input_is_rejected_and_never_answered(
        bytes in prop::collection::vec(any::<u8>(), 0..5_000),
        text in ".*",
        plausible in "AQ[A-Za-z0-9_-]{0,200}",
    ) {
        let app = App::new();
        for value in [bytes.as_slice(), text.as_bytes(), plausible.as_bytes()] {
            prop_assert!(is_refused_unread(app.verdict(Transport::Bearer, value)));
            let verdict = app.verdict(Transport::Cookie, value);
            prop_assert!(is_refused_unread(verdict) || verdict == Some(ErrorKind::SignedOut));
        }
    }

    #[test]
    fn bytes_that_are_not_authentic_never_reach_the_record(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let app = App::new();
        for (transport, token) in app.tokens() {
            let original = decode(&token);
            let mut bytes = original.clone();
            for (at, mask) in &changes {
                *at.get_mut(&mut bytes) ^= mask;
            }
            bytes.truncate(bytes.len() - cut.index(4));
            let verdict = app.verdict(transport, encode(&bytes).as_bytes());
            prop_assert!(is_refused_unread(verdict) || bytes == original);
        }
    }
}

#[test]
fn a_visitor_gets_the_same_answer_whatever_was_wrong() {
    let app = App::new();
    let (transport, token) = app.tokens().swap_remove(1);
    assert_eq!(transport, Transport::Cookie);
    let bytes = decode(&token);
    let altered = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        encode(&bytes)
    };
    for (value, kind) in [
        (String::new(), ErrorKind::SignedOut),
        ("?".to_owned(), ErrorKind::Malformed),
        (altered(0), ErrorKind::Version),
        (altered(1), ErrorKind::KeyUnknown),
        (altered(60), ErrorKind::Forged),
    ] {
        let field = format!("{NAME}={value}");
        let session: Session = app.sessions.open(Some(&field)).unwrap();
        assert!(session.data().is_empty() && session.take_flash().unwrap().is_empty());
        assert!(session.verify_csrf("").is_err());
        app.assert_verdict(transport, &value, kind);
    }
}
