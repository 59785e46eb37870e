//! A server under attack in simulated time, with honest clients beside the attackers.

use std::fmt::Arguments;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use pitaya_core::{Counters, Limits};
use pitaya_driver::{Runtime as _, ServerHandle};
use pitaya_tests::doors::{AnyClient, Door, Doors};
use pitaya_tests::raw::Received;
use pitaya_tests::sim::{Sim, World};

use crate::crowd::{Accounts, Crowd, Ear};
use crate::hall::{Hall, start};

/// Who attacks, and for how long.
#[derive(Clone)]
pub(crate) struct Siege {
    name: &'static str,
    limits: Limits,
    attackers: usize,
    honest: Vec<Door>,
    arriving: Duration,
    lasting: Duration,
    pushes: Option<(Duration, usize)>,
}

/// What an attacker has.
#[derive(Clone)]
pub(crate) struct Attacker {
    pub(crate) doors: Doors,
    pub(crate) sim: Sim,
    /// From 0 on.
    pub(crate) number: usize,
}

/// What was seen of a siege.
pub(crate) struct Seen {
    /// Honest clients that saw an error or a close.
    pub(crate) harmed: usize,
    /// Connections of attackers that were open in the end.
    pub(crate) left: usize,
    /// Sessions of attackers at most.
    pub(crate) sessions: usize,
    /// Connections at most that were not ready to work.
    pub(crate) shaking: usize,
    /// How long an attacker held its connection at most, of those that lost it.
    pub(crate) held: Duration,
    /// How long somebody new had to wait for a first answer, if it came.
    pub(crate) newcomer: Option<Duration>,
    /// How long an honest client waited for an answer at most.
    pub(crate) answer: Duration,
    /// The most memory that the whole world had, attackers and network included.
    pub(crate) peak_bytes: u64,
    /// What became of the pushes.
    pub(crate) accounts: Accounts,
    /// Pushes that honest clients got, each in its turn.
    pub(crate) heard: u64,
    pub(crate) counters: Arc<Counters>,
}

impl Siege {
    /// A siege of twenty seconds by attackers that all come at once, beside 200 honest clients: 50
    /// at each of the four doors.
    pub(crate) fn new(name: &'static str, attackers: usize) -> Self {
        let doors = [Door::Tcp, Door::Tls, Door::Ws, Door::Wss];
        Self {
            name,
            limits: Limits::default(),
            attackers,
            honest: doors.repeat(HONEST / doors.len()),
            arriving: Duration::ZERO,
            lasting: Duration::from_secs(20),
            pushes: None,
        }
    }

    /// With fewer attackers, and fewer honest clients: enough to see harm.
    pub(crate) fn fewer(&self, attackers: usize) -> Self {
        let honest = self.honest.iter().take(FEWER_HONEST).copied().collect();
        Self { attackers, honest, ..self.clone() }
    }

    /// Other limits, and in which way.
    pub(crate) fn with(&self, name: &'static str, limits: impl FnOnce(Limits) -> Limits) -> Self {
        Self { name, limits: limits(self.limits.clone()), ..self.clone() }
    }

    /// The attackers come one after another, over so long.
    pub(crate) fn arriving(self, arriving: Duration) -> Self {
        Self { arriving, ..self }
    }

    /// Honest clients at these doors in turn.
    pub(crate) fn honest_at(self, doors: &[Door]) -> Self {
        Self { honest: doors.repeat(HONEST / doors.len()), ..self }
    }

    /// How long it lasts after the first attacker came.
    pub(crate) fn lasting(self, lasting: Duration) -> Self {
        Self { lasting, ..self }
    }

    /// The group of all who joined is pushed to, so often, so many bytes.
    pub(crate) fn pushing(self, period: Duration, bytes: usize) -> Self {
        Self { pushes: Some((period, bytes)), ..self }
    }

    /// Without anybody who attacks.
    pub(crate) fn calm(&self) -> Seen {
        let calm = Self { name: "  nobody", attackers: 0, ..self.clone() };
        calm.run(|_| std::future::ready(()))
    }

    /// Lasts it out. An attacker ends when it has lost its connection.
    pub(crate) fn run<F>(&self, attack: impl Fn(Attacker) -> F) -> Seen
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut seen = None;
        let memory = allocation_counter::measure(|| {
            let world = World::new(1).steps_max(STEPS_MAX);
            seen = Some(world.run(|sim| self.last(sim, &attack)));
        });
        let seen = Seen { peak_bytes: memory.bytes_max, ..seen.unwrap() };
        self.print(&seen);
        seen
    }

    async fn last<F>(&self, sim: Sim, attack: &impl Fn(Attacker) -> F) -> Seen
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let hall = Hall::default();
        let (server, doors) = start(&sim, &self.limits, &hall).await;
        let honest = Honest::start(&self.honest, &doors, &server).await;
        let begin = sim.time();
        let held = self.start_attack(&doors, attack);
        let newcomer = Arc::new(Mutex::new(None));
        sim.spawn(arrive_late(doors.clone(), self.arriving, Arc::clone(&newcomer)));
        let (mut sessions, mut shaking, mut crowd) = (0, 0, Crowd::default());
        while sim.time().since(begin) < self.lasting {
            let (pause, bytes) = self.pushes.unwrap_or((Duration::from_millis(100), 0));
            sim.sleep(pause).await;
            // Honest clients that were closed are harm of another kind.
            sessions = sessions.max(server.sessions().saturating_sub(self.honest.len()));
            shaking = shaking.max(server.connections().saturating_sub(server.sessions()));
            if self.pushes.is_some() {
                crowd.push(&hall, bytes);
            }
        }
        let left = server.connections().saturating_sub(self.honest.len());
        let accounts = crowd.end();
        let (harmed, answer, heard) = honest.end().await;
        Seen {
            harmed,
            left,
            sessions,
            shaking,
            held: *held.lock().unwrap(),
            newcomer: *newcomer.lock().unwrap(),
            answer,
            peak_bytes: 0,
            accounts,
            heard,
            counters: Arc::clone(server.counters()),
        }
    }

    /// Starts the attackers; how long one of them held its connection at most.
    fn start_attack<F>(
        &self, doors: &Doors, attack: &impl Fn(Attacker) -> F,
    ) -> Arc<Mutex<Duration>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let held = Arc::new(Mutex::new(Duration::ZERO));
        for number in 0..self.attackers {
            let (sim, held) = (doors.sim.clone(), Arc::clone(&held));
            let comes = self.arriving.mul_f64(number as f64 / self.attackers as f64);
            let attack = attack(Attacker { doors: doors.clone(), sim: sim.clone(), number });
            doors.sim.spawn(async move {
                sim.sleep(comes).await;
                let begin = sim.time();
                attack.await;
                let mut longest = held.lock().unwrap();
                *longest = longest.max(sim.time().since(begin));
            });
        }
        held
    }

    fn print(&self, seen: &Seen) {
        static HEAD: Once = Once::new();
        HEAD.call_once(|| row(format_args!("{HEADINGS}")));
        let Seen { harmed, left, sessions, shaking, held, newcomer, answer, .. } = seen;
        let newcomer = newcomer.map_or("never".to_owned(), |wait| seconds(&wait));
        row(format_args!(
            "{:38} {:9} {:6} {harmed:6} {left:5} {sessions:8} {shaking:7} {:>6} {:>8} {:>6} {:8.0}",
            self.name,
            self.attackers,
            self.honest.len(),
            seconds(held),
            newcomer,
            seconds(answer),
            seen.peak_bytes as f64 / f64::from(1 << 20),
        ));
    }
}

/// Clients that ask every few seconds, and mind every answer.
struct Honest {
    clients: Vec<Pin<Box<HonestClient>>>,
    stops: Arc<AtomicBool>,
}

/// How long one waited for an answer at most, and how many pushes it heard, if it was not harmed.
type HonestClient = dyn Future<Output = Result<(Duration, u64), ()>> + Send;

impl Honest {
    /// Starts them, and waits until each has a session.
    async fn start(at: &[Door], doors: &Doors, server: &ServerHandle<Sim>) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let mut clients: Vec<Pin<Box<HonestClient>>> = Vec::new();
        for (number, door) in at.iter().enumerate() {
            let client = be_honest(doors.clone(), *door, number as u64, Arc::clone(&stops));
            clients.push(Box::pin(doors.sim.start(client)));
        }
        doors.sim.sleep(Duration::from_secs(2)).await;
        assert_eq!(server.sessions(), at.len(), "they come in as long as nobody attacks");
        Self { clients, stops }
    }

    /// Lets them go: how many were harmed, how long one waited for an answer at most, and how many
    /// pushes they heard.
    async fn end(self) -> (usize, Duration, u64) {
        self.stops.store(true, Ordering::Relaxed);
        let (mut harmed, mut longest, mut heard) = (0, Duration::ZERO, 0);
        for client in self.clients {
            match client.await {
                Ok((wait, pushes)) => (longest, heard) = (longest.max(wait), heard + pushes),
                Err(()) => harmed += 1,
            }
        }
        (harmed, longest, heard)
    }
}

/// Asks now and then; how long it waited for an answer at most, and how many pushes it heard, if
/// every answer was right and every push came in its turn.
async fn be_honest(
    doors: Doors, door: Door, number: u64, stops: Arc<AtomicBool>,
) -> Result<(Duration, u64), ()> {
    let mut client = doors.open(door).await.map_err(drop)?;
    let mut ear = Ear::default();
    ask(&mut client, &mut ear, 1, "hall.join", "null", "null").await?;
    let mut longest = Duration::ZERO;
    for id in 2.. {
        // The answer to what is asked then comes behind the last push.
        let is_last = stops.load(Ordering::Relaxed);
        let begin = doors.sim.time();
        double(&mut client, &mut ear, id, number).await?;
        longest = longest.max(doors.sim.time().since(begin));
        if is_last {
            break;
        }
        doors.sim.sleep(Duration::from_millis(1900 + number)).await;
    }
    Ok((longest, ear.heard()))
}

async fn double(client: &mut AnyClient, ear: &mut Ear, id: u64, number: u64) -> Result<(), ()> {
    let (number, twice) = (number.to_string(), (number * 2).to_string());
    ask(client, ear, id, "math.double", &number, &twice).await
}

/// Asks, and hears pushes while it waits.
async fn ask(
    client: &mut AnyClient, ear: &mut Ear, id: u64, route: &str, body: &str, expected: &str,
) -> Result<(), ()> {
    let mut answer = client.request(id, route, body).await;
    while let Ok(Some(Received::Push(_, text))) = &answer {
        if !ear.hear(text) {
            return Err(());
        }
        answer = client.next().await;
    }
    let expected = Received::Reply(id, expected.to_owned());
    if answer.is_ok_and(|answer| answer == Some(expected)) { Ok(()) } else { Err(()) }
}

/// Comes when all attackers have, and asks once.
async fn arrive_late(doors: Doors, after: Duration, waited: Arc<Mutex<Option<Duration>>>) {
    doors.sim.sleep(after + Duration::from_millis(100)).await;
    let begin = doors.sim.time();
    if let Ok(mut client) = doors.open(Door::Tcp).await
        && double(&mut client, &mut Ear::default(), 1, 1).await.is_ok()
    {
        *waited.lock().unwrap() = Some(doors.sim.time().since(begin));
    }
}

fn seconds(duration: &Duration) -> String {
    format!("{:.2}s", duration.as_secs_f64())
}

/// Past the harness, which keeps what a test prints that holds.
pub(crate) fn row(row: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{row}"); // nobody may be listening
}

/// Honest clients of a siege.
const HONEST: usize = 200;
const FEWER_HONEST: usize = 20;
const STEPS_MAX: u64 = 100_000_000;
const HEADINGS: &str = "\
SIEGE                                  attackers honest harmed  left sessions shaking   held \
newcomer answer peak MiB";
