//! Words are completed from the cluster: as kubectl asks a plugin for them, and as each shell does.

use std::{env, fs, os::unix::fs::symlink, process::Command};

use tests::{
    command,
    debian::Packages,
    kubernetes::Client,
    project,
    simctl::{Finished, Simctl},
};

use super::{admin, site::Site};

/// Somebody at a shell: simctl and its links are in the search path.
struct Desk {
    simctl: Simctl,
    path: String,
}

impl Desk {
    fn new() -> Desk {
        let simctl = Simctl::new().unwrap();
        for name in ["simctl", "kubectl-simctl", "kubectl_complete-simctl"] {
            symlink(project::binary("simctl").unwrap(), simctl.dir().join(name)).unwrap();
        }
        let path = format!("{}:{}", simctl.dir().display(), env::var("PATH").unwrap());
        Desk { simctl, path }
    }

    /// What a program prints that somebody starts there.
    fn call(&self, client: &Client, program: &Command) -> Finished {
        let mut wanted = command::wrap(Command::new("env"), program);
        wanted.env("PATH", &self.path).current_dir(self.simctl.dir()).env("XDG_RUNTIME_DIR", self.simctl.dir());
        let output = client.run_in(&wanted).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The file that a shell reads for `simctl`.
    fn script(&self, shell: &str) -> String {
        let script = command::text(&mut self.simctl.command(&["completions", shell])).unwrap();
        let path = self.simctl.dir().join(shell);
        fs::write(&path, script).unwrap();
        path.display().to_string()
    }
}

/// Two fleets whose names begin alike, and another one.
fn site(purpose: &str) -> Site {
    let site = Site::new(purpose);
    ["robotaxis", "rooms", "meters"].iter().for_each(|name| site.fleet(name, 0, 1, ""));
    site
}

#[test]
fn kubectl_completes_the_words_of_the_plugin() {
    let (site, desk) = (site("kubectl"), Desk::new());
    let namespace = site.namespace.name();
    let person = site.person("edit");
    let complete = |client: &Client, words: &[&str]| {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["__complete", "simctl"]).args(words);
        let finished = desk.call(client, &kubectl);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished.stdout
    };
    assert_eq!(complete(&person, &["pause", "-n", namespace, "ro"]), "robotaxis\nrooms\n:4\n");
    assert_eq!(
        complete(&person, &["delete", "-n", namespace, "rooms", "fleet/"]),
        "fleet/meters\nfleet/robotaxis\n:4\n"
    );
    assert!(complete(&person, &["sca"]).starts_with("scale\tChange the number of devices\n"));
    assert!(complete(admin(), &["get", "--namespace", "kube-s"]).contains("kube-system\n"));
    // Somebody who may see no other namespace is told so by kubectl, not here.
    assert_eq!(complete(&person, &["get", "--namespace", ""]), ":4\n");
}

#[test]
fn each_shell_completes_fleets_of_the_cluster() {
    let (site, desk) = (site("shells"), Desk::new());
    let person = site.person("view");
    let namespace = site.namespace.name();
    let line = format!("simctl status -n {namespace} ro");

    let bash = format!(
        "source {}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _simctl; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        desk.script("bash")
    );
    // What `compsys` would show, and how the line comes to a function of it.
    let zsh = format!(
        "compdef() {{ :; }}; _describe() {{ print -rl -- \"${{(@P)2}}\"; }}; source {}; \
         words=({line}); CURRENT=$#words; _simctl",
        desk.script("zsh")
    );
    let fish = format!("source {}; complete -C '{line}'", desk.script("fish"));
    let shells = [("bash", "-c", bash), ("zsh", "-fc", zsh), ("fish", "-c", fish)];
    for (shell, flag, script) in shells {
        let packages = Packages::unpack(&[shell]).unwrap();
        let mut program = Command::new(packages.program(shell.as_ref()));
        packages.show(&mut program);
        program.args([flag, &script]);
        let finished = desk.call(&person, &program);
        assert_eq!(finished.stdout, "robotaxis\nrooms\n", "{shell}: {finished:?}");
    }
}
