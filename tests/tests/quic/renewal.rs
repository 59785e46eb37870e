//! Certificates that are replaced while servers run.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use futures_lite::future::zip;
use pitaya_core::cluster::ServerId;
use pitaya_driver::cluster::{Identity, IdentityError};
use pitaya_driver::{Native, TlsError};
use pitaya_smol::Smol;
use pitaya_tokio::Tokio;

use crate::authority::{Authority, GOOD, Wanted};
use crate::programs::on_all;
use crate::servers::{Peer, SECRET, converse, link};

#[test]
fn a_server_of_a_secret_that_runs_for_years_finds_new_peers() {
    on_all(
        a_server_of_a_secret_that_runs_for_years_finds_new_peers_on::<Tokio>,
        a_server_of_a_secret_that_runs_for_years_finds_new_peers_on::<Smol>,
    );
}

async fn a_server_of_a_secret_that_runs_for_years_finds_new_peers_on<R: Native>() {
    let two_years_ago = SystemTime::now() - Duration::from_secs(2 * 365 * 24 * 3600);
    let id = ServerId::new("old").unwrap();
    let old = || Identity::from_secret_at(two_years_ago, SECRET, "room", &id).unwrap();
    let new = Peer::with_secret::<R>(SECRET, "new").await;
    // What is due is found out by whichever of the two comes first.
    let (dials, accepts) = (Peer::new::<R>(&old()).await, Peer::new::<R>(&old()).await);
    let mut first = link(&dials, &new).await;
    converse(&mut link(&new, &accepts).await).await;
    converse(&mut link(&new, &dials).await).await;
    converse(&mut first).await;
    assert_eq!(dials.refused() + accepts.refused() + new.refused(), 0);
}

#[test]
fn files_are_read_again_when_asked_and_links_that_are_up_stay_up() {
    on_all(
        files_are_read_again_when_asked_and_links_that_are_up_stay_up_on::<Tokio>,
        files_are_read_again_when_asked_and_links_that_are_up_stay_up_on::<Smol>,
    );
}

async fn files_are_read_again_when_asked_and_links_that_are_up_stay_up_on<R: Native>() {
    let (older, newer) = (Authority::new(), Authority::new());
    let files = Files::new(&older.pem(GOOD));
    let identity = files.identity();
    let one = Peer::new::<R>(&identity).await;
    let friend = Peer::new::<R>(&older.identity(GOOD)).await;
    let mut first = link(&friend, &one).await;

    files.write(&newer.pem(GOOD));
    identity.reload().unwrap();
    converse(&mut first).await;
    let another = Peer::new::<R>(&newer.identity(GOOD)).await;
    converse(&mut link(&another, &one).await).await;
    converse(&mut link(&one, &another).await).await;
    let (dialled, accepted) = zip(friend.dial(one.address()), one.accept()).await;
    assert!(dialled.is_err() && accepted.is_err(), "the older authority is not believed any more");
    converse(&mut first).await;
}

#[test]
fn a_server_whose_certificate_has_expired_is_believed_again_with_a_new_one() {
    on_all(
        a_server_whose_certificate_has_expired_is_believed_again_with_a_new_one_on::<Tokio>,
        a_server_whose_certificate_has_expired_is_believed_again_with_a_new_one_on::<Smol>,
    );
}

async fn a_server_whose_certificate_has_expired_is_believed_again_with_a_new_one_on<R: Native>() {
    let ours = Authority::new();
    let identity = ours.identity(Wanted { last_year: 2000, ..GOOD });
    let one = Peer::new::<R>(&identity).await;
    let peer = Peer::new::<R>(&ours.identity(GOOD)).await;
    let (dialled, accepted) = zip(peer.dial(one.address()), one.accept()).await;
    assert!(dialled.unwrap_err().to_string().contains("certificate expired"));
    accepted.unwrap_err();

    let [authority, chain, key] = ours.pem(GOOD);
    identity.replace(authority, chain, key).unwrap();
    converse(&mut link(&peer, &one).await).await;
    converse(&mut link(&one, &peer).await).await;
    assert_eq!((one.refused(), peer.refused()), (1, 1));
}

#[test]
fn a_certificate_of_another_server_or_of_no_use_changes_nothing() {
    Tokio::block_on(async {
        let ours = Authority::new();
        let files = Files::new(&ours.pem(GOOD));
        let identity = files.identity();
        let one = Peer::new::<Tokio>(&identity).await;
        let peer = Peer::new::<Tokio>(&ours.identity(GOOD)).await;
        let [authority, chain, key] = ours.pem(Wanted { server: "pitaya://room/other", ..GOOD });
        let [_, _, key_of_another] = ours.pem(GOOD);

        files.write(&[&authority, &chain, &key]);
        let why = identity.reload().unwrap_err();
        assert_eq!(why.to_string(), OTHER);
        assert_eq!(identity.replace(&authority, &chain, &key), Err(why));
        files.write(&[&authority, &chain, &key_of_another]);
        assert!(matches!(identity.reload(), Err(IdentityError::Tls(TlsError::Rejected(_)))));
        drop(files);
        assert!(matches!(identity.reload(), Err(IdentityError::File(..))));
        converse(&mut link(&peer, &one).await).await;
        converse(&mut link(&one, &peer).await).await;
    })
    .unwrap();
}

const OTHER: &str = "the certificate is that of \"other\" of the kind \"room\", but this server is \
                     \"own\" of the kind \"room\"";

#[test]
fn what_cannot_be_read_again_says_why() {
    let ours = Authority::new();
    assert_eq!(ours.identity(GOOD).reload(), Err(TlsError::NoFiles.into()));
    let derived = Identity::from_secret(SECRET, "room", &ServerId::new("own").unwrap()).unwrap();
    assert_eq!(derived.reload(), Err(IdentityError::Derived));
    let [authority, chain, key] = ours.pem(GOOD);
    assert_eq!(derived.replace(authority, chain, key), Err(IdentityError::Derived));
}

/// An authority, a certificate and a key in a folder of their own.
struct Files(PathBuf);

impl Files {
    fn new(pem: &[String; 3]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("pitaya-identity-{}-{}", name.0, name.1));
        fs::create_dir_all(&folder).unwrap();
        let files = Self(folder);
        files.write(pem);
        files
    }

    fn write(&self, pem: &[impl AsRef<[u8]>; 3]) {
        for (path, text) in self.paths().iter().zip(pem) {
            fs::write(path, text).unwrap();
        }
    }

    fn identity(&self) -> Identity {
        let [authorities, chain, key] = self.paths();
        Identity::from_files(authorities, chain, key).unwrap()
    }

    fn paths(&self) -> [PathBuf; 3] {
        ["authorities.pem", "chain.pem", "key.pem"].map(|name| self.0.join(name))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left in the folder of the system for such things harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
