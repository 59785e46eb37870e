//! `pitaya repl`: talks to a server line by line.

mod command;
mod connection;
mod find;
mod json;
mod prompt;
mod screen;
mod script;
mod session;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::door::Trust;
use command::Command;
use connection::Routes;
use screen::Screen;
use session::{Failure, Session, Then};

/// Talk to a server: request, notify, see its pushes.
///
/// Reads commands from a prompt, from standard input, or from a script.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to connect at once, such as tcp://127.0.0.1:3250; without a scheme wss, ws, tls and
    /// tcp are tried
    url: Option<String>,
    /// Where a server describes its Protobuf types: not there yet
    #[arg(short, long, value_name = "ROUTE", hide = true)]
    docs: Option<String>,
    /// Run the commands of a file, one on each line, and leave
    #[arg(short, long, value_name = "FILE")]
    filename: Option<PathBuf>,
    /// Show JSON over several lines; off by default, so that a reply is one line
    #[arg(short, long)]
    pretty: bool,
    #[command(flatten)]
    trust: Trust,
}

/// Talks until the commands end.
///
/// # Errors
///
/// The script cannot be read, or the runtime refuses.
pub(crate) fn run(args: Args) -> Result<ExitCode, String> {
    if args.docs.is_some() {
        return Err("--docs is for Protobuf, which comes with descriptors later".to_owned());
    }
    let screen = Arc::new(Screen::new(args.pretty));
    let talk = async {
        let routes = Routes::default();
        let mut session = Session::new(Arc::clone(&screen), routes.clone(), args.trust);
        let outcome = match &args.filename {
            Some(path) => run_script(&mut session, args.url, path, &screen).await,
            None => converse(&mut session, args.url, &screen, routes).await,
        };
        session.leave().await;
        outcome
    };
    let all_well = pitaya_tokio::block_on(talk).map_err(|error| error.to_string())??;
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a script; whether every request was answered. What the server refuses does not end it, as
/// in Pitaya; what cannot be done does.
async fn run_script(
    session: &mut Session, url: Option<String>, path: &Path, screen: &Screen,
) -> Result<bool, String> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let steps = script::parse(&text)
        .map_err(|script::ScriptError { line, error }| format!("{name}:{line}: {}", error.0))?;
    if url.is_some() {
        let connected = session.carry_out(Command::Connect(url)).await;
        connected.map_err(|failure| failure.to_string())?;
    }
    let mut all_well = true;
    for script::Step { line, command } in steps {
        match session.carry_out(command).await {
            Ok(Then::GoOn) => {}
            Ok(Then::Leave) => break,
            Err(Failure::Unanswered) => all_well = false,
            Err(Failure::Refused(why)) => return Err(format!("{name}:{line}: {why}")),
        }
    }
    if !all_well {
        screen.complain(&format!("{name}: not every request was answered well"));
    }
    Ok(all_well)
}

/// Carries out lines until they end; whether all went well, which counts if nobody types.
async fn converse(
    session: &mut Session, url: Option<String>, screen: &Arc<Screen>, routes: Routes,
) -> Result<bool, String> {
    let mut lines = prompt::lines(screen, routes)?;
    let mut all_well = true;
    if url.is_some() {
        let connected = session.carry_out(Command::Connect(url)).await;
        all_well &= is_well(connected.map(|_| ()), screen);
    }
    while let Some(line) = lines.next().await {
        let done = match command::parse(&line.text) {
            Ok(None) => Ok(Then::GoOn),
            Ok(Some(command)) => session.carry_out(command).await,
            Err(error) => Err(Failure::Refused(error.0)),
        };
        if done == Ok(Then::Leave) {
            lines.stop();
            break;
        }
        all_well &= is_well(done.map(|_| ()), screen);
    }
    all_well |= lines.typed;
    lines.end();
    Ok(all_well)
}

/// Whether it went well; if not, it is shown by now.
fn is_well(done: Result<(), Failure>, screen: &Screen) -> bool {
    match done {
        Ok(()) => true,
        Err(Failure::Unanswered) => false,
        Err(Failure::Refused(why)) => {
            screen.complain(&why);
            false
        }
    }
}
