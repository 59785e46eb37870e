//! An argument that is not made from a call: it wants to be `Payload<bool>`.

use pitaya_core::{App, Error};

async fn ready(is_ready: bool) -> Result<bool, Error> {
    Ok(is_ready)
}

fn main() {
    let _ = App::new(()).route("hall.ready", ready);
}
