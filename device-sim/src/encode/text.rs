//! Text by template.

use fleet_contract::model::Problem;

use super::{Builder, Context, Padding, Program, verbatim};

/// Compiles a text.
pub(super) fn compile(text: &str, context: &Context<'_>) -> Result<Program, Vec<Problem>> {
    let mut builder = Builder::new(context);
    let pieces = builder.split(text, "/text");
    builder.text(&pieces, "/text", verbatim);
    let head = builder.take_head();
    builder.finish(head, Padding::Blanks, verbatim)
}
