//! What the tests of the settings share: a text of TOML that is valid but for what a test adds.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use sealed_session::Config;

pub const FILE: &str = "source = 'file'\npath = 'session.keys'\n";

pub fn text(keys: &str, policy: &str, cookie: &str) -> String {
    format!("realm = 'shop'\n[keys]\n{FILE}{keys}\n[policy]\n{policy}\n[cookie]\n{cookie}\n")
}

pub fn config(keys: &str, policy: &str, cookie: &str) -> Config {
    let text = text(keys, policy, cookie);
    toml::from_str(&text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

pub fn with_keys(keys: &str) -> Config {
    toml::from_str(&format!("realm = 'shop'\n[keys]\n{keys}\n")).unwrap()
}
