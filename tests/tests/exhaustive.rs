//! Every message of at most three bytes, against a decoder written from the protocol's text alone.

use pitaya_proto::message::{Body, Message, Route};

#[test]
fn short_messages_mean_what_the_protocol_says() {
    // Unoptimised, a stride below 256 still meets every pair of first bytes.
    let stride = if cfg!(debug_assertions) { 127 } else { 1 };
    let (mut accepted, mut refused) = (0_u32, 0_u32);
    let mut compare = |bytes: &[u8]| {
        let expected = reference::decode(bytes);
        assert_eq!(ours(bytes), expected, "{bytes:02x?}");
        *if expected.is_some() { &mut accepted } else { &mut refused } += 1;
    };
    compare(&[]);
    (0..=u8::MAX).for_each(|byte| compare(&[byte]));
    (0..=u16::MAX).for_each(|pair| compare(&pair.to_be_bytes()));
    for triple in (0..1_u32 << 24).step_by(stride) {
        compare(&triple.to_be_bytes()[1..]);
    }
    println!("messages of at most three bytes: {accepted} accepted, {refused} refused");
    let all = 1 + (1 << 8) + (1 << 16) + (1_u32 << 24).div_ceil(stride as u32);
    assert_eq!(accepted + refused, all);
    assert!(accepted > 0 && refused > 0);
}

fn ours(bytes: &[u8]) -> Option<reference::Meaning<'_>> {
    let (kind, id, error, route, body) = match Message::decode(bytes).ok()? {
        Message::Request { id, route, body } => (0, Some(id), false, Some(route), body),
        Message::Notify { route, body } => (1, None, false, Some(route), body),
        Message::Response { id, error, body } => (2, Some(id), error, None, body),
        Message::Push { route, body } => (3, None, false, Some(route), body),
    };
    let (code, name) = match route {
        Some(Route::Code(code)) => (Some(code), None),
        Some(Route::Name(name)) => (None, Some(name)),
        None => (None, None),
    };
    let zlib = matches!(body, Body::Zlib(_));
    Some(reference::Meaning { kind, id, error, zlib, code, name, body: body.bytes() })
}

/// The message layer once more, read byte by byte in the order of the text.
mod reference {
    #[derive(Debug, PartialEq)]
    pub(super) struct Meaning<'a> {
        pub(super) kind: u8,
        pub(super) id: Option<u64>,
        pub(super) error: bool,
        pub(super) zlib: bool,
        pub(super) code: Option<u16>,
        pub(super) name: Option<&'a [u8]>,
        pub(super) body: &'a [u8],
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Meaning<'_>> {
        if bytes.len() < 2 {
            return None;
        }
        let flag = bytes[0];
        let kind = flag / 2 % 8;
        let mut at = 1;
        let (mut id, mut code, mut name) = (None, None, None);
        if kind > 3 {
            return None;
        }
        if kind == 0 || kind == 2 {
            let (value, length) = varint(&bytes[at..])?;
            id = Some(value);
            at += length;
        }
        if kind != 2 && flag % 2 == 1 {
            if bytes.len() < at + 2 {
                return None;
            }
            code = Some(u16::from(bytes[at]) * 256 + u16::from(bytes[at + 1]));
            at += 2;
        } else if kind != 2 {
            if bytes.len() < at + 1 || bytes.len() < at + 1 + usize::from(bytes[at]) {
                return None;
            }
            let end = at + 1 + usize::from(bytes[at]);
            name = Some(&bytes[at + 1..end]);
            at = end;
        }
        let error = kind == 2 && flag / 32 % 2 == 1;
        Some(Meaning { kind, id, error, zlib: flag / 16 % 2 == 1, code, name, body: &bytes[at..] })
    }

    fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
        let length = 1 + bytes.iter().position(|byte| *byte < 128)?;
        let groups = bytes[..length].iter().rev().map(|byte| u128::from(byte % 128));
        let value = groups.fold(0, |value, group| value * 128 + group);
        if length > 10 { None } else { Some((u64::try_from(value).ok()?, length)) }
    }
}
