//! The cable between two servers is pulled and plugged in again while clients ask: a gate in one
//! network, a room in another. Times are printed, and decide nothing.
//!
//! `bash .ci/run discovery` runs this where both networks reach nobody else. Elsewhere nothing is
//! done, and that is said; with `CI=true` it is an error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use pitaya_core::cluster::{Incarnation, MemberEvent};
use pitaya_driver::{Cluster, Native, Server};
use pitaya_smol::Smol;
use pitaya_tests::crowd::{self, AfterError, Crowd, Outcome};
use pitaya_tests::running::Running;
use pitaya_tokio::Tokio;

use crate::cable::{Cable, End};

#[path = "unplugged/cable.rs"]
mod cable;

#[test]
fn on_tokio_a_cable_that_is_pulled_costs_errors_and_no_silence_and_the_servers_find_back() {
    a_cable_that_is_pulled_costs_errors_and_no_silence_and_the_servers_find_back::<Tokio>(
        "tokio", 1,
    );
}

#[test]
fn on_smol_a_cable_that_is_pulled_costs_errors_and_no_silence_and_the_servers_find_back() {
    a_cable_that_is_pulled_costs_errors_and_no_silence_and_the_servers_find_back::<Smol>("smol", 2);
}

fn a_cable_that_is_pulled_costs_errors_and_no_silence_and_the_servers_find_back<R: Native>(
    runtime: &'static str, number: u8,
) {
    let Some(cable) = Cable::lay(number) else { return };
    let servers = Servers::start::<R>(runtime, &cable);
    let crowd = Crowd::start::<R>(servers.gate.clients.unwrap().to_string(), AfterError::Waits);
    for end in [End::Near, End::Far] {
        servers.lose_each_other_for_a_moment(&cable, end, &crowd);
        servers.lose_each_other_for_long(&cable, end, &crowd);
    }
    crowd.stop();
    servers.room.stop();
    servers.gate.stop();
}

/// A gate at the near end, and a room at the far one.
struct Servers {
    runtime: &'static str,
    gate: Running,
    room: Running,
    /// What the gate hears of the room.
    members: Receiver<Heard>,
    life: Incarnation,
}

/// What is told, of which life, and when.
type Heard = (Instant, What, Incarnation);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Joined,
    Left,
    Restored,
    Suspected,
}

impl Servers {
    fn start<R: Native>(runtime: &'static str, cable: &Cable) -> Self {
        let (tell, members) = mpsc::channel();
        let (near, far) = (cable.address(End::Near), cable.address(End::Far));
        let gate = Running::start::<R>(move || {
            let cluster = Cluster::secret(SECRET).id("gate-1").listen(format!("{near}:0"));
            let cluster = cluster.on_member(move |event| {
                if let Some(what) = told(event) {
                    // At the end nobody listens any more.
                    let _ = tell.send((Instant::now(), what, event.server().incarnation));
                }
            });
            Server::new("gate", crowd::gate()).tcp("127.0.0.1:0").cluster(cluster)
        });
        let (seed, far_away) = (gate.cluster.unwrap().to_string(), cable.clone());
        let room = Running::start::<R>(move || {
            far_away.enter_far();
            let cluster = Cluster::secret(SECRET).id("room-1").seeds([seed]);
            let cluster = cluster.listen(format!("{far}:0"));
            Server::new("room", crowd::room("room-1")).cluster(cluster)
        });
        let (_, what, life) = members.recv_timeout(PATIENCE).unwrap();
        assert_eq!(what, What::Joined);
        Self { runtime, gate, room, members, life }
    }

    /// Until calls fail, and so for less than a link lasts.
    fn lose_each_other_for_a_moment(&self, cable: &Cable, end: End, crowd: &Crowd) {
        crowd.hear("room-1");
        let (runtime, pulled) = (self.runtime, Instant::now());
        cable.pull(end);
        let error = crowd.first(pulled, Outcome::is_error);
        let (suspected, _) = self.hear(pulled, &[What::Suspected]);
        println!("{runtime}: {end:?} pulled: first error after {}", after(pulled, error));
        println!("{runtime}: {end:?} pulled: silent after {}", after(pulled, suspected));

        let plugged = Instant::now();
        cable.plug(end);
        let (back, what) = self.hear(plugged, &[What::Joined, What::Restored]);
        // A machine may be so busy that a moment is too long.
        assert!(what == What::Restored || back - pulled >= LINK_DEAD_AFTER, "the link goes on");
        self.is_asked_again("for a moment", (plugged, back), crowd);
    }

    /// Until each has given up the other.
    fn lose_each_other_for_long(&self, cable: &Cable, end: End, crowd: &Crowd) {
        crowd.hear("room-1");
        let (runtime, pulled) = (self.runtime, Instant::now());
        cable.pull(end);
        let (left, _) = self.hear(pulled, &[What::Left]);
        println!("{runtime}: {end:?} pulled: has left after {}", after(pulled, left));
        let error = crowd.first(left, Outcome::is_error);
        assert!(error >= left, "who asks now is told so");

        let plugged = Instant::now();
        cable.plug(end);
        let (back, _) = self.hear(plugged, &[What::Joined]);
        self.is_asked_again("for long", (plugged, back), crowd);
    }

    fn is_asked_again(&self, gone: &str, (plugged, back): (Instant, Instant), crowd: &Crowd) {
        let runtime = self.runtime;
        println!("{runtime}: gone {gone}, plugged in: is back after {}", after(plugged, back));
        let answers = crowd.first(back, |it| it.is_reply_of("room-1"));
        println!("{runtime}: gone {gone}, plugged in: answers {} later", after(back, answers));
    }

    /// Waits until the gate hears one of these, always of the same life.
    fn hear(&self, begin: Instant, awaited: &[What]) -> (Instant, What) {
        loop {
            let heard = self.members.recv_timeout(PATIENCE);
            let (at, what, life) = heard.unwrap_or_else(|_| panic!("none of {awaited:?}"));
            assert_eq!(life, self.life, "the room has started once");
            if at >= begin && awaited.contains(&what) {
                return (at, what);
            }
        }
    }
}

fn told(event: &MemberEvent) -> Option<What> {
    Some(match event {
        MemberEvent::Joined(_) => What::Joined,
        MemberEvent::Left(_) => What::Left,
        MemberEvent::Restored(_) => What::Restored,
        MemberEvent::Suspected(_) => What::Suspected,
        MemberEvent::Changed(_) | MemberEvent::Drains(_) => return None,
    })
}

fn after(begin: Instant, end: Instant) -> String {
    format!("{} ms", end.saturating_duration_since(begin).as_millis())
}

const SECRET: &str = "3b5d3c7d207e37dceeedd301e35e2e58";
/// `link_dead_after`
const LINK_DEAD_AFTER: Duration = Duration::from_secs(10);
/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);
