//! System calls per request, counted by strace.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, id};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::frames::Route;
use crate::load::{self, Plan};
use crate::process::Process;
use crate::targets::Target;

/// Calls per request at depth 1.
///
/// Two runs of different length are subtracted, so that start and handshakes do not count.
///
/// # Errors
///
/// Without strace, or where it may not trace.
pub(crate) fn per_request(target: Target, requests: u64) -> io::Result<f64> {
    let (short, long) = (requests / 10, requests + requests / 10);
    let (few, many) = (calls(target, short)?, calls(target, long)?);
    Ok(many.saturating_sub(few) as f64 / (long - short) as f64)
}

fn calls(target: Target, requests: u64) -> io::Result<u64> {
    let summary = Summary(std::env::temp_dir().join(format!("pitaya-bench-{}.strace", id())));
    let mut strace = Command::new("strace");
    // Detached, so that the process we start is the server and not the tracer.
    strace.args(["-D", "-f", "-qq", "-c", "-U", "name,calls", "-o"]).arg(&summary.0);
    let server = Process::start_under(strace, target)?;
    let plan = Plan {
        route: Route::Json,
        connections: CONNECTIONS,
        depth: 1,
        warmup: 0,
        replies: requests,
    };
    let outcome = load::run(server.endpoint(), &[], &plan)?;
    drop(server);
    if outcome.errors != 0 {
        return Err(io::Error::other(format!("{} wrong replies", outcome.errors)));
    }
    summary.total()
}

/// The file into which strace writes when the server has ended; dropping it removes it.
struct Summary(PathBuf);

impl Summary {
    fn total(&self) -> io::Result<u64> {
        let deadline = Instant::now() + SUMMARY_TIME_MAX;
        loop {
            match total(&fs::read_to_string(&self.0)?) {
                Some(calls) => return Ok(calls),
                None if deadline < Instant::now() => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "no summary of strace"));
                }
                None => sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Summary {
    fn drop(&mut self) {
        // A file left over in the temporary directory harms nobody.
        let _ = fs::remove_file(&self.0);
    }
}

fn total(summary: &str) -> Option<u64> {
    let line = summary.lines().find(|line| line.trim_start().starts_with("total"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

const CONNECTIONS: usize = 8;
const SUMMARY_TIME_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_in_a_summary() {
        let summary = "\
syscall              calls
---------------- ---------
recvfrom              1001
sendto                1000
---------------- ---------
total                 2001
";
        assert_eq!(total(summary), Some(2001));
        assert_eq!(total("syscall              calls\n"), None);
    }
}
