//! A real Mosquitto on loopback, started from the committed configuration.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    port,
    process::{Process, Signal, Stream},
    project,
};

mod package;
mod tls;

pub use package::Installation;
pub use tls::AUTHORITY;

/// How long a broker may take to listen, and to write its sessions when it stops.
const PATIENCE: Duration = Duration::from_secs(20);

/// What differs from `tests/mosquitto/mosquitto.conf`.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    port: u16,
    lines: Vec<(String, String)>,
}

impl Settings {
    /// The committed configuration on a free port.
    pub fn new() -> Result<Settings> {
        Ok(Settings { port: port::free()?, lines: Vec::new() })
    }

    /// Sets one option as `man mosquitto.conf` names it, for example `max_queued_messages`.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl Display) -> Settings {
        self.lines.retain(|(other, _)| other != option);
        self.lines.push((option.to_owned(), value.to_string()));
        self
    }

    /// Keeps sessions and queued messages over a stop, in a directory of the broker's own.
    #[must_use]
    pub fn persistent(self) -> Settings {
        self.with("persistence", true)
    }

    /// Admits only the users of a file that `mosquitto_passwd` wrote.
    #[must_use]
    pub fn password_file(self, path: &Path) -> Settings {
        self.with("allow_anonymous", false).with("password_file", path.display())
    }

    /// Lets clients publish and subscribe only what this file allows, as `man mosquitto.conf` describes it.
    #[must_use]
    pub fn acl_file(self, path: &Path) -> Settings {
        self.with("acl_file", path.display())
    }

    /// The configuration's text: each line of `template` whose option is set here is replaced, others are appended.
    fn render(&self, template: &str, dir: &Path) -> String {
        let mut options = self.clone().with("listener", format_args!("{} 127.0.0.1", self.port)).lines;
        if options.contains(&("persistence".to_owned(), "true".to_owned())) {
            options.push(("persistence_location".to_owned(), format!("{}/", dir.display())));
        }
        let mut text = String::new();
        for line in template.lines() {
            let option = line.split_whitespace().next();
            if !options.iter().any(|(name, _)| option == Some(name)) {
                text.push_str(line);
                text.push('\n');
            }
        }
        // `listener` starts a section, so it comes first.
        for (name, value) in options.iter().rev() {
            text.extend([name, " ", value, "\n"]);
        }
        // Mosquitto 2.0.11 ends at once when none of its listeners speaks plain MQTT. Nobody calls here.
        if options.contains(&("protocol".to_owned(), "websockets".to_owned())) {
            text.push_str(&format!("listener 0 {}/mosquitto.sock\n", dir.display()));
        }
        text
    }
}

/// A running broker; killed on drop.
pub struct Mosquitto {
    installation: Installation,
    settings: Settings,
    /// Configuration, logs and, with persistence, the sessions.
    dir: TempDir,
    process: Process,
    starts: u32,
}

impl Mosquitto {
    /// Starts a broker and awaits that it listens.
    ///
    /// # Errors
    /// When Mosquitto cannot be had on this machine ([`Unavailable`](crate::unavailable::Unavailable)), or does not start.
    pub fn start(settings: Settings) -> Result<Mosquitto> {
        let installation = Installation::find_or_unpack()?;
        // A connection is an open file of the broker, which inherits our limit.
        rlimit::increase_nofile_limit(u64::MAX).context("the open-file limit cannot be raised")?;
        let dir = tempfile::tempdir()?;
        let process = launch(&installation, &settings, dir.path(), 1)?;
        Ok(Mosquitto { installation, settings, dir, process, starts: 1 })
    }

    /// The port of 127.0.0.1 that it listens on, the same after a restart.
    pub fn port(&self) -> u16 {
        self.settings.port
    }

    /// The address as `simctl --broker` takes it.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.settings.port)
    }

    /// The process, to measure, stop (SIGSTOP) or end it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it with SIGTERM, upon which it writes its sessions.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.terminate(PATIENCE)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Starts it again with the same settings, port and sessions; a running one is killed first.
    pub fn start_again(&mut self) -> Result<()> {
        // Fails only when it has ended already.
        drop(self.process.signal(Signal::KILL));
        self.process.wait(PATIENCE)?;
        self.starts += 1;
        self.process = launch(&self.installation, &self.settings, self.dir.path(), self.starts)?;
        Ok(())
    }
}

fn launch(installation: &Installation, settings: &Settings, dir: &Path, start: u32) -> Result<Process> {
    let template = fs::read_to_string(template()).context("the committed configuration is not readable")?;
    let configuration = dir.join("mosquitto.conf");
    fs::write(&configuration, settings.render(&template, dir))?;
    let mut command: Command = installation.command();
    command.arg("-c").arg(&configuration);
    let process = Process::spawn(&format!("mosquitto-{start}"), &mut command, dir)?;
    process.wait_for_line(Stream::Stderr, PATIENCE, |line| line.ends_with(" running"))?;
    Ok(process)
}

/// The committed configuration.
pub fn template() -> PathBuf {
    project::root().join("tests/mosquitto/mosquitto.conf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_option_replaces_its_line_and_the_rest_stays() {
        let settings = Settings { port: 7, lines: Vec::new() }.with("a", 2).with("a", 3).with("new", "x");
        let text = settings.render("# comment\nlistener 1883 127.0.0.1\na 1\nb 1\n", Path::new("/d"));
        assert_eq!(text, "# comment\nb 1\nlistener 7 127.0.0.1\nnew x\na 3\n");
    }

    #[test]
    fn a_broker_of_websocket_has_a_second_listener() {
        let settings = Settings { port: 7, lines: Vec::new() }.with("protocol", "websockets");
        let text = settings.render("", Path::new("/d"));
        assert_eq!(text, "listener 7 127.0.0.1\nprotocol websockets\nlistener 0 /d/mosquitto.sock\n");
    }

    #[test]
    fn a_persistent_broker_gets_a_place() {
        let text = Settings { port: 7, lines: Vec::new() }.persistent().render("", Path::new("/d"));
        assert!(text.contains("persistence true\n") && text.contains("persistence_location /d/\n"), "{text}");
    }
}
