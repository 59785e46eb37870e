//! The client in TypeScript, in Node and in a browser, and the chat that is made with it.
//!
//! The tests themselves are JavaScript, in `tests/web`; here is what they need, on both runtimes.
//! Where there is no Node, no browser or no `npm ci` in that folder, nothing is tested and that is
//! said; with `PITAYA_WEB_TESTS=required` it is an error, and the packages are installed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use pitaya_driver::Native;
use pitaya_smol::Smol;
use pitaya_tokio::Tokio;
use serde_json::json;
use tokio::runtime::Builder;

use hall::{BlockOn, Hall};

#[path = "web/hall.rs"]
mod hall;
#[path = "web/tools.rs"]
mod tools;

#[test]
fn the_client_in_typescript_keeps_the_protocol() {
    if tools::has_node() {
        tools::node_tests("wire.test.js", &[]);
        tools::node_tests("client.test.js", &[]);
    }
}

#[test]
fn the_compiled_client_is_that_of_its_source() {
    if !tools::has_packages() {
        return;
    }
    let compiled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("web");
    let source = workspace().join("examples/web");
    compile(&["--project", source.to_str().unwrap(), "--outDir", compiled.to_str().unwrap()]);
    for file in ["connection.js", "pitaya.js", "wire.js"] {
        let [committed, fresh] =
            [&source, &compiled].map(|of| fs::read_to_string(of.join(file)).unwrap());
        assert!(committed == fresh, "{file} is not that of its source: compile it again");
    }
}

#[test]
fn a_client_with_the_types_of_its_server_is_checked_by_the_compiler() {
    if tools::has_packages() {
        compile(&["--project", "."]);
    }
}

#[test]
fn what_the_document_shows_compiles() {
    if !tools::has_packages() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("web-client");
    // What an earlier document showed is gone.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let document = fs::read_to_string(workspace().join("docs/web-client.md")).unwrap();
    let snippets = snippets(&document);
    assert_eq!(snippets.len(), 3, "in a page, in Node, with types");
    let web = workspace().join("examples/web");
    for (number, snippet) in snippets.iter().enumerate() {
        // Where a page finds the client, and where a program does.
        let client = format!("\"{}\"", web.join("pitaya.js").display());
        let snippet = snippet.replace("\"/pitaya.js\"", &client);
        let snippet = snippet.replace("\"./pitaya.js\"", &client);
        fs::write(folder.join(format!("{number}.ts")), snippet).unwrap();
    }
    fs::write(folder.join("ws.d.ts"), TYPES_OF_WS).unwrap();
    let project = json!({
        "extends": web.join("tsconfig.json"),
        // A document names what its readers go on with.
        "compilerOptions": { "noEmit": true, "noUnusedLocals": false },
        "include": ["*.ts"],
    });
    fs::write(folder.join("tsconfig.json"), project.to_string()).unwrap();
    compile(&["--project", folder.to_str().unwrap()]);
}

#[test]
fn the_client_in_node_talks_to_our_server_on_tokio() {
    talks_to_our_server::<Tokio>("tokio", |serve| {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(serve);
    });
}

#[test]
fn the_client_in_node_talks_to_our_server_on_smol() {
    talks_to_our_server::<Smol>("smol", |serve| pitaya_smol::block_on(serve).unwrap());
}

#[test]
fn the_client_in_node_talks_to_pitayas_own_server() {
    if let Some(peer) = tools::has_packages().then(tools::go_peer).flatten() {
        let environment = [("PITAYA_GO_PEER", peer.to_str().unwrap())];
        let row = ("TypeScript, to Pitaya's server", "Node");
        tools::peer_tests(row, "go.test.js", &environment);
    }
}

#[test]
fn people_chat_in_a_browser_on_tokio() {
    people_chat("chat", "tokio");
}

#[test]
fn people_chat_in_a_browser_on_smol() {
    people_chat("chat", "smol");
}

#[test]
fn people_chat_on_while_servers_are_killed_on_tokio() {
    people_chat("cluster-chat", "tokio");
}

#[test]
fn people_chat_on_while_servers_are_killed_on_smol() {
    people_chat("cluster-chat", "smol");
}

fn talks_to_our_server<R: Native>(runtime: &str, block_on: BlockOn) {
    if tools::has_packages() {
        let hall = Hall::open::<R>(block_on);
        let row = ("TypeScript, in Node", runtime);
        tools::peer_tests(row, "server.test.js", &[("PITAYA_URL", &hall.url())]);
    }
}

/// In an example, by the tests of the same name.
fn people_chat(example: &str, runtime: &str) {
    // A browser and its pages are enough for one machine.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(browser) = tools::has_packages().then(tools::browser).flatten() else { return };
    let chat = build(example, runtime);
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{example}-{runtime}"));
    fs::create_dir_all(&screenshots).unwrap();
    println!("screenshots in {}", screenshots.display());
    let environment = [
        ("PITAYA_BROWSER", browser.to_str().unwrap()),
        ("PITAYA_CHAT", chat.to_str().unwrap()),
        ("PITAYA_SCREENSHOTS", screenshots.to_str().unwrap()),
    ];
    let row = (&*format!("TypeScript, in a browser: {example}"), runtime);
    tools::peer_tests(row, &format!("{example}.test.js"), &environment);
}

/// The example as a program of its own, under a name that the other runtime does not take.
fn build(example: &str, runtime: &str) -> PathBuf {
    let build = ["build", "--package", "pitaya-examples", "--example", example];
    let features = ["--no-default-features", "--features", runtime];
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    tools::run(
        Command::new(env!("CARGO"))
            .args(build)
            .args(features)
            .arg("--target-dir")
            .arg(target)
            .current_dir(workspace()),
    );
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{example}-on-{runtime}"));
    fs::copy(target.join("debug/examples").join(example), &program).unwrap();
    program
}

fn compile(arguments: &[&str]) {
    let compiler = "node_modules/typescript/bin/tsc";
    tools::run(Command::new("node").arg(compiler).args(arguments).current_dir(tools::folder()));
}

/// The texts in JavaScript and TypeScript of a document, also those in a page.
fn snippets(document: &str) -> Vec<&str> {
    let fenced = document.split("\n```").skip(1).step_by(2);
    fenced
        .filter_map(|fenced| {
            let (language, text) = fenced.split_once('\n')?;
            match language {
                "js" | "ts" => Some(text),
                "html" => text.split_once("<script type=\"module\">")?.1.split("</script>").next(),
                _ => None,
            }
        })
        .collect()
}

/// The package brings none, and its class is like that of a browser.
const TYPES_OF_WS: &str = "\
declare module \"ws\" { const WebSocket: typeof globalThis.WebSocket; export default WebSocket; }";

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
