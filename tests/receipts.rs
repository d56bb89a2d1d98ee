//! Receipts: they tell the outcome of a revocation once, in time, to everyone who asks.
// Slow, and the same whatever else is built: with the default features, and with all of them.
#![cfg(feature = "ring")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;
#[path = "common/faulty_log.rs"]
mod faulty_log;
#[cfg(feature = "tower")]
#[path = "common/web.rs"]
mod web;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use common::{Browser, MINUTE, SECOND, open, signed_in};
use faulty_log::{Deployment, Instance, PATIENCE, REVOKED, eventually};
use sealed_session::{Error, ErrorKind, Receipt, Target};

/// Counts how often it was woken.
#[derive(Default)]
struct Task {
    woken: AtomicUsize,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    fn woken(&self) -> usize {
        self.woken.load(Ordering::SeqCst)
    }
}

fn poll<F: Future + Unpin>(future: &mut F, task: &Arc<Task>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(task));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// The smallest runtime there is: a thread that sleeps until it is woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Sleeper(Thread);
    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Sleeper(thread::current())));
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park_timeout(PATIENCE);
    }
    panic!("nobody has woken it");
}

/// An instance that has said all it has to say, on a log that takes nothing at the moment.
fn on_a_frozen_log() -> (Deployment, Instance) {
    let deployment = Deployment::new();
    let instance = deployment.instance();
    instance.is_saved();
    instance.link.set(|link| link.frozen = true);
    (deployment, instance)
}

fn revoke(instance: &Instance, subject: &str) -> Receipt {
    instance.sessions.revoke(Target::subject(subject)).unwrap()
}

fn kind(result: Result<(), Error>) -> Result<(), ErrorKind> {
    result.map_err(|error| error.kind())
}

#[test]
fn a_receipt_is_ok_when_the_log_has_it_and_not_before() {
    let (deployment, instance) = on_a_frozen_log();
    let mut receipt = revoke(&instance, "alice");
    assert!(receipt.reaches_copies());
    assert!(poll(&mut receipt, &Arc::default()).is_pending());
    assert!(deployment.backend.revocations().is_empty());

    instance.link.mend();
    assert_eq!(kind(receipt.wait()), Ok(()));
    assert_eq!(deployment.backend.revocations().len(), 1);
}

#[test]
fn a_receipt_is_an_error_after_two_seconds_and_stays_one_though_the_fact_is_saved_later() {
    let deployment = Deployment::new();
    let instance = deployment.instance();
    let token = instance.sign_in("alice");
    instance.is_saved();
    instance.link.set(|link| link.frozen = true);
    let began = Instant::now();

    let receipt = revoke(&instance, "alice");
    let error = receipt.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(began.elapsed() >= 2 * SECOND && began.elapsed() < MINUTE);
    assert!(error.to_string().contains(&instance.list.status().logs[0]), "{error}");
    assert_eq!(instance.ask(&token), REVOKED);

    instance.link.mend();
    instance.is_saved();
    assert_eq!(deployment.instance().ask(&token), REVOKED);
    assert!(receipt.wait().is_err());
}

#[test]
fn every_receipt_has_two_seconds_of_its_own() {
    let (deployment, instance) = on_a_frozen_log();
    let began = Instant::now();
    let first = revoke(&instance, "alice");
    assert!(first.wait().is_err());
    let (later, second) = (Instant::now(), revoke(&instance, "bob"));
    assert!(second.wait().is_err());
    assert!(later.elapsed() >= 2 * SECOND && began.elapsed() < MINUTE);

    let third = revoke(&instance, "carol");
    instance.link.mend();
    assert_eq!(kind(third.wait()), Ok(()));
    assert_eq!(deployment.backend.revocations().len(), 3);
}

#[test]
fn a_receipt_wakes_each_task_that_polled_it_once() {
    let (_, instance) = on_a_frozen_log();
    let mut receipts = [revoke(&instance, "alice"), revoke(&instance, "alice")];
    receipts[1] = receipts[0].clone();
    let tasks: [Arc<Task>; 2] = Default::default();
    for _ in 0..3 {
        for (receipt, task) in receipts.iter_mut().zip(&tasks) {
            assert!(poll(receipt, task).is_pending());
        }
    }
    assert_eq!([tasks[0].woken(), tasks[1].woken()], [0, 0]);

    instance.link.mend();
    eventually("both are woken", || tasks.iter().all(|task| task.woken() > 0));
    for (receipt, task) in receipts.iter_mut().zip(&tasks) {
        for _ in 0..2 {
            let Poll::Ready(result) = poll(receipt, task) else { panic!("not ready") };
            assert_eq!(kind(result), Ok(()));
        }
        assert_eq!(task.woken(), 1);
    }
}

#[test]
fn a_task_that_moves_to_another_waker_is_woken_there() {
    let (_, instance) = on_a_frozen_log();
    let mut receipt = revoke(&instance, "alice");
    let [before, after]: [Arc<Task>; 2] = Default::default();
    assert!(poll(&mut receipt, &before).is_pending());
    assert!(poll(&mut receipt, &after).is_pending());

    instance.link.mend();
    eventually("it is woken", || after.woken() == 1);
}

#[test]
fn a_receipt_can_be_awaited_without_any_runtime() {
    let (deployment, instance) = on_a_frozen_log();
    let (ok, late) = (revoke(&instance, "alice"), instance.list.catch_up());
    let awaiting = thread::spawn(|| (kind(block_on(ok)), kind(block_on(late))));
    instance.link.mend();
    assert_eq!(awaiting.join().unwrap(), (Ok(()), Ok(())));

    instance.link.set(|link| link.frozen = true);
    let (error, late) = (revoke(&instance, "bob"), instance.list.catch_up());
    assert_eq!(kind(block_on(error)), Err(ErrorKind::Backend));
    assert_eq!(kind(block_on(late)), Err(ErrorKind::Backend));
    assert_eq!(deployment.backend.revocations().len(), 1);
}

#[test]
fn clones_and_threads_hear_the_same() {
    for works in [true, false] {
        let (_, instance) = on_a_frozen_log();
        let receipt = revoke(&instance, "alice");
        let results: Vec<_> = thread::scope(|scope| {
            let wait = |receipt: Receipt| move || kind(receipt.wait());
            let waiting: Vec<_> = (0..16).map(|_| scope.spawn(wait(receipt.clone()))).collect();
            if works {
                instance.link.mend();
            }
            waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        let expected = if works { Ok(()) } else { Err(ErrorKind::Backend) };
        assert!(results.iter().all(|result| *result == expected), "{results:?}");
        assert_eq!(kind(receipt.wait()), expected);
    }
}

#[test]
fn a_receipt_that_is_dropped_takes_nothing_back_and_leaves_nothing_behind() {
    let (deployment, instance) = on_a_frozen_log();
    let task = Arc::new(Task::default());
    let mut receipt = revoke(&instance, "alice");
    assert!(poll(&mut receipt, &task).is_pending());
    drop(receipt);

    instance.link.mend();
    instance.is_saved();
    assert_eq!(deployment.backend.revocations().len(), 1);
    eventually("the waker is dropped", || Arc::strong_count(&task) == 1);
}

#[test]
fn what_needs_no_log_is_done_at_once() {
    let (deployment, instance) = on_a_frozen_log();
    let browser = signed_in(&instance.sessions, "alice");
    let id = open(&instance.sessions, &browser).id().unwrap();
    let itself = instance.sessions.revoke(Target::session(id).except(id)).unwrap();
    assert_eq!(kind(itself.wait()), Ok(()));
    let nobody = instance.sessions.revoke_all(&[]).unwrap();
    assert_eq!(kind(nobody.wait()), Ok(()));
    assert!(deployment.backend.revocations().is_empty());

    let (alone, _) = common::manager(sealed_session::Policy::default());
    let receipt = alone.revoke(Target::everyone()).unwrap();
    assert!(receipt.reaches_copies());
    assert!(poll(&mut receipt.clone(), &Arc::default()).is_ready());
}

#[test]
fn receipts_of_a_list_that_is_dropped_are_told_all_the_same() {
    for trouble in ["none", "frozen", "down"] {
        let (deployment, instance) = on_a_frozen_log();
        let (receipt, caught_up) = (revoke(&instance, "alice"), instance.list.catch_up());
        let link = instance.link.clone();
        drop(instance);
        match trouble {
            "none" => link.mend(),
            "down" => link.cut(),
            _ => {}
        }

        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let results = (receipt.wait().is_ok(), caught_up.wait().is_ok());
            let _ = tell.send(results);
        });
        let told = told.recv_timeout(PATIENCE);
        let works = trouble == "none";
        assert_eq!(told.map(|(saved, _)| saved), Ok(works), "{trouble}");
        assert_eq!(deployment.backend.revocations().len(), usize::from(works), "{trouble}");
    }
}

#[test]
fn closing_waits_for_the_revocations_of_its_request() {
    let (deployment, instance) = on_a_frozen_log();
    let sign_out = |browser: &Browser| {
        let session = open(&instance.sessions, browser);
        drop(session.sign_out().unwrap());
        session.close().unwrap()
    };
    let [alice, bob] = ["alice", "bob"].map(|subject| signed_in(&instance.sessions, subject));

    let closing = sign_out(&alice);
    assert_eq!(kind(closing.wait()), Err(ErrorKind::Backend));
    assert_eq!(closing.into_iter().count(), 1, "the cookie goes all the same");

    let closing = sign_out(&bob);
    instance.link.mend();
    assert_eq!(kind(closing.wait()), Ok(()));
    assert_eq!(deployment.backend.revocations().len(), 2);

    instance.link.set(|link| link.frozen = true);
    let session = open(&instance.sessions, &signed_in(&instance.sessions, "carol"));
    assert_eq!(kind(session.close().unwrap().wait()), Ok(()), "nothing was revoked");
}

#[cfg(feature = "tower")]
mod layer {
    use http::Response;
    use http::header::SET_COOKIE;
    use sealed_session::tower::SessionLayer;
    use sealed_session::{Map, Session};
    use tower::Layer as _;
    use tower::util::ServiceExt as _;

    use super::*;

    type Answered = Pin<Box<dyn Future<Output = Response<&'static str>> + Send>>;

    /// A request in which a visitor signs out, or only looks at the session.
    fn request(instance: &Instance, signs_out: bool) -> Answered {
        let handler = web::handler(move |request| {
            let session: Session = web::session(request);
            if signs_out {
                drop(session.sign_out().unwrap());
            } else {
                session.insert("cart", 7).unwrap();
            }
            web::ok()
        });
        let service = SessionLayer::<Map>::new(instance.sessions.clone()).layer(handler);
        let cookie = instance.sessions.cookie_for::<Map>("alice").unwrap();
        let answer = service.oneshot(web::request([cookie.as_str()]));
        Box::pin(async { answer.await.unwrap() })
    }

    fn is_removal(response: &Response<&str>) -> bool {
        response.headers()[SET_COOKIE].to_str().unwrap().contains("Max-Age=0")
    }

    #[test]
    fn the_layer_sends_no_headers_before_the_log_has_the_revocation() {
        let (deployment, instance) = on_a_frozen_log();
        let task = Arc::new(Task::default());
        let mut answer = request(&instance, true);
        assert!(poll(&mut answer, &task).is_pending());
        assert!(deployment.backend.revocations().is_empty());

        instance.link.mend();
        eventually("it is woken", || task.woken() > 0);
        let Poll::Ready(response) = poll(&mut answer, &task) else { panic!("not ready") };
        assert_eq!(deployment.backend.revocations().len(), 1);
        assert!(is_removal(&response));
    }

    #[test]
    fn the_layer_gives_up_after_two_seconds_and_answers_as_if_all_were_well() {
        let (deployment, instance) = on_a_frozen_log();
        let began = Instant::now();
        let response = block_on(request(&instance, true));

        assert!(began.elapsed() >= 2 * SECOND && began.elapsed() < MINUTE);
        assert_eq!(response.status(), 200);
        assert!(is_removal(&response));
        assert!(deployment.backend.revocations().is_empty());
        instance.link.mend();
        instance.is_saved();
        assert_eq!(deployment.backend.revocations().len(), 1);
    }

    #[test]
    fn the_layer_waits_for_no_log_where_nothing_was_revoked() {
        let (_, instance) = on_a_frozen_log();
        let Poll::Ready(response) = poll(&mut request(&instance, false), &Arc::default()) else {
            panic!("it waits");
        };
        assert!(response.headers().contains_key(SET_COOKIE));
    }

    #[test]
    fn a_request_that_is_cancelled_while_the_layer_waits_has_revoked() {
        let (deployment, instance) = on_a_frozen_log();
        let mut answer = request(&instance, true);
        assert!(poll(&mut answer, &Arc::default()).is_pending());
        drop(answer);

        instance.link.mend();
        instance.is_saved();
        assert_eq!(deployment.backend.revocations().len(), 1);
    }
}
