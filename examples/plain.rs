//! The life of a session without any framework: issued, opened, refreshed, left idle, signed out.
//!
//! Run it with `cargo run --example plain`. It prints what a server and a browser tell each other,
//! step by step, on a clock that stands still in between; tokens by their length alone. The output
//! stands in `tests/expected/plain.txt`.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::time::{Duration, SystemTime};

use sealed_session::{Error, KeyRing, ManualClock, RevocationList, Session, SessionManager};

fn main() -> Result<(), Error> {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
    let sessions = SessionManager::builder("plain", KeyRing::for_tests()?)
        .revocations(RevocationList::in_process())
        .clock(clock.clone())
        .build()?;

    let session: Session = sessions.open(None::<&str>)?;
    session.sign_in("alice")?;
    session.insert("cart", ["tea"])?;
    let issued = answer("issue: alice signs in", &session)?;

    clock.advance(Duration::from_secs(2 * 60));
    let session: Session = sessions.open(issued.as_deref())?;
    answer("open: 2 minutes later", &session)?;

    clock.advance(Duration::from_secs(2 * 60));
    let session: Session = sessions.open(issued.as_deref())?;
    let refreshed = answer("refresh: 4 minutes after sign-in", &session)?;

    clock.advance(Duration::from_secs(27 * 60));
    let session: Session = sessions.open(issued.as_deref())?;
    answer("idle out: the first cookie after 31 minutes", &session)?;
    let session: Session = sessions.open(refreshed.as_deref())?;
    let copy = answer("the refreshed one at the same time", &session)?;

    let session: Session = sessions.open(copy.as_deref())?;
    session.sign_out()?;
    answer("sign out", &session)?;
    let session: Session = sessions.open(copy.as_deref())?;
    answer("a copy of the cookie after that", &session).map(drop)
}

/// Ends a request: prints who asked and what is answered, and returns the cookie to send next.
fn answer(step: &str, session: &Session) -> Result<Option<String>, Error> {
    let who = session.subject().unwrap_or_else(|| "nobody".into());
    let cart = session.get::<Vec<String>>("cart")?.unwrap_or_default();
    println!("{step}\n  it is {who}, with {cart:?} in the cart");
    let set_cookie = session.close()?.into_iter().next();
    let Some((pair, attributes)) = set_cookie.as_deref().and_then(|text| text.split_once(';'))
    else {
        println!("  no Set-Cookie");
        return Ok(None);
    };
    let (name, token) = pair.split_once('=').unwrap_or_default();
    println!("  Set-Cookie: {name}=<{} characters>;{attributes}", token.len());
    Ok(Some(pair.to_owned()))
}
