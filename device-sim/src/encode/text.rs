//! Text by template.

use super::{Builder, Format, Padding};

pub(super) struct Text;

impl Format for Text {
    type Document = str;

    const PATH: &'static str = "/text";

    fn compile(text: &str, builder: &mut Builder<'_>) {
        let pieces = builder.split(text, Self::PATH);
        builder.text(&pieces, Self::PATH);
    }

    fn padding(_text: &str) -> Padding {
        Padding::Blanks
    }
}
