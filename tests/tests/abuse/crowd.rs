//! A group of all who joined, and what becomes of every push to it.

use pitaya_core::{Group, Session};

use crate::hall::Hall;

/// All who joined, honest or not.
#[derive(Default)]
pub(crate) struct Crowd {
    group: Group,
    /// Each with the number of pushes before it came.
    members: Vec<(Session, u64)>,
    pushed: u64,
    taken: u64,
    to_closed: u64,
}

/// What became of pushes; each counts once for each member.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Accounts {
    /// Taken, as the group says.
    pub(crate) taken: u64,
    /// To sessions that were open in the end.
    pub(crate) to_open: u64,
    /// To sessions that closed, before they did.
    pub(crate) to_closed: u64,
}

/// What one client hears of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ear {
    last: Option<u64>,
    heard: u64,
}

impl Crowd {
    /// Takes in who has come, and pushes so many bytes and a number to everybody.
    pub(crate) fn push(&mut self, hall: &Hall, bytes: usize) {
        for session in hall.lock().unwrap().drain(..) {
            self.group.join(&session);
            self.members.push((session, self.pushed));
        }
        self.part();
        let text = format!("{} {}", self.pushed, "x".repeat(bytes));
        self.taken += self.group.push("onNews", &text).unwrap() as u64;
        self.pushed += 1;
    }

    pub(crate) fn end(mut self) -> Accounts {
        self.part();
        let to_open = self.members.iter().map(|(_, before)| self.pushed - before).sum();
        Accounts { taken: self.taken, to_open, to_closed: self.to_closed }
    }

    /// Forgets who has closed since the last push.
    fn part(&mut self) {
        let (group, pushed, to_closed) = (&self.group, self.pushed, &mut self.to_closed);
        self.members.retain(|(session, before)| {
            let stays = group.contains(session);
            *to_closed += if stays { 0 } else { pushed - before };
            stays
        });
    }
}

impl Ear {
    /// Whether `text` is the push behind the last one.
    pub(crate) fn hear(&mut self, text: &str) -> bool {
        let number = text.trim_start_matches('"').split(' ').next();
        let number = number.and_then(|number| number.parse().ok());
        let follows = self.last.is_none_or(|last| number == Some(last + 1));
        (self.last, self.heard) = (number, self.heard + 1);
        follows && number.is_some()
    }

    pub(crate) fn heard(self) -> u64 {
        self.heard
    }
}
