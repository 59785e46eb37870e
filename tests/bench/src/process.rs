//! A server under measurement in a process of its own, so that its CPU time and memory are its own.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use clap::ValueEnum;

use crate::targets::{Speech, Target};

/// A target that runs; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    endpoint: Endpoint,
    /// What it hands over to, and so what began before it.
    behind: Option<Box<Self>>,
}

/// Where a server is and how to talk to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    pub(crate) speech: Speech,
}

impl Process {
    /// Starts this program again as `target`, behind which is all that it needs.
    ///
    /// # Errors
    ///
    /// With what the target said, if that was not its address.
    pub(crate) fn start(target: Target) -> io::Result<Self> {
        Self::serve_by(Command::new(std::env::current_exe()?), target)
    }

    /// Starts `target` by way of `wrapper`, a command that becomes what its last arguments say.
    pub(crate) fn start_under(mut wrapper: Command, target: Target) -> io::Result<Self> {
        wrapper.arg(std::env::current_exe()?);
        Self::serve_by(wrapper, target)
    }

    /// Starts clients of `server` that do nothing, in a process of their own: it may open files
    /// too. Returns when all are there.
    pub(crate) fn hold(server: &Endpoint, sessions: usize) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["hold", &server.address.to_string(), &sessions.to_string()]);
        Self::start_by(command, server.speech)
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// This process and all that are behind it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.endpoint.pid];
        pids.extend(self.behind.iter().flat_map(|behind| behind.pids()));
        pids
    }

    fn serve_by(mut command: Command, target: Target) -> io::Result<Self> {
        let behind = target.behind().map(Self::start).transpose()?.map(Box::new);
        command.args(["serve", name(target)?.as_str()]);
        if let Some(behind) = &behind {
            command.args(["--behind", &behind.endpoint.address.to_string()]);
        }
        let mut process = Self::start_by(command, target.speech())?;
        process.behind = behind;
        Ok(process)
    }

    fn start_by(mut command: Command, speech: Speech) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        match address(&mut child) {
            Ok(address) => {
                let endpoint = Endpoint { address, pid: child.id(), speech };
                Ok(Self { child, endpoint, behind: None })
            }
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// What a value is called on the command line.
pub(crate) fn name(value: impl ValueEnum) -> io::Result<String> {
    let value = value.to_possible_value().ok_or_else(|| io::Error::other("hidden value"))?;
    Ok(value.get_name().to_owned())
}

fn address(child: &mut Child) -> io::Result<SocketAddr> {
    let line = first_line(child)?;
    line.parse().map_err(|_| io::Error::other(line))
}

/// The line by which a process says what came of it.
pub(crate) fn first_line(child: &mut Child) -> io::Result<String> {
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no output to read"))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

pub(crate) fn end(child: &mut Child) {
    // It may have ended by itself; then there is nothing left to do.
    let _ = child.kill();
    let _ = child.wait();
}
