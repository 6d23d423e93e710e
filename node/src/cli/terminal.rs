//! What reaches a terminal, and how wide it is.
//! Knows nothing of letters. Nothing that others wrote reaches a terminal unescaped; colour and width only where there is one.

use std::io::{self, IsTerminal, Write};

use protocol::name::printable;
use rustix::event::{PollFd, PollFlags, poll};

use super::failure::Failure;

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Somebody looks at stdout.
    pub is: bool,
    /// They want colour.
    pub colour: bool,
    /// Columns, if there are columns.
    pub width: Option<usize>,
}

impl Terminal {
    /// Stdout as it is.
    #[must_use]
    pub fn stdout() -> Terminal {
        let is = io::stdout().is_terminal();
        let plain =
            |name: &str, value: &str| std::env::var_os(name).is_some_and(|v| if value.is_empty() { !v.is_empty() } else { v == value });
        let columns = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 20);
        Terminal { is, colour: is && !plain("NO_COLOR", "") && !plain("TERM", "dumb"), width: if is { columns } else { None } }
    }

    /// Stderr as it is.
    #[must_use]
    pub fn stderr() -> Terminal {
        let is = io::stderr().is_terminal();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let columns = rustix::termios::tcgetwinsize(io::stderr()).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 20);
        // Nothing there is coloured; what can be drawn over needs a terminal that can.
        Terminal { is: is && !dumb, colour: false, width: columns }
    }

    /// No terminal: a pipe or a file.
    #[must_use]
    pub fn none() -> Terminal {
        Terminal { is: false, colour: false, width: None }
    }

    /// For what is less important.
    #[must_use]
    pub fn dim(&self, text: &str) -> String {
        if self.colour { format!("\u{1b}[2m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Columns with their heads; the last one is cut where the terminal ends. Cells are escaped already.
    #[must_use]
    pub fn table<const N: usize>(&self, heads: [&str; N], rows: &[[String; N]]) -> String {
        let mut widths = heads.map(|head| head.chars().count());
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = self.dim(&self.row(&heads.map(str::to_owned), &widths)) + "\n";
        for row in rows {
            text += &self.row(row, &widths);
            text.push('\n');
        }
        text
    }

    fn row<const N: usize>(&self, cells: &[String; N], widths: &[usize; N]) -> String {
        let mut text = String::new();
        for (place, (cell, width)) in cells.iter().zip(widths).enumerate() {
            if place + 1 < N {
                text += cell;
                text.extend(std::iter::repeat_n(' ', (width + 2).saturating_sub(cell.chars().count())));
            } else {
                let left = self.width.map_or(usize::MAX, |all| all.saturating_sub(text.chars().count()).max(8));
                if cell.chars().count() <= left {
                    text += cell;
                } else {
                    text.extend(cell.chars().take(left.saturating_sub(1)));
                    text.push('…');
                }
            }
        }
        text.trim_end().to_owned()
    }
}

/// Writes it all, at once.
///
/// # Errors
/// The pipe is closed, or the disk behind it is full.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Where what a service wrote goes: into a pipe or a file as it is, to a terminal escaped.
#[derive(Debug)]
pub struct Spout {
    stderr: bool,
    escapes: bool,
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl Spout {
    /// To stdout.
    #[must_use]
    pub fn stdout() -> Spout {
        Spout { stderr: false, escapes: io::stdout().is_terminal(), rest: Vec::new() }
    }

    /// To stderr.
    #[must_use]
    pub fn stderr() -> Spout {
        Spout { stderr: true, escapes: io::stderr().is_terminal(), rest: Vec::new() }
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// The pipe is closed, or the disk behind it is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if !self.escapes {
            return self.put(bytes);
        }
        self.rest.extend_from_slice(bytes);
        let text = shown(&mut self.rest);
        self.put(text.as_bytes())
    }

    /// There is no more.
    ///
    /// # Errors
    /// As [`Spout::write`].
    pub fn end(mut self) -> Result<(), Failure> {
        if self.rest.is_empty() { Ok(()) } else { self.put("\u{fffd}".as_bytes()) }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let out: &mut dyn Write = if self.stderr { &mut io::stderr().lock() } else { &mut io::stdout().lock() };
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }
}

/// Whole characters of these bytes as they may be shown; the beginning of one stays.
fn shown(bytes: &mut Vec<u8>) -> String {
    let mut out = String::new();
    let all = std::mem::take(bytes);
    let mut chunks = all.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' => out.push(c),
                '\r' => {}
                c => push(&mut out, c),
            }
        }
        match chunk.invalid() {
            [] => {}
            cut if chunks.peek().is_none() && std::str::from_utf8(cut).is_err_and(|error| error.error_len().is_none()) => bytes.extend(cut),
            _ => out.push('\u{fffd}'),
        }
    }
    out
}

/// Completes when whoever reads our output has gone, which a write would only tell with the next letter. Never for a file.
pub async fn closed() {
    let (gone, told) = tokio::sync::oneshot::channel();
    // A thread of its own: nothing but the end of the reader ends this wait.
    std::thread::spawn(move || {
        // Asked for nothing, poll(2) tells of errors and hangups only.
        while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&io::stdout(), PollFlags::empty())], None) {}
        // Nobody may be waiting any more.
        let _ = gone.send(());
    });
    let _ = told.await;
}

/// What others wrote, in one line: line breaks shown as ⏎, controls as their codes.
#[must_use]
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let text = text.trim_end_matches(['\r', '\n']);
    for c in text.chars() {
        match c {
            '\n' => out.push('⏎'),
            '\r' => {}
            c => push(&mut out, c),
        }
    }
    out
}

/// What others wrote, with its line breaks, each line indented.
#[must_use]
pub fn block(text: &str, indent: &str) -> String {
    text.lines().map(|one| format!("{indent}{}\n", line(one))).collect()
}

fn push(out: &mut String, c: char) {
    match c {
        // Emoji are built with these two; in a text they cannot make one name look like another.
        '\u{200d}' | '\u{fe0f}' => out.push(c),
        ' ' | '\t' | '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => out.push(' '),
        c if printable(c) => out.push(c),
        c => out.extend(c.escape_unicode()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        for (text, expected) in [
            ("Hello", "Hello"),
            ("Grüße, 世界 👩\u{200d}🚀", "Grüße, 世界 👩\u{200d}🚀"),
            ("one\ntwo\r\nthree\n", "one⏎two⏎three"),
            ("a\tb", "a b"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("abc\u{202e}def", "abc\\u{202e}def"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("back\u{8}space\u{7f}\u{0}", "back\\u{8}space\\u{7f}\\u{0}"),
        ] {
            assert_eq!(line(text), expected);
        }
        assert_eq!(block("one\n\u{1b}two\r\nthree", "  "), "  one\n  \\u{1b}two\n  three\n");
    }

    #[test]
    fn what_a_service_wrote_is_shown_character_by_character_and_steers_nothing() {
        let (mut rest, mut text) = (Vec::new(), String::new());
        for piece in ["Gr\u{fc}".as_bytes().split_at(3).0, &[0xbc], b"n\tone\r\n\x1b[31mred", &[0xff, b'x'], &[0xe4, 0xb8]] {
            rest.extend_from_slice(piece);
            text += &shown(&mut rest);
        }
        assert_eq!((text.as_str(), rest.as_slice()), ("Gr\u{fc}n\tone\n\\u{1b}[31mred\u{fffd}x", &[0xe4, 0xb8][..]));
    }

    #[test]
    fn a_table_is_cut_where_the_terminal_ends_and_nowhere_else() {
        let rows = [["a".to_owned(), "x".repeat(30)], ["long-name".to_owned(), "y".to_owned()]];
        assert_eq!(
            Terminal::none().table(["NAME", "TEXT"], &rows),
            format!("NAME       TEXT\na          {}\nlong-name  y\n", "x".repeat(30))
        );
        let narrow = Terminal { is: true, colour: false, width: Some(25) };
        assert_eq!(narrow.table(["NAME", "TEXT"], &rows), format!("NAME       TEXT\na          {}…\nlong-name  y\n", "x".repeat(13)));
        let coloured = Terminal { is: true, colour: true, width: None };
        assert!(coloured.table(["N"], &[["x".to_owned()]]).starts_with("\u{1b}[2mN\u{1b}[0m"));
    }
}
