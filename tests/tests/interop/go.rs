//! The Go program: built once, and its server as a process that ends with its test.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cases::{Settings, Transport};
use crate::certificate;
use crate::table;

/// The program, or nothing on a machine without Go. Says so then, but for CI, where it panics.
pub(crate) fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
    let built = Command::new("go")
        .args(["build", "-o"])
        .args([program.as_os_str(), "./".as_ref()])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/go"))
        .env("CGO_ENABLED", "0")
        .output();
    match built {
        Ok(built) => {
            let text = String::from_utf8_lossy(&built.stderr);
            assert!(built.status.success(), "the Go program does not build:\n{text}");
            Some(program)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            table::skip("go", "there is no `go`");
            None
        }
        Err(error) => panic!("`go` does not start: {error}"),
    }
}

/// How a server in Go is started.
#[derive(Clone, Copy)]
pub(crate) struct Go {
    pub(crate) program: &'static Path,
    pub(crate) transport: Transport,
}

/// Pitaya's own server, with the handlers of `tests/interop/README.md`.
pub(crate) struct Server {
    url: String,
    process: Child,
}

impl Server {
    pub(crate) fn start(go: Go, settings: Settings) -> Self {
        let on = |on| if on { "on" } else { "off" };
        let shown = certificate::shown();
        let mut process = Command::new(go.program)
            .args(["server", "--addr", "127.0.0.1:0", "--heartbeat", "1s"])
            .args(["--transport", go.transport.name()])
            .args(["--cert".as_ref(), shown.file.as_os_str()])
            .args(["--key".as_ref(), shown.key_file.as_os_str()])
            .args(["--serializer", settings.serializer.name()])
            .args(["--compression", on(settings.compression)])
            .args(["--dictionary", on(settings.dictionary)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program was just built");
        let mut line = String::new();
        let output = process.stdout.as_mut().expect("asked for");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("LISTENING ").expect("it listens").to_owned();
        Self { url: format!("{}://{address}", go.transport.name()), process }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Stops it in its tracks; its sockets stay open and are served by nobody.
    pub(crate) fn suspend(&self) {
        let pid = Pid::from_raw(self.process.id().try_into().expect("a pid is positive"));
        kill(pid, Signal::SIGSTOP).expect("the process is ours");
    }

    /// Ends it at once; the system closes its sockets.
    pub(crate) fn end(&mut self) {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
