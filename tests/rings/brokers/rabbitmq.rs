//! RabbitMQ's plugin, release 3.10: MQTT 3.1.1 alone, where 5 came with 3.13.
//!
//! What it does not do: a CONNECT of MQTT 5 is answered by the end of the connection, and a message of QoS 2 by the
//! PUBACK of QoS 1, so that the device counts it as unsolicited and the message as never acknowledged. It settles each
//! connection among its nodes, so that a few devices come up each second.
//!
//! It is asked for every behaviour of the others but QoS 2, shared subscriptions and MQTT 5.

behaviours! { RabbitMq:
    commands { a_retained_command_reaches_a_device_that_comes_later, a_kept_session_brings_what_was_missed }
    credentials { the_right_password_is_accepted, a_wrong_password_is_told_with_the_remedy }
    delivery { at_qos_0, at_qos_1 }
    restarts { after_a_kill_every_message_is_accounted_for, a_broker_that_was_stopped_and_started_loses_nothing }
    retained { a_new_subscriber_gets_the_last_message }
    takeover { a_device_whose_session_was_taken_over_loses_nothing }
    wills { a_worker_that_is_killed_leaves_its_devices_wills, a_device_that_leaves_in_order_has_none }
}
