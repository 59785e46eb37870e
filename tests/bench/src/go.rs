//! Pitaya for Go, from the program of the tests with real peers.

use std::io;
use std::net::SocketAddr;
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
    become_program(&["bench", "--compression", compression])
}

/// Makes this process one of two servers that reach each other through `broker`: the `gate`, which
/// clients connect to, or the `room`, which answers.
pub(crate) fn become_one_of_two(role: &str, broker: SocketAddr) -> io::Error {
    let broker = broker.to_string();
    become_program(&["bench", "--compression", "off", "--role", role, "--broker", &broker])
}

/// Makes this process a NATS server.
pub(crate) fn become_broker() -> io::Error {
    become_program(&["broker"])
}

fn become_program(args: &[&str]) -> io::Error {
    match program() {
        Ok(program) => Command::new(program).args(args).exec(),
        Err(error) => error,
    }
}

fn program() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("pitaya-bench-go"))
}
