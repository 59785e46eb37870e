//! A value that many look at, and wait for it to change.

use std::sync::{Mutex, MutexGuard, PoisonError};

use event_listener::Event;

/// A value, and who waits for it.
#[derive(Default)]
pub(super) struct Watch<T> {
    value: Mutex<T>,
    changed: Event,
}

impl<T> Watch<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Event::new() }
    }

    /// To look at it, and to change what nobody waits for.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it, and lets all who wait look again.
    pub(super) fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.lock());
        self.changed.notify(usize::MAX);
    }

    /// Waits until there is in it what is looked for.
    pub(super) async fn wait<U>(&self, mut look: impl FnMut(&T) -> Option<U>) -> U {
        loop {
            let listener = self.changed.listen();
            let found = look(&self.lock());
            match found {
                Some(found) => return found,
                None => listener.await,
            }
        }
    }
}
