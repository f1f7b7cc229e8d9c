//! Completion without a cluster that answers: words are found at once, and nobody waits long for others.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]
#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A kubeconfig of two contexts, whose API server is at `port` of this machine.
fn place(port: u16) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let context = |name: &str| format!("{{name: '{name}', context: {{cluster: c, user: u}}}}");
    let config = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}'}}}}]\n\
         users: [{{name: u, user: {{token: x}}}}]\ncurrent-context: kind-a\n\
         contexts: [{}, {}, {}]\n",
        context("kind-a"),
        context("kind-b"),
        context("arn:aws:eks:x")
    );
    fs::write(place.path().join("kubeconfig.yaml"), config).unwrap();
    place
}

fn text(place: &Path, program: &str, args: &[&str]) -> String {
    let simctl = assert_cmd::cargo::cargo_bin("simctl");
    let path = format!("{}:{}", simctl.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(program);
    command.args(args).env("PATH", path).env("KUBECONFIG", place.join("kubeconfig.yaml")).env("XDG_RUNTIME_DIR", place);
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_cluster_that_does_not_answer_has_no_candidates_after_two_seconds() {
    // Connections are taken by the kernel, and nobody speaks.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = place(listener.local_addr().unwrap().port());
    for words in [["pause", ""], ["get", "--namespace="]] {
        let start = Instant::now();
        assert_eq!(text(place.path(), "simctl", &[&["__complete"][..], &words].concat()), ":4\n");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[test]
fn contexts_come_from_the_kubeconfig() {
    let place = place(1);
    let complete = |words: &[&str]| text(place.path(), "simctl", &[&["__complete"][..], words].concat());
    assert_eq!(complete(&["get", "--context", "ki"]), "kind-a\nkind-b\n:4\n");
    assert_eq!(complete(&["apply", "-f", ""]), ":0\n");
}

/// What bash would show for a line, by the script that it reads.
fn bash(place: &Path, line: &str) -> String {
    let script = format!(
        "source <(simctl completions bash); COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _simctl; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    text(place, "bash", &["-c", &script])
}

#[test]
fn bash_completes_words_and_what_follows_its_word_breaks() {
    let place = place(1);
    assert_eq!(bash(place.path(), "simctl unin"), "uninstall\n");
    assert_eq!(bash(place.path(), "simctl -q get --context "), "kind-a\nkind-b\narn:aws:eks:x\n");
    assert_eq!(bash(place.path(), "simctl get --context=kind-b"), "kind-b\n");
    assert_eq!(bash(place.path(), "simctl get --context arn:aws:e"), "eks:x\n");
}
