//! What the peers that are scripts need besides themselves: programs, and locked packages.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::certificate;
use crate::table;

/// A script of `tests/interop/js`, or nothing on a machine where it cannot run.
pub(crate) fn node(script: &str) -> Option<Command> {
    static PACKAGES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let packages = PACKAGES.get_or_init(|| {
        prepared("node", "js", &["package.json", "package-lock.json"], |folder| {
            run(Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(folder))
        })
    });
    let mut node = Command::new("node");
    node.arg(source("js").join(script))
        .env("NODE_PATH", packages.as_ref()?.join("node_modules"))
        .env("NODE_EXTRA_CA_CERTS", &certificate::shown().file)
        .stdin(Stdio::null());
    Some(node)
}

/// A script of `tests/interop/python`, or nothing on a machine where it cannot run.
pub(crate) fn python(script: &str) -> Option<Command> {
    static PACKAGES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let packages = PACKAGES.get_or_init(|| {
        prepared("python3", "python", &["requirements-build.txt", "requirements.txt"], |folder| {
            run(Command::new("python3").args(["-m", "venv", "."]).current_dir(folder))?;
            let pip = || {
                let mut pip = Command::new(folder.join("bin/pip"));
                pip.args(["--quiet", "--disable-pip-version-check", "install", "--no-deps"])
                    .arg("--require-hashes")
                    .current_dir(folder);
                pip
            };
            run(pip().args(["-r", "requirements-build.txt"]))?;
            run(pip().args(["--no-build-isolation", "-r", "requirements.txt"]))
        })
    });
    let mut python = Command::new(packages.as_ref()?.join("bin/python"));
    python
        .arg("-B")
        .arg(source("python").join(script))
        .env("PYTHONFAULTHANDLER", "1")
        .env("SSL_CERT_FILE", &certificate::shown().file)
        .stdin(Stdio::null());
    Some(python)
}

/// A folder with the packages that these files lock, installed unless they are there.
fn prepared(
    program: &str, folder: &str, locks: &[&str], install: impl Fn(&Path) -> Result<(), String>,
) -> Option<PathBuf> {
    let (source, folder) = (source(folder), Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder));
    let locked: String =
        locks.iter().map(|lock| fs::read_to_string(source.join(lock)).unwrap()).collect();
    let stamp = folder.join("installed");
    let installed = run(Command::new(program).arg("--version")).and_then(|()| {
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == locked) {
            return Ok(());
        }
        let _ = fs::remove_dir_all(&folder); // there may be none
        fs::create_dir_all(&folder).unwrap();
        for lock in locks {
            fs::copy(source.join(lock), folder.join(lock)).unwrap();
        }
        install(&folder)?;
        fs::write(&stamp, &locked).unwrap();
        Ok(())
    });
    installed.map_err(|why| table::skip(program, &why)).ok().map(|()| folder)
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).output() {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => Err(format!("{program}: {}", String::from_utf8_lossy(&ended.stderr))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("there is no `{program}`"))
        }
        Err(error) => Err(format!("`{program}` does not start: {error}")),
    }
}

fn source(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(folder)
}
