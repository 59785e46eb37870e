//! How programs have their runtimes: one thread or several, of tokio or of smol.

use std::thread;

use futures_lite::future;
use pitaya_driver::Native;
use pitaya_smol::Smol;
use pitaya_tokio::Tokio;
use tokio::runtime::Builder;

/// A program that has a runtime in its way.
pub(crate) trait Program {
    type Runtime: Native;

    fn run(main: impl Future<Output = ()>);
}

/// As `run()` has it: one thread.
impl<R: Native> Program for R {
    type Runtime = R;

    fn run(main: impl Future<Output = ()>) {
        R::block_on(main).unwrap();
    }
}

/// On a runtime of tokio with several threads.
pub(crate) struct TokioThreads;

impl Program for TokioThreads {
    type Runtime = Tokio;

    fn run(main: impl Future<Output = ()>) {
        let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        threads.unwrap().block_on(main);
    }
}

/// On the executor that smol has for the whole process.
pub(crate) struct SmolGlobal;

impl Program for SmolGlobal {
    type Runtime = Smol;

    fn run(main: impl Future<Output = ()>) {
        future::block_on(main);
    }
}

/// The same in all programs, at once.
pub(crate) fn on_all<T: Future<Output = ()>, S: Future<Output = ()>>(
    tokio: impl Fn() -> T + Sync, smol: impl Fn() -> S + Sync,
) {
    thread::scope(|scope| {
        scope.spawn(|| Tokio::run(async { tokio().await }));
        scope.spawn(|| TokioThreads::run(async { tokio().await }));
        scope.spawn(|| Smol::run(async { smol().await }));
        scope.spawn(|| SmolGlobal::run(async { smol().await }));
    });
}
