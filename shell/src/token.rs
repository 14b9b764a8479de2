//! The shared secret or projected token that a request carries: read from a file, compared in constant time.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

/// A ServiceAccount token is about 1 KiB; 16 KiB leaves room and bounds what a wrong path can make us read.
const MAX_BYTES: u64 = 16 * 1024;

/// A token in a file. It is read anew for each use, since the kubelet renews projected tokens in place.
#[derive(Clone, Debug)]
pub struct TokenFile(PathBuf);

/// A token's text; never printed.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Surrounding white space is cut off.
    ///
    /// # Errors
    /// When nothing is left, or something that no HTTP header may carry.
    pub fn new(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        if text.is_empty() {
            bail!("the token is empty");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("the token holds characters other than visible ASCII");
        }
        Ok(Self(text.to_owned()))
    }

    /// The bare text, for a header.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `other` is this token, in a time that depends on the lengths only.
    pub fn matches(&self, other: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.as_bytes());
        let mut difference = u8::from(ours.len() != theirs.len());
        for (index, byte) in theirs.iter().enumerate() {
            difference |= byte ^ ours[index % ours.len()];
        }
        std::hint::black_box(difference) == 0
    }
}

impl TokenFile {
    /// Reads it once, so that a wrong path stops the start.
    ///
    /// # Errors
    /// As [`TokenFile::read`].
    pub fn open(path: PathBuf) -> anyhow::Result<Self> {
        let file = Self(path);
        file.read()?;
        Ok(file)
    }

    /// The token as it is now.
    ///
    /// # Errors
    /// When the file can't be read, is larger than 16 KiB, or holds no token; the message names the file.
    pub fn read(&self) -> anyhow::Result<Token> {
        use std::io::Read as _;
        let path = self.0.display();
        let file =
            std::fs::File::open(&self.0).with_context(|| format!("can't read the token file {path}"))?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("can't read the token file {path}"))?;
        if bytes.len() as u64 > MAX_BYTES {
            bail!("the token file {path} is larger than {MAX_BYTES} bytes");
        }
        let text = String::from_utf8(bytes).with_context(|| format!("the token file {path} is no text"))?;
        Token::new(&text).with_context(|| format!("the token file {path} holds no token"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_only_itself() {
        let token = Token::new(" secret\n").unwrap();
        assert!(token.matches("secret"));
        for other in ["", "secre", "secrets", "secretsecret", "Secret", "sécret"] {
            assert!(!token.matches(other), "{other:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let dir = std::env::temp_dir().join(format!("prescale-token-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("token");
        let error = |path: &PathBuf| format!("{:#}", TokenFile::open(path.clone()).unwrap_err());
        assert!(error(&dir.join("none")).contains("No such file"));
        std::fs::write(&path, " \n").unwrap();
        assert!(error(&path).contains("the token is empty"));
        std::fs::write(&path, "a b").unwrap();
        assert!(error(&path).contains("visible ASCII"));
        std::fs::write(&path, vec![b'x'; 17_000]).unwrap();
        assert!(error(&path).contains("larger than"));
        std::fs::write(&path, "first").unwrap();
        let file = TokenFile::open(path.clone()).unwrap();
        std::fs::write(&path, "second").unwrap();
        assert_eq!(file.read().unwrap().expose(), "second");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
