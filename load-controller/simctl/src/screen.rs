//! Lines on a terminal that change in place: no flicker, no rubbish, and the terminal as it was afterwards.
//!
//! A picture is written in one go, over the last one: cursor up, each line and the rest of its row cleared.
//! The terminal is never cleared as a whole, and what stood there before stays above.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcgetpgrp, tcsetattr};

const HIDE_CURSOR: &str = "\u{1b}[?25l";
const SHOW_CURSOR: &str = "\u{1b}[?25h";
/// The terminal shows what comes in between at once (a private mode that those without it ignore).
const BEGIN_UPDATE: &str = "\u{1b}[?2026h";
const END_UPDATE: &str = "\u{1b}[?2026l";
const CLEAR_ROW: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// A terminal that is drawn on; restored when it is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Screen {
    /// The visible widths of the lines that stand there.
    drawn: Vec<usize>,
    echo: Option<Termios>,
}

impl Screen {
    /// Takes the terminal: hides the cursor, and keys do not show.
    pub(crate) fn take() -> Self {
        put(HIDE_CURSOR);
        Self { drawn: Vec::new(), echo: mute() }
    }

    /// Width and height of the terminal, in characters.
    pub(crate) fn size() -> (usize, usize) {
        let (width, height) = crossterm::terminal::size().unwrap_or((80, 24));
        (usize::from(width.max(20)), usize::from(height.max(5)))
    }

    /// Draws `lines` over those that were drawn last.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        let (width, height) = Self::size();
        let (picture, drawn) = picture(&self.drawn, lines, width, height);
        self.drawn = drawn;
        put(&picture);
    }

    /// Takes the picture away again; what comes next stands in its place.
    pub(crate) fn clear(&mut self) {
        self.draw(&[]);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put(SHOW_CURSOR);
        if let Some(before) = self.echo.take() {
            // Keys that were pressed meanwhile were not meant for the shell.
            tcflush(io::stdin(), QueueSelector::IFlush).unwrap_or(());
            tcsetattr(io::stdin(), OptionalActions::Now, &before).unwrap_or(());
        }
    }
}

/// Stops the terminal from showing keys, which would disturb the picture; the settings before, to restore them.
///
/// Not from the background: changing the terminal there stops the process.
fn mute() -> Option<Termios> {
    let is_foreground = tcgetpgrp(io::stdin()).ok()? == rustix::process::getpgrp();
    let before = tcgetattr(io::stdin()).ok().filter(|_| is_foreground)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Now, &quiet).ok()?;
    Some(before)
}

/// One write, so that no half picture is ever seen; a terminal that is gone cannot be told about it.
fn put(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// What to write to turn the picture with lines of these widths into `lines`, and their widths.
fn picture(drawn: &[usize], lines: &[String], width: usize, height: usize) -> (String, Vec<usize>) {
    // A terminal that became narrower has wrapped the lines that stand there.
    let rows: usize = drawn.iter().map(|line| line.div_ceil(width).max(1)).sum();
    let mut text = String::from(BEGIN_UPDATE);
    text.push('\r');
    if rows > 0 {
        let _ = write!(text, "\u{1b}[{}A", rows.min(height - 1));
    }
    // The last row stays free: the cursor waits there.
    let shown: Vec<String> = lines.iter().take(height - 1).map(|line| cut(line, width - 1)).collect();
    for line in &shown {
        text.push_str(line);
        text.push_str(CLEAR_ROW);
        text.push_str("\r\n");
    }
    text.push_str(CLEAR_BELOW);
    text.push_str(END_UPDATE);
    (text, shown.iter().map(|line| visible(line)).collect())
}

/// How many characters of a line can be seen.
fn visible(line: &str) -> usize {
    let mut is_escape = false;
    line.chars()
        .filter(|character| match (is_escape, character) {
            (false, '\u{1b}') => {
                is_escape = true;
                false
            }
            (false, _) => true,
            (true, end) => {
                is_escape = !end.is_ascii_alphabetic();
                false
            }
        })
        .count()
}

/// A line without what goes beyond `width`; its colours end with it.
fn cut(line: &str, width: usize) -> String {
    if visible(line) <= width {
        return line.into();
    }
    let mut kept = String::new();
    let (mut seen, mut is_escape) = (0, false);
    for character in line.chars() {
        match (is_escape, character) {
            (false, '\u{1b}') => is_escape = true,
            (true, end) => is_escape = !end.is_ascii_alphabetic(),
            (false, _) if seen + 1 == width => {
                kept.push('…');
                break;
            }
            (false, _) => seen += 1,
        }
        kept.push(character);
    }
    kept.push_str("\u{1b}[0m");
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_picture_is_drawn_over_the_last_one() {
        let (first, drawn) = picture(&[], &lines(&["one", "two"]), 80, 24);
        assert_eq!(first, "\u{1b}[?2026h\rone\u{1b}[K\r\ntwo\u{1b}[K\r\n\u{1b}[J\u{1b}[?2026l");
        let (second, _) = picture(&drawn, &lines(&["three"]), 80, 24);
        assert_eq!(second, "\u{1b}[?2026h\r\u{1b}[2Athree\u{1b}[K\r\n\u{1b}[J\u{1b}[?2026l");
    }

    #[test]
    fn lines_that_a_narrower_terminal_has_wrapped_are_found() {
        let (_, drawn) = picture(&[], &lines(&["0123456789".repeat(5).as_str(), "x"]), 80, 24);
        let (text, _) = picture(&drawn, &[], 30, 24);
        assert!(text.contains("\u{1b}[3A"), "{text:?}");
    }

    #[test]
    fn nothing_is_wider_or_higher_than_the_terminal() {
        let (text, drawn) = picture(&[], &lines(&["a long line", "second", "third", "fourth"]), 8, 3);
        assert_eq!(drawn, [7, 6]);
        assert!(text.contains("a long…") && !text.contains("third"), "{text:?}");
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(visible("\u{1b}[1;32mgood\u{1b}[0m"), 4);
        assert_eq!(cut("\u{1b}[32mgood\u{1b}[0m", 4), "\u{1b}[32mgood\u{1b}[0m");
        assert_eq!(cut("\u{1b}[32mgoodness\u{1b}[0m", 5), "\u{1b}[32mgood…\u{1b}[0m");
    }
}
