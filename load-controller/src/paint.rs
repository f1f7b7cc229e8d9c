//! Colours of a terminal: what a piece of text is, and how that looks; one way for all that people read.
//!
//! Whether there are any, whoever prints asks of its stream and of the environment.

use std::fmt;

use anstyle::{AnsiColor, Style};

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    /// Colours of a terminal (ECMA-48).
    Coloured,
    /// No escape sequences.
    Plain,
}

/// What a piece of text is, for those who can see colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A heading or a name.
    Strong,
    /// Of lesser importance.
    Faint,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Broken.
    Bad,
}

/// A text in a tone; as it is where there are no colours.
#[derive(Debug, Clone, Copy)]
pub struct Painted<T> {
    text: T,
    style: Style,
}

impl Tone {
    const fn style(self) -> Style {
        match self {
            Self::Strong => Style::new().bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
        }
    }
}

impl Palette {
    /// `text` in `tone`.
    pub const fn paint<T: fmt::Display>(self, tone: Tone, text: T) -> Painted<T> {
        let style = match self {
            Self::Coloured => tone.style(),
            Self::Plain => Style::new(),
        };
        Painted { text, style }
    }
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = self.style;
        write!(f, "{style}")?;
        self.text.fmt(f)?;
        write!(f, "{style:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_surrounded_by_its_tone_or_left_as_it_is() {
        let painted = |tone| Palette::Coloured.paint(tone, "text").to_string();
        assert_eq!(painted(Tone::Strong), "\x1b[1mtext\x1b[0m");
        assert_eq!(painted(Tone::Faint), "\x1b[2mtext\x1b[0m");
        assert_eq!(painted(Tone::Good), "\x1b[32mtext\x1b[0m");
        assert_eq!(painted(Tone::Warning), "\x1b[33mtext\x1b[0m");
        assert_eq!(painted(Tone::Bad), "\x1b[31mtext\x1b[0m");
        assert_eq!(format!("{:>6}|", Palette::Plain.paint(Tone::Bad, "text")), "  text|");
    }
}
