//! Both ends of a link between servers, joined by pipes that delay and cut: whoever waits is told
//! once, and what has an order keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::{Buf, Bytes};
use pitaya_core::cluster::{
    Incarnation, Lane, Link, LinkCommand, LinkConfig, LinkEnd, LinkEvent, ServerId, ServerInfo,
};
use pitaya_core::{ConnConfig, Instant, Limits, Machine, Next};
use pitaya_proto::dictionary::Dictionary;
use pitaya_proto::zlib::Scratch;

use crate::script::{Script, some};

/// The input is a byte that chooses limits, and a script.
pub fn link(data: &[u8]) {
    let mut script = Script::new(data);
    let parts = 1 + usize::from(script.choice() % 4);
    let limits = Limits::default()
        .link_calls_max(8)
        .link_frame_bytes_max(700)
        .link_long_frames_max(parts)
        .link_outbound_bytes_max(3_000)
        .link_part_bytes_max(40);
    let mut pair =
        Pair { ends: [End::new("a", 1, &limits), End::new("b", 0, &limits)], now: at(0) };
    for serial in 1.. {
        let Some(step) = script.step() else { break };
        pair.step(step, serial);
    }
    pair.settles();
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Call { by: bool, lane: u8, bytes: u16, millis: u16 },
    Carry { to: bool, leave: u8, arrive: u8 },
    End { by: bool },
    Reply { by: bool, at: u8, bytes: u16 },
    Wait(u16),
}

struct Pair {
    ends: [End; 2],
    now: Instant,
}

struct End {
    link: Link<u32>,
    /// What the peer has sent and is still on its way.
    wire: Vec<u8>,
    unread: Vec<u8>,
    /// What may still come of each call.
    waits: BTreeMap<u32, Lane>,
    /// Calls of the peer that are not answered.
    serves: Vec<(u32, Lane)>,
    /// The last that came on each lane.
    came: Vec<(Lane, u32)>,
    closed: bool,
}

impl Pair {
    fn step(&mut self, step: Step, serial: u32) {
        match step {
            Step::Call { by, lane, bytes, millis } => {
                let (lane, end) = (lane_of(lane), &mut self.ends[usize::from(by)]);
                let deadline = self.now + Duration::from_millis(millis.into());
                let request = body(serial, lane, bytes);
                end.waits.insert(serial, lane);
                end.tell(self.now, LinkCommand::Call { deadline, lane, request, waiter: serial });
            }
            Step::Carry { to, leave, arrive } => self.carry(to, some(leave), some(arrive)),
            Step::End { by } => {
                self.ends[usize::from(by)].tell(self.now, LinkCommand::Close(LinkEnd::Closed));
            }
            Step::Reply { by, at, bytes } => {
                self.ends[usize::from(by)].reply(self.now, at.into(), serial, bytes);
            }
            Step::Wait(millis) => self.now = self.now + Duration::from_millis(millis.into()),
        }
        for end in &mut self.ends {
            end.act(self.now);
        }
    }

    fn carry(&mut self, to: bool, leave: usize, arrive: usize) {
        let [a, b] = &mut self.ends;
        let (from, to) = if to { (a, b) } else { (b, a) };
        let outbox = from.link.outbox();
        let leave = leave.min(outbox.remaining());
        to.wire.extend_from_slice(&outbox.chunk()[..leave]);
        outbox.advance(leave);
        from.link.handle_written(self.now, leave);
        let arrive = arrive.min(to.wire.len());
        to.unread.extend(to.wire.drain(..arrive));
    }

    /// Once all has arrived and is answered, nobody waits.
    fn settles(&mut self) {
        for round in 0..ROUNDS_MAX {
            for to in [false, true] {
                self.carry(to, usize::MAX, usize::MAX);
            }
            for end in &mut self.ends {
                end.act(self.now);
                end.reply(self.now, 0, u32::MAX - ROUNDS_MAX + round, 0);
            }
        }
        for end in &mut self.ends {
            end.tell(self.now, LinkCommand::Close(LinkEnd::Closed));
            end.act(self.now);
            assert!(end.waits.is_empty(), "these are told nothing: {:?}", end.waits);
            assert!(end.closed, "the end is said");
        }
    }
}

impl End {
    fn new(id: &str, dialled: u64, limits: &Limits) -> Self {
        let conn = ConnConfig::new("json", Dictionary::default(), limits.clone());
        let (conn, me) = (Arc::new(conn.expect("it is empty")), Arc::new(server(id)));
        let link = Link::new(Arc::new(LinkConfig { conn, me }), at(0), None, dialled);
        Self {
            link,
            wire: Vec::new(),
            unread: Vec::new(),
            waits: BTreeMap::new(),
            serves: Vec::new(),
            came: Vec::new(),
            closed: false,
        }
    }

    fn tell(&mut self, now: Instant, command: LinkCommand<u32>) {
        self.link.handle_command(now, command, &mut Scratch::new());
    }

    fn reply(&mut self, now: Instant, at: usize, serial: u32, bytes: u16) {
        if self.serves.is_empty() {
            return;
        }
        let (id, lane) = self.serves.remove(at % self.serves.len());
        let response = body(serial, lane, bytes);
        self.tell(now, LinkCommand::Reply { id, lane, response });
    }

    /// Time has passed, or something has come.
    fn act(&mut self, now: Instant) {
        if self.link.poll_timeout().is_some_and(|due| due <= now) {
            self.link.handle_timeout(now, &mut Scratch::new());
        }
        let (unread, mut scratch) = (std::mem::take(&mut self.unread), Scratch::new());
        let mut input = &unread[..];
        while let Next::Event(event) = self.link.next(now, &mut input, &mut scratch) {
            // Whoever calls later is told all the same.
            let is_late = matches!(event, LinkEvent::Reply { result: Err(_), .. });
            assert!(!self.closed || is_late, "nothing comes after the end: {event:?}");
            match event {
                LinkEvent::Call { id, request, .. } => {
                    let lane = came(&mut self.came, &request);
                    self.serves.extend(id.map(|id| (id, lane)));
                }
                LinkEvent::Closed(_) => self.closed = true,
                LinkEvent::Reply { waiter, result } => {
                    assert!(self.waits.remove(&waiter).is_some(), "it is told twice");
                    // A refusal is the peer's, and no response of this script.
                    if let Ok(response) = result.as_ref()
                        && response.first() == Some(&OURS)
                    {
                        came(&mut self.came, response);
                    }
                }
                LinkEvent::Opened(..) | LinkEvent::Restored | LinkEvent::Suspected => {}
                unsaid @ (LinkEvent::Drains
                | LinkEvent::Kick(_)
                | LinkEvent::Known(_)
                | LinkEvent::Push(_)
                | LinkEvent::Said(_)
                | LinkEvent::SessionClosed(_)) => panic!("nobody said so: {unsaid:?}"),
            }
        }
        self.unread = input.to_vec();
    }
}

/// Notes what came, which must be later than all that it keeps its order with.
fn came(before: &mut Vec<(Lane, u32)>, body: &[u8]) -> Lane {
    let Some((&[OURS, lane, a, b, c, d], _)) = body.split_first_chunk() else {
        panic!("nobody sent {body:?}")
    };
    let (lane, serial) = (lane_of(lane), u32::from_be_bytes([a, b, c, d]));
    let meets = |other: Lane| match (lane, other) {
        (_, Lane::Last) => true,
        (Lane::Alone, _) | (_, Lane::Alone) => false,
        (Lane::Session(one), Lane::Session(other)) => one == other,
        (Lane::Anyone | Lane::Last, _) | (_, Lane::Anyone) => true,
    };
    let last = before.iter().filter(|(other, _)| meets(*other)).map(|(_, serial)| *serial).max();
    assert!(last < Some(serial), "{serial} of {lane:?} comes after {last:?}");
    before.retain(|(other, _)| *other != lane);
    before.push((lane, serial));
    lane
}

fn body(serial: u32, lane: Lane, bytes: u16) -> Bytes {
    let lane = match lane {
        Lane::Alone => 0,
        Lane::Anyone => 1,
        Lane::Last => 5,
        Lane::Session(session) => session as u8,
    };
    let mut body = [&[OURS, lane][..], &serial.to_be_bytes()].concat();
    body.resize(body.len() + usize::from(bytes % 800), b' ');
    body.into()
}

fn lane_of(choice: u8) -> Lane {
    match choice % 6 {
        0 => Lane::Alone,
        1 => Lane::Anyone,
        5 => Lane::Last,
        session => Lane::Session(session.into()),
    }
}

fn server(id: &str) -> ServerInfo {
    ServerInfo {
        addresses: Vec::new(),
        frontend: false,
        hostname: String::new(),
        id: ServerId::new(id).expect("a name"),
        incarnation: Incarnation::new(1),
        kind: "room".into(),
        metadata: BTreeMap::new(),
    }
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// What the bodies of this script begin with; a refusal of a link does not.
const OURS: u8 = 0xee;
/// Enough for whatever waits to go, part by part.
const ROUNDS_MAX: u32 = 300;
