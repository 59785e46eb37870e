//! A reply that the codec cannot write: it wants `#[derive(Serialize)]`.

use pitaya_core::{App, Error};

struct Scores(Vec<u32>);

async fn scores() -> Result<Scores, Error> {
    Ok(Scores(vec![3, 2, 1]))
}

fn main() {
    let _ = App::new(()).route("hall.scores", scores);
}
