//! All orders of a few steps.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

/// Calls `visit` with every order of `steps`.
pub(crate) fn each<S>(steps: &mut [S], mut visit: impl FnMut(&[S])) {
    permute(steps, 0, &mut visit);
}

fn permute<S>(steps: &mut [S], done: usize, visit: &mut impl FnMut(&[S])) {
    if done == steps.len() {
        return visit(steps);
    }
    for next in done..steps.len() {
        steps.swap(done, next);
        permute(steps, done + 1, visit);
        steps.swap(done, next);
    }
}
