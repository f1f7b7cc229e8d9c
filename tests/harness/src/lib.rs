//! What the test rings and the bench stand on: real processes, real brokers, real faults.
//!
//! | module | what it gives |
//! | --- | --- |
//! | [`process`] | a child process: its output, its signals, its end, each awaited with a deadline |
//! | [`usage`] | CPU time and memory of a process tree, read from outside |
//! | [`cores`] | which core a process runs on |
//! | [`mod@port`] | free ports on loopback |
//! | [`broker`] | the project's own broker, to be killed and started again |
//! | [`mosquitto`] | a real Mosquitto, unpacked into the project's cache |
//! | [`mochi`] | a real broker written in Go, built into the project's cache |
//! | [`rabbitmq`] | a real RabbitMQ, unpacked into the project's cache |
//! | [`peer`] | any of these three, as a test needs one |
//! | [`chromium`] | a real browser without a window, unpacked into the project's cache |
//! | [`mod@prometheus`] | a real Prometheus, unpacked into the project's cache |
//! | [`dashboard`] | what the committed dashboards ask of it |
//! | [`null_broker`] | a sink that only acknowledges |
//! | [`proxy`] | a broker's connection that stalls, loses, delays, throttles or is cut |
//! | [`progress`] | what a long build is at |
//! | [`full_disk`] | a directory without space |
//! | [`sandbox`] | namespaces of a test's own, which end with it |
//! | [`oracle`] | networks that delay packets, or carry so many bits a second |
//! | [`kubernetes`] | a control plane with fake nodes, a cluster with real ones |
//! | [`helm`] | the real Helm, and what it makes of the chart |
//! | [`arm64`] | a compiler for arm64, and a processor that runs what it makes |
//! | [`mod@valgrind`] | callgrind, which counts instructions |
//! | [`debian`] | packages of the distribution, unpacked into the project's cache |
//! | [`command`] | commands run to their end |
//! | [`simctl`] | the built `simctl`, with a run-time directory of its own |
//! | [`run`] | a `simctl run` that goes on, and a second terminal |
//! | [`mod@report`] | what it prints, and claims about it |
//! | [`eventually`](eventually()) | a condition awaited with a deadline |
//! | [`least_of`](least_of()) | a time measured up to three times |
//! | [`project`] | the folders of this repository |
//! | [`example`](example()) | a document of the examples, shortened |
//!
//! Nothing here judges the product: the rings do. Everything here is bounded in time and size, binds to
//! loopback only, and ends only what it started.

#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

pub mod arm64;
pub mod broker;
pub mod chromium;
pub mod command;
pub mod cores;
pub mod dashboard;
pub mod debian;
mod eventually;
mod example;
pub mod figures;
pub mod full_disk;
mod go;
pub mod helm;
pub mod kubernetes;
mod least_of;
pub mod mochi;
pub mod mosquitto;
pub mod null_broker;
pub mod oracle;
pub mod peer;
pub mod port;
pub mod process;
pub mod progress;
pub mod project;
pub mod prometheus;
pub mod proxy;
pub mod rabbitmq;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod simctl;
pub mod turn;
pub mod unavailable;
pub mod usage;
pub mod valgrind;

pub use eventually::eventually;
pub use example::example;
pub use least_of::least_of;
