//! A browser that looks at a page, in light or dark.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The browser, which `scripts/chromium` finds or installs.
static CHROMIUM: LazyLock<PathBuf> = LazyLock::new(|| {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let script = folders.map(|folder| folder.join("scripts/chromium")).find(|script| script.is_file());
    let script = script.expect("the project has scripts/chromium");
    let found = Command::new(&script).output().expect("scripts/chromium must run: it needs bash");
    let (path, error) = (String::from_utf8_lossy(&found.stdout), String::from_utf8_lossy(&found.stderr));
    assert!(found.status.success(), "pages are tested in a browser, and there is none: {error}");
    path.trim().into()
});

/// One run of the browser on a page, with arguments that say what for; what it prints. It keeps its files in `profile`, which
/// is gone afterwards.
pub(crate) fn browse(url: &str, profile: &Path, dark: bool, arguments: &[&str]) -> String {
    let ran = Command::new(&*CHROMIUM)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--blink-settings=preferredColorScheme={}", i32::from(!dark)))
        .args(arguments)
        .arg(url)
        .output()
        .expect("the browser must start");
    std::fs::remove_dir_all(profile).expect("what the browser has left can be removed");
    let (text, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{error}");
    text.into_owned()
}
