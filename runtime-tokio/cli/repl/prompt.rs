//! Where lines come from: a prompt with history and completion, or a pipe.

use std::env;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::{Arc, mpsc as sync_mpsc};
use std::thread::{self, JoinHandle};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use tokio::sync::mpsc;

use super::command::COMMANDS;
use super::connection::Routes;
use super::screen::Screen;

/// Lines, read by a thread of their own: one at a time, when the one before is done with.
pub(crate) struct Lines {
    asked: mpsc::Receiver<Line>,
    reader: JoinHandle<()>,
    /// Whether somebody types.
    pub(crate) typed: bool,
}

/// A line. When it is dropped, the next one is read.
pub(crate) struct Line {
    pub(crate) text: String,
    _next: sync_mpsc::Sender<()>,
}

/// Lines from a prompt if standard input and output are a terminal, else from standard input.
///
/// # Errors
///
/// The terminal refuses.
pub(crate) fn lines(screen: &Arc<Screen>, routes: Routes) -> Result<Lines, String> {
    let (ask, asked) = mpsc::channel(1);
    let typed = io::stdin().is_terminal() && io::stdout().is_terminal();
    let reader = if typed {
        let editor = editor(screen, routes).map_err(|error| error.to_string())?;
        let screen = Arc::clone(screen);
        thread::spawn(move || read_prompt(editor, &screen, &ask))
    } else {
        thread::spawn(move || read_pipe(&ask))
    };
    Ok(Lines { asked, reader, typed })
}

impl Lines {
    /// The next line; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        self.asked.recv().await
    }

    /// Asks for no more, also not when the last line is done with.
    pub(crate) fn stop(&mut self) {
        self.asked.close();
    }

    /// Waits until the history is written and the terminal as it was.
    pub(crate) fn end(mut self) {
        self.stop();
        // A pipe may stay silent for ever, and has nothing to be put back.
        if self.typed {
            // What it panicked with is on the terminal.
            let _ = self.reader.join();
        }
    }
}

type LineEditor = Editor<Completion, FileHistory>;

fn editor(screen: &Screen, routes: Routes) -> rustyline::Result<LineEditor> {
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true);
    let mut editor = LineEditor::with_config(config.build())?;
    editor.set_helper(Some(Completion { routes }));
    if let Ok(above) = editor.create_external_printer() {
        screen.print_above(Box::new(above));
    }
    Ok(editor)
}

fn read_prompt(mut editor: LineEditor, screen: &Screen, ask: &mpsc::Sender<Line>) {
    let history = history_path();
    if let Some(path) = &history {
        // There is none before the first time.
        let _ = editor.load_history(path);
    }
    loop {
        match editor.readline("pitaya> ") {
            Ok(text) => {
                let is_asked = put(text, ask);
                if let Some(path) = &history
                    && let Err(error) = editor.append_history(path)
                {
                    screen.complain(&format!("the history is not kept: {error}"));
                }
                if !is_asked {
                    return;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return,
            Err(error) => return screen.complain(&error.to_string()),
        }
    }
}

fn read_pipe(ask: &mpsc::Sender<Line>) {
    for line in io::stdin().lines() {
        match line {
            Ok(text) => {
                if !put(text, ask) {
                    return;
                }
            }
            Err(error) => return eprintln!("error: standard input: {error}"),
        }
    }
}

/// Hands a line over and waits until it is done with; whether another one is wanted.
fn put(text: String, ask: &mpsc::Sender<Line>) -> bool {
    let (next, done) = sync_mpsc::channel();
    if ask.blocking_send(Line { text, _next: next }).is_err() {
        return false;
    }
    // Nothing is ever sent: the end of the sender says that the line is done with.
    let _ = done.recv();
    !ask.is_closed()
}

/// Where Pitaya's own client keeps its history too.
fn history_path() -> Option<PathBuf> {
    let chosen = env::var_os("PITAYACLI_HISTORY_PATH").filter(|path| !path.is_empty());
    chosen.map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".pitayacli_history")))
}

/// Completes the names of commands, and of routes where a route is meant.
struct Completion {
    routes: Routes,
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self, line: &str, pos: usize, _ctx: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..pos];
        let start = before.rfind(' ').map_or(0, |blank| blank + 1);
        let (earlier, begun) = before.split_at(start);
        let candidates = match earlier.trim() {
            "" => commands(begun),
            "notify" | "push" | "request" => self.routes.beginning(begun),
            _ => Vec::new(),
        };
        Ok((start, candidates))
    }
}

impl Helper for Completion {}

impl Highlighter for Completion {}

impl Hinter for Completion {
    type Hint = String;
}

impl Validator for Completion {}

fn commands(begun: &str) -> Vec<String> {
    let names = COMMANDS.iter().map(|(name, ..)| *name);
    names.filter(|name| name.starts_with(begun)).map(|name| format!("{name} ")).collect()
}
