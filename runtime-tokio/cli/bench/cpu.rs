//! What the system knows and allows: CPU time of processes, open files.

use std::io;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};

/// CPU time that this process has used.
pub(crate) fn own() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// CPU time that process `pid` has used, its threads and the kernel on its behalf.
#[cfg(target_os = "linux")]
pub(crate) fn of(pid: u32) -> io::Result<Duration> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let clock = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(pid))?;
    Ok(clock_gettime(clock)?.into())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_pid: u32) -> io::Result<Duration> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Raises the limit of open files as far as may be.
///
/// # Errors
///
/// It is too low for so many connections all the same.
pub(crate) fn raise_open_files(connections: usize) -> Result<(), String> {
    let limits = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
    let (soft, hard) = limits;
    let allowed = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        // Some systems refuse what they call their hard limit.
        Err(_) => soft,
    };
    let wanted = connections as u64 + FILES_BESIDE;
    if wanted <= allowed {
        return Ok(());
    }
    let most = allowed.saturating_sub(FILES_BESIDE);
    Err(format!(
        "a process may have {allowed} open files here, which is enough for {most} connections\n  \
         ask for fewer, start this command several times, or raise the limit (`ulimit -Hn`)"
    ))
}

/// Open files that are no connections: standard streams, the runtime's, a timer.
const FILES_BESIDE: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_connections_than_open_files_are_refused_with_advice() {
        let refused = raise_open_files(usize::MAX >> 8).expect_err("nobody has so many");
        assert!(refused.contains("ask for fewer"), "{refused}");
        assert_eq!(raise_open_files(1), Ok(()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_clock_of_this_process_is_the_one_of_its_pid() {
        let before = own().unwrap();
        let same = of(std::process::id()).unwrap();
        assert!(before <= same && same <= own().unwrap());
        assert!(of(u32::MAX).is_err());
    }
}
