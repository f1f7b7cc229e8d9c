//! Kubernetes, built beside the other steps until a ring needs it.

use std::{
    cell::{Cell, OnceCell},
    thread::{self, JoinHandle},
};

use tests::{
    kubernetes::{Kwok, Tools},
    unavailable::Unavailable,
};

/// The build, which takes minutes once and nothing afterwards.
#[derive(Default)]
pub(super) struct Kubernetes {
    running: Cell<Option<JoinHandle<Result<Tools, Unavailable>>>>,
    /// The reason why there is none.
    failure: OnceCell<Option<String>>,
}

impl Kubernetes {
    /// Starts the build in a thread, at low priority; with KWOK where nodes are fake.
    pub(super) fn start(&self, with_fake_nodes: bool) {
        self.running.set(Some(thread::spawn(move || {
            let tools = Tools::find_or_build()?;
            if with_fake_nodes {
                // The rings that need it ask again, and say why there is none.
                drop(Kwok::find_or_build());
            }
            Ok(tools)
        })));
    }

    /// Awaits the build; `Some` reason when it failed, which is not tried again.
    pub(super) fn failure(&self) -> Option<&str> {
        let built = || match self.running.take().map(JoinHandle::join) {
            Some(Ok(Err(unavailable))) => Some(unavailable.reason()),
            Some(Err(_)) => Some("needs Kubernetes, because its build panicked".to_owned()),
            Some(Ok(Ok(_))) | None => None,
        };
        self.failure.get_or_init(built).as_deref()
    }
}
