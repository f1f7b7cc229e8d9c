//! Packages of a release of Debian that need not be the system's, for programs that the system's libraries are too
//! old for.
//!
//! All that they need is unpacked, the C library and its loader as well. A program is started by a script that calls
//! the loader and tells it where the libraries are: nothing of that is in the environment, so that what the program
//! starts of the system's finds the system's libraries.

use std::{
    env::consts::ARCH,
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::Builder;

use super::{apt::Apt, unpacked, versioned};
use crate::project;

/// Packages of one release with everything that they need.
#[derive(Clone, Debug)]
pub struct Release {
    home: PathBuf,
    root: PathBuf,
}

impl Release {
    /// What `names` and the packages that they need hold in the release `codename`, unpacked at the first call.
    ///
    /// # Errors
    /// When they cannot be downloaded, for example no network, no Debian, or lists that Debian has not signed.
    pub fn unpack(codename: &str, names: &[&str]) -> Result<Release> {
        let home = project::cache().join("debian").join(format!("{codename}+{}", names.join("+")));
        let root = unpacked(&home, |packages| {
            let apt = Apt::of_release(codename, &home)?;
            apt.update_all()?;
            apt.download(names, packages)
        })?;
        Ok(Release { home, root })
    }

    /// A file of a package, by its path from the root.
    ///
    /// # Errors
    /// When none has it.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        Some(self.root.join(path))
            .filter(|file| file.exists())
            .with_context(|| format!("{path} is in none of the packages"))
    }

    /// A folder of scripts that start `programs` of the folder `dir`, each by its name.
    ///
    /// # Errors
    /// When the packages have no loader, or a script cannot be written.
    pub fn starters(&self, dir: &Path, programs: &[&str]) -> Result<PathBuf> {
        let starters = self.home.join("programs");
        fs::create_dir_all(&starters)?;
        let libraries = self.root.join(format!("usr/lib/{ARCH}-linux-gnu"));
        let loader = versioned(&libraries, "ld-linux")?;
        for name in programs {
            let program = dir.join(name);
            let [loader, libraries, program] =
                [&loader, &libraries, &program].map(|path| path.strip_prefix(&self.root));
            write_program(&starters.join(name), &starter(loader?, libraries?, program?))?;
        }
        Ok(starters)
    }
}

/// The script that starts a program; the paths are below the root, which lies beside the script's folder.
fn starter(loader: &Path, libraries: &Path, program: &Path) -> String {
    let [loader, libraries, program] = [loader, libraries, program].map(Path::display);
    format!(
        "#!/bin/sh\nroot=${{0%/*}}/../root\n\
         exec \"$root/{loader}\" --library-path \"$root/{libraries}\" --argv0 \"$0\" \"$root/{program}\" \"$@\"\n"
    )
}

/// Writes a script, unless it is there: others may be running it.
fn write_program(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let dir = path.parent().context("a program is in no folder")?;
    let mut fresh = Builder::new().permissions(Permissions::from_mode(0o755)).tempfile_in(dir)?;
    fresh.write_all(text.as_bytes())?;
    fresh.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command};

    use super::*;

    #[test]
    fn a_starter_calls_the_loader_beside_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let [programs, root] = ["programs", "root"].map(|name| dir.path().join(name));
        fs::create_dir_all(&programs).unwrap();
        fs::create_dir_all(&root).unwrap();
        symlink("/bin/echo", root.join("loader")).unwrap();
        let script = programs.join("tool");
        write_program(&script, &starter("loader".as_ref(), "lib".as_ref(), "bin/tool".as_ref())).unwrap();
        // By the shell, because a file that was just written may not be executable yet where other threads fork.
        let output = Command::new("sh").arg(&script).arg("two words").output().unwrap();
        let (script, root) = (script.display(), format!("{}/../root", programs.display()));
        let expected = format!("--library-path {root}/lib --argv0 {script} {root}/bin/tool two words\n");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}
