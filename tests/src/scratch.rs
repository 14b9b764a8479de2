//! A directory of one test's own, gone with it.

use std::path::Path;

use tempfile::TempDir;

/// The directory.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// Makes it, empty.
    ///
    /// # Panics
    /// If the temporary directory takes none.
    pub fn new() -> Self {
        Self(TempDir::with_prefix("prescale-test-").expect("the temporary directory takes one more"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of what is or will be called `name` in it.
    pub fn name(&self, name: &str) -> String {
        self.path().join(name).to_str().expect("the temporary directory's path is UTF-8").to_owned()
    }

    /// Writes a file; its path.
    ///
    /// # Panics
    /// If that fails.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path().join(name), content).expect("the temporary directory takes files");
        self.name(name)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        self.path()
    }
}
