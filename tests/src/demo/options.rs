//! The demo's command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Parser;

/// Prescale against the HPA's rule on one machine, on real HTTP traffic.
///
/// A real HTTP service runs whose worker processes, each with its own port and control group, are the replicas. An
/// open-loop load generator plays the morning of a seeded week's last day; the six days before are imported as history.
/// The same agent, aggregator and eBPF program as in a cluster scale it first; then, on the same load, the HPA's rule
/// at 50, 65 and 80 % of the measured capacity of a worker, and a fixed number of replicas, the mean of Prescale's.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "cargo xtask demo --",
    bin_name = "cargo xtask demo --",
    after_help = "Examples:\n  cargo xtask demo                                  watch the page; Ctrl-C ends and cleans up\n  cargo xtask demo -- --seed 7 --policies prescale,hpa65\n  cargo xtask demo -- --headless --json --duration 60s   the last line is JSON (docs/demo.md says what it means)"
)]
pub struct Options {
    /// Draws level, phase, bursts and every arrival: the same seed gives the same load
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long each policy runs, real time: `180s`, `3m`
    #[arg(long, default_value = "180s", value_parser = duration, value_name = "TIME")]
    pub duration: Duration,
    /// How many times faster every clock runs: start-up, windows, horizons, polls, the HPA's periods (1 to 60)
    #[arg(long, default_value_t = 30.0, value_parser = speed, value_name = "FACTOR")]
    pub speed: f64,
    /// Which policies run, in this order: prescale, hpa50, hpa65, hpa80 (any percentage), static
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "prescale,hpa50,hpa65,hpa80,static",
        value_name = "LIST"
    )]
    pub policies: Vec<Policy>,
    /// Where the page is served
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// End after the last run instead of keeping the page up
    #[arg(long)]
    pub headless: bool,
    /// Print the result as one line of JSON, the last one
    #[arg(long)]
    pub json: bool,
    /// Directory of prescale-agent, prescale-aggregator, demo_worker and demo_guard (xtask says)
    #[arg(long, value_name = "DIR", help_heading = "Given by xtask")]
    pub bin_dir: PathBuf,
    /// The compiled eBPF object (xtask says)
    #[arg(long, value_name = "FILE", help_heading = "Given by xtask")]
    pub object: PathBuf,
}

/// Who decides how many replicas there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The aggregator, in full mode.
    Prescale,
    /// The HPA's rule, at this percentage of a worker's capacity.
    Hpa(u32),
    /// Nobody: the mean of Prescale's run.
    Static,
}

impl FromStr for Policy {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix("hpa").and_then(|percent| percent.parse().ok()) {
            Some(percent) if (10..=100).contains(&percent) => Ok(Self::Hpa(percent)),
            Some(percent) => bail!("the HPA's target is 10 to 100 % of a worker's capacity, not {percent}"),
            None if text == "prescale" => Ok(Self::Prescale),
            None if text == "static" => Ok(Self::Static),
            None => bail!("want prescale, static or hpa with a percentage, as in hpa65"),
        }
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prescale => f.write_str("Prescale"),
            Self::Hpa(percent) => write!(f, "HPA {percent} %"),
            Self::Static => f.write_str("static"),
        }
    }
}

impl Options {
    /// What one flag alone can't tell.
    ///
    /// # Errors
    /// One sentence about what does not fit together.
    pub fn check(&self) -> Result<()> {
        let first = |policy| self.policies.iter().position(|other| *other == policy);
        if let Some(fixed) = first(Policy::Static) {
            ensure!(
                first(Policy::Prescale).is_some_and(|ours| ours < fixed),
                "--policies: static holds the mean of Prescale's replicas, so prescale has to come before it"
            );
        }
        Ok(())
    }

    /// A span of the compressed clock in real time.
    pub fn compressed(&self, span: Duration) -> Duration {
        span.div_f64(self.speed)
    }
}

fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match (number.parse::<u64>(), unit) {
        (Ok(seconds), "s") => seconds,
        (Ok(minutes), "m") => minutes * 60,
        _ => bail!("want seconds or minutes, as in 180s or 3m"),
    };
    // Shorter, and the bursts run into each other; longer, and nobody watches.
    ensure!((20..=3_600).contains(&seconds), "want 20s to 60m");
    Ok(Duration::from_secs(seconds))
}

fn speed(text: &str) -> Result<f64> {
    let speed: f64 = text.parse()?;
    // Above 60, what queues up during one start-up no longer exceeds the objective.
    ensure!((1.0..=60.0).contains(&speed), "want 1 to 60");
    Ok(speed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Options> {
        let fixed = "demo --bin-dir b --object o ".to_owned() + arguments;
        let options = Options::try_parse_from(fixed.split_whitespace())?;
        options.check()?;
        Ok(options)
    }

    #[test]
    fn defaults_are_the_contract() {
        let options = parse("").unwrap();
        assert_eq!(options.duration, Duration::from_secs(180));
        use Policy::{Hpa, Prescale, Static};
        assert_eq!(options.policies, [Prescale, Hpa(50), Hpa(65), Hpa(80), Static]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            "--speed 61",
            "--speed 0.5",
            "--speed NaN",
            "--duration 180",
            "--duration 5s",
            "--duration 2h",
            "--policies vpa",
            "--policies hpa0",
            "--policies static,prescale",
            "--policies hpa65,static",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse("--policies hpa65 --duration 2m").unwrap().policies, [Policy::Hpa(65)]);
    }
}
