//! The command `pitaya` as people use it, and the parts of it that need no server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../runtime-tokio/cli/repl/command.rs"]
mod command;
#[path = "../../runtime-tokio/cli/repl/json.rs"]
mod json;
#[path = "cli/running.rs"]
mod running;
#[path = "../../runtime-tokio/cli/repl/script.rs"]
mod script;

use std::fs;
use std::net::TcpListener;
use std::process::id;

use pitaya_tests::certificate::Certificate;
use running::{Hall, Said, pitaya, scratch, type_into_prompt};
use serde_json::Value;

#[test]
fn lines_from_a_pipe_are_answered_one_by_one() {
    let hall = Hall::start();
    let lines = r#"
        # blank lines and remarks are passed over
        request hall.echo {"text": "a  b"}
        request hall.push 7
        request hall.echo
        notify hall.wave
        routes
    "#;
    let said = pitaya(&["repl", &hall.url()], lines);
    let expected = [
        &format!("connected to {}", hall.url()),
        r#"sv-> {"text": "a  b"}"#,
        "sv-> onSeven 7",
        "sv-> null",
        "sv-> ",
        "hall.coded",
        "hall.echo",
        "hall.push",
        "hall.wave",
        "onSeven",
    ];
    assert_eq!(said.lines(), expected);
    assert_eq!((said.code, &*said.errors), (0, ""));
}

#[test]
fn what_goes_wrong_in_a_pipe_is_told_and_the_rest_still_runs() {
    let hall = Hall::start();
    let lines = "fly\nrequest hall.fail\nrequest\nconnect\nrequest hall.echo 1\n\
                 request hall.gone\nroutes";
    let said = pitaya(&["repl", &hall.url()], lines);
    let expected = [
        "error HALL-7: it is closed",
        "  opens: at 8",
        "sv-> 1",
        "error PIT-404: pitaya/handler: gate.hall.gone not found",
        "hall.coded",
        "hall.echo",
        "hall.fail",
    ];
    assert_eq!(said.lines()[1..], expected);
    let errors: Vec<_> = said.errors.lines().collect();
    let connected = format!("error: connected to {} already", hall.url());
    let expected = [
        "error: no command `fly`; `help` lists them",
        "error: write it as: request ROUTE [DATA]",
        &connected,
    ];
    assert_eq!((said.code, errors), (1, expected.to_vec()));
}

#[test]
fn the_server_is_told_what_was_set_before() {
    let hall = Hall::start();
    let lines = format!(
        "request hall.who\nsethandshake platform mac\n\
         sethandshake {{\"sys\":{{\"clientVersion\":\"3\"}},\"user\":{{\"name\":\"ada\"}}}}\n\
         connect {}\nrequest hall.who\ndisconnect\nrequest hall.who",
        hall.address
    );
    let said = pitaya(&["repl"], &lines);
    let who = r#"sv-> ["mac","3","20",{"client":"repl","name":"ada"}]"#;
    assert_eq!(said.lines(), [&format!("connected to {}", hall.url()), who, "disconnected"]);
    assert_eq!(said.errors.matches("error: not connected").count(), 2);
}

#[test]
fn a_kick_is_shown_with_its_reason() {
    let hall = Hall::start();
    let said = pitaya(&["repl", &hall.url()], "request hall.kick");
    assert!(said.lines().contains(&"closed: kicked: go home"), "{said:?}");
    assert!(said.lines().contains(&"error PIT-499: broken low-level pipe"), "{said:?}");
    assert_eq!(said.code, 1);
}

#[test]
fn a_terminal_is_not_told_what_to_do_by_a_server() {
    let hall = Hall::start();
    let said = pitaya(&["repl", &hall.url()], "request hall.rude");
    assert_eq!(said.lines()[1], r"sv-> \u{1b}[2J");
}

#[test]
fn a_script_runs_to_its_end_and_shows_json_as_asked() {
    let hall = Hall::start();
    let script = scratch("whole.txt");
    let lines = format!("connect {}\nrequest hall.echo {{\"b\":[1],\"a\":{{}}}}\n", hall.address);
    fs::write(&script, lines).unwrap();
    let path = script.to_str().unwrap();
    let plain = pitaya(&["repl", "-f", path], "");
    assert_eq!((plain.code, plain.lines()[1]), (0, r#"sv-> {"b":[1],"a":{}}"#));
    let pretty = pitaya(&["repl", "--pretty", "--filename", path], "");
    let expected = ["sv-> {", "  \"b\": [", "    1", "  ],", "  \"a\": {}", "}"];
    assert_eq!((pretty.code, &pretty.lines()[1..]), (0, &expected[..]));
}

#[test]
fn a_script_goes_on_after_an_error_of_the_server_and_fails_in_the_end() {
    let hall = Hall::start();
    let script = scratch("refused.txt");
    fs::write(&script, "request hall.fail\nrequest hall.echo 2\nexit\nrequest hall.echo 3")
        .unwrap();
    let said = pitaya(&["repl", "-f", script.to_str().unwrap(), &hall.url()], "");
    assert_eq!(said.lines()[1..], ["error HALL-7: it is closed", "  opens: at 8", "sv-> 2"]);
    assert_eq!(said.code, 1);
}

#[test]
fn a_script_goes_on_after_the_type_of_a_push_which_json_has_no_use_for() {
    let hall = Hall::start();
    let script = scratch("push.txt");
    fs::write(&script, "push onSeven Seven\nrequest hall.echo 2").unwrap();
    let said = pitaya(&["repl", "-f", script.to_str().unwrap(), &hall.url()], "");
    let note = "the pushes of onSeven have types in Protobuf alone, which comes with descriptors \
                later";
    assert_eq!((&said.lines()[1..], said.code), (&[note, "sv-> 2"][..], 0), "{said:?}");
}

#[test]
fn a_script_ends_at_what_cannot_be_done_and_names_the_line() {
    let script = scratch("undone.txt");
    let name = script.to_str().unwrap();
    for (lines, at, why) in [
        ("request hall.echo", 1, "not connected: `connect` comes first"),
        ("routes\nconnect tcp://127.0.0.1:1\n", 2, "cannot connect to tcp://127.0.0.1:1: "),
        ("routes\n\nconnect 127.0.0.1:1", 3, "cannot connect to 127.0.0.1:1: "),
        ("routes\nfly", 2, "no command `fly`"),
    ] {
        fs::write(&script, lines).unwrap();
        let said = pitaya(&["repl", "--filename", name], "");
        let start = format!("error: {name}:{at}: {why}");
        assert!(said.errors.starts_with(&start), "{said:?} instead of {start}");
        assert_eq!(said.code, 1);
    }
}

#[test]
fn a_mistake_in_the_last_line_of_a_script_is_known_before_the_first_runs() {
    let script = scratch("mistake.txt");
    fs::write(&script, "routes\nrequest").unwrap();
    let said = pitaya(&["repl", "--filename", script.to_str().unwrap()], "");
    assert_eq!((said.lines().len(), said.code), (0, 1));
    let gone = pitaya(&["repl", "--filename", "/nowhere/at/all"], "");
    assert!(gone.errors.starts_with("error: /nowhere/at/all: "), "{gone:?}");
}

#[test]
fn who_asks_for_protobuf_is_told_that_it_is_not_there_yet() {
    let later = pitaya(&["repl", "--docs", "connector.docs.protos"], "");
    assert!(later.errors.contains("descriptors later") && later.code == 1, "{later:?}");
}

#[test]
fn pushes_are_printed_above_the_prompt_and_lines_are_remembered() {
    let hall = Hall::start();
    let history = scratch("history");
    let turns = [
        ("connected to", "notify hall.push\r"),
        ("sv-> onSeven 7", "req\thall.c\t\r"),
        ("sv-> null", "exit\r"),
    ];
    let (code, shown) = type_into_prompt(&["repl", &hall.url()], &history, &turns);
    assert_eq!(code, 0, "{shown}");
    let after_push = shown.split_once("sv-> onSeven 7\r\n").map(|(_, after)| after);
    assert!(after_push.is_some_and(|after| after.contains("pitaya> ")), "{shown}");
    let remembered = fs::read_to_string(history).unwrap();
    assert!(remembered.ends_with("notify hall.push\nrequest hall.coded\nexit\n"), "{remembered}");
}

#[test]
fn every_kind_of_door_is_gone_through() {
    let hall = Hall::start();
    let authorities = scratch("authorities.pem");
    fs::write(&authorities, &hall.certificate.chain).unwrap();
    let trust = ["--ca", authorities.to_str().unwrap()];
    for url in hall.urls() {
        let talk = [&["repl", &url], &trust[..]].concat();
        let said = pitaya(&talk, "request hall.push\nrequest hall.echo 5");
        let expected = [&format!("connected to {url}"), "sv-> onSeven 7", "sv-> null", "sv-> 5"];
        assert_eq!((said.lines(), said.code), (expected.to_vec(), 0), "{said:?}");
        let load = ["bench", &url, "--route", "hall.echo", "-c", "3", "-d", "2", "--json"];
        let said =
            pitaya(&[&load[..], &["--duration", "200ms", "--warmup", "0s"], &trust].concat(), "");
        let report = said.json();
        assert_eq!((said.code, &report["connected"]), (0, &3.into()), "{said:?}");
        assert!(report["replies"].as_u64() > Some(0), "{report}");
    }
}

#[test]
fn a_door_that_nobody_names_the_kind_of_is_found() {
    let hall = Hall::start();
    let authorities = scratch("finders.pem");
    fs::write(&authorities, &hall.certificate.chain).unwrap();
    for url in hall.urls() {
        let (_, address) = url.split_once("://").unwrap();
        let talk = ["repl", address.trim_end_matches('/'), "--ca", authorities.to_str().unwrap()];
        let said = pitaya(&talk, "request hall.echo 5\ndisconnect\nconnect\nrequest hall.echo 6");
        let connected = format!("connected to {url}");
        let expected = [&connected, "sv-> 5", "disconnected", &connected, "sv-> 6"];
        assert_eq!((said.lines(), said.code), (expected.to_vec(), 0), "{said:?}");
    }
}

#[test]
fn whoever_speaks_in_no_way_is_left_with_the_reason_for_each() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let said = pitaya(&["repl", &address], "");
    let mut lines = said.errors.lines();
    let start = format!("error: no connection to {address}, whichever way it is spoken to:");
    assert_eq!((lines.next(), said.code), (Some(&*start), 1), "{said:?}");
    let ways: Vec<_> = lines.map(|line| line.trim().split(':').next().unwrap()).collect();
    assert_eq!(ways, ["wss", "ws", "tls", "tcp"], "{said:?}");
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_talked_to_unasked() {
    let hall = Hall::start();
    let other = scratch("others.pem");
    fs::write(&other, Certificate::localhost().chain).unwrap();
    for url in &hall.urls()[1..] {
        let is_tls = !url.starts_with("ws:");
        let unknown = pitaya(&["repl", url, "--ca", other.to_str().unwrap()], "");
        assert_eq!(unknown.code, i32::from(is_tls), "{unknown:?}");
        let says_why = unknown.errors.contains(&format!("no connection to {url}: invalid peer"));
        assert_eq!(says_why, is_tls, "{unknown:?}");
        let unnamed = pitaya(&["repl", url], "");
        assert_eq!(unnamed.code, i32::from(is_tls), "{unnamed:?}");
        let anybody = pitaya(&["repl", url, "--insecure"], "");
        assert_eq!(anybody.code, 0, "{anybody:?}");
    }
}

#[test]
fn a_closed_loop_is_measured() {
    let hall = Hall::start();
    let pid = id().to_string();
    let load = ["--connections", "4", "--depth", "3", "--data", "{\"a\":1}"];
    let said = bench(&hall, "hall.echo", &[&load[..], &["--pid", &pid]].concat());
    let report = said.json();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!((&report["loop"], &report["connected"]), (&"closed".into(), &4.into()));
    assert_eq!((&report["errors"], &report["body_bytes"]), (&0.into(), &7.into()));
    assert!(report["replies"].as_u64() > Some(0), "{report}");
    assert!(report["latency_count"].as_u64() > Some(0), "{report}");
    let latency = |name: &str| report["latency_us"][name].as_u64();
    assert!(latency("min") <= latency("p50") && latency("p50") <= latency("p99"), "{report}");
    assert!(latency("p99.9") <= latency("max"), "{report}");
    assert!(report["own_cpu_us_per_reply"].as_f64() > Some(0.0), "{report}");
    assert_eq!(report["server_cpu_us_per_reply"].is_f64(), cfg!(target_os = "linux"));
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let hall = Hall::start();
    let load = ["--connections", "3", "--depth", "64", "--rate", "200", "--payload", "50"];
    let said = bench(&hall, "hall.echo", &load);
    let report = said.json();
    assert_eq!((said.code, &report["loop"]), (0, &"open".into()), "{said:?}");
    assert_eq!((&report["body_bytes"], &report["errors"]), (&50.into(), &0.into()));
    // 0.3 s at 200 a second; how many replies fall into that time is up to the machine.
    assert_eq!(report["latency_count"], 60, "{report}");
}

#[test]
fn what_waits_to_be_sent_is_part_of_the_latency() {
    let hall = Hall::start();
    let said = bench(&hall, "hall.slow", &["--connections", "1", "--depth", "1", "--rate", "100"]);
    let report = said.json();
    assert_eq!((said.code, &report["errors"]), (0, &0.into()), "{report}");
    // A call takes 20 ms, but the last of 30 has waited for that of many others.
    assert!(report["latency_us"]["max"].as_u64() > Some(200_000), "{report}");
}

#[test]
fn a_rate_that_is_not_reached_is_an_error() {
    let hall = Hall::start();
    let load = ["--connections", "1", "--depth", "1", "--rate", "20000", "--timeout", "100ms"];
    let said = bench(&hall, "hall.slow", &load);
    let report = said.json();
    let unsent = &report["errors_by_kind"]["due, but not sent: too much was in flight"];
    assert!(unsent.as_u64() > Some(0) && said.code == 1, "{report}");
}

#[test]
fn errors_are_counted_by_kind_and_end_badly() {
    let hall = Hall::start();
    let kinds = |route: &str, load: &[&str]| {
        let said = bench(&hall, route, load);
        let report = said.json();
        assert_eq!((said.code, report["errors"].as_u64() > Some(0)), (1, true), "{said:?}");
        let kinds = report["errors_by_kind"].as_object().unwrap();
        kinds.keys().cloned().collect::<Vec<_>>().join(", ")
    };
    assert_eq!(kinds("hall.fail", &[]), "HALL-7: it is closed");
    let wrong = kinds("hall.echo", &["--data", "1", "--expect", "2"]);
    assert_eq!(wrong, "a reply that is not the expected one");
    let kicked = kinds("hall.kick", &["--connections", "2"]);
    assert_eq!(kicked, "PIT-499: broken low-level pipe, closed: kicked: go home");
    assert_eq!(kinds("hall.never", &["--timeout", "100ms"]), "PIT-504: request timeout");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let hall = Hall::start();
    let nobody = pitaya(&["bench", "tcp://127.0.0.1:1", "--route", "a.b", "-c", "3"], "");
    let start = "error: cannot connect to tcp://127.0.0.1:1: connection refused";
    assert!(nobody.errors.starts_with(start) && nobody.code == 1, "{nobody:?}");
    let many = ["bench", &hall.url(), "--route", "a.b", "--connections", "1000000"];
    let many = pitaya(&many, "");
    assert!(many.errors.contains("ask for fewer") && many.code == 1, "{many:?}");
    let data = pitaya(&["bench", &hall.url(), "--route", "a.b", "--data", "{"], "");
    assert!(data.errors.starts_with("error: the data is no JSON"), "{data:?}");
    assert_eq!(pitaya(&["bench", &hall.url()], "").code, 2);
}

#[test]
fn people_see_progress_and_percentiles() {
    let hall = Hall::start();
    let load = ["bench", &hall.url(), "--route", "hall.echo", "-c", "2", "--duration", "1100ms"];
    let said = pitaya(&load, "");
    assert!(said.errors.contains(" replies  0 errors"), "{said:?}");
    let lines = said.lines();
    assert!(lines[0].contains("█") && lines[0].ends_with(" replies  0 errors"), "{said:?}");
    assert!(lines[1].starts_with(" p50 ") && lines[1].contains("p99.9"), "{said:?}");
    assert!(lines[2].contains(" replies/s"), "{said:?}");
}

fn bench(hall: &Hall, route: &str, load: &[&str]) -> Said {
    let url = hall.url();
    let short = ["--duration", "300ms", "--warmup", "50ms", "--json"];
    pitaya(&[&["bench", &url, "--route", route][..], load, &short].concat(), "")
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }
}
