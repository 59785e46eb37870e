//! Whether what happened is what is promised.

use std::collections::BTreeMap;
use std::time::Duration;

use pitaya_core::{Counter, Instant, RequestError};
use pitaya_driver::ServerHandle;
use pitaya_proto::message::Message;
use pitaya_proto::packet::{self, BODY_BYTES_MAX, PacketKind};
use pitaya_tests::raw::Received;
use pitaya_tests::sim::Tap;

use super::app::Told;
use super::client::{Player, REQUEST_DEADLINE};
use super::ledger::{Asked, Book, Broken, ONE_OUTCOME, ORDER, Run, Session};
use super::plan::{self, Fault, Kind, What};
use super::world::{AFTERMATH, CALL_DEADLINE, World};

/// Everything that the ledger shows at the end.
pub(crate) fn judge(world: &World) -> Vec<Broken> {
    let mut book = world.ledger.book();
    let judges: [fn(&Book) -> Vec<Broken>; 8] =
        [outcomes, echoes, timeouts, order, pushes, replies_after_pushes, losses, logins];
    let found: Vec<_> = judges.iter().flat_map(|judge| judge(&book)).collect();
    book.broken.extend(found);
    book.broken.extend(world.sim.taps().iter().flat_map(wire));
    book.broken.extend(sums(world));
    std::mem::take(&mut book.broken)
}

fn outcomes(book: &Book) -> Vec<Broken> {
    let late = |asked: &Asked| {
        let latest = asked.at + REQUEST_DEADLINE + LATE;
        asked.outcome.as_ref().is_none_or(|(at, _)| *at > latest)
    };
    let late = book.asked.iter().filter(|(_, asked)| late(asked));
    late.map(|(nonce, asked)| {
        (ONE_OUTCOME, format!("{nonce}, asked at {}: {:?}", asked.at, asked.outcome))
    })
    .collect()
}

/// A reply is that of its own request, and of a session that its client had.
fn echoes(book: &Book) -> Vec<Broken> {
    let wrong = |nonce: u64, asked: &Asked| {
        let Some((_, Ok(told))) = &asked.outcome else { return false };
        let session = book.sessions.get(&told.key);
        told.nonce != nonce || session.is_none_or(|session| session.client != asked.client)
    };
    let wrong = book.asked.iter().filter(|(nonce, asked)| wrong(**nonce, asked));
    wrong.map(|(nonce, asked)| (ECHO, format!("{nonce}: {:?}", asked.outcome))).collect()
}

/// Who is told of a timeout has waited for as long.
fn timeouts(book: &Book) -> Vec<Broken> {
    let untrue = |asked: &Asked| match &asked.outcome {
        Some((at, Err(RequestError::Answered(error)))) if error.code == "PIT-408" => {
            *at + TICK < asked.at + CALL_DEADLINE
        }
        _ => false,
    };
    let untrue = book.asked.iter().filter(|(_, asked)| untrue(asked));
    untrue.map(|(nonce, asked)| (TRUTH, format!("{nonce}: {:?}", asked.outcome))).collect()
}

/// Replies of ordered calls of one session on one server come in the order of the requests.
fn order(book: &Book) -> Vec<Broken> {
    let mut latest = BTreeMap::<_, (u64, Instant)>::new();
    let mut broken = Vec::new();
    let mut runs: Vec<_> = book.runs.iter().filter(|run| run.ordered).collect();
    runs.sort_by_key(|run| run.nonce);
    for run in runs {
        let Some(asked) = book.asked.get(&run.nonce) else { continue };
        let Some((at, Ok(_))) = &asked.outcome else { continue };
        if asked.key.as_ref() != Some(&run.key) {
            continue;
        }
        let before = latest.insert((&run.life, &run.key), (run.nonce, *at));
        if let Some((nonce, earlier)) = before.filter(|(_, before)| before > at) {
            broken.push((ORDER, format!("{} at {at} before {nonce} at {earlier}", run.nonce)));
        }
    }
    broken
}

/// What one sender pushes to one session comes in order, and once.
fn pushes(book: &Book) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (client, pushed) in &book.pushed {
        let mut latest = BTreeMap::new();
        for (_, push) in pushed {
            let before = latest.insert((&push.sender, &push.to), push.number);
            if before.is_some_and(|before| before >= push.number) {
                broken.push((PUSHES, format!("client {client}: {push:?} after {before:?}")));
            }
        }
    }
    broken
}

/// What a handler pushed to its session is there when its reply is. A link whose peer is suspect
/// drops pushes and keeps replies, so some may be missing then, but none comes later.
fn replies_after_pushes(book: &Book) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (nonce, asked) in &book.asked {
        let Some((at, Ok(_))) = &asked.outcome else { continue };
        if asked.what != What::Push {
            continue;
        }
        let all = book.pushed.get(&asked.client).into_iter().flatten();
        let mut own = all.filter(|(_, push)| push.nonce == *nonce).peekable();
        let run = book.runs.iter().find(|run| run.nonce == *nonce);
        let is_calm = run.is_some_and(|run| {
            let ends = [host(&run.life), host(&run.key)];
            !ends.iter().any(|end| book.is_troubled(end, asked.at, *at, None))
        });
        if (is_calm && own.peek().is_none()) || own.any(|(pushed, _)| pushed > at) {
            broken.push((BEFORE, format!("{nonce}, answered at {at}")));
        }
    }
    broken
}

/// Who waits for a server that crashed, or is silent, is soon told; who waits for one that leaves
/// gets its reply.
fn losses(book: &Book) -> Vec<Broken> {
    let mut broken = Vec::new();
    for run in &book.runs {
        let Some(asked) = book.asked.get(&run.nonce) else { continue };
        let Some((at, outcome)) = &asked.outcome else { continue };
        let (gate, client) = (host(&run.key), format!("client-{}", asked.client));
        if gate == host(&run.life) {
            continue;
        }
        let calm = |from, until| {
            let troubled = |name: &str| book.is_troubled(name, from, until, None);
            !troubled(gate) && !troubled(&client)
        };
        for trouble in book.troubles.iter().filter(|it| it.hosts[0] == host(&run.life)) {
            let limit = trouble.from + NOTICED;
            let is_down = match trouble.kind {
                Kind::Killed | Kind::Powerless => true,
                Kind::Paused => {
                    let alone = book.troubles_of(&trouble.hosts[0], run.from, limit) == 1;
                    alone && trouble.until > limit + AFTERMATH
                }
                _ => false,
            };
            let waits = run.from < trouble.from && run.until.is_none_or(|it| it >= trouble.from);
            if is_down && waits && calm(run.from, limit) && *at > limit {
                broken.push((LOST, format!("{} on {}: told at {at}", run.nonce, run.life)));
            }
        }
        if is_cut_short(book, asked, run) && calm(asked.at, *at) && !is_answer(outcome) {
            broken.push((DRAINS, format!("{} on {}: {outcome:?}", run.nonce, run.life)));
        }
    }
    broken
}

/// A handler that asks nobody ended by itself, in time, or was dropped long before that, on a
/// server that left and had no other trouble: a call may also have waited for one that stood still.
fn is_cut_short(book: &Book, asked: &Asked, run: &Run) -> bool {
    let (Some(until), name) = (run.until, host(&run.life)) else { return false };
    if !matches!(asked.what, What::Echo | What::Quick | What::Sleep) {
        return false;
    }
    let mut troubles = book.troubles.iter().filter(|it| it.hosts[0] == name);
    let leaves =
        troubles.any(|it| it.kind == Kind::Drained && run.from <= it.until && it.from <= until);
    let in_time = until + Duration::from_millis(500) < asked.at + CALL_DEADLINE;
    leaves && in_time && !book.is_troubled(name, asked.at, until, Some(Kind::Drained))
}

/// What the handler says, or that the client is gone.
fn is_answer(outcome: &Result<Told, RequestError>) -> bool {
    match outcome {
        Err(RequestError::Answered(error)) => error.code != "PIT-503" && error.code != "PIT-408",
        _ => true,
    }
}

/// Of all who got a user id at least one was not replaced, unless somebody else may have got it.
fn logins(book: &Book) -> Vec<Broken> {
    let mut of_uid = BTreeMap::<_, Vec<_>>::new();
    for session in book.sessions.values() {
        for uid in &session.claims {
            let may_have_it = session.bound.as_ref().is_none_or(|bound| bound == uid);
            of_uid.entry(uid).or_default().extend(may_have_it.then_some(session));
        }
    }
    let are_replaced = |all: &[&Session]| {
        !all.is_empty() && all.iter().all(|it| it.replaced && it.bound.is_some())
    };
    let lost = of_uid.iter().filter(|(_, all)| are_replaced(all));
    lost.map(|(uid, all)| (HIGHEST, format!("nobody kept {uid} of {all:?}"))).collect()
}

/// On the wire a request is answered once at most, nothing else is, and a kick is the last.
fn wire(tap: &Tap) -> Vec<Broken> {
    let mut asked = BTreeMap::<u64, i64>::new();
    for packet in packets(&tap.said[0]) {
        if let Ok(Message::Request { id, .. }) = Message::decode(packet.body)
            && packet.kind == PacketKind::Data
        {
            *asked.entry(id).or_default() += 1;
        }
    }
    let (mut broken, mut kicked) = (Vec::new(), false);
    for packet in packets(&tap.said[1]) {
        let received = Received::read(&packet).expect("servers send what can be read");
        if kicked {
            broken.push((LAST_WORD, format!("{} got {received:?} after it", tap.dialler)));
        }
        match received {
            Received::Kick(_) => kicked = true,
            Received::Error(id, _) | Received::Reply(id, _) => {
                let left = asked.entry(id).or_default();
                *left -= 1;
                if *left < 0 {
                    broken.push((ONE_REPLY, format!("{} got one more to {id}", tap.dialler)));
                }
            }
            Received::Handshake(_) | Received::Heartbeat | Received::Push(..) => {}
        }
    }
    broken
}

fn packets(bytes: &[u8]) -> impl Iterator<Item = packet::Packet<'_>> {
    let mut input = bytes;
    std::iter::from_fn(move || packet::decode(&mut input, BODY_BYTES_MAX).ok().flatten())
}

/// What came is gone or there.
fn sums(world: &World) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (name, counters, connections, sessions) in world.counted() {
        let count = |counter| counters.count(counter);
        let accepted = count(Counter::ConnectionsAccepted);
        let opened = count(Counter::SessionsOpened);
        if accepted != count(Counter::ConnectionsClosed) + connections as u64 {
            broken.push((SUMS, format!("{name}: {accepted} connections, {connections} open")));
        }
        if opened != count(Counter::SessionsClosed) + sessions as u64 {
            broken.push((SUMS, format!("{name}: {opened} sessions, {sessions} open")));
        }
    }
    broken
}

/// A server that is stopped for long gets no calls any more from those that are well.
pub(crate) async fn await_notice(world: World, fault: Fault, from: Instant) {
    world.sim.sleep(NOTICED).await;
    let alone = world.ledger.book().troubles_of(&fault.one, from, world.sim.time()) == 1;
    if fault.lasts <= NOTICED || !alone {
        return;
    }
    let kind = &fault.one[..4];
    for (name, slot) in world.slots().iter().filter(|(name, _)| **name != fault.one) {
        let troubled = world.ledger.book().is_troubled(name, from, world.sim.time(), None);
        let Some(members) = slot.handle.as_ref().and_then(ServerHandle::members) else { continue };
        let mut candidates = members.candidates(kind).iter();
        if !troubled && candidates.any(|it| it.id.as_str() == fault.one) {
            let how = format!("{name} still calls {}, stopped at {from}", fault.one);
            world.ledger.break_rule(SILENCE, how);
        }
    }
}

/// All servers know all servers, over one connection for each two.
pub(crate) async fn await_agreement(world: &World, healed: Instant) {
    let mut missing = disagreement(world);
    while missing.is_some() && world.sim.time() < healed + AGREED {
        world.sim.sleep(Duration::from_millis(500)).await;
        missing = disagreement(world);
    }
    missing.into_iter().for_each(|how| world.ledger.break_rule(AGREEMENT, how));
}

fn disagreement(world: &World) -> Option<String> {
    let slots = world.slots();
    let views = slots.iter().map(|(name, slot)| {
        let members = slot.handle.as_ref().and_then(ServerHandle::members);
        let life = |it: &std::sync::Arc<pitaya_core::cluster::ServerInfo>| {
            (it.id.to_string(), it.incarnation.number())
        };
        let all = members.map(|members| members.all().iter().map(life).collect::<Vec<_>>());
        (name, all)
    });
    let views: Vec<_> = views.collect();
    if let Some((name, view)) = views.iter().find(|(_, view)| *view != views[0].1) {
        return Some(format!("{name} knows {view:?}, and {} {:?}", views[0].0, views[0].1));
    }
    if views[0].1.as_ref().is_none_or(|view| view.len() != plan::servers().count()) {
        return Some(format!("all know {:?} only", views[0].1));
    }
    let names: Vec<_> = plan::servers().map(|name| (world.sim.host(&name), name)).collect();
    let pairs = (0..names.len()).flat_map(|one| (0..one).map(move |other| (one, other)));
    let mut counts = pairs.map(|(one, other)| {
        let ((one, a), (other, b)) = (&names[one], &names[other]);
        (one.connections(other), a, b)
    });
    let wrong = counts.find(|(count, ..)| *count != 1);
    wrong.map(|(count, one, other)| format!("{count} links between {one} and {other}"))
}

/// Asks once all is quiet: everything works, who is somebody is found, and the newest login stays.
pub(crate) async fn ask_around(world: &World, living: &[Player]) {
    let mut probe = Player::new(world, 900);
    probe.connect().await;
    if !probe.is_open().await {
        return world.ledger.break_rule(WORKS, "nobody can connect".to_owned());
    }
    let mut holders = BTreeMap::<String, Vec<String>>::new();
    for player in living {
        if !player.is_open().await {
            continue;
        }
        let mut asking = player.again();
        for place in ["gate", "room"] {
            match asking.ask(place, "who", "").await {
                Ok(told) if place == "gate" && !told.uid.is_empty() => {
                    holders.entry(told.uid).or_default().push(told.key);
                }
                Ok(_) => {}
                Err(why) => {
                    let how = format!("client {} asks {place}: {why:?}", player.number);
                    world.ledger.break_rule(WORKS, how);
                }
            }
        }
    }
    for (uid, keys) in holders {
        if keys.len() > 1 {
            world.ledger.break_rule(ONE_SESSION, format!("{uid}: {keys:?}"));
        }
        find(world, &mut probe, &uid).await;
    }
    replace(world, &mut probe).await;
}

/// Somebody who is there is found.
async fn find(world: &World, probe: &mut Player, uid: &str) {
    let found = probe.ask("room", "shout", uid).await;
    if !found.as_ref().is_ok_and(|told| told.missing.is_empty()) {
        world.ledger.break_rule(FOUND, format!("{uid}: {found:?}"));
    }
}

/// Once it is quiet the newer of two logins stays.
async fn replace(world: &World, probe: &mut Player) {
    for at in 0..REPLACED {
        let uid = format!("new-{at}");
        let (mut one, mut other) =
            (Player::new(world, 901 + 2 * at), Player::new(world, 902 + 2 * at));
        one.connect().await;
        other.connect().await;
        if !one.is_open().await || !other.is_open().await {
            return world.ledger.break_rule(WORKS, "two more cannot connect".to_owned());
        }
        let first = one.ask("gate", "login", &uid).await;
        let second = other.ask("room", "login", &uid).await;
        world.sim.sleep(Duration::from_secs(1)).await;
        let is_replaced = !one.is_open().await && other.is_open().await;
        if first.is_err() || second.is_err() || !is_replaced {
            world.ledger.break_rule(HIGHEST, format!("{uid}: {first:?} {second:?}"));
        }
        find(world, probe, &uid).await;
    }
}

/// The server of a life, or of a session.
fn host(of: &str) -> &str {
    of.split('/').next().unwrap_or(of)
}

/// What timers may be late by: a 64th of their way, and more than one of them in a row.
const LATE: Duration = Duration::from_millis(500);
/// What times on the wire are rounded by.
const TICK: Duration = Duration::from_millis(10);
/// A silent peer is suspect after two seconds, and its silence may begin half a second later.
const NOTICED: Duration = Duration::from_millis(3_000);
const AGREED: Duration = Duration::from_secs(20);
const REPLACED: usize = 3;

const AGREEMENT: &str = "after the heal all servers know all others, over one link each";
const BEFORE: &str = "what a handler pushes comes before its reply";
const DRAINS: &str = "a server that leaves answers what it has";
const ECHO: &str = "a reply is that of its own request and session";
const FOUND: &str = "who has a user id is found once it is quiet";
const HIGHEST: &str = "the highest login of a user id stays";
const LAST_WORD: &str = "nothing comes after a kick";
const LOST: &str = "who waits for a lost server is told in three seconds";
const ONE_REPLY: &str = "a request has one reply at most, and nothing else has any";
const ONE_SESSION: &str = "a user id has one session once it is quiet";
const PUSHES: &str = "pushes of a sender to a session come in order and once";
const SILENCE: &str = "a silent server is noticed";
const SUMS: &str = "what came is gone or there";
const TRUTH: &str = "a timeout is told no sooner than it is one";
const WORKS: &str = "everything works once it is quiet";
