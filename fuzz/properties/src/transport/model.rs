//! What frames mean, by the rules alone: nothing here is cut, masked or kept for later.

use super::Ending;

/// What a server heard that reads one frame after another.
pub(super) struct Model {
    pub(super) plain: Vec<u8>,
    pub(super) end: Ending,
    /// Whether it is text, and what came of it.
    unfinished: Option<(bool, Vec<u8>)>,
    message_bytes_max: usize,
}

impl Model {
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self { plain: Vec::new(), end: Ending::Open, unfinished: None, message_bytes_max }
    }

    pub(super) fn hear(&mut self, first: u8, masked: bool, body: &[u8]) {
        if self.end == Ending::Open {
            let is_final = first & 0x80 != 0;
            let is_legal = masked && first & 0x70 == 0 && body.len() <= self.message_bytes_max;
            let heard = is_legal && self.hear_frame(first & 0x0f, is_final, body);
            if !heard {
                self.end = Ending::Failed;
            }
        }
    }

    /// Whether it is as it should be.
    fn hear_frame(&mut self, opcode: u8, is_final: bool, body: &[u8]) -> bool {
        let is_control = is_final && body.len() <= CONTROL_BYTES_MAX;
        match (opcode, &mut self.unfinished) {
            (0, Some((_, message))) => message.extend_from_slice(body),
            (1 | 2, unfinished @ None) => *unfinished = Some((opcode == 1, body.to_vec())),
            (8, _) if is_control => {
                self.end = Ending::Ended;
                return body.len() != 1
                    && std::str::from_utf8(body.get(2..).unwrap_or_default()).is_ok();
            }
            (9 | 10, _) => return is_control,
            _ => return false,
        }
        let Some((is_text, message)) = &self.unfinished else { return false };
        let is_readable = match std::str::from_utf8(message) {
            Ok(_) => true,
            Err(error) => !is_text || (!is_final && error.error_len().is_none()),
        };
        is_readable && message.len() <= self.message_bytes_max && (!is_final || self.finish())
    }

    /// A whole message: packets, at least one, and nothing beside them.
    fn finish(&mut self) -> bool {
        let (_, message) = self.unfinished.take().unwrap_or_default();
        let is_packets = !message.is_empty() && packets_end(&message) == Some(message.len());
        if is_packets {
            self.plain.extend_from_slice(&message);
        }
        is_packets
    }
}

/// Where the last packet ends, if it is whole.
fn packets_end(message: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < message.len() {
        let header = message.get(at..at + 4)?;
        at += 4 + usize::from(header[1]) * 0x1_0000 + usize::from(header[2]) * 0x100;
        at += usize::from(header[3]);
    }
    Some(at)
}

const CONTROL_BYTES_MAX: usize = 125;
