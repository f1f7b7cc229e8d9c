//! `cargo xtask cluster`: a throw-away cluster of real nodes on this machine, for a person to work with.

mod keeper;
mod parts;
mod product;

use std::{
    env,
    ffi::OsStr,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use tests::{
    command,
    kubernetes::{Client, Cluster, Tools},
    progress::Progress,
};

/// What to do with it
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Starts the cluster and installs the product in it
    ///
    /// It goes on until `down`. The first time it builds Kubernetes and the product, side by side, and says
    /// every ten seconds how far it is. What Go prints is in .cache/kubernetes/build.log.
    Up {
        /// How many nodes
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
    },
    /// Ends it and all that it holds
    Down,
    /// Runs a command in its network, with KUBECONFIG set and simctl, kubectl and helm in the path
    ///
    /// Example: cargo xtask cluster exec -- simctl apply -f manifests/examples/five-hundred.yaml
    Exec {
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Prints its nodes and pods
    Status,
    /// Holds it until a signal comes; `up` starts this and leaves it
    #[command(hide = true)]
    Keep(keeper::Args),
}

/// Does it.
pub(crate) fn run(verb: &Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up { nodes } => up(*nodes)?,
        Verb::Down => down()?,
        Verb::Exec { command } => return exec(command),
        Verb::Status => status()?,
        Verb::Keep(args) => keeper::keep(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(nodes: u8) -> Result<()> {
    if keeper::is_running()? {
        bail!("the cluster is up already; end it: cargo xtask cluster down");
    }
    println!("builds Kubernetes and the product, unless they are there");
    let start = Instant::now();
    let (_, built) = parts::at_once(
        ("Kubernetes", |progress: &Progress| {
            Tools::find_or_build_with(progress)?;
            progress.begin("unpacks containerd", "");
            Ok(Cluster::requirements()?)
        }),
        ("the product", product::build),
    )?;
    println!("{:>5.0} s  starts {nodes} nodes", start.elapsed().as_secs_f64());
    keeper::start(nodes, &built.images)?;
    println!("{:>5.0} s  installs the product", start.elapsed().as_secs_f64());
    product::install(&client()?, &built)?;
    println!("{:>5.0} s  the cluster is up", start.elapsed().as_secs_f64());
    println!(
        "\n  cargo xtask cluster exec -- simctl apply -f manifests/examples/five-hundred.yaml\n  \
         cargo xtask cluster exec -- simctl scale 500\n  cargo xtask cluster down"
    );
    Ok(())
}

fn down() -> Result<()> {
    if !keeper::is_running()? {
        println!("the cluster is not up");
        return Ok(());
    }
    keeper::stop()?;
    println!("the cluster is gone");
    Ok(())
}

/// Becomes the command, so that its signals, its terminal and its exit code are its own.
fn exec(words: &[String]) -> Result<ExitCode> {
    let (program, args) = words.split_first().context("a command is needed")?;
    let mut command = client()?.run_in(Command::new(program).args(args));
    let search = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, search)| search);
    let search = search.map_or_else(|| env::var_os("PATH").unwrap_or_default(), OsStr::to_owned);
    let search = env::join_paths(product::programs().into_iter().chain(env::split_paths(&search)))?;
    let error = command.env("PATH", search).exec();
    Err(error).context("nsenter does not start")
}

fn status() -> Result<()> {
    let client = client()?;
    print!("{}", client.kubectl(["get", "nodes", "-o", "wide"])?);
    print!("{}", command::text(&mut client.run_in(Command::new("kubectl").args(["get", "pods", "-A", "-o", "wide"])))?);
    Ok(())
}

/// The administrator of the cluster that is up.
fn client() -> Result<Client> {
    keeper::client()?.context("the cluster is not up; start it: cargo xtask cluster up")
}
