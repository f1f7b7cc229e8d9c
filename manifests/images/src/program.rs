//! The programs that have an image.

/// A program, and what its image says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// What program and image are called.
    pub name: &'static str,
    /// One line for people who look into a registry.
    pub description: &'static str,
    /// The TCP ports that it listens on by default.
    pub ports: &'static [u16],
    /// Its arguments where a container gives none.
    pub arguments: &'static [&'static str],
}

/// All of them.
pub const PROGRAMS: [Program; 4] = [
    Program {
        name: "device-sim",
        description: "A worker of simctl: simulated IoT devices, one real MQTT session each",
        ports: &[9464],
        arguments: &[],
    },
    Program {
        name: "broker",
        description: "The MQTT broker of simctl, for some thousand simulated devices",
        ports: &[1883, 9465],
        arguments: &[],
    },
    Program {
        name: "load-controller",
        description: "The controller of simctl: turns Fleets into workloads of a Kubernetes cluster",
        ports: &[8080],
        arguments: &["run"],
    },
    Program {
        name: "simctl",
        description: "The hand of simctl: runs and scales fleets of simulated IoT devices",
        ports: &[],
        arguments: &[],
    },
];

/// The program of that name.
pub fn find(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}
