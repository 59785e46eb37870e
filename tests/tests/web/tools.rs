//! Node, the packages that the tests name, and a browser: what of it this machine has.

use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use pitaya_tests::peers;

/// Whether there is Node. Says so if not, and panics where the tests are required.
pub(crate) fn has_node() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| match Command::new("node").arg("--version").output() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => missing("no `node`"),
        Err(error) => panic!("`node` does not start: {error}"),
    })
}

/// Whether the packages of `tests/web/package-lock.json` are there. Where the
/// tests are required they are installed.
pub(crate) fn has_packages() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        if !has_node() {
            return false;
        }
        if are_required() {
            let install = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
            run(Command::new("npm").args(install).current_dir(folder()));
        }
        folder().join("node_modules").exists() || missing("no packages: `npm ci` in tests/web")
    })
}

/// Pitaya's own server in Go, with the handlers of `tests/interop/README.md`.
pub(crate) fn go_peer() -> Option<PathBuf> {
    if Command::new("go").arg("version").output().is_err() {
        missing("no `go`");
        return None;
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("web-go-peer");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/go");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).args([program.as_os_str(), "./".as_ref()]);
    run(build.env("CGO_ENABLED", "0").current_dir(source));
    Some(program)
}

/// A browser of the Chromium family.
pub(crate) fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).flat_map(|at| names.map(|name| at.join(name)));
    let found = places.into_iter().find(|place| place.is_file());
    if found.is_none() {
        missing("no browser, of those that `chromium` is one of");
    }
    found
}

/// The folder of the tests in JavaScript.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web")
}

/// Runs the tests of a file, in Node's own runner, with what they print among the rest.
pub(crate) fn node_tests(file: &str, environment: &[(&str, &str)]) {
    run(&mut node(file, environment));
}

/// The same for tests against a peer, which has a row in the table of peers however they end.
pub(crate) fn peer_tests((peer, runtime): (&str, &str), file: &str, environment: &[(&str, &str)]) {
    let mut node = node(file, environment);
    let done = output(&mut node);
    let said = String::from_utf8_lossy(&done.stdout);
    // The last that the runner prints, as in `ℹ pass 11`.
    let count = |what: &str| {
        let (_, rest) = said.rsplit_once(&format!("\u{2139} {what} ")).unwrap_or_default();
        rest.split_whitespace().next().and_then(|count| count.parse().ok()).unwrap_or(0)
    };
    peers::add(peer, "ws", runtime, count("pass"), count("fail") + count("cancelled"));
    assert_success(&node, &done);
}

fn node(file: &str, environment: &[(&str, &str)]) -> Command {
    let mut node = Command::new("node");
    node.args([
        "--test",
        "--test-force-exit",
        "--test-timeout=180000",
        "--test-reporter=spec",
        file,
    ])
    .envs(environment.iter().copied())
    .current_dir(folder());
    node
}

pub(crate) fn run(command: &mut Command) {
    let done = output(command);
    assert_success(command, &done);
}

fn output(command: &mut Command) -> Output {
    let done = command.stdin(Stdio::null()).output().expect("the program starts");
    println!("{}", String::from_utf8_lossy(&done.stdout));
    done
}

fn assert_success(command: &Command, done: &Output) {
    let [said, text] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(done.status.success(), "{command:?}\n{said}\n{text}");
}

fn missing(what: &str) -> bool {
    assert!(!are_required(), "there is {what}");
    // Not by `eprintln`, which the test harness hides.
    let _ = writeln!(io::stderr(), "SKIPPED: nothing was tested in it, for there is {what}");
    false
}

/// The lane of CI that is about these tests says so.
fn are_required() -> bool {
    std::env::var("PITAYA_WEB_TESTS").as_deref() == Ok("required")
}
