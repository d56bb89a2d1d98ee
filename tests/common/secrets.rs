//! Texts that could be logged, and what must not occur in them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Debug;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sealed_session::{Error, ErrorKind};
use sha2::Sha256;

/// Every text that could be logged, with what it comes from.
#[derive(Default)]
pub struct Texts(pub Vec<(String, String)>);

impl Texts {
    pub fn debug(&mut self, of: impl Debug) {
        let name = format!("{of:?}").split([' ', '{', '(']).next().unwrap().to_owned();
        self.0.push((name.clone(), format!("{of:?}")));
        self.0.push((name, format!("{of:#?}")));
    }

    pub fn error(&mut self, kind: ErrorKind, error: &Error) {
        assert_eq!(error.kind(), kind, "{error}");
        self.0.push((format!("{kind:?}"), error.to_string()));
        self.debug(error);
    }
}

/// What must not occur: a piece of any of these.
#[derive(Default)]
pub struct Secrets(pub Vec<(&'static str, String)>);

impl Secrets {
    /// In every form in which bytes are usually printed, and not only whole.
    pub fn bytes(&mut self, name: &'static str, bytes: &[u8]) {
        for piece in bytes.windows(8) {
            let mut list = format!("{piece:?}");
            list.retain(|char| !"[]".contains(char));
            self.0.push((name, list.replace(", ", ",")));
            self.0.push((name, list));
            let hex = piece.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            self.0.push((name, hex.to_uppercase()));
            self.0.push((name, hex));
        }
        self.text(name, &URL_SAFE_NO_PAD.encode(bytes));
        self.text(name, &STANDARD.encode(bytes));
    }

    pub fn text(&mut self, name: &'static str, text: &str) {
        for at in 0..=text.len().saturating_sub(12) {
            self.0.push((name, text[at..].chars().take(12).collect()));
        }
    }

    /// A token, but for version and key id, which anyone may see.
    pub fn token(&mut self, token: &str) {
        self.text("token", &token[8..]);
        self.bytes("token", &URL_SAFE_NO_PAD.decode(token).unwrap()[6..]);
    }

    /// A ring's text: all of its keys and what is derived from them.
    pub fn ring(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (root, checksum) = (&line[12..55], &line[56..62]);
            self.0.push(("checksum", checksum.into()));
            let root = URL_SAFE_NO_PAD.decode(root).unwrap();
            for label in ["sealed-session v1 seal", "sealed-session v1 csrf"] {
                let mac = Hmac::<Sha256>::new_from_slice(&root).unwrap();
                let derived = mac.chain_update(label).chain_update([1]).finalize().into_bytes();
                self.bytes(label, &derived);
            }
            self.bytes("root", &root);
        }
    }

    pub fn assert_absent(&self, texts: &Texts) {
        assert!(!texts.0.is_empty() && !self.0.is_empty());
        for (from, text) in &texts.0 {
            // A pretty list has a line for each byte.
            let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for (what, secret) in &self.0 {
                assert!(
                    !text.contains(secret.as_str()) && !flat.contains(secret.as_str()),
                    "{from} shows {what}: {text}"
                );
            }
        }
    }
}
