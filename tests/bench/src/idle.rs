//! What a session that does nothing costs in memory.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;

use crate::frames::{Frame, Route};
use crate::load;
use crate::machine::anonymous_bytes;
use crate::process::{Endpoint, Process};
use crate::targets::Target;

/// Anonymous memory of the server per session, bound to a uid by its one request.
pub(crate) fn session_bytes(target: Target, sessions: usize) -> io::Result<f64> {
    let process = Process::start(target)?;
    let server = process.endpoint();
    // The first sessions also pay for what all share.
    let early = used(server, 0..SESSIONS_EARLY)?;
    let before = anonymous_bytes(server.pid)?;
    let idle = used(server, SESSIONS_EARLY..SESSIONS_EARLY + sessions as u32)?;
    let grown = anonymous_bytes(server.pid)?.saturating_sub(before);
    drop((early, idle));
    Ok(grown as f64 / sessions as f64)
}

/// Connections that have each asked once, as user `n`, and been answered.
fn used(server: &Endpoint, users: Range<u32>) -> io::Result<Vec<TcpStream>> {
    let (mut request, mut expected) =
        (Frame::request(Route::Bind), server.speech.reply(Route::Bind));
    users
        .map(|n| {
            let mut stream = load::open(server)?;
            stream.write_all(request.stamped(n))?;
            let expected = expected.stamped(n);
            let mut reply = vec![0; expected.len()];
            stream.read_exact(&mut reply)?;
            if reply == expected { Ok(stream) } else { Err(io::Error::other("wrong reply")) }
        })
        .collect()
}

const SESSIONS_EARLY: u32 = 200;
