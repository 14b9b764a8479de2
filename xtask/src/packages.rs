//! Debian packages that a task needs: says what it installs, then does; elsewhere says what is missing.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::run;

/// Makes sure that the Debian packages `names` are installed. `why` finishes the sentence "… for".
///
/// # Errors
/// Where this is no Debian, or we are not root: with the command that a person can run.
pub fn ensure(names: &[&str], why: &str) -> Result<()> {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !Path::new("/etc/debian_version").exists() || !run::is_root()? {
        bail!("{list} needed for {why}; on Debian: sudo apt-get install --no-install-recommends {list}");
    }
    eprintln!("installing for {why}: {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        // Services that a package would start on its own are none of our business: they stay off.
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").args(arguments);
        command.stdout(Stdio::null());
        command
    };
    run::run(&mut apt(&["update", "-qq"]))?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&missing);
    run::run(&mut apt(&arguments))
}

fn installed(name: &str) -> bool {
    let output = Command::new("dpkg-query").args(["-W", "-f=${Status}", name]).output();
    output.is_ok_and(|output| output.stdout == b"install ok installed")
}
