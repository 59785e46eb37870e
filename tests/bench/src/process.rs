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
}

/// Where a server is and how to talk to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    pub(crate) speech: Speech,
}

impl Process {
    /// Starts this program again as `target`.
    ///
    /// # Errors
    ///
    /// With what the target said, if that was not its address.
    pub(crate) fn start(target: Target) -> io::Result<Self> {
        Self::start_by(Command::new(std::env::current_exe()?), target)
    }

    /// Starts `target` by way of `wrapper`, a command that becomes what its last arguments say.
    pub(crate) fn start_under(mut wrapper: Command, target: Target) -> io::Result<Self> {
        wrapper.arg(std::env::current_exe()?);
        Self::start_by(wrapper, target)
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn start_by(mut command: Command, target: Target) -> io::Result<Self> {
        let value = target.to_possible_value().ok_or_else(|| io::Error::other("hidden target"))?;
        command.args(["serve", value.get_name()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        match first_line(&mut child) {
            Ok(address) => {
                let endpoint = Endpoint { address, pid: child.id(), speech: target.speech() };
                Ok(Self { child, endpoint })
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

fn end(child: &mut Child) {
    // It may have ended by itself; then there is nothing left to do.
    let _ = child.kill();
    let _ = child.wait();
}

fn first_line(child: &mut Child) -> io::Result<SocketAddr> {
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no output to read"))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    line.trim().parse().map_err(|_| io::Error::other(line.trim().to_owned()))
}
