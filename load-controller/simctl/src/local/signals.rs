//! Ctrl-C, SIGTERM and SIGHUP: the first one drains, the second one aborts.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// What signals ask for; listens as long as it lives.
#[derive(Debug)]
pub(crate) struct Signals {
    /// Cancelled by the first signal, or by whoever else wants the run to end.
    pub(crate) drain: CancellationToken,
    /// Cancelled by the second signal.
    pub(crate) abort: CancellationToken,
    _listener: JoinSet<()>,
}

impl Signals {
    /// Listens from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        let mut hangups = signal(SignalKind::hangup())?;
        let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
        let (first, second) = (drain.clone(), abort.clone());
        let mut listener = JoinSet::new();
        listener.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terminations.recv() => {}
                    _ = hangups.recv() => {}
                }
                // After `simctl stop` the first signal is the second wish.
                if first.is_cancelled() {
                    second.cancel();
                } else {
                    first.cancel();
                }
            }
        });
        Ok(Self { drain, abort, _listener: listener })
    }
}
