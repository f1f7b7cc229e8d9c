//! Commands run to their end, and commands wrapped by others.

use std::{
    ffi::OsStr,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};

/// Runs to the end; a failure shows what was run and what it said.
///
/// # Errors
/// When it does not start or does not succeed.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("{} does not start", command.get_program().display()))?;
    let says = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {}", line(command), says.trim());
    Ok(output)
}

/// As [`run`], for what it prints to stdout.
///
/// # Errors
/// As [`run`], and when it prints something that is no UTF-8.
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8(run(command)?.stdout)?)
}

/// `wrapper` followed by the program and arguments of `command`, with its environment and directory.
pub fn wrap(mut wrapper: Command, command: &Command) -> Command {
    wrapper.arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        wrapper.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        set_or_remove(&mut wrapper, name, value);
    }
    wrapper
}

/// Program and arguments as one line for people, without the environment.
fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn set_or_remove(command: &mut Command, name: &OsStr, value: Option<&OsStr>) {
    match value {
        Some(value) => command.env(name, value),
        None => command.env_remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_what_was_run_and_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err().to_string();
        assert_eq!(error, "sh -c echo no such thing >&2; exit 3 failed: no such thing");
    }

    #[test]
    fn a_wrapped_command_keeps_its_environment_and_directory() {
        let mut inner = Command::new("sh");
        inner.args(["-c", "echo $NAME $PWD"]).env("NAME", "value").current_dir("/");
        let mut outer = Command::new("nice");
        outer.arg("--");
        assert_eq!(text(&mut wrap(outer, &inner)).unwrap(), "value /\n");
    }
}
