//! Long frames in parts, so that those about others need not wait for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Buf;
use pitaya_proto::link::{self, Frame, FrameError, FrameTooLarge, Kick, Push};

use super::LinkEnd;
use crate::planted::mutant;
use crate::{ConnConfig, Counter, Limits, Outbox};

/// Whom a frame is about, which says what keeps its order: a long frame goes in parts, and frames
/// about others go between them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lane {
    /// It has no order with others, such as a call of a server itself.
    Alone,
    /// It may be anyone: it overtakes nothing, and nothing overtakes it but what is alone.
    Anyone,
    /// It says that something is over: it overtakes nothing at all.
    Last,
    /// The session of that number.
    Session(u64),
}

impl Lane {
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Alone, _) | (_, Self::Alone) => false,
            (Self::Session(one), Self::Session(other)) => one == other,
            (Self::Anyone | Self::Last, _) | (_, Self::Anyone | Self::Last) => true,
        }
    }

    pub(super) fn of_kick(kick: &Kick) -> Self {
        Self::of_all(&kick.uids, &kick.sessions)
    }

    pub(super) fn of_push(push: &Push) -> Self {
        Self::of_all(&push.uids, &push.sessions)
    }

    fn of_all(uids: &[String], sessions: &[u64]) -> Self {
        match (uids, sessions) {
            ([], [session]) => Self::Session(*session),
            _ => Self::Anyone,
        }
    }
}

/// What waits to be written: what goes next in an outbox, and behind that long frames, and all that
/// must not overtake one.
#[derive(Debug, Default)]
pub(super) struct Sending {
    outbox: Outbox,
    /// Long frames that are on their way; the next part is that of the first.
    begun: VecDeque<Long>,
    behind: VecDeque<(Lane, Vec<u8>)>,
    /// The lanes of those.
    blocked: Lanes,
    /// Bytes of what is begun or behind.
    later_bytes: usize,
    /// The id of the long frame that was begun last.
    last_id: u32,
}

#[derive(Debug)]
struct Long {
    id: u32,
    lane: Lane,
    frame: Vec<u8>,
    sent: usize,
}

impl Sending {
    /// Sends a frame behind those that it must not overtake.
    pub(super) fn send(
        &mut self, frame: &Frame<'_>, lane: Lane, config: &ConnConfig,
    ) -> Result<(), FrameTooLarge> {
        let (blocked, limits) = (self.is_blocked(lane), &config.limits);
        let mut later = Vec::new();
        let sent = self.outbox.append(|out| {
            let before = out.len();
            link::encode(frame, out).map_err(Some)?;
            let body_bytes = out.len() - before - link::HEADER_BYTES;
            if body_bytes > limits.link_frame_bytes_max {
                // More than the peer takes, which has the same limit.
                return Err(Some(FrameTooLarge(body_bytes)));
            }
            // Nothing comes before a hello, not even a part of it.
            let goes_whole = matches!(frame, Frame::Hello(_));
            if !goes_whole && (blocked || body_bytes > limits.link_part_bytes_max) {
                later = out.split_off(before);
                return Err(None);
            }
            Ok(())
        });
        if let Err(Some(too_large)) = sent {
            return Err(too_large);
        }
        if !later.is_empty() {
            self.later_bytes += later.len();
            config.counters.add_many(Counter::LinkFramesParted, is_long(&later, limits).into());
            self.pass(lane, later, blocked, limits);
        }
        Ok(())
    }

    /// What is to be written next.
    pub(super) fn outbox(&mut self, limits: &Limits) -> &mut Outbox {
        while !self.outbox.has_remaining()
            && let Some(long) = self.begun.pop_front()
        {
            self.send_part(long, limits);
        }
        &mut self.outbox
    }

    pub(super) fn remaining(&self) -> usize {
        self.outbox.remaining() + self.later_bytes
    }

    pub(super) fn clear(&mut self) {
        let last_id = self.last_id;
        *self = Self { last_id, ..Self::default() };
    }

    fn is_blocked(&self, lane: Lane) -> bool {
        let is_blocked = match lane {
            Lane::Last => !self.begun.is_empty() || !self.behind.is_empty(),
            Lane::Alone | Lane::Anyone | Lane::Session(_) => {
                self.blocked.meet(lane) || self.begun.iter().any(|long| long.lane.meets(lane))
            }
        };
        is_blocked && !mutant("a long frame is overtaken")
    }

    /// Lets a frame go that was made before, unless others are before it.
    fn pass(&mut self, lane: Lane, frame: Vec<u8>, blocked: bool, limits: &Limits) {
        let is_long = is_long(&frame, limits);
        if blocked || is_long && self.begun.len() >= limits.link_long_frames_max {
            self.blocked.insert(lane);
            self.behind.push_back((lane, frame));
        } else if is_long {
            self.last_id = self.last_id.wrapping_add(1);
            self.begun.push_back(Long { id: self.last_id, lane, frame, sent: 0 });
        } else {
            self.later_bytes -= frame.len();
            self.append(|out| out.extend_from_slice(&frame));
        }
    }

    fn send_part(&mut self, mut long: Long, limits: &Limits) {
        let rest = &long.frame[long.sent..];
        let (part, rest) = rest.split_at(rest.len().min(part_bytes(limits)));
        let frame = Frame::Part { id: long.id, last: rest.is_empty(), bytes: part };
        self.append(|out| link::encode(&frame, out).expect("it is part of what fits"));
        self.later_bytes -= part.len();
        if rest.is_empty() {
            self.release(limits);
        } else {
            long.sent += part.len();
            self.begun.push_back(long);
        }
    }

    /// A long frame is gone: whoever waited for it goes on, and nobody overtakes.
    fn release(&mut self, limits: &Limits) {
        self.blocked = Lanes::default();
        for (lane, frame) in std::mem::take(&mut self.behind) {
            let blocked = self.is_blocked(lane);
            self.pass(lane, frame, blocked, limits);
        }
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let Ok(()) = self.outbox.append(|out| {
            write(out);
            Ok::<(), std::convert::Infallible>(())
        });
    }
}

/// Any number of lanes.
#[derive(Debug, Default)]
struct Lanes {
    anyone: bool,
    sessions: BTreeSet<u64>,
}

impl Lanes {
    fn insert(&mut self, lane: Lane) {
        match lane {
            Lane::Alone => {}
            Lane::Anyone | Lane::Last => self.anyone = true,
            Lane::Session(session) => drop(self.sessions.insert(session)),
        }
    }

    /// Whether frames of `lane` keep their order with those of one of these.
    fn meet(&self, lane: Lane) -> bool {
        match lane {
            Lane::Alone => false,
            Lane::Anyone | Lane::Last => self.anyone || !self.sessions.is_empty(),
            Lane::Session(session) => self.anyone || self.sessions.contains(&session),
        }
    }
}

/// Long frames of the peer of which parts are still to come.
#[derive(Debug, Default)]
pub(super) struct Receiving(BTreeMap<u32, Vec<u8>>);

impl Receiving {
    /// Takes a part; the frame, if it is whole with it.
    pub(super) fn take(
        &mut self, (id, last): (u32, bool), part: &[u8], limits: &Limits,
    ) -> Result<Option<Vec<u8>>, LinkEnd> {
        if !self.0.contains_key(&id) && self.0.len() >= limits.link_long_frames_max {
            return Err(LinkEnd::Unexpected);
        }
        let frame = self.0.entry(id).or_default();
        let body_bytes = (frame.len() + part.len()).saturating_sub(link::HEADER_BYTES);
        let body_bytes_max = limits.link_frame_bytes_max;
        if body_bytes > body_bytes_max {
            return Err(FrameError::TooLarge { body_bytes, body_bytes_max }.into());
        }
        frame.extend_from_slice(part);
        Ok(if last { self.0.remove(&id) } else { None })
    }
}

fn is_long(frame: &[u8], limits: &Limits) -> bool {
    frame.len() - link::HEADER_BYTES > limits.link_part_bytes_max
}

/// So that a part with its id is not longer than what goes as one piece.
fn part_bytes(limits: &Limits) -> usize {
    limits.link_part_bytes_max.saturating_sub(size_of::<u32>()).max(1)
}

#[cfg(test)]
mod tests {
    use pitaya_proto::dictionary::Dictionary;

    use super::*;

    #[test]
    fn frames_about_others_go_between_the_parts_of_a_long_one_and_those_about_the_same_behind_it() {
        let mut wire = Wire::new(limits());
        wire.call(Lane::Session(1), "long of 1", 5);
        wire.carry(1);
        wire.call(Lane::Session(2), "of 2", 0);
        wire.call(Lane::Session(1), "of 1", 0);
        wire.call(Lane::Alone, "alone", 0);
        assert_eq!(wire.all(), ["of 2", "alone", "long of 1", "of 1"]);
    }

    #[test]
    fn what_may_be_about_anyone_overtakes_nothing_and_is_not_overtaken() {
        let mut wire = Wire::new(limits());
        wire.call(Lane::Session(1), "long of 1", 5);
        wire.call(Lane::Anyone, "of anyone", 0);
        wire.call(Lane::Session(2), "of 2", 0);
        wire.call(Lane::Alone, "alone", 0);
        assert_eq!(wire.all(), ["alone", "long of 1", "of anyone", "of 2"]);
    }

    #[test]
    fn long_frames_take_turns_and_no_more_of_them_are_on_their_way_than_may() {
        let mut wire = Wire::new(limits().link_long_frames_max(2));
        wire.call(Lane::Session(1), "longest", 11);
        wire.call(Lane::Session(2), "longer", 6);
        wire.call(Lane::Session(3), "long", 2);
        wire.call(Lane::Session(3), "of 3", 0);
        wire.call(Lane::Session(4), "of 4", 0);
        assert_eq!(wire.all(), ["of 4", "longer", "long", "of 3", "longest"]);
        assert_eq!(wire.sending.remaining(), 0);
        assert_eq!(wire.config.counters.count(Counter::LinkFramesParted), 3);
    }

    #[test]
    fn of_a_peer_that_sends_more_than_may_be_no_more_is_kept() {
        let (mut receiving, limits) = (Receiving::default(), limits().link_long_frames_max(2));
        let part = [0; 30];
        assert_eq!(receiving.take((1, false), &part, &limits), Ok(None));
        assert_eq!(receiving.take((2, false), &part, &limits), Ok(None));
        assert_eq!(receiving.take((3, false), &part, &limits), Err(LinkEnd::Unexpected));
        let frames = (0..9).map(|_| receiving.take((1, false), &part, &limits));
        let too_large = FrameError::TooLarge { body_bytes: 206, body_bytes_max: 200 };
        assert_eq!(frames.last(), Some(Err(too_large.into())));
    }

    fn limits() -> Limits {
        Limits::default().link_part_bytes_max(20).link_frame_bytes_max(200)
    }

    /// What one end sends, as the other takes it.
    struct Wire {
        config: ConnConfig,
        sending: Sending,
        receiving: Receiving,
        came: Vec<String>,
    }

    impl Wire {
        fn new(limits: Limits) -> Self {
            let config = ConnConfig::new("json", Dictionary::default(), limits).expect("it fits");
            let (sending, receiving) = (Sending::default(), Receiving::default());
            Self { config, sending, receiving, came: Vec::new() }
        }

        /// A call whose name is filled up to be of so many parts more than one.
        fn call(&mut self, lane: Lane, name: &str, parts: usize) {
            let request = format!("{name}{}", " ".repeat(parts * 16));
            let remaining = std::time::Duration::ZERO;
            let frame = Frame::Call { id: 1, remaining, request: request.as_bytes() };
            assert_eq!(self.sending.send(&frame, lane, &self.config), Ok(()));
        }

        fn carry(&mut self, writes: usize) {
            for _ in 0..writes {
                let outbox = self.sending.outbox(&self.config.limits);
                let bytes = outbox.chunk().to_vec();
                outbox.advance(bytes.len());
                let mut input = &bytes[..];
                while let Some(frame) = link::decode(&mut input, 200).expect("it is a frame") {
                    self.take(&frame);
                }
            }
        }

        fn take(&mut self, frame: &Frame<'_>) {
            if let Frame::Call { request, .. } = frame {
                self.came.push(String::from_utf8_lossy(request).trim().to_owned());
            } else if let Frame::Part { id, last, bytes } = frame {
                let taken = self.receiving.take((*id, *last), bytes, &self.config.limits);
                if let Some(whole) = taken.expect("it is no more than may be") {
                    let frame = link::decode(&mut &whole[..], 200).expect("it is a frame");
                    self.take(&frame.expect("it is whole"));
                }
            }
        }

        fn all(&mut self) -> &[String] {
            while self.sending.remaining() > 0 {
                self.carry(1);
            }
            &self.came
        }
    }
}
