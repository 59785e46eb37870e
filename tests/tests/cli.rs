//! The command `pitaya` as people use it, and the parts of it that need no server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../runtime-tokio/cli/repl/command.rs"]
mod command;
#[path = "../../runtime-tokio/cli/repl/script.rs"]
mod script;
