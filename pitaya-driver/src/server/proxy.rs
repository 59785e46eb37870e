//! The header in which a proxy says for whom it connects: PROXY protocol, versions 1 and 2, read
//! by the task of the connection and never past the header's end.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use futures_io::AsyncRead;
use ppp::{v1, v2};

/// Reads the header; the address it names, or none if it names none.
///
/// # Errors
///
/// The stream fails or ends, or what comes is no header.
pub(super) async fn read_source(
    io: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::new();
    loop {
        match parse(&header).map_err(invalid)? {
            Header::Wants(count) => {
                let mut bytes = [0; HEADER_BYTES_MAX];
                let count = poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut bytes[..count]));
                match count.await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => header.extend_from_slice(&bytes[..count]),
                }
            }
            Header::Whole(source) => return Ok(source),
        }
    }
}

/// How much of a header there is.
#[derive(Debug, Eq, PartialEq)]
pub enum Header {
    /// At least so many bytes more belong to it.
    Wants(usize),
    /// It is whole, and names this address.
    Whole(Option<SocketAddr>),
}

/// Looks at the bytes of a header that came so far, and at nothing after it as long as no more is
/// offered than was wanted.
///
/// # Errors
///
/// It is no header, or too long a one.
pub fn parse(bytes: &[u8]) -> Result<Header, &'static str> {
    let common = bytes.len().min(v2::PROTOCOL_PREFIX.len());
    if bytes.is_empty() {
        Ok(Header::Wants(SHORTEST_BYTES))
    } else if bytes[..common] == v2::PROTOCOL_PREFIX[..common] {
        parse_binary(bytes)
    } else {
        parse_text(bytes)
    }
}

fn parse_binary(bytes: &[u8]) -> Result<Header, &'static str> {
    let Some(&[high, low]) = bytes.get(LENGTH_AT..FIXED_BYTES) else {
        return Ok(Header::Wants(FIXED_BYTES - bytes.len()));
    };
    let whole = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if whole > HEADER_BYTES_MAX {
        return Err("a PROXY header of version 2 that is too long");
    }
    if bytes.len() < whole {
        return Ok(Header::Wants(whole - bytes.len()));
    }
    let header = v2::Header::try_from(bytes).map_err(|_| "a bad PROXY header of version 2")?;
    Ok(Header::Whole(match (header.command, header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(from)) => {
            Some(address(from.source_address, from.source_port))
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(from)) => {
            Some(address(from.source_address, from.source_port))
        }
        // A health check of the proxy itself, or a client that has no such address.
        (v2::Command::Local, _) | (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
    }))
}

fn parse_text(bytes: &[u8]) -> Result<Header, &'static str> {
    let common = bytes.len().min(v1::PROTOCOL_PREFIX.len());
    if bytes[..common] != v1::PROTOCOL_PREFIX.as_bytes()[..common] {
        return Err("no PROXY header");
    }
    if !bytes.ends_with(b"\r\n") {
        let wants = if bytes.ends_with(b"\r") { 1 } else { 2 };
        let shortest = SHORTEST_BYTES.saturating_sub(bytes.len());
        let fits = bytes.len() + wants <= TEXT_BYTES_MAX;
        return if fits {
            Ok(Header::Wants(wants.max(shortest)))
        } else {
            Err("a PROXY header of version 1 that does not end")
        };
    }
    let header = v1::Header::try_from(bytes).map_err(|_| "a bad PROXY header of version 1")?;
    Ok(Header::Whole(match header.addresses {
        v1::Addresses::Tcp4(from) => Some(address(from.source_address, from.source_port)),
        v1::Addresses::Tcp6(from) => Some(address(from.source_address, from.source_port)),
        v1::Addresses::Unknown => None,
    }))
}

fn address(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The shortest header there is: `PROXY UNKNOWN` and the end of the line.
const SHORTEST_BYTES: usize = 15;
/// The longest header of version 1, by its specification.
const TEXT_BYTES_MAX: usize = 107;
/// Where version 2 says how long the rest is, and where that rest begins.
const LENGTH_AT: usize = 14;
const FIXED_BYTES: usize = 16;
/// The longest header of version 2 that every receiver has to take, by its specification.
const HEADER_BYTES_MAX: usize = 536;

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers a header as it is wanted; what it names, and how much of the input it took.
    fn taken(input: &[u8]) -> Result<(Option<SocketAddr>, usize), &'static str> {
        let mut offered = 0;
        loop {
            match parse(&input[..offered])? {
                Header::Whole(source) => return Ok((source, offered)),
                Header::Wants(0) => panic!("wants nothing, yet is not whole"),
                Header::Wants(count) if offered + count > input.len() => return Err("truncated"),
                Header::Wants(count) => offered += count,
            }
        }
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend_from_slice(&[0x20 | command, family]);
        header.extend_from_slice(&u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend_from_slice(rest);
        header
    }

    #[test]
    fn the_text_header_names_the_client_and_is_not_read_past() {
        let header = b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n";
        let input = [&header[..], b"\x01\x00\x00\x02{}"].concat();
        let source = "203.0.113.7:56324".parse().ok();
        assert_eq!(taken(&input), Ok((source, header.len())));
        let header = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n";
        assert_eq!(taken(header), Ok(("[2001:db8::1]:1".parse().ok(), header.len())));
    }

    #[test]
    fn the_binary_header_names_the_client_and_is_not_read_past() {
        let rest = [203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb, 4, 0, 1, 9];
        let header = binary(1, 0x11, &rest);
        let input = [&header[..], b"GET /"].concat();
        assert_eq!(taken(&input), Ok(("203.0.113.7:56324".parse().ok(), header.len())));
    }

    #[test]
    fn a_header_may_name_nobody() {
        assert_eq!(taken(b"PROXY UNKNOWN\r\n"), Ok((None, 15)));
        assert_eq!(taken(b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n"), Ok((None, 31)));
        assert_eq!(taken(&binary(0, 0, &[])), Ok((None, 16)));
        let local = binary(0, 0x11, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(taken(&local), Ok((None, 28)));
    }

    #[test]
    fn what_is_no_header_is_told_from_its_first_bytes() {
        assert!(parse(b"\x16").is_err());
        assert!(parse(b"GET / HTTP/1.1").is_err());
        assert!(parse(b"\x01\x00\x00\x02{}").is_err());
        assert!(parse(b"\r\n\r\n\0\r\nQUIX").is_err());
    }

    #[test]
    fn a_header_that_is_too_long_is_refused() {
        let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
        assert!(taken(&endless).is_err());
        assert!(taken(&binary(1, 0, &[0; 521])).is_err());
        assert!(taken(&binary(1, 0, &[4, 2, 5].repeat(0))).is_ok());
    }

    #[test]
    fn a_header_with_nonsense_inside_is_refused() {
        assert!(taken(b"PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n").is_err());
        assert!(taken(b"PROXY TCP4 1.2.3.4 4.5.6.7 1 99999\r\n").is_err());
        assert!(taken(&binary(7, 0x11, &[0; 12])).is_err());
        assert!(taken(&binary(1, 0x11, &[0; 3])).is_err());
    }
}
