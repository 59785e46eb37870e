//! Where the secret of a cluster is kept: a file that only its owner may read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::IdentityError;

/// A secret of 16 random bytes in hexadecimal has as many.
pub const SECRET_BYTES_MIN: usize = 32;

/// The bytes of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|error| failed(path, &error))
}

/// The secret in a file, which is made if it is not there.
pub(super) fn read_or_make(path: &Path) -> Result<String, IdentityError> {
    let made = if path.exists() { Ok(false) } else { make(path) };
    if made.map_err(|error| failed(path, &error))? {
        let path = path.display();
        tracing::warn!(%path, "made a new cluster secret: the other servers need this file too");
    }
    let secret = fs::read_to_string(path).map_err(|error| failed(path, &error))?;
    let secret = secret.trim();
    if secret.len() < SECRET_BYTES_MIN {
        return Err(IdentityError::SecretShort(secret.len()));
    }
    Ok(secret.to_owned())
}

/// Makes the file, unless somebody else was faster. It is there whole or not at all, so nobody
/// reads half of a secret.
fn make(path: &Path) -> io::Result<bool> {
    let unfinished = path.with_added_extension(format!("{}.new", random_hex(8)?));
    let linked = write(&unfinished).and_then(|()| fs::hard_link(&unfinished, path));
    // It may not even be there.
    let _ = fs::remove_file(&unfinished);
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", random_hex(SECRET_BYTES_MIN)?)?;
    file.sync_all()
}

fn random_hex(bytes: usize) -> io::Result<String> {
    let mut random = vec![0; bytes];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn failed(path: &Path, error: &io::Error) -> IdentityError {
    IdentityError::File(path.display().to_string(), error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::thread;

    use super::*;

    #[test]
    fn servers_that_start_at_once_share_one_secret_that_only_their_owner_may_read() {
        let folder = std::env::temp_dir().join(format!("pitaya-secret-{}", std::process::id()));
        let path = folder.join("cluster.secret");
        let missing = read_or_make(&path).unwrap_err();
        assert!(matches!(missing, IdentityError::File(..)), "there is no folder");

        fs::create_dir_all(&folder).unwrap();
        let secrets = thread::scope(|scope| {
            let readers = [(); 8].map(|()| scope.spawn(|| read_or_make(&path).unwrap()));
            readers.map(|reader| reader.join().unwrap())
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0] && secret.len() == 64));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing unfinished is left");

        fs::write(&path, "short\n").unwrap();
        assert_eq!(read_or_make(&path), Err(IdentityError::SecretShort(5)));
        fs::remove_dir_all(&folder).unwrap();
    }
}
