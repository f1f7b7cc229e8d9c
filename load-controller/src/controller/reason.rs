//! Why: the one word that conditions, events and metrics carry for a machine to read.

/// The reason of a condition or of an event, in the `CamelCase` that Kubernetes asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr, strum::Display)]
pub enum Reason {
    // The condition Ready.
    /// The document is wrong.
    InvalidDocument,
    /// No devices are asked for.
    NoDevices,
    /// Enough of the devices are connected.
    DevicesConnected,
    /// Pods are missing or not ready.
    PodsNotReady,
    /// Workers do not run the newest plan yet.
    PlanNotLoaded,
    /// Devices are connecting.
    Connecting,

    // The condition Reconciling.
    /// Pods are replaced by others of another template.
    RollingOut,
    /// Another fleet takes a new release over first.
    RolloutQueued,
    /// A load test goes on, and edits wait until it is over.
    LoadTestGoesOn,
    /// Pods are created or removed.
    Scaling,
    /// Pods end in order.
    Draining,
    /// Nothing is under way.
    Settled,

    // The condition Stalled: writes that the API server refuses, and what cannot be read.
    /// The plan, the totals, a reading, or what is kept of a load test were written by a newer release, or are broken.
    Unreadable,
    /// Nothing is refused.
    NothingRefused,
    /// More is asked for than the administrator allows.
    LimitExceeded,
    /// An object of that name exists and is not the fleet's.
    NameTaken,
    /// A `ResourceQuota` is used up.
    QuotaExceeded,
    /// A `LimitRange` allows less.
    LimitRangeExceeded,
    /// Pod Security forbids a field of the pods.
    PodSecurityViolated,
    /// An admission webhook or policy says no.
    AdmissionDenied,
    /// The writer lacks the right.
    Forbidden,
    /// The API server finds the object invalid; of a load test: its figures cannot be trusted.
    Invalid,

    // The condition Degraded.
    /// The pod of the fleet's own broker does not run.
    BrokerNotReady,
    /// The broker's name does not resolve.
    BrokerNotResolved,
    /// The broker does not take connections.
    BrokerUnreachable,
    /// A node does not answer.
    NodeLost,
    /// Pods are on nodes that do not answer, and their workers do.
    NodeUnreachable,
    /// A Secret or ConfigMap that a pod mounts is missing.
    SecretMissing,
    /// No node can get the image.
    ImageUnavailable,
    /// A pod ends again and again.
    PodCrashing,
    /// A pod does not become ready, for another reason.
    PodsMissing,
    /// No worker answers the controller.
    NoWorkerAnswers,
    /// Some workers do not answer the controller.
    WorkersSilent,
    /// Others connect with the client ids of devices.
    SessionsTakenOver,
    /// The broker refuses devices.
    DevicesRefused,
    /// Devices are not connected.
    DevicesMissing,
    /// Nothing is missing.
    AsExpected,

    // The condition Saturated.
    /// No node has room for a pod.
    Unschedulable,
    /// The plan asks a pod for more messages than it was sized for.
    RateBeyondSize,
    /// The fleet's own broker has no room for so many devices.
    BrokerTooSmall,
    /// There is room.
    RoomEnough,

    // The condition BrokerOpen.
    /// Workers of an earlier release know no credentials of the fleet's own broker.
    OldWorkers,
    /// The fleet's own broker, if there is one, wants credentials.
    CredentialsNeeded,

    // The conditions Complete and Passed of a load test. Invalid is among those of Stalled.
    /// Something else goes on that it waits for.
    Waiting,
    /// Somebody holds it back.
    Suspended,
    /// Its fleet is brought to where it begins.
    Preparing,
    /// Its phases go on.
    Running,
    /// Its last messages are being judged.
    Settling,
    /// All that was asked for has come of it.
    Passed,
    /// A promise or a threshold is broken.
    Failed,
    /// It ended before its time.
    Aborted,
    /// It is not as it should be, or its fleet is not as it needs it.
    CannotStart,

    // Events alone.
    /// The fleet was created.
    Created,
    /// The number of devices has changed.
    Scaled,
    /// The devices hold their messages back.
    Paused,
    /// The devices send again.
    Resumed,
    /// A new revision replaces the pods.
    RevisionRolled,
    /// A pod of a lost node was deleted by force.
    PodForced,
    /// A worker ended without draining.
    PodLost,
    /// An autoscaler computes with pods instead of devices.
    UnfitAutoscaler,
    /// The fleet has become ready.
    Ready,
}

impl Reason {
    /// The reason as text.
    pub fn text(self) -> &'static str {
        self.into()
    }
}
