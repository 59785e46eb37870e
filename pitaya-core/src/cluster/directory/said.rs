//! What a frontend and a home say to each other, as it travels.

use std::sync::Arc;
use std::time::Duration;

use pitaya_proto::link::{Seat, SeatStep};

use super::{Answer, Ask, Epoch, Login};
use crate::SessionId;

/// One thing that is said about a user id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// By the home.
    Answer(Answer),
    /// To the home.
    Ask(Ask),
}

impl Said {
    /// As it travels.
    pub(crate) fn into_seat(self) -> Seat {
        match self {
            Self::Answer(Answer::Dropped(login)) => seat(SeatStep::Dropped, login),
            Self::Answer(Answer::Granted(login)) => seat(SeatStep::Granted, login),
            Self::Answer(Answer::Held(login)) => seat(SeatStep::Held, login),
            Self::Answer(Answer::Lost(login)) => seat(SeatStep::Lost, login),
            Self::Answer(Answer::Refused { session, uid, wait }) => {
                let login = Login { epoch: Epoch::default(), session, uid };
                let wait_micros = wait.as_micros().try_into().unwrap_or(u64::MAX);
                Seat { wait_micros, ..seat(SeatStep::Refused, login) }
            }
            Self::Ask(Ask::Announce(login)) => seat(SeatStep::Announce, login),
            Self::Ask(Ask::Claim { after, session, uid }) => {
                seat(SeatStep::Claim, Login { epoch: after, session, uid })
            }
            Self::Ask(Ask::Release(login)) => seat(SeatStep::Release, login),
        }
    }

    /// What came; `None` if it makes no sense.
    pub(crate) fn of_seat(seat: Seat, uid_bytes_max: usize) -> Option<Self> {
        let step = SeatStep::try_from(seat.step).ok()?;
        if seat.uid.is_empty() || seat.uid.len() > uid_bytes_max {
            return None;
        }
        let (epoch, session) = (Epoch::new(seat.epoch), SessionId(seat.session));
        let uid: Arc<str> = seat.uid.into();
        let login = Login { epoch, session, uid: Arc::clone(&uid) };
        Some(match step {
            SeatStep::Announce => Self::Ask(Ask::Announce(login)),
            SeatStep::Claim => Self::Ask(Ask::Claim { after: epoch, session, uid }),
            SeatStep::Release => Self::Ask(Ask::Release(login)),
            SeatStep::Dropped => Self::Answer(Answer::Dropped(login)),
            SeatStep::Granted => Self::Answer(Answer::Granted(login)),
            SeatStep::Held => Self::Answer(Answer::Held(login)),
            SeatStep::Lost => Self::Answer(Answer::Lost(login)),
            SeatStep::Refused => {
                let wait = Duration::from_micros(seat.wait_micros);
                Self::Answer(Answer::Refused { session, uid, wait })
            }
        })
    }
}

fn seat(step: SeatStep, login: Login) -> Seat {
    let Login { epoch, session, uid } = login;
    let (epoch, session, uid) = (epoch.number(), session.number(), uid.to_string());
    Seat { step: step.into(), uid, session, epoch, wait_micros: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_said_arrives_as_it_was_meant() {
        let (session, uid) = (SessionId(7), Arc::from("ann"));
        let login = || Login { epoch: Epoch::new(9), session, uid: Arc::clone(&uid) };
        let wait = Duration::from_micros(11);
        for said in [
            Said::Ask(Ask::Announce(login())),
            Said::Ask(Ask::Claim { after: Epoch::new(3), session, uid: Arc::clone(&uid) }),
            Said::Ask(Ask::Release(login())),
            Said::Answer(Answer::Dropped(login())),
            Said::Answer(Answer::Granted(login())),
            Said::Answer(Answer::Held(login())),
            Said::Answer(Answer::Lost(login())),
            Said::Answer(Answer::Refused { session, uid: Arc::clone(&uid), wait }),
        ] {
            assert_eq!(Said::of_seat(said.clone().into_seat(), 3), Some(said));
        }
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        let legal = Seat { step: 0, uid: "ann".into(), ..Seat::default() };
        assert!(Said::of_seat(legal.clone(), 3).is_some());
        for seat in [
            Seat { step: 8, ..legal.clone() },
            Seat { uid: String::new(), ..legal.clone() },
            Seat { uid: "anna".into(), ..legal },
        ] {
            assert_eq!(Said::of_seat(seat, 3), None);
        }
    }
}
