//! A handler that is not async: it wants to be an `async fn`.

use pitaya_core::{App, Error};

fn count() -> Result<u32, Error> {
    Ok(3)
}

fn main() {
    let _ = App::new(()).route("hall.count", count);
}
