//! What tokio itself takes: a task for each connection, one buffer for all of them, one write for
//! each read; no deadlines, limits, sessions or counters.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use crate::limit::Work;

/// Serves every connection to `listener`, for ever.
pub(crate) fn serve<W>(listener: TcpListener, work: W) -> io::Result<()>
where
    W: Work<Session: Send> + Send + 'static,
{
    let (input, output) = (vec![0; BUFFER_BYTES], Vec::with_capacity(BUFFER_BYTES));
    let shared = Arc::new(Mutex::new(Shared { work, input, output }));
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve_one(stream, Arc::clone(&shared)));
        }
    })
}

struct Shared<W> {
    work: W,
    input: Vec<u8>,
    output: Vec<u8>,
}

async fn serve_one<W: Work>(mut stream: TcpStream, shared: Arc<Mutex<Shared<W>>>) {
    let mut session = W::Session::default();
    // What one write did not take, which in the closed loop of the bench never happens.
    while let Ok(unsent) = poll_fn(|cx| turn(&mut stream, &mut session, &shared, cx)).await {
        if stream.write_all(&unsent).await.is_err() {
            return;
        }
    }
}

/// Answers until there is nothing to read, or until a write does not take all.
fn turn<W: Work>(
    stream: &mut TcpStream, session: &mut W::Session, shared: &Mutex<Shared<W>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Vec<u8>>> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let Shared { work, input, output } = &mut *shared;
    loop {
        let mut buffer = ReadBuf::new(input);
        std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
        }
        output.clear();
        let reply = work.answer(session, buffer.filled(), output)?;
        if reply.is_empty() {
            continue;
        }
        let sent = match stream.try_write(reply) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        if sent < reply.len() {
            return Poll::Ready(Ok(reply[sent..].to_vec()));
        }
    }
}

const BUFFER_BYTES: usize = 64 * 1024;
