//! What a user says on a workload: the `prescale.dev/…` annotations, parsed; each bad value with the mend.
//!
//! Pure text to values. What they mean together with the objects around a workload is `standing`'s to say.

use std::fmt;

use crate::world::Mode;

mod nearest;
#[cfg(test)]
mod tests;

/// All our annotations begin with this.
pub const PREFIX: &str = "prescale.dev/";
/// Longest value that is looked at; the longest sensible one is a list of ports.
const MAX_VALUE_BYTES: usize = 256;
/// Unknown names that are told, the first in the order of the text: an object holds thousands, and each is an Event. Who
/// mends those sees the next.
const MAX_UNKNOWN: usize = 16;
/// Most ports: the kernel side holds no more for a pod.
pub const MAX_PORTS: usize = prescale_agent_ebpf::layout::PORTS;

/// An annotation that users set on a Deployment or StatefulSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Annotation {
    /// Opts in.
    Mode,
    /// The latency objective.
    Slo,
    /// Never fewer.
    MinReplicas,
    /// Never more.
    MaxReplicas,
    /// What one pod carries.
    RpsPerPod,
    /// Spare capacity.
    Headroom,
    /// Which ports are measured.
    Port,
    /// Decide but do not act.
    Paused,
}

impl Annotation {
    /// All of them, as docs/annotations.md lists them.
    pub const ALL: [Self; 8] = [
        Self::Mode,
        Self::Slo,
        Self::MinReplicas,
        Self::MaxReplicas,
        Self::RpsPerPod,
        Self::Headroom,
        Self::Port,
        Self::Paused,
    ];

    /// Its full name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mode => "prescale.dev/mode",
            Self::Slo => "prescale.dev/slo",
            Self::MinReplicas => "prescale.dev/min-replicas",
            Self::MaxReplicas => "prescale.dev/max-replicas",
            Self::RpsPerPod => "prescale.dev/rps-per-pod",
            Self::Headroom => "prescale.dev/headroom",
            Self::Port => "prescale.dev/port",
            Self::Paused => "prescale.dev/paused",
        }
    }

    /// What a good value looks like.
    pub fn mend(self) -> &'static str {
        match self {
            Self::Mode => "write observe, floor or full",
            Self::Slo => "write a percentile and a time, such as p99<200ms",
            Self::MinReplicas => "write a whole number from 1 on, such as 2",
            Self::MaxReplicas => "write a whole number from 1 on, such as 20",
            Self::RpsPerPod => "write the requests/s that one pod carries within its objective, such as 50",
            Self::Headroom => "write a share from 0 to 10 or percent, such as 0.1 or 10%",
            Self::Port => {
                "write numbers or names of container ports, 16 at most, separated by commas, such as 8080 or http"
            }
            Self::Paused => "write true or false",
        }
    }
}

/// An objective: `quantile` of the requests are faster than `seconds`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    /// Above 0, below 1.
    pub quantile: f64,
    /// Above 0.
    pub seconds: f64,
}

/// A port as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// By number, never 0.
    Number(u16),
    /// By a container port's name.
    Name(String),
}

/// Everything that a workload's annotations say; `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// What may be done.
    pub mode: Mode,
    /// The objective.
    pub slo: Option<Slo>,
    /// Never fewer; at least 1.
    pub min_replicas: Option<u32>,
    /// Never more; at least 1.
    pub max_replicas: Option<u32>,
    /// Requests/s that one pod carries; above 0.
    pub rps_per_pod: Option<f64>,
    /// Spare capacity as a share, 0 to 10.
    pub headroom: f64,
    /// Ports to measure; empty: the target works them out.
    pub ports: Vec<Port>,
    /// Decide but do not act.
    pub paused: bool,
}

/// An annotation that can't be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// A value that means nothing.
    BadValue(Annotation, String),
    /// No annotation of ours has this name.
    Unknown(String),
    /// The least is above the most.
    MinAboveMax,
    /// These say something, but nothing opts in.
    NoMode(Vec<Annotation>),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadValue(annotation, value) => {
                let (name, mend) = (annotation.name(), annotation.mend());
                write!(f, "{name}: `{value}` means nothing here; {mend}")
            }
            Self::Unknown(name) => {
                write!(f, "{name}: there is no such annotation; ")?;
                if let Some(meant) = nearest::to(name.trim_start_matches(PREFIX)) {
                    write!(f, "did you mean {}? ", meant.name())?;
                }
                f.write_str("Correct its name or remove it (there are ")?;
                list(f, Annotation::ALL.map(|known| known.name().trim_start_matches(PREFIX)))?;
                f.write_str(")")
            }
            Self::MinAboveMax => write!(
                f,
                "{} is above {}; lower the one or raise the other",
                Annotation::MinReplicas.name(),
                Annotation::MaxReplicas.name()
            ),
            Self::NoMode(set) => {
                list(f, set.iter().map(|it| it.name()))?;
                let (verb, mode) = (if set.len() == 1 { "is" } else { "are" }, Annotation::Mode);
                write!(
                    f,
                    " {verb} set, but without {} the workload is not opted in; {}",
                    mode.name(),
                    mode.mend()
                )
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, names: impl IntoIterator<Item = &'static str>) -> fmt::Result {
    names.into_iter().enumerate().try_for_each(|(index, name)| {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{name}")
    })
}

/// What the annotations of one object say.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// `None`: not opted in. With any problem its mode is `observe`: a setting that was meant otherwise than it reads
    /// must not act.
    pub wish: Option<Wish>,
    /// What can't be obeyed, each bad annotation once: values in the order of [`Annotation::ALL`], then unknown names.
    pub problems: Vec<Problem>,
}

/// Reads an object's annotations; those of others are passed over.
pub fn read<'a>(annotations: impl IntoIterator<Item = (&'a str, &'a str)>) -> Said {
    let mut wish = Wish::default();
    let (mut problems, mut given) = (Vec::new(), Vec::new());
    for (key, value) in annotations {
        if !key.starts_with(PREFIX) {
            continue;
        }
        let Some(annotation) = Annotation::ALL.into_iter().find(|it| it.name() == key) else {
            problems.push(Problem::Unknown(clip(key)));
            continue;
        };
        given.push(annotation);
        if value.len() > MAX_VALUE_BYTES || wish.take(annotation, value.trim()).is_none() {
            problems.push(Problem::BadValue(annotation, clip(value)));
        }
    }
    if let (Some(min), Some(max)) = (wish.min_replicas, wish.max_replicas)
        && min > max
    {
        problems.push(Problem::MinAboveMax);
    }
    let opts_in = given.contains(&Annotation::Mode);
    if !opts_in && !given.is_empty() {
        given.sort();
        problems.push(Problem::NoMode(given));
    }
    problems.sort();
    let mut unknown = 0;
    problems.retain(|problem| {
        unknown += usize::from(matches!(problem, Problem::Unknown(_)));
        !matches!(problem, Problem::Unknown(_)) || unknown <= MAX_UNKNOWN
    });
    if !problems.is_empty() {
        wish.mode = Mode::Observe;
    }
    Said { wish: opts_in.then_some(wish), problems }
}

impl Wish {
    /// `None` when the value means nothing; nothing is changed then.
    fn take(&mut self, annotation: Annotation, value: &str) -> Option<()> {
        match annotation {
            Annotation::Mode => {
                self.mode = match value {
                    "observe" => Mode::Observe,
                    "floor" => Mode::Floor,
                    "full" => Mode::Full,
                    _ => return None,
                };
            }
            Annotation::Slo => self.slo = Some(slo(value)?),
            Annotation::MinReplicas => self.min_replicas = Some(replicas(value)?),
            Annotation::MaxReplicas => self.max_replicas = Some(replicas(value)?),
            Annotation::RpsPerPod => self.rps_per_pod = Some(number(value).filter(|it| *it > 0.0)?),
            Annotation::Headroom => {
                let share = match value.strip_suffix('%') {
                    Some(percent) => number(percent.trim_end())? / 100.0,
                    None => number(value)?,
                };
                self.headroom = (share <= 10.0).then_some(share)?;
            }
            Annotation::Port => self.ports = ports(value)?,
            Annotation::Paused => self.paused = value.parse().ok()?,
        }
        Some(())
    }
}

/// Digits with at most one point: `f64`'s own grammar also takes signs, exponents, `inf` and `nan`.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|it: &f64| plain && it.is_finite())
}

/// From 1 on: at 0 nothing is measured any more, so nothing would bring a workload back. Kubernetes' own numbers are
/// `i32`.
fn replicas(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|it| digits && (1..=i32::MAX as u32).contains(it))
}

/// `p99.9<200ms`; blanks around `<` are fine.
fn slo(text: &str) -> Option<Slo> {
    let (percentile, time) = text.strip_prefix('p')?.split_once('<')?;
    let percentile = number(percentile.trim_end()).filter(|it| *it > 0.0 && *it < 100.0)?;
    let time = time.trim_start();
    // The longer units first: `s` ends them all.
    let (value, unit) = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((time.strip_suffix(unit)?, seconds)))?;
    let seconds = number(value.trim_end()).filter(|it| *it > 0.0)? * unit;
    Some(Slo { quantile: percentile / 100.0, seconds })
}

fn ports(text: &str) -> Option<Vec<Port>> {
    let one = |text: &str| match text.parse::<u16>() {
        Ok(number) => {
            (number > 0 && text.bytes().all(|b| b.is_ascii_digit())).then_some(Port::Number(number))
        }
        // Kubernetes' own rule for port names: up to 15 of these, a letter among them.
        Err(_) => {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let letter = text.bytes().any(|b| b.is_ascii_lowercase());
            (letter && text.len() <= 15 && text.bytes().all(fits)).then(|| Port::Name(text.to_owned()))
        }
    };
    let ports: Vec<Port> = text.split(',').map(|it| one(it.trim())).collect::<Option<_>>()?;
    (ports.len() <= MAX_PORTS).then_some(ports)
}

/// Short enough for an Event, whatever somebody wrote.
fn clip(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}
