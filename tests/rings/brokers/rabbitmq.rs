//! RabbitMQ's plugin speaks MQTT 3.1.1 only (5 came with release 3.13), does not do QoS 2, and brings retained messages
//! for exact topics alone. What it acknowledged it has written, so that a kill loses nothing of it.

behaviours! { RabbitMq:
    credentials { the_right_password_is_accepted, a_wrong_password_is_told_with_the_remedy }
    delivery { at_qos_0, at_qos_1, at_qos_2 }
    mqtt5 { a_broker_without_it_refuses_by_name }
    restarts {
        a_broker_that_was_stopped_and_started_loses_nothing,
        after_a_kill_every_message_is_accounted_for,
    }
    retained { a_new_subscriber_gets_the_last_message }
    takeover { a_device_whose_session_was_taken_over_loses_nothing }
    wills { a_worker_that_is_killed_leaves_its_devices_wills, a_device_that_leaves_in_order_has_none }
}
