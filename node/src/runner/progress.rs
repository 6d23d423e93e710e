//! Lines in which a program says how far it is: `progress: 3/10 words`, on standard error.
//! Knows nothing of who is told. However much is said, little is told on.

use std::time::{Duration, Instant};

use protocol::config::limits;

/// Least time between two things told of one program (DESIGN 6: a bar that moves; five times a second look smooth).
const INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of a line that can be progress; longer ones are something else.
const LINE: usize = 512;
const WORD: &[u8] = b"progress:";

/// How far a program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) note: String,
}

/// What was read of one program.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come yet; more than [`LINE`] of it are not kept.
    begun: Vec<u8>,
    latest: Option<Progress>,
    told_at: Option<Instant>,
}

impl Lines {
    /// More was written.
    pub(super) fn take(&mut self, chunk: &[u8]) {
        let mut pieces = chunk.split(|byte| matches!(byte, b'\n' | b'\r')).peekable();
        while let Some(piece) = pieces.next() {
            let whole = pieces.peek().is_some();
            if whole && self.begun.is_empty() {
                self.line(piece);
                continue;
            }
            let room = (LINE + 1).saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&piece[..piece.len().min(room)]);
            if whole {
                let line = std::mem::take(&mut self.begun);
                self.line(&line);
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        if line.starts_with(WORD) && line.len() <= LINE {
            self.latest = parse(line).or(self.latest.take());
        }
    }

    /// When there is something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        self.latest.as_ref()?;
        Some(self.told_at.map_or_else(Instant::now, |told| told + INTERVAL))
    }

    /// What is to be told now.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Progress> {
        if self.told_at.is_some_and(|told| now < told + INTERVAL) {
            return None;
        }
        let latest = self.latest.take()?;
        self.told_at = Some(now);
        Some(latest)
    }
}

fn parse(line: &[u8]) -> Option<Progress> {
    let text = String::from_utf8_lossy(line.strip_prefix(WORD)?);
    let text = text.trim();
    let (steps, note) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (done, total) = steps.split_once('/')?;
    let (done, total): (u64, u64) = (done.parse().ok()?, total.parse().ok()?);
    (total > 0).then(|| Progress { done: done.min(total), total, note: note_of(note.trim()) })
}

/// Without what could steer a terminal, and not too long.
fn note_of(text: &str) -> String {
    let mut note = String::new();
    for character in text.chars() {
        let shown: String = if character.is_control() { character.escape_default().collect() } else { character.into() };
        if note.len() + shown.len() > limits::NOTE_BYTES {
            break;
        }
        note += &shown;
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(chunks: &[&str]) -> Option<Progress> {
        let mut lines = Lines::default();
        chunks.iter().for_each(|chunk| lines.take(chunk.as_bytes()));
        lines.tell(Instant::now())
    }

    fn progress(done: u64, total: u64, note: &str) -> Option<Progress> {
        Some(Progress { done, total, note: note.to_owned() })
    }

    #[test]
    fn the_latest_whole_line_counts_wherever_it_was_cut() {
        assert_eq!(after(&["progress: 1/4 a\nprogress: 3/10 two words\nprogress: 4/"]), progress(3, 10, "two words"));
        assert_eq!(after(&["pro", "gress:", "2/4", "\n"]), progress(2, 4, ""));
        assert_eq!(after(&["progress: 1/2\rprogress: 2/2\r"]), progress(2, 2, ""));
        assert_eq!(after(&["x progress: 1/2\nprogress: a/2\nprogress: 1/0\nprogress: 1\nprogress:\n"]), None);
        assert_eq!(after(&["progress: 9/3\n"]), progress(3, 3, ""));
    }

    #[test]
    fn a_line_without_end_takes_no_memory_and_is_no_progress() {
        let mut lines = Lines::default();
        lines.take(b"progress: 1/2 ");
        for _ in 0..1_000 {
            lines.take(&[b'x'; 1_000]);
        }
        assert!(lines.begun.len() <= LINE + 1);
        lines.take(b"\nprogress: 2/2\n");
        assert_eq!(lines.tell(Instant::now()), progress(2, 2, ""));
    }

    #[test]
    fn notes_cannot_steer_a_terminal_and_are_short() {
        let told = after(&["progress: 1/2 \x1b[2Jboo\n"]).expect("progress");
        assert_eq!(told.note, "\\u{1b}[2Jboo");
        let told = after(&[&format!("progress: 1/2 {}\n", "ä".repeat(200))]).expect("progress");
        assert!(told.note.len() <= limits::NOTE_BYTES && told.note.starts_with('ä'));
    }

    #[test]
    fn of_many_lines_five_a_second_are_told() {
        let (mut lines, begin) = (Lines::default(), Instant::now());
        let mut told = 0;
        for millisecond in 0..1_000 {
            lines.take(format!("progress: {millisecond}/1000\n").as_bytes());
            told += u32::from(lines.tell(begin + Duration::from_millis(millisecond)).is_some());
        }
        assert_eq!(told, 5);
        assert!(lines.due().is_some_and(|at| at == begin + Duration::from_millis(1_000)), "the last one comes too");
    }
}
