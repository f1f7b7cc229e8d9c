//! RabbitMQ's plugin, release 3.10: MQTT 3.1.1 alone, where 5 came with 3.13.
//!
//! What it does not do: a CONNECT of MQTT 5 is answered by the end of the connection, and a message of QoS 2 by the
//! PUBACK of QoS 1, so that the device counts it as unsolicited and the message as never acknowledged. It settles each
//! connection among its nodes, so that a few devices come up each second.
//!
//! Restarts, takeover, wills, retained messages and QoS 1 are not asked of it yet.

behaviours! { RabbitMq:
    credentials { the_right_password_is_accepted, a_wrong_password_is_told_with_the_remedy }
    delivery { at_qos_0 }
}
