//! Bugs that are planted to see that tests find them: in builds with `--cfg mutant` only, one at a
//! time for each thread, and none unless a test says so.

#[cfg(mutant)]
pub use at_work::{mutant, plant};

/// Whether that bug is at work, which it never is in this build.
#[cfg(not(mutant))]
#[inline(always)]
pub const fn mutant(_name: &str) -> bool {
    false
}

#[cfg(mutant)]
mod at_work {
    use std::cell::Cell;

    thread_local!(static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) });

    /// Whether that bug is at work on this thread.
    pub fn mutant(name: &str) -> bool {
        PLANTED.get() == Some(name)
    }

    /// From now on that bug is at work on this thread, and no other one.
    pub fn plant(name: Option<&'static str>) {
        PLANTED.set(name);
    }
}
