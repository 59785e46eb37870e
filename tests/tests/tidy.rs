//! What is measurable about how this repository reads: each rule, and proof that it can fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::source::{Function, Source};
use crate::twins::equal_runs;

#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/twins.rs"]
mod twins;

#[test]
fn every_file_stays_under_500_lines_without_its_tests() {
    holds(file_length);
    notices(file_length, "//! Doc.\n", &"fn f() {}\n".repeat(FILE_LINES_MAX + 1));
}

#[test]
fn the_tests_inside_a_file_do_not_count_towards_its_length() {
    let tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(600));
    assert_eq!(Source::parse("src/a.rs", &tests).lines_without_tests(), 1);
}

#[test]
fn every_function_stays_under_60_lines() {
    holds(function_length);
    notices(function_length, "fn f() {}", &format!("fn f() {{{}}}", "\n".repeat(60)));
}

#[test]
fn the_median_function_stays_under_10_lines() {
    let median = median_lines(sources().iter().filter(|source| !source.is_test_file()));
    println!("median function: {median} lines");
    assert!(median < MEDIAN_FUNCTION_LINES_MAX, "the median function has {median} lines");

    let sample = "fn a() {\n}\nfn b() {\n\n\n}\nfn c() {\n\n\n\n\n}";
    assert_eq!(median_lines([&Source::parse("a.rs", sample)].into_iter()), 4);
}

#[test]
fn every_line_fits_100_columns() {
    holds(line_width);
    notices(line_width, &"/".repeat(100), &"/".repeat(101));
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    holds(module_doc);
    notices(module_doc, "//! What for.\n", "// What for.\nfn f() {}");
}

#[test]
fn no_name_says_nothing() {
    holds(empty_names);
    notices(empty_names, "fn utility() {}", "struct SessionManager;");
    notices(empty_names, "fn forget_it() {}", "fn get_it() {}");
    notices(empty_names, "fn f() {}", "use x::string_utils;");
}

#[test]
fn nothing_is_left_to_do_in_code() {
    holds(unfinished);
    notices(unfinished, "fn f(todo: u8) -> bool { todo != 1 }", "fn f() { todo!() }");
    notices(unfinished, "// dbg!(1)", "fn f() { dbg!(1); }");
}

#[test]
fn no_test_sleeps_or_is_ignored() {
    holds(sleepy_tests);
    notices(sleepy_tests, "fn f() { thread::sleep(T) }", "#[test]\nfn f() { thread::sleep(T) }");
    notices(sleepy_tests, "#[test]\nfn f() {}", "#[test]\n#[ignore = \"slow\"]\nfn f() {}");
}

#[test]
fn proto_and_core_stay_small_enough_to_be_read() {
    let lines = pure_code_lines();
    println!("proto + core: {lines} code lines");
    assert!(lines < PURE_CODE_LINES_MAX, "proto + core: {lines} code lines");

    let sample = "//! Doc.\n\n// Why.\nuse a::b;\n/// Doc.\nfn f() {\n    let s = \"\n\";\n}\n";
    let tests = "#[cfg(test)]\nmod tests {\n    #[test]\n    fn t() {}\n}\n";
    assert_eq!(Source::parse("src/a.rs", &format!("{sample}{tests}")).code().len(), 5);
}

#[test]
fn each_runtime_stays_thin() {
    for folder in ["runtime-tokio/src/", "runtime-smol/src/"] {
        let lines = lines_without_tests(folder);
        println!("{folder}: {lines} lines");
        assert!(lines < RUNTIME_LINES_MAX, "{folder}: {lines} lines");
    }
}

#[test]
fn the_runtimes_have_no_code_in_common() {
    let [tokio, smol] = ["runtime-tokio/src/", "runtime-smol/src/"].map(sources_in);
    let pairs = tokio.iter().flat_map(|one| smol.iter().map(move |other| (one, other)));
    let found: Vec<_> = pairs.flat_map(|(one, other)| twins(one, other)).collect();
    assert!(found.is_empty(), "\n{}\nmove it into the driver", found.join("\n"));

    let twins = |one: &str, other: &str| {
        twins(&Source::parse("src/a.rs", one), &Source::parse("src/b.rs", other))
    };
    let run = |name, lines| format!("fn {name}() {{\n{}}}\n", "a(1);\n}\n{\n".repeat(lines));
    let (one, other) = (run("on_tokio", 5), run("on_smol", 5));
    assert_eq!(twins(&one, &other), ["src/a.rs:1-14: also at src/b.rs:1-14"]);
    let aside = other.replacen("a(1);", "use b::{\n    c,\n};\n// Why.\na(1);", 1);
    assert_eq!(twins(&one, &aside), ["src/a.rs:1-14: also at src/b.rs:1-18"]);
    assert_eq!(twins(&one, &run("other", 5)), Vec::<String>::new());
    assert_eq!(twins(&run("on_tokio", 4), &run("on_smol", 4)), Vec::<String>::new());
    let imports = "use a::{\n    b,\n    c,\n    d,\n    e,\n};\n";
    assert_eq!(twins(imports, imports), Vec::<String>::new());
}

#[test]
fn the_top_level_holds_nothing_unexpected() {
    let strangers = |names: Vec<String>| -> Vec<String> {
        names.into_iter().filter(|name| !TOP_LEVEL.contains(&&**name)).collect()
    };
    assert_eq!(strangers(names_in(&root())), Vec::<String>::new());
    assert_eq!(strangers(vec!["notes.txt".into(), "docs".into()]), ["notes.txt"]);
}

#[test]
fn one_rust_version_is_named_everywhere() {
    let version = value_in(&read("Cargo.toml"), "rust-version").expect("the workspace names one");
    let channel = value_in(&read("rust-toolchain.toml"), "channel").expect("the pin names one");
    assert!(channel.starts_with(&format!("{version}.")), "{version} against {channel}");
}

#[test]
fn the_facts_in_the_readme_are_true() {
    let readme = read("README.md");
    let wrong = |(name, said): (&str, &str)| {
        let is = fact(name);
        (is != said).then(|| format!("the README says {name}: {said}, but it is {is}"))
    };
    let wrong: Vec<_> = facts_in(&readme).into_iter().filter_map(wrong).collect();
    assert_eq!(wrong, Vec::<String>::new());

    let sample = "Rust <!-- fact: rust version -->1.2<!-- /fact --> or newer";
    assert_eq!(facts_in(sample), [("rust version", "1.2")]);
    assert_ne!(fact("rust version"), "1.2");
}

#[test]
fn every_must_of_the_protocol_has_a_number_of_its_own() {
    assert_eq!(misnumbered(&read("docs/protocol.md")), Vec::<String>::new());
    assert_eq!(misnumbered("- **P-1** It MUST.\n- **P-3** It MUST NOT.\nIt MUST.").len(), 2);
}

#[test]
fn every_feature_called_done_names_a_test_that_exists() {
    assert_eq!(unproven(&read("docs/features.md"), &tests()), Vec::<String>::new());

    let known = BTreeSet::from(["it_works".to_owned()]);
    let row = |state, test| unproven(&format!("| 1 | x | {state} | `a` | {test} |"), &known);
    assert!(row("done", "`it_works`").is_empty() && row("later", "").is_empty());
    assert_eq!(
        (row("done", "").len(), row("done", "`gone`").len(), row("soon", "").len()),
        (1, 1, 1)
    );
}

#[test]
fn every_guarantee_names_tests_that_exist() {
    for page in ["docs/client.md", "docs/guarantees.md"] {
        assert_eq!(unshown(&read(page), &tests()), Vec::<String>::new());
    }

    let known = BTreeSet::from(["it_works".to_owned()]);
    let unshown = |test| unshown(&format!("| claim | shown by |\n| --- | --- |\n{test}"), &known);
    assert_eq!(unshown("| it works | `it_works` |"), Vec::<String>::new());
    assert_eq!(
        (unshown("| it works | |").len(), unshown("| a | `it_works`, `gone` |").len()),
        (1, 1)
    );
}

// Rules: what is wrong with one file.

type Rule = fn(&Source) -> Vec<String>;

fn file_length(source: &Source) -> Vec<String> {
    let is_test_file = source.is_test_file();
    let lines =
        if is_test_file { source.text.lines().count() } else { source.lines_without_tests() };
    (lines > FILE_LINES_MAX).then(|| format!("{lines} lines")).into_iter().collect()
}

fn function_length(source: &Source) -> Vec<String> {
    let long = |function: &&Function| function.lines.clone().count() > FUNCTION_LINES_MAX;
    source
        .functions
        .iter()
        .filter(long)
        .map(|function| format!("{} is long", function.name))
        .collect()
}

fn line_width(source: &Source) -> Vec<String> {
    let wide = |(_, line): &(usize, &str)| line.chars().count() > COLUMNS_MAX;
    source.text.lines().enumerate().filter(wide).map(|(at, _)| format!("line {}", at + 1)).collect()
}

fn module_doc(source: &Source) -> Vec<String> {
    (!source.text.starts_with("//! ")).then(|| "no `//!` at the top".into()).into_iter().collect()
}

fn empty_names(source: &Source) -> Vec<String> {
    let idents = source.tokens.iter().map(|token| &token.text);
    let paths = source.path.split(['/', '.']).map(str::to_owned);
    let is_getter = |function: &&Function| function.name.starts_with("get_");
    let getters = source.functions.iter().filter(is_getter).map(|function| function.name.clone());
    let empty = |name: &String| words(name).any(|word| EMPTY_WORDS.contains(&&*word));
    let idents = idents.filter(|name| !NAMES_OF_OTHERS.contains(&&***name));
    idents.cloned().chain(paths).filter(empty).chain(getters).collect()
}

fn unfinished(source: &Source) -> Vec<String> {
    let calls = ["todo", "unimplemented", "dbg"].map(|name| [name, "!", "("]);
    let found = calls.iter().flat_map(|call| source.places(call));
    found.map(|line| format!("unfinished at line {line}")).collect()
}

fn sleepy_tests(source: &Source) -> Vec<String> {
    let sleeps: [&[&str]; 4] = [
        &["thread", ":", ":", "sleep"],
        &["time", ":", ":", "sleep"],
        &["Timer", ":", ":", "after"],
        &["#", "[", "ignore"],
    ];
    let found = sleeps.iter().flat_map(|words| source.places(words));
    found.filter(|line| source.is_test(*line)).map(|line| format!("line {line}")).collect()
}

// Measures.

fn median_lines<'s>(sources: impl Iterator<Item = &'s Source>) -> usize {
    let functions = sources.flat_map(|source| &source.functions);
    let mut lines: Vec<_> = functions.map(|function| function.lines.clone().count()).collect();
    lines.sort_unstable();
    lines[lines.len() / 2]
}

fn pure_code_lines() -> usize {
    code_lines(&["pitaya-proto/src/", "pitaya-core/src/"]) - code_lines(&CORE_FEATURES)
}

fn code_lines(folders: &[&str]) -> usize {
    folders.iter().flat_map(|folder| sources_in(folder)).map(|source| source.code().len()).sum()
}

fn twins(one: &Source, other: &Source) -> Vec<String> {
    let said = |(lines, also): (source::Lines, source::Lines)| {
        let (from, to) = (lines.start(), lines.end());
        let place = format!("{}:{}-{}", other.path, also.start(), also.end());
        format!("{}:{from}-{to}: also at {place}", one.path)
    };
    equal_runs(one, other, EQUAL_LINES_MAX + 1).into_iter().map(said).collect()
}

fn lines_without_tests(folder: &str) -> usize {
    sources_in(folder).iter().map(Source::lines_without_tests).sum()
}

/// The README states a fact as `<!-- fact: NAME -->VALUE<!-- /fact -->`.
fn facts_in(readme: &str) -> Vec<(&str, &str)> {
    let marked = readme.split("<!-- fact: ").skip(1);
    marked
        .map(|rest| {
            let (name, rest) = rest.split_once(" -->").expect("a fact has a name");
            (name, rest.split_once("<!-- /fact -->").expect("a fact has an end").0)
        })
        .collect()
}

/// Line counts are rounded up, so that the README does not change with every line.
fn fact(name: &str) -> String {
    match name {
        "rust version" => value_in(&read("Cargo.toml"), "rust-version").expect("stated"),
        "pitaya version" => value_in(&read("Cargo.toml"), "version").expect("stated"),
        "proto and core code lines" => {
            let lines = pure_code_lines().next_multiple_of(100);
            format!("{},{:03}", lines / 1000, lines % 1000)
        }
        "tokio runtime lines" => {
            lines_without_tests("runtime-tokio/src/").next_multiple_of(10).to_string()
        }
        "smol runtime lines" => {
            lines_without_tests("runtime-smol/src/").next_multiple_of(10).to_string()
        }
        unknown => panic!("nobody checks the fact `{unknown}`"),
    }
}

/// Rules without a number, and those whose number does not follow the one before.
fn misnumbered(protocol: &str) -> Vec<String> {
    let (_, rules) = protocol.split_once("\n## ").unwrap_or(("", protocol));
    let unwrapped = rules.replace("\n  ", " ");
    let mut last = 0;
    let mut follows = |line: &str| {
        let number = line.split_once("**P-").and_then(|(_, rest)| rest.split_once("**"));
        let follows = number.is_some_and(|(number, _)| number.parse() == Ok(last + 1));
        last += usize::from(follows);
        follows
    };
    let commands = unwrapped.lines().filter(|line| line.contains("MUST"));
    commands.filter(|line| !follows(line)).map(str::to_owned).collect()
}

/// Rows `| number | feature | state | where | test |` that claim more than a test shows.
fn unproven(features: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let proven = |row: &[&str]| match row[3] {
        "done" => row[5]
            .split_whitespace()
            .next()
            .is_some_and(|test| tests.contains(test.trim_matches('`'))),
        state => state == "later",
    };
    let rows = features.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let numbered = rows.filter(|row| row.len() == 7 && row[1].parse::<usize>().is_ok());
    numbered.filter(|row| !proven(row)).map(|row| row[1..].join(" ")).collect()
}

/// Rows of the tables that say what shows a claim, without a test or with one that is not there.
fn unshown(guarantees: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut is_claim = false;
    let mut claims = |row: &&str| {
        is_claim = row.starts_with('|') && (is_claim || row.ends_with("| shown by |"));
        is_claim && !row.ends_with("| shown by |") && !row.starts_with("| ---")
    };
    let shown = |row: &str| {
        let last = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        let mut named = last.split(", ").map(|test| test.trim().trim_matches('`'));
        named.all(|test| tests.contains(test))
    };
    let rows = guarantees.lines().filter(|row| claims(row));
    rows.filter(|row| !shown(row)).map(str::to_owned).collect()
}

// Finding and judging the files.

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let named = |source: Source| -> Vec<String> {
        let tests =
            source.functions.iter().filter(|function| source.is_test(*function.lines.start()));
        tests.map(|function| function.name.clone()).collect()
    };
    sources().into_iter().flat_map(named).collect()
}

fn holds(rule: Rule) {
    let complaint = |source: &Source| -> Vec<String> {
        rule(source).into_iter().map(|what| format!("{}: {what}", source.path)).collect()
    };
    let complaints: Vec<_> = sources().iter().flat_map(complaint).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn notices(rule: Rule, good: &str, bad: &str) {
    assert_eq!(rule(&Source::parse("src/a.rs", good)), Vec::<String>::new());
    assert_ne!(rule(&Source::parse("src/a.rs", bad)), Vec::<String>::new());
}

/// Every Rust file that a person wrote.
fn sources() -> Vec<Source> {
    let sources = sources_in("");
    assert!(sources.len() > 100, "files were not found");
    sources
}

/// Those below a folder.
fn sources_in(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect_rust(&root(), &mut paths);
    let path_in_tree = |path: &Path| {
        path.strip_prefix(root()).expect("collected below it").to_string_lossy().replace('\\', "/")
    };
    let sources: Vec<_> = paths
        .iter()
        .map(|path| (path_in_tree(path), path))
        .filter(|(name, _)| name.starts_with(folder))
        .map(|(name, path)| (name, fs::read_to_string(path).expect("a file just listed")))
        .filter(|(_, text)| !text.lines().take(2).any(|line| line.contains("@generated")))
        .map(|(name, text)| Source::parse(&name, &text))
        .collect();
    assert!(!sources.is_empty(), "{folder} has no sources");
    sources
}

fn collect_rust(folder: &Path, paths: &mut Vec<PathBuf>) {
    for name in names_in(folder).into_iter().filter(|name| !NOT_OURS.contains(&&**name)) {
        let path = folder.join(name);
        if path.is_dir() {
            collect_rust(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder of the repository");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> =
        entries.map(|entry| name(entry.expect("an entry just listed"))).collect();
    names.sort();
    names
}

/// The words of `snake_case`, `CamelCase` and `SHOUTING_CASE`, in lower case.
fn words(name: &str) -> impl Iterator<Item = String> {
    let is_shouting = !name.chars().any(char::is_lowercase);
    let mut split = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !is_shouting {
            split.push('_');
        }
        split.extend(letter.to_lowercase());
    }
    split.split('_').map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The value of the first `key = "value"` line of a TOML file.
fn value_in(toml: &str, key: &str) -> Option<String> {
    let value =
        |line: &str| line.strip_prefix(key)?.trim_start().strip_prefix("= \"").map(str::to_owned);
    toml.lines().find_map(value).map(|value| value.trim_end_matches('"').to_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the root").to_owned()
}

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 60;
const MEDIAN_FUNCTION_LINES_MAX: usize = 10;
const COLUMNS_MAX: usize = 100;
const PURE_CODE_LINES_MAX: usize = 4_000;
/// What stands on the core as its driver does, and can be left out by who reads the rest; and
/// tables, which are looked up and not read.
const CORE_FEATURES: [&str; 10] = [
    "pitaya-core/src/app/lifecycle.rs",
    "pitaya-core/src/broadcast.rs",
    "pitaya-core/src/cluster/",
    "pitaya-core/src/counters.rs",
    "pitaya-core/src/limits.rs",
    "pitaya-core/src/planted.rs",
    "pitaya-core/src/session/afar.rs",
    "pitaya-core/src/session/group.rs",
    "pitaya-proto/src/link.rs",
    "pitaya-proto/src/request.rs",
];
const RUNTIME_LINES_MAX: usize = 250;
const EQUAL_LINES_MAX: usize = 5;

/// Words that name the absence of an idea.
const EMPTY_WORDS: [&str; 6] = ["helper", "helpers", "manager", "managers", "util", "utils"];

/// What a library we use calls things.
const NAMES_OF_OTHERS: [&str; 2] = ["Helper", "set_helper"];

/// Folders without sources of ours.
const NOT_OURS: [&str; 5] = [".git", "artifacts", "corpus", "node_modules", "target"];

const TOP_LEVEL: [&str; 24] = [
    ".ci",
    ".git",
    ".github",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "docs",
    "examples",
    "fuzz",
    "pitaya-core",
    "pitaya-driver",
    "pitaya-proto",
    "runtime-smol",
    "runtime-tokio",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "target",
    "tests",
];
