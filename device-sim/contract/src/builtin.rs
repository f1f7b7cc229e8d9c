//! The models that come with it, in the same language as everybody's own.

/// A built-in model: its name and its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// What a fleet's group calls it.
    pub name: &'static str,
    /// YAML, a [`crate::model::Model`].
    pub document: &'static str,
}

/// All of them, by name.
pub const ALL: [Builtin; 5] = [
    Builtin { name: "e-bike", document: include_str!("../../models/e-bike.yaml") },
    Builtin { name: "robotaxi", document: include_str!("../../models/robotaxi.yaml") },
    Builtin { name: "smart-meter", document: include_str!("../../models/smart-meter.yaml") },
    Builtin { name: "street-light", document: include_str!("../../models/street-light.yaml") },
    Builtin { name: "thermometer", document: include_str!("../../models/thermometer.yaml") },
];

/// The model of that name.
pub fn find(name: &str) -> Option<Builtin> {
    ALL.into_iter().find(|builtin| builtin.name == name)
}
