//! `simctl explain`: what the words of reports mean.

use fleet_contract::{glossary, unknown};
use load_controller::run::verdict::ExitCode;

use crate::{
    exit::Failure,
    printer::{Printer, columns},
};

const EXAMPLES: &str = "\
Examples:
  simctl explain
  simctl explain withheld
  simctl explain in flight";

/// Say what a word of the reports means
///
/// Without a word, all are listed. Letters may be large or small, and blanks, hyphens and underscores are the same.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The word
    #[arg(value_name = "WORD")]
    word: Vec<String>,
}

impl Args {
    /// Prints one meaning, or all.
    pub(super) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let text = if self.word.is_empty() { list(printer) } else { explain(&self.word.join(" "))? };
        printer.data(text)?;
        Ok(ExitCode::Passed)
    }
}

fn list(printer: Printer) -> String {
    let mut rows = vec![["WORD", "MEANING"].map(String::from).to_vec()];
    rows.extend(glossary::words().map(|word| vec![word.name.into(), word.meaning.into()]));
    columns(printer.palette(), &[], &rows)
}

fn explain(typed: &str) -> Result<String, Failure> {
    let Some(word) = glossary::find(typed) else {
        let name = glossary::name_of(typed);
        let hint = match unknown::meant(&name, glossary::words().map(|word| word.name)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "`simctl explain` lists those that there are".into(),
        };
        return Err(Failure::usage(format!("expected a word of the reports, found `{typed}`; {hint}")));
    };
    let mut text = format!("{}: {}\n", word.name.replace('_', " "), word.meaning);
    for law in glossary::laws_of(word.name) {
        text.push_str(&format!("  {law}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_told_with_its_laws_and_a_slip_with_what_was_meant() {
        insta::assert_snapshot!(explain("In-Flight").unwrap(), @r"
        in flight: Observed messages that are not judged yet.
          observed = delivered + lost + unknown + in_flight
        ");
        let slip = format!("{:?}", explain("ofered").unwrap_err());
        assert!(slip.contains("did you mean `offered`?"), "{slip}");
        let other = format!("{:?}", explain("temperature").unwrap_err());
        assert!(other.contains("`simctl explain` lists"), "{other}");
    }
}
