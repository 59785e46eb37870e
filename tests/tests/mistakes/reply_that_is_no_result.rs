//! A reply that is not a `Result`: a request may always fail.

use pitaya_core::App;

async fn count() -> u32 {
    3
}

fn main() {
    let _ = App::new(()).route("hall.count", count);
}
