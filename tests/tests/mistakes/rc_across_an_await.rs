//! An `Rc` that is held while the handler waits: it wants to be an `Arc`.

use std::rc::Rc;
use std::time::Duration;

use pitaya_core::{App, Ctx, Error};

async fn wait(ctx: Ctx) -> Result<u32, Error> {
    let count = Rc::new(3);
    ctx.sleep(Duration::from_secs(1)).await;
    Ok(*count)
}

fn main() {
    let _ = App::new(()).route("hall.wait", wait);
}
