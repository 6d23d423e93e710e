//! Lines as they are typed or piped in, and a place for what comes meanwhile.
//! Knows nothing of letters. What is shown while somebody types does not break into their line: it is drawn again below.

use std::io::{self, BufRead, IsTerminal, Write};

use rustyline_async::{Readline, ReadlineError, ReadlineEvent, SharedWriter};
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
pub(super) enum Prompt {
    /// Somebody types. The terminal is as it was again when this is dropped.
    Edited(Box<Readline>, SharedWriter),
    /// Nobody does.
    Piped(mpsc::Receiver<Typed>),
}

impl Prompt {
    /// Reads stdin; with a line editor if people sit at both ends of this program and `edit` is wanted.
    pub(super) fn open(edit: bool) -> Result<Prompt, Failure> {
        if edit && io::stdin().is_terminal() && io::stdout().is_terminal() {
            let (readline, writer) = Readline::new(PROMPT.to_owned()).map_err(failed)?;
            return Ok(Prompt::Edited(Box::new(readline), writer));
        }
        let (typed, lines) = mpsc::channel(WAITING);
        // A thread of its own: reading cannot be given up.
        std::thread::spawn(move || piped(&typed));
        Ok(Prompt::Piped(lines))
    }

    /// Whether somebody types.
    pub(super) fn edits(&self) -> bool {
        matches!(self, Prompt::Edited(..))
    }

    /// The next line; none after the last. Cancel-safe. While this is waited for, what is shown appears.
    pub(super) async fn next(&mut self) -> Option<Typed> {
        let readline = match self {
            Prompt::Edited(readline, _) => readline,
            Prompt::Piped(lines) => return lines.recv().await,
        };
        Some(match readline.readline().await {
            Ok(ReadlineEvent::Line(line)) => {
                readline.add_history_entry(line.clone());
                Typed::Line(line)
            }
            Ok(ReadlineEvent::Eof) => return None,
            Ok(ReadlineEvent::Interrupted) => Typed::Interrupted,
            Err(error) => Typed::Failed(failed(error)),
        })
    }

    /// Shows whole lines, above the one that is being typed.
    pub(super) fn show(&mut self, text: &str) -> Result<(), Failure> {
        match self {
            Prompt::Edited(readline, writer) => {
                if writer.write_all(text.as_bytes()).is_err() {
                    // Too much waits to be shown: show it, then go on.
                    readline.flush().map_err(failed)?;
                    writer.write_all(b"\n")?;
                }
                Ok(())
            }
            Prompt::Piped(_) => print(text),
        }
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        if let Prompt::Edited(readline, _) = self {
            // The last words; the terminal may be gone.
            let _ = readline.flush();
        }
    }
}

fn failed(error: ReadlineError) -> io::Error {
    match error {
        ReadlineError::IO(error) => error,
        ReadlineError::Closed => io::ErrorKind::BrokenPipe.into(),
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
