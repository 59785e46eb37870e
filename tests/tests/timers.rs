//! What the timers of every runtime promise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::poll_fn;
use std::time::Duration;

use futures_lite::future::poll_once;
use pitaya_driver::{Native, Runtime, Timer as _};
use pitaya_smol::Smol;
use pitaya_tests::sim;
use pitaya_tokio::Tokio;

#[test]
fn on_tokio_a_timer_is_ready_once_its_deadline_has_come() {
    native::<Tokio>();
}

#[test]
fn on_smol_a_timer_is_ready_once_its_deadline_has_come() {
    native::<Smol>();
}

#[test]
fn in_the_simulator_a_timer_is_ready_once_its_deadline_has_come() {
    sim::run(1, a_timer_is_ready_once_its_deadline_has_come);
}

fn native<R: Native>() {
    R::block_on(async { a_timer_is_ready_once_its_deadline_has_come(R::current().unwrap()).await })
        .unwrap();
}

async fn a_timer_is_ready_once_its_deadline_has_come<R: Runtime>(runtime: R) {
    let mut timer = runtime.timer();
    let (begin, far) = (runtime.now(), runtime.now() + Duration::from_secs(3600));
    assert!(poll_once(poll_fn(|cx| timer.poll_at(cx, far))).await.is_none());
    let soon = begin + Duration::from_millis(2);
    poll_fn(|cx| timer.poll_at(cx, soon)).await;
    assert!(runtime.now() >= soon);
    // It is asked again, and for a deadline that has passed.
    for deadline in [soon, begin] {
        assert!(poll_once(poll_fn(|cx| timer.poll_at(cx, deadline))).await.is_some());
    }
}
