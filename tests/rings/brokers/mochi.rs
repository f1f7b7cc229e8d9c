//! mochi-mqtt 2.7.9 keeps sessions on disk, so that a kill costs it no session and no acknowledged loss is to be shown.
//!
//! What it does not do: it loses messages that it acknowledged around an orderly stop, and it gives the PUBACK of a
//! message with user properties the reason code 0x01, which MQTT 5 does not have there, so that such a session ends at
//! the first one and says so. After a kill it sends some devices the packet identifier 0, which ends their sessions
//! once more.

behaviours! { Mochi:
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
        at_qos_0, at_qos_2,
        an_acknowledgement_against_the_standard_ends_the_session_by_name,
        a_device_whose_session_was_taken_over_waits_ten_seconds,
    }
    offline_detection { each_will_is_timed_and_the_birth_message_takes_it_back, a_will_without_a_birth_message_stays }
    restarts { after_a_kill_every_message_is_accounted_for }
    retained { a_new_subscriber_gets_the_last_message }
    takeover { a_device_whose_session_was_taken_over_loses_nothing }
    wills { a_worker_that_is_killed_leaves_its_devices_wills, a_device_that_leaves_in_order_has_none }
}
