//! One line that is drawn over again and again, on a terminal that can.
//! Knows nothing of what it shows. It goes before anything else is printed, and leaves nothing behind.

use std::io::{self, Write};

use super::terminal::Terminal;

/// Characters of a meter (as the manual shows it).
const METER: u64 = 10;

/// The line.
pub(super) struct Bar {
    terminal: Terminal,
    shown: Option<String>,
}

impl Bar {
    /// On stderr, if somebody looks at it and `wanted`.
    pub(super) fn new(wanted: bool) -> Bar {
        let terminal = if wanted { Terminal::stderr() } else { Terminal::none() };
        Bar { terminal, shown: None }
    }

    /// Whether it is ever seen.
    pub(super) fn is_seen(&self) -> bool {
        self.terminal.is
    }

    /// Draws it. The text is escaped already.
    pub(super) fn show(&mut self, text: &str) {
        let width = self.terminal.width.unwrap_or(80).saturating_sub(1);
        let text: String = text.chars().take(width).collect();
        if self.terminal.is && self.shown.as_ref() != Some(&text) {
            self.write(&format!("\r{text}\u{1b}[K"));
            self.shown = Some(text);
        }
    }

    /// Takes it away.
    pub(super) fn clear(&mut self) {
        if self.shown.take().is_some() {
            self.write("\r\u{1b}[K");
        }
    }

    fn write(&self, text: &str) {
        let mut out = io::stderr().lock();
        // A bar that cannot be drawn is no reason to stop watching.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `######....`.
#[must_use]
pub(super) fn meter(done: u64, of: u64) -> String {
    let full = if of == 0 { 0 } else { u128::from(done.min(of)) * u128::from(METER) / u128::from(of) };
    let full = usize::try_from(full).unwrap_or(0);
    format!("{}{}", "#".repeat(full), ".".repeat(METER as usize - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_is_full_only_at_the_end() {
        for (done, of, expected) in [
            (3, 5, "######...."),
            (0, 5, ".........."),
            (5, 5, "##########"),
            (99, 100, "#########."),
            (7, 0, ".........."),
            (9, 5, "##########"),
        ] {
            assert_eq!(meter(done, of), expected, "{done}/{of}");
        }
        assert_eq!(meter(u64::MAX - 1, u64::MAX), "#########.");
    }
}
