//! The clients of a world, each on a host of its own.

use std::time::Duration;

use futures_lite::future::poll_once;
use pitaya_core::{ClientConfig, Json, Limits, RequestError};
use pitaya_driver::{Client, ClientState};
use pitaya_tests::sim::Sim;

use super::app::{Ask, Told};
use super::ledger::Pushed;
use super::plan::{GATES, Op, What};
use super::world::{World, gate};

/// A client and what it does next.
pub(crate) struct Player {
    pub(crate) client: Option<Client<Sim, Json>>,
    pub(crate) number: usize,
    asked: u64,
    sim: Sim,
    world: World,
}

/// Does what is planned for one client, and gives it as it is then.
pub(crate) async fn live(world: World, number: usize, ops: Vec<Op>) -> Player {
    let mut player = Player::new(&world, number);
    for op in ops {
        let until = pitaya_core::Instant::ZERO + op.at;
        world.sim.sleep(until.since(world.sim.time())).await;
        player.connect().await;
        player.act(&op);
    }
    player
}

impl Player {
    pub(crate) fn new(world: &World, number: usize) -> Self {
        let sim = world.sim.host(&format!("client-{number}"));
        sim.watch();
        Self { client: None, number, asked: 0, sim, world: world.clone() }
    }

    /// The same client, to be asked of something else.
    pub(crate) fn again(&self) -> Self {
        let (client, sim, world) = (self.client.clone(), self.sim.clone(), self.world.clone());
        Self { client, number: self.number, asked: self.asked + 1_000, sim, world }
    }

    /// Connects, unless it is connected or about to be.
    pub(crate) async fn connect(&mut self) {
        if let Some(client) = &self.client
            && !is_closed(client).await
        {
            return;
        }
        let (ledger, number) = (self.world.ledger.clone(), self.number);
        ledger.connect(number, false);
        let config = ClientConfig { limits: limits(), ..ClientConfig::default() };
        let connected = Client::builder(gate(number % GATES))
            .config(config)
            .on_connected(move |client| {
                let ledger = ledger.clone();
                async move {
                    let key: String = client.request("gate.hall.hello", &number).await?;
                    ledger.shake(number, &key);
                    Ok(())
                }
            })
            .connect_on(self.sim.clone())
            .await;
        self.client = connected.ok();
        if let Some(client) = &self.client {
            self.listen(client);
        }
    }

    /// Whether it is connected.
    pub(crate) async fn is_open(&self) -> bool {
        let Some(client) = &self.client else { return false };
        matches!(poll_once(client.states().next()).await, Some(Some(ClientState::Open)))
    }

    /// Tells the ledger of pushes, and whether the client is connected.
    fn listen(&self, client: &Client<Sim, Json>) {
        for route in ["onPush", "onShout"] {
            let mut pushes = client.subscribe::<Pushed>(route);
            let (world, number) = (self.world.clone(), self.number);
            drop(self.sim.start(async move {
                while let Some(pushed) = pushes.next().await {
                    world.ledger.push(world.sim.time(), number, pushed);
                }
            }));
        }
        let mut states = client.states();
        let (ledger, number) = (self.world.ledger.clone(), self.number);
        drop(self.sim.start(async move {
            while let Some(state) = states.next().await {
                ledger.connect(number, state == ClientState::Open);
            }
        }));
    }

    fn act(&mut self, op: &Op) {
        let Some(client) = self.client.clone() else { return };
        if op.what == What::Note {
            let (route, ask) = self.next(op.place, "note", op.times, &op.uid);
            // It is lost if there is no connection.
            let _ = client.notify(&route, &ask);
            return;
        }
        self.request(&client, op.place, op.what, op.times, &op.uid);
        if op.what == What::Kick {
            (0..2).for_each(|_| self.request(&client, op.place, What::Quick, 1, &op.uid));
        }
    }

    /// Sends a request now, and tells the ledger what became of it whenever that shows.
    fn request(
        &mut self, client: &Client<Sim, Json>, place: &str, what: What, times: u64, uid: &str,
    ) {
        let (route, ask) = self.next(place, what.method(), times, uid);
        let (world, nonce, client) = (self.world.clone(), ask.nonce, client.clone());
        world.ledger.ask(self.sim.time(), self.number, nonce, what);
        let mut asking = Box::pin(async move {
            let outcome = client.request::<Ask, Told>(&route, &ask).await;
            world.ledger.answer(world.sim.time(), nonce, outcome);
        });
        // What is asked first is sent first.
        if futures_lite::future::block_on(poll_once(&mut asking)).is_none() {
            drop(self.sim.start(asking));
        }
    }

    /// Asks something once all is quiet.
    pub(crate) async fn ask(
        &mut self, place: &str, method: &str, uid: &str,
    ) -> Result<Told, RequestError> {
        let (route, ask) = self.next(place, method, 1, uid);
        let client = self.client.clone().expect("it is connected");
        client.request(&route, &ask).await
    }

    fn next(&mut self, place: &str, method: &str, times: u64, uid: &str) -> (String, Ask) {
        self.asked += 1;
        let nonce = self.number as u64 * 100_000 + self.asked;
        (format!("{place}.hall.{method}"), Ask { nonce, times, uid: uid.to_owned() })
    }
}

async fn is_closed(client: &Client<Sim, Json>) -> bool {
    matches!(poll_once(client.states().next()).await, Some(Some(ClientState::Closed(_)) | None))
}

fn limits() -> Limits {
    Limits::default()
        .reconnect_delay_min(Duration::from_millis(100))
        .reconnect_delay_max(Duration::from_secs(1))
        .request_deadline(REQUEST_DEADLINE)
}

/// Longer than that of servers, who so answer first.
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(8);
