//! The metrics of the project's own broker.

use super::{Kind, Metric};

metrics! {
    CONNECTIONS = "simctl_broker_connections", Gauge, [], "Clients connected now.";
    CONNECTIONS_ACCEPTED = "simctl_broker_connections_total", Counter, [], "Clients accepted.";
    SESSIONS = "simctl_broker_sessions", Gauge, [], "Sessions, of clients connected and away.";
    TAKEOVERS = "simctl_broker_takeovers_total", Counter, [], "Connections replaced by a newer one with the same client id.";
    REFUSED = "simctl_broker_refused_total", Counter, ["reason"], "Connections, subscriptions and messages refused.";
    USERS_UNUSABLE = "simctl_broker_users_unusable_total", Counter, ["reason"], "Changed files of users that could not be used.";
    CLOSED = "simctl_broker_closed_total", Counter, ["reason"], "Accepted connections that ended.";
    WILLS = "simctl_broker_wills_total", Counter, [], "Will messages published.";
    MESSAGES_IN = "simctl_broker_messages_in_total", Counter, [], "Messages published by clients.";
    MESSAGES_OUT = "simctl_broker_messages_out_total", Counter, [], "Messages sent to clients.";
    BYTES_IN = "simctl_broker_bytes_in_total", Counter, [], "Bytes read from sockets.";
    BYTES_OUT = "simctl_broker_bytes_out_total", Counter, [], "Bytes written to sockets.";
    DROPPED_MESSAGES = "simctl_broker_dropped_messages_total", Counter, ["reason"], "Messages that a subscriber should have had and did not get.";
    SLOW_CONSUMERS = "simctl_broker_slow_consumers", Gauge, [], "Sessions that lost messages and have not caught up.";
    SLOW_CONSUMERS_SEEN = "simctl_broker_slow_consumers_total", Counter, [], "How often a session began to lose messages.";
    QUEUED_BYTES = "simctl_broker_queued_bytes", Gauge, [], "Bytes in the queues of all sessions.";
    RETAINED_MESSAGES = "simctl_broker_retained_messages", Gauge, [], "Topics with a retained message.";
    SUBSCRIPTIONS = "simctl_broker_subscriptions", Gauge, [], "Subscriptions of all sessions.";
    FILTERS = "simctl_broker_filters", Gauge, [], "Distinct topic filters since the start.";
}
