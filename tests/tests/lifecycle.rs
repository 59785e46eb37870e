//! In which order the parts of a server begin and end, on every runtime.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pitaya_core::{App, Counter, Error, Lifecycle, Limits};
use pitaya_driver::{Native, Runtime, Server, StartError};
use pitaya_smol::Smol;
use pitaya_tests::sim;
use pitaya_tokio::Tokio;

#[test]
fn parts_begin_one_after_another_and_end_the_other_way_round() {
    let sequence = [
        "c1 init",
        "c2 init",
        "c1 after",
        "c2 after", // components
        "r1 init",
        "r2 init",
        "r1 after",
        "r2 after", // of remotes
        "m1 init",
        "m2 init",
        "m1 after",
        "m2 after", // modules
        "m2 before",
        "m1 before",
        "m2 end",
        "m1 end", // the other way round
        "c2 before",
        "c1 before",
        "c2 end",
        "c1 end", // and components before
        "r2 before",
        "r1 before",
        "r2 end",
        "r1 end", // what belongs to remotes
    ];
    for (runtime, told) in everywhere(|part| Told::new(part, None)) {
        assert_eq!(told.0, Ok(()), "{runtime}");
        assert_eq!(told.1, sequence, "{runtime}");
    }
}

#[test]
fn a_part_that_does_not_begin_keeps_the_server_from_starting_and_what_has_begun_ends() {
    let expected: [(&str, &str, &[&str]); 4] = [
        ("c2", "init", &["c1 init", "c2 init", "c1 before", "c1 end"]),
        (
            "c1",
            "after",
            &["c1 init", "c2 init", "c1 after", "c2 before", "c1 before", "c2 end", "c1 end"],
        ),
        (
            "r1",
            "init",
            &[
                "c1 init",
                "c2 init",
                "c1 after",
                "c2 after",
                "r1 init",
                "c2 before",
                "c1 before",
                "c2 end",
                "c1 end",
            ],
        ),
        (
            "m2",
            "init",
            &[
                "c1 init",
                "c2 init",
                "c1 after",
                "c2 after",
                "r1 init",
                "r2 init",
                "r1 after",
                "r2 after",
                "m1 init",
                "m2 init",
                "m1 before",
                "m1 end",
                "r2 before",
                "r1 before",
                "r2 end",
                "r1 end",
                "c2 before",
                "c1 before",
                "c2 end",
                "c1 end",
            ],
        ),
    ];
    for (culprit, step, sequence) in expected {
        let fails = |part: &'static str| Told::new(part, (part == culprit).then_some(step));
        for (runtime, (started, told)) in everywhere(fails) {
            let error = StartError::Part { part: culprit.into(), why: "PIT-000: no".into() };
            assert_eq!(started, Err(error), "{runtime}");
            assert_eq!(told, sequence, "{runtime}: {culprit} {step}");
        }
    }
}

#[test]
fn a_step_that_panics_or_takes_too_long_is_an_error_of_its_part() {
    struct Panics;
    impl Lifecycle for Panics {
        async fn init(&self) -> Result<(), Error> {
            panic!("it is broken")
        }
    }
    struct Hangs;
    impl Lifecycle for Hangs {
        async fn shutdown(&self) {
            std::future::pending().await
        }
    }
    sim::run(1, |sim| async move {
        let app = App::new(()).component("broken", Panics);
        let started = Server::new("gate", app).start_on(sim.clone()).await.map(drop);
        let why = "PIT-000: it panicked".to_owned();
        assert_eq!(started, Err(StartError::Part { part: "broken".into(), why }));

        let limits = Limits::default().lifecycle_timeout(Duration::from_secs(3));
        let server = Server::new("gate", App::new(()).component("slow", Hangs)).limits(limits);
        let server = server.start_on(sim.clone()).await.unwrap();
        let (began, counters) = (sim.time(), Arc::clone(server.counters()));
        server.shutdown().await;
        assert_eq!(sim.time().since(began).as_secs(), 3);
        assert_eq!(counters.count(Counter::LifecyclesExpired), 1);
    });
}

#[test]
fn modules_stand_where_they_are_put_and_each_name_is_there_once() {
    let server = || Server::new("gate", App::new(()));
    let start = |server: Server<Tokio>| {
        Tokio::block_on(async { server.start().await.map(drop).map_err(|why| why.to_string()) })
    };
    let part = || Told::new("m", None).0;
    let twice = server().module("a", part()).module("a", part());
    assert_eq!(start(twice).unwrap(), Err("module with name a already exists".to_owned()));
    let nowhere = server().module_before("b", "a", part());
    assert_eq!(start(nowhere).unwrap(), Err("module with name b not found".to_owned()));
}

/// A part that writes down its steps.
struct Recorder {
    part: &'static str,
    fails: Option<&'static str>,
    told: Log,
}

type Log = Arc<Mutex<Vec<String>>>;

struct Told(Recorder);

impl Told {
    fn new(part: &'static str, fails: Option<&'static str>) -> Self {
        Self(Recorder { part, fails, told: Log::default() })
    }

    fn into(self, told: &Log) -> Recorder {
        Recorder { told: Arc::clone(told), ..self.0 }
    }
}

impl Recorder {
    fn tell(&self, step: &str) -> Result<(), Error> {
        self.told.lock().unwrap().push(format!("{} {step}", self.part));
        if self.fails == Some(step) { Err(Error::unknown("no")) } else { Ok(()) }
    }
}

impl Lifecycle for Recorder {
    async fn init(&self) -> Result<(), Error> {
        self.tell("init")
    }

    async fn after_init(&self) -> Result<(), Error> {
        self.tell("after")
    }

    async fn before_shutdown(&self) {
        self.tell("before").unwrap();
    }

    async fn shutdown(&self) {
        self.tell("end").unwrap();
    }
}

/// What the start of a server with these parts gave, and which steps they took, by runtime.
type Outcome = (Result<(), StartError>, Vec<String>);

fn everywhere(part: impl Fn(&'static str) -> Told) -> [(&'static str, Outcome); 3] {
    let tokio = Tokio::block_on(async { live(Tokio::current().unwrap(), &part).await });
    let smol = Smol::block_on(async { live(Smol::current().unwrap(), &part).await });
    let simulated = sim::run(1, |sim| live(sim, &part));
    [("tokio", tokio.unwrap()), ("smol", smol.unwrap()), ("simulated", simulated)]
}

async fn live<R: Runtime>(runtime: R, part: &impl Fn(&'static str) -> Told) -> Outcome {
    let log = Log::default();
    let part = |name| part(name).into(&log);
    let app = App::new(())
        .remote_component("r1", part("r1"))
        .component("c1", part("c1"))
        .component("c2", part("c2"))
        .remote_component("r2", part("r2"));
    let server = Server::new("gate", app).tcp("127.0.0.1:0").module("m2", part("m2"));
    let server = server.module_before("m2", "m1", part("m1"));
    let started = match server.start_on(runtime).await {
        Ok(server) => {
            server.shutdown().await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    let told = log.lock().unwrap().clone();
    (started, told)
}
