//! Ratios against the limits of the machine.
//!
//! The bench runs a limit and Pitaya in turns, each in a process of its own, all on one core, and
//! prints the ratios of the CPU time that they use for the same requests. It needs Linux.

mod alone;
mod bare_tokio;
mod beats;
mod calls;
mod cluster;
mod decode;
mod fan_out;
mod frames;
mod go;
mod goals;
mod idle;
mod limit;
mod load;
mod machine;
mod process;
mod report;
mod rounds;
mod same_work;
mod spread;
mod syscalls;
mod table;
mod targets;
mod two_tasks;
mod web;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::table::Page;
use crate::targets::Target;

/// Measures Pitaya against the limits of this machine and prints a table.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Action>,
    /// The core that everything runs on
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Measure only goals whose names begin so, such as R or M1
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    only: String,
    /// A tenth of the work, to see whether it works
    #[arg(long)]
    quick: bool,
    /// How often everything is measured
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Also put the table between the markers of this file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Call another server as often as asked, and print what that cost all of them
    Call(calls::Order),
    /// Be clients that do nothing, until the process that started this one ends
    Hold { address: SocketAddr, sessions: u32 },
    /// Be one of the servers, until the process that started this one ends
    Serve {
        target: Target,
        /// Where the one is that it needs
        #[arg(long)]
        behind: Option<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Some(Action::Call(order)) => part(|| order.carry_out()),
        Some(Action::Hold { address, sessions }) => part(|| idle::hold(address, sessions)),
        Some(Action::Serve { target, behind }) => part(|| target.serve(behind)),
        None => bench(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

/// The one who started this process reads its first line: an address or a reason.
fn part(play: impl FnOnce() -> io::Result<()>) -> io::Result<ExitCode> {
    machine::end_with_parent()?;
    if let Err(error) = play() {
        println!("{error}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn bench(args: &Args) -> io::Result<ExitCode> {
    // A page without a place for the table is better known before the minutes of measuring.
    let page = args.write.as_deref().map(Page::open).transpose()?;
    machine::pin(args.core)?;
    let shrink = if args.quick { 10 } else { 1 };
    let run = report::Run { rounds: args.rounds as usize, shrink, only: args.only.clone() };
    let report = run.report(command_line())?;
    print!("{report}");
    if let Some(page) = page {
        page.write(&report)?;
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a reader has to type to do this again.
fn command_line() -> String {
    let own: Vec<String> = std::env::args().skip(1).collect();
    let separator = if own.is_empty() { "" } else { " -- " };
    format!("cargo run --release -p pitaya-bench{separator}{}", own.join(" "))
}
