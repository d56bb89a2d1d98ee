//! The table `revocation`: what each word does, what is refused, and that no password shows.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

#[path = "common/settings.rs"]
mod settings;

use sealed_session::revocation::{MemoryLog, RevocationListBuilder};
use sealed_session::{Config, ErrorKind, KeyRing, Policy, RevocationList, SessionManager};
use std::time::Duration;

use settings::FILE;

const SQLITE: &str = "backend = 'sqlite'\npath = 'revocations.db'";
const REDIS: &str = "backend = 'redis'\nurl = 'redis://127.0.0.1:1'";
const POSTGRES: &str = "backend = 'postgres'\nurl = 'postgres://127.0.0.1:1/shop'";

fn text(realm: &str, table: &str) -> String {
    format!("realm = '{realm}'\n[keys]\n{FILE}[revocation]\n{table}\n")
}

fn config(table: &str) -> Config {
    toml::from_str(&text("shop", table)).unwrap_or_else(|error| panic!("{table}\n{error}"))
}

#[track_caller]
fn assert_refused(config: &Config, expected: &str) {
    let error = config.validate().unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(message.contains(expected), "{expected}\n{message}");
    assert_eq!(config.revocations().unwrap_err().to_string(), message);
    assert_eq!(config.revocation_log().err().map(|error| error.to_string()), Some(message));
}

#[test]
fn without_the_table_the_list_is_left_to_the_builder() {
    let config: Config = toml::from_str(&format!("realm = 'shop'\n[keys]\n{FILE}")).unwrap();

    config.validate().unwrap();
    assert!(config.revocations().unwrap().is_none());
    assert!(config.revocation_log().unwrap().is_none());
}

#[test]
fn none_is_no_list_and_in_process_is_one_without_a_log() {
    let none = config("backend = 'none'");
    let own = config("backend = 'in-process'");

    none.validate().unwrap();
    own.validate().unwrap();
    assert!(none.revocations().unwrap().is_none());
    assert!(none.revocation_log().unwrap().is_none() && own.revocation_log().unwrap().is_none());
    let list = own.revocations().unwrap().unwrap();
    assert!(list.is_fresh() && list.status().logs.is_empty());
}

#[test]
fn a_list_in_a_log_of_ones_own_takes_the_clock_skew_of_the_policy() {
    for (policy, skew) in [("", 60), ("clock_skew = '30s'", 30)] {
        let config = settings::config("", policy, "");
        assert!(!config.has_revocations());
        let list = config.revocations_in(MemoryLog::new().unwrap()).unwrap().build().unwrap();

        let policy = Policy::default().clock_skew(Duration::from_secs(skew));
        let sessions = SessionManager::builder("shop", KeyRing::for_tests().unwrap());

        sessions.policy(policy).revocations(list).build().unwrap();
    }
    assert!(config(SQLITE).has_revocations());
}

#[test]
fn every_backend_takes_every_setting_of_its_own() {
    let shared = "max_staleness = '1h'\nsettle = '10m'\non_stale = 'accept'\n\
                  when_missing = 'start-empty'\nreconcile_every = '1d'\nmax_entries = 1";
    let other = "max_staleness = '1s'\nsettle = '0s'\non_stale = 'refuse'\n\
                 when_missing = 'refuse'\nreconcile_every = '1s'\nmax_entries = 2000000";
    for table in [
        SQLITE.to_owned(),
        REDIS.to_owned(),
        POSTGRES.to_owned(),
        format!("{REDIS}\nlist = 'A-z_0.9'"),
        format!("{POSTGRES}\nlist = '{}'", "x".repeat(64)),
        format!("{POSTGRES}\nroot_certificates = '/etc/db.pem'"),
        "backend = 'redis'\nurl_variable = 'REDIS_URL'".to_owned(),
        "backend = 'postgres'\nurl_variable = 'DATABASE_URL'".to_owned(),
    ] {
        for settings in ["", shared, other, "when_missing = 'sign-out-everyone'"] {
            config(&format!("{table}\n{settings}")).validate().unwrap();
        }
    }
    config("backend = 'in-process'\nmax_entries = 1").validate().unwrap();
}

#[test]
fn a_word_that_has_no_place_beside_the_backend_is_refused_by_its_name() {
    let values = [
        ("path", "'a.db'"),
        ("url", "'redis://h'"),
        ("url_variable", "'A'"),
        ("list", "'shop'"),
        ("root_certificates", "'a.pem'"),
        ("max_staleness", "'30s'"),
        ("settle", "'1s'"),
        ("on_stale", "'refuse'"),
        ("when_missing", "'refuse'"),
        ("reconcile_every", "'10m'"),
        ("max_entries", "5"),
    ];
    let tables = [
        ("none", "backend = 'none'", 11),
        ("in-process", "backend = 'in-process'", 10),
        ("sqlite", SQLITE, 4),
        ("redis", REDIS, 2),
        ("postgres", POSTGRES, 1),
    ];
    for (backend, table, refused) in tables {
        let beside = format!("has no place beside backend = \"{backend}\": ");
        let mut count = 0;
        for (field, value) in values {
            if table.contains(&format!("\n{field} = ")) {
                continue;
            }
            let config = config(&format!("{table}\n{field} = {value}"));
            let Err(error) = config.validate() else { continue };
            if !error.to_string().contains(&beside) {
                // Two addresses of one server: that is refused in its own words.
                assert!(error.to_string().contains("revocation.url: has no place beside url_v"));
                continue;
            }
            assert_refused(&config, &format!("revocation.{field}: {beside}"));
            count += 1;
        }
        assert_eq!(count, refused, "{backend}");
    }
}

#[test]
fn a_setting_that_cannot_be_meant_is_refused_by_its_name() {
    let redis = "backend = 'redis'\n";
    let cases = [
        ("backend = 'sqlite'".to_owned(), "revocation.path: missing: backend = \"sqlite\""),
        ("backend = 'sqlite'\npath = ''".to_owned(), "revocation.path: empty"),
        ("backend = 'sqlite'\npath = \"a\\u0000\"".to_owned(), "revocation.path: may hold no NUL"),
        (redis.to_owned(), "revocation.url_variable: missing: backend = \"redis\" needs"),
        ("backend = 'postgres'".to_owned(), "revocation.url_variable: missing"),
        (format!("{REDIS}\nurl_variable = 'A'"), "revocation.url: has no place beside url_variab"),
        (format!("{redis}url = ''"), "revocation.url: empty: write that of the server, redis://"),
        (format!("{redis}url_variable = ''"), "revocation.url_variable: empty"),
        (format!("{redis}url_variable = 'A=b'"), "revocation.url_variable: may hold no ="),
        (format!("{redis}url_variable = \"A\\u0000\""), "revocation.url_variable: may hold no ="),
        (format!("{REDIS}\nlist = ''"), "revocation.list: must be 1 to 64 of A-Z a-z 0-9 _ . -"),
        (format!("{REDIS}\nlist = 'a b'"), "revocation.list: must be 1 to 64"),
        (format!("{POSTGRES}\nlist = '{}'", "x".repeat(65)), "revocation.list: must be 1 to 64"),
        (format!("{POSTGRES}\nroot_certificates = ''"), "revocation.root_certificates: empty"),
        (
            format!("{SQLITE}\nmax_staleness = '999ms'"),
            "revocation.max_staleness: must be 1s to 1h",
        ),
        (format!("{SQLITE}\nmax_staleness = '3601s'"), "revocation.max_staleness: must be 1s to"),
        (format!("{SQLITE}\nsettle = '601s'"), "revocation.settle: must be at most 10m"),
        (format!("{SQLITE}\nreconcile_every = '999ms'"), "revocation.reconcile_every: must be 1s"),
        (format!("{SQLITE}\nreconcile_every = '86401s'"), "revocation.reconcile_every: must be 1s"),
        (format!("{SQLITE}\nmax_entries = 0"), "revocation.max_entries: must be 1 or more"),
        ("backend = 'in-process'\nmax_entries = 0".to_owned(), "revocation.max_entries: must be 1"),
    ];
    for (table, expected) in cases {
        assert_refused(&config(&table), expected);
    }
}

#[test]
fn the_limits_of_each_time_are_those_of_the_builder() {
    type Set = fn(RevocationListBuilder, Duration) -> RevocationListBuilder;
    let sets: [(&str, Set, u64, u64); 3] = [
        ("max_staleness", RevocationListBuilder::max_staleness, 1_000, 3_600_000),
        ("settle", RevocationListBuilder::settle, 0, 600_000),
        ("reconcile_every", RevocationListBuilder::reconcile_every, 1_000, 86_400_000),
    ];
    for (name, set, least, most) in sets {
        for millis in [least.saturating_sub(1), least, most, most + 1] {
            let builder = RevocationList::builder(MemoryLog::new().unwrap());
            let builder = builder.settle(Duration::ZERO);
            let built = set(builder, Duration::from_millis(millis)).build();
            let allowed = (least..=most).contains(&millis);

            let config = config(&format!("{SQLITE}\n{name} = '{millis}ms'"));

            assert_eq!(built.is_ok(), allowed, "{name} {millis}");
            assert_eq!(config.validate().is_ok(), allowed, "{name} {millis}");
        }
    }
}

#[test]
fn the_realm_names_the_list_if_it_can() {
    let of = |realm: &str, more: &str| -> Config {
        toml::from_str(&text(realm, &format!("{REDIS}\n{more}"))).unwrap()
    };

    of("shop.example_1-A", "").validate().unwrap();
    of("der Laden", "list = 'laden'").validate().unwrap();
    assert_refused(&of("der Laden", ""), "revocation.list: missing: the realm cannot name it");
    assert_refused(&of(&"x".repeat(65), ""), "revocation.list: missing");
}

#[test]
fn what_is_no_setting_does_not_parse() {
    let cases = [
        ("", "missing field `backend`"),
        ("backend = 'mysql'", "backend must be \"none\", \"in-process\", \"sqlite\""),
        ("backend = 'redis'\nurl = 5", "invalid type: integer `5`"),
        ("backend = 'none'\nttl = '1s'", "unknown field `ttl`, expected one of `backend`, `path`"),
        ("backend = 'none'\non_stale = 'Accept'", "unknown variant `Accept`, expected `refuse`"),
        ("backend = 'none'\nwhen_missing = 'x'", "expected one of `sign-out-everyone`, `refuse`"),
        ("backend = 'none'\nmax_staleness = 30", "a duration such as \"30m\""),
        ("backend = 'none'\nmax_entries = -1", "invalid value: integer `-1`"),
    ];
    for (table, expected) in cases {
        let message = toml::from_str::<Config>(&text("shop", table)).unwrap_err();

        assert!(message.message().contains(expected), "{table}\n{message}");
    }
    let other = format!("realm = 'shop'\nrevocation = true\n[keys]\n{FILE}");
    let message = toml::from_str::<Config>(&other).unwrap_err().to_string();
    assert!(message.contains("expected a table such as { backend = \"sqlite\""), "{message}");
}

#[test]
fn no_url_shows_wherever_it_stands() {
    let keys = r#""realm": "shop", "keys": {"source": "file", "path": "a"}"#;
    let urls = ["redis://:s3cret@h", "postgres://u:s3cret@h/d", "host=h password=s3cret"];
    for url in urls {
        for table in [
            format!("\"{url}\""),
            format!(r#"{{"backend": "{url}"}}"#),
            format!(r#"{{"backend": "sqlite", "path": "{url}"}}"#),
            format!(r#"{{"backend": "redis", "url_variable": "{url}"}}"#),
            format!(r#"{{"backend": "redis", "url": "redis://h", "list": "{url}"}}"#),
            format!(
                r#"{{"backend": "postgres", "url": "redis://h", "root_certificates": "{url}"}}"#
            ),
        ] {
            let json = format!("{{{keys}, \"revocation\": {table}}}");

            let error = serde_json::from_str::<Config>(&json).unwrap_err();

            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
        for backend in ["sqlite", "redis", "postgres", "none"] {
            let config = config(&format!("backend = '{backend}'\nurl = '{url}'"));

            let shown = format!(
                "{config:?} {:?} {:?} {:?}",
                config.validate(),
                config.revocation_log().map(|log| log.map(|log| log.name().into_owned())),
                config.revocation_log().err().map(|error| error.to_string()),
            );

            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}

#[test]
fn a_backend_that_was_not_built_in_is_told_by_its_feature_and_only_when_it_is_needed() {
    for (table, feature, built) in [
        (SQLITE, "sqlite", cfg!(feature = "sqlite")),
        (REDIS, "redis", cfg!(feature = "redis")),
        (POSTGRES, "postgres", cfg!(feature = "postgres")),
    ] {
        let config = config(table);

        config.validate().unwrap();
        let log = config.revocation_log().map(|log| log.map(|log| log.name().into_owned()));
        if built {
            assert!(log.unwrap().is_some(), "{table}");
        } else {
            let text = format!("this build has no {feature}: build with the feature `{feature}`");
            for error in [log.unwrap_err(), config.revocations().unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Config);
                assert!(error.to_string().contains(&text), "{error}");
            }
        }
    }
}

#[cfg(feature = "redis")]
#[test]
fn a_variable_is_read_only_when_the_log_is_needed() {
    let unset = config("backend = 'redis'\nurl_variable = 'NO_SUCH_VARIABLE'");
    unset.validate().unwrap();
    let error = unset.revocation_log().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = "revocation.url_variable: NO_SUCH_VARIABLE is not set: set it to the URL, redis://";
    assert!(error.to_string().contains(text), "{error}");

    // What cargo sets: no URL.
    let wrong = config("backend = 'redis'\nurl_variable = 'CARGO_PKG_NAME'");
    wrong.validate().unwrap();
    let error = wrong.revocation_log().err().unwrap().to_string();
    assert!(error.contains("revocation.url_variable: ") && error.contains("redis://"), "{error}");
    assert!(!error.contains(env!("CARGO_PKG_NAME")), "{error}");
}

#[cfg(feature = "redis")]
#[test]
fn a_url_that_the_client_cannot_read_is_refused_before_anything_starts() {
    let wrong = config("backend = 'redis'\nurl = 'http://h'");

    assert_refused(&wrong, "revocation.url: ");
}

#[cfg(feature = "postgres")]
#[test]
fn root_certificates_are_read_when_the_log_is_needed() {
    let missing = config(&format!("{POSTGRES}\nroot_certificates = 'no/such.pem'"));

    missing.validate().unwrap();

    let error = missing.revocation_log().err().unwrap().to_string();
    assert!(
        error.contains("revocation.root_certificates: root certificates no/such.pem"),
        "{error}"
    );
}

#[cfg(all(feature = "sqlite", unix))]
mod with_a_log {
    use std::fs::DirBuilder;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    use std::path::{Path, PathBuf};
    use std::time::Instant;

    use sealed_session::{KeyRing, Map, RevocationList, SessionManager, Target};

    use super::*;

    /// A directory with a ring, which goes with the value.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("config-revocation-{name}-{}", std::process::id());
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            let _ = std::fs::remove_dir_all(&path);
            DirBuilder::new().mode(0o700).create(&path).unwrap();
            let mut options = std::fs::OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(path.join("r.keys")).unwrap();
            let ring = KeyRing::for_tests().unwrap().expose_text();
            std::io::Write::write_all(&mut file, ring.as_bytes()).unwrap();
            Self(path)
        }

        fn config(&self, more: &str) -> Config {
            let [keys, log] = ["r.keys", "r.db"].map(|name| self.0.join(name));
            let keys = format!("source = 'file'\npath = '{}'", keys.display());
            let table = format!("backend = 'sqlite'\npath = '{}'\n{more}", log.display());
            toml::from_str(&format!("realm = 'shop'\n[keys]\n{keys}\n[revocation]\n{table}\n"))
                .unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn managers_from_settings_share_the_list_that_these_name() {
        let place = Place::new("share");
        let config = place.config("when_missing = 'start-empty'");
        let manager = || SessionManager::from_config(&config).unwrap().build().unwrap();
        let (one, other) = (manager(), manager());
        one.revocations().unwrap().catch_up().wait().unwrap();
        other.revocations().unwrap().catch_up().wait().unwrap();
        let token = one.bearer::<Map>().issue("alice").unwrap();
        other.bearer::<Map>().open(&token).unwrap();

        one.revoke(Target::subject("alice")).unwrap().wait().unwrap();

        other.revocations().unwrap().catch_up().wait().unwrap();
        let error = other.bearer::<Map>().open(&token).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Revoked);
    }

    #[test]
    fn the_list_has_the_clock_skew_of_the_policy() {
        let place = Place::new("skew");
        let config = place.config("settle = '0s'\n[policy]\nclock_skew = '5s'");

        SessionManager::from_config(&config).unwrap().build().unwrap();
    }

    #[test]
    fn a_list_that_the_builder_is_given_takes_the_place_of_the_configured_one() {
        let place = Place::new("override");
        let configured = SessionManager::from_config(&place.config("")).unwrap();

        let sessions = configured.revocations(RevocationList::in_process()).build().unwrap();

        assert!(sessions.revocations().unwrap().status().logs.is_empty());
    }

    #[test]
    fn every_setting_reaches_the_list() {
        let place = Place::new("settings");
        let list = |more: &str| place.config(more).revocations().unwrap().unwrap();

        // A log that is new is not believed before it has settled, and then not by all.
        let slow = list("settle = '10m'");
        assert!(!slow.is_fresh() && slow.status().last_error.is_none(), "{:?}", slow.status());
        let refusing = list("settle = '0s'\nwhen_missing = 'refuse'");
        assert!(!refusing.is_fresh());
        let began = Instant::now();
        let why = loop {
            // Noted just after the start has heard of it.
            match refusing.status().last_error {
                Some(error) => break format!("{error:?}"),
                None => assert!(began.elapsed() < Duration::from_secs(30)),
            }
        };
        assert!(why.contains("when_missing says to refuse"), "{why}");
        let empty = list("settle = '0s'\nwhen_missing = 'start-empty'");
        assert!(empty.is_fresh());
        assert_eq!(empty.entries(), 0);
    }

    #[test]
    fn max_entries_and_on_stale_reach_the_list() {
        let place = Place::new("limits");
        let sessions = |more: &str| {
            let more = format!("settle = '0s'\nwhen_missing = 'start-empty'\n{more}");
            SessionManager::from_config(&place.config(&more)).unwrap().build().unwrap()
        };
        let one = sessions("max_entries = 1");
        one.revoke(Target::subject("alice")).unwrap().wait().unwrap();
        let full = one.revoke(Target::subject("bob")).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Full);

        let token = one.bearer::<Map>().issue("carol").unwrap();
        let unread = |on_stale: &str| {
            let more = format!("settle = '10m'\non_stale = '{on_stale}'");
            SessionManager::from_config(&place.config(&more)).unwrap().build().unwrap()
        };
        let refused = unread("refuse").bearer::<Map>().open(&token).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Backend);
        unread("accept").bearer::<Map>().open(&token).unwrap();
    }
}
