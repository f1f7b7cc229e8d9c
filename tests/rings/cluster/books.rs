//! What is counted when something is killed: how many different messages the broker has handed to a witness, which knows
//! nothing of ours, lies between what the report says was sent and that plus what may have been sent.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use tests::kubernetes::containers;

use super::{
    TURNS, admin,
    fleet::{Fleet, PER_POD, document, name, uid},
    listener::Listener,
    own_nodes, product,
};

const DEVICES: u32 = 100;

/// Clients of a broker that are none of its fleet's: the one that counts its messages.
pub(super) const WITNESSES: u64 = 1;

/// What the devices of a pod send in a tenth of a second; which of them have their turn in it is left to chance, so that it is
/// three deviations more.
const RECORDED: u64 = 125 / 10 + 8;

/// For so long nothing new is in the report: several readings of a fleet that is watched.
const STILL: Duration = Duration::from_secs(4);

/// What they send between two readings of a fleet that nobody watches, and until another pod runs them.
const READ: u64 = 125 * (15 + 45);

/// What a fleet says of its messages, held against what its broker has handed to somebody else.
pub(super) struct Books {
    pub(super) fleet: Fleet,
    witness: Listener,
}

impl Books {
    /// Those of a fleet that has no devices yet, so that the witness sees its first message, too.
    pub(super) fn open(fleet: Fleet) -> Books {
        let witness = Listener::start(&fleet);
        assert_eq!(fleet.broker("simctl_broker_messages_in_total"), Some(0), "the fleet has devices already");
        Books { fleet, witness }
    }

    /// Holds the messages back until all are judged, and compares; how many may have been sent beside those that are counted.
    #[track_caller]
    pub(super) fn expect_bounded(&self, when: &str) -> u64 {
        let Self { fleet, witness } = self;
        fleet.simctl(&["pause"]);
        let known = Cell::new((0, 0, Instant::now()));
        let is_still = |fleet: &Fleet| {
            let report = fleet.report();
            let (sent, lost) = (report.count("messages.sent"), report.count("generator.workers_lost"));
            let (known_sent, known_lost, since) = known.get();
            if (sent, lost) != (known_sent, known_lost) {
                known.set((sent, lost, Instant::now()));
            }
            report.count("messages.in_flight") == 0 && known.get().2 == since && since.elapsed() > STILL
        };
        fleet.until("what was in flight is judged", is_still);
        let report = fleet.report();
        let taken = fleet.broker("simctl_broker_messages_in_total").unwrap();
        let seen = witness.until_handed(taken);
        assert!(seen.messages + seen.again >= taken, "{when}: the witness has seen less than {taken}: {seen:?}");
        // By device, stream, epoch and sequence; what was sent again counts once.
        let distinct = seen.messages;
        let (sent, unrecorded) = (report.count("messages.sent"), report.count("messages.unrecorded"));
        println!(
            "FIGURE {when}: {sent} sent by the report, {distinct} different ones of {taken} at the broker, up to {unrecorded} more \
             may have been sent"
        );
        report.claim(&format!("{when}: what is counted was sent, of {distinct}"), sent <= distinct);
        report.claim(&format!("{when}: what was sent is bounded, {distinct}"), distinct <= sent + unrecorded);
        report.expect_conservation();
        report.expect("messages.lost", 0);
        fleet.simctl(&["resume"]);
        unrecorded
    }
}

#[test]
fn the_broker_has_no_more_than_the_books_whatever_is_killed() {
    let _turn = TURNS.alone();
    let Some(_) = own_nodes("the end of a process in a container") else { return };
    let quick = document(0, PER_POD).replace("interval: 2s", "interval: 200ms, jitter: 0s");
    let books = Books::open(Fleet::apply("books", &quick));
    let fleet = &books.fleet;
    fleet.scale(DEVICES);
    fleet.expect_devices(DEVICES, PER_POD, WITNESSES);
    let whole = fleet.clients();
    let are_back = |fleet: &Fleet| fleet.clients() == whole;
    let kill = |ordinal: usize| {
        let connections = fleet.broker("simctl_broker_connections_total").unwrap();
        containers::kill(uid(&fleet.pods()[ordinal]), "device-sim").unwrap();
        fleet.until("its devices have come back", |fleet| {
            fleet.broker("simctl_broker_connections_total") >= Some(connections + u64::from(PER_POD)) && are_back(fleet)
        });
    };

    // Nobody watches yet, so that workers are read every 15 seconds.
    fleet.until("the fleet is settled", |fleet| fleet.status("connected") == u64::from(DEVICES));
    kill(0);
    let unwatched = books.expect_bounded("a worker is killed that nobody watches");
    assert!(unwatched <= RECORDED, "{unwatched} messages");
    kill(1);
    let watched = books.expect_bounded("a worker is killed that somebody watches") - unwatched;
    assert!(watched <= RECORDED, "{watched} messages");

    // The leader alone takes nothing along, whoever watches.
    product::is_unwatched();
    product::kill_leader();
    let led = |when: &str| {
        fleet.until("it answers", |fleet| fleet.try_simctl(&["status", "-o", "json"]).code == Some(0));
        assert_eq!(books.expect_bounded(when), watched + unwatched, "nothing more is unknown");
    };
    led("the leader is killed while nobody watches");
    product::kill_leader();
    led("the leader is killed while somebody watches");

    // The leader and a worker at once: the worker is back before anybody leads.
    let leader = product::leader();
    admin().kubectl(["delete", "pod", "-n", product::NAMESPACE, name(&leader), "--grace-period=0", "--force"]).unwrap();
    kill(2);
    fleet.until("another controller leads", |fleet| fleet.try_simctl(&["status", "-o", "json"]).code == Some(0));
    let unled = books.expect_bounded("a worker is killed while nobody leads") - watched - unwatched;
    assert!(unled <= RECORDED, "{unled} messages");

    // Its record goes with the pod.
    let take_away = |place: usize| {
        let pods = fleet.pods();
        containers::freeze(uid(&pods[place]), "device-sim").unwrap();
        let pod = ["delete", "pod", name(&pods[place]), "--grace-period=0", "--force", "--wait=false"];
        fleet.namespace.kubectl(pod).unwrap();
        // It may be gone already.
        let _ = containers::kill(uid(&pods[place]), "device-sim");
        fleet.until("another pod runs its devices", |fleet| {
            fleet.pods().get(place).is_some_and(|pod| uid(pod) != uid(&pods[place])) && are_back(fleet)
        });
    };
    take_away(3);
    let all = books.expect_bounded("a pod is deleted by force while somebody watches");
    assert!(all - unled - watched - unwatched <= READ, "{all} messages");
    product::is_unwatched();
    take_away(2);
    let more = books.expect_bounded("a pod is deleted by force while nobody watches");
    assert!(more - all <= READ, "{more} messages");

    // The leader and a pod at once: what the one had read of the other goes with both, and so does its record.
    let (leader, pods) = (product::leader(), fleet.pods());
    let now = ["--grace-period=0", "--force", "--wait=false"];
    containers::freeze(uid(&pods[1]), "device-sim").unwrap();
    fleet.namespace.kubectl([&["delete", "pod", name(&pods[1])], &now[..]].concat()).unwrap();
    let its = ["delete", "pod", "-n", product::NAMESPACE, name(&leader)];
    admin().kubectl([&its[..], &now].concat()).unwrap();
    let _ = containers::kill(uid(&pods[1]), "device-sim");
    fleet.until("another pod runs its devices", |fleet| {
        fleet.pods().get(1).is_some_and(|pod| uid(pod) != uid(&pods[1])) && are_back(fleet)
    });
    fleet.until("another controller leads", |fleet| fleet.try_simctl(&["status", "-o", "json"]).code == Some(0));
    books.expect_bounded("a pod is deleted while nobody leads");
    fleet.report().expect("generator.workers_lost", 6);
    assert!(fleet.until_connected(DEVICES) < Duration::from_mins(1));
}
