//! The pure crates stay pure: nothing in what they build on knows a clock, a socket or an executor.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Node, PackageId};

#[test]
fn proto_builds_on_nothing_that_knows_a_runtime() {
    let closure = closure("pitaya-proto");
    assert!(closure.contains("prost") && closure.contains("bytes"), "the walk finds dependencies");
    assert_eq!(impure(&closure), Vec::<&str>::new());
}

#[test]
fn core_builds_on_nothing_that_knows_a_runtime() {
    let closure = closure("pitaya-core");
    assert!(closure.contains("pitaya-proto") && closure.contains("prost"), "the walk goes deep");
    assert_eq!(impure(&closure), Vec::<&str>::new());
}

#[test]
fn the_runtimes_are_seen_to_build_on_one() {
    assert!(impure(&closure("pitaya-tokio")).contains(&"tokio"));
    assert!(impure(&closure("pitaya-smol")).contains(&"async-io"));
}

fn impure(closure: &BTreeSet<String>) -> Vec<&str> {
    closure.iter().map(|name| &**name).filter(|name| IMPURE.contains(name)).collect()
}

/// The names of everything `package` builds on, on this machine, without what only its tests or
/// its build scripts use.
fn closure(package: &str) -> BTreeSet<String> {
    let metadata = metadata();
    let names: BTreeMap<_, _> =
        metadata.packages.iter().map(|package| (&package.id, package.name.to_string())).collect();
    let resolve = metadata.resolve.as_ref().expect("asked for with dependencies");
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();

    let start = names.iter().find(|(_, name)| *name == package).expect("a workspace member");
    let mut seen = BTreeSet::new();
    let mut ahead = vec![*start.0];
    while let Some(id) = ahead.pop() {
        if seen.insert(id) {
            ahead.extend(normal_dependencies(nodes[id]));
        }
    }
    seen.into_iter().map(|id| names[id].clone()).collect()
}

fn normal_dependencies(node: &Node) -> impl Iterator<Item = &PackageId> {
    let is_normal = |kinds: &[cargo_metadata::DepKindInfo]| {
        kinds.iter().any(|info| info.kind == DependencyKind::Normal)
    };
    node.deps.iter().filter(move |dep| is_normal(&dep.dep_kinds)).map(|dep| &dep.pkg)
}

fn metadata() -> Metadata {
    let platform = ["--filter-platform".to_owned(), host()];
    MetadataCommand::new().other_options(platform).exec().expect("cargo describes its workspace")
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc built this test");
    let text = String::from_utf8(output.stdout).expect("rustc prints text");
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc names its host").to_owned()
}

const IMPURE: [&str; 7] = ["async-io", "getrandom", "mio", "quinn", "smol", "socket2", "tokio"];
