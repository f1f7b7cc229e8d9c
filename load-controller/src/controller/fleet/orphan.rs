//! Load tests whose fleet is not there: they are told so, because no fleet's task does.

use std::{sync::Arc, time::Duration};

use kube::{Resource as _, runtime::reflector::ObjectRef};

use super::Context;
use crate::{
    api::client::wall_clock,
    controller::{
        Error,
        events::Events,
        load_test::{self, Stage},
        note::Note,
        observe::Stores,
        run::listed,
        status::timestamp,
    },
    resource::{Fleet, LoadTest, Owner},
};

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How long a fleet may take to appear: who applies several objects may write the test first.
const PATIENCE_SECONDS: i64 = 60;

/// Ends load tests whose fleet does not appear, or has gone, for as long as the controller leads.
pub(in crate::controller) async fn tell_of_missing_fleets(context: Context, stores: Arc<Stores>) {
    let mut events = Events::new(Arc::clone(&context.identity));
    if listed(&stores.load_tests).await.is_err() || listed(&stores.fleets).await.is_err() {
        return;
    }
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        for test in stores.load_tests.state_filter(|test| !test.is_complete()) {
            let Some((stage, owner)) = stage(&stores, &test).zip(Owner::of_test(&test)) else { continue };
            if let Err(error) = tell(&context, &mut events, &owner, &test, &stage).await {
                tracing::warn!(test = owner.name, %error, "a load test without a fleet could not be told so");
            }
        }
    }
}

/// How far a test is that has no fleet; `None` for one that has.
fn stage(stores: &Stores, test: &LoadTest) -> Option<Stage<'static>> {
    let (name, namespace) = (test.fleet().unwrap_or_default(), test.metadata.namespace.as_deref()?);
    if stores.fleets.get(&ObjectRef::<Fleet>::new(name).within(namespace)).is_some() {
        return None;
    }
    let why = format!("there is no fleet {name} in namespace {namespace}");
    let created = test.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    let now = timestamp(wall_clock()).as_second();
    if test.started().is_none()
        && let Err(stage) = load_test::stands_alone(test)
    {
        return Some(stage);
    }
    Some(match () {
        () if test.started().is_some() => Stage::Aborted(format!("{why} any more")),
        () if now - created > PATIENCE_SECONDS => Stage::CannotStart(why),
        () => Stage::Waiting(why),
    })
}

async fn tell(
    context: &Context,
    events: &mut Events,
    owner: &Owner,
    test: &LoadTest,
    stage: &Stage<'_>,
) -> Result<(), Error> {
    let words = stage.words();
    let Some(status) = load_test::unfollowed(test, &words, stage.is_over(), wall_clock()) else { return Ok(()) };
    context.writer.load_test_status(owner, &status).await?;
    if stage.is_over() {
        let note = Note::load_test(true, words[0].reason, &words[0].message);
        events.tell(&context.writer, &test.object_ref(&()), &note).await;
    }
    Ok(())
}
