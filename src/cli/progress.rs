//! How far something is: one line on standard error that is written over, on a terminal; nothing anywhere else.

use std::io::{self, IsTerminal as _, Write as _};

/// A line that is shown.
#[derive(Debug, Default)]
pub(super) struct Progress {
    is_shown: bool,
}

impl Progress {
    /// Shows a new state in the place of the last one.
    pub(super) fn show(&mut self, text: &str) {
        if io::stderr().is_terminal() {
            // Erases what a longer line has left.
            eprint!("\r{text}\u{1b}[K");
            // It is decoration: nothing depends on it.
            let _ = io::stderr().flush();
            self.is_shown = true;
        }
    }

    /// Makes room for what comes next.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            eprintln!();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
