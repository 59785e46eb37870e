//! What is written first where memory is of no concern: two tasks, a channel, a buffer of 4 KB and
//! a session for each connection.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use crate::frames::Msg;
use crate::limit::Work;
use crate::same_work::{Partial, SameWork};

/// Serves every connection to `listener`, for ever.
pub(crate) fn serve(listener: TcpListener, work: SameWork) -> io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let work = Arc::new(Mutex::new(work));
        loop {
            let (stream, _) = listener.accept().await?;
            start(stream, &work);
        }
    })
}

fn start(stream: TcpStream, work: &Arc<Mutex<SameWork>>) {
    let (reader, writer) = stream.into_split();
    let (answers, taken) = mpsc::channel(ANSWERS_MAX);
    tokio::spawn(read(reader, Arc::clone(work), answers));
    tokio::spawn(write(writer, taken));
}

async fn read(
    mut reader: OwnedReadHalf, work: Arc<Mutex<SameWork>>, answers: mpsc::Sender<Vec<u8>>,
) {
    let (mut buffer, mut partial) = (vec![0; BUFFER_BYTES], Partial::default());
    let mut session = Session::default();
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        let mut answer = Vec::new();
        let answered = {
            let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
            work.answer(&mut partial, &buffer[..count], &mut answer).is_ok()
        };
        session.bind(&answer);
        if !answered || answers.send(answer).await.is_err() {
            break;
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut answers: mpsc::Receiver<Vec<u8>>) {
    while let Some(answer) = answers.recv().await {
        if writer.write_all(&answer).await.is_err() {
            break;
        }
    }
}

/// What the handler of a bind keeps.
#[derive(Default)]
struct Session {
    uid: String,
    data: HashMap<String, Value>,
}

impl Session {
    /// Whoever gets an answer to a request is the user that it names.
    fn bind(&mut self, answer: &[u8]) {
        let body = answer.iter().position(|byte| *byte == b'{').map(|at| &answer[at..]);
        if let Some(Ok(msg)) = body.map(serde_json::from_slice::<Msg>) {
            self.uid = format!("player-{}", msg.seq);
            self.data.insert("level".to_owned(), (msg.seq % 100).into());
            self.data.insert("name".to_owned(), msg.name.into());
        }
        std::hint::black_box((&self.uid, &self.data));
    }
}

const BUFFER_BYTES: usize = 4096;
const ANSWERS_MAX: usize = 128;
