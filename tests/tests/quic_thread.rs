//! The thread that QUIC has beside a runtime of several: what it does, and that it ends.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use futures_lite::future::{self, zip};
use futures_lite::io::{AsyncReadExt as _, AsyncWriteExt as _};
use pitaya_core::cluster::ServerId;
use pitaya_core::{App, Limits};
use pitaya_driver::cluster::{Identity, LinkStream, Network as _, Quic};
use pitaya_driver::{Cluster, Native, OneThread, Server};
use pitaya_smol::Smol;
use pitaya_tokio::Tokio;
use tokio::runtime::Builder;

#[test]
fn beside_several_threads_quic_has_its_own_until_the_server_stops() {
    beside_several(serve::<Tokio>, serve::<Smol>);
}

async fn serve<R: Native>() {
    for _ in 0..STARTS {
        let cluster = Cluster::secret(SECRET);
        let server = Server::<R>::new("room", App::new(())).cluster(cluster);
        let server = server.start().await.unwrap();
        assert_eq!(threads(QUIC).len(), 1);
        server.shutdown().await;
        wait_until(|| threads(QUIC).is_empty());
    }
}

#[test]
fn a_runtime_of_one_thread_needs_no_other() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Tokio::block_on(no_other::<Tokio>()).unwrap();
    Smol::block_on(no_other::<Smol>()).unwrap();
}

async fn no_other<R: Native>() {
    let [_dialled, _accepted] = link(&bind::<R>("one").await, &bind::<R>("two").await).await;
    assert!(threads(QUIC).is_empty());
}

#[test]
fn whatever_comes_wakes_that_thread_first() {
    beside_several(talk::<Tokio>, talk::<Smol>);
}

async fn talk<R: Native>() {
    let (one, two) = (bind::<R>("one").await, bind::<R>("two").await);
    let [mut dialled, mut accepted] = link(&one, &two).await;
    for _ in 0..WORDS {
        say(&mut dialled, &mut accepted).await;
        say(&mut accepted, &mut dialled).await;
    }
    let woken: Vec<_> = threads(QUIC).iter().map(|thread| times_woken(thread)).collect();
    assert!(woken.len() == 2 && woken.iter().all(|times| *times > WORDS / 2), "{woken:?}");
}

#[test]
fn a_network_that_is_dropped_tells_its_peers_and_ends_its_thread() {
    beside_several(drop_one::<Tokio>, drop_one::<Smol>);
}

async fn drop_one<R: Native>() {
    let (one, two) = (bind::<R>("one").await, bind::<R>("two").await);
    let [mut dialled, accepted] = link(&one, &two).await;
    drop(two);
    let error = dialled.io.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    // A stream can still be asked why it ended.
    assert_eq!(threads(QUIC).len(), 2);
    drop(accepted);
    wait_until(|| threads(QUIC).len() == 1);
    drop((dialled, one));
}

#[test]
fn a_network_that_is_closed_needs_no_thread_though_somebody_has_it() {
    beside_several(close_one::<Tokio>, close_one::<Smol>);
}

async fn close_one<R: Native>() {
    let one = bind::<R>("one").await;
    one.close().await;
    wait_until(|| threads(QUIC).is_empty());
    assert!(one.address().is_err());
}

#[test]
fn a_task_that_panics_harms_neither_the_others_nor_the_end_of_the_thread() {
    beside_several(panic_there::<Tokio>, panic_there::<Smol>);
}

async fn panic_there<R: Native>() {
    let one = OneThread::<R>::start(PANICS).await.unwrap();
    one.runtime().spawn(async { panic!("as a test wants") });
    let (tell, told) = oneshot::channel();
    one.runtime().spawn(async { drop(tell.send(thread::current().name().map(str::to_owned))) });
    assert_eq!(told.await.unwrap().as_deref(), Some(PANICS));
    let (held, dropped) = oneshot::channel::<()>();
    one.runtime().spawn(async {
        let _held = held;
        future::pending().await
    });
    drop(one);
    dropped.await.unwrap_err();
    wait_until(|| threads(PANICS).is_empty());
}

#[test]
fn the_same_is_so_where_the_executor_of_smol_has_several_threads() {
    if env::var_os(SMOL_THREADS).is_none() {
        // It looks at that variable once for each process.
        let mut again = Command::new(env::current_exe().unwrap());
        let ran = again.env(SMOL_THREADS, "2").output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    }
}

#[test]
fn where_the_executor_of_smol_has_one_thread_it_needs_no_other() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if env::var_os(SMOL_THREADS).is_none() {
        future::block_on(no_other::<Smol>());
    }
}

/// Runs that where a runtime has several threads, while nothing else has such threads.
fn beside_several<T: Future<Output = ()>, S: Future<Output = ()>>(
    tokio: impl FnOnce() -> T, smol: impl FnOnce() -> S,
) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let several = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    several.block_on(async { tokio().await });
    wait_until(|| threads(QUIC).is_empty());
    if env::var_os(SMOL_THREADS).is_some() {
        future::block_on(async { smol().await });
        wait_until(|| threads(QUIC).is_empty());
    }
}

async fn bind<R: Native>(id: &str) -> Quic {
    let id = ServerId::new(id).unwrap();
    let identity = Identity::from_secret(SECRET, "room", &id).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (runtime, limits) = (R::current().unwrap(), Limits::default());
    Quic::bind(runtime, any, &identity, &limits, Arc::default()).await.unwrap()
}

async fn link(dials: &Quic, accepts: &Quic) -> [LinkStream; 2] {
    let dialled = async {
        let mut link = dials.dial(accepts.address().unwrap()).await.unwrap();
        link.io.write_all(b"!").await.unwrap();
        link
    };
    let accepted = async { accepts.accept().await.unwrap().await.unwrap() };
    let (dialled, mut accepted) = zip(dialled, accepted).await;
    accepted.io.read_exact(&mut [0]).await.unwrap();
    [dialled, accepted]
}

async fn say(one: &mut LinkStream, other: &mut LinkStream) {
    one.io.write_all(b"word").await.unwrap();
    other.io.read_exact(&mut [0; 4]).await.unwrap();
}

/// The threads of that name, each as a folder of the system.
fn threads(name: &str) -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    // One that has just ended has no name any more.
    let named = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap_or_default();
    tasks.filter(|task| named(task).trim() == name).collect()
}

/// How often a thread has waited for something.
fn times_woken(thread: &Path) -> u32 {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

fn wait_until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it takes too long");
        thread::yield_now();
    }
}

/// Threads are those of the whole process: who counts them is alone.
static ALONE: Mutex<()> = Mutex::new(());

const SMOL_THREADS: &str = "SMOL_THREADS";
const QUIC: &str = "pitaya-quic";
const PANICS: &str = "panics";
const SECRET: &str = "all servers of the cluster have it";
const STARTS: usize = 20;
const WORDS: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(10);
