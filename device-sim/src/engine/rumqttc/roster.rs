//! Who belongs to the fleet: a task for each device that the plan wants, and for each that has yet to settle.

use std::sync::{Arc, Mutex, atomic::Ordering::Release};

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{Orders, Shared, books::Books, device::Device, lock};
use crate::index::DeviceIndex;

/// Starts the devices' tasks and waits for them.
pub(super) struct Roster {
    shared: Arc<Shared>,
    orders: watch::Receiver<Orders>,
    tasks: JoinSet<DeviceIndex>,
}

impl Roster {
    pub(super) fn new(shared: Arc<Shared>, orders: watch::Receiver<Orders>) -> Self {
        Self { shared, orders, tasks: JoinSet::new() }
    }

    /// Runs until it is told to stop; then no task is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.follow_orders();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = self.orders.changed() => self.follow_orders(),
                Some(left) = self.tasks.join_next() => self.left(left),
            }
        }
        self.tasks.shutdown().await;
    }

    fn follow_orders(&mut self) {
        let orders = self.orders.borrow_and_update().clone();
        if orders.is_draining {
            return self.note_drained();
        }
        let shard = self.shared.shard;
        let most = orders.course.population.most(self.shared.clock.now());
        for number in shard.first..shard.first + shard.share_of(most) {
            self.start(DeviceIndex::new(number), &orders);
        }
    }

    /// Starts a device that the plan wants, unless it runs.
    fn start(&mut self, index: DeviceIndex, orders: &Orders) {
        let mut devices = lock(&self.shared.devices);
        let now = self.shared.clock.now();
        if devices.contains_key(&index) || orders.course.population.stay(index.number(), now).is_none() {
            return;
        }
        let books = Arc::new(Mutex::new(Books::new(&self.shared.blueprint, index)));
        devices.insert(index, Arc::clone(&books));
        self.tasks.spawn(Device::new(index, books, Arc::clone(&self.shared), self.orders.clone()).run());
    }

    /// A device has gone; it comes again at once if the plan has changed its mind meanwhile.
    fn left(&mut self, left: Result<DeviceIndex, JoinError>) {
        match left {
            Ok(index) => {
                lock(&self.shared.devices).remove(&index);
                let orders = self.orders.borrow().clone();
                if !orders.is_draining {
                    self.start(index, &orders);
                }
            }
            Err(error) => tracing::error!(%error, "the task of a device has panicked"),
        }
        self.note_drained();
    }

    fn note_drained(&self) {
        if self.orders.borrow().is_draining && self.tasks.is_empty() {
            self.shared.is_drained.store(true, Release);
        }
    }
}
