//! How many sockets the process may have: as many as the system lets it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises what the process may open to what the system allows, and gives how many connections fit:
/// `wanted`, or fewer with a warning.
pub(super) fn connections_max(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = if raised.is_ok() { maximum } else { current };
    let allowed =
        allowed.map_or(usize::MAX, |allowed| usize::try_from(allowed).unwrap_or(usize::MAX));
    let fitting = connections_of(allowed);
    if fitting < wanted {
        tracing::warn!(
            wanted,
            fitting,
            allowed,
            "too few descriptors; raise `ulimit -n` for this process"
        );
    }
    wanted.min(fitting)
}

/// Some descriptors are for files, timers and other sockets than those of clients.
fn connections_of(descriptors: usize) -> usize {
    descriptors - OTHERS_MAX.min(descriptors / 2)
}

/// What a process needs beside its connections.
const OTHERS_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_are_left_for_other_things() {
        assert_eq!(connections_of(20_000), 19_488);
        assert_eq!(connections_of(256), 128);
        assert_eq!(connections_of(usize::MAX), usize::MAX - 512);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        connections_max(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
