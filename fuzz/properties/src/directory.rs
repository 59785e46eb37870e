//! The uid directory on three servers, with messages in any order, against a list of all logins.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use pitaya_core::cluster::{
    Answer, Ask, ClaimEvent, Claims, Directory, Epoch, Holder, Holding, Incarnation, Life, Login,
    ServerId,
};
use pitaya_core::{Instant, Limits, SessionId, SessionTable};

use crate::script::Script;

/// The input is a byte that chooses clocks, one that chooses in which order the last messages come,
/// and a script.
pub fn directory(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new(script.choice());
    let order = script.choice();
    while let Some(step) = script.step() {
        world.step(step);
        world.model.never_closes_the_highest();
    }
    world.falls_quiet(order);
    world.is_consistent();
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    /// A session that is there, and has no claim, begins to bind.
    Again(u8, u8),
    /// A session ends by itself.
    Close(u8, u8),
    Crash(u8),
    /// From one of the messages on, a few come.
    Deliver(u8, u8),
    /// A message comes, and will come once more.
    DeliverTwice(u8),
    /// A message is lost between servers that do not both see each other.
    Drop(u8),
    /// A session gives up its bind.
    GiveUp(u8, u8),
    Login(u8, u8),
    /// The first does not see the second any more; who is not yet seen so learns it when they meet.
    Lose(u8, u8),
    Meet(u8, u8),
    Restart(u8),
    Wait(u8),
}

struct World {
    servers: [Server; SERVERS],
    mail: Vec<Mail>,
    model: Model,
    now: Instant,
    /// How long a message takes: if not at all, only heard epochs tell logins apart.
    tick: Duration,
}

struct Server {
    life: Life,
    is_up: bool,
    origin: Epoch,
    /// The lives that it sees, its own among them.
    view: BTreeSet<Life>,
    table: SessionTable<()>,
    open: Vec<SessionId>,
    claims: Claims,
    directory: Directory,
}

struct Mail {
    from: Life,
    to: Life,
    word: Word,
}

#[derive(Clone, Debug)]
enum Word {
    Answer(Answer),
    Ask(Ask),
}

impl World {
    fn new(clocks: u8) -> Self {
        let servers = std::array::from_fn(|at| Server::new(at, 1, origin(clocks, at)));
        let model = Model { clocks_agree: clocks.is_multiple_of(4), ..Model::default() };
        let tick = Duration::from_millis(u64::from(clocks % 4 != 3));
        let mut world = Self { servers, mail: Vec::new(), model, now: Instant::ZERO, tick };
        world.all_meet();
        world
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Again(at, nth) => self.again(index(at), nth),
            Step::Close(at, nth) => self.close(index(at), nth),
            Step::Crash(at) => self.crash(index(at)),
            Step::Deliver(nth, more) => (0..=more % 8).for_each(|_| self.deliver(nth, false)),
            Step::DeliverTwice(nth) => self.deliver(nth, true),
            Step::Drop(nth) => self.drop_mail(nth),
            Step::GiveUp(at, nth) => self.give_up(index(at), nth),
            Step::Login(at, uid) => self.login(index(at), uid),
            Step::Lose(at, other) => self.lose(index(at), index(other)),
            Step::Meet(at, other) => self.meet(index(at), index(other)),
            Step::Restart(at) => self.restart(index(at)),
            Step::Wait(seconds) => {
                self.now = self.now + Duration::from_secs(u64::from(seconds) % 12);
            }
        }
    }

    // Sessions.

    fn login(&mut self, at: usize, uid: u8) {
        let server = &mut self.servers[at];
        if server.is_up {
            let session = server.table.open(());
            server.open.push(session);
            self.begin(at, session, uid);
        }
    }

    fn again(&mut self, at: usize, nth: u8) {
        if let Some(session) = self.servers[at].session(nth) {
            self.begin(at, session, nth / 16);
        }
    }

    fn begin(&mut self, at: usize, session: SessionId, uid: u8) {
        let server = &mut self.servers[at];
        let uid = UIDS[usize::from(uid) % UIDS.len()];
        let begun = server.claims.begin(session, uid.into(), home_of(&server.view, uid));
        assert!(begun.is_ok() || server.claims.count() > 0);
        self.settle(at);
    }

    fn close(&mut self, at: usize, nth: u8) {
        let Some(session) = self.servers[at].session(nth) else { return };
        self.servers[at].open.retain(|open| *open != session);
        self.end(at, session);
    }

    fn give_up(&mut self, at: usize, nth: u8) {
        if let Some(session) = self.servers[at].session(nth) {
            self.end(at, session);
        }
    }

    fn end(&mut self, at: usize, session: SessionId) {
        let server = &mut self.servers[at];
        self.model.left(|holder| holder.server == server.life && holder.session == session);
        server.claims.end(session);
        self.settle(at);
    }

    // Servers.

    fn crash(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if std::mem::take(&mut server.is_up) {
            self.model.left(|holder| holder.server == server.life);
        }
    }

    fn restart(&mut self, at: usize) {
        let Server { is_up, life, origin, .. } = &self.servers[at];
        if !is_up {
            let (incarnation, origin) = (life.incarnation.number() + 1, *origin);
            self.servers[at] = Server::new(at, incarnation, origin);
            self.settle(at);
        }
    }

    fn lose(&mut self, at: usize, other: usize) {
        let id = self.servers[other].life.id.clone();
        let server = &mut self.servers[at];
        let Some(lost) = server.view.iter().find(|seen| seen.id == id).cloned() else { return };
        if server.is_up && at != other {
            server.forget(&lost);
            self.look_around(at);
        }
    }

    fn meet(&mut self, at: usize, other: usize) {
        let is_up = self.servers[at].is_up && self.servers[other].is_up;
        if at == other || !is_up || (self.sees(at, other) && self.sees(other, at)) {
            return;
        }
        for (at, other) in [(at, other), (other, at)] {
            let life = self.servers[other].life.clone();
            let server = &mut self.servers[at];
            // One that was away too shortly to be missed has forgotten all the same.
            let before = server.view.iter().find(|seen| seen.id == life.id).cloned();
            before.iter().for_each(|before| server.forget(before));
            server.view.insert(life.clone());
            server.directory.welcome_server(life);
            self.look_around(at);
        }
    }

    fn all_meet(&mut self) {
        for (at, other) in PAIRS {
            if self.servers[at].is_up && self.servers[other].is_up {
                self.meet(at, other);
            } else {
                self.lose(at, other);
                self.lose(other, at);
            }
        }
    }

    fn sees(&self, at: usize, other: usize) -> bool {
        self.servers[at].view.contains(&self.servers[other].life)
    }

    fn look_around(&mut self, at: usize) {
        let Server { claims, directory, life, view, .. } = &mut self.servers[at];
        claims.rehome(|uid| home_of(view, uid));
        let dropped = directory.surrender(|uid| home_of(view, uid).as_ref() == Some(life));
        self.send_answers(at, dropped);
        self.settle(at);
    }

    // Messages.

    /// Does what the claims of a server want done.
    fn settle(&mut self, at: usize) {
        while let Some(event) = self.servers[at].claims.poll_event() {
            let life = self.servers[at].life.clone();
            match event {
                ClaimEvent::Bound(session) => assert!(self.servers[at].claims.is_bound(session)),
                ClaimEvent::Close(session) => {
                    self.servers[at].open.retain(|open| *open != session);
                    self.model.closed(&Holder { server: life, session });
                }
                ClaimEvent::Refused(..) => {}
                ClaimEvent::Tell(to, ask) => {
                    if let Ask::Announce(login) = &ask {
                        self.model.taken(&login.uid, holding(&life, login));
                    }
                    self.send(at, to, Word::Ask(ask));
                }
            }
        }
    }

    fn send(&mut self, at: usize, to: Life, word: Word) {
        let server = &self.servers[at];
        if server.view.contains(&to) {
            self.mail.push(Mail { from: server.life.clone(), to, word });
        }
    }

    fn send_answers(&mut self, at: usize, answers: Vec<(Life, Answer)>) {
        for (to, answer) in answers {
            self.send(at, to, Word::Answer(answer));
        }
    }

    fn deliver(&mut self, nth: u8, is_kept: bool) {
        if self.mail.is_empty() {
            return;
        }
        self.now = self.now + self.tick;
        let nth = usize::from(nth) % self.mail.len();
        let Mail { from, to, word } = self.mail.swap_remove(nth);
        if is_kept {
            self.mail.push(Mail { from: from.clone(), to: to.clone(), word: word.clone() });
        }
        let Some(at) = self.servers.iter().position(|server| server.is(&to)) else { return };
        match word {
            Word::Answer(answer) => self.servers[at].claims.handle_answer(&from, answer),
            Word::Ask(ask) => self.answer(at, &from, ask),
        }
        self.settle(at);
    }

    fn answer(&mut self, at: usize, from: &Life, ask: Ask) {
        let Server { directory, life, .. } = &mut self.servers[at];
        let before: Vec<_> = UIDS.map(|uid| directory.find(uid).cloned()).into();
        let answers = directory.handle_ask(self.now, from, ask.clone());
        match &ask {
            Ask::Announce(_) => {}
            Ask::Claim { uid, .. } => {
                let heard = before.iter().flatten().map(|held| held.epoch).max();
                self.model.answered(self.now, life, uid, &answers, heard);
            }
            Ask::Release(login) => {
                let other = |held: &Holding| *held != holding(from, login);
                let kept = before.iter().flatten().filter(|held| other(held));
                let after: Vec<_> = UIDS.iter().filter_map(|uid| directory.find(uid)).collect();
                assert!(kept.eq(after.into_iter().filter(|held| other(held))), "{login:?}");
            }
        }
        self.send_answers(at, answers);
    }

    fn drop_mail(&mut self, nth: u8) {
        let nth = usize::from(nth) % self.mail.len().max(1);
        let Some(Mail { from, to, .. }) = self.mail.get(nth) else { return };
        let sees = |one, other| {
            self.servers.iter().any(|server| server.is(one) && server.view.contains(other))
        };
        if !(sees(from, to) && sees(to, from)) {
            self.mail.swap_remove(nth);
        }
    }

    /// All learn who is there, then everything that was said arrives.
    fn falls_quiet(&mut self, order: u8) {
        self.all_meet();
        for _ in 0..MAIL_MAX {
            self.deliver(order, false);
            self.model.never_closes_the_highest();
        }
        assert!(self.mail.is_empty(), "they talk for ever");
    }

    fn is_consistent(&self) {
        let up: Vec<_> = self.servers.iter().filter(|server| server.is_up).collect();
        for uid in UIDS {
            let logins = up.iter().flat_map(|server| server.logins(uid)).collect::<Vec<_>>();
            assert!(logins.len() <= 1, "I18: {logins:?}");
            if let Some(expected) = self.model.must_live(uid) {
                assert_eq!(logins.first(), Some(expected), "I19");
            }
            for server in &up {
                if home_of(&server.view, uid).as_ref() == Some(&server.life) {
                    assert_eq!(server.directory.find(uid), logins.first(), "I20 at {server}");
                }
            }
        }
        for Server { claims, open, .. } in up {
            let bound = open.iter().filter(|session| claims.is_bound(**session)).count();
            assert_eq!(claims.count(), bound, "a bind is not done, or its session is gone");
        }
    }
}

impl Server {
    fn new(at: usize, incarnation: u64, origin: Epoch) -> Self {
        let id = ServerId::new(IDS[at]).expect("a name");
        let life = Life { id, incarnation: Incarnation::new(incarnation) };
        Self {
            is_up: true,
            origin,
            view: BTreeSet::from([life.clone()]),
            table: SessionTable::new(&Limits::default().uid_bytes_max(16).binds_max(usize::MAX)),
            open: Vec::new(),
            claims: Claims::new(),
            directory: Directory::new(life.clone(), origin, BINDS_MAX, BINDS_WINDOW),
            life,
        }
    }

    fn forget(&mut self, lost: &Life) {
        self.view.remove(lost);
        self.claims.forget_server(lost);
        self.directory.forget_server(lost);
    }

    fn is(&self, life: &Life) -> bool {
        self.is_up && self.life == *life
    }

    fn session(&self, nth: u8) -> Option<SessionId> {
        let nth = usize::from(nth) % self.open.len().max(1);
        self.open.get(nth).copied().filter(|_| self.is_up)
    }

    fn logins(&self, uid: &str) -> Vec<Holding> {
        let logins = self.open.iter().filter_map(|session| self.claims.login(*session));
        let of_uid = logins.filter(|login| *login.uid == *uid);
        of_uid.map(|login| holding(&self.life, &login)).collect()
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.life.id, self.life.incarnation.number())
    }
}

/// Every epoch that was granted, and every login that took one with what became of it.
#[derive(Default)]
struct Model {
    clocks_agree: bool,
    grants: Vec<(Instant, Life, Arc<str>, Epoch)>,
    logins: Vec<(Arc<str>, Holding, Fate)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Closed,
    Left,
    Lives,
}

impl Model {
    fn answered(
        &mut self, now: Instant, home: &Life, uid: &Arc<str>, said: &[(Life, Answer)],
        heard: Option<Epoch>,
    ) {
        let mine = || self.grants.iter().filter(|(_, by, ..)| by == home);
        let recent = mine().filter(|(at, _, of, _)| of == uid && *at + BINDS_WINDOW > now).count();
        let [(_, Answer::Granted(Login { epoch, .. }))] = said else {
            return assert!(recent >= BINDS_MAX, "refused though there were {recent}");
        };
        assert!(recent < BINDS_MAX && heard.is_none_or(|heard| heard < *epoch));
        assert!(mine().all(|(.., given)| given < epoch), "a home gives an epoch twice");
        if self.clocks_agree {
            assert!(self.grants.iter().all(|(.., given)| given < epoch), "an older login wins");
        }
        self.grants.push((now, home.clone(), Arc::clone(uid), *epoch));
    }

    fn taken(&mut self, uid: &Arc<str>, holding: Holding) {
        if self.logins.iter().all(|(of, taken, _)| (of, taken) != (uid, &holding)) {
            self.logins.push((Arc::clone(uid), holding, Fate::Lives));
        }
    }

    fn left(&mut self, is: impl Fn(&Holder) -> bool) {
        let living = self.logins.iter_mut().filter(|(.., fate)| *fate == Fate::Lives);
        living.filter(|(_, taken, _)| is(&taken.holder)).for_each(|login| login.2 = Fate::Left);
    }

    fn closed(&mut self, holder: &Holder) {
        let living = self.logins.iter_mut().filter(|(.., fate)| *fate == Fate::Lives);
        living.filter(|(_, taken, _)| taken.holder == *holder).for_each(|it| it.2 = Fate::Closed);
    }

    fn highest(&self, uid: &str) -> Option<&(Arc<str>, Holding, Fate)> {
        self.logins.iter().filter(|(of, ..)| **of == *uid).max_by_key(|(_, taken, _)| taken)
    }

    fn must_live(&self, uid: &str) -> Option<&Holding> {
        self.highest(uid).filter(|(.., fate)| *fate == Fate::Lives).map(|(_, taken, _)| taken)
    }

    fn never_closes_the_highest(&self) {
        for (_, highest, fate) in UIDS.iter().filter_map(|uid| self.highest(uid)) {
            assert_ne!(*fate, Fate::Closed, "I19: {highest:?} had none above it");
        }
    }
}

fn holding(server: &Life, login: &Login) -> Holding {
    let holder = Holder { server: server.clone(), session: login.session };
    Holding { epoch: login.epoch, holder }
}

/// Each user id prefers another server, so that all of them are homes, and homes change.
fn home_of(view: &BTreeSet<Life>, uid: &str) -> Option<Life> {
    let first = UIDS.iter().position(|of| *of == uid)?;
    let mut preferred = IDS.iter().cycle().skip(first).take(SERVERS);
    preferred.find_map(|id| view.iter().find(|life| life.id.as_str() == *id).cloned())
}

/// Clocks that agree, are up to an hour apart, or stand still.
fn origin(clocks: u8, at: usize) -> Epoch {
    let ahead = [0, 1_000_000, 3_600_000_000];
    match clocks % 4 {
        1 => Epoch::new(ahead[at]),
        2 => Epoch::new(ahead[SERVERS - 1 - at]),
        _ => Epoch::new(0),
    }
}

fn index(byte: u8) -> usize {
    usize::from(byte) % SERVERS
}

const SERVERS: usize = 3;
const IDS: [&str; SERVERS] = ["a", "b", "c"];
const PAIRS: [(usize, usize); SERVERS] = [(0, 1), (0, 2), (1, 2)];
const UIDS: [&str; 2] = ["ann", "bob"];

const BINDS_MAX: usize = 5;
const BINDS_WINDOW: Duration = Duration::from_secs(10);

/// What is said at most once nothing new happens.
const MAIL_MAX: usize = 10_000;
