//! What one server knows of all others: who is there, how to reach it, and who has which user id.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pitaya_proto::error::Error;

use super::{
    ClaimEvent, Claims, Dial, Directory, Epoch, JoinError, Life, MemberEvent, Members, Membership,
    Said, ServerInfo, rendezvous,
};
use crate::{Instant, Limits, SessionId};

/// The part of a cluster that one server keeps, for all of its links together.
///
/// Whoever owns the links tells it what became of them; after each call [`poll_event`] gives what
/// is to be done. `P` is how a peer is reached.
///
/// [`poll_event`]: Self::poll_event
#[derive(Debug)]
pub struct Hub<P> {
    me: Life,
    membership: Membership,
    peers: BTreeMap<Life, Peer<P>>,
    directory: Directory,
    claims: Claims,
    /// Homes may have changed, or what was told to them is lost.
    stirred: bool,
    events: VecDeque<HubEvent<P>>,
}

/// What has to be done, or is worth knowing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HubEvent<P> {
    /// The session has its user id.
    Bound(SessionId),
    /// The session lost its user id to a newer login: it must be kicked.
    Close(SessionId),
    /// This link is of no use any more: another one to the same server stays.
    Drop(P),
    /// The set of servers has changed.
    Members(MemberEvent),
    /// The bind is refused; a new one may succeed after the wait.
    Refused(SessionId, Duration),
    /// This must be said to that peer.
    Say(P, Said),
}

/// Why a link that opened is of no use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unwanted {
    /// The server is no member.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Another link to the same server stays.
    #[error("another link to this server is up")]
    Twin,
}

#[derive(Debug)]
struct Peer<P> {
    dial: Dial,
    peer: P,
    suspect: bool,
}

impl<P: Clone + Eq> Hub<P> {
    /// A server without others. `origin` is what the clocks of all servers showed at
    /// [`Instant::ZERO`] of this one; see [`Directory::new`].
    pub fn new(me: ServerInfo, origin: Epoch, limits: &Limits) -> Self {
        let life = Life::from(&me);
        let (binds_max, window) = (limits.binds_max, limits.binds_window);
        Self {
            directory: Directory::new(life.clone(), origin, binds_max, window),
            me: life,
            membership: Membership::new(me, limits.members_max),
            peers: BTreeMap::new(),
            claims: Claims::new(),
            stirred: false,
            events: VecDeque::new(),
        }
    }

    /// The servers as they are now.
    pub fn members(&mut self) -> Arc<Members> {
        self.membership.snapshot()
    }

    /// How a life of a server is reached.
    pub fn peer(&self, life: &Life) -> Option<&P> {
        self.peers.get(life).map(|peer| &peer.peer)
    }

    /// Every peer, with the life it is.
    pub fn peers(&self) -> impl Iterator<Item = (&Life, &P)> {
        self.peers.iter().map(|(life, peer)| (life, &peer.peer))
    }

    /// A link to a server has opened, which is reached at `peer`.
    ///
    /// # Errors
    ///
    /// The link is of no use and must end; nothing has changed.
    pub fn handle_opened(
        &mut self, now: Instant, info: &ServerInfo, dial: Dial, peer: P,
    ) -> Result<(), Unwanted> {
        let life = Life::from(info);
        // One that is suspect may be dead, which its other end may have seen already.
        let twin = self.peers.get(&life).filter(|twin| !twin.suspect);
        if twin.is_some_and(|twin| twin.dial < dial) {
            return Err(Unwanted::Twin);
        }
        self.membership.handle_joined(info.clone())?;
        let twin = self.peers.insert(life.clone(), Peer { dial, peer, suspect: false });
        if let Some(twin) = twin {
            // What was said over it may be lost with it.
            self.events.push_back(HubEvent::Drop(twin.peer));
            self.forget(&life);
        }
        self.directory.welcome_server(life);
        self.settle(now);
        Ok(())
    }

    /// The link that is reached at `peer` is over. Nothing changes if another one is in use.
    pub fn handle_closed(&mut self, now: Instant, life: &Life, peer: &P) {
        if self.peers.get(life).is_some_and(|known| known.peer == *peer) {
            self.peers.remove(life);
            self.membership.handle_left(&life.id, life.incarnation);
            self.forget(life);
            self.settle(now);
        }
    }

    /// A peer is silent, or is heard again.
    pub fn handle_silence(&mut self, now: Instant, life: &Life, peer: &P, is_silent: bool) {
        let Some(known) = self.peers.get_mut(life).filter(|known| known.peer == *peer) else {
            return;
        };
        known.suspect = is_silent;
        let tell =
            if is_silent { Membership::handle_suspected } else { Membership::handle_restored };
        tell(&mut self.membership, &life.id, life.incarnation);
        self.settle(now);
    }

    /// A server, or this one, takes no new calls.
    pub fn handle_drains(&mut self, now: Instant, life: &Life) {
        self.membership.handle_drains(&life.id, life.incarnation);
        self.settle(now);
    }

    /// A peer said something about a user id.
    pub fn handle_said(&mut self, now: Instant, from: &Life, said: Said) {
        self.hear(now, from, said);
        self.settle(now);
    }

    /// Begins to bind a session of this server to a user id.
    ///
    /// # Errors
    ///
    /// The session is bound or being bound.
    pub fn bind(&mut self, now: Instant, session: SessionId, uid: Arc<str>) -> Result<(), Error> {
        let members = self.membership.snapshot();
        let home = home_of(&members, &self.me, &uid);
        self.claims.begin(session, uid, Some(home))?;
        self.settle(now);
        Ok(())
    }

    /// A session of this server is over, or gives up its bind.
    pub fn end(&mut self, now: Instant, session: SessionId) {
        self.claims.end(session);
        self.settle(now);
    }

    /// Who has a user id that this server is the home of.
    pub fn find(&self, uid: &str) -> Option<(Life, SessionId)> {
        let holder = &self.directory.find(uid)?.holder;
        Some((holder.server.clone(), holder.session))
    }

    /// The next thing to be done.
    pub fn poll_event(&mut self) -> Option<HubEvent<P>> {
        self.events.pop_front()
    }

    /// What was told to a server may be lost, and what it told is of no use any more.
    fn forget(&mut self, life: &Life) {
        self.directory.forget_server(life);
        self.claims.forget_server(life);
        self.stirred = true;
    }

    fn hear(&mut self, now: Instant, from: &Life, said: Said) {
        match said {
            Said::Answer(answer) => self.claims.handle_answer(from, answer),
            Said::Ask(ask) => {
                for (to, answer) in self.directory.handle_ask(now, from, ask) {
                    self.say(now, to, Said::Answer(answer));
                }
            }
        }
    }

    /// Says something to a server, which may be this one. Who is not there needs to hear nothing:
    /// it is told anew when it comes.
    fn say(&mut self, now: Instant, to: Life, said: Said) {
        if to == self.me {
            self.hear(now, &to, said);
        } else if let Some(peer) = self.peers.get(&to) {
            self.events.push_back(HubEvent::Say(peer.peer.clone(), said));
        }
    }

    /// Draws all conclusions.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.membership.poll_event() {
            self.stirred |= matches!(event, MemberEvent::Joined(_) | MemberEvent::Left(_));
            self.events.push_back(HubEvent::Members(event));
        }
        if std::mem::take(&mut self.stirred) {
            self.rehome(now);
        }
        while let Some(event) = self.claims.poll_event() {
            match event {
                ClaimEvent::Bound(session) => self.events.push_back(HubEvent::Bound(session)),
                ClaimEvent::Close(session) => self.events.push_back(HubEvent::Close(session)),
                ClaimEvent::Refused(session, wait) => {
                    self.events.push_back(HubEvent::Refused(session, wait));
                }
                ClaimEvent::Tell(to, ask) => self.say(now, to, Said::Ask(ask)),
            }
        }
    }

    /// Other servers are the homes of some user ids now.
    fn rehome(&mut self, now: Instant) {
        let (members, me) = (self.membership.snapshot(), self.me.clone());
        // First, so that what this server itself gives up is not announced to it again.
        self.claims.rehome(|uid| Some(home_of(&members, &me, uid)));
        let dropped = self.directory.surrender(|uid| home_of(&members, &me, uid) == me);
        for (to, answer) in dropped {
            self.say(now, to, Said::Answer(answer));
        }
    }
}

/// The home of a user id for servers of the kind of `me`: one of them, the same for all.
fn home_of(members: &Members, me: &Life, uid: &str) -> Life {
    let home = rendezvous(uid, members.of_kind(&members.me().kind));
    home.map_or_else(|| me.clone(), |home| Life::from(&**home))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::members::tests::server;

    /// Hubs, and what they say to each other, which arrives when it is told to.
    struct Net {
        hubs: Vec<Hub<Way>>,
        said: VecDeque<(usize, Way, Said)>,
        news: Vec<String>,
    }

    /// A way to the server of that number, over the link of that dial.
    type Way = (usize, u64);

    impl Net {
        fn new(servers: usize) -> Self {
            let hub = |at| Hub::new(gate(at), Epoch::new(100), &Limits::default());
            Self { hubs: (0..servers).map(hub).collect(), said: VecDeque::new(), news: vec![] }
        }

        fn linked(servers: usize) -> Self {
            let mut net = Self::new(servers);
            for a in 0..servers {
                (0..a).for_each(|b| net.link(a, b, 1));
            }
            net.settle();
            net.news.clear();
            net
        }

        /// A link that `a` has dialled opens at both ends.
        fn link(&mut self, a: usize, b: usize, dial: u64) {
            self.open(a, b, a, dial).unwrap();
            self.open(b, a, a, dial).unwrap();
        }

        fn open(&mut self, at: usize, to: usize, by: usize, dial: u64) -> Result<(), Unwanted> {
            let dial = Dial::new(by > at.min(to), dial);
            let opened = self.hubs[at].handle_opened(NOW, &gate(to), dial, (to, dial.number()));
            self.tell(at);
            opened
        }

        fn close(&mut self, a: usize, b: usize, dial: u64) {
            for (at, to) in [(a, b), (b, a)] {
                self.hubs[at].handle_closed(NOW, &Life::from(&gate(to)), &(to, dial));
                self.tell(at);
            }
        }

        fn bind(&mut self, at: usize, session: u64, uid: &str) {
            self.hubs[at].bind(NOW, SessionId(session), uid.into()).unwrap();
            self.tell(at);
        }

        /// Takes what a hub wants to be done.
        fn tell(&mut self, at: usize) {
            while let Some(event) = self.hubs[at].poll_event() {
                match event {
                    HubEvent::Bound(session) => {
                        self.news.push(format!("{at}: bound {}", session.0))
                    }
                    HubEvent::Close(session) => {
                        self.news.push(format!("{at}: close {}", session.0))
                    }
                    HubEvent::Drop((to, dial)) => self.news.push(format!("{at}: drop {to} {dial}")),
                    HubEvent::Members(event) => {
                        self.news.push(format!("{at}: {event:?}").chars().take(10).collect());
                    }
                    HubEvent::Refused(..) => self.news.push(format!("{at}: refused")),
                    HubEvent::Say(way, said) => self.said.push_back((at, way, said)),
                }
            }
        }

        fn settle(&mut self) -> Vec<String> {
            while let Some((from, (to, _), said)) = self.said.pop_front() {
                self.hubs[to].handle_said(NOW, &Life::from(&gate(from)), said);
                self.tell(to);
            }
            std::mem::take(&mut self.news)
        }

        /// Where every hub that knows says that a user id is.
        fn found(&self, uid: &str) -> Vec<(String, u64)> {
            let found = self.hubs.iter().filter_map(|hub| hub.find(uid));
            found.map(|(life, session)| (life.id.to_string(), session.0)).collect()
        }
    }

    fn gate(at: usize) -> ServerInfo {
        server("gate", &format!("gate-{at}"), 1)
    }

    const NOW: Instant = Instant::ZERO;

    #[test]
    fn a_user_id_has_one_session_in_the_whole_cluster_the_newest() {
        let mut net = Net::linked(3);
        for uid in ["ann", "bob", "cid", "dan"] {
            net.bind(0, 1, uid);
            assert_eq!(net.settle(), ["0: bound 1"]);
            net.bind(1, 2, uid);
            let mut news = net.settle();
            news.sort();
            assert_eq!(news, ["0: close 1", "1: bound 2"]);
            assert_eq!(net.found(uid), [("gate-1".to_owned(), 2)]);
            net.hubs[1].end(NOW, SessionId(2));
            net.tell(1);
            net.settle();
            assert_eq!(net.found(uid), []);
        }
    }

    #[test]
    fn logins_are_known_to_their_new_homes_when_servers_come_and_go() {
        let uids: Vec<_> = (0..20).map(|at| format!("user-{at}")).collect();
        let mut net = Net::new(3);
        net.link(0, 1, 1);
        for (session, uid) in (1..).zip(&uids) {
            net.bind(0, session, uid);
        }
        net.settle();
        net.link(2, 0, 1);
        net.link(2, 1, 1);
        net.settle();
        let all = |net: &Net| uids.iter().map(|uid| net.found(uid).len()).collect::<Vec<_>>();
        assert_eq!(all(&net), [1; 20]);
        net.close(1, 0, 1);
        net.close(2, 1, 1);
        net.settle();
        let known = |uid| net.hubs[0].find(uid).or_else(|| net.hubs[2].find(uid)).is_some();
        assert!(uids.iter().all(|uid| known(uid)));
    }

    #[test]
    fn of_two_links_between_servers_the_same_stays_at_both_ends_whichever_opens_first() {
        for order in [[0, 1, 2, 3], [2, 0, 3, 1], [1, 3, 0, 2], [3, 2, 1, 0]] {
            let mut net = Net::new(2);
            // What is bound before is known after.
            net.bind(0, 1, "ann");
            net.bind(1, 2, "bob");
            net.settle();
            for at in order {
                // Server 0 has dialled the link that is to stay.
                let (at, by) = (at / 2, at % 2);
                let opened = net.open(at, 1 - at, by, 1 + by as u64);
                assert!(opened.is_ok() || by == 1);
            }
            net.settle();
            for at in 0..2 {
                let way = net.hubs[at].peer(&Life::from(&gate(1 - at)));
                assert_eq!(way, Some(&(1 - at, 1)), "{order:?}");
            }
            assert_eq!(net.found("ann"), [("gate-0".to_owned(), 1)]);
            assert_eq!(net.found("bob"), [("gate-1".to_owned(), 2)]);
        }
    }

    #[test]
    fn a_new_link_replaces_one_whose_peer_is_silent() {
        let mut net = Net::linked(2);
        let other = Life::from(&gate(0));
        assert_eq!(net.open(1, 0, 1, 2), Err(Unwanted::Twin));
        net.hubs[1].handle_silence(NOW, &other, &(0, 1), true);
        assert_eq!(net.open(1, 0, 1, 2), Ok(()));
        assert!(net.settle().contains(&"1: drop 0 1".to_owned()));
        net.hubs[1].handle_closed(NOW, &other, &(0, 1));
        assert_eq!(net.hubs[1].peer(&other), Some(&(0, 2)), "the end of the old one is no news");
        assert_eq!(net.hubs[1].members().candidates("gate").len(), 2);
    }
}
