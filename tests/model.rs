//! A session through many requests does what a simple model of it does.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "helpers of tests")]

mod common;

use common::{Browser, manager};
use proptest::prelude::*;
use sealed_session::{ErrorKind, Flash, Policy, Session, SignIn};

/// What a handler does.
#[derive(Clone, Debug)]
enum Step {
    Update(String),
    SignIn(&'static str, Option<String>),
    Flash(String),
    TakeFlash,
    Renew,
    SignOut,
    Passive,
}

/// What a session is to its handler.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    subject: Option<&'static str>,
    data: String,
    flash: Vec<String>,
}

impl Model {
    fn after(&self, step: &Step) -> Self {
        let mut next = self.clone();
        match step {
            Step::Update(data) => next.data.clone_from(data),
            Step::SignIn(subject, data) => {
                if self.subject.is_some_and(|old| old != *subject) {
                    next = Self::default();
                }
                next.subject = Some(subject);
                next.data = data.clone().unwrap_or(next.data);
            }
            Step::Flash(text) => next.flash.push(text.clone()),
            Step::TakeFlash => next.flash.clear(),
            Step::SignOut => next = Self::default(),
            Step::Renew | Step::Passive => {}
        }
        next
    }

    /// Whether it fits into a cookie of the default name.
    fn fits(&self) -> bool {
        let flash: usize = self.flash.iter().map(|text| text.len() + r#"["i",""],"#.len()).sum();
        let flash = if flash == 0 { 0 } else { 2 + "[]".len() + flash - 1 };
        let subject = self.subject.unwrap_or_default().len();
        let octets = 84 + subject + flash + self.data.len() + 2;
        "__Host-Http-id".len() + (octets * 4).div_ceil(3) <= 4096 && self.flash.len() <= 8
    }
}

fn act(session: &Session<String>, step: &Step) -> Result<(), ErrorKind> {
    match step.clone() {
        Step::Update(new) => session.update(|data| *data = new),
        Step::SignIn(subject, Some(data)) => {
            session.sign_in(SignIn::new(subject).data(data)).map(drop)
        }
        Step::SignIn(subject, None) => session.sign_in(subject).map(drop),
        Step::Flash(text) => session.flash("i", text),
        Step::TakeFlash => session.take_flash().map(drop),
        Step::Renew => session.renew().map(drop),
        Step::SignOut => session.sign_out().map(drop),
        Step::Passive => {
            session.passive();
            Ok(())
        }
    }
    .map_err(|error| error.kind())
}

fn look(session: &Session<String>) -> Model {
    let subject = session.subject();
    let known = ["alice", "bob"].into_iter().find(|name| subject.as_deref() == Some(name));
    Model { subject: known, data: session.data().as_ref().clone(), flash: Vec::new() }
}

/// Few values, so that changes are often taken back, and some that fit only one at a time.
fn text() -> impl Strategy<Value = String> {
    let sizes = prop_oneof![
        4 => 0..2_usize,
        2 => prop_oneof![Just(1_500), Just(2_940)],
        1 => 2_900..2_980_usize,
    ];
    ("[ab]", sizes).prop_map(|(letter, size)| letter.repeat(size))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => text().prop_map(Step::Update),
        3 => (prop_oneof![Just("alice"), Just("bob")], prop::option::of(text()))
            .prop_map(|(subject, data)| Step::SignIn(subject, data)),
        3 => text().prop_map(Step::Flash),
        2 => Just(Step::TakeFlash),
        1 => Just(Step::Renew),
        1 => Just(Step::SignOut),
        1 => Just(Step::Passive),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_one_request_leaves_is_what_the_next_one_finds(
        requests in prop::collection::vec(prop::collection::vec(step(), 0..6), 1..6),
    ) {
        let (sessions, _) = manager(Policy::default());
        let mut browser = Browser::default();
        let mut model = Model::default();
        for steps in &requests {
            let arrived = browser.clone();
            let session: Session<String> = browser.open(&sessions);
            prop_assert_eq!(look(&session), Model { flash: Vec::new(), ..model.clone() });
            let before = model.clone();
            for step in steps {
                let next = model.after(step);
                let grows = matches!(step, Step::Update(_) | Step::SignIn(..) | Step::Flash(_));
                let expected = if !grows || next.fits() {
                    model = next;
                    Ok(())
                } else {
                    Err(ErrorKind::TooLarge)
                };
                prop_assert_eq!(act(&session, step), expected);
                prop_assert_eq!(look(&session), Model { flash: Vec::new(), ..model.clone() });
            }
            let sent = session.close().unwrap().into_iter().next();
            if let Some(set_cookie) = &sent {
                let pair = set_cookie.split(';').next().unwrap();
                prop_assert!(pair.len() - 1 <= 4096);
                browser.take(set_cookie);
            }
            // What did not change is not sent; a new id or generation is a change.
            let started = steps.iter().any(|step| {
                matches!(step, Step::SignIn(..) | Step::SignOut | Step::Renew)
            });
            prop_assert!(sent.is_none() || started || before != model);
            let copy: Session<String> = browser.open(&sessions);
            // Whoever signed in or out has left nothing behind that is signed in.
            let stale: Session<String> = arrived.open(&sessions);
            prop_assert!(stale.subject().is_none() || stale.id() == copy.id());
            let flash: Vec<_> =
                copy.take_flash().unwrap().iter().map(Flash::text).map(str::to_owned).collect();
            prop_assert_eq!(Model { flash, ..look(&copy) }, model.clone());
        }
    }
}
