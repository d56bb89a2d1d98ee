//! A directory of a test's own, which goes when the test ends.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir()
            .canonicalize()
            .unwrap()
            .join(format!("sealed-session-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        let folder = Self { path };
        folder.mode(0o755, "");
        folder
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of what is called `name` here.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file that only its owner can read and write.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, content).unwrap();
        self.mode(0o600, name);
        path
    }

    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir(&path).unwrap();
        self.mode(0o755, name);
        path
    }

    /// Sets the mode of what is called `name`, or of the folder itself.
    pub fn mode(&self, mode: u32, name: &str) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        #[cfg(not(unix))]
        let _ = (mode, name);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in a temporary directory does no harm.
        let _ = fs::remove_dir_all(&self.path);
    }
}
