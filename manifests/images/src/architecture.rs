//! Which processor a program file is for, and whether it needs anything beside it. Pure.

use std::{fmt, str::FromStr};

/// A processor that images are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Architecture {
    /// `x86_64`
    Amd64,
    /// `aarch64`
    Arm64,
}

const MACHINE_X86_64: u64 = 62;
const MACHINE_AARCH64: u64 = 183;
/// The segment that names the dynamic linker (`PT_INTERP`).
const SEGMENT_INTERPRETER: u64 = 3;

impl Architecture {
    /// As container images call it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// That of a static program for Linux.
    ///
    /// The layout is that of ELF-64, little-endian (System V ABI, "Object Files").
    ///
    /// # Errors
    /// Says what was found instead.
    pub fn of(program: &[u8]) -> Result<Self, String> {
        let wrong = |found: &str| format!("expected a static program for Linux, found {found}");
        if program.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Err(wrong("a file that is no 64-bit little-endian ELF"));
        }
        let cut = || wrong("one that is cut off");
        let architecture = match number(program, 18, 2).ok_or_else(cut)? {
            MACHINE_X86_64 => Self::Amd64,
            MACHINE_AARCH64 => Self::Arm64,
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
                    "one that needs a dynamic linker; `cargo build --target x86_64-unknown-linux-musl` makes a static \
                     one, as RUSTFLAGS='-C target-feature=+crt-static' does",
                ));
            }
        }
        Ok(architecture)
    }
}

/// With the operating system, as engines call a platform: `linux/arm64`.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.name())
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = <Self as strum::VariantArray>::VARIANTS.iter().find(|known| known.to_string() == text);
        found.copied().ok_or_else(|| format!("expected {} or {}, found `{text}`", Self::Amd64, Self::Arm64))
    }
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
        assert_eq!(Architecture::of(&program(62, &[1, 2])), Ok(Architecture::Amd64));
        assert_eq!(Architecture::of(&program(183, &[1])), Ok(Architecture::Arm64));
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
            let error = Architecture::of(&program).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_platform_reads_as_it_is_written() {
        for platform in ["linux/amd64", "linux/arm64"] {
            assert_eq!(platform.parse::<Architecture>().unwrap().to_string(), platform);
        }
        assert_eq!(
            "linux/riscv64".parse::<Architecture>().unwrap_err(),
            "expected linux/amd64 or linux/arm64, found `linux/riscv64`"
        );
    }
}
