//! A fleet, compiled: what every shard needs to know of every device, shared and immutable.

use std::{num::NonZeroU32, str::FromStr, sync::Arc};

use fleet_contract::{
    document::Problem,
    fleet::{self, Birth, Connect, Credentials, Fleet, Observe, Offline, RetainHandling, SessionKind},
    model::Files,
    plan::Strike,
    share::{Membership, ShareError},
    template::{Bound, Names, Template, TemplateError},
    time::Micros,
    units::{Share, Span},
    worker::Assignment,
};

use crate::{
    agent::{Agent, Telemetry},
    credentials::{self, PasswordError},
    fault::{Aimed, Region},
    identity::{Certificate, Client, Method, Password, Proof},
    index::{DeviceIndex, GroupIndex, SeriesAt, StreamIndex},
    model::{self, Context, Model},
    random::Source,
    reload::Reload,
    session::{
        self,
        codec::{
            self,
            v5::{Retained, SubscribeOptions},
        },
    },
};

/// How many topics a device of MQTT 5 sends as aliases, unless the document says otherwise.
const TOPIC_ALIASES: u16 = 16;

/// Why a fleet cannot be compiled. A document that was checked fails only for its credentials.
#[derive(Debug, thiserror::Error)]
pub enum BlueprintError {
    /// The shares of the groups do not fit.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// A template is none.
    #[error("expected a template in `{field}`: {source}")]
    Template {
        /// The field of the document.
        field: &'static str,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// A group names a model that the assignment does not hold.
    #[error("group `{group}` names the model `{model}`, which the assignment does not hold")]
    Model {
        /// The group.
        group: String,
        /// The model.
        model: String,
    },
    /// A model is wrong.
    #[error("the model of group `{group}` is wrong: {}", .problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect::<Vec<_>>().join("; "))]
    Problems {
        /// The group.
        group: String,
        /// All that is wrong with its model.
        problems: Vec<Problem>,
    },
    /// The password cannot be had.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

/// A fleet, compiled.
#[derive(Debug)]
pub(crate) struct Blueprint {
    pub(crate) name: String,
    seed: u64,
    pub(crate) draws: Draws,
    pub(crate) groups: Vec<Group>,
    membership: Membership,
    pub(crate) connect: Connect,
    pub(crate) session: session::Options,
    pub(crate) observe: Observe,
    /// The first device of the worker.
    first: DeviceIndex,
    sample: Share,
    pub(crate) offline: Offline,
    pub(crate) loss_after: Span,
    pub(crate) start: Micros,
    /// How devices prove who they are.
    devices: Arc<dyn Method>,
    /// How observers do.
    observers: Arc<dyn Method>,
}

/// What is drawn for each device; of one seed each kind has a source of its own.
#[derive(Debug)]
pub(crate) struct Draws {
    /// Which devices are observed.
    sampling: Source,
    /// How long a connect is put off.
    pub(crate) jitter: Source,
    /// The waits before a reconnect.
    pub(crate) waits: Source,
    /// Where packet identifiers begin.
    pub(crate) packet_ids: Source,
}

/// A share of the fleet with its model and its names.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) model_name: String,
    pub(crate) model: Model,
    /// The place of its first stream among the streams of all groups.
    first_stream: SeriesAt,
    pub(crate) client_id: Bound,
    pub(crate) will: Option<Will>,
    pub(crate) subscriptions: Box<[Subscription]>,
}

impl Group {
    /// One past the place of its last stream among the streams of all groups.
    fn next_stream(&self) -> SeriesAt {
        SeriesAt::new(self.first_stream.place() + self.model.streams().len())
    }

    /// The place of one of its streams among the streams of all groups.
    pub(crate) const fn place_of(&self, stream: StreamIndex) -> SeriesAt {
        self.first_stream.plus(stream)
    }

    /// Its will, if the observer follows it.
    pub(crate) fn followed_will(&self) -> Option<&Will> {
        self.will.as_ref().filter(|will| will.is_followed)
    }

    /// The topics of the messages that the broker is to keep, those of births and wills included.
    pub(crate) fn retained(&self) -> impl Iterator<Item = &Bound> {
        let streams = self.model.streams().iter().filter(|stream| stream.is_retained()).map(model::Stream::topic);
        streams.chain(self.will.iter().filter(|will| will.retain).map(|will| &will.topic))
    }
}

/// What each device of a group subscribes to, with all but the device filled in.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) filter: Bound,
    /// Of these, MQTT 3.1.1 has the QoS alone.
    pub(crate) options: SubscribeOptions,
}

/// A will, with all but the device filled in.
#[expect(clippy::struct_excessive_bools, reason = "each is looked at alone")]
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) topic: Bound,
    pub(crate) payload: Bound,
    pub(crate) qos: codec::Qos,
    pub(crate) retain: bool,
    /// Whether the observer can tell whose it is, and tell it from the birth message.
    pub(crate) is_followed: bool,
    /// Whether what the broker retains of it can be looked at: each device has a topic of its own.
    pub(crate) is_looked_at: bool,
    /// Whether the birth message replaces it there.
    pub(crate) is_taken_back: bool,
}

impl Will {
    /// The device whose will this is.
    fn device(&self, topic: &[u8], payload: &[u8]) -> Option<DeviceIndex> {
        let number = self.topic.invert(topic).or_else(|| self.payload.invert(payload))?;
        let is_it = || self.topic.text(number).as_bytes() == topic && self.payload.text(number).as_bytes() == payload;
        (self.is_followed && is_it()).then(|| DeviceIndex::new(number))
    }
}

/// As whom a client connects.
#[derive(Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) client_id: String,
    pub(crate) proof: Proof,
    /// With its topic and its payload.
    will: Option<(&'a Will, String, Vec<u8>)>,
}

impl Identity<'_> {
    /// The same with another payload of its will, if it has one.
    pub(crate) fn with_will(mut self, payload: &[u8]) -> Self {
        if let Some((_, _, words)) = &mut self.will {
            *words = payload.to_vec();
        }
        self
    }

    /// What its CONNECT says.
    pub(crate) fn connect(&self) -> codec::Connect<'_> {
        codec::Connect {
            client_id: &self.client_id,
            user: self.proof.user.as_deref(),
            password: self.proof.password.as_deref(),
            will: self.will.as_ref().map(|(will, topic, payload)| codec::Will {
                topic,
                payload,
                qos: will.qos,
                retain: will.retain,
            }),
        }
    }
}

impl Blueprint {
    /// Compiles the fleet of an assignment, whose devices say what their models do.
    pub(crate) fn compile(assignment: &Assignment) -> Result<Self, BlueprintError> {
        Self::compile_with(assignment, &Telemetry)
    }

    /// Compiles the fleet of an assignment with the streams of an agent.
    pub(crate) fn compile_with(assignment: &Assignment, agent: &impl Agent) -> Result<Self, BlueprintError> {
        let Assignment { fleet, plan, files, .. } = assignment;
        let spec = &fleet.spec;
        let shares: Vec<_> = spec.groups.iter().map(|group| group.share).collect();
        let client_id = template("clientId", &spec.client_id)?;
        let credentials = spec.broker.as_ref().and_then(|broker| broker.credentials.as_ref());
        let devices = method(fleet, credentials, &client_id)?;
        let observers = match &spec.observer.credentials {
            Some(credentials) => method(fleet, Some(credentials), &client_id)?,
            None => Arc::clone(&devices),
        };
        let mut groups = Vec::with_capacity(spec.groups.len());
        for index in 0..spec.groups.len() {
            let first_stream = groups.last().map_or(SeriesAt::new(0), Group::next_stream);
            groups.push(group(fleet, index, first_stream, &client_id, files, agent)?);
        }
        Ok(Self {
            name: fleet.metadata.name.clone(),
            seed: spec.seed,
            draws: Draws {
                sampling: Source::new(spec.seed, "observe"),
                jitter: Source::new(spec.seed, "connect"),
                waits: Source::new(spec.seed, "backoff"),
                packet_ids: Source::new(spec.seed, "packet ids"),
            },
            groups,
            membership: Membership::new(&shares)?,
            session: session::Options {
                keep_alive: spec.connect.keep_alive,
                clean: spec.connect.session == SessionKind::Clean,
                window: spec.connect.in_flight,
                connect_timeout: spec.connect.timeout,
                protocol: spec.protocol(),
                properties: connect_properties(&spec.connect),
                topic_aliases: spec.connect.topic_aliases.unwrap_or(TOPIC_ALIASES),
            },
            connect: spec.connect.clone(),
            observe: spec.observe,
            first: DeviceIndex::new(assignment.shard.first),
            sample: spec.observer.sample,
            offline: spec.offline,
            loss_after: spec.loss_after,
            start: plan.start,
            devices,
            observers,
        })
    }

    /// What a change of their files replaces, of all that clients prove with.
    pub(crate) fn reloads(&self) -> impl Iterator<Item = Reload> {
        // The observer may sign in as the devices do.
        let observers = (!Arc::ptr_eq(&self.devices, &self.observers)).then_some(&self.observers);
        std::iter::once(&self.devices).chain(observers).filter_map(|method| method.reload())
    }

    /// As whom device `index` connects.
    pub(crate) fn device(&self, index: DeviceIndex) -> Identity<'_> {
        self.device_with(index, |client| self.devices.sign(client))
    }

    /// As whom it connects so that the broker turns it away.
    pub(crate) fn impostor(&self, index: DeviceIndex) -> Identity<'_> {
        self.device_with(index, |client| self.devices.forge(client))
    }

    fn device_with(&self, index: DeviceIndex, prove: impl FnOnce(&Client<'_>) -> Proof) -> Identity<'_> {
        let (place, number) = (self.group_index(index), index.number());
        let group = self.group(place);
        let client_id = group.client_id.text(number);
        let proof = prove(&Client { client_id: &client_id, device: Some((place, index)) });
        let will =
            group.will.as_ref().map(|will| (will, will.topic.text(number), will.payload.text(number).into_bytes()));
        Identity { client_id, proof, will }
    }

    /// As whom an observer connects.
    pub(crate) fn observer(&self, client_id: String) -> Identity<'_> {
        let proof = self.observers.sign(&Client { client_id: &client_id, device: None });
        Identity { client_id, proof, will: None }
    }

    /// Whether any will is followed.
    pub(crate) fn follows_wills(&self) -> bool {
        self.groups.iter().any(|group| group.followed_will().is_some())
    }

    /// The device whose will a message is, if it is one.
    pub(crate) fn will_of(&self, topic: &[u8], payload: &[u8]) -> Option<DeviceIndex> {
        self.indexed_groups().find_map(|(index, group)| {
            let device = group.will.as_ref()?.device(topic, payload)?;
            (self.group_index(device) == index).then_some(device)
        })
    }

    /// How long the broker holds a will back: as MQTT 5 has it, until the delay is over or the session ends (section 3.1.3.2.2), and a
    /// clean session ends with its connection.
    pub(crate) fn will_delay(&self) -> Span {
        let properties = &self.session.properties;
        let delay = if self.session.clean { 0 } else { properties.will_delay.min(properties.session_expiry) };
        Span::from_secs(delay.into())
    }

    /// A group.
    pub(crate) fn group(&self, group: GroupIndex) -> &Group {
        &self.groups[group.place()]
    }

    /// The groups, each with its index.
    pub(crate) fn indexed_groups(&self) -> impl Iterator<Item = (GroupIndex, &Group)> {
        self.groups.iter().enumerate().map(|(place, group)| (GroupIndex::new(place), group))
    }

    /// The group of device `index`.
    pub(crate) fn group_of(&self, index: DeviceIndex) -> &Group {
        self.group(self.group_index(index))
    }

    /// Which group device `index` is of.
    pub(crate) fn group_index(&self, index: DeviceIndex) -> GroupIndex {
        GroupIndex::new(self.membership.group_of(index.number()))
    }

    /// A fault with whom it hits, the same in whatever worker a device is.
    pub(crate) fn aim(&self, strike: Strike) -> Aimed {
        let models = self.groups.iter().map(|group| &group.model);
        let region = strike.fault.aim().condition.map(|text| Region::new(text, models, self.start, strike.at));
        Aimed::new(strike, self.seed, self.groups.iter().map(|group| group.name.as_str()), region)
    }

    /// Whether the messages of device `index` are followed: by hash of the device, never of the message; of the first device
    /// of a worker always.
    pub(crate) fn is_observed(&self, index: DeviceIndex) -> bool {
        match self.observe {
            Observe::All => true,
            Observe::None => false,
            // One of each worker, so that it learns of a newer one in its place.
            Observe::Sample => index == self.first || is_drawn(self.draws.sampling, index, self.sample),
        }
    }
}

/// Whether device `index` is one of a share of the fleet.
fn is_drawn(source: Source, index: DeviceIndex, share: Share) -> bool {
    source.of(index).at(0).below(10_000) < u64::from(share.basis_points())
}

/// What the devices of MQTT 5 say of themselves; no authentication but user name and password is offered yet.
fn connect_properties(connect: &Connect) -> codec::v5::ConnectProperties {
    let seconds = |span: Option<Span>| span.map(|span| u32::try_from(span.0 / 1_000_000).unwrap_or(u32::MAX));
    codec::v5::ConnectProperties {
        session_expiry: seconds(connect.session_expiry).unwrap_or(u32::MAX),
        receive_maximum: None,
        maximum_packet_size: connect.max_packet.and_then(|_| NonZeroU32::new(connect.packet_max())),
        user: connect.user_properties.clone().into_iter().collect(),
        authentication: None,
        will_delay: seconds(connect.will.as_ref().and_then(|will| will.delay)).unwrap_or(0),
    }
}

fn group(
    fleet: &Fleet,
    index: usize,
    first_stream: SeriesAt,
    client_id: &Template,
    files: &Files,
    agent: &impl Agent,
) -> Result<Group, BlueprintError> {
    let (spec, group) = (&fleet.spec, &fleet.spec.groups[index]);
    let unknown = || BlueprintError::Model { group: group.name.clone(), model: group.model.clone() };
    let document = spec.models.get(&group.model).ok_or_else(unknown)?;
    let context = Context {
        fleet: &fleet.metadata.name,
        group: &group.name,
        seed: spec.seed,
        first_index: spec.first_index,
        client_id,
        files,
    };
    let wrong = |problems| BlueprintError::Problems { group: group.name.clone(), problems };
    let mut model = Model::compile(document, &group.streams, &context).map_err(wrong)?;
    for (name, stream) in agent.streams(group) {
        model.add_event(&name, &stream, &context).map_err(wrong)?;
    }
    if let Some(birth) = &spec.connect.birth {
        model.add_birth(birth, &context).map_err(wrong)?;
    }
    let names = names(fleet, group);
    let mut will = match &spec.connect.will {
        None => None,
        Some(will) => Some(compile_will(will, spec.connect.birth.as_ref(), &model, &names, client_id)?),
    };
    if let Some(will) = will.as_mut().filter(|_| agent.words_will(group)) {
        (will.is_followed, will.is_looked_at) = (false, false);
    }
    let subscriptions = group.subscriptions.iter().map(|wanted| subscription(wanted, &names, client_id));
    Ok(Group {
        name: group.name.clone(),
        model_name: group.model.clone(),
        model,
        first_stream,
        client_id: client_id.bind(&names, client_id),
        will,
        subscriptions: subscriptions.collect::<Result<_, _>>()?,
    })
}

fn compile_will(
    will: &fleet::Will,
    birth: Option<&Birth>,
    model: &Model,
    names: &Names<'_>,
    client_id: &Template,
) -> Result<Will, BlueprintError> {
    let topic = template("connect.will.topic", &will.topic)?.bind(names, client_id);
    let payload = template("connect.will.payload", &will.payload)?.bind(names, client_id);
    let names_device = topic.identifies_device() || payload.identifies_device();
    // It is the last of the streams.
    let birth = birth.filter(|_| model.streams().last().is_some_and(|stream| *stream.topic() == topic));
    let is_followed = names_device && birth.is_none_or(|birth| birth.payload != will.payload);
    Ok(Will {
        is_followed,
        is_looked_at: is_followed && will.retain && topic.identifies_device(),
        is_taken_back: birth.is_some_and(|birth| birth.retain),
        topic,
        payload,
        qos: will.qos,
        retain: will.retain,
    })
}

fn subscription(
    subscription: &fleet::Subscription,
    names: &Names<'_>,
    client_id: &Template,
) -> Result<Subscription, BlueprintError> {
    let retained = match subscription.retain_handling {
        RetainHandling::Send => Retained::Always,
        RetainHandling::SendIfNew => Retained::IfNew,
        RetainHandling::DoNotSend => Retained::Never,
    };
    Ok(Subscription {
        filter: template("groups.subscriptions", &subscription.filter())?.bind(names, client_id),
        options: SubscribeOptions {
            qos: subscription.qos,
            is_no_local: subscription.no_local,
            retains_as_published: subscription.retain_as_published,
            retained,
        },
    })
}

fn template(field: &'static str, text: &str) -> Result<Template, BlueprintError> {
    Template::from_str(text).map_err(|source| BlueprintError::Template { field, source })
}

/// What is the same for all devices of a group.
fn names<'a>(fleet: &'a Fleet, group: &'a fleet::Group) -> Names<'a> {
    let spec = &fleet.spec;
    Names { fleet: &fleet.metadata.name, group: &group.name, stream: "", seed: spec.seed, first: spec.first_index }
}

/// How the clients that these credentials are for prove who they are.
fn method(
    fleet: &Fleet,
    credentials: Option<&Credentials>,
    client_id: &Template,
) -> Result<Arc<dyn Method>, BlueprintError> {
    let Some(credentials) = credentials else { return Ok(Arc::new(Certificate)) };
    let user = template("credentials.username", &credentials.username)?;
    let users = fleet.spec.groups.iter().map(|group| user.bind(&names(fleet, group), client_id)).collect();
    Ok(Arc::new(Password::new(user, users, credentials::Password::of(credentials)?)))
}
