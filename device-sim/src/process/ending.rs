//! What ends a worker: a signal, or the end of its parent.

use std::{io, os::fd::AsFd as _};

use anyhow::Context as _;
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe::Receiver,
    signal::unix::{Signal, SignalKind, signal},
};

/// Why a worker is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Ending {
    /// SIGTERM.
    Terminated,
    /// SIGINT.
    Interrupted,
    /// The other end of standard input is closed.
    ParentGone,
}

impl Ending {
    pub(super) fn name(self) -> &'static str {
        self.into()
    }
}

/// Waits for all of them.
pub(super) struct Endings {
    terminate: Signal,
    interrupt: Signal,
    parent: Option<Receiver>,
    has_parent: bool,
}

impl Endings {
    /// From now on signals no longer end the process by themselves.
    pub(super) fn watch(with_parent: bool) -> anyhow::Result<Self> {
        let watch = |kind| signal(kind).context("failed to watch for signals");
        let parent = with_parent.then(parent).transpose().context("expected a pipe as standard input")?;
        let (terminate, interrupt) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, parent, has_parent: with_parent })
    }

    /// The next one. A worker with a parent leaves Ctrl-C to it: the terminal sends it to both.
    pub(super) async fn next(&mut self) -> Ending {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ending::Terminated,
                _ = self.interrupt.recv() => if !self.has_parent {
                    return Ending::Interrupted;
                },
                () = closed(self.parent.as_mut()) => {
                    self.parent = None;
                    return Ending::ParentGone;
                }
            }
        }
    }
}

/// Standard input as a pipe that is read without a thread of its own.
fn parent() -> io::Result<Receiver> {
    Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)
}

/// Returns when the pipe is closed; never without one. What comes through it has no meaning.
async fn closed(pipe: Option<&mut Receiver>) {
    let Some(pipe) = pipe else { return std::future::pending().await };
    let mut ignored = [0; 64];
    while pipe.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
}
