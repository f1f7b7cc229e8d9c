//! The kinds of KEDA as its release declares them, without its operator: what a cluster with KEDA would take.
//!
//! Its operator stands on the libraries of every cloud there is, and is not built here.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{command, project, unavailable::Unavailable};

/// The release of KEDA's Go module.
const MODULE: &str = "github.com/kedacore/keda/v2@v2.21.0";

/// The definition of the kind `ScaledObject`, in YAML; its module, of 3 MB, is downloaded at the first call.
///
/// # Errors
/// [`Unavailable`] with the reason, for example no Go or no module proxy.
pub fn scaled_objects() -> Result<String, Unavailable> {
    let found = || -> Result<String> {
        // Outside of every module, so that none of ours comes to require it.
        let place = project::cache();
        fs::create_dir_all(&place)?;
        let said = command::text(Command::new("go").args(["mod", "download", "-json", MODULE]).current_dir(place))?;
        let module: Value = serde_json::from_str(&said).with_context(|| format!("go says {said}"))?;
        let dir = module["Dir"].as_str().with_context(|| format!("go says {said}"))?;
        let path = Path::new(dir).join("config/crd/bases/keda.sh_scaledobjects.yaml");
        fs::read_to_string(&path).with_context(|| format!("{} is not readable", path.display()))
    };
    found().map_err(|reason| Unavailable::new("KEDA's definitions", reason))
}
