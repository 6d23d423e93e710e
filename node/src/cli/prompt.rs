//! Lines as they are typed or piped in, and a place for what comes meanwhile.
//! Knows nothing of letters. What is shown while somebody types does not break into their line: it is drawn again below.

use std::io::{self, BufRead, IsTerminal};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;

use super::failure::Failure;
use super::terminal::print;

/// Stands before what is typed.
const PROMPT: &str = "> ";
/// Lines that may wait to be sent.
const WAITING: usize = 64;

/// What was typed or piped in.
#[derive(Debug)]
pub(super) enum Typed {
    /// A line without its end.
    Line(String),
    /// Bytes that are no text.
    NotText,
    /// Ctrl-C, where the line editor takes it for itself.
    Interrupted,
    /// The input cannot be read.
    Failed(io::Error),
}

/// Where lines come from and where others are shown.
pub(super) struct Prompt {
    lines: mpsc::Receiver<Typed>,
    /// None where nobody types.
    printer: Option<Box<dyn ExternalPrinter + Send>>,
    _terminal: Option<Restored>,
}

impl Prompt {
    /// Reads stdin; with a line editor if people sit at both ends of this program and `edit` is wanted.
    pub(super) fn open(edit: bool) -> Result<Prompt, Failure> {
        let (typed, lines) = mpsc::channel(WAITING);
        if !edit || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            // A thread of its own: reading cannot be given up.
            std::thread::spawn(move || piped(&typed));
            return Ok(Prompt { lines, printer: None, _terminal: None });
        }
        let restored = Restored(tcgetattr(io::stdin()).map_err(io::Error::from)?);
        let mut editor = DefaultEditor::new().map_err(io::Error::other)?;
        let printer = Box::new(editor.create_external_printer().map_err(io::Error::other)?);
        std::thread::spawn(move || edited(&mut editor, &typed));
        Ok(Prompt { lines, printer: Some(printer), _terminal: Some(restored) })
    }

    /// Whether somebody types.
    pub(super) fn edits(&self) -> bool {
        self.printer.is_some()
    }

    /// The next line; none after the last. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Typed> {
        self.lines.recv().await
    }

    /// Shows lines above the one that is being typed.
    pub(super) fn show(&mut self, text: &str) -> Result<(), Failure> {
        match &mut self.printer {
            Some(printer) if !text.is_empty() => Ok(printer.print(text.to_owned()).map_err(io::Error::other)?),
            Some(_) => Ok(()),
            None => print(text),
        }
    }
}

/// The terminal as it was: a thread that still edits a line when this program ends would leave it without echo.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        // It may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn edited(editor: &mut DefaultEditor, typed: &mpsc::Sender<Typed>) {
    loop {
        let (line, over) = match editor.readline(PROMPT) {
            Ok(line) => {
                // What cannot be remembered is sent all the same.
                let _ = editor.add_history_entry(line.as_str());
                (Typed::Line(line), false)
            }
            Err(ReadlineError::Eof) => return,
            Err(ReadlineError::Interrupted) => (Typed::Interrupted, true),
            Err(ReadlineError::Io(error)) => (Typed::Failed(error), true),
            Err(error) => (Typed::Failed(io::Error::other(error)), true),
        };
        if typed.blocking_send(line).is_err() || over {
            return;
        }
    }
}

fn piped(typed: &mpsc::Sender<Typed>) {
    let mut input = io::stdin().lock();
    loop {
        let mut bytes = Vec::new();
        let (line, over) = match input.read_until(b'\n', &mut bytes) {
            Ok(0) => return,
            Ok(_) => match String::from_utf8(bytes) {
                Ok(text) => (Typed::Line(text.trim_end_matches(['\r', '\n']).to_owned()), false),
                Err(_) => (Typed::NotText, false),
            },
            Err(error) => (Typed::Failed(error), true),
        };
        if typed.blocking_send(line).is_err() || over {
            return;
        }
    }
}
