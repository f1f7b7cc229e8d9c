//! How a fleet fares: is everybody there, does everything arrive, how fast, and can the figures be trusted?

use fleet_contract::{
    metric::{self, Kind, Metric, broker},
    series::{self, COUNTERS},
};

use super::{
    board::{Board, Row},
    panel::{Panel, Unit, columned, heatmap, lines, stacked, stat, table},
    query::{Series, of, ratio},
};

/// The quantiles that are shown together.
const QUANTILES: [&str; 3] = ["0.5", "0.9", "0.99"];

pub(super) fn board() -> Board {
    Board {
        uid: "simctl-fleet-overview",
        title: "simctl / Fleet overview",
        description: "Simulated devices and what became of their messages, as the workers measured it.",
        chosen_from: metric::DEVICES,
        rows: vec![now(), scaling(), throughput(), latency(), streams(), errors(), the_broker(), the_simulator()],
    }
}

fn devices(state: &str) -> Series {
    of(metric::DEVICES).only("state", state)
}

fn now() -> Row {
    Row::open(
        "Now",
        [
            stat(
                "Devices connected",
                "Devices with an accepted MQTT session.",
                Unit::Count,
                devices("connected").sum(),
            ),
            stat(
                "Connected of desired",
                "1 when every device that was asked for has a session.",
                Unit::Ratio,
                ratio(&devices("connected").sum(), &devices("desired").sum()),
            )
            .bad_below(0.99, 0.9),
            stat("Sent", "Messages handed to a session.", Unit::MessagesPerSecond, of(series::SENT.metric).rate()),
            stat(
                "End to end",
                "From the instant at which a message was due to the observer, at the chosen quantile.",
                Unit::Seconds,
                of(series::END_TO_END.metric).quantile("$quantile"),
            )
            .bad_above(0.25, 1.0),
            stat(
                "Lost of observed",
                "Messages that did not arrive in time, of those that are followed to their delivery.",
                Unit::Ratio,
                ratio(&of(series::LOST.metric).rate(), &of(series::OBSERVED.metric).rate()),
            )
            .bad_above(0.000_001, 0.01),
            stat(
                "Generator late",
                "How late the generator itself was, at the chosen quantile. Above 100 ms it is the bottleneck, and no \
                 figure here says anything about the broker.",
                Unit::Seconds,
                of(series::SCHEDULE_LAG.metric).quantile("$quantile"),
            )
            .bad_above(0.01, 0.1),
        ],
    )
}

fn scaling() -> Row {
    let lacking = format!(
        "topk(10, {} - {} > 0)",
        devices("desired").sum_by("namespace, fleet, instance"),
        devices("connected").sum_by("namespace, fleet, instance")
    );
    Row::open(
        "Scaling",
        [
            lines(
                "Devices by state",
                "Desired and connected meet when a change is done; refused and failed say why they do not.",
                Unit::Count,
                [("{{state}}", of(metric::DEVICES).sum_by("state"))],
            ),
            lines(
                "Connects",
                "Sessions that the broker accepted, and of these the ones after an earlier session was lost.",
                Unit::PerSecond,
                [("accepted", of(metric::CONNECTIONS).rate()), ("again", of(metric::RECONNECTS).rate())],
            ),
            table(
                "Devices missing",
                "The ten workers that lack the most devices; empty when all are connected.",
                Unit::Count,
                lacking,
            ),
        ],
    )
}

fn throughput() -> Row {
    let rate = |metric: Metric| of(metric).rate();
    Row::open(
        "Throughput",
        [
            lines(
                "Messages",
                "Offered is what the timetable asked for. A gap to sent is withheld; a gap from observed to delivered \
                 is on its way or lost.",
                Unit::MessagesPerSecond,
                [
                    ("offered", rate(series::OFFERED.metric)),
                    ("sent", rate(series::SENT.metric)),
                    ("acknowledged", rate(series::ACKNOWLEDGED.metric)),
                    ("observed", rate(series::OBSERVED.metric)),
                    ("delivered", rate(series::DELIVERED.metric)),
                ],
            ),
            stacked(
                "Sent by QoS",
                "Messages handed to a session, by quality of service.",
                Unit::MessagesPerSecond,
                "qos",
                &of(series::SENT.metric),
            ),
            stacked(
                "Received by QoS",
                "Messages that came for the devices' own subscriptions, by quality of service.",
                Unit::MessagesPerSecond,
                "qos",
                &of(metric::MESSAGES_RECEIVED),
            ),
            lines(
                "Bytes of MQTT",
                "What devices wrote and read, and what the observer read.",
                Unit::BytesPerSecond,
                [
                    ("sent", rate(metric::BYTES_SENT)),
                    ("received", rate(metric::BYTES_RECEIVED)),
                    ("observed", rate(metric::BYTES_OBSERVED)),
                ],
            ),
            lines(
                "Messages of a device",
                "Messages sent for each connected device.",
                Unit::MessagesPerSecond,
                [("sent", ratio(&rate(series::SENT.metric), &devices("connected").sum()))],
            ),
            lines(
                "In flight",
                "Observed messages that are not judged yet. Rising means that the broker or the observer falls behind.",
                Unit::Count,
                [("qos {{qos}}", of(series::IN_FLIGHT.metric).sum_by("qos"))],
            ),
            lines(
                "Not followed",
                "Messages withheld before they were sent, those of them that are larger than the broker takes, and messages \
                 that nobody follows to their delivery.",
                Unit::MessagesPerSecond,
                [
                    ("withheld", rate(series::WITHHELD.metric)),
                    ("too large", rate(metric::MESSAGES_TOO_LARGE)),
                    ("unobserved", rate(series::UNOBSERVED.metric)),
                ],
            ),
        ],
    )
}

fn latency() -> Row {
    let quantiles = |title: &'static str, description: &'static str, metric: Metric| -> Panel {
        let targets = QUANTILES.map(|quantile| (quantile, of(metric).quantile(quantile)));
        lines(title, description, Unit::Seconds, targets)
    };
    Row::open(
        "Latency",
        [
            lines(
                "At the chosen quantile",
                "All of them count from the instant that was meant: a slow broker cannot hide by slowing the devices.",
                Unit::Seconds,
                [
                    ("end to end", of(series::END_TO_END.metric).quantile("$quantile")),
                    ("acknowledged", of(series::PUBLISH_ACK.metric).quantile("$quantile")),
                    ("connect", of(series::CONNECT.metric).quantile("$quantile")),
                    ("recovery", of(series::RECOVERY.metric).quantile("$quantile")),
                ],
            ),
            quantiles("End to end", "From due to the observer.", series::END_TO_END.metric),
            heatmap(
                "End to end, all",
                "From due to the observer: a second mode shows here alone.",
                &of(series::END_TO_END.metric),
            ),
            quantiles(
                "Acknowledged",
                "From due to the broker's acknowledgement, QoS 1 and 2.",
                series::PUBLISH_ACK.metric,
            ),
            quantiles("Connect", "From the intended connect to the accepted session.", series::CONNECT.metric),
            quantiles("Recovery", "From a lost connection to the next accepted session.", series::RECOVERY.metric),
            quantiles(
                "Offline detection",
                "From the end of a session without a DISCONNECT to its will at the observer.",
                series::OFFLINE_DETECTION.metric,
            ),
        ],
    )
}

fn streams() -> Row {
    let p99 = |metric: Metric| of(metric).quantile_by("0.99", "group");
    let by = |metric: &Metric| if metric.labels.contains(&"stream") { "group, stream" } else { "group" };
    let counters = COUNTERS.iter().filter(|counter| counter.metric.kind == Kind::Counter);
    let columns = counters.map(|counter| (counter.title(), of(counter.metric).rate_by(by(&counter.metric))));
    Row::open(
        "Groups and streams",
        [
            stacked(
                "Sent by stream",
                "Messages handed to a session, by stream.",
                Unit::MessagesPerSecond,
                "group, stream",
                &of(series::SENT.metric),
            ),
            lines(
                "End to end p99 by group",
                "From due to the observer.",
                Unit::Seconds,
                [("{{group}}", p99(series::END_TO_END.metric))],
            ),
            lines(
                "Acknowledged p99 by group",
                "From due to the broker's acknowledgement, QoS 1 and 2.",
                Unit::Seconds,
                [("{{group}}", p99(series::PUBLISH_ACK.metric))],
            ),
            columned(
                "All counters by stream",
                "Each counter of messages, a second; what is exported for whole groups stands in rows without a stream.",
                Unit::PerSecond,
                columns,
            ),
        ],
    )
}

fn errors() -> Row {
    let rate = |metric: Metric| of(metric).rate();
    Row::open(
        "Errors",
        [
            lines(
                "Messages that went wrong",
                "Lost: not there in time. Late: there after all. Unknown: nobody can know, because a pod was killed or \
                 the observer was away.",
                Unit::MessagesPerSecond,
                [
                    ("lost", rate(series::LOST.metric)),
                    ("lost although acknowledged", rate(series::LOST_ACKNOWLEDGED.metric)),
                    ("unknown", rate(series::UNKNOWN.metric)),
                    ("late", rate(series::LATE.metric)),
                    ("duplicated", rate(series::DUPLICATED.metric)),
                    ("out of order", rate(series::REORDERED.metric)),
                ],
            ),
            lines(
                "Sent again, given up",
                "Messages sent again after a reconnect, and messages that ended with their clean session.",
                Unit::MessagesPerSecond,
                [("sent again", rate(series::RESENT.metric)), ("given up", rate(series::ABANDONED.metric))],
            ),
            stacked(
                "Messages that were rejected",
                "By the broker's reason, which only MQTT 5 gives.",
                Unit::MessagesPerSecond,
                "reason",
                &of(metric::MESSAGES_REJECTED),
            ),
            stacked(
                "Subscriptions that were refused",
                "By the broker's reason; MQTT 3.1.1 gives none.",
                Unit::PerSecond,
                "reason",
                &of(metric::SUBSCRIPTIONS_REFUSED),
            ),
            stacked("Connections lost", "By reason.", Unit::PerSecond, "reason", &of(metric::DISCONNECTS)),
            stacked(
                "Wills",
                "By what became of them; expected are those of sessions that ended without a DISCONNECT.",
                Unit::PerSecond,
                "outcome",
                &of(metric::WILLS),
            ),
            stacked(
                "Retained state",
                "Looks at the topics of wills, by whether they held the retained message that they should.",
                Unit::PerSecond,
                "outcome",
                &of(metric::RETAINED_LOOKS),
            ),
            stacked(
                "Connects that failed",
                "Attempts that came to no answer of the broker, by reason.",
                Unit::PerSecond,
                "reason",
                &of(metric::CONNECT_FAILURES),
            ),
            stacked(
                "Connects that were refused",
                "By the broker's code.",
                Unit::PerSecond,
                "reason",
                &of(metric::CONNECT_REFUSALS),
            ),
            stacked(
                "Secrets that cannot be used",
                "Changed files of passwords and certificates, by reason; the old ones stay in use.",
                Unit::PerSecond,
                "reason",
                &of(metric::SECRETS_UNUSABLE),
            ),
        ],
    )
}

fn the_broker() -> Row {
    Row::collapsed(
        "Broker (simctl's own; another broker has metrics of its own)",
        [
            lines(
                "Clients",
                "Clients connected, and sessions, which outlive connections.",
                Unit::Count,
                [
                    ("connected", of(broker::CONNECTIONS).sum()),
                    ("sessions", of(broker::SESSIONS).sum()),
                    ("subscriptions", of(broker::SUBSCRIPTIONS).sum()),
                    ("slow consumers", of(broker::SLOW_CONSUMERS).sum()),
                ],
            ),
            lines(
                "Messages",
                "Published by clients and sent to clients.",
                Unit::MessagesPerSecond,
                [("in", of(broker::MESSAGES_IN).rate()), ("out", of(broker::MESSAGES_OUT).rate())],
            ),
            lines(
                "Bytes",
                "Read from and written to sockets.",
                Unit::BytesPerSecond,
                [("in", of(broker::BYTES_IN).rate()), ("out", of(broker::BYTES_OUT).rate())],
            ),
            lines(
                "Dropped and refused",
                "Messages that a subscriber should have had, and connections, subscriptions and messages refused.",
                Unit::PerSecond,
                [
                    ("dropped", of(broker::DROPPED_MESSAGES).rate_or_zero()),
                    ("refused", of(broker::REFUSED).rate_or_zero()),
                    ("users that cannot be used", of(broker::USERS_UNUSABLE).rate_or_zero()),
                    ("replaced by a newer connection", of(broker::TAKEOVERS).rate()),
                    ("wills", of(broker::WILLS).rate()),
                ],
            ),
            lines(
                "Queues",
                "Bytes in the queues of all sessions.",
                Unit::Bytes,
                [("queued", of(broker::QUEUED_BYTES).sum())],
            ),
            lines(
                "Retained messages",
                "Topics with a retained message.",
                Unit::Count,
                [("retained", of(broker::RETAINED_MESSAGES).sum())],
            ),
        ],
    )
}

fn the_simulator() -> Row {
    let lag = QUANTILES.map(|quantile| (quantile, of(series::SCHEDULE_LAG.metric).quantile(quantile)));
    let per_thousand = |query: &str| format!("1000 * {}", ratio(query, &devices("connected").sum()));
    Row::collapsed(
        "Simulator itself: is it the bottleneck?",
        [
            lines("Late", "How late the generator itself was.", Unit::Seconds, lag).bad_above(0.01, 0.1),
            lines(
                "Trouble",
                "Messages that the generator sent more than 100 ms late, and sockets that took less than they were \
                 given.",
                Unit::PerSecond,
                [("late ticks", of(metric::MISSED_TICKS).rate()), ("full buffers", of(metric::BUFFER_FULL).rate())],
            ),
            lines("CPU", "Cores in use.", Unit::Count, [("{{mode}}", of(metric::CPU_SECONDS).rate_by("mode"))]),
            lines(
                "CPU of 1,000 devices",
                "Cores for each 1,000 connected devices.",
                Unit::Count,
                [("cores", per_thousand(&of(metric::CPU_SECONDS).rate()))],
            ),
            lines("Memory", "Resident memory.", Unit::Bytes, [("resident", of(metric::MEMORY_BYTES).sum())]),
            lines(
                "Memory of 1,000 devices",
                "Resident memory for each 1,000 connected devices.",
                Unit::Bytes,
                [("resident", per_thousand(&of(metric::MEMORY_BYTES).sum()))],
            ),
            lines(
                "Workers",
                "Worker processes that are scraped, and observers: with fewer subscribed than wanted, messages are \
                 not followed.",
                Unit::Count,
                [
                    ("workers", of(metric::WORKERS).sum()),
                    ("observers {{state}}", of(metric::OBSERVERS).sum_by("state")),
                ],
            ),
            lines(
                "Held up by its CPU limit",
                "Scheduling periods of the CPU limit, and those in which it held the generator up: timetables suffer.",
                Unit::PerSecond,
                [("periods", of(metric::CPU_PERIODS).rate()), ("held up", of(metric::CPU_PERIODS_THROTTLED).rate())],
            ),
            lines(
                "Engine threads",
                "Those that answered the last reading, and those that did not.",
                Unit::Count,
                [("{{state}}", of(metric::THREADS).sum_by("state"))],
            ),
            lines("Open files", "A connection is an open file.", Unit::Count, [("open", of(metric::OPEN_FILES).sum())]),
            lines(
                "Foreign messages",
                "Messages that the observer saw and that are not of this run: somebody else publishes there.",
                Unit::MessagesPerSecond,
                [("foreign", of(metric::FOREIGN_MESSAGES).rate()), ("changed", of(metric::CHANGED_MESSAGES).rate())],
            ),
        ],
    )
}
