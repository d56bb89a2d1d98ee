//! How long sessions last: two limits, and when activity is written down.
//!
//! The limits in force at sign-in are sealed into the token as facts. On opening, the tighter of
//! the sealed limit and today's policy counts: a policy may shorten sessions that exist, never
//! lengthen them.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The shortest `refresh_after` that a policy may set.
const MIN_REFRESH_AFTER: Duration = MINUTE;
/// The shortest idle limit of a single sign-in: refreshes are written in whole seconds.
const MIN_IDLE: u32 = 2;

/// The two limits of a session, in whole seconds.
///
/// ```
/// # use sealed_session::Limits;
/// # use std::time::Duration;
/// let kiosk = Limits {
///     absolute_timeout: Duration::from_secs(15 * 60),
///     idle_timeout: Some(Duration::from_secs(2 * 60)),
/// };
/// # let _ = kiosk;
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "written as a literal; a third limit is a new format")]
pub struct Limits {
    /// The session ends this long after it was issued, whatever happens.
    pub absolute_timeout: Duration,
    /// The session ends after this long without activity. None: no idle limit.
    pub idle_timeout: Option<Duration>,
}

impl Limits {
    const fn new(absolute_timeout: Duration, idle_timeout: Duration) -> Self {
        Self { absolute_timeout, idle_timeout: Some(idle_timeout) }
    }

    /// Both limits as sealed: whole seconds, 0 for no idle limit, rounded down.
    fn seconds(self) -> (u32, u32) {
        (seconds(self.absolute_timeout), self.idle_timeout.map_or(0, seconds))
    }
}

/// The limits of all sessions, by how they began.
///
/// | | browser session, anonymous | remember me |
/// |---|---|---|
/// | `absolute_timeout` | 12 h | 30 d |
/// | `idle_timeout` | 30 min | 7 d |
/// | `refresh_after` | 3 min | 1 d |
///
/// *Activity* is a request whose handler looked at the session. It is written down, by sending the
/// token again with a new `refreshed_at`, once the last such writing is `refresh_after` old. From
/// that follow two bounds. On one clock, a visitor idle for longer than `idle_timeout` is always
/// signed out, and one idle for less than `idle_timeout - refresh_after` never is. Between
/// instances with different clocks both hold give or take 2 × `clock_skew` + 1 s.
///
/// Which presets match which rule book: [`nist_aal1`](Self::nist_aal1),
/// [`nist_aal2`](Self::nist_aal2), [`nist_aal3`](Self::nist_aal3), [`pci`](Self::pci). What a
/// policy leaves out keeps the default above.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    browser: Column,
    remember: Column,
    anonymous: Option<Limits>,
    clock_skew: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Column {
    limits: Limits,
    refresh_after: Option<Duration>,
    default_refresh_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            browser: Column {
                limits: Limits::new(hours(12), minutes(30)),
                refresh_after: None,
                default_refresh_after: minutes(3),
            },
            remember: Column {
                limits: Limits::new(days(30), days(7)),
                refresh_after: None,
                default_refresh_after: DAY,
            },
            anonymous: None,
            clock_skew: MINUTE,
        }
    }
}

impl Policy {
    /// NIST SP 800-63B-4, AAL1 (2.1.3): at most 30 days, no idle limit asked for. Remembered
    /// sign-ins get the same.
    pub fn nist_aal1() -> Self {
        let limits = Limits { absolute_timeout: days(30), idle_timeout: None };
        Self::default().browser(limits).remember(limits)
    }

    /// NIST SP 800-63B-4, AAL2 (2.2.3): at most 24 hours, at most 1 hour idle, "remember me"
    /// included.
    pub fn nist_aal2() -> Self {
        let limits = Limits::new(hours(24), HOUR);
        Self::default().browser(limits).remember(limits)
    }

    /// NIST SP 800-63B-4, AAL3 (2.3.3): at most 12 hours, at most 15 minutes idle, "remember me"
    /// included.
    pub fn nist_aal3() -> Self {
        let limits = Limits::new(hours(12), minutes(15));
        Self::default().browser(limits).remember(limits)
    }

    /// PCI DSS 4.0.1, 8.2.8: at most 15 minutes idle, "remember me" included; activity is written
    /// down every minute, so that the limit falls at most a minute early.
    pub fn pci() -> Self {
        let limits = Limits::new(hours(12), minutes(15));
        Self::default()
            .browser(limits)
            .refresh_after(MINUTE)
            .remember(limits)
            .remember_refresh_after(MINUTE)
    }

    /// Sets the limits of sign-ins that end with the browser.
    #[must_use]
    pub fn browser(mut self, limits: Limits) -> Self {
        self.browser.limits = limits;
        self
    }

    /// Sets how old the last writing of activity gets in a browser session: at least 60 s, at most
    /// half of `idle_timeout`. Unset, it is 3 min or half of `idle_timeout`, what is shorter.
    #[must_use]
    pub fn refresh_after(mut self, refresh_after: Duration) -> Self {
        self.browser.refresh_after = Some(refresh_after);
        self
    }

    /// Sets the limits of sign-ins with "remember me".
    #[must_use]
    pub fn remember(mut self, limits: Limits) -> Self {
        self.remember.limits = limits;
        self
    }

    /// Like [`refresh_after`](Self::refresh_after), for sign-ins with "remember me": 1 d when unset.
    #[must_use]
    pub fn remember_refresh_after(mut self, refresh_after: Duration) -> Self {
        self.remember.refresh_after = Some(refresh_after);
        self
    }

    /// Sets the limits of sessions without a subject. Unset, they are those of browser sessions.
    #[must_use]
    pub fn anonymous(mut self, limits: Limits) -> Self {
        self.anonymous = Some(limits);
        self
    }

    /// Sets how far the clocks of two instances may lie apart from true time, each: 60 s.
    #[must_use]
    pub fn clock_skew(mut self, clock_skew: Duration) -> Self {
        self.clock_skew = clock_skew;
        self
    }

    /// Refuses limits that contradict each other or that the format cannot hold.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        self.browser.validate("browser", "refresh_after")?;
        self.remember.validate("remember", "remember_refresh_after")?;
        // Its `refresh_after` is borrowed, and shortened where it does not fit.
        let anonymous = Column { refresh_after: None, ..self.column(Kind::Anonymous) };
        anonymous.validate("anonymous", "refresh_after")?;
        if self.clock_skew > HOUR {
            return Err(Error::config("policy.clock_skew: must be at most 1 h"));
        }
        Ok(())
    }

    /// The limits to seal into a session of this kind, where `wish` may only shorten.
    pub(crate) fn limits(&self, kind: Kind, wish: Option<Limits>) -> Result<(u32, u32), Error> {
        let (lifetime, idle) = self.column(kind).limits.seconds();
        let Some(wish) = wish else { return Ok((lifetime, idle)) };
        let (wished_lifetime, wished_idle) = wish.seconds();
        if wished_lifetime == 0 || (wish.idle_timeout.is_some() && wished_idle < MIN_IDLE) {
            return Err(Error::config(
                "limits of a sign-in: absolute_timeout must be at least 1 s, idle_timeout 2 s",
            ));
        }
        Ok((lifetime.min(wished_lifetime), tighter(idle, wished_idle)))
    }

    /// Whether a session with these times is alive.
    pub(crate) fn verdict(
        &self,
        kind: Kind,
        times: &Times,
        now: Timestamp,
    ) -> Result<(), ErrorKind> {
        let ahead = now.plus(self.slack());
        if times.issued_at > ahead || times.refreshed_at() > ahead {
            return Err(ErrorKind::NotYet);
        }
        let (lifetime, idle) = self.effective(kind, times);
        if now.since(times.issued_at) > lifetime {
            return Err(ErrorKind::Expired);
        }
        match idle {
            Some(idle) if now.since(times.refreshed_at()) > idle => Err(ErrorKind::Idle),
            _ => Ok(()),
        }
    }

    /// Whether activity now is to be written down.
    pub(crate) fn refresh_due(&self, kind: Kind, times: &Times, now: Timestamp) -> bool {
        // Half of the idle limit in force, or a session that is used would end all the same once a
        // policy is tightened.
        let Some(idle) = self.effective(kind, times).1 else { return false };
        let half = Duration::from_millis(idle.as_secs().saturating_mul(500));
        let column = self.column(kind);
        let after = column.refresh_after.unwrap_or(column.default_refresh_after);
        now.since(times.refreshed_at()) >= after.min(half)
    }

    /// What sessions of this kind get at sign-in: their limits, and how old the last writing of
    /// activity gets.
    #[cfg(feature = "cli")]
    pub(crate) fn in_force(&self, kind: Kind) -> (Limits, Option<Duration>) {
        let Column { limits, refresh_after, default_refresh_after } = self.column(kind);
        let half = limits.idle_timeout.map(|idle| Duration::from_secs(idle.as_secs() / 2));
        (limits, half.map(|half| refresh_after.unwrap_or(default_refresh_after).min(half)))
    }

    /// The last instant at which the session is alive, whatever the activity.
    pub(crate) fn expires_at(&self, kind: Kind, times: &Times) -> Timestamp {
        times.issued_at.plus(self.effective(kind, times).0)
    }

    /// The last instant at which the session is alive without further activity.
    pub(crate) fn idle_expires_at(&self, kind: Kind, times: &Times) -> Option<Timestamp> {
        self.effective(kind, times).1.map(|idle| times.refreshed_at().plus(idle))
    }

    /// The longest absolute limit that this policy seals.
    pub(crate) fn longest(&self) -> Duration {
        let anonymous = self.column(Kind::Anonymous).limits.absolute_timeout;
        let browser = self.browser.limits.absolute_timeout;
        browser.max(self.remember.limits.absolute_timeout).max(anonymous)
    }

    /// The longest time that a session of this policy lives without activity.
    pub(crate) fn longest_unused(&self) -> Duration {
        let unused = |kind| {
            let Limits { absolute_timeout, idle_timeout } = self.column(kind).limits;
            idle_timeout.unwrap_or(absolute_timeout).min(absolute_timeout)
        };
        let [anonymous, browser, remember] =
            [Kind::Anonymous, Kind::Browser, Kind::Remember].map(unused);
        anonymous.max(browser).max(remember)
    }

    /// How far a clock may lie apart from true time.
    pub(crate) const fn skew(&self) -> Duration {
        self.clock_skew
    }

    /// How far two instances' clocks may lie apart, and a second for rounding.
    pub(crate) fn slack(&self) -> Duration {
        self.clock_skew.saturating_mul(2).saturating_add(Duration::from_secs(1))
    }

    /// The tighter of what is sealed and what this policy says today.
    fn effective(&self, kind: Kind, times: &Times) -> (Duration, Option<Duration>) {
        let (lifetime, idle) = self.column(kind).limits.seconds();
        let idle = tighter(idle, times.idle);
        (
            Duration::from_secs(u64::from(lifetime.min(times.lifetime))),
            (idle != 0).then(|| Duration::from_secs(u64::from(idle))),
        )
    }

    fn column(&self, kind: Kind) -> Column {
        match kind {
            Kind::Anonymous => {
                let limits = self.anonymous.unwrap_or(self.browser.limits);
                Column { limits, ..self.browser }
            }
            Kind::Browser => self.browser,
            Kind::Remember => self.remember,
        }
    }
}

impl Column {
    fn validate(&self, name: &str, refresh_name: &str) -> Result<(), Error> {
        let refuse = |field: &str, advice: &str| {
            Err(Error::config(format!("policy.{name}: {field} {advice}")))
        };
        let Limits { absolute_timeout, idle_timeout } = self.limits;
        if !whole(absolute_timeout) || seconds(absolute_timeout) == 0 {
            return refuse("absolute_timeout", "must be whole seconds, 1 s to 10 years");
        }
        if let Some(idle) = idle_timeout {
            if !whole(idle) || idle < MIN_REFRESH_AFTER.saturating_mul(2) {
                return refuse(
                    "idle_timeout",
                    "must be whole seconds, 120 s or more, unless there is no idle limit",
                );
            }
            if idle > absolute_timeout {
                return refuse("idle_timeout", "must not be over absolute_timeout");
            }
        }
        if let Some(refresh_after) = self.refresh_after {
            let half = Duration::from_secs(idle_timeout.unwrap_or(absolute_timeout).as_secs() / 2);
            if refresh_after < MIN_REFRESH_AFTER || refresh_after > half {
                let advice = format!("must be 60 s to {} s (half of idle_timeout)", half.as_secs());
                return refuse(refresh_name, &advice);
            }
        }
        Ok(())
    }
}

/// How a session began, which picks its column of the policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Anonymous,
    Browser,
    Remember,
}

/// The sealed times of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Times {
    pub(crate) issued_at: Timestamp,
    /// Whole seconds after `issued_at`.
    pub(crate) refreshed: u32,
    /// Absolute limit in seconds.
    pub(crate) lifetime: u32,
    /// Idle limit in seconds, 0 for none.
    pub(crate) idle: u32,
}

impl Times {
    pub(crate) fn refreshed_at(&self) -> Timestamp {
        self.issued_at.plus(Duration::from_secs(u64::from(self.refreshed)))
    }

    /// The same times with activity at `now` written down: rounded down to a second, never back.
    pub(crate) fn refreshed_by(self, now: Timestamp) -> Self {
        let refreshed = seconds(now.since(self.issued_at)).max(self.refreshed);
        Self { refreshed, ..self }
    }
}

/// The shorter of two idle limits in seconds, where 0 is none.
fn tighter(one: u32, other: u32) -> u32 {
    match (one, other) {
        (0, idle) | (idle, 0) => idle,
        (one, other) => one.min(other),
    }
}

fn whole(duration: Duration) -> bool {
    duration.subsec_nanos() == 0 && duration <= days(3_653)
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn minutes(n: u32) -> Duration {
    MINUTE.saturating_mul(n)
}

fn hours(n: u32) -> Duration {
    HOUR.saturating_mul(n)
}

fn days(n: u32) -> Duration {
    DAY.saturating_mul(n)
}
