//! What a session that does nothing costs in memory.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;

use bytes::Bytes;
use pitaya_tokio::Client;

use crate::frames::{Frame, Route};
use crate::load;
use crate::machine::anonymous_bytes;
use crate::process::{Endpoint, Process};
use crate::targets::{Speech, Target};

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

/// The same over the layers that `scheme` names, with clients of this project in this process.
pub(crate) fn layered_session_bytes(
    target: Target, scheme: &str, sessions: usize,
) -> io::Result<f64> {
    let process = Process::start(target)?;
    let Endpoint { address, pid, .. } = *process.endpoint();
    let url = format!("{scheme}://localhost:{}", address.port());
    pitaya_tokio::block_on(async {
        let early = clients(&url, 0..SESSIONS_EARLY).await?;
        let before = anonymous_bytes(pid)?;
        let idle = clients(&url, SESSIONS_EARLY..SESSIONS_EARLY + sessions as u32).await?;
        let grown = anonymous_bytes(pid)?.saturating_sub(before);
        drop((early, idle));
        Ok(grown as f64 / sessions as f64)
    })?
}

async fn clients(url: &str, users: Range<u32>) -> io::Result<Vec<Client>> {
    let (mut clients, mut frame) = (Vec::new(), Frame::request(Route::Bind));
    for n in users {
        let client = Client::builder(url).insecure_trusting_anybody().connect().await;
        let client = client.map_err(io::Error::other)?;
        let body = Bytes::copy_from_slice(frame.body(n));
        let reply = client.request_raw(Route::Bind.name(), body.clone()).await;
        if reply.map_err(io::Error::other)? != body {
            return Err(io::Error::other("wrong reply"));
        }
        clients.push(client);
    }
    Ok(clients)
}

/// All anonymous memory of as many servers as it takes to hold `sessions`: by default one takes
/// 16,384, and no process may open many more files than that.
pub(crate) fn crowd_bytes(target: Target, sessions: usize) -> io::Result<f64> {
    let each = sessions.div_ceil(CROWD_SERVERS);
    let mut servers = Vec::new();
    for _ in 0..CROWD_SERVERS {
        let server = Process::start(target)?;
        let clients = Process::hold(server.endpoint(), each)?;
        servers.push((server, clients));
    }
    let bytes = servers.iter().map(|(server, _)| anonymous_bytes(server.endpoint().pid));
    Ok(bytes.sum::<io::Result<u64>>()? as f64)
}

/// Opens `sessions` to the server at `address`, says so, and holds them until the one who started
/// this process has enough of it.
pub(crate) fn hold(address: SocketAddr, sessions: u32) -> io::Result<()> {
    let server = Endpoint { address, pid: 0, speech: Speech::Pitaya };
    let held = used(&server, 0..sessions)?;
    println!("{address}");
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(())
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
const CROWD_SERVERS: usize = 4;
