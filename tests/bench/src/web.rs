//! The frames of WebSocket, as far as the load needs them.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Asks for a WebSocket, and reads the answer up to its last byte.
pub(crate) fn upgrade(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(UPGRADE.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    let right = answer.starts_with(b"HTTP/1.1 101 ");
    if right { Ok(()) } else { Err(io::Error::other("no WebSocket")) }
}

/// Appends a binary message of a client.
pub(crate) fn wrap(message: &[u8], output: &mut Vec<u8>) {
    output.push(FINAL_BINARY);
    match u8::try_from(message.len()) {
        Ok(short @ ..=125) => output.push(MASKED | short),
        Ok(_) | Err(_) => {
            output.push(MASKED | LENGTH_IN_TWO_BYTES);
            output.extend((message.len() as u16).to_be_bytes());
        }
    }
    output.extend(MASK);
    output.extend(message.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The message at the start of `input` as a server sends it, and how long its frame is.
pub(crate) fn first_message(input: &[u8]) -> Option<(&[u8], usize)> {
    let (length, head) = match *input {
        [FINAL_BINARY, LENGTH_IN_TWO_BYTES, high, low, ..] => {
            (usize::from(u16::from_be_bytes([high, low])), 4)
        }
        [FINAL_BINARY, length @ ..=125, ..] => (usize::from(length), 2),
        _ => return None,
    };
    Some((input.get(head..head + length)?, head + length))
}

const UPGRADE: &str = concat!(
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
);
const FINAL_BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x9c, 0x21, 0x5e, 0xe7];
const LENGTH_IN_TWO_BYTES: u8 = 126;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_once_its_frame_is_whole() {
        for length in [0, 125, 126, 1000] {
            let message = vec![7; length];
            let mut masked = Vec::new();
            wrap(&message, &mut masked);
            let head = if length < 126 { 2 } else { 4 };
            let mut frame = masked[..head].to_vec();
            frame[1] &= !MASKED;
            frame.extend(&message);
            assert_eq!(masked.len(), frame.len() + MASK.len());
            assert_eq!(first_message(&frame), Some((&message[..], frame.len())));
            assert_eq!(first_message(&frame[..frame.len() - 1]), None);
        }
    }
}
