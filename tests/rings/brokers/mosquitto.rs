//! Mosquitto does all of it, and transports that the others are not asked for.

mod assumptions;
mod births;
mod bodies;
mod latency;
mod leftovers;
mod rejections;
mod rotation;
mod sizes;
mod traces;
mod transports;

behaviours! { Mosquitto:
    commands {
        a_retained_command_reaches_a_device_that_comes_later,
        a_command_of_qos_2_counts_once,
        the_devices_of_a_share_get_each_message_once_among_them,
        a_kept_session_brings_what_was_missed,
    }
    credentials {
        the_right_password_is_accepted, a_wrong_password_is_told_with_the_remedy,
        an_observer_that_is_not_known_is_told_before_the_run
    }
    delivery { at_qos_0, at_qos_1, at_qos_2, of_a_body_of_one_mebibyte }
    mqtt5 {
        at_qos_0,
        at_qos_1,
        at_qos_2,
        a_subscriber_sees_the_properties_and_an_untouched_body,
        a_broker_that_was_stopped_and_started_loses_nothing,
    }
    offline_detection {
        each_will_is_timed_and_the_birth_message_takes_it_back,
        a_will_without_a_birth_message_stays,
        a_black_hole_is_noticed_by_the_keep_alive,
    }
    restarts {
        a_broker_that_was_stopped_and_started_loses_nothing,
        after_a_kill_every_message_is_accounted_for,
        what_a_killed_broker_had_acknowledged_and_lost_is_shown,
    }
    retained { a_new_subscriber_gets_the_last_message }
    takeover { a_device_whose_session_was_taken_over_loses_nothing }
    wills { a_worker_that_is_killed_leaves_its_devices_wills, a_device_that_leaves_in_order_has_none }
}
