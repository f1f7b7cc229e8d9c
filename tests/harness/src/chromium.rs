//! Chromium without a window: what a page measures in a real browser, and what it looks like.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    command::{run, text},
    debian::Packages,
    unavailable::Unavailable,
};

/// The browser, and letters for a system that has none.
const PACKAGES: [&str; 2] = ["chromium-headless-shell", "fonts-dejavu-core"];
/// Where Debian keeps the program, beside what it reads.
const PROGRAM: &str = "usr/lib/chromium/chromium-headless-shell";
/// Where Debian keeps letters.
const FONTS: &str = "usr/share/fonts";
/// Stand around what a page's script has found.
const MARKS: [&str; 2] = ["<pre id=\"found\">", "</pre>"];

/// A browser that can be started.
#[derive(Clone, Debug)]
pub struct Chromium {
    packages: Packages,
}

/// What a page is shown on.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Whether its user prefers dark pages.
    pub is_dark: bool,
}

impl Chromium {
    /// The project's own, unpacked at the first call.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason, for example no network or no Debian.
    pub fn find_or_unpack() -> Result<Chromium, Unavailable> {
        let unpacked = Packages::unpack(&PACKAGES).and_then(|packages| packages.file(PROGRAM).map(|_| packages));
        unpacked.map(|packages| Chromium { packages }).map_err(|reason| Unavailable::new("Chromium", reason))
    }

    /// What `script`, the body of a function, returns in a page as JSON once that is laid out. `folder` takes files of its own.
    ///
    /// # Errors
    /// When the page cannot be read or shown, or the script throws.
    pub fn ask(&self, page: &str, screen: Screen, script: &str, folder: &Path) -> Result<Value> {
        let [begin, end] = MARKS;
        let asked = format!(
            "<script>const found = document.createElement('pre'); found.id = 'found'; \
             found.textContent = JSON.stringify((() => {{ {script} }})()); document.body.append(found);</script></body>"
        );
        let file = folder.join("asked.html");
        fs::write(&file, page.replacen("</body>", &asked, 1))?;
        let shown = text(self.show(screen, folder)?.arg("--dump-dom").arg(&file))?;
        let found = shown.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
        let (found, _) = found.with_context(|| format!("the script found nothing: {script}"))?;
        let escapes = [("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
        let found = escapes.iter().fold(found.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain));
        serde_json::from_str(&found).with_context(|| found)
    }

    /// Draws a page into the PNG file `picture`.
    ///
    /// # Errors
    /// When it cannot be shown.
    pub fn draw(&self, page: &Path, screen: Screen, picture: &Path, folder: &Path) -> Result<()> {
        let mut option = std::ffi::OsString::from("--screenshot=");
        option.push(picture);
        run(self.show(screen, folder)?.arg(option).arg(page))?;
        ensure!(picture.exists(), "Chromium has drawn no {}", picture.display());
        Ok(())
    }

    fn show(&self, Screen { width, height, is_dark }: Screen, folder: &Path) -> Result<Command> {
        let fonts = folder.join("fonts.conf");
        let unpacked = self.packages.file(FONTS).unwrap_or_default();
        fs::write(
            &fonts,
            format!(
                "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig><dir>/{FONTS}</dir><dir>{}</dir>\
                 <cachedir>{}</cachedir></fontconfig>",
                unpacked.display(),
                folder.join("fonts").display()
            ),
        )?;
        let mut command = Command::new(self.packages.file(PROGRAM)?);
        self.packages.show(&mut command);
        command.env("FONTCONFIG_FILE", fonts);
        // It shows a page of ours alone, and its sandbox needs rights that a container has not.
        command.args(["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
        command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
        command.arg(format!("--window-size={width},{height}"));
        command.arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!is_dark)));
        Ok(command)
    }
}
