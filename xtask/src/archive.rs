//! Container images as docker archives of one layer, byte for byte the same for the same files: no container engine,
//! no registry, no root.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// Linux' "nobody": the images run as it unless a pod says otherwise.
pub const NOBODY: &str = "65534:65534";
const BLOCK: usize = 512;

/// A file of an image.
pub struct File<'a> {
    /// Where it comes from.
    pub from: PathBuf,
    /// Its absolute path in the image.
    pub to: &'a str,
    /// Executable or not.
    pub executable: bool,
    /// Bit numbers (linux/capability.h) of the capabilities that it may raise.
    pub capabilities: &'a [u32],
}

/// An image.
pub struct Image<'a> {
    /// `repository:tag`.
    pub name: &'a str,
    /// Its files.
    pub files: Vec<File<'a>>,
    /// Who runs it.
    pub user: &'a str,
    /// The program and its first arguments.
    pub entrypoint: &'a [&'a str],
    /// OCI labels.
    pub labels: &'a [(&'a str, &'a str)],
}

impl Image<'_> {
    /// Writes it as `docker save` would, for `ctr images import`, `docker load`, `kind load image-archive`.
    ///
    /// # Errors
    /// A file can't be read or the archive not written.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let mut layer = Vec::new();
        for directory in self.directories() {
            entry(&mut layer, &directory, b'5', 0o755, &[])?;
        }
        for file in &self.files {
            let content = fs::read(&file.from).with_context(|| format!("reading {}", file.from.display()))?;
            let name = file.to.trim_start_matches('/');
            if !file.capabilities.is_empty() {
                let record = pax("SCHILY.xattr.security.capability", &capability(file.capabilities));
                entry(&mut layer, &format!("PaxHeaders/{name}"), b'x', 0o644, &record)?;
            }
            let mode = if file.executable { 0o755 } else { 0o644 };
            entry(&mut layer, name, b'0', mode, &content)?;
        }
        end(&mut layer);
        let labels: serde_json::Map<_, _> =
            self.labels.iter().map(|&(key, value)| (key.to_owned(), json!(value))).collect();
        let config = json!({
            "architecture": architecture(), "os": "linux", "created": "1970-01-01T00:00:00Z",
            "config": {"User": self.user, "Entrypoint": self.entrypoint, "Labels": labels, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer)?)]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask images"}],
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar"]}]);
        let mut whole = Vec::with_capacity(layer.len() + 16 * BLOCK);
        entry(&mut whole, "layer.tar", b'0', 0o644, &layer)?;
        entry(&mut whole, "config.json", b'0', 0o644, config.to_string().as_bytes())?;
        entry(&mut whole, "manifest.json", b'0', 0o644, manifest.to_string().as_bytes())?;
        end(&mut whole);
        fs::write(archive, whole).with_context(|| format!("writing {}", archive.display()))
    }

    /// Every directory that a file lies in, parents first.
    fn directories(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for file in &self.files {
            let parents = Path::new(file.to).ancestors().skip(1).filter_map(|it| it.strip_prefix("/").ok());
            for parent in parents.filter(|parent| !parent.as_os_str().is_empty()) {
                found.push(format!("{}/", parent.display()));
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The value of a file's capabilities, version 2 of the kernel's format: permitted, neither inherited nor effective
/// from the start. Where a pod is not granted them the program still starts, and can say so.
fn capability(bits: &[u32]) -> Vec<u8> {
    const VERSION_2: u32 = 0x0200_0000;
    let permitted = bits.iter().fold(0_u64, |all, bit| all | 1 << bit);
    let words = [VERSION_2, permitted as u32, 0, (permitted >> 32) as u32, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A record of a PAX header: its length, its own digits included, then `key=value`.
fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    // One digit more may make the length one digit longer.
    length = rest + length.to_string().len();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Appends a tar entry (POSIX.1-1988 ustar).
fn entry(tar: &mut Vec<u8>, name: &str, kind: u8, mode: u32, content: &[u8]) -> Result<()> {
    ensure!(name.len() < 100, "{name} is too long a name for this archive");
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    // Owner, group, time: root and the beginning of all time.
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(257, "ustar");
    put(263, "00");
    header[156] = kind;
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend(header);
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

fn end(tar: &mut Vec<u8>) {
    tar.resize(tar.len() + 2 * BLOCK, 0);
}

/// Of `content`, in hexadecimal, by coreutils.
pub fn sha256(content: &[u8]) -> Result<String> {
    let mut command = Command::new("sha256sum");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting sha256sum")?;
    child.stdin.take().context("its input is piped")?.write_all(content).context("feeding sha256sum")?;
    let output = child.wait_with_output().context("reading sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_written_as_setcap_writes_them() {
        // `setcap cap_net_admin,cap_perfmon,cap_bpf=p FILE; getfattr -n security.capability -e hex FILE`
        let hex: String = capability(&[12, 38, 39]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "000000020010000000000000c000000000000000");
    }

    #[test]
    fn a_pax_record_counts_its_own_digits() {
        for length in 1..1200 {
            let record = pax("k", &vec![b'x'; length]);
            let digits = record.split(|&byte| byte == b' ').next().unwrap();
            assert_eq!(std::str::from_utf8(digits).unwrap().parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn tar_reads_the_archive_and_the_layer_and_it_is_the_same_twice() {
        let directory = std::env::temp_dir().join(format!("prescale-archive-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let from = directory.join("program");
        fs::write(&from, "#!/bin/true\n").unwrap();
        let image = || Image {
            name: "example/test:1",
            files: vec![File {
                from: from.clone(),
                to: "/usr/bin/test",
                executable: true,
                capabilities: &[39],
            }],
            user: NOBODY,
            entrypoint: &["/usr/bin/test"],
            labels: &[("org.opencontainers.image.title", "test")],
        };
        let (once, twice) = (directory.join("1.tar"), directory.join("2.tar"));
        image().write(&once).unwrap();
        image().write(&twice).unwrap();
        assert_eq!(fs::read(&once).unwrap(), fs::read(&twice).unwrap());
        let tar = |arguments: &[&str], archive: &Path| {
            let output = Command::new("tar").args(arguments).arg("-f").arg(archive).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        assert_eq!(tar(&["-t"], &once), b"layer.tar\nconfig.json\nmanifest.json\n");
        let layer = directory.join("layer.tar");
        fs::write(&layer, tar(&["-x", "-O", "layer.tar"], &once)).unwrap();
        assert_eq!(tar(&["-t"], &layer), b"usr/\nusr/bin/\nusr/bin/test\n");
        let sum = sha256(&fs::read(&layer).unwrap()).unwrap();
        let config = String::from_utf8(tar(&["-x", "-O", "config.json"], &once)).unwrap();
        assert!(config.contains(&sum), "{config}");
        // Trailers of 1,024 zero bytes keep GNU tar from warning about a lone zero block.
        let listed = Command::new("tar")
            .args(["--xattrs", "--xattrs-include=security.capability", "-tvvf"])
            .arg(&layer)
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&listed.stdout).contains("security.capability"), "{listed:?}");
        assert!(listed.stderr.is_empty(), "{listed:?}");
        fs::remove_dir_all(directory).unwrap();
    }
}
