//! The settings: what is refused, where, and with which advice.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/settings.rs"]
mod settings;

use std::time::{Duration, SystemTime};

use figment::Figment;
use figment::providers::Serialized;
use sealed_session::{Config, ErrorKind, KeyRing, Rotation, SessionManager};

use settings::{FILE, config, text, with_keys};

#[test]
fn a_setting_that_is_unsafe_or_contradicts_another_is_refused_by_its_name() {
    let aal2 = "preset = 'nist-aal2'\n";
    let http = "insecure_http = true\n";
    let cases: &[(&str, &str, &str, &str)] = &[
        ("keys", "poll_every = '999ms'", "", "keys.poll_every: must be 1s to 1d"),
        ("keys", "poll_every = '86401s'\nactivation_delay = '9d'", "", "keys.poll_every: must be"),
        ("keys", "activation_delay = '180s'", "", "keys.activation_delay: must be at least 3m 1s"),
        ("keys", "activation_delay = '180s 999ms'", "", "keys.activation_delay: must be at least"),
        ("keys", "poll_every = '1100ms'\nactivation_delay = '123s'", "", "must be at least 2m 4s"),
        ("keys", "poll_every = '1d'\nactivation_delay = '2d'", "", "at least 2days 2m 1s"),
        ("keys", "activation_delay = '31557601s'", "", "keys.activation_delay: must be at most 1y"),
        ("keys", "reload_lag = '31557601s'", "", "keys.reload_lag: must be at most 1y"),
        ("keys", "rotate_every = '31557601s'", "", "keys.rotate_every: must be at most 1y"),
        (
            "keys",
            "rotate_every = '86399s'",
            "",
            "keys.rotate_every: must be at least activation_de",
        ),
        (
            "keys",
            "rotate_every = '234544s'",
            "",
            "at least 3days 10h 55m 11s, or the ring fills up",
        ),
        (
            "policy",
            "browser.absolute_timeout = '10y'",
            "browser.idle_timeout = 'none'",
            "keys.rotate_every: no ring holds keys for so long: shorten absolute_timeout",
        ),
        (
            "policy",
            aal2,
            "browser.absolute_timeout = '86401s'",
            "policy.browser.absolute_timeout: 1day 1s is over the 1day of preset \"nist-aal2\"",
        ),
        ("policy", aal2, "browser.idle_timeout = '3601s'", "policy.browser.idle_timeout: 1h 1s is"),
        (
            "policy",
            aal2,
            "browser.idle_timeout = 'none'",
            "policy.browser.idle_timeout: \"none\" is",
        ),
        (
            "policy",
            aal2,
            "remember.absolute_timeout = '30d'",
            "policy.remember.absolute_timeout: 30",
        ),
        (
            "policy",
            aal2,
            "remember.idle_timeout = '2h'",
            "policy.remember.idle_timeout: 2h is over",
        ),
        ("policy", "preset = 'pci'", "browser.idle_timeout = '16m'", "of preset \"pci\""),
        ("policy", "preset = 'nist-aal3'", "browser.absolute_timeout = '24h'", "\"nist-aal3\""),
        ("policy", "preset = 'nist-aal1'", "browser.absolute_timeout = '31d'", "\"nist-aal1\""),
        (
            "policy",
            "browser.absolute_timeout = '20m'",
            "",
            "policy.browser: idle_timeout, 30m, must not be over absolute_timeout, 20m: set both",
        ),
        ("policy", "remember.idle_timeout = '31d'", "", "policy.remember: idle_timeout, 1month"),
        ("policy", "anonymous.idle_timeout = '13h'", "", "policy.anonymous: idle_timeout, 13h"),
        (
            "policy",
            "browser.idle_timeout = '119s'",
            "",
            "policy.browser: idle_timeout must be whole",
        ),
        ("policy", "browser.absolute_timeout = '11y'", "", "policy.browser: absolute_timeout must"),
        (
            "policy",
            "refresh_after = '59s'",
            "",
            "policy.browser: refresh_after must be 60 s to 900",
        ),
        ("policy", "remember_refresh_after = '4d'", "", "policy.remember: remember_refresh_after"),
        ("policy", "clock_skew = '61m'", "", "policy.clock_skew: must be at most 1 h"),
        ("cookie", "name = 'a b'", "", "cookie.name: "),
        ("cookie", "name = ''", "", "cookie.name: "),
        ("cookie", "path = 'shop'", "", "cookie.path: "),
        ("cookie", "path = '/shop'", "", "cookie.path: session cookie: a name with `__Host-Http-`"),
        ("cookie", "domain = 'example.com'", "", "cookie.domain: "),
        ("cookie", "name = 'id'", "domain = 'example.com'", "cookie.domain: "),
        ("cookie", http, "domain = 'example.com'", "cookie.domain: "),
        ("cookie", http, "name = '__Host-id'", "cookie.name: over plain http"),
        ("cookie", http, "name = '__new-id'", "cookie.name: over plain http"),
        ("cookie", http, "same_site = 'none'", "cookie.same_site: "),
        ("cookie", http, "partitioned = true", "cookie.partitioned: "),
    ];
    for (table, one, other, expected) in cases {
        let lines = format!("{one}\n{other}");
        let part = |name| if *table == name { lines.as_str() } else { "" };

        let config = config(part("keys"), part("policy"), part("cookie"));

        assert_refused(&config, expected);
    }
}

#[test]
fn a_source_of_keys_needs_its_own_setting_and_no_other() {
    let cases = [
        ("source = 'file'", "keys.path: missing"),
        ("source = 'directory'", "keys.path: missing"),
        ("source = 'env'", "keys.variable: missing"),
        ("source = 'file'\npath = ''", "keys.path: empty"),
        ("source = 'directory'\npath = ''", "keys.path: empty"),
        ("source = 'file'\npath = \"a\\u0000\"", "keys.path: may hold no NUL"),
        ("source = 'env'\nvariable = ''", "keys.variable: empty"),
        ("source = 'env'\nvariable = 'A=b'", "keys.variable: may hold no ="),
        ("source = 'env'\nvariable = \"A\\u0000\"", "keys.variable: may hold no ="),
        ("source = 'env'\nvariable = 'A'\npath = 'a'", "keys.path: has no place"),
        ("source = 'file'\nvariable = 'A'\npath = 'a'", "keys.variable: has no place"),
        ("source = 'directory'\nvariable = 'A'\npath = 'a'", "keys.variable: has no place"),
    ];
    for (keys, expected) in cases {
        let config = with_keys(keys);

        assert_refused(&config, expected);
        assert_eq!(config.key_source().err().unwrap().kind(), ErrorKind::Config);
        assert_eq!(config.watch_keys().unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn a_realm_has_1_to_128_bytes() {
    let realm = |realm: &str| -> Config {
        toml::from_str(&text("", "", "").replace("'shop'", &format!("'{realm}'"))).unwrap()
    };

    realm("x").validate().unwrap();
    realm(&"x".repeat(128)).validate().unwrap();
    assert_refused(&realm(""), "realm: must have 1 to 128 bytes");
    assert_refused(&realm(&"x".repeat(129)), "realm: must have 1 to 128 bytes");
}

#[test]
fn what_is_no_setting_does_not_parse() {
    let duration = "expected a duration such as \"30m\"";
    let cases = [
        (format!("[keys]\n{FILE}"), "missing field `realm`"),
        ("realm = 'shop'".into(), "missing field `keys`"),
        ("realm = 'shop'\nkeys = {}".into(), "missing field `source`"),
        (
            format!("relam = 'shop'\n[keys]\n{FILE}"),
            "unknown field `relam`, expected one of `realm`",
        ),
        (text("pol_every = '1s'", "", ""), "unknown field `pol_every`, expected one of `source`"),
        (text("", "skew = '1s'", ""), "unknown field `skew`, expected one of `preset`"),
        (text("", "browser.idle = '1h'", ""), "unknown field `idle`, expected `absolute_timeout`"),
        (
            text("", "anonymous.idle = '1h'", ""),
            "unknown field `idle`, expected `absolute_timeout`",
        ),
        (text("", "", "secure = false"), "unknown field `secure`, expected one of `name`"),
        (text("", "preset = 'aal2'", ""), "unknown variant `aal2`, expected one of `nist-aal1`"),
        (text("", "", "same_site = 'Lax'"), "unknown variant `Lax`, expected one of `strict`"),
        ("realm = 'shop'\nkeys.source = 'vault'".into(), "source must be \"file\", \"directory\""),
        (text("poll_every = 30", "", ""), duration),
        (text("", "browser.absolute_timeout = 1.5", ""), duration),
        (text("poll_every = '30'", "", ""), "time unit needed"),
        (text("poll_every = ''", "", ""), "write a duration such as \"30m\""),
        (text("poll_every = '-30s'", "", ""), "write a duration such as \"30m\""),
        (text("poll_every = 'none'", "", ""), "write a duration such as \"30m\""),
        (text("", "browser.absolute_timeout = 'none'", ""), "write a duration such as \"30m\""),
        (text("", "browser.idle_timeout = '30M'", ""), "M is months"),
        (text("", "browser.idle_timeout = 'never'", ""), "or \"none\" for no idle limit"),
        (text("", "browser.idle_timeout = 0", ""), "a duration such as \"30m\", or \"none\""),
        (text("poll_every = '9999999999999999999y'", "", ""), "number is too large"),
    ];
    for (text, expected) in cases {
        let message = toml::from_str::<Config>(&text).unwrap_err().message().to_owned();

        assert!(message.contains(expected), "{text}\n{message}");
    }
}

#[test]
fn an_idle_limit_of_null_is_not_taken_for_the_default() {
    let config = |idle: &str| {
        let policy = format!(r#"{{"browser": {{"idle_timeout": {idle}}}}}"#);
        let keys = r#"{"source": "env", "variable": "KEYS"}"#;
        let json = format!(r#"{{"realm": "shop", "keys": {keys}, "policy": {policy}}}"#);
        serde_json::from_str::<Config>(&json)
    };

    assert!(config("\"none\"").is_ok());
    let message = config("null").unwrap_err().to_string();
    assert!(message.contains("invalid type: null, expected a duration"), "{message}");
}

#[test]
fn the_text_of_a_key_in_the_place_of_its_address_is_refused_and_not_repeated() {
    let key = KeyRing::generate().unwrap().expose_text();
    let key = key.lines().last().unwrap();
    let secret = key.get(12..55).unwrap();
    let cases = [
        (format!(r#""{key}""#), "expected a table such as"),
        (format!(r#"{{"source": "{key}"}}"#), "source must be"),
        (format!(r#"{{"source": "file", "path": "{key}"}}"#), "write where that is"),
        (format!(r#"{{"source": "env", "variable": "{key}"}}"#), "write where that is"),
    ];
    for (keys, expected) in cases {
        let json = format!(r#"{{"realm": "shop", "keys": {keys}}}"#);

        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let from_json = serde_json::from_str::<Config>(&json).unwrap_err();
        let figment = Figment::from(Serialized::defaults(value));
        let from_figment = figment.extract::<Config>().unwrap_err();

        for error in
            [format!("{from_json} {from_json:?}"), format!("{from_figment} {from_figment:?}")]
        {
            assert!(!error.contains(secret) && error.contains(expected), "{error}");
        }
    }
}

#[test]
fn the_shortest_rotation_that_is_advised_never_fills_the_ring() {
    let policies = [
        "",
        "remember = { absolute_timeout = '10y', idle_timeout = '1h' }",
        "remember = { absolute_timeout = '2y', idle_timeout = 'none' }",
        "browser = { absolute_timeout = '90d', idle_timeout = '90d' }",
    ];
    for policy in policies {
        let refused = config("rotate_every = '1d'", policy, "").rotation().unwrap_err().to_string();
        let shortest = refused.split("at least ").nth(1).unwrap().split(',').next().unwrap();
        let allowed = config(&format!("rotate_every = '{shortest}'"), policy, "");
        let rotation = allowed.rotation().unwrap();

        assert!(holds(&rotation, duration(shortest)), "{policy}: {shortest}");
        assert!(!holds(&rotation, duration(shortest) / 4), "{policy}: {shortest}");
    }
}

#[track_caller]
fn assert_refused(config: &Config, expected: &str) {
    let error = config.validate().unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(message.contains(expected), "{expected}\n{message}");
    let started = SessionManager::from_config(config).unwrap_err();
    assert_eq!(started.to_string(), message);
}

/// Whether a ring has room for all its keys, if it is rotated as often as said for a long time.
fn holds(rotation: &Rotation, rotate_every: Duration) -> bool {
    let mut now = SystemTime::now();
    let mut ring = KeyRing::generate().unwrap();
    for _ in 0..60 {
        let Ok(rotated) = ring.rotate(rotation, now) else { return false };
        ring = rotated.ring().expose_text().parse().unwrap();
        now += rotate_every;
    }
    true
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap()
}
