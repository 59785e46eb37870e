//! What the measuring needs from the machine: one core, batch scheduling, exact CPU clocks.

use std::fs;
use std::io;
use std::process::{Command, id};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Puts this process, and every process it starts from here on, on `core` under `SCHED_BATCH`.
///
/// On one core the wake-up of a second one is not measured, and under the batch policy a send
/// does not let the peer interrupt the sender, so both sides work in whole batches.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::this(), &cores)?;
    let status =
        Command::new("chrt").args(["--batch", "--pid", "0", &id().to_string()]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("chrt refused SCHED_BATCH")) }
}

/// Ends this process when the one that started it ends, however that happens.
pub(crate) fn end_with_parent() -> io::Result<()> {
    Ok(set_pdeathsig(Signal::SIGKILL)?)
}

/// Raises the limit of open files as far as it goes and returns it.
pub(crate) fn raise_open_files() -> io::Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}

/// User and system time that process `pid` has used, to the nanosecond.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    Ok(clock_gettime(clock_getcpuclockid(raw_pid(pid)?)?)?.into())
}

/// What all of these processes have used together.
pub(crate) fn cpu_times(pids: &[u32]) -> io::Result<Duration> {
    pids.iter().map(|pid| cpu_time(*pid)).sum()
}

/// Anonymous resident memory of process `pid`: heap and stacks, neither code nor files.
pub(crate) fn anonymous_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib =
        line_value(&status, "RssAnon").and_then(|value| value.split(' ').next()?.parse().ok());
    kib.map(|kib: u64| kib * 1024).ok_or_else(|| io::Error::other("no RssAnon of the server"))
}

/// One line on processor and kernel, for whoever compares two tables.
pub(crate) fn facts() -> io::Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = line_value(&info, "model name").unwrap_or("unknown processor");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{model}, {cores} cores, Linux {}", kernel.trim()))
}

/// The load average: how much else the machine was doing.
pub(crate) fn load_average() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

fn raw_pid(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).map(Pid::from_raw).map_err(io::Error::other)
}

fn line_value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn the_cpu_clock_of_a_process_runs_while_it_works() {
        let before = cpu_time(id()).unwrap();
        black_box((0..2_000_000_u64).fold(0, |sum, n| black_box(sum ^ n)));
        assert!(cpu_time(id()).unwrap() > before);
    }

    #[test]
    fn touched_memory_is_counted_as_anonymous() {
        let before = anonymous_bytes(id()).unwrap();
        let touched = black_box(vec![1_u8; 32 << 20]);
        assert!(anonymous_bytes(id()).unwrap() >= before + touched.len() as u64 / 2);
    }

    #[test]
    fn a_value_is_what_follows_the_colon() {
        assert_eq!(line_value("a: 1\nRssAnon:\t   12 kB\n", "RssAnon"), Some("12 kB"));
        assert_eq!(line_value("a: 1", "b"), None);
    }
}
