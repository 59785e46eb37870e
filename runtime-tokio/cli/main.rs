//! The command `pitaya`: talks to a server, and measures one.

mod bench;
mod door;
mod repl;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Talks to Pitaya servers, and measures them.
#[derive(Debug, Parser)]
#[command(name = "pitaya", version)]
struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Bench(bench::Args),
    Repl(repl::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().action {
        Action::Bench(args) => bench::run(&args),
        Action::Repl(args) => repl::run(args),
    };
    done.unwrap_or_else(|why| {
        eprintln!("error: {why}");
        ExitCode::FAILURE
    })
}
