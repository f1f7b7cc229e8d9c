//! What can be typed after `device-sim`, and what it means.

use std::{fmt, fs, io, net::SocketAddr, path::PathBuf, str::FromStr};

use fleet_contract::worker::Assignment;

use crate::engine::Kind;

/// The variable that may hold the token; there is no such flag, since anybody can read a process's arguments.
pub const TOKEN_VARIABLE: &str = "SIMCTL_TOKEN";

/// What a worker may be told on its command line; each flag has a variable.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the API listens: `ADDRESS:PORT`, port 0 for any, or `unix:PATH`
    ///
    /// A Unix socket is its owner's alone. Over TCP the API wants a token; without one it serves only `/metrics`,
    /// `/healthz` and `/readyz`.
    #[arg(long, value_name = "ADDR|unix:PATH", env = "SIMCTL_API", default_value = "127.0.0.1:9464")]
    pub api: Listen,
    /// A file that holds the API's token [default: the variable `SIMCTL_TOKEN`]
    #[arg(long, value_name = "FILE", env = "SIMCTL_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// The devices to run, as JSON; without it the worker waits for them on its API
    #[arg(long, value_name = "FILE", env = "SIMCTL_ASSIGNMENT")]
    pub assignment: Option<PathBuf>,
    /// Where the newest plan is kept, so that a restarted worker goes on with it
    #[arg(long, value_name = "FILE", env = "SIMCTL_STATE")]
    pub state: Option<PathBuf>,
    /// Engine threads; 0 leaves one core to others
    #[arg(long, value_name = "N", env = "SIMCTL_THREADS", default_value_t = 0, value_parser = threads())]
    pub threads: u16,
    /// What runs the devices: the engine of this program, or rumqttc's client to compare with
    #[arg(long, value_name = "KIND", env = "SIMCTL_ENGINE", default_value_t = Kind::Native)]
    pub engine: Kind,
    /// Drain and end when standard input is closed, as it is when the parent process ends
    #[arg(long, env = "SIMCTL_WITH_PARENT")]
    pub with_parent: bool,
    /// What is logged: a level or a filter such as `info,device_sim::session=debug`
    #[arg(long, value_name = "FILTER", env = "SIMCTL_LOG", default_value = "info")]
    pub log: String,
}

fn threads() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(0..=1_024)
}

/// Where the API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On a Unix socket that only its owner may open.
    Unix(PathBuf),
    /// On a TCP port; port 0 is any free one.
    Tcp(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("expected a path after `unix:`, found nothing".into()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("expected `ADDRESS:PORT` such as `127.0.0.1:9464`, or `unix:PATH`, found `{text}`")
            }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// What whoever uses the API must know.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token; white space around it does not count. `None` when nothing is left.
    pub fn new(text: &str) -> Option<Self> {
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| Self(trimmed.into()))
    }

    /// Whether `offered` is the token; takes the same time wherever they differ.
    pub fn is(&self, offered: &str) -> bool {
        let (mine, theirs) = (self.0.as_bytes(), offered.as_bytes());
        let differences = mine.iter().zip(theirs).fold(0, |differences, (a, b)| differences | (a ^ b));
        mine.len() == theirs.len() && std::hint::black_box(differences) == 0
    }
}

impl fmt::Debug for Token {
    /// A secret is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What was typed cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file cannot be read.
    #[error("expected {what} in {path}, found: {source}", path = path.display())]
    Read {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file of the token holds none.
    #[error("expected a token in {}, found an empty file", .0.display())]
    NoToken(PathBuf),
    /// The assignment cannot be understood.
    #[error("expected an assignment in {path}, found: {source}", path = path.display())]
    Assignment {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What is meant, checked before anything runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the API listens.
    pub listen: Listen,
    /// What whoever uses the API over TCP must know; without it that is forbidden.
    pub token: Option<Token>,
    /// The devices to run from the start.
    pub assignment: Option<Assignment>,
    /// Where the newest plan is kept.
    pub state: Option<PathBuf>,
    /// Engine threads; 0 lets the engine choose.
    pub threads: usize,
    /// What runs the devices.
    pub engine: Kind,
    /// Whether the worker ends with its parent.
    pub with_parent: bool,
}

impl Settings {
    /// What `args` mean; `token` is what the environment holds.
    pub fn new(args: Args, token: Option<&str>) -> Result<Self, SettingsError> {
        let Args { api, token_file, assignment, state, threads, engine, with_parent, log: _ } = args;
        let token = match token_file {
            Some(path) => {
                let text = read("a token", &path)?;
                Some(Token::new(&text).ok_or(SettingsError::NoToken(path))?)
            }
            None => token.and_then(Token::new),
        };
        let assignment = assignment.map(read_assignment).transpose()?;
        Ok(Self { listen: api, token, assignment, state, threads: threads.into(), engine, with_parent })
    }
}

fn read(what: &'static str, path: &PathBuf) -> Result<String, SettingsError> {
    fs::read_to_string(path).map_err(|source| SettingsError::Read { what, path: path.clone(), source })
}

fn read_assignment(path: PathBuf) -> Result<Assignment, SettingsError> {
    let text = read("an assignment", &path)?;
    serde_json::from_str(&text).map_err(|source| SettingsError::Assignment { path, source })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn typed(words: &[&str]) -> Args {
        Program::try_parse_from(std::iter::once(&"device-sim").chain(words)).unwrap().args
    }

    #[test]
    fn the_command_line_is_consistent() {
        Program::command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable() {
        for argument in Program::command().get_arguments().filter(|argument| argument.get_long() != Some("help")) {
            let flag = argument.get_long().unwrap().replace('-', "_").to_uppercase();
            assert_eq!(argument.get_env().unwrap(), format!("SIMCTL_{flag}").as_str());
        }
    }

    #[test]
    fn an_address_is_a_port_or_a_path() {
        assert_eq!("unix:/run/w.sock".parse(), Ok(Listen::Unix("/run/w.sock".into())));
        assert_eq!("[::1]:0".parse(), Ok(Listen::Tcp("[::1]:0".parse().unwrap())));
        assert_eq!(
            "9464".parse::<Listen>().unwrap_err(),
            "expected `ADDRESS:PORT` such as `127.0.0.1:9464`, or `unix:PATH`, found `9464`"
        );
        for text in ["unix:/run/w.sock", "127.0.0.1:9464"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_file_wins_over_the_variable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "from-file\n").unwrap();
        let with_file = typed(&["--token-file", path.to_str().unwrap()]);
        assert!(Settings::new(with_file.clone(), Some("from-variable")).unwrap().token.unwrap().is("from-file"));
        assert!(Settings::new(typed(&[]), Some("from-variable")).unwrap().token.unwrap().is("from-variable"));
        fs::write(&path, " \n").unwrap();
        let error = Settings::new(with_file, None).unwrap_err().to_string();
        assert!(error.ends_with("found an empty file"), "{error}");
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::new("secret").unwrap();
        assert!(token.is("secret"));
        for other in ["", "secre", "secretx", "Secret", "secreT"] {
            assert!(!token.is(other), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn a_wrong_assignment_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shard.json");
        fs::write(&path, "{}").unwrap();
        let error = Settings::new(typed(&["--assignment", path.to_str().unwrap()]), None).unwrap_err().to_string();
        assert!(error.contains("shard.json, found: missing field `fleet`"), "{error}");
    }
}
