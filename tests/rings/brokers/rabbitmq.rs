//! RabbitMQ's MQTT plugin, release 4: MQTT 3.1.1 and 5. What it acknowledged it has on disk, so that a kill loses none.
//!
//! What it does not do, as its manual says (<https://www.rabbitmq.com/docs/mqtt#limitations>): QoS 2, shared
//! subscriptions, retained messages for filters with wildcards, wills that are both delayed and retained, and AUTH.
//! In MQTT 5 its CONNACK has Maximum QoS 1 and Shared Subscription Available 0, a CONNECT with a will of QoS 2 is
//! refused, and a message of QoS 2 would end the connection. In MQTT 3.1.1 it answers one by the PUBACK of QoS 1, and
//! takes a shared subscription for a filter like any other. A filter of QoS 2 is granted QoS 1 in both. What a fleet
//! makes of that is in `limits`, and in the command that comes at QoS 1.

behaviours! { RabbitMq:
    commands {
        a_retained_command_reaches_a_device_that_comes_later,
        a_filter_of_qos_2_brings_commands_of_qos_1_where_the_broker_has_no_more,
        a_kept_session_brings_what_was_missed,
    }
    credentials {
        the_right_password_is_accepted, a_wrong_password_is_told_with_the_remedy,
        an_observer_that_is_not_known_is_told_before_the_run
    }
    delivery { at_qos_0, at_qos_1 }
    limits {
        a_fleet_of_qos_2_leaves_and_says_why,
        a_will_of_qos_2_is_refused_by_name,
        a_share_is_refused_and_the_other_filters_are_granted,
        what_is_answered_as_qos_1_is_never_acknowledged,
    }
    mqtt5 {
        at_qos_0,
        at_qos_1,
        a_subscriber_sees_the_properties_and_an_untouched_body,
        a_broker_that_was_stopped_and_started_loses_nothing,
    }
    restarts {
        a_broker_that_was_stopped_and_started_loses_nothing,
        after_a_kill_every_message_is_accounted_for,
        what_a_killed_broker_had_acknowledged_and_kept_is_delivered,
    }
    retained { a_new_subscriber_gets_the_last_message }
    takeover { a_device_whose_session_was_taken_over_loses_nothing }
    wills { a_worker_that_is_killed_leaves_its_devices_wills, a_device_that_leaves_in_order_has_none }
}
