//! What the documents say of limits, counters and other places, compared with what is so.

use std::fs;
use std::path::{Path, PathBuf};

use pitaya_core::{Counter, Limits};

#[test]
fn every_limit_is_listed_as_it_is_by_default() {
    let limits = Limits::default().table();
    let rows = limits.iter().map(|limit| {
        let (name, counter) = (limit.name, limit.counter.name());
        format!("| `{name}` | {} | {} | `{counter}` |", limit.value, limit.unit)
    });
    lists("docs/limits.md", "## Limits", rows.collect());
}

#[test]
fn every_counter_is_listed() {
    let rows = Counter::ALL.iter().map(|counter| format!("| `{}` |", counter.name()));
    lists("docs/limits.md", "## Counters", rows.collect());
}

#[test]
fn every_link_leads_somewhere() {
    let dead: Vec<_> =
        PAGES.iter().flat_map(|page| dead_links(page, &read(page)).collect::<Vec<_>>()).collect();
    assert_eq!(dead, Vec::<String>::new());

    let sample = "[here](README.md#a), [gone](docs/gone.md), [far](https://a.example), [b](#b)";
    assert_eq!(dead_links("README.md", sample).collect::<Vec<_>>(), ["README.md: docs/gone.md"]);
}

/// The rows of the section begin with these, in this order; each goes on with what it means.
fn lists(page: &str, section: &str, expected: Vec<String>) {
    let text = read(page);
    let (_, section) = text.split_once(section).expect("the page has the section");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let wrong = |at: usize| {
        let (row, expected) = (rows.get(at), expected.get(at));
        let meaning = row.zip(expected).and_then(|(row, begin)| row.strip_prefix(&**begin));
        let fits = meaning.is_some_and(|meaning| !meaning.trim_matches([' ', '|']).is_empty());
        (!fits).then(|| format!("{page} says {row:?}\n  where the code says {expected:?}"))
    };
    let wrong: Vec<_> = (0..rows.len().max(expected.len())).filter_map(wrong).take(1).collect();
    assert!(wrong.is_empty(), "{}\n  correct that row, with what it means", wrong.concat());
}

/// Links to files of the repository that are not there.
fn dead_links<'t>(page: &'t str, text: &'t str) -> impl Iterator<Item = String> + 't {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let folder = root().join(page).parent().expect("a page lies somewhere").to_owned();
    targets
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .filter(move |target| !folder.join(target).exists())
        .map(move |target| format!("{page}: {target}"))
}

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the root").to_owned()
}

const PAGES: [&str; 16] = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "docs/architecture.md",
    "docs/cli.md",
    "docs/client.md",
    "docs/cluster.md",
    "docs/features.md",
    "docs/guarantees.md",
    "docs/limits.md",
    "docs/performance.md",
    "docs/protocol.md",
    "docs/server.md",
    "docs/tls.md",
    "docs/transports.md",
    "docs/web-client.md",
];
