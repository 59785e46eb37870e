//! The corpora of the fuzz targets, replayed: what was found once is looked at for ever.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pitaya_properties::{Property, TARGETS};

#[test]
fn the_packets_are_the_same_however_the_stream_is_cut() {
    replay("packet");
}

#[test]
fn a_message_that_decodes_is_encoded_the_same_way_again() {
    replay("message_decode");
}

#[test]
fn a_message_that_was_encoded_decodes_to_itself() {
    replay("message_round_trip");
}

#[test]
fn what_inflates_is_what_it_holds_and_no_more_than_its_cap() {
    replay("inflate");
}

#[test]
fn the_frames_between_servers_are_the_same_however_the_stream_is_cut() {
    replay("frame");
}

#[test]
fn what_has_an_order_between_servers_keeps_it_and_whoever_waits_is_told_once() {
    replay("link");
}

#[test]
fn a_handshake_is_within_its_limits_and_the_same_when_said_again() {
    replay("handshake");
}

#[test]
fn a_connection_says_only_what_its_state_allows() {
    replay("server_conn");
}

#[test]
fn every_waiter_of_a_client_is_told_exactly_once() {
    replay("client_conn");
}

#[test]
fn calls_run_as_a_plain_list_of_the_rules_says() {
    replay("call_queue");
}

#[test]
fn a_user_id_has_one_session_whatever_servers_hear_when() {
    replay("directory");
}

#[test]
fn every_request_of_a_player_has_one_outcome() {
    replay("player");
}

#[test]
fn what_one_end_of_a_pipe_says_the_other_hears() {
    replay("pipe");
}

#[test]
fn a_proxy_header_is_the_same_however_it_is_cut_and_never_read_past() {
    replay("proxy");
}

#[test]
fn a_discovery_record_that_is_heeded_is_legal_and_unmistakable() {
    replay("record");
}

#[test]
fn every_line_of_the_prompt_is_a_command_or_says_why_not() {
    replay("repl_command");
}

#[test]
fn a_script_is_the_commands_on_its_lines() {
    replay("repl_script");
}

#[test]
fn layers_give_the_packets_that_a_plain_reading_of_the_rules_gives() {
    replay("transport");
}

#[test]
fn a_websocket_gives_the_same_messages_however_the_wire_is_cut() {
    replay("web_socket");
}

#[test]
fn every_target_has_a_corpus_a_binary_and_a_test() {
    let names = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    let targets = names(&TARGETS.map(|(name, _)| name));
    assert_eq!(targets.len(), TARGETS.len(), "a name twice");
    let corpora = entries(&fuzz().join("corpus"));
    assert_eq!(corpora.iter().map(|path| stem(path)).collect::<BTreeSet<_>>(), targets);
    let binaries = entries(&fuzz().join("fuzz_targets"));
    assert_eq!(binaries.iter().map(|path| stem(path)).collect::<BTreeSet<_>>(), targets);
    let tests: Vec<_> = include_str!("corpus.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("    replay(\"")?.strip_suffix("\");"))
        .collect();
    assert_eq!(names(&tests), targets);
}

#[test]
fn a_corpus_stays_small() {
    for (name, _) in TARGETS {
        let kept = |(path, _): &(PathBuf, Vec<u8>)| stem(path).len() != SHA1_DIGITS;
        let inputs: Vec<_> = inputs(name).into_iter().filter(kept).collect();
        let bytes: usize = inputs.iter().map(|(_, data)| data.len()).sum();
        assert!(inputs.len() <= INPUTS_MAX, "{name}: {} inputs", inputs.len());
        assert!(bytes <= CORPUS_BYTES_MAX, "{name}: {bytes} bytes");
    }
}

#[test]
#[should_panic(expected = "one, two, three")]
fn an_input_that_breaks_its_property_is_noticed() {
    let picky: Property = |data| assert!(!data.ends_with(&[1, 2, 3]), "one, two, three");
    check(picky, Path::new("one"), b"fine");
    check(picky, Path::new("another"), &[0, 1, 2, 3]);
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    let (_, property) = target.expect("a target of that name");
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "{name} has no corpus");
    for (path, data) in &inputs {
        check(*property, path, data);
    }
    println!("{name}: {} inputs", inputs.len());
}

fn check(property: Property, path: &Path, data: &[u8]) {
    let _culprit = Culprit(path);
    property(data);
}

/// Says which input it was, if it was one.
struct Culprit<'p>(&'p Path);

impl Drop for Culprit<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input is {}", self.0.display());
        }
    }
}

fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: PathBuf| {
        let data = fs::read(&path).expect("a file just listed");
        (path, data)
    };
    entries(&fuzz().join("corpus").join(name)).into_iter().map(read).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut paths: Vec<_> = listed.map(|entry| entry.expect("just listed").path()).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("it has a name").to_string_lossy().into_owned()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the root").join("fuzz")
}

/// What libFuzzer finds it names so; it is replayed, but it is not in the repository.
const SHA1_DIGITS: usize = 40;
const INPUTS_MAX: usize = 60;
const CORPUS_BYTES_MAX: usize = 200 << 10;
