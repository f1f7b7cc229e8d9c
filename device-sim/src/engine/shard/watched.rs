//! What a shard hears of its messages from the observers, and what it remembers for that.

use std::sync::{
    Arc,
    mpsc::{Receiver, SyncSender},
};

use fleet_contract::time::Micros;

use super::wills::Looks;
use crate::{
    engine::slot::Slot,
    observe::{Arrival, Arrivals, ObserverWatch, bodies::Bodies, ledger::LostMemory, retained::Look, wills::Wills},
};

/// What a shard hears of the observer of one broker; of nobody if nothing is observed.
pub(in crate::engine) struct Inlet {
    pub(super) arrivals: Receiver<Arrivals>,
    /// Where batches go that are empty again.
    pub(super) used: SyncSender<Vec<Arrival>>,
    pub(super) watch: Arc<ObserverWatch>,
    /// Where looks at retained messages are asked for, where there are any.
    pub(super) looks: Option<SyncSender<Look>>,
    /// Since when the observer is back; a message that was sent before may still come.
    pub(super) since: Micros,
}

impl Inlet {
    /// An inlet whose observer has not been away yet.
    pub(in crate::engine) fn new(
        arrivals: Receiver<Arrivals>,
        used: SyncSender<Vec<Arrival>>,
        watch: Arc<ObserverWatch>,
        looks: Option<SyncSender<Look>>,
    ) -> Self {
        Self { arrivals, used, watch, looks, since: Micros(0) }
    }
}

/// What is followed until it is judged.
pub(super) struct Watched {
    /// One for each of the brokers, in their order.
    pub(super) inlets: Vec<Inlet>,
    pub(super) lost_memory: LostMemory,
    /// What was sent without a stamp.
    pub(super) bodies: Bodies,
    /// What brokers owe for devices that went without a word.
    pub(super) wills: Wills<Slot>,
    pub(super) looks: Looks,
    /// Whether an earlier process is known to have been in this place.
    pub(super) has_predecessor: bool,
    /// The place of the next device whose ledger rows are looked at.
    pub(super) sweep_from: usize,
    pub(super) sweep_at: Micros,
}

impl Watched {
    /// Nothing yet.
    pub(super) fn new(inlets: Vec<Inlet>, has_predecessor: bool, now: Micros) -> Self {
        Self {
            inlets,
            lost_memory: LostMemory::default(),
            bodies: Bodies::default(),
            wills: Wills::default(),
            looks: Looks::default(),
            has_predecessor,
            sweep_from: 0,
            sweep_at: now,
        }
    }
}
