//! What it costs that one server calls another: the process that calls, in as many ways as there
//! are servers to answer.

pub(crate) mod grpc;
mod load;
pub(crate) mod mux;
pub(crate) mod nats;
mod pitaya;
pub(crate) mod same_work;
pub(crate) mod streams;

use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use clap::{Args, ValueEnum};

use crate::cluster::Carrier;
use crate::load::Outcome;
use crate::process::{self, Process};
use crate::targets::Target;

/// How a server calls another.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Way {
    /// gRPC by tonic, unary, without TLS
    Grpc,
    /// Frames of a link over TCP, with bare bodies
    Mux,
    /// The same frames over our QUIC
    MuxOverQuic,
    /// The limit: the same with all that a call of ours has to have
    MuxSameWork,
    /// Requests through a NATS server
    Nats,
    /// A remote of Pitaya
    Pitaya,
    /// A remote of Pitaya whose link is plain TCP
    PitayaOverPlain,
    /// A stream of QUIC for each call
    QuicStreams,
}

/// What a process that calls is to do.
#[derive(Args, Clone, Debug)]
pub(crate) struct Order {
    way: Way,
    address: SocketAddr,
    /// Calls that wait for their reply at any time
    #[arg(long)]
    in_flight: u64,
    /// Calls that are measured; a fifth as many warm up before
    #[arg(long)]
    calls: u64,
    /// Whose CPU time counts beside its own
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

impl Way {
    /// Who answers.
    pub(crate) fn target(self) -> Target {
        match self {
            Self::Grpc => Target::Grpc,
            Self::Mux => Target::Mux,
            Self::MuxOverQuic => Target::MuxOverQuic,
            Self::MuxSameWork => Target::MuxSameWork,
            Self::Nats => Target::Nats,
            Self::Pitaya => Target::PitayaRoom,
            Self::PitayaOverPlain => Target::PitayaRoomOverPlain,
            Self::QuicStreams => Target::QuicStreams,
        }
    }
}

/// Has `calls` calls made, of which `in_flight` wait at any time, and says what each cost both
/// sides, and whoever is between them.
pub(crate) fn measure(way: Way, in_flight: u64, calls: u64) -> io::Result<Outcome> {
    let answers = Process::start(way.target())?;
    let pids: Vec<_> = answers.pids().iter().map(u32::to_string).collect();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["call", &process::name(way)?, &answers.endpoint().address.to_string()]);
    command.args(["--in-flight", &in_flight.to_string(), "--calls", &calls.to_string()]);
    command.args(["--pids", &pids.join(",")]).stdout(Stdio::piped());
    let mut caller = Caller(command.spawn()?);
    let line = process::first_line(&mut caller.0)?;
    outcome(&line).ok_or_else(|| io::Error::other(line))
}

impl Order {
    /// Makes the calls and prints what came of it.
    pub(crate) fn carry_out(&self) -> io::Result<()> {
        let Outcome { request_us, checked, errors } = match self.way {
            Way::Grpc => grpc::call(self),
            Way::Mux => mux::call(self),
            Way::MuxOverQuic => mux::call_over_quic(self),
            Way::MuxSameWork => same_work::call(self),
            Way::Nats => nats::call(self),
            Way::Pitaya => pitaya::call(self, Carrier::Quic),
            Way::PitayaOverPlain => pitaya::call(self, Carrier::Plain),
            Way::QuicStreams => streams::call(self),
        }?;
        println!("{request_us} {checked} {errors}");
        Ok(())
    }
}

/// What `carry_out` has printed.
fn outcome(line: &str) -> Option<Outcome> {
    let mut words = line.split(' ');
    let outcome = Outcome {
        request_us: words.next()?.parse().ok()?,
        checked: words.next()?.parse().ok()?,
        errors: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(outcome)
}

/// The process that calls; dropping it ends it.
struct Caller(Child);

impl Drop for Caller {
    fn drop(&mut self) {
        process::end(&mut self.0);
    }
}

/// Has whoever `answer`s called: each call gets its own body back, those of the warm-up too.
#[cfg(test)]
fn expect_own_answers(
    answer: fn(std::net::TcpListener) -> io::Result<()>,
    (way, call): (Way, fn(&Order) -> io::Result<Outcome>), in_flight: u64, calls: u64,
) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || answer(listener));
    let order = Order { way, address, in_flight, calls, pids: Vec::new() };
    let outcome = call(&order).expect("it is answered");
    assert_eq!((outcome.checked, outcome.errors), (calls + calls / 5, 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_prints_is_an_outcome_or_a_reason() {
        let read = outcome("1.25 120 3").unwrap();
        assert_eq!((read.request_us, read.checked, read.errors), (1.25, 120, 3));
        assert!(outcome("the room does not come").is_none());
        assert!(outcome("1.25 120").is_none());
        assert!(outcome("1.25 120 3 4").is_none());
    }
}
