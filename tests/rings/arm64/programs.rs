//! Each program starts, is for arm64, and is of the same version as that of this machine.

use std::{fs, process::Command};

use images::{Architecture, PROGRAMS};
use tests::{arm64, command, project};

use super::{EMULATOR, emulated, succeeds};

#[test]
fn every_program_prints_its_version() {
    for program in PROGRAMS.map(|program| program.name) {
        let (ours, theirs) = (project::binary(program).unwrap(), arm64::binary(program).unwrap());
        assert_eq!(Architecture::of(&fs::read(&theirs).unwrap()), Ok(Architecture::Arm64), "{program}");
        let here = command::text(Command::new(ours).arg("--version")).unwrap();
        let there = command::text(&mut EMULATOR.run(Command::new(theirs).arg("--version"))).unwrap();
        assert!(there.contains(env!("CARGO_PKG_VERSION")), "{program} says {there}");
        assert_eq!(here, there);
    }
    let version = succeeds(&emulated(), &["version", "-o", "json"]).json().unwrap();
    assert_eq!((&version["os"], &version["architecture"]), (&"linux".into(), &"aarch64".into()));
}

#[test]
fn the_controller_knows_the_committed_kinds() {
    let controller = arm64::binary("load-controller").unwrap();
    for kind in ["fleets", "loadtests", "fleetqueries"] {
        let made = command::text(&mut EMULATOR.run(Command::new(&controller).args(["crd", kind]))).unwrap();
        let committed = fs::read_to_string(project::root().join(format!("manifests/crd/{kind}.yaml"))).unwrap();
        assert!(made == committed, "{kind} differ on arm64: {made}");
    }
}
