//! What becomes of a run's measurements: the verdict, the report and its formats.
//!
//! Everything here but [`report::files`] is pure: statistics and facts go in, values and text come out.
//!
//! ```text
//! stats ─► timeline ─┐
//! stats ─► verdict ──┼─► report ─► json, yaml, text, html, files
//! facts ─────────────┘
//! ```

pub mod conservation;
pub mod report;
pub mod timeline;
pub mod verdict;

#[cfg(test)]
mod fixture;
