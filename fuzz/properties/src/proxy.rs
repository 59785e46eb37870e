//! PROXY headers: the same address and the same end however they are cut, never a byte too many.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pitaya_driver::proxy::{Header, parse};

use crate::held_at_most;

/// The input is a byte that chooses how the stream is cut, and the stream.
pub fn proxy(data: &[u8]) {
    let [cut, stream @ ..] = data else { return };
    let whole = Outcome::read(stream, usize::MAX);
    for piece in [1, usize::from(*cut) + 1] {
        whole.agrees_with(&Outcome::read(stream, piece));
    }
    if let Outcome::Read(source, taken) = whole {
        assert_eq!(source, meaning(&stream[..taken]), "{:?}", stream[..taken].escape_ascii());
    }
}

/// What became of a stream, read as it is wanted.
#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    /// The header named this, and ended there.
    Read(Option<SocketAddr>, usize),
    Refused,
    Unfinished,
}

impl Outcome {
    /// At most `piece` bytes come at a time.
    fn read(stream: &[u8], piece: usize) -> Self {
        let mut came = 0;
        loop {
            let (parsed, held) = held_at_most(|| parse(&stream[..came]));
            assert_eq!(held, 0, "parsing a header allocates");
            match parsed {
                Err(_) => return Self::Refused,
                Ok(Header::Whole(source)) => return Self::Read(source, came),
                Ok(Header::Wants(0)) => panic!("wants nothing after {came} bytes"),
                Ok(Header::Wants(wanted)) => {
                    assert!(came + wanted <= HEADER_BYTES_MAX, "{came} and {wanted} more");
                    if came == stream.len() {
                        return Self::Unfinished;
                    }
                    came = stream.len().min(came + wanted.min(piece));
                }
            }
        }
    }

    /// Nonsense may be seen sooner if it comes slower; a header is one or is none.
    fn agrees_with(&self, other: &Self) {
        let is_header = |outcome: &Self| matches!(outcome, Self::Read(..));
        if is_header(self) || is_header(other) {
            assert_eq!(self, other);
        }
    }
}

/// Whom a header names that was taken for one.
fn meaning(header: &[u8]) -> Option<SocketAddr> {
    if header[0] == b'P' {
        return text_meaning(std::str::from_utf8(header).expect("a line of text"));
    }
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    assert_eq!((&header[..12], header.len()), (BINARY_BEGINS, 16 + length));
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    match (header[12], header[13] >> 4) {
        (0x21, 1) => {
            let ip: [u8; 4] = header[16..20].try_into().expect("four bytes");
            Some((Ipv4Addr::from(ip), port(24)).into())
        }
        (0x21, 2) => {
            let ip: [u8; 16] = header[16..32].try_into().expect("sixteen bytes");
            Some((Ipv6Addr::from(ip), port(48)).into())
        }
        (0x20 | 0x21, 0..=3) => None,
        other => panic!("{other:x?} is no header"),
    }
}

fn text_meaning(line: &str) -> Option<SocketAddr> {
    assert!(line.len() <= TEXT_BYTES_MAX, "{} bytes", line.len());
    let line = line.strip_suffix("\r\n").expect("a whole line");
    assert!(!line.contains("\r\n"), "more than a line");
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", kind, source, _, port, _] => {
            let ip: IpAddr = source.parse().expect("an address");
            assert_eq!(kind, if ip.is_ipv4() { "TCP4" } else { "TCP6" });
            Some((ip, port.parse().expect("a port")).into())
        }
        _ => panic!("{line} is no header"),
    }
}

const BINARY_BEGINS: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const HEADER_BYTES_MAX: usize = 536;
const TEXT_BYTES_MAX: usize = 107;
