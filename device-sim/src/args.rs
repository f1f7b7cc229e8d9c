//! What can be typed after `device-sim`, and what it means.

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use fleet_contract::{
    allowed::AllowedBrokers,
    fleet::Fleet,
    format::{self, Format, Unreadable},
    listen,
    plan::{Plan, Shard},
    worker::{Assignment, Document},
};
use serde::{Deserialize, de::DeserializeOwned};
use subtle::ConstantTimeEq as _;

use crate::{engine::Kind, state};

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
    /// A file that holds the API's token, read again when it changes [default: the variable `SIMCTL_TOKEN`]
    #[arg(long, value_name = "FILE", env = "SIMCTL_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with a second token that is taken, for a controller of the release before this one; it may come and go
    #[arg(long, value_name = "FILE", env = "SIMCTL_FORMER_TOKEN_FILE", requires = "token_file")]
    pub former_token_file: Option<PathBuf>,
    /// The devices to run, as JSON; without it the worker waits for them on its API
    ///
    /// Where the file leaves out `plan` or `shard`, they come from --plan and --ordinal.
    #[arg(long, value_name = "FILE", env = "SIMCTL_ASSIGNMENT")]
    pub assignment: Option<PathBuf>,
    /// The plan, as JSON, in a file that may change: a newer version is taken over within ten seconds
    ///
    /// The worker runs the newest plan of this file, the assignment, --state and its API.
    #[arg(long, value_name = "FILE", env = "SIMCTL_PLAN", requires = "assignment")]
    pub plan: Option<PathBuf>,
    /// Which part of the fleet to run: N times `devicesPerPod` is the first device
    #[arg(long, value_name = "N", env = "SIMCTL_ORDINAL", requires = "assignment")]
    pub ordinal: Option<u32>,
    /// Where the newest plan is kept, so that a restarted worker goes on with it
    #[arg(long, value_name = "FILE", env = "SIMCTL_STATE")]
    pub state: Option<PathBuf>,
    /// Where the counters are recorded, so that a restarted worker can tell what the one before had sent [default: the folder
    /// of --state]
    #[arg(long, value_name = "FOLDER", env = "SIMCTL_RECORDS")]
    pub records: Option<PathBuf>,
    /// Engine threads; 0 leaves one core to others
    #[arg(long, value_name = "N", env = "SIMCTL_THREADS", default_value_t = 0, value_parser = threads())]
    pub threads: u16,
    /// What runs the devices: the engine of this program, or rumqttc's client to compare with
    #[arg(long, value_name = "KIND", env = "SIMCTL_ENGINE", default_value_t = Kind::Native)]
    pub engine: Kind,
    /// An address of this machine that devices connect from; may be given several times, or be a list with commas
    ///
    /// Devices are spread over the addresses by their index. Each address has some 28,000 ports of its own.
    #[arg(long, value_name = "ADDRESS", env = "SIMCTL_SOURCE_ADDRESS", value_delimiter = ',')]
    pub source_address: Vec<IpAddr>,
    /// Where brokers may be: hosts and networks with commas between them, or nothing for anywhere but the addresses of
    /// the pod, its node and the platform [default: anywhere]
    ///
    /// Every address is checked before each connect, because a name may lead elsewhere by then.
    #[arg(long, value_name = "RULES", env = "SIMCTL_ALLOWED_BROKERS")]
    pub allowed_brokers: Option<AllowedBrokers>,
    /// Drain and end when standard input is closed, as it is when the parent process ends
    #[arg(long, env = "SIMCTL_WITH_PARENT")]
    pub with_parent: bool,
    /// What is logged: a level or a filter such as `info,device_sim::session=debug`
    #[arg(long, value_name = "FILTER", env = "SIMCTL_LOG", default_value = "info")]
    pub log: String,
    /// How it is logged: for people, or one JSON object a line
    #[arg(long, value_name = "FORMAT", env = "SIMCTL_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How a worker logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object a line, for a log collector
    Json,
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
            None => listen::parse(text).map(Self::Tcp).map_err(|error| format!("{error}; or `unix:PATH`")),
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
        self.0.as_bytes().ct_eq(offered.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    /// A secret is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The tokens that whoever uses the API may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    current: Token,
    /// That of a controller of the release before.
    former: Option<Token>,
}

impl Tokens {
    /// Whether `offered` is one of them.
    pub fn include(&self, offered: &str) -> bool {
        self.current.is(offered) || self.former.as_ref().is_some_and(|former| former.is(offered))
    }
}

impl From<Token> for Tokens {
    fn from(current: Token) -> Self {
        Self { current, former: None }
    }
}

/// The files of the tokens.
#[derive(Debug, Clone)]
pub struct TokenFiles {
    /// That of the token.
    pub current: PathBuf,
    /// That of the former one; it need not be there.
    pub former: Option<PathBuf>,
}

impl TokenFiles {
    /// What they hold now.
    ///
    /// # Errors
    /// When there is no token.
    pub(crate) fn read(&self) -> Result<Tokens, SettingsError> {
        let text = read("a token", &self.current)?;
        let current = Token::new(&text).ok_or_else(|| SettingsError::NoToken(self.current.clone()))?;
        let former = self.former.as_ref().and_then(|path| Token::new(&fs::read_to_string(path).ok()?));
        Ok(Tokens { current, former })
    }

    /// All of them.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.current].into_iter().chain(&self.former)
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
    /// A file cannot be understood.
    #[error("expected {what} in {path}, found: {source}", path = path.display())]
    Content {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Unreadable,
    },
    /// Nothing says what the devices are to do and when.
    #[error("expected a plan in {} or with --plan, found none", .0.display())]
    NoPlan(PathBuf),
    /// Nothing says which devices are the worker's.
    #[error("expected a shard in {} or with --ordinal, found none", .0.display())]
    NoShard(PathBuf),
}

impl SettingsError {
    /// Whether a document is wrong, rather than the command line or the machine.
    pub const fn is_document(&self) -> bool {
        matches!(self, Self::Content { .. } | Self::NoPlan(_) | Self::NoShard(_))
    }
}

/// What is meant, checked before anything runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the API listens.
    pub listen: Listen,
    /// What whoever uses the API over TCP must know; without it that is forbidden.
    pub tokens: Option<Tokens>,
    /// The files of the tokens, if they are from files.
    pub token_files: Option<TokenFiles>,
    /// What to run from the start.
    pub given: Option<Given>,
    /// Where the newest plan is kept.
    pub state: Option<PathBuf>,
    /// Where the counters are recorded.
    pub records: Option<PathBuf>,
    /// Engine threads; 0 lets the engine choose.
    pub threads: usize,
    /// What runs the devices.
    pub engine: Kind,
    /// Where devices connect from.
    pub sources: Vec<IpAddr>,
    /// Where brokers may be.
    pub allowed_brokers: Option<AllowedBrokers>,
    /// Whether the worker ends with its parent.
    pub with_parent: bool,
}

/// What a worker was given by file.
#[derive(Debug, Clone)]
pub struct Given {
    /// The devices to run.
    pub assignment: Assignment,
    /// Where a newer plan may appear.
    pub plan: Option<PathBuf>,
}

/// The content of the file of `--assignment`: an [`Assignment`], or parts of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    format: Format,
    fleet: Fleet,
    #[serde(default)]
    files: std::collections::BTreeMap<String, String>,
    plan: Option<Plan>,
    shard: Option<Shard>,
}

impl Given {
    fn read(path: PathBuf, plan: Option<PathBuf>, ordinal: Option<u32>) -> Result<Self, SettingsError> {
        let file: File = read_json("an assignment", &path)?;
        let mounted = plan.as_ref().map(|path| read_plan(path)).transpose()?;
        let newest = match (file.plan, mounted) {
            (Some(one), Some(other)) => state::newest(one, other),
            (one, other) => one.or(other).ok_or_else(|| SettingsError::NoPlan(path.clone()))?,
        };
        let size = file.fleet.spec.devices_per_pod;
        let shard = ordinal.map(|ordinal| Shard::of(ordinal, size)).or(file.shard);
        let shard = shard.ok_or(SettingsError::NoShard(path))?;
        let document = Document { format: file.format, fleet: file.fleet, files: file.files };
        Ok(Self { assignment: document.assign(newest, shard), plan })
    }
}

impl Settings {
    /// What `args` mean; `token` is what the environment holds.
    pub fn new(args: Args, token: Option<&str>) -> Result<Self, SettingsError> {
        let Args {
            api,
            token_file,
            former_token_file,
            assignment,
            plan,
            ordinal,
            state,
            records,
            threads,
            engine,
            source_address: sources,
            allowed_brokers,
            with_parent,
            log: _,
            log_format: _,
        } = args;
        let token_files = token_file.map(|current| TokenFiles { current, former: former_token_file });
        let tokens = match &token_files {
            Some(files) => Some(files.read()?),
            None => token.and_then(Token::new).map(Tokens::from),
        };
        let given = assignment.map(|path| Given::read(path, plan, ordinal)).transpose()?;
        let threads = threads.into();
        Ok(Self {
            listen: api,
            tokens,
            token_files,
            given,
            records: records.or_else(|| state.as_deref().map(folder)),
            state,
            threads,
            engine,
            sources,
            allowed_brokers,
            with_parent,
        })
    }
}

/// The folder that a file is in.
fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.into(),
        _ => ".".into(),
    }
}

/// The plan in the file of `--plan`.
fn read_plan(path: &Path) -> Result<Plan, SettingsError> {
    read_json("a plan", path)
}

fn read(what: &'static str, path: &Path) -> Result<String, SettingsError> {
    fs::read_to_string(path).map_err(|source| SettingsError::Read { what, path: path.into(), source })
}

fn read_json<T: DeserializeOwned>(what: &'static str, path: &Path) -> Result<T, SettingsError> {
    // From bytes, as the API reads them: one reader for each type.
    let text = read(what, path)?;
    format::read(text.as_bytes()).map_err(|source| SettingsError::Content { what, path: path.into(), source })
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
            "expected ADDRESS:PORT such as `127.0.0.1:9464`, `localhost:9464`, or `:9464` for all addresses, found `9464`; or \
             `unix:PATH`"
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
        assert!(Settings::new(with_file.clone(), Some("from-variable")).unwrap().tokens.unwrap().include("from-file"));
        assert!(Settings::new(typed(&[]), Some("from-variable")).unwrap().tokens.unwrap().include("from-variable"));
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

    const FLEET: &str = r#"{"apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "f"},
        "spec": {"devices": 500, "devicesPerPod": 100, "groups": []}}"#;

    /// A file of each name and content, and what the worker makes of the command line that follows `--assignment`.
    fn given(files: &[(&str, String)], more: &[&str]) -> Result<Given, String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let within = |word: &str| match word.strip_prefix("./") {
            Some(name) => directory.path().join(name).display().to_string(),
            None => word.to_owned(),
        };
        let words: Vec<String> = ["--assignment", "./document"].iter().chain(more).map(|word| within(word)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let settings = Settings::new(typed(&words), None);
        settings.map(|settings| settings.given.unwrap()).map_err(|error| {
            assert_eq!(error.is_document(), !matches!(error, SettingsError::Read { .. }), "{error}");
            error.to_string().replace(&directory.path().display().to_string(), ".")
        })
    }

    fn plan(version: u64) -> Plan {
        let mut plan = Plan::new(7, fleet_contract::time::Micros(1), 5);
        plan.version = version;
        plan
    }

    fn document(more: &str) -> (&'static str, String) {
        ("document", format!(r#"{{"fleet": {FLEET}{more}}}"#))
    }

    fn json(of: &impl serde::Serialize) -> String {
        serde_json::to_string(of).unwrap()
    }

    #[test]
    fn a_pod_is_told_its_plan_and_its_place_apart() {
        let files = [document(r#", "files": {"a.csv": "1"}"#), ("plan", json(&plan(3)))];
        let given = given(&files, &["--plan", "./plan", "--ordinal", "2"]).unwrap();
        let Assignment { fleet, plan, shard, files, .. } = given.assignment;
        assert_eq!((plan.version, shard), (3, Shard { first: 200, devices: 100 }));
        assert_eq!((fleet.spec.devices_per_pod, files["a.csv"].as_str()), (100, "1"));
        assert!(given.plan.unwrap().ends_with("plan"));
    }

    #[test]
    fn an_assignment_may_hold_both() {
        let whole = format!(r#", "plan": {}, "shard": {{"first": 7, "devices": 1}}"#, json(&plan(3)));
        let alone = given(&[document(&whole)], &[]).unwrap();
        assert_eq!((alone.assignment.plan.version, alone.assignment.shard.first, alone.plan), (3, 7, None));
        for (version, expected) in [(2, 3), (4, 4)] {
            let files = [document(&whole), ("plan", json(&plan(version)))];
            let both = given(&files, &["--plan", "./plan", "--ordinal", "1"]).unwrap();
            assert_eq!((both.assignment.plan.version, both.assignment.shard.first), (expected, 100));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let shard = r#", "shard": {"first": 0, "devices": 1}"#;
        let error = |files: &[(&str, String)], more: &[&str]| given(files, more).unwrap_err();
        assert_eq!(error(&[document(shard)], &[]), "expected a plan in ./document or with --plan, found none");
        let with_plan = document(&format!(r#", "plan": {}"#, json(&plan(1))));
        assert_eq!(error(&[with_plan], &[]), "expected a shard in ./document or with --ordinal, found none");
        let missing = error(&[document(shard)], &["--plan", "./plan"]);
        assert_eq!(missing, "expected a plan in ./plan, found: No such file or directory (os error 2)");
        let wrong = error(&[document(shard), ("plan", "{}".into())], &["--plan", "./plan"]);
        assert!(wrong.starts_with("expected a plan in ./plan, found: missing field"), "{wrong}");
        assert!(Program::try_parse_from(["device-sim", "--ordinal", "1"]).is_err());
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
