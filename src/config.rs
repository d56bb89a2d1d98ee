//! All settings of a session manager, as `serde` reads them.
//!
//! Which format they are written in, and where they stand, is left to the application.

mod cookie;
mod duration;
mod keys;
mod policy;
mod revocation;

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::cookie::Cookie;
use crate::error::Error;
use crate::key::{KeyRing, KeySource, Rotation, WatchedKeys};
use crate::manager::{SessionManager, SessionManagerBuilder};
use crate::policy::Policy;
use crate::revocation::{RevocationList, RevocationListBuilder, RevocationLog};
use crate::token::Context;

use cookie::CookieTable;
use keys::KeysTable;
use policy::PolicyTable;
use revocation::RevocationTable;

/// The settings of a [`SessionManager`], from a file or wherever people keep settings.
///
/// It is a table of any format that `serde` reads. As TOML, under a name of the application's
/// choice, with the defaults where there are any and what has none behind `#`:
///
/// ```toml
#[doc = include_str!("config/session.toml")]
/// ```
///
/// Durations are text, a number and a unit or several: `90s`, `30m`, `12h`, `7d`, `1h 30m`. Words that
/// are not known are refused at every level, and so is what contradicts itself or is unsafe:
///
/// - a `path` beside `source = "env"`, a `variable` beside the others;
/// - settings of `revocation` beside a `backend` that does not have them, and a URL in the place of
///   the name of the variable that holds it. What [`Debug`](std::fmt::Debug) shows has no URL;
/// - an `activation_delay` under 2 × `poll_every` + 2 × `clock_skew` + 1 s: a key would seal before
///   every server has it;
/// - a `rotate_every` under `activation_delay`, or so short that the 16 keys of a ring do not reach
///   back as far as sessions live;
/// - limits of `browser` and `remember` over those of the `preset`. `anonymous` is free, as rule
///   books speak of those who signed in;
/// - `insecure_http` beside a `domain`, `same_site = "none"`, `partitioned`, or a name that starts
///   with `__`;
/// - what [`Policy`] and [`Cookie`] refuse.
///
/// # Examples
///
/// A table of the application's own file:
///
/// ```no_run
/// use sealed_session::{Config, Map, RevocationList, Session, SessionManager};
/// # #[cfg(feature = "axum")]
/// use axum::{Router, routing::get};
/// # #[cfg(feature = "axum")]
/// use sealed_session::tower::SessionLayer;
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     session: Config, // the table [session], beside those of the application
/// }
///
/// # #[cfg(feature = "axum")]
/// # async fn home(session: Session) -> String { format!("{:?}", session.subject()) }
/// # #[cfg(not(feature = "axum"))]
/// # fn main() {}
/// # #[cfg(feature = "axum")]
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let text = std::fs::read_to_string("shop.toml")?;
///     // The whole error would show lines of the file, and secrets of other tables with them.
///     let settings: Settings = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
///     let sessions = SessionManager::from_config(&settings.session)?
///         .revocations(RevocationList::in_process())
///         .build()?;
///     let app: Router = Router::new()
///         .route("/", get(home))
///         .layer(SessionLayer::<Map>::new(sessions));
/// #   let _ = app;
///     // … axum::serve(listener, app)
///     Ok(())
/// }
/// ```
///
/// With [figment](https://docs.rs/figment) as Rocket has it, where each profile of `Rocket.toml` may
/// hold a table `session`, and variables such as
/// `ROCKET_SESSION='{policy={preset="nist-aal2"}}'` go over it. In Rocket, `figment` is
/// `rocket.figment()`:
///
/// ```
/// use figment::Figment;
/// use figment::providers::{Env, Format, Toml};
/// use sealed_session::Config;
///
/// let file = r#"
///     [default.session]
///     realm = "shop"
///     keys = { source = "file", path = "/etc/shop/session.keys" }
///
///     [debug.session]
///     cookie = { insecure_http = true }
/// "#;
/// let figment = Figment::new()
///     .merge(Toml::string(file).nested())
///     .merge(Env::prefixed("ROCKET_").ignore(&["PROFILE"]).global())
///     .select("debug");
/// let config: Config = figment.extract_inner("session")?;
///
/// config.validate()?; // all but the keys, which stand in another file
/// assert_eq!(config.realm(), "shop");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    realm: String,
    #[serde(deserialize_with = "keys::table")]
    keys: KeysTable,
    #[serde(default)]
    policy: PolicyTable,
    #[serde(default)]
    cookie: CookieTable,
    #[serde(default, deserialize_with = "revocation::table")]
    revocation: Option<RevocationTable>,
}

impl Config {
    /// The name of the application or tenant.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The limits of sessions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for limits that contradict each other, or that
    /// exceed those of the preset.
    pub fn policy(&self) -> Result<Policy, Error> {
        self.policy.policy()
    }

    /// The cookie's name and attributes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a cookie that browsers would refuse, or
    /// that does not go with `insecure_http`.
    pub fn cookie(&self) -> Result<Cookie, Error> {
        self.cookie.cookie()
    }

    /// How to rotate the keys under the policy.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for times that would let a key seal too early
    /// or fill the ring, and where [`policy`](Self::policy) fails.
    pub fn rotation(&self) -> Result<Rotation, Error> {
        self.keys.rotation(&self.policy()?)
    }

    /// Where the text of the ring is, not read yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a path or a variable that is missing,
    /// impossible, or beside the wrong source.
    pub fn key_source(&self) -> Result<Box<dyn KeySource>, Error> {
        self.keys.source()
    }

    /// The path of the ring, if it is in one file.
    pub fn key_file(&self) -> Option<&Path> {
        self.keys.file()
    }

    /// How often the source of the ring is read.
    pub const fn poll_every(&self) -> Duration {
        self.keys.poll_every()
    }

    /// Loads the ring, and follows it from then on: [`KeyRing::watch_every`].
    ///
    /// # Errors
    ///
    /// Those of [`key_source`](Self::key_source) and [`KeyRing::watch_every`].
    pub fn watch_keys(&self) -> Result<WatchedKeys, Error> {
        KeyRing::watch_every(self.key_source()?, self.poll_every())
    }

    /// The log that the table `revocation` names, not read yet; None for a list that no other process
    /// can reach, and without the table.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for settings that contradict each other or miss,
    /// a `url_variable` that is not set, a URL that cannot be read, and a backend whose feature this
    /// build does not have. No message repeats the URL.
    pub fn revocation_log(&self) -> Result<Option<Box<dyn RevocationLog>>, Error> {
        self.revocation.as_ref().map_or(Ok(None), |table| table.log(&self.realm))
    }

    /// Starts the list that the table `revocation` describes; None for `backend = "none"`, and without
    /// the table.
    ///
    /// Call it once and hand out clones. It waits for the first reading as
    /// [`RevocationListBuilder::build`](crate::revocation::RevocationListBuilder::build) does.
    ///
    /// # Errors
    ///
    /// Those of [`revocation_log`](Self::revocation_log) and of
    /// [`RevocationListBuilder::build`](crate::revocation::RevocationListBuilder::build).
    pub fn revocations(&self) -> Result<Option<RevocationList>, Error> {
        let Some(table) = &self.revocation else { return Ok(None) };
        table.list(&self.realm, self.policy()?.skew())
    }

    /// Whether there is a table `revocation`: without it, the builder may be given a list.
    pub const fn has_revocations(&self) -> bool {
        self.revocation.is_some()
    }

    /// A list that follows a log of your own, with the policy's clock skew: for settings without a
    /// table `revocation`.
    ///
    /// # Errors
    ///
    /// Where [`policy`](Self::policy) fails.
    pub fn revocations_in(&self, log: impl RevocationLog) -> Result<RevocationListBuilder, Error> {
        Ok(RevocationList::builder(log).clock_skew(self.policy()?.skew()))
    }

    /// Whether there is a table `revocation`, and what it puts in force: setting and value, without any
    /// URL.
    #[cfg(feature = "cli")]
    pub(crate) fn revocation_in_force(&self) -> Option<Vec<(&'static str, String)>> {
        self.revocation.as_ref().map(|table| table.in_force(&self.realm))
    }

    /// Refuses what [`SessionManager::from_config`] would refuse, without reading the keys, the
    /// environment, or the revocation log.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config); the message begins with the setting, such as
    /// `keys.path`, and says what to write instead.
    pub fn validate(&self) -> Result<(), Error> {
        Context::bearer(&self.realm)?;
        self.key_source()?;
        self.rotation()?;
        self.cookie()?;
        self.revocation.as_ref().map_or(Ok(()), |table| table.check(&self.realm))
    }
}

impl SessionManager {
    /// Starts a session manager with these settings: loads the keys, and follows them and the
    /// revocation log from then on.
    ///
    /// What is no setting is for the builder: observers, migrations, and the revocation list if there
    /// is no table `revocation`, as [`Config::has_revocations`] tells. A list that the builder is given
    /// takes the place of the configured one.
    ///
    /// # Errors
    ///
    /// Those of [`Config::validate`], [`Config::watch_keys`] and [`Config::revocations`].
    pub fn from_config(config: &Config) -> Result<SessionManagerBuilder, Error> {
        config.validate()?;
        let builder = Self::builder(config.realm(), config.watch_keys()?)
            .policy(config.policy()?)
            .cookie(config.cookie()?);
        Ok(match config.revocations()? {
            Some(list) => builder.revocations(list),
            None => builder,
        })
    }
}
