//! The demo's finished runs, handed through to the page as they stand in `--comparison`.

use std::path::{Path, PathBuf};

use prescale_shell::http::{Response, StatusCode, json, text};

/// The demo's last line with some ten runs is under 4 KiB.
const MAX_BYTES: u64 = 256 * 1024;

/// The file, which the demo replaces after each run.
#[derive(Clone, Debug)]
pub struct Comparison(pub Option<PathBuf>);

impl Comparison {
    /// The JSON object in the file; `{"runs":[]}` while there is none.
    pub fn answer(&self) -> Response {
        let Some(path) = &self.0 else { return json(r#"{"runs":[]}"#) };
        match read(path) {
            Ok(Some(object)) => json(object),
            Ok(None) => json(r#"{"runs":[]}"#),
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "can't show the comparison");
                text(StatusCode::INTERNAL_SERVER_ERROR, &format!("the comparison can't be shown: {reason}"))
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(file) if file.len() > MAX_BYTES => return Err(format!("larger than {MAX_BYTES} bytes")),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if value.get("runs").is_some_and(serde_json::Value::is_array) {
        Ok(Some(value.to_string()))
    } else {
        Err("no array `runs`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_is_empty_and_wrong_is_said() {
        let path = std::env::temp_dir().join(format!("prescale-comparison-{}", std::process::id()));
        assert_eq!(read(&path), Ok(None));
        std::fs::write(&path, r#"{"seed":1,"runs":[{"policy":"static"}]}"#).unwrap();
        assert!(read(&path).unwrap().unwrap().contains("static"));
        for wrong in ["", "[]", "{}", "{\"runs\":1}"] {
            std::fs::write(&path, wrong).unwrap();
            assert!(read(&path).is_err(), "{wrong:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
