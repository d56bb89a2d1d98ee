//! The table `revocation`: which list ends sessions early, and how it is kept in step.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, Error as _, MapAccess, Unexpected, Visitor};

use super::duration::DurationText;
#[cfg(feature = "cli")]
use super::duration::shown;
use crate::error::Error;
#[cfg(feature = "postgres")]
use crate::revocation::PostgresLog;
#[cfg(feature = "redis")]
use crate::revocation::RedisLog;
#[cfg(feature = "sqlite")]
use crate::revocation::SqliteLog;
use crate::revocation::{OnStale, RevocationList, RevocationLog, WhenMissing};

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct RevocationTable {
    backend: Backend,
    #[serde(default, deserialize_with = "no_url")]
    path: Option<String>,
    url: Option<UrlText>,
    #[serde(default, deserialize_with = "no_url")]
    url_variable: Option<String>,
    #[serde(default, deserialize_with = "no_url")]
    list: Option<String>,
    #[serde(default, deserialize_with = "no_url")]
    root_certificates: Option<String>,
    max_staleness: Option<DurationText>,
    settle: Option<DurationText>,
    on_stale: Option<StaleText>,
    when_missing: Option<MissingText>,
    reconcile_every: Option<DurationText>,
    max_entries: Option<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
enum Backend {
    None,
    InProcess,
    Sqlite,
    Redis,
    Postgres,
}

impl TryFrom<String> for Backend {
    type Error = &'static str;

    /// By hand, so that no message repeats the text: it might be a URL with a password.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match &*text {
            "none" => Ok(Self::None),
            "in-process" => Ok(Self::InProcess),
            "sqlite" => Ok(Self::Sqlite),
            "redis" => Ok(Self::Redis),
            "postgres" => Ok(Self::Postgres),
            _ => Err("backend must be \"none\", \"in-process\", \"sqlite\", \"redis\" or \
                     \"postgres\""),
        }
    }
}

impl Backend {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::InProcess => "in-process",
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }
}

/// A URL, which may hold a password and so is never shown.
#[derive(Clone, Deserialize, Eq, PartialEq)]
struct UrlText(String);

impl fmt::Debug for UrlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())
    }
}

impl UrlText {
    /// What may be shown of it.
    fn scheme(&self) -> &'static str {
        let known = ["redis://", "rediss://", "unix:", "postgres://", "postgresql://"];
        match known.into_iter().find(|scheme| self.0.starts_with(scheme)) {
            Some("redis://") => "redis://…",
            Some("rediss://") => "rediss://…",
            Some("unix:") => "unix:…",
            Some(_) => "postgres://…",
            None => "…",
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum StaleText {
    Refuse,
    Accept,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum MissingText {
    SignOutEveryone,
    Refuse,
    StartEmpty,
}

/// Reads the table, and refuses text in its place without repeating it: it might be a URL.
pub(super) fn table<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<RevocationTable>, D::Error> {
    struct Table;
    impl<'de> Visitor<'de> for Table {
        type Value = RevocationTable;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table such as { backend = \"sqlite\", path = \"revocations.db\" }")
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<RevocationTable, E> {
            Err(E::invalid_type(Unexpected::Other("text"), &self))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RevocationTable, A::Error> {
            RevocationTable::deserialize(MapAccessDeserializer::new(map))
        }
    }
    // Not as a map: who asked for one would be answered with the text.
    deserializer.deserialize_any(Table).map(Some)
}

impl RevocationTable {
    /// Refuses what no list can be made of, without connecting or reading the environment.
    pub(super) fn check(&self, realm: &str) -> Result<(), Error> {
        match self.backend {
            Backend::None => {
                self.refuse_all(&[&ADDRESS[..], &SHARED[..], &["max_entries"]].concat())?;
            }
            Backend::InProcess => self.refuse_all(&[&ADDRESS[..], &SHARED[..]].concat())?,
            Backend::Sqlite => {
                self.refuse_all(&["url", "url_variable", "list", "root_certificates"])?;
                self.path()?;
            }
            Backend::Redis => {
                self.refuse_all(&["path", "root_certificates"])?;
                self.check_server(realm)?;
            }
            Backend::Postgres => {
                self.refuse_all(&["path"])?;
                if self.root_certificates.as_deref().is_some_and(is_no_path) {
                    return refuse("root_certificates", "empty or with a NUL: write a PEM file's");
                }
                self.check_server(realm)?;
            }
        }
        self.check_times()
    }

    /// The log that the table describes, not read yet; None where no other process can reach it.
    pub(super) fn log(&self, realm: &str) -> Result<Option<Box<dyn RevocationLog>>, Error> {
        self.check(realm)?;
        match self.backend {
            Backend::None | Backend::InProcess => Ok(None),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite => Ok(Some(Box::new(SqliteLog::new(self.path()?)))),
            #[cfg(feature = "redis")]
            Backend::Redis => {
                let (url, setting) = self.read_url()?;
                let log = RedisLog::new(&url, self.list_name(realm)?);
                Ok(Some(Box::new(log.map_err(|error| error.at(setting))?)))
            }
            #[cfg(feature = "postgres")]
            Backend::Postgres => {
                let (url, setting) = self.read_url()?;
                let log = PostgresLog::new(&url, self.list_name(realm)?);
                let mut log = log.map_err(|error| error.at(setting))?;
                if let Some(file) = &self.root_certificates {
                    let trusted = log.root_certificates(file);
                    log = trusted.map_err(|error| error.at("revocation.root_certificates"))?;
                }
                Ok(Some(Box::new(log)))
            }
            #[cfg(not(all(feature = "sqlite", feature = "redis", feature = "postgres")))]
            backend => {
                let word = backend.word();
                refuse(
                    "backend",
                    &format!("this build has no {word}: build with the feature `{word}`"),
                )
            }
        }
    }

    /// The list, started.
    pub(super) fn list(
        &self,
        realm: &str,
        clock_skew: Duration,
    ) -> Result<Option<RevocationList>, Error> {
        let log = self.log(realm)?;
        if self.backend == Backend::None {
            return Ok(None);
        }
        let Some(log) = log else {
            return Ok(Some(RevocationList::in_process().max_entries(self.max_entries())));
        };
        let mut builder = RevocationList::builder(log)
            .max_staleness(self.max_staleness())
            .on_stale(self.on_stale())
            .when_missing(self.when_missing())
            .reconcile_every(self.reconcile_every())
            .clock_skew(clock_skew)
            .max_entries(self.max_entries());
        if let Some(DurationText(settle)) = self.settle {
            builder = builder.settle(settle);
        }
        builder.build().map(Some)
    }

    /// What is in force, by the names of the settings.
    #[cfg(feature = "cli")]
    pub(super) fn in_force(&self, realm: &str) -> Vec<(&'static str, String)> {
        let mut rows = vec![("backend", self.backend.word().to_owned())];
        let is_server = matches!(self.backend, Backend::Redis | Backend::Postgres);
        if let Some(path) = &self.path {
            rows.push(("path", path.clone()));
        }
        if let Some(url) = &self.url {
            rows.push(("url", url.scheme().to_owned()));
        }
        if let Some(variable) = &self.url_variable {
            rows.push(("url_variable", variable.clone()));
        }
        if is_server && let Ok(list) = self.list_name(realm) {
            rows.push(("list", list.to_owned()));
        }
        if let Some(file) = &self.root_certificates {
            rows.push(("root_certificates", file.clone()));
        }
        if is_server || self.backend == Backend::Sqlite {
            let settle = self.settle.map(|settle| shown(settle.0).to_string());
            rows.extend([
                ("max_staleness", shown(self.max_staleness()).to_string()),
                ("settle", settle.unwrap_or_else(|| "as the backend needs".to_owned())),
                (
                    "on_stale",
                    if self.on_stale() == OnStale::Accept { "accept" } else { "refuse" }.to_owned(),
                ),
                ("when_missing", word_of(self.when_missing()).to_owned()),
                ("reconcile_every", shown(self.reconcile_every()).to_string()),
            ]);
        }
        if self.backend != Backend::None {
            rows.push(("max_entries", self.max_entries().to_string()));
        }
        rows
    }

    fn path(&self) -> Result<&str, Error> {
        match self.path.as_deref() {
            None => refuse("path", "missing: backend = \"sqlite\" needs it"),
            Some("") => refuse("path", "empty: write that of the database file"),
            Some(path) if path.contains('\0') => refuse("path", "may hold no NUL: leave it out"),
            Some(path) => Ok(path),
        }
    }

    fn check_server(&self, realm: &str) -> Result<(), Error> {
        self.list_name(realm)?;
        let backend = self.backend.word();
        match (&self.url, self.url_variable.as_deref()) {
            (Some(_), Some(_)) => refuse("url", "has no place beside url_variable: leave one out"),
            (None, None) => refuse(
                "url_variable",
                &format!(
                    "missing: backend = \"{backend}\" needs the name of the variable that holds the \
                     URL, or url if that has no password"
                ),
            ),
            (Some(UrlText(url)), None) if url.is_empty() => {
                refuse("url", &format!("empty: write that of the server, {}", self.form()))
            }
            (None, Some("")) => {
                refuse("url_variable", "empty: write the name of an environment variable")
            }
            (None, Some(name)) if name.contains(['=', '\0']) => {
                refuse("url_variable", "may hold no = and no NUL: write the name, not its value")
            }
            (None, Some(_)) => Ok(()),
            (Some(UrlText(url)), None) => self.check_url(url, realm),
        }
    }

    /// Refuses a URL that the client cannot read, if there is a client.
    fn check_url(&self, url: &str, realm: &str) -> Result<(), Error> {
        let at = |error: Error| error.at("revocation.url");
        let list = self.list_name(realm)?;
        match self.backend {
            #[cfg(feature = "redis")]
            Backend::Redis => RedisLog::new(url, list).map(drop).map_err(at),
            #[cfg(feature = "postgres")]
            Backend::Postgres => PostgresLog::new(url, list).map(drop).map_err(at),
            _ => {
                let _ = (url, list, at);
                Ok(())
            }
        }
    }

    /// The URL, and the setting that it comes from.
    #[cfg(any(feature = "redis", feature = "postgres"))]
    fn read_url(&self) -> Result<(String, &'static str), Error> {
        const VARIABLE: &str = "revocation.url_variable";
        let name = match (&self.url, &self.url_variable) {
            (Some(UrlText(url)), _) => return Ok((url.clone(), "revocation.url")),
            (None, name) => name.as_deref().unwrap_or_default(),
        };
        let fault = match std::env::var(name) {
            Ok(url) if url.trim().is_empty() => "empty",
            Ok(url) => return Ok((url.trim().to_owned(), VARIABLE)),
            Err(std::env::VarError::NotPresent) => "not set",
            Err(std::env::VarError::NotUnicode(_)) => "not text",
        };
        let form = self.form();
        refuse("url_variable", &format!("{name} is {fault}: set it to the URL, {form}"))
    }

    const fn form(&self) -> &'static str {
        match self.backend {
            Backend::Redis => "redis://user:password@host:6379/0, or rediss:// for TLS",
            _ => "postgres://user:password@host:5432/database?sslmode=require",
        }
    }

    /// The name under which the servers share the list.
    fn list_name<'a>(&'a self, realm: &'a str) -> Result<&'a str, Error> {
        match &self.list {
            Some(list) if is_list_name(list) => Ok(list),
            Some(_) => refuse("list", "must be 1 to 64 of A-Z a-z 0-9 _ . -"),
            None if is_list_name(realm) => Ok(realm),
            None => refuse(
                "list",
                "missing: the realm cannot name it: write 1 to 64 of A-Z a-z 0-9 _ . -",
            ),
        }
    }

    fn check_times(&self) -> Result<(), Error> {
        if self.max_staleness() < SECOND || self.max_staleness() > HOUR {
            return refuse("max_staleness", "must be 1s to 1h");
        }
        if self.settle.is_some_and(|settle| settle.0 > LONGEST_SETTLE) {
            return refuse("settle", "must be at most 10m");
        }
        if self.reconcile_every() < SECOND || self.reconcile_every() > DAY {
            return refuse("reconcile_every", "must be 1s to 1d");
        }
        if self.max_entries == Some(0) {
            return refuse("max_entries", "must be 1 or more");
        }
        Ok(())
    }

    /// Refuses settings that have no place beside the backend.
    fn refuse_all(&self, fields: &[&str]) -> Result<(), Error> {
        let given = [
            ("path", self.path.is_some()),
            ("url", self.url.is_some()),
            ("url_variable", self.url_variable.is_some()),
            ("list", self.list.is_some()),
            ("root_certificates", self.root_certificates.is_some()),
            ("max_staleness", self.max_staleness.is_some()),
            ("settle", self.settle.is_some()),
            ("on_stale", self.on_stale.is_some()),
            ("when_missing", self.when_missing.is_some()),
            ("reconcile_every", self.reconcile_every.is_some()),
            ("max_entries", self.max_entries.is_some()),
        ];
        let wrong = given.into_iter().find(|(field, given)| *given && fields.contains(field));
        let Some((field, _)) = wrong else { return Ok(()) };
        let advice = match (self.backend, field) {
            (Backend::Sqlite, "list" | "root_certificates") | (Backend::None, "max_entries") => {
                "leave it out"
            }
            (Backend::Sqlite, _) => "write path, or backend = \"redis\" or \"postgres\"",
            (Backend::Redis, "root_certificates") => "name the file by SSL_CERT_FILE",
            (Backend::Redis | Backend::Postgres, _) => {
                "write url_variable, or backend = \"sqlite\""
            }
            (_, "path") => "write backend = \"sqlite\"",
            (_, "root_certificates") => "write backend = \"postgres\"",
            (_, "url" | "url_variable" | "list") => "write backend = \"redis\" or \"postgres\"",
            _ => "leave it out, or write backend = \"sqlite\", \"redis\" or \"postgres\"",
        };
        let backend = self.backend.word();
        refuse(field, &format!("has no place beside backend = \"{backend}\": {advice}"))
    }

    fn max_staleness(&self) -> Duration {
        self.max_staleness.map_or(Duration::from_secs(30), |given| given.0)
    }

    fn on_stale(&self) -> OnStale {
        match self.on_stale {
            None => OnStale::default(),
            Some(StaleText::Refuse) => OnStale::Refuse,
            Some(StaleText::Accept) => OnStale::Accept,
        }
    }

    fn when_missing(&self) -> WhenMissing {
        match self.when_missing {
            None => WhenMissing::default(),
            Some(MissingText::SignOutEveryone) => WhenMissing::SignOutEveryone,
            Some(MissingText::Refuse) => WhenMissing::Refuse,
            Some(MissingText::StartEmpty) => WhenMissing::StartEmpty,
        }
    }

    fn reconcile_every(&self) -> Duration {
        self.reconcile_every.map_or(Duration::from_secs(600), |given| given.0)
    }

    fn max_entries(&self) -> usize {
        self.max_entries.unwrap_or(1_000_000)
    }
}

/// Where a shared list is.
const ADDRESS: [&str; 5] = ["path", "url", "url_variable", "list", "root_certificates"];
/// What only a shared list has.
const SHARED: [&str; 5] =
    ["max_staleness", "settle", "on_stale", "when_missing", "reconcile_every"];

const SECOND: Duration = Duration::from_secs(1);
const LONGEST_SETTLE: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn is_list_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

fn is_no_path(path: &str) -> bool {
    path.is_empty() || path.contains('\0')
}

#[cfg(feature = "cli")]
const fn word_of(when_missing: WhenMissing) -> &'static str {
    match when_missing {
        WhenMissing::SignOutEveryone => "sign-out-everyone",
        WhenMissing::Refuse => "refuse",
        WhenMissing::StartEmpty => "start-empty",
    }
}

/// Refuses what is no path or name but a URL: its password would be shown.
fn no_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    match text {
        Some(text) if text.contains("://") || text.contains("password=") => Err(D::Error::custom(
            "this is a URL, which has no place here: keep it in an environment variable, and \
                 write url_variable = \"the name of that\"",
        )),
        text => Ok(text),
    }
}

fn refuse<T>(field: &str, advice: &str) -> Result<T, Error> {
    Err(Error::config(format!("revocation.{field}: {advice}")))
}
