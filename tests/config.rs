//! The settings: what each does, and that every format gives the same.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/settings.rs"]
mod settings;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use figment::Figment;
use figment::providers::{Env, Format as _, Toml};
use figment::value::Value;
use sealed_session::{
    Config, Cookie, ErrorKind, FileKeys, KeyRing, Limits, Map, Policy, Rotation, SameSite, Session,
    SessionManager,
};

use common::{DAY, HOUR, MINUTE, SECOND};
use settings::{FILE, config, text, with_keys};

/// The table that the documentation of `Config` shows.
const DOCUMENTED: &str = include_str!("../src/config/session.toml");
const YEAR: Duration = Duration::from_secs(31_557_600);

#[test]
fn what_is_left_out_has_the_default() {
    let config = config("", "", "");

    config.validate().unwrap();
    assert_eq!(config.realm(), "shop");
    assert_eq!(config.policy().unwrap(), Policy::default());
    assert_eq!(config.cookie().unwrap(), Cookie::default());
    assert_eq!(config.rotation().unwrap(), Rotation::default());
    assert_eq!(config.poll_every(), 30 * SECOND);
}

#[test]
fn a_table_of_policy_or_cookie_may_be_missing() {
    let config: Config = toml::from_str(&format!("realm = 'shop'\n[keys]\n{FILE}")).unwrap();

    assert_eq!(config, settings::config("", "", ""));
}

#[test]
fn the_documented_table_has_the_defaults() {
    let documented = documented(DOCUMENTED);

    documented.validate().unwrap();
    assert_eq!(documented.realm(), "shop");
    assert_eq!(documented.key_file(), Some(Path::new("/etc/shop/session.keys")));
    assert_eq!(documented.policy().unwrap(), Policy::default());
    assert_eq!(documented.cookie().unwrap(), Cookie::default());
    assert_eq!(documented.rotation().unwrap(), Rotation::default());
    assert_eq!(documented.poll_every(), config("", "", "").poll_every());
}

#[test]
fn what_the_documented_table_shows_as_unset_is_a_setting() {
    let unset: Vec<_> = DOCUMENTED.lines().filter(|line| line.starts_with("# ")).collect();
    assert_eq!(unset.len(), 11);

    for line in unset {
        let setting = line.trim_start_matches("# ");

        let set = documented(&DOCUMENTED.replace(line, setting));

        assert_ne!(set, documented(DOCUMENTED), "{setting}");
    }
}

#[test]
fn the_documented_table_shows_every_setting() {
    let tables: [(&str, &[&str]); 5] = [
        ("", &["realm", "keys", "policy", "cookie", "revocation"]),
        ("policy", &["preset", "browser", "remember", "anonymous", "refresh_after", "clock_skew"]),
        ("policy.browser", &["absolute_timeout", "idle_timeout"]),
        ("cookie", &["name", "path", "domain", "same_site", "partitioned", "insecure_http"]),
        ("revocation", &["backend", "path", "url_variable", "list", "settle", "max_entries"]),
    ];
    for (table, some) in tables {
        let text = text("", "browser = {}", "") + "[revocation]\nbackend = 'none'\n";
        let mut place: serde_json::Value = toml::from_str(&text).unwrap();
        let inner = table.split('.').filter(|name| !name.is_empty());
        let at = inner.fold(&mut place, |at, name| at.get_mut(name).unwrap());
        at.as_object_mut().unwrap().insert("unheard_of".into(), 1.into());

        let message = serde_json::from_value::<Config>(place).unwrap_err().to_string();

        let known: Vec<_> = message.split('`').skip(3).step_by(2).collect();
        assert!(some.iter().all(|name| known.contains(name)), "{table}: {message}");
        for name in known {
            let shown = [format!("{name} = "), format!("[session.{name}]")];
            assert!(shown.iter().any(|shown| DOCUMENTED.contains(shown)), "{table}: {name}");
        }
    }
}

#[test]
fn every_setting_of_the_policy_takes_effect() {
    let limits = |absolute_timeout, idle_timeout| Limits { absolute_timeout, idle_timeout };
    let browser = |absolute, idle| Policy::default().browser(limits(absolute, idle));
    let remember = |absolute, idle| Policy::default().remember(limits(absolute, idle));
    let anonymous = |absolute, idle| Policy::default().anonymous(limits(absolute, idle));
    let (half, week) = (Some(30 * MINUTE), Some(7 * DAY));
    let cases = [
        ("preset = 'nist-aal1'", Policy::nist_aal1()),
        ("preset = 'nist-aal2'", Policy::nist_aal2()),
        ("preset = 'nist-aal3'", Policy::nist_aal3()),
        ("preset = 'pci'", Policy::pci()),
        ("browser.absolute_timeout = '8h'", browser(8 * HOUR, half)),
        ("browser.idle_timeout = '20m'", browser(12 * HOUR, Some(20 * MINUTE))),
        ("browser.idle_timeout = 'none'", browser(12 * HOUR, None)),
        ("refresh_after = '2m'", Policy::default().refresh_after(2 * MINUTE)),
        ("remember.absolute_timeout = '14d'", remember(14 * DAY, week)),
        ("remember.idle_timeout = '1d 12h'", remember(30 * DAY, Some(36 * HOUR))),
        ("remember_refresh_after = '2d'", Policy::default().remember_refresh_after(2 * DAY)),
        ("anonymous = {}", anonymous(12 * HOUR, half)),
        ("anonymous.absolute_timeout = '1h'", anonymous(HOUR, half)),
        ("anonymous.idle_timeout = '20m'", anonymous(12 * HOUR, Some(20 * MINUTE))),
        ("clock_skew = '5s'", Policy::default().clock_skew(5 * SECOND)),
    ];
    for (setting, expected) in cases {
        let config = config("", setting, "");

        assert_eq!(config.policy().unwrap(), expected, "{setting}");
        config.validate().unwrap();
    }
}

#[test]
fn anonymous_limits_left_out_are_those_of_the_browser_table() {
    let config =
        config("", "browser = { idle_timeout = '10m' }\nanonymous.absolute_timeout = '2h'", "");

    let idle_timeout = Some(10 * MINUTE);
    let expected = Policy::default()
        .browser(Limits { absolute_timeout: 12 * HOUR, idle_timeout })
        .anonymous(Limits { absolute_timeout: 2 * HOUR, idle_timeout });
    assert_eq!(config.policy().unwrap(), expected);
}

#[test]
fn a_preset_may_be_tightened_down_from_its_own_limits() {
    let limits = |absolute_timeout, idle| Limits { absolute_timeout, idle_timeout: Some(idle) };
    let cases = [
        (
            "preset = 'nist-aal3'\nbrowser.absolute_timeout = '12h'\nremember.idle_timeout = '15m'",
            Policy::nist_aal3(),
        ),
        (
            "preset = 'nist-aal3'\nbrowser.absolute_timeout = '11h 59m 59s'",
            Policy::nist_aal3().browser(limits(Duration::from_secs(43_199), 15 * MINUTE)),
        ),
        (
            "preset = 'nist-aal1'\nremember.idle_timeout = '29d'",
            Policy::nist_aal1().remember(limits(30 * DAY, 29 * DAY)),
        ),
        ("preset = 'nist-aal1'\nbrowser.idle_timeout = 'none'", Policy::nist_aal1()),
        (
            "preset = 'pci'\nanonymous = { absolute_timeout = '7d', idle_timeout = '1d' }",
            Policy::pci().anonymous(limits(7 * DAY, DAY)),
        ),
    ];
    for (settings, expected) in cases {
        assert_eq!(config("", settings, "").policy().unwrap(), expected, "{settings}");
    }
}

#[test]
fn every_setting_of_the_cookie_takes_effect() {
    let cases = [
        ("name = '__Host-id'", Cookie::new("__Host-id")),
        ("name = 'id'\npath = '/shop'", Cookie::new("id").path("/shop")),
        (
            "name = '__Secure-id'\ndomain = 'example.com'",
            Cookie::new("__Secure-id").domain("example.com"),
        ),
        ("same_site = 'strict'", Cookie::default().same_site(SameSite::Strict)),
        ("same_site = 'lax'", Cookie::default()),
        ("same_site = 'none'", Cookie::default().same_site(SameSite::None)),
        ("partitioned = true", Cookie::default().partitioned()),
        ("insecure_http = true", Cookie::insecure_http_cookie()),
        ("insecure_http = true\nname = 'id'", Cookie::insecure_http_cookie()),
        ("insecure_http = true\npath = '/a'", Cookie::insecure_http_cookie().path("/a")),
    ];
    for (settings, expected) in cases {
        let config = config("", "", settings);

        assert_eq!(config.cookie().unwrap(), expected, "{settings}");
        config.validate().unwrap();
    }
}

#[test]
fn an_insecure_cookie_may_have_another_name() {
    let directory = directory("insecure-name");
    let path = key_file(&directory, &KeyRing::generate().unwrap());
    let config = from_file(&path, "", "insecure_http = true\nname = 'dev'");

    let sessions = SessionManager::from_config(&config).unwrap().build().unwrap();

    let set_cookie = signed_in(&sessions);
    assert!(set_cookie.starts_with("dev=") && !set_cookie.contains("Secure"), "{set_cookie}");
}

#[test]
fn every_setting_of_the_rotation_takes_effect_and_the_policy_too() {
    let policy = Policy::default().clock_skew(5 * SECOND);
    let cases = [
        ("activation_delay = '12h'", "", Rotation::default().activation_delay(12 * HOUR)),
        ("reload_lag = '1h'", "", Rotation::default().reload_lag(HOUR)),
        ("rotate_every = '30d'", "", Rotation::default().rotate_every(30 * DAY)),
        ("", "clock_skew = '5s'", Rotation::new(&policy)),
    ];
    for (keys, policy, expected) in cases {
        assert_ne!(expected, Rotation::default(), "{keys}{policy}");
        assert_eq!(config(keys, policy, "").rotation().unwrap(), expected, "{keys}{policy}");
    }
}

#[test]
fn the_source_of_the_keys_is_the_one_named() {
    let cases = [
        (FILE, "session.keys", Some(Path::new("session.keys"))),
        ("source = 'directory'\npath = '/etc/keys'", "/etc/keys", None),
        ("source = 'env'\nvariable = 'KEYS'", "environment variable KEYS", None),
    ];
    for (keys, name, file) in cases {
        let config = with_keys(keys);

        assert_eq!(config.key_source().unwrap().name(), name);
        assert_eq!(config.key_file(), file);
        config.validate().unwrap();
    }
}

#[test]
fn a_configured_variable_is_read() {
    let config = with_keys("source = 'env'\nvariable = 'CARGO_PKG_NAME'");

    let source = config.key_source().unwrap();

    assert_eq!(*source.load().unwrap(), "sealed-session");
    let refused = KeyRing::watch(source).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyRing);
    assert!(refused.to_string().contains("environment variable CARGO_PKG_NAME"), "{refused}");
}

#[cfg(unix)]
#[test]
fn a_configured_source_still_tells_what_could_be_safer() {
    let directory = directory("warning");
    let path = key_file(&directory, &KeyRing::generate().unwrap());
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&path, readable).unwrap();
    let (record, log) = common::recorder();

    let builder = SessionManager::from_config(&from_file(&path, "", "")).unwrap();
    let _sessions = builder.observer(record).build().unwrap();

    let events = log.lock().unwrap();
    assert!(matches!(&**events, [one] if one.starts_with("KeySourceWarning")), "{events:?}");
}

#[test]
fn the_limits_of_each_time_are_allowed() {
    let longest = format!("'{}s'", YEAR.as_secs());
    let cases = [
        ("poll_every = '1s'".into(), SECOND),
        ("poll_every = '1d'\nactivation_delay = '3d'".into(), DAY),
        ("activation_delay = '181s'".into(), 30 * SECOND),
        ("activation_delay = '1y'\nrotate_every = '1y'".into(), 30 * SECOND),
        (format!("reload_lag = {longest}\nrotate_every = '40d'"), 30 * SECOND),
        ("reload_lag = '0s'".into(), 30 * SECOND),
        ("activation_delay = '5d'\nrotate_every = '5d'".into(), 30 * SECOND),
    ];
    for (keys, poll_every) in cases {
        let config = config(&keys, "", "");

        config.validate().unwrap_or_else(|error| panic!("{keys}: {error}"));
        assert_eq!(config.poll_every(), poll_every);
    }
}

#[test]
fn json_and_figment_read_the_same_settings_as_toml() {
    let keys = "poll_every = '10s'\nreload_lag = '1m'";
    let policy = "preset = 'nist-aal1'\nbrowser.idle_timeout = 'none'\nclock_skew = '5s'";
    let text = text(keys, policy, "name = '__Secure-id'\nsame_site = 'none'\npartitioned = true");
    let from_toml: Config = toml::from_str(&text).unwrap();

    let value: serde_json::Value = toml::from_str(&text).unwrap();
    let from_json: Config = serde_json::from_str(&value.to_string()).unwrap();
    let from_figment: Config = Figment::new().merge(Toml::string(&text)).extract().unwrap();

    assert_eq!(from_json, from_toml);
    assert_eq!(from_figment, from_toml);
    assert_ne!(from_toml, config("", "", ""));
}

#[test]
fn profiles_and_variables_go_over_the_settings_one_by_one() {
    let file = format!(
        "[default.session]\nrealm = 'shop'\n[default.session.keys]\n{FILE}\
         [debug.session.cookie]\ninsecure_http = true\n"
    );
    // What Rocket makes of ROCKET_SESSION='{…}', and the environment that cargo gives to a test.
    let variable: Value = "{policy={preset=\"nist-aal2\"}}".parse().unwrap();
    let name = Env::raw().only(&["CARGO_PKG_NAME"]).map(|_| "session.realm".into()).global();
    let figment = Figment::new()
        .merge(Toml::string(&file).nested())
        .merge(figment::providers::Serialized::global("session", variable))
        .merge(name);

    let config =
        |profile| -> Config { figment.clone().select(profile).extract_inner("session").unwrap() };

    assert_eq!(config("debug").cookie().unwrap(), Cookie::insecure_http_cookie());
    assert_eq!(config("release").cookie().unwrap(), Cookie::default());
    assert_eq!(config("release").policy().unwrap(), Policy::nist_aal2());
    assert_eq!(config("release").realm(), "sealed-session");
}

#[test]
fn figment_says_which_setting_does_not_read() {
    let text = text("", "browser.idle_timeout = 30", "");

    let error = Figment::new().merge(Toml::string(&text)).extract::<Config>().unwrap_err();

    let message = error.to_string();
    assert!(message.contains("policy.browser.idle_timeout"), "{message}");
    assert!(message.contains("a duration such as \"30m\", or \"none\""), "{message}");
}

#[test]
fn a_manager_from_settings_is_the_one_built_by_hand() {
    let directory = directory("same-manager");
    let path = key_file(&directory, &KeyRing::generate().unwrap());
    let policy = Policy::default()
        .browser(Limits { absolute_timeout: 2 * HOUR, idle_timeout: Some(10 * MINUTE) });
    let cookie = Cookie::new("__Host-shop").same_site(SameSite::Strict);
    let by_hand = SessionManager::builder("shop", KeyRing::watch(FileKeys::new(&path)).unwrap())
        .policy(policy)
        .cookie(cookie)
        .build()
        .unwrap();
    let browser = "browser = { absolute_timeout = '2h', idle_timeout = '10m' }";
    let config = from_file(&path, browser, "name = '__Host-shop'\nsame_site = 'strict'");

    let configured = SessionManager::from_config(&config).unwrap().build().unwrap();

    for (one, other) in [(&by_hand, &configured), (&configured, &by_hand)] {
        let set_cookie = signed_in(one);
        let (cookie, attributes) = set_cookie.split_once(';').unwrap();
        let open =
            |sessions: &SessionManager| -> Session<Map> { sessions.open(Some(cookie)).unwrap() };

        assert_eq!(open(other).subject().as_deref(), Some("alice"));
        let (issued_at, expires_at) = (open(one).issued_at(), open(one).expires_at());
        let lasts = expires_at.unwrap().duration_since(issued_at.unwrap());
        assert_eq!(lasts.unwrap(), 2 * HOUR);
        assert_eq!(attributes, " Path=/; Secure; HttpOnly; SameSite=Strict");
    }
}

#[test]
fn a_manager_follows_the_configured_file() {
    let directory = directory("follows");
    let ring = KeyRing::generate().unwrap();
    let path = key_file(&directory, &ring);
    let keys = from_file(&path, "", "").watch_keys().unwrap();
    let rotated = ring.rotate(&Rotation::default(), SystemTime::now()).unwrap();

    key_file(&directory, rotated.ring());
    keys.reload_now().unwrap();

    assert_eq!(keys.ring().fingerprint(), rotated.ring().fingerprint());
}

#[test]
fn settings_are_judged_before_keys_are_read() {
    let directory = directory("order");
    let missing = directory.join("missing.keys");
    let refused = |config: &Config| SessionManager::from_config(config).unwrap_err().kind();

    assert_eq!(refused(&from_file(&missing, "", "")), ErrorKind::KeyRing);
    assert_eq!(refused(&from_file(&missing, "", "name = ''")), ErrorKind::Config);
    from_file(&missing, "", "").validate().unwrap();
}

fn from_file(path: &Path, policy: &str, cookie: &str) -> Config {
    let path = format!("path = '{}'", path.display());
    toml::from_str(&text("", policy, cookie).replace("path = 'session.keys'", &path)).unwrap()
}

fn documented(text: &str) -> Config {
    let mut file: toml::Table = toml::from_str(text).unwrap();
    file.remove("session").unwrap().try_into().unwrap()
}

/// The `Set-Cookie` of a sign-in.
fn signed_in(sessions: &SessionManager) -> String {
    let session: Session<Map> = sessions.open(None::<&str>).unwrap();
    session.sign_in("alice").unwrap();
    session.close().unwrap().into_iter().next().unwrap()
}

/// A fresh directory that only this user may write.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("config-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&path).unwrap();
    path
}

/// Writes the ring to a file that only this user may read.
fn key_file(directory: &Path, ring: &KeyRing) -> PathBuf {
    let path = directory.join("session.keys");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).unwrap();
    std::io::Write::write_all(&mut file, ring.expose_text().as_bytes()).unwrap();
    path
}
