//! What the tests share: a manager with a clock that stands still, and a browser's cookie jar.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "helpers of tests")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use sealed_session::{
    Event, KeyRing, ManualClock, Map, Policy, RevocationList, Session, SessionData, SessionManager,
    SessionManagerBuilder, SignIn,
};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);
pub const MILLI: Duration = Duration::from_millis(1);

/// A clock at a whole second in 2026.
pub fn clock() -> ManualClock {
    ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000))
}

/// A builder with a fresh key, a list in this process, and a clock that stands still.
pub fn builder() -> (SessionManagerBuilder, ManualClock) {
    let clock = clock();
    let builder = SessionManager::builder("shop", KeyRing::for_tests().unwrap())
        .revocations(RevocationList::in_process())
        .clock(clock.clone());
    (builder, clock)
}

/// A manager with this policy.
pub fn manager(policy: Policy) -> (SessionManager, ManualClock) {
    let (builder, clock) = builder();
    (builder.policy(policy).build().unwrap(), clock)
}

/// All events after the first loading of the keys, as their `Debug` text.
pub fn recorder() -> (impl Fn(&Event<'_>) + Send + Sync + 'static, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    let record = move |event: &Event<'_>| {
        if !matches!(event, Event::KeyRingLoaded { .. }) {
            writer.lock().unwrap().push(format!("{event:?}"));
        }
    };
    (record, log)
}

/// A visitor's browser: keeps the cookies it is sent, and sends them back.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    pub cookie: Option<String>,
}

impl Browser {
    /// One request: opens the session, lets `handler` work on it, takes the answer's cookie.
    pub fn request<T: SessionData, R>(
        &mut self,
        sessions: &SessionManager,
        handler: impl FnOnce(&Session<T>) -> R,
    ) -> R {
        let session = self.open(sessions);
        let result = handler(&session);
        self.take_answer(&session);
        result
    }

    /// The beginning of a request: the session as its handler gets it.
    pub fn open<T: SessionData>(&self, sessions: &SessionManager) -> Session<T> {
        sessions.open(self.cookie.as_deref()).unwrap()
    }

    /// The end of a request, perhaps of another tab: whether its answer set or removed the cookie.
    pub fn take_answer<T: SessionData>(&mut self, session: &Session<T>) -> bool {
        let set_cookie = session.close().unwrap().into_iter().next();
        if let Some(set_cookie) = &set_cookie {
            self.take(set_cookie);
        }
        set_cookie.is_some()
    }

    /// Does what a browser does with one `Set-Cookie` value.
    pub fn take(&mut self, set_cookie: &str) {
        let pair = set_cookie.split(';').next().unwrap();
        let removed = set_cookie.contains("Max-Age=0");
        self.cookie = (!removed).then(|| pair.to_owned());
    }

    /// Whose session the server sees, without any refresh.
    pub fn subject(&self, sessions: &SessionManager) -> Option<String> {
        self.open::<Map>(sessions).subject().map(|subject| subject.to_string())
    }

    /// Signs in.
    pub fn sign_in(&mut self, sessions: &SessionManager, subject: &str) {
        self.request(sessions, |session: &Session<Map>| session.sign_in(subject).unwrap());
    }
}

/// A request of a browser, by hand: nothing is answered until it is closed.
pub fn open(sessions: &SessionManager, browser: &Browser) -> Session<Map> {
    sessions.open(browser.cookie.as_deref()).unwrap()
}

/// The `Set-Cookie` that a request is answered with.
pub fn answer(session: &Session<Map>) -> Option<String> {
    session.close().unwrap().into_iter().next()
}

/// A browser that is signed in.
pub fn signed_in(sessions: &SessionManager, sign_in: impl Into<SignIn<Map>>) -> Browser {
    Browser { cookie: Some(sessions.cookie_for(sign_in).unwrap()) }
}

/// Whether a browser's cookie still opens.
pub fn is_alive(sessions: &SessionManager, browser: &Browser) -> bool {
    open(sessions, browser).id().is_some()
}
