//! Pitaya for Go, from the program of the tests with real peers.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the program beside this one.
///
/// # Errors
///
/// Without Go, or with what its compiler said.
pub(crate) fn build() -> io::Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop/go");
    let mut go = Command::new("go");
    go.arg("build").arg("-o").arg(program()?).arg("./").current_dir(source).env("CGO_ENABLED", "0");
    let status = go.status().map_err(|error| io::Error::other(format!("no `go`: {error}")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other("the Go program does not build")) }
}

/// Makes this process the server. It ends with its standard input. Returns only if that fails.
pub(crate) fn become_server(compression: &str) -> io::Error {
    match program() {
        Ok(program) => Command::new(program).args(["bench", "--compression", compression]).exec(),
        Err(error) => error,
    }
}

fn program() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("pitaya-bench-go"))
}
