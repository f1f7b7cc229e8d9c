//! What a program file is: for which architecture, and whether it needs anything beside it. Pure.

/// An architecture that images are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Architecture {
    /// `x86_64`
    Amd64,
    /// `aarch64`
    Arm64,
}

impl Architecture {
    /// As container images call it.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

const MACHINE_X86_64: u64 = 62;
const MACHINE_AARCH64: u64 = 183;
/// The segment that names the dynamic linker (`PT_INTERP`).
const SEGMENT_INTERPRETER: u64 = 3;

/// The architecture of a static program for Linux; `Err` says what was found instead.
///
/// The layout is that of ELF-64, little-endian (System V ABI, "Object Files").
pub(crate) fn architecture_of(program: &[u8]) -> Result<Architecture, String> {
    let wrong = |found: &str| format!("expected a static program for Linux, found {found}");
    if program.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(wrong("a file that is no 64-bit little-endian ELF"));
    }
    let cut = || wrong("one that is cut off");
    let architecture = match number(program, 18, 2).ok_or_else(cut)? {
        MACHINE_X86_64 => Architecture::Amd64,
        MACHINE_AARCH64 => Architecture::Arm64,
        other => return Err(wrong(&format!("one for another machine (number {other})"))),
    };
    let (table, size, count) = (
        number(program, 32, 8).ok_or_else(cut)?,
        number(program, 54, 2).ok_or_else(cut)?,
        number(program, 56, 2).ok_or_else(cut)?,
    );
    for segment in 0..count {
        let at = segment.checked_mul(size).and_then(|offset| offset.checked_add(table)).ok_or_else(cut)?;
        if number(program, usize::try_from(at).map_err(|_| cut())?, 4).ok_or_else(cut)? == SEGMENT_INTERPRETER {
            return Err(wrong(
                "one that needs a dynamic linker; `cargo build --target x86_64-unknown-linux-musl` makes a static one, \
                 as RUSTFLAGS='-C target-feature=+crt-static' does",
            ));
        }
    }
    Ok(architecture)
}

/// The little-endian number of `size` bytes at `at`.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The smallest program that has these segments.
    pub(crate) fn program(machine: u8, segments: &[u8]) -> Vec<u8> {
        let mut program = vec![0; 64];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (program[18], program[32], program[54], program[56]) = (machine, 64, 56, u8::try_from(segments.len()).unwrap());
        for segment in segments {
            program.push(*segment);
            program.extend([0; 55]);
        }
        program
    }

    #[test]
    fn a_static_program_tells_its_architecture() {
        assert_eq!(architecture_of(&program(62, &[1, 2])), Ok(Architecture::Amd64));
        assert_eq!(architecture_of(&program(183, &[1])), Ok(Architecture::Arm64));
        assert_eq!(Architecture::Arm64.name(), "arm64");
    }

    #[test]
    fn what_cannot_run_alone_is_refused() {
        for (program, expected) in [
            (program(62, &[1, 3]), "a dynamic linker"),
            (program(40, &[]), "another machine (number 40)"),
            (b"#!/bin/sh".to_vec(), "no 64-bit little-endian ELF"),
            (program(62, &[1])[..64].to_vec(), "one that is cut off"),
        ] {
            let error = architecture_of(&program).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
