//! `pitaya bench`: loads a server with requests, and says how long the replies take.

mod cpu;
mod load;
mod pace;
mod plan;
mod progress;
mod report;
mod tally;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedI64ValueParser;
use clap::value_parser;

use crate::door::{Door, Trust};
use load::Load;
use plan::Plan;

/// Load a server with requests, and see how long the replies take.
///
/// Each connection keeps DEPTH requests in flight (a closed loop), or all together send RATE
/// requests a second, whether or not replies come (an open loop). The exit code is 0 only if every
/// request was answered well.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the server is, such as tcp://127.0.0.1:3250
    url: String,
    /// Whom to ask
    #[arg(short, long)]
    route: String,
    /// How many connections to make
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = from(1, CONNECTIONS_MAX))]
    connections: u32,
    /// How many requests each connection has in flight, at most
    #[arg(short, long, value_name = "D", default_value_t = 1, value_parser = from(1, DEPTH_MAX))]
    depth: u32,
    /// What to ask with, as it is
    #[arg(long, value_name = "JSON", conflicts_with = "payload")]
    data: Option<String>,
    /// What to ask with: a JSON text of so many bytes, at least two
    #[arg(long, value_name = "BYTES", value_parser = from(2, PAYLOAD_MAX))]
    payload: Option<u32>,
    /// What every reply has to be, byte for byte
    #[arg(long, value_name = "JSON")]
    expect: Option<String>,
    /// Requests a second, of all connections together: an open loop
    #[arg(long, value_name = "R", value_parser = from(1, RATE_MAX))]
    rate: Option<u32>,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = plan::time)]
    duration: Duration,
    /// How long to load the server before the measuring begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = plan::time)]
    warmup: Duration,
    /// How long to wait for a reply; connections are waited for at least 5 s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = plan::time)]
    timeout: Duration,
    /// How many connections may be on their way at the same time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = from(1, CONNECTIONS_MAX))]
    connecting_max: u32,
    /// The process of the server, to see what a request costs it (Linux)
    #[arg(long)]
    pid: Option<u32>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    trust: Trust,
}

/// Loads a server as asked.
///
/// # Errors
///
/// Nothing could be measured.
pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    let door = Door::parse(&args.url, &args.trust)?;
    let plan = Plan::new(args)?;
    cpu::raise_open_files(plan.connections)?;
    let load = async { Load::new(plan).run(&door).await };
    let report = pitaya_tokio::block_on(load).map_err(|error| error.to_string())??;
    if args.json {
        println!("{:#}", report.json());
    } else {
        print!("{report}");
    }
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn from(least: i64, most: i64) -> RangedI64ValueParser<u32> {
    value_parser!(u32).range(least..=most)
}

const CONNECTIONS_MAX: i64 = 1_000_000;
const DEPTH_MAX: i64 = 65_536;
const PAYLOAD_MAX: i64 = 15 << 20;
const RATE_MAX: i64 = 10_000_000;
