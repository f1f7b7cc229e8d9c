//! `cargo xtask dashboards`: Grafana's dashboards, made from the tables of metrics.
//!
//! The committed JSON in `dashboards/` is the product, which people import; this is how it is written. A test fails
//! when it is stale, others hold each panel to the rules of `tests.rs`.

mod board;
mod fleet_overview;
mod load_controller;
mod panel;
mod query;
#[cfg(test)]
mod tests;

use std::{fs, path::PathBuf, process::ExitCode};

use ::tests::project;
use anyhow::{Context, Result};

use board::Board;

/// Writes the dashboards.
pub(crate) fn run() -> Result<ExitCode> {
    for (path, text) in files()? {
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Each dashboard's file and what it should hold.
fn files() -> Result<Vec<(PathBuf, String)>> {
    let boards: [(&str, Board); 2] =
        [("fleet-overview.json", fleet_overview::board()), ("controller.json", load_controller::board())];
    boards
        .into_iter()
        .map(|(name, board)| {
            let text = serde_json::to_string_pretty(&board.render())? + "\n";
            Ok((project::root().join("dashboards").join(name), text))
        })
        .collect()
}
