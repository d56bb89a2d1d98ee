//! Both limits, to the millisecond: what is sealed, what today's policy says, and how activity
//! slides the idle one.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "helpers of tests")]
#![allow(clippy::unchecked_time_subtraction, reason = "a test may panic")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::{DAY, HOUR, MILLI, MINUTE, SECOND};
use sealed_session::{
    Clock, ErrorKind, Event, KeyRing, Limits, ManualClock, Map, Policy, RevocationList, Session,
    SessionId, SessionManager, SignIn,
};

/// An application, and the kinds of what it rejected.
struct App {
    sessions: SessionManager,
    clock: ManualClock,
    rejected: Arc<Mutex<Vec<ErrorKind>>>,
}

/// A token of either transport; a cookie with its name.
#[derive(Clone, Debug)]
enum Token {
    Cookie(String),
    Bearer(String),
}

/// How a session looks from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Looks {
    id: SessionId,
    issued_at: SystemTime,
    expires_at: SystemTime,
    idle_expires_at: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug)]
enum Column {
    Browser,
    Remember,
    Anonymous,
}

const COLUMNS: [Column; 3] = [Column::Browser, Column::Remember, Column::Anonymous];

impl App {
    fn new(policy: Policy) -> Self {
        let clock = common::clock();
        // Nothing may hang on sessions being issued at a whole second.
        clock.advance(437 * MILLI);
        Self::with(&KeyRing::for_tests().unwrap().expose_text(), clock, policy)
    }

    /// The application with the keys in `text`, as after a restart or on another instance.
    fn with(text: &str, clock: ManualClock, policy: Policy) -> Self {
        let rejected = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&rejected);
        let sessions = SessionManager::builder("shop", text.parse::<KeyRing>().unwrap())
            .policy(policy)
            .clock(clock.clone())
            .revocations(RevocationList::in_process())
            .observer(move |event: &Event<'_>| {
                if let Event::Rejected { kind, .. } = event {
                    writer.lock().unwrap().push(*kind);
                }
            })
            .build()
            .unwrap();
        Self { sessions, clock, rejected }
    }

    /// Two applications with the same keys and clock, and these policies.
    fn pair(first: Policy, second: Policy) -> (Self, Self) {
        let keys = KeyRing::for_tests().unwrap().expose_text();
        let clock = common::clock();
        (Self::with(&keys, clock.clone(), first), Self::with(&keys, clock, second))
    }

    /// A session of this column, by every transport there is for it.
    fn issue(&self, column: Column) -> Vec<Token> {
        let sign_in = match column {
            Column::Browser => SignIn::new("alice"),
            Column::Remember => SignIn::new("alice").remember(),
            Column::Anonymous => {
                let session: Session = self.sessions.open(None::<&str>).unwrap();
                session.insert("cart", 7).unwrap();
                return vec![Token::cookie(&only(&session).unwrap())];
            }
        };
        self.sign_in(&sign_in).into()
    }

    fn sign_in(&self, sign_in: &SignIn<Map>) -> [Token; 2] {
        [
            Token::Bearer(self.sessions.bearer().issue(sign_in.clone()).unwrap()),
            Token::Cookie(self.sessions.cookie_for(sign_in.clone()).unwrap()),
        ]
    }

    fn looks(&self, token: &Token) -> Result<Looks, ErrorKind> {
        self.visit(token).map(|(looks, _)| looks)
    }

    /// One request: how the session looked, and the token that the answer brought.
    fn visit(&self, token: &Token) -> Result<(Looks, Option<Token>), ErrorKind> {
        match token {
            Token::Bearer(text) => {
                let opened = self.sessions.bearer::<Map>().open(text).map_err(|e| e.kind())?;
                let looks = Looks {
                    id: opened.id(),
                    issued_at: opened.issued_at(),
                    expires_at: opened.expires_at(),
                    idle_expires_at: opened.idle_expires_at(),
                };
                Ok((looks, opened.refresh().unwrap().map(Token::Bearer)))
            }
            Token::Cookie(pair) => {
                let session: Session = self.sessions.open(Some(pair)).unwrap();
                let Some(looks) = looks_of(&session) else {
                    assert_eq!(only(&session), None);
                    return Err(self.rejected.lock().unwrap().pop().unwrap());
                };
                Ok((looks, only(&session).map(|header| Token::cookie(&header))))
            }
        }
    }

    /// One request whose answer the visitor keeps.
    fn act(&self, token: &mut Token) -> Result<Looks, ErrorKind> {
        let (looks, next) = self.visit(token)?;
        *token = next.unwrap_or_else(|| token.clone());
        Ok(looks)
    }
}

impl Token {
    fn cookie(set_cookie: &str) -> Self {
        Self::Cookie(set_cookie.split(';').next().unwrap().to_owned())
    }

    fn pair(&self) -> Option<&str> {
        match self {
            Self::Cookie(pair) => Some(pair),
            Self::Bearer(_) => None,
        }
    }
}

fn looks_of(session: &Session) -> Option<Looks> {
    Some(Looks {
        id: session.id()?,
        issued_at: session.issued_at()?,
        expires_at: session.expires_at()?,
        idle_expires_at: session.idle_expires_at(),
    })
}

/// Closes, and returns the `Set-Cookie` value if there is one.
fn only(session: &Session) -> Option<String> {
    let mut headers = session.close().unwrap().into_iter();
    let first = headers.next();
    assert_eq!(headers.next(), None);
    first
}

fn limits(absolute_timeout: Duration, idle_timeout: impl Into<Option<Duration>>) -> Limits {
    Limits { absolute_timeout, idle_timeout: idle_timeout.into() }
}

/// One policy for all three columns.
fn all(limits: Limits) -> Policy {
    Policy::default().browser(limits).remember(limits).anonymous(limits)
}

/// A policy of which no two numbers are equal.
fn columns(browser: Limits, remember: Limits, anonymous: Limits) -> Policy {
    Policy::default().browser(browser).remember(remember).anonymous(anonymous)
}

#[test]
fn idle_timeout_rejects_only_after_its_last_millisecond() {
    let idle = [300 * SECOND, 400 * SECOND, 500 * SECOND];
    let [browser, remember, anonymous] = idle.map(|idle| limits(HOUR, idle));
    for (column, idle) in COLUMNS.into_iter().zip(idle) {
        let app = App::new(columns(browser, remember, anonymous));
        let tokens = app.issue(column);
        app.clock.advance(idle);
        for token in &tokens {
            assert!(app.looks(token).is_ok(), "{column:?} {token:?}");
        }
        app.clock.advance(MILLI);
        for token in &tokens {
            assert_eq!(app.looks(token), Err(ErrorKind::Idle), "{column:?} {token:?}");
        }
    }
}

#[test]
fn absolute_timeout_rejects_only_after_its_last_millisecond() {
    let absolute = [1000 * SECOND, 2000 * SECOND, 3001 * SECOND];
    for idle in [None, Some(200 * SECOND)] {
        let [browser, remember, anonymous] = absolute.map(|absolute| limits(absolute, idle));
        for (column, absolute) in COLUMNS.into_iter().zip(absolute) {
            let app = App::new(columns(browser, remember, anonymous));
            let begin = app.clock.now();
            let mut tokens = app.issue(column);
            while app.clock.now() + 100 * SECOND <= begin + absolute {
                app.clock.advance(100 * SECOND);
                for token in &mut tokens {
                    assert!(app.act(token).is_ok(), "{token:?}");
                }
            }
            app.clock.set(begin + absolute);
            for token in &tokens {
                assert_eq!(app.looks(token).unwrap().expires_at, app.clock.now());
            }
            app.clock.advance(MILLI);
            for token in &tokens {
                assert_eq!(app.looks(token), Err(ErrorKind::Expired), "{column:?} {token:?}");
            }
        }
    }
}

#[test]
fn the_tighter_of_sealed_limit_and_policy_counts() {
    let all_limits = [300, 600, 900].into_iter().flat_map(|absolute| {
        [None, Some(150), Some(300)]
            .map(|idle| limits(absolute * SECOND, idle.map(|seconds| seconds * SECOND)))
    });
    for (sealed, today) in all_limits.clone().flat_map(|a| all_limits.clone().map(move |b| (a, b)))
    {
        let absolute = sealed.absolute_timeout.min(today.absolute_timeout);
        let idle = [sealed.idle_timeout, today.idle_timeout].into_iter().flatten().min();
        let (end, kind) = match idle {
            Some(idle) if idle < absolute => (idle, ErrorKind::Idle),
            _ => (absolute, ErrorKind::Expired),
        };
        for column in COLUMNS {
            let (before, after) = App::pair(all(sealed), all(today));
            for token in before.issue(column) {
                let begin = before.clock.now();
                before.clock.set(begin + end);
                let looks = after.looks(&token).unwrap();
                assert_eq!(looks.expires_at, begin + absolute);
                assert_eq!(looks.idle_expires_at, idle.map(|idle| begin + idle));
                before.clock.advance(MILLI);
                let dead = after.looks(&token);
                assert_eq!(dead, Err(kind), "{sealed:?} {today:?} {column:?} {token:?}");
                before.clock.set(begin);
            }
        }
    }
}

#[test]
fn a_raised_limit_revives_nothing() {
    let tight = limits(HOUR, 10 * MINUTE);
    for (dies_at, kind) in [(10 * MINUTE, ErrorKind::Idle), (HOUR, ErrorKind::Expired)] {
        let (before, raised) = App::pair(all(tight), all(limits(100 * DAY, None)));
        for column in COLUMNS {
            for token in before.issue(column) {
                let begin = before.clock.now();
                before.clock.set(begin + dies_at + MILLI);
                assert_eq!(before.looks(&token), Err(kind));
                assert_eq!(raised.looks(&token), Err(kind), "{column:?} {token:?}");
                before.clock.set(begin);
            }
        }
    }
    // A refresh under a longer policy does not take the longer limits over.
    let (before, raised) = App::pair(all(tight), all(limits(100 * DAY, 50 * DAY)));
    let begin = before.clock.now();
    for mut token in before.issue(Column::Browser) {
        before.clock.set(begin + 9 * MINUTE);
        let first = raised.act(&mut token).unwrap();
        assert_eq!(raised.act(&mut token).unwrap().expires_at, first.issued_at + HOUR);
        before.clock.advance(10 * MINUTE + MILLI);
        assert_eq!(raised.looks(&token), Err(ErrorKind::Idle), "{token:?}");
    }
    // Nor does one under a shorter policy seal the shorter limits: they are policy, not facts.
    let (before, lowered) = App::pair(all(tight), all(limits(30 * MINUTE, 5 * MINUTE)));
    for mut token in before.issue(Column::Browser) {
        before.clock.set(begin + 5 * MINUTE);
        let first = lowered.act(&mut token).unwrap();
        assert_eq!(first.expires_at, first.issued_at + 30 * MINUTE);
        assert_eq!(before.looks(&token).unwrap().expires_at, first.issued_at + HOUR);
    }
}

#[test]
fn a_policy_that_shortens_the_idle_limit_keeps_active_visitors_signed_in() {
    for sealed in [Some(30 * MINUTE), None] {
        let [sealed, today] = [sealed, Some(2 * MINUTE)].map(|idle| all(limits(12 * HOUR, idle)));
        let (before, lowered) = App::pair(sealed, today);
        let begin = before.clock.now();
        for mut token in before.issue(Column::Browser) {
            for visit in 1..20 {
                before.clock.set(begin + visit * 50 * SECOND);
                assert!(lowered.act(&mut token).is_ok(), "{visit} {token:?}");
            }
            before.clock.set(begin);
        }
    }
}

#[test]
fn a_refresh_moves_neither_id_nor_issued_at_nor_expires_at() {
    let app = App::new(Policy::default());
    for column in COLUMNS {
        for mut token in app.issue(column) {
            let first = app.act(&mut token).unwrap();
            let mut written = 0;
            for minutes in [29, 1, 2, 3, 17, 28, 4, 29] {
                app.clock.advance(minutes * MINUTE + 3 * MILLI);
                let (looks, next) = app.visit(&token).unwrap();
                assert_eq!(Looks { idle_expires_at: first.idle_expires_at, ..looks }, first);
                written += usize::from(next.is_some());
                token = next.unwrap_or(token);
            }
            assert_eq!(written, if matches!(column, Column::Remember) { 0 } else { 7 });
            app.clock.set(first.issued_at);
        }
    }
}

/// The time after which activity is written down is exactly this.
fn assert_refresh_after(app: &App, token: &Token, refresh_after: Duration) {
    let begin = app.clock.now();
    app.clock.set(begin + refresh_after - MILLI);
    assert!(app.visit(token).unwrap().1.is_none(), "{refresh_after:?} {token:?}");
    app.clock.set(begin + refresh_after);
    let next = app.visit(token).unwrap().1.unwrap();
    // Written down rounded to a whole second after issued_at.
    let rounded = Duration::from_secs(refresh_after.as_secs());
    let slid = |token| app.looks(token).unwrap().idle_expires_at.unwrap();
    assert_eq!(slid(&next), slid(token) + rounded);
    assert!(app.visit(&next).unwrap().1.is_none());
    app.clock.set(begin);
}

#[test]
fn activity_is_written_down_when_it_is_due_and_not_before() {
    let presets = [
        (Policy::default(), 3 * MINUTE, DAY),
        (Policy::default().refresh_after(5 * MINUTE), 5 * MINUTE, DAY),
        (Policy::default().remember_refresh_after(84 * HOUR), 3 * MINUTE, 84 * HOUR),
        (all(limits(DAY, 4 * MINUTE)), 2 * MINUTE, 2 * MINUTE),
        (Policy::default().refresh_after(90_500 * MILLI), 90_500 * MILLI, DAY),
    ];
    for (policy, browser, remember) in presets {
        let app = App::new(policy);
        for (column, after) in COLUMNS.into_iter().zip([browser, remember, browser]) {
            for token in app.issue(column) {
                assert_refresh_after(&app, &token, after);
            }
        }
    }
    let app = App::new(Policy::default().refresh_after(5 * MINUTE));
    for (idle, after) in [(2, 1000), (3, 1500), (599, 299_500), (600, 300_000), (900, 300_000)] {
        let sign_in = SignIn::new("alice").limits(limits(DAY, idle * SECOND));
        for token in app.sign_in(&sign_in) {
            assert_refresh_after(&app, &token, after * MILLI);
        }
    }
}

#[test]
fn a_session_without_idle_limit_is_never_refreshed() {
    let app = App::new(all(limits(DAY, None)));
    for column in COLUMNS {
        for token in app.issue(column) {
            let begin = app.clock.now();
            for hours in [0, 1, 12, 24] {
                app.clock.set(begin + hours * HOUR);
                let (looks, next) = app.visit(&token).unwrap();
                assert!(looks.idle_expires_at.is_none() && next.is_none());
            }
            app.clock.set(begin);
        }
    }
}

#[test]
fn refreshed_at_never_decreases_when_the_clock_goes_back() {
    let app = App::new(Policy::default());
    let [mut bearer, mut cookie] = app.sign_in(&SignIn::new("alice"));
    app.clock.advance(10 * MINUTE);
    for token in [&mut bearer, &mut cookie] {
        app.act(token).unwrap();
    }
    let latest = app.looks(&cookie).unwrap().idle_expires_at;
    app.clock.set(app.clock.now() - 2 * MINUTE);

    assert!(app.visit(&bearer).unwrap().1.is_none());
    let session: Session = app.sessions.open(cookie.pair()).unwrap();
    session.insert("cart", 7).unwrap();
    cookie = Token::cookie(&only(&session).unwrap());

    assert_eq!(app.looks(&cookie).unwrap().idle_expires_at, latest);
    assert_eq!(app.looks(&bearer).unwrap().idle_expires_at, latest);
}

#[test]
fn a_token_from_beyond_the_clock_skew_is_not_yet() {
    for skew in [0, 1, 60, 3600] {
        let app = App::new(Policy::default().clock_skew(skew * SECOND));
        let slack = (2 * skew + 1) * SECOND;
        let [bearer, cookie] = app.sign_in(&SignIn::new("alice").remember());
        let issued_at = app.clock.now();
        app.clock.advance(DAY);
        let refreshed = [bearer.clone(), cookie.clone()].map(|mut token| {
            app.act(&mut token).unwrap();
            token
        });
        for (tokens, at) in [([bearer, cookie], issued_at), (refreshed, issued_at + DAY)] {
            for token in tokens {
                app.clock.set(at - slack);
                assert!(app.looks(&token).is_ok(), "{skew} {token:?}");
                app.clock.set(at - slack - MILLI);
                assert_eq!(app.looks(&token), Err(ErrorKind::NotYet), "{skew} {token:?}");
            }
        }
    }
}

/// The worst case: the visitor's last sign of life came just too early to be written down.
#[test]
fn a_visitor_idle_for_less_than_idle_minus_refresh_after_stays() {
    let app = App::new(Policy::default());
    let unwritten = 3 * MINUTE - MILLI;
    let idle = [27 * MINUTE - MILLI, 27 * MINUTE, 27 * MINUTE + MILLI, 27 * MINUTE + 2 * MILLI];
    for mut token in app.issue(Column::Browser) {
        let begin = app.clock.now();
        for idle in idle {
            app.clock.set(begin + unwritten);
            assert!(app.visit(&token).unwrap().1.is_none());
            app.clock.advance(idle);
            let early = (idle > 27 * MINUTE + MILLI).then_some(ErrorKind::Idle);
            assert_eq!(app.looks(&token).err(), early, "{idle:?} {token:?}");
        }
        // So it goes on and on.
        app.clock.set(begin);
        for gap in [3 * MINUTE - SECOND, 27 * MINUTE].into_iter().cycle().take(40) {
            app.clock.advance(gap);
            assert!(app.act(&mut token).is_ok(), "{token:?}");
        }
        app.clock.set(begin);
    }
}

#[test]
fn a_passive_request_does_not_slide_the_idle_limit() {
    let app = App::new(Policy::default());
    for column in COLUMNS {
        let token = app.issue(column).pop().unwrap();
        let first = app.looks(&token).unwrap();
        app.clock.advance(29 * MINUTE);

        let session: Session = app.sessions.open(token.pair()).unwrap();
        session.passive();
        assert_eq!(only(&session), None);

        let session: Session = app.sessions.open(token.pair()).unwrap();
        session.passive().insert("cart", 8).unwrap();
        let written = Token::cookie(&only(&session).unwrap());
        assert_eq!(app.looks(&written).unwrap(), first, "{column:?}");

        let session: Session = app.sessions.open(token.pair()).unwrap();
        session.insert("cart", 8).unwrap();
        let active = Token::cookie(&only(&session).unwrap());
        let slid = first.idle_expires_at.map(|at| at + 29 * MINUTE);
        assert_eq!(app.looks(&active).unwrap().idle_expires_at, slid, "{column:?}");
        app.clock.set(first.issued_at);
    }
}
