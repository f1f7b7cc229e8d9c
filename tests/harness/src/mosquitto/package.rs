//! Mosquitto of the system, or from the distribution's package.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{command::run, debian::Packages, unavailable::Unavailable};

/// Where a system that has Mosquitto keeps it; the second one was installed by hand.
const SYSTEM: [&str; 2] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];

/// A Mosquitto that can be started.
#[derive(Clone, Debug)]
pub struct Installation {
    binary: PathBuf,
    /// `None` for a system's own Mosquitto.
    packages: Option<Packages>,
}

impl Installation {
    /// The system's Mosquitto where there is one, otherwise the project's, unpacked at the first call.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example no network or no Debian.
    pub fn find_or_unpack() -> Result<Installation, Unavailable> {
        if let Some(binary) = SYSTEM.iter().map(PathBuf::from).find(|path| path.is_file()) {
            return Ok(Installation { binary, packages: None });
        }
        unpacked().map_err(|reason| Unavailable::new("Mosquitto", reason))
    }

    /// The broker, yet without arguments.
    pub fn command(&self) -> Command {
        self.tool(&self.binary)
    }

    /// A password file with one user.
    pub fn write_password_file(&self, path: &Path, user: &str, password: &str) -> Result<()> {
        let passwd = self.binary.with_file_name("mosquitto_passwd");
        let in_bin = self.binary.with_file_name("../bin/mosquitto_passwd");
        let tool = if passwd.is_file() { passwd } else { in_bin };
        run(self.tool(&tool).args(["-c", "-b"]).arg(path).args([user, password]))?;
        Ok(())
    }

    fn tool(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        if let Some(packages) = &self.packages {
            packages.show(&mut command);
        }
        command
    }
}

fn unpacked() -> Result<Installation> {
    let packages = Packages::unpack(&["mosquitto"])?;
    let installation = Installation { binary: packages.file("usr/sbin/mosquitto")?, packages: Some(packages) };
    let help = installation.command().arg("-h").output().context("the unpacked Mosquitto does not start")?;
    let says = String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).into_owned();
    ensure!(says.contains("mosquitto version"), "the unpacked Mosquitto does not start: {says}");
    Ok(installation)
}
