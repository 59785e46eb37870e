//! The command and a server for it to talk to, both running for real.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio, id};
use std::sync::{OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cargo_metadata::Message;
use nix::pty::openpty;
use pitaya_core::{App, Bytes, Error, Limits, Session};
use pitaya_driver::Tls;
use pitaya_tests::certificate::Certificate;
use pitaya_tokio::Server;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

/// What the command has said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) errors: String,
    pub(crate) output: String,
}

impl Said {
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.output.lines().collect()
    }
}

/// Runs the command to its end.
pub(crate) fn pitaya(args: &[&str], input: &str) -> Said {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that takes no input may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = ended(child);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = status.code().expect("it ends by itself");
    Said { code, errors: text(stderr), output: text(stdout) }
}

/// Runs the command on a terminal: each text that is awaited is followed by what is typed then.
/// Gives the exit code, and all that was shown.
pub(crate) fn type_into_prompt(
    args: &[&str], history: &Path, turns: &[(&str, &str)],
) -> (i32, String) {
    let terminal = openpty(None, None).unwrap();
    let end = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = Command::new(binary());
    command.args(args).stdin(end()).stdout(end()).stderr(end());
    let child =
        command.env("PITAYACLI_HISTORY_PATH", history).env("TERM", "xterm").spawn().unwrap();
    drop((command, terminal.slave));
    let mut master = File::from(terminal.master);
    let shown = read_along(master.try_clone().unwrap());
    let mut all = String::new();
    for (awaited, typed) in turns {
        let mut fresh = String::new();
        while !(fresh.contains(awaited) && fresh.contains("pitaya> ")) {
            let more = shown.recv_timeout(PATIENCE);
            fresh += &more.unwrap_or_else(|_| panic!("no `{awaited}` in {all}{fresh}"));
        }
        all += &fresh;
        master.write_all(typed.as_bytes()).unwrap();
    }
    let code = ended(child).status.code().expect("it ends by itself");
    (code, all)
}

/// What comes from a terminal, as it comes, until it is closed.
fn read_along(mut terminal: File) -> mpsc::Receiver<String> {
    let (show, shown) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = terminal.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if show.send(text).is_err() {
                return;
            }
        }
    });
    shown
}

/// A file for this test alone.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}", id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    // It is there from an earlier run, or not.
    let _ = fs::remove_file(&path);
    path
}

/// A server that runs until this is dropped, with a door of each kind.
pub(crate) struct Hall {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Certificate,
    addresses: Vec<SocketAddr>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Hall {
    pub(crate) fn start() -> Self {
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let certificate = Certificate::localhost();
        let tls = Tls::from_pem(&certificate.chain, &certificate.key).unwrap();
        let serve = async move {
            let server = Server::new("gate", hall())
                .tcp("127.0.0.1:0")
                .tls("127.0.0.1:0", tls.clone())
                .ws("127.0.0.1:0")
                .wss("127.0.0.1:0", tls)
                .dictionary([("hall.coded", 1)])
                .limits(Limits::default().shutdown_timeout(Duration::from_millis(100)))
                .start()
                .await;
            let server = server.unwrap();
            ready.send(server.addresses().to_vec()).unwrap();
            // A sender that was dropped asks for the same.
            let _ = stopped.await;
            server.shutdown().await;
        };
        let thread = thread::spawn(|| pitaya_tokio::block_on(serve).unwrap());
        let addresses = started.recv().expect("the server starts");
        let running = Some((stop, thread));
        Self { address: addresses[0], certificate, addresses, running }
    }

    /// One for each kind of door.
    pub(crate) fn urls(&self) -> Vec<String> {
        let kinds = [("tcp", ""), ("tls", ""), ("ws", "/"), ("wss", "/")].into_iter();
        let doors = kinds.zip(&self.addresses);
        doors.map(|((scheme, path), at)| format!("{scheme}://{at}{path}")).collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        let Some((stop, thread)) = self.running.take() else { return };
        drop(stop);
        let ended = thread.join();
        assert!(ended.is_ok() || thread::panicking(), "the server ends without a panic");
    }
}

fn hall() -> App<()> {
    App::new(())
        .route("hall.coded", async || Ok::<_, Error>(()))
        .route("hall.echo", async |body: Bytes| Ok::<_, Error>(body))
        .route("hall.fail", fail)
        .route("hall.kick", async |session: Session| session.kick("go home"))
        .route("hall.never", async || std::future::pending::<Result<(), Error>>().await)
        .route("hall.push", async |session: Session| session.push("onSeven", &7))
        .route("hall.rude", async || Ok::<_, Error>(Bytes::from_static(b"\x1b[2J")))
        .route("hall.slow", slow)
        .route("hall.who", who)
}

async fn fail() -> Result<(), Error> {
    Err(Error::new("HALL-7", "it is closed").with_metadata("opens", "at 8"))
}

/// Takes 20 ms.
async fn slow() -> Result<(), Error> {
    tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await.ok();
    Ok(())
}

async fn who(
    session: Session,
) -> Result<(String, String, String, Option<Map<String, Value>>), Error> {
    let told = session.handshake();
    let (platform, version) = (told.platform.clone(), told.client_version.clone());
    Ok((platform, version, told.client_build_number.clone(), told.user.clone()))
}

/// The command, built by the first test that needs it.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(build)
}

fn build() -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this test of its own package is news to `ring`, which would be built anew.
    let is_told = |name: &&str| TOLD.iter().any(|start| name.starts_with(start));
    let names: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    for name in names.iter().map(String::as_str).filter(is_told) {
        cargo.env_remove(name);
    }
    cargo.args(["build", "--package", "pitaya-tokio", "--features", "cli", "--bin", "pitaya"]);
    cargo.args(["--quiet", "--message-format", "json"]).stderr(Stdio::inherit());
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let messages = Message::parse_stream(&built.stdout[..]).map(Result::unwrap);
    let mut executables = messages.filter_map(|message| {
        let Message::CompilerArtifact(artifact) = message else { return None };
        artifact.executable
    });
    executables.next().expect("cargo says where it is").into_std_path_buf()
}

fn ended(child: Child) -> Output {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(child.wait_with_output()));
    told.recv_timeout(PATIENCE).expect("the command ends").unwrap()
}

const TOLD: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];
/// Much longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
