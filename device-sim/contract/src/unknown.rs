//! What is said of a name that nothing has: what was probably meant, and what there is.

/// `there is no signal `sped`, did you mean `speed`? (there are `height`, `speed`)`
pub fn message<'a>(kind: &str, found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let list = known.join("`, `");
    match (known.as_slice(), meant(found, known.iter().copied())) {
        ([], _) => format!("there is no {kind} `{found}`; there is none at all"),
        (_, Some(meant)) => format!("there is no {kind} `{found}`, did you mean `{meant}`? (there are `{list}`)"),
        (_, None) => format!("there is no {kind} `{found}`; there are `{list}`"),
    }
}

/// The name that differs least, if it is near enough to be a slip; two letters that changed places are one slip.
pub fn meant<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(found, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3) && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_name() {
        let known = ["index", "id", "fleet"];
        assert_eq!(meant("indx", known), Some("index"));
        assert_eq!(meant("flete", known), Some("fleet"));
        assert_eq!(meant("device", known), None);
        assert_eq!(meant("xy", known), None, "nothing is left of `id`");
    }

    #[test]
    fn what_there_is_is_said_in_each_case() {
        let speeds = ["height", "speed"];
        insta::assert_snapshot!(message("signal", "sped", speeds), @"there is no signal `sped`, did you mean `speed`? (there are `height`, `speed`)");
        insta::assert_snapshot!(message("signal", "temperature", speeds), @"there is no signal `temperature`; there are `height`, `speed`");
        insta::assert_snapshot!(message("signal", "x", []), @"there is no signal `x`; there is none at all");
    }
}
