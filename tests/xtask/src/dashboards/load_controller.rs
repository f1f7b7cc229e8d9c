//! How the controller fares: who leads, what it looks after, and whether cluster and workers answer it.

use fleet_contract::metric::{
    Metric,
    controller::{
        API_SECONDS, FLEET_DEVICES, FLEET_PODS, FLEETS, LEADER, PODS_FORCED, PULL_FAILURES, PULLS, PUSHES,
        RECONCILE_ERRORS, RECONCILE_OWN_SECONDS, RECONCILE_SECONDS, RECONCILES, WATCH_ERRORS,
    },
};

use super::{
    board::{Board, Row},
    panel::{Unit, heatmap, lines, stacked, stat, table},
    query::{Series, of, ratio},
};

pub(super) fn board() -> Board {
    Board {
        uid: "simctl-controller",
        title: "simctl / Controller",
        description: "The load controller: fleets as it sees them, its work, and what answers it.",
        chosen_from: FLEET_DEVICES,
        rows: vec![now(), scaling(), work(), errors(), leadership()],
    }
}

fn devices(state: &str) -> Series {
    of(FLEET_DEVICES).only("state", state)
}

fn pods(state: &str) -> Series {
    of(FLEET_PODS).only("state", state)
}

fn now() -> Row {
    Row::open(
        "Now",
        [
            stat("Leaders", "Exactly one controller leads.", Unit::Count, of(LEADER).sum()).bad_below(1.0, 0.5),
            stat("Fleets", "Fleets that are looked after, in all namespaces.", Unit::Count, of(FLEETS).sum()),
            stat("Devices desired", "Devices that the chosen fleets ask for.", Unit::Count, devices("desired").sum()),
            stat(
                "Connected of desired",
                "1 when every device that was asked for has a session.",
                Unit::Ratio,
                ratio(&devices("connected").sum(), &devices("desired").sum()),
            )
            .bad_below(0.99, 0.9),
            stat("Pods ready", "Worker pods that are ready.", Unit::Count, pods("ready").sum()),
            stat(
                "Reconcile",
                "From the start of a comparison with the cluster to the last applied change, at the chosen quantile.",
                Unit::Seconds,
                of(RECONCILE_SECONDS).quantile("$quantile"),
            )
            .bad_above(0.5, 2.0),
        ],
    )
}

fn scaling() -> Row {
    let lacking = format!(
        "topk(10, {} - {} > 0)",
        devices("desired").sum_by("namespace, fleet"),
        devices("connected").sum_by("namespace, fleet")
    );
    Row::open(
        "Scaling",
        [
            lines(
                "Devices by state",
                "Desired by the document, assigned to pods that exist, connected as the pods say.",
                Unit::Count,
                [("{{state}}", of(FLEET_DEVICES).sum_by("state"))],
            ),
            lines(
                "Pods by state",
                "A gap from desired to present is quota or admission, from present to ready the scheduler, the image \
                 or the broker, from ready to answering the network.",
                Unit::Count,
                [("{{state}}", of(FLEET_PODS).sum_by("state"))],
            ),
            table(
                "Devices missing",
                "The ten fleets that lack the most devices; empty when all are connected.",
                Unit::Count,
                lacking,
            ),
        ],
    )
}

fn work() -> Row {
    let quantiles = |metric: Metric| ["0.5", "0.9", "0.99"].map(|quantile| (quantile, of(metric).quantile(quantile)));
    Row::open(
        "Work",
        [
            lines(
                "Reconciles and pulls",
                "Comparisons with the cluster, and questions to workers.",
                Unit::PerSecond,
                [("reconciles", of(RECONCILES).rate()), ("pulls", of(PULLS).rate())],
            ),
            lines("Reconcile", "From start to the last applied change.", Unit::Seconds, quantiles(RECONCILE_SECONDS)),
            lines(
                "Reconcile without the API server",
                "What the controller itself adds to a change: time that no call to the API server explains.",
                Unit::Seconds,
                quantiles(RECONCILE_OWN_SECONDS),
            ),
            heatmap("Reconcile, all", "From start to the last applied change.", &of(RECONCILE_SECONDS)),
            lines("Calls", "Time of a call to the API server.", Unit::Seconds, quantiles(API_SECONDS)),
            heatmap("Calls, all", "Time of a call to the API server.", &of(API_SECONDS)),
            stacked("Calls by verb", "Calls to the API server.", Unit::PerSecond, "verb", &of(API_SECONDS).count()),
            stacked("Pushes", "Plans pushed to running workers.", Unit::PerSecond, "result", &of(PUSHES)),
        ],
    )
}

fn errors() -> Row {
    Row::open(
        "Errors",
        [
            stacked("Reconciles that failed", "By reason.", Unit::PerSecond, "reason", &of(RECONCILE_ERRORS)),
            stacked(
                "Workers that did not answer",
                "Pulls of statistics that failed, by reason.",
                Unit::PerSecond,
                "reason",
                &of(PULL_FAILURES),
            ),
            lines(
                "Failed of all pulls",
                "1 when no worker answers.",
                Unit::Ratio,
                [("failed", ratio(&of(PULL_FAILURES).rate_or_zero(), &of(PULLS).rate()))],
            ),
            stacked("Watches that broke off", "By kind of object.", Unit::PerSecond, "kind", &of(WATCH_ERRORS)),
            lines(
                "Pods deleted by force",
                "Pods of lost nodes, whose devices are to run elsewhere.",
                Unit::PerSecond,
                [("deleted", of(PODS_FORCED).rate())],
            ),
        ],
    )
}

fn leadership() -> Row {
    Row::collapsed(
        "Leadership",
        [lines(
            "Who leads",
            "1 for the controller that leads; at a takeover two may be shown for one scrape.",
            Unit::Count,
            [("{{instance}}", of(LEADER).sum_by("instance"))],
        )],
    )
}
