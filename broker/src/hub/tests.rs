use super::*;

/// A hub whose messages wait until they are routed.
fn hub() -> (Arc<Hub>, Inbox) {
    Hub::new(&Limits::default(), Arc::new(Metrics::new().unwrap()))
}

#[tokio::test]
async fn a_subscription_that_is_replaced_misses_nothing_of_what_is_on_its_way() {
    let (hub, inbox) = hub();
    let reader = hub.join("reader", true, CancellationToken::new()).unwrap();
    hub.subscribe(&reader, "readings/#", QoS::AtLeastOnce).await.unwrap();
    hub.publish("readings/1", b"on its way", QoS::AtLeastOnce, false).await.unwrap();
    hub.subscribe(&reader, "readings/#", QoS::AtLeastOnce).await.unwrap();
    hub.publish("readings/1", b"after", QoS::AtLeastOnce, false).await.unwrap();

    tokio::select! {
        ended = hub.route(Router::start().unwrap(), inbox) => panic!("the router has ended: {ended:?}"),
        routed = hub.routed() => routed.unwrap(),
    }
    let sent = hub.with(&reader, |session| session.fill(&mut bytes::BytesMut::new(), usize::MAX)).unwrap();
    assert_eq!(sent, 2, "the message between both requests and the one after them");
}
