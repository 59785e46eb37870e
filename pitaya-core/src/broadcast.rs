//! A push for many: encoded once for each kind of client that gets it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pitaya_proto::message::{Body, Message, Route};
use pitaya_proto::zlib::Scratch;

/// One push for any number of sessions, to be sent to each with
/// [`Command::Broadcast`](crate::Command::Broadcast).
///
/// The first connection to a kind of client encodes it, and compresses it if that kind can inflate;
/// all others copy the packet.
#[derive(Debug, Eq, PartialEq)]
pub struct Broadcast {
    /// What it is called.
    pub route: Arc<str>,
    /// What is told.
    pub body: Bytes,
    /// By whether the route is a code, and whether the body may be compressed; with the code.
    packets: [OnceLock<(Option<u16>, Vec<u8>)>; 4],
}

impl Broadcast {
    /// A push that nobody got yet.
    pub fn new(route: impl Into<Arc<str>>, body: impl Into<Bytes>) -> Self {
        Self { route: route.into(), body: body.into(), packets: Default::default() }
    }

    /// The packet for clients of this kind; nothing if the wire cannot carry it, or if the server
    /// of the one who encoded it has another dictionary.
    pub(crate) fn packet(
        &self, code: Option<u16>, deflates: bool, scratch: &mut Scratch,
    ) -> Option<&[u8]> {
        let kind = usize::from(code.is_some()) * 2 + usize::from(deflates);
        let (known, packet) = self.packets[kind].get_or_init(|| {
            let plain = &*self.body;
            let body = if deflates { Body::deflate(plain, scratch) } else { Body::Plain(plain) };
            let route = code.map_or(Route::Name(self.route.as_bytes()), Route::Code);
            let mut packet = Vec::new();
            // Whoever finds it empty tries again, and logs why it cannot be written.
            let _ = Message::Push { route, body }.encode_packet(&mut packet);
            (code, packet)
        });
        Some(&**packet).filter(|packet| *known == code && !packet.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_client_has_a_packet_of_its_own_that_is_made_once() {
        let push = Broadcast::new("on.news", vec![b'a'; 300]);
        let scratch = &mut Scratch::new();
        let kinds = [(None, false), (None, true), (Some(2), false), (Some(2), true)];
        let made = kinds.map(|(code, deflates)| push.packet(code, deflates, scratch).unwrap());
        for (at, packet) in made.iter().enumerate() {
            assert!(!made[..at].contains(packet));
        }
        let again = kinds.map(|(code, deflates)| push.packet(code, deflates, scratch).unwrap());
        assert!(made.iter().zip(again).all(|(packet, again)| std::ptr::eq(*packet, again)));
    }

    #[test]
    fn a_packet_with_the_code_of_another_dictionary_is_for_nobody_else() {
        let push = Broadcast::new("on.news", "a");
        assert!(push.packet(Some(2), false, &mut Scratch::new()).is_some());
        assert_eq!(push.packet(Some(3), false, &mut Scratch::new()), None);
    }

    #[test]
    fn what_the_wire_cannot_carry_is_no_packet() {
        let push = Broadcast::new("r".repeat(256), "a");
        assert_eq!(push.packet(None, false, &mut Scratch::new()), None);
    }
}
