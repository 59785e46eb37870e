//! The checked-in Rust of the cluster's messages is what their `.proto` file says.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_generated_code_is_up_to_date() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("protos.rs");
    let status = Command::new(env!("CARGO_BIN_EXE_protos")).arg(&path).status().unwrap();
    assert!(status.success());
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pitaya-proto/src/protos.rs");
    let same = fs::read(path).unwrap() == fs::read(checked_in).unwrap();
    assert!(same, "run: cargo run -p pitaya-tests --bin protos pitaya-proto/src/protos.rs");
}
