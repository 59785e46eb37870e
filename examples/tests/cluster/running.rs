//! Examples that run as processes, and what they say when.

use std::env::current_exe;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Where a gate may listen for others, who have to know it before.
pub(crate) fn seed() -> String {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// An example that runs until this is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Running {
    pub(crate) fn start(example: &str, arguments: &[&str]) -> Self {
        let tests = current_exe().unwrap();
        let program = tests.parent().unwrap().with_file_name("examples").join(example);
        let mut command = Command::new(&program);
        let spawned = command.args(arguments).stdout(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|why| {
            panic!(
                "{}: {why}\n  build it: cargo build -p pitaya-examples --examples",
                program.display()
            )
        });
        let (said, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let heard = output.lines().map_while(Result::ok).map(|line| (Instant::now(), line));
            // What nobody listens to is read all the same, so that it can be said.
            heard.for_each(|line| drop(said.send(line)));
        });
        Self { child, lines }
    }

    /// Waits for a line that has `text`, and gives it.
    pub(crate) fn says(&self, text: &str) -> String {
        self.line(|_, line| line.contains(text)).unwrap_or_else(|| panic!("no `{text}`")).1
    }

    /// The next line that is as it should be, and when it was said, if it comes.
    pub(crate) fn line(&self, is_so: impl Fn(Instant, &str) -> bool) -> Option<(Instant, String)> {
        loop {
            let (at, line) = self.lines.recv_timeout(PATIENCE).ok()?;
            if is_so(at, &line) {
                return Some((at, line));
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        let line = self.says("http://");
        let (_, url) = line.split_once("http").unwrap();
        format!("ws{}", url.split_whitespace().next().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn ends_well(&mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Longer than anything here takes, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
