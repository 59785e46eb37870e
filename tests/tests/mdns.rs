//! Servers find each other by multicast, where it reaches nobody else.
//!
//! `bash .ci/run discovery` runs this in a network that has a loopback only. Elsewhere nothing is
//! sent, and that is said; with `CI=true` it is an error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use pitaya_driver::Native;
use pitaya_driver::cluster::discovery::{Discovery, HINTS_MAX, Mdns, Zeroconf};
use pitaya_smol::Smol;
use pitaya_tokio::Tokio;

use crate::forger::{Forger, forged, say};
use crate::network::{Avahi, Network};
use crate::server::Server;

#[path = "mdns/forger.rs"]
mod forger;
#[path = "mdns/network.rs"]
mod network;
#[path = "mdns/server.rs"]
mod server;

#[test]
fn on_tokio_servers_find_each_other_and_hear_a_goodbye() {
    alone::<Tokio>(async |runtime| find_each_other(&runtime, mdns, mdns).await);
}

#[test]
fn on_smol_servers_find_each_other_and_hear_a_goodbye() {
    alone::<Smol>(async |runtime| find_each_other(&runtime, mdns, mdns).await);
}

#[test]
fn on_all_interfaces_servers_find_each_other_and_hear_a_goodbye() {
    let everywhere = |cluster: &str| Box::new(Mdns::new(cluster)) as Box<dyn Discovery>;
    alone::<Tokio>(async |runtime| find_each_other(&runtime, everywhere, everywhere).await);
}

#[test]
fn with_and_without_a_daemon_servers_find_each_other_and_hear_a_goodbye() {
    alone::<Tokio>(async |runtime| {
        let _avahi = Avahi::start();
        find_each_other(&runtime, mdns, zeroconf).await;
        find_each_other(&runtime, zeroconf, mdns).await;
    });
}

#[test]
fn by_a_daemon_servers_find_each_other_and_hear_a_goodbye() {
    alone::<Smol>(async |runtime| {
        let _avahi = Avahi::start();
        find_each_other(&runtime, zeroconf, zeroconf).await;
    });
}

#[test]
fn servers_whose_names_look_alike_find_each_other() {
    alone::<Tokio>(async |runtime| {
        let _avahi = Avahi::start();
        let long = "a".repeat(100);
        for discovery in [mdns, zeroconf] {
            let name = |number| format!("{long}{number}");
            let first = Server::start(&runtime, discovery("twins"), &name(1), 3301);
            let second = Server::start(&runtime, discovery("twins"), &name(2), 3302);
            first.finds(&[3302]).await;
            second.finds(&[3301]).await;
            first.stop().await;
            second.stop().await;
        }
    });
}

#[test]
fn clusters_do_not_see_each_other() {
    alone::<Tokio>(async |runtime| {
        let _avahi = Avahi::start();
        let stranger = Server::start(&runtime, mdns("blue"), "room-9", 3309);
        let another = Server::start(&runtime, zeroconf("blue"), "room-8", 3308);
        stranger.finds(&[3308]).await;
        another.finds(&[3309]).await;
        let first = Server::start(&runtime, mdns("red"), "room-1", 3301);
        let second = Server::start(&runtime, zeroconf("red"), "room-2", 3302);
        first.finds(&[3302]).await;
        second.finds(&[3301]).await;
        first.finds_only(&[3302]);
        second.finds_only(&[3301]);
        stranger.finds_only(&[3308]);
        another.finds_only(&[3309]);
    });
}

#[test]
fn forged_records_are_ignored() {
    alone::<Tokio>(async |runtime| {
        let _avahi = Avahi::start();
        let first = Server::start(&runtime, mdns("red"), "room-1", 3301);
        let second = Server::start(&runtime, zeroconf("red"), "room-2", 3302);
        let forger = Forger::new();
        let nonsense: [&[(&str, &[u8])]; 6] = [
            &[],
            &[("v", b"2"), ("cluster", b"red"), ("id", b"evil"), ("kind", b"room")],
            &[("v", b"1"), ("cluster", b"blue"), ("id", b"evil"), ("kind", b"room")],
            &[("v", b"1"), ("cluster", b"red"), ("kind", b"room")],
            &[("v", b"1"), ("cluster", b"red"), ("id", b"a/b"), ("kind", b"room")],
            &[("v", b"1"), ("cluster", b"red"), ("id", b"\xff\xfe"), ("kind", b"room")],
        ];
        for (number, properties) in nonsense.iter().enumerate() {
            forger.announce(&format!("nonsense-{number}"), 6660, properties);
        }
        forger.announce("legal", 3303, &forged("room-3"));
        first.finds(&[3302, 3303]).await;
        second.finds(&[3301, 3303]).await;
        first.finds_only(&[3302, 3303]);
        second.finds_only(&[3301, 3303]);
    });
}

#[test]
fn bytes_that_are_no_text_end_no_discovery() {
    alone::<Tokio>(async |runtime| {
        let _avahi = Avahi::start();
        let first = Server::start(&runtime, mdns("red"), "room-1", 3301);
        let second = Server::start(&runtime, zeroconf("red"), "room-2", 3302);
        first.finds(&[3302]).await;
        second.finds(&[3301]).await;
        let text = b"\x03v=1\x0bcluster=red\x09id=evil-1\x09kind=room";
        let bytes = b"\x03v=1\x0bcluster=red\x06id=\xff\xfe\x80\x09kind=room\x05\xff\xfe=\xc3\x28";
        for seconds in [120, 0] {
            say(b"\xff\xfe\xc3\x28", b"host", seconds, text);
            say(b"evil", b"\xff\xfe\xc3\x28", seconds, text);
            say(b"evil-txt", b"host", seconds, bytes);
            say(b"a\0b", b"c\0d", seconds, text);
            say(b"long\\\".\n", b"\x01", seconds, b"\xff\0");
        }
        let forger = Forger::new();
        forger.announce("legal", 3303, &forged("room-3"));
        first.hints_are(|hints| hints.contains(&"127.0.0.1:3303".parse().unwrap())).await;
        second.hints_are(|hints| hints.contains(&"127.0.0.1:3303".parse().unwrap())).await;
    });
}

#[test]
fn while_the_daemons_crate_logs_records_it_is_not_asked_and_a_forged_one_ends_nothing() {
    alone::<Tokio>(async |runtime| {
        let _avahi = Avahi::start();
        let noise = Noise::begin();
        let first = Server::start(&runtime, mdns("red"), "room-1", 3301);
        let second = Server::start(&runtime, zeroconf("red"), "room-2", 3302);
        let forger = Forger::new();
        forger.announce("evil", 6660, &[("id", b"\xff\xfe")]);
        forger.announce("legal", 3303, &forged("room-3"));
        first.finds(&[3303]).await;
        second.finds_only(&[]);
        drop(noise);
        second.finds(&[3301, 3303]).await;
        first.finds(&[3302, 3303]).await;
    });
}

#[test]
fn forged_records_fill_no_memory() {
    alone::<Tokio>(async |runtime| {
        let _avahi = Avahi::start();
        let first = Server::start(&runtime, mdns("red"), "room-1", 3301);
        let second = Server::start(&runtime, zeroconf("red"), "room-2", 3302);
        let forger = Forger::new();
        // Such a flood drowns some of itself.
        for number in 0..HINTS_MAX as u16 + 400 {
            let id = format!("forged-{number}");
            forger.announce(&id, 10_000 + number, &forged(&id));
        }
        for server in [first, second] {
            server.hints_are(|hints| hints.len() == HINTS_MAX).await;
            server.stop().await;
        }
    });
}

#[test]
fn a_daemon_that_is_restarted_is_told_and_asked_again() {
    alone::<Tokio>(async |runtime| {
        let avahi = Avahi::start();
        let first = Server::start(&runtime, zeroconf("red"), "room-1", 3301);
        let second = Server::start(&runtime, mdns("red"), "room-2", 3302);
        first.finds(&[3302]).await;
        second.stop().await;
        first.finds(&[]).await;
        drop(avahi);
        let late = Server::start(&runtime, mdns("red"), "room-3", 3303);
        let _avahi = Avahi::start();
        first.finds(&[3303]).await;
        late.finds(&[3301]).await;
    });
}

#[test]
fn a_daemon_that_is_not_there_yet_is_waited_for() {
    alone::<Tokio>(async |runtime| {
        let first = Server::start(&runtime, zeroconf("red"), "room-1", 3301);
        let second = Server::start(&runtime, mdns("red"), "room-2", 3302);
        let _avahi = Avahi::start();
        first.finds(&[3302]).await;
        second.finds(&[3301]).await;
    });
}

/// Two servers find each other; one says goodbye.
async fn find_each_other<R: Native>(
    runtime: &R, one: impl Fn(&str) -> Box<dyn Discovery>,
    other: impl Fn(&str) -> Box<dyn Discovery>,
) {
    let first = Server::start(runtime, one("red"), "room-1", 3301);
    let second = Server::start(runtime, other("red"), "room-2", 3302);
    first.finds(&[3302]).await;
    second.finds(&[3301]).await;
    second.stop().await;
    first.finds(&[]).await;
    first.stop().await;
}

fn mdns(cluster: &str) -> Box<dyn Discovery> {
    Box::new(Mdns::new(cluster).on_interface("lo"))
}

fn zeroconf(cluster: &str) -> Box<dyn Discovery> {
    Box::new(Zeroconf::new(cluster).on_interface("lo"))
}

/// Whatever is logged is put into text, until this is dropped.
struct Noise;

impl Noise {
    fn begin() -> Self {
        static LOGGER: Noise = Noise;
        log::set_logger(&LOGGER).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        Self
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        log::set_max_level(log::LevelFilter::Off);
    }
}

impl log::Log for Noise {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        drop(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Runs a test that has the network for itself.
fn alone<R: Native>(test: impl AsyncFnOnce(R)) {
    let Some(_network) = Network::enter() else { return };
    R::block_on(async { test(R::current().unwrap()).await }).unwrap();
}
