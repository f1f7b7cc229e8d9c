//! The hooks of a test on this machine: commands of its author's, each a process of its own.

use std::process::Stdio;

use fleet_contract::fault::Hook;
use load_controller::run::act::Outcome;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

use super::log::Log;

/// The commands that run, by the numbers of their faults; all end with this value.
#[derive(Debug, Default)]
pub(crate) struct Hooks(JoinSet<(u32, Outcome)>);

/// What a command is told of the run, in its environment.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The load test.
    pub(crate) load_test: String,
    /// The fleet.
    pub(crate) fleet: String,
    /// The broker's address.
    pub(crate) broker: String,
}

impl Hooks {
    /// Starts a command.
    pub(crate) fn start(&mut self, number: u32, hook: Hook, told: &Told) {
        let command = command(&hook, told);
        self.0.spawn(async move { (number, run(command, &hook).await) });
    }

    /// The next command that has ended by now, and what came of it.
    pub(crate) fn ended(&mut self) -> Option<(u32, Outcome)> {
        self.0.try_join_next()?.ok()
    }
}

fn command(hook: &Hook, told: &Told) -> Command {
    let (program, arguments) = hook.command.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("SIMCTL_LOAD_TEST", &told.load_test)
        .env("SIMCTL_FLEET", &told.fleet)
        .env("SIMCTL_BROKER", &told.broker)
        .stdin(Stdio::null())
        // Standard output is the report's.
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // What it starts ends with it; and the terminal's Ctrl-C is for us alone.
        .process_group(0);
    command
}

async fn run(mut command: Command, hook: &Hook) -> Outcome {
    let name = hook.command.join(" ");
    let mut child = match command.spawn() {
        Ok(child) => Group(child),
        Err(error) => return Outcome::Failed(format!("`{name}` could not be started: {error}")),
    };
    let log = Log::follow(child.0.stderr.take());
    match timeout(hook.timeout().as_duration(), child.0.wait()).await {
        Ok(Ok(status)) if status.success() => Outcome::Done(1),
        Ok(Ok(status)) => Outcome::Failed(format!("`{name}` ended with {status}{}", log.tail())),
        Ok(Err(error)) => Outcome::Failed(format!("`{name}` could not be awaited: {error}")),
        Err(_) => Outcome::Failed(format!("`{name}` had not ended after {}{}", hook.timeout(), log.tail())),
    }
}

/// A process that ends with this value, and with it all that it has started.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // One that was awaited has no number any more.
        if let Some(group) = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            // It may have ended meanwhile.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(command: &[&str], millis: u64) -> Outcome {
        let hook = serde_json::json!({"command": command, "timeout": format!("{millis}ms")});
        let told = Told { load_test: "rush".into(), fleet: "lab".into(), broker: "mqtt://127.0.0.1:1".into() };
        let mut hooks = Hooks::default();
        hooks.start(7, serde_json::from_value(hook).unwrap(), &told);
        let (number, outcome) = hooks.0.join_next().await.unwrap().unwrap();
        assert_eq!(number, 7);
        outcome
    }

    #[tokio::test]
    async fn a_command_that_succeeds_has_done_one_thing() {
        let script = r#"test "$SIMCTL_LOAD_TEST $SIMCTL_FLEET $SIMCTL_BROKER" = "rush lab mqtt://127.0.0.1:1""#;
        assert_eq!(outcome(&["sh", "-c", script], 60_000).await, Outcome::Done(1));
    }

    #[tokio::test]
    async fn one_that_fails_says_why() {
        let failed = |outcome| match outcome {
            Outcome::Failed(why) => why,
            Outcome::Done(count) => panic!("it has done {count}"),
        };
        let why = failed(outcome(&["sh", "-c", "echo no such broker >&2; exit 3"], 60_000).await);
        assert!(why.contains("ended with exit status: 3; it said:\n  no such broker"), "{why}");
        let why = failed(outcome(&["/no/such/program"], 60_000).await);
        assert!(why.starts_with("`/no/such/program` could not be started: No such file"), "{why}");
        // What it has started holds its standard error open, and ends with it.
        let why = failed(outcome(&["sh", "-c", "sleep 60 & sleep 60"], 100).await);
        assert_eq!(why, "`sh -c sleep 60 & sleep 60` had not ended after 100ms");
    }
}
