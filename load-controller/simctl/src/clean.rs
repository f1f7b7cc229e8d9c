//! Removes what a run of a fleet has left at its broker: many short sessions side by side, no faster than the fleet connects.
//!
//! What may be left and how one client removes it is the worker's library's to know ([`device_sim::leftovers`]); here is which
//! clients connect when, and what became of it all.

mod outcome;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use device_sim::{
    index::DeviceIndex,
    leftovers::{Found, Left, Leftovers, Stays, Way},
    transport::Route,
};
use fleet_contract::{
    broker_url::BrokerUrl,
    fleet::{BrokerSpec, FleetSpec},
    format::Format,
    worker,
};
use load_controller::words;
use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{cluster::settle::Progress, document::Document, exit::Failure, local::socket, printer::Printer};
pub(crate) use outcome::Cleaned;
use outcome::What;

/// Connections at a time.
const SIDE_BY_SIDE: usize = 64;

/// Connections in a row that an address of the broker may fail to take before all others there count as failed, too.
const LOST_MAX: u32 = 64;

/// Topics that one client looks at.
const TOPICS_PER_LOOK: usize = 512;

/// How long a name may take to be resolved, and a connection with all that is said over it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whose sessions and messages are to be removed.
#[derive(Debug)]
pub(crate) struct Request {
    /// The fleet, with as many devices as it ever had.
    pub(crate) document: Document,
    /// Client ids of observers whose sessions a report says are left.
    pub(crate) observers: Vec<String>,
    /// The addresses of this machine to connect from, where they matter.
    pub(crate) sources: Vec<IpAddr>,
}

/// Refuses to take over the sessions of a run that goes on.
pub(crate) async fn check_not_running(fleet: &str) -> Result<(), Failure> {
    let running = socket::list().await.into_iter().find(|run| run.fleet == fleet);
    running.map_or(Ok(()), |run| {
        Err(Failure::refused(format!(
            "fleet {fleet} is running on this machine (process {}), and its devices would lose their sessions: stop it with \
             `simctl stop`, or say --force",
            run.pid
        )))
    })
}

/// Removes all that can be removed, and says what could not.
///
/// # Errors
/// When the fleet cannot be compiled, or when `stop` comes before the end.
pub(crate) async fn clean(request: Request, stop: &CancellationToken, printer: Printer) -> anyhow::Result<Cleaned> {
    if request.document.fleet.spec.has_own_broker() {
        return Ok(Cleaned::nothing(&request.document.fleet));
    }
    let mut cleaning = Cleaning::of(request).await?;
    let leftovers = Arc::clone(&cleaning.leftovers);
    let mut devices = leftovers.devices();
    let mut turns = turns(&cleaning.spec);
    let mut progress = Progress::new(printer);
    let mut jobs = JoinSet::new();
    let mut next = cleaning.next(&mut devices, true);
    while next.is_some() || !jobs.is_empty() {
        tokio::select! {
            () = stop.cancelled() => {
                progress.clear();
                let how_far = cleaning.how_far();
                return Err(Failure::aborted(format!("stopped before all was removed: {how_far}")).into());
            }
            Some(done) = jobs.join_next() => cleaning.take(done.context("a connection was given up")?),
            _ = turns.tick(), if next.is_some() && jobs.len() < SIDE_BY_SIDE => {
                if let Some(job) = next.take() {
                    let leftovers = Arc::clone(&leftovers);
                    jobs.spawn_blocking(move || job.carry_out(&leftovers));
                }
            }
        }
        if next.is_none() {
            next = cleaning.next(&mut devices, jobs.is_empty());
        }
        progress.show(&[cleaning.how_far()]);
    }
    progress.clear();
    Ok(cleaning.outcome)
}

/// When a connection may begin: at the connect rate of the fleet.
fn turns(spec: &FleetSpec) -> Interval {
    let mut turns = interval(spec.connect.rate.time_for(1).as_duration().max(Duration::from_micros(1)));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

/// What one client is to do.
struct Job {
    position: usize,
    way: Arc<Way>,
    task: Task,
}

enum Task {
    /// A device ends its session and clears its topics.
    Device(DeviceIndex),
    /// An observer ends its session.
    Observer(String),
    /// A client looks whether topics are clear; each has a number of its own.
    Look(u32, Vec<String>),
}

/// A job and what came of it.
struct Done {
    position: usize,
    result: Result<Removed, Stays>,
    task: Task,
}

enum Removed {
    /// All but these topics.
    Device(Vec<(String, Stays)>),
    Observer,
    Look(Found),
}

impl Job {
    /// Blocks.
    fn carry_out(self, leftovers: &Leftovers) -> Done {
        let Self { position, way, task } = self;
        let result = match &task {
            Task::Device(index) => leftovers.remove(*index, &way).map(Removed::Device),
            Task::Observer(client_id) => leftovers.end_observer(client_id, position, &way).map(|()| Removed::Observer),
            Task::Look(number, topics) => leftovers.look(topics, *number, position, &way).map(Removed::Look),
        };
        Done { position, result, task }
    }
}

/// An address of the broker.
struct Address {
    /// How it is reached; an error says why it is not.
    way: Result<Arc<Way>, Stays>,
    /// Connections in a row that it did not take.
    lost: u32,
    /// Topics that were cleared and are to be looked at.
    cleared: Vec<String>,
}

/// All that is known while it goes on.
struct Cleaning {
    leftovers: Arc<Leftovers>,
    spec: FleetSpec,
    addresses: Vec<Address>,
    /// Observers and looks; devices come after them.
    waiting: VecDeque<(usize, Task)>,
    looks: u32,
    /// Devices up to here have had their turn.
    reached: u32,
    outcome: Cleaned,
}

impl Cleaning {
    async fn of(Request { document, observers, sources }: Request) -> anyhow::Result<Self> {
        let Document { fleet, files, .. } = document;
        let spec = fleet.spec.clone();
        let outcome = Cleaned::nothing(&fleet);
        // The clients that look are observers of a run that nobody else has.
        let run = getrandom::u32().context("the operating system gives no random bytes")?;
        let leftovers = Arc::new(Leftovers::new(worker::Document { format: Format::FIRST, fleet, files }, run)?);
        let urls = spec.broker.as_ref().map_or(&[][..], BrokerSpec::addresses);
        let ways = urls.iter().map(|url| way(url, &spec, &sources));
        let ways = futures::future::join_all(ways).await.into_iter();
        let addresses: Vec<_> =
            ways.map(|way| Address { way: way.map(Arc::new), lost: 0, cleared: Vec::new() }).collect();
        let everywhere = |observer: &String| {
            let observer = observer.clone();
            (0..addresses.len()).map(move |position| (position, Task::Observer(observer.clone())))
        };
        let waiting = observers.iter().flat_map(everywhere).collect();
        Ok(Self { leftovers, spec, addresses, waiting, looks: 0, reached: 0, outcome })
    }

    /// What to do next, if anything; where `is_last`, nothing goes on that may leave more to do.
    fn next(&mut self, devices: &mut impl Iterator<Item = DeviceIndex>, is_last: bool) -> Option<Job> {
        loop {
            let next = self.waiting.pop_front().or_else(|| Some(self.device(devices.next()?)));
            let (position, task) = match next {
                Some(next) => next,
                None if is_last => self.last_look()?,
                None => return None,
            };
            match self.way(position) {
                Ok(way) => return Some(Job { position, way, task }),
                // What cannot be reached is not waited for.
                Err(stays) => self.take_over(Done { position, task, result: Err(stays) }),
            }
        }
    }

    fn device(&mut self, index: DeviceIndex) -> (usize, Task) {
        self.reached = index.number() + 1;
        (self.leftovers.position(index), Task::Device(index))
    }

    /// Topics of an address that were cleared and have not been looked at.
    fn last_look(&mut self) -> Option<(usize, Task)> {
        let position = self.addresses.iter().position(|address| !address.cleared.is_empty())?;
        let topics = std::mem::take(&mut self.addresses[position].cleared);
        Some((position, self.look(topics)))
    }

    fn look(&mut self, topics: Vec<String>) -> Task {
        self.looks += 1;
        Task::Look(self.looks, topics)
    }

    fn way(&self, position: usize) -> Result<Arc<Way>, Stays> {
        let Address { way, lost, .. } = &self.addresses[position];
        if *lost >= LOST_MAX {
            return Err(Stays::Unreachable(format!("{LOST_MAX} connections in a row have failed")));
        }
        way.clone()
    }

    /// Takes in what a client has done.
    fn take(&mut self, done: Done) {
        let address = &mut self.addresses[done.position];
        match &done.result {
            Err(Stays::Unreachable(_)) => address.lost += 1,
            _ => address.lost = 0,
        }
        self.take_over(done);
    }

    fn take_over(&mut self, Done { position, task, result }: Done) {
        match (task, result) {
            (Task::Device(index), Ok(Removed::Device(stays))) => self.removed(index, position, stays),
            (Task::Device(index), Err(why)) => {
                let Left { client_id, has_session, topics } = self.leftovers.of(index);
                if has_session {
                    self.outcome.leave(What::Sessions, &why, client_id);
                }
                topics.into_iter().for_each(|topic| self.outcome.leave(What::RetainedMessages, &why, topic));
            }
            (Task::Observer(_), Ok(_)) => self.outcome.observers += 1,
            (Task::Observer(client_id), Err(why)) => self.outcome.leave(What::Sessions, &why, client_id),
            (Task::Look(_, topics), Ok(Removed::Look(found))) => self.outcome.looked(topics.len(), found),
            (Task::Look(_, topics), Err(why)) => self.outcome.not_looked(topics, &why),
            (Task::Device(_) | Task::Look(..), Ok(_)) => unreachable!("a job gives what is its own"),
        }
    }

    /// A device has ended its session and cleared all of its topics but some.
    fn removed(&mut self, index: DeviceIndex, position: usize, stays: Vec<(String, Stays)>) {
        let Left { has_session, mut topics, .. } = self.leftovers.of(index);
        self.outcome.sessions += u64::from(has_session);
        topics.retain(|topic| !stays.iter().any(|(stays, _)| stays == topic));
        for (topic, why) in stays {
            self.outcome.leave(What::RetainedMessages, &why, topic);
        }
        let cleared = &mut self.addresses[position].cleared;
        cleared.extend(topics);
        if cleared.len() >= TOPICS_PER_LOOK {
            let topics = std::mem::take(cleared);
            let look = self.look(topics);
            self.waiting.push_back((position, look));
        }
    }

    fn how_far(&self) -> String {
        format!("{} of {} have had their turn", words::count(self.reached.into()), words::devices(self.spec.devices))
    }
}

/// How an address of the broker is reached.
async fn way(url: &BrokerUrl, spec: &FleetSpec, sources: &[IpAddr]) -> Result<Way, Stays> {
    let broker = spec.broker.as_ref().map_or_else(|| BrokerSpec::at(vec![url.clone()]), BrokerSpec::clone);
    let unreachable = |why: String| Stays::Unreachable(format!("{url}: {why}"));
    let route = Route::new(url, &broker).map_err(|error| unreachable(error.to_string()))?;
    let addresses: Vec<SocketAddr> = match timeout(PATIENCE, lookup_host((url.host(), url.port()))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(unreachable(format!("its name cannot be resolved: {error}"))),
        Err(_) => return Err(unreachable("its name cannot be resolved: no answer".into())),
    };
    Ok(Way { route: Arc::new(route.from_sources(sources)), addresses, patience: PATIENCE })
}
