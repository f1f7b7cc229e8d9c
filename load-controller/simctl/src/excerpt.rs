//! The lines that an error speaks of, below it, as compilers show them: `fleet.yaml:7:12: …`.
//!
//! What may be a secret is never shown: a terminal is looked at by others, and the logs of a pipeline are kept.

use std::{collections::HashMap, fs};

/// Columns of a line that are shown; of a longer one those around the place.
const WIDTH: usize = 76;

/// What a line with a secret says of it.
const SECRETS: [&str; 4] = ["password", "secret", "token", "credential"];

/// `message`, and below each of its lines that names a place in a file the line of that file.
pub(crate) fn below(message: &str) -> String {
    let mut files: HashMap<&str, Option<String>> = HashMap::new();
    let mut shown = Vec::new();
    for line in message.lines() {
        shown.push(line.to_owned());
        let Some(place) = Place::of(line) else { continue };
        let file = files.entry(place.file).or_insert_with(|| fs::read_to_string(place.file).ok());
        shown.extend(file.as_deref().and_then(|file| place.excerpt(file)));
    }
    shown.join("\n")
}

/// Where something is wrong; both numbers count from 1.
struct Place<'a> {
    file: &'a str,
    line: usize,
    column: usize,
}

impl<'a> Place<'a> {
    /// The place at which a line of a message begins.
    fn of(line: &'a str) -> Option<Self> {
        let (place, _) = line.split_once(": ")?;
        let mut parts = place.rsplitn(3, ':');
        let (column, line) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { file: parts.next()?, line, column })
    }

    fn excerpt(&self, file: &str) -> Option<String> {
        let line = file.lines().nth(self.line.checked_sub(1)?)?;
        let names_secret = |text: &str| SECRETS.iter().any(|secret| text.to_lowercase().contains(secret));
        // A Secret may be written in any form of YAML; a file that only speaks of Secrets does without its lines.
        if names_secret(line) || file.contains("Secret") {
            return None;
        }
        let at = self.column.checked_sub(1)?;
        let begin = if line.chars().count() > WIDTH { at.saturating_sub(WIDTH / 2) } else { 0 };
        let part: String =
            line.chars().skip(begin).take(WIDTH).map(|it| if it.is_control() { ' ' } else { it }).collect();
        let (number, caret) = (self.line.to_string(), " ".repeat(at - begin));
        let margin = " ".repeat(number.len());
        Some(format!("  {number} | {}\n  {margin} | {caret}^", part.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn of(text: &str, place: &str) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = file.path().display().to_string();
        below(&format!("{path}:{place}: wrong")).replace(&path, "f.yaml")
    }

    #[test]
    fn the_place_is_under_the_message() {
        insta::assert_snapshot!(of("a: 1\nspec:\n  devices: many\n", "3:12"), @r"
        f.yaml:3:12: wrong
          3 |   devices: many
            |            ^
        ");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        assert_eq!(of("credentials: {password: hunter2}\n", "1:15"), "f.yaml:1:15: wrong");
        assert_eq!(of("kind: Secret\ndata:\n  a: aHVudGVyMg==\n", "3:3"), "f.yaml:3:3: wrong");
        assert_eq!(of("{\"kind\": \"Secret\",\n\"data\": {\"a\": \"aHVudGVyMg==\"}}\n", "2:3"), "f.yaml:2:3: wrong");
    }

    #[test]
    fn of_a_long_line_what_is_around_the_place_is_shown() {
        let line = format!("[{}, wrong, {}]", "1, ".repeat(100), "2, ".repeat(100));
        let at = line.find("wrong").unwrap() + 1;
        let shown = of(&line, &format!("1:{at}"));
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[1].chars().count(), 6 + WIDTH);
        assert_eq!(lines[1].find("wrong"), lines[2].find('^'));
    }

    #[test]
    fn what_names_no_place_stays_as_it_is() {
        for message in
            ["wrong", "f.yaml: wrong", "f.yaml:15 configmap/models, tank.yaml:1: wrong", "no such file:1:1: wrong"]
        {
            assert_eq!(below(message), message);
        }
        assert_eq!(of("a\n", "7:1"), "f.yaml:7:1: wrong", "no such line");
        assert_eq!(of("a\n", "0:0"), "f.yaml:0:0: wrong", "lines count from 1");
    }
}
