//! The wire's limits and what breaks them.

use thiserror::Error;

/// Largest message. 250 pods with every bucket of two histograms filled come to 1.3 MB (`wire::tests` measures a
/// usual report); three times that is a mistake or an attack.
pub const MAX_BODY_BYTES: usize = 4 << 20;
/// Most pods of a node: Kubernetes supports 110, large nodes are run with up to 500.
pub const MAX_PODS: usize = 512;
/// Longest name of a node, namespace, workload or pod: Kubernetes' own limit (RFC 1123 subdomain).
pub const MAX_NAME_BYTES: usize = 253;
/// Longest pod uid or boot id: a UUID has 36 characters, a static pod's uid is 32 hexadecimal digits.
pub const MAX_UID_BYTES: usize = 64;
/// Most targets of a local forecast: 5–120 s ahead needs about ten.
pub const MAX_FORECAST_POINTS: usize = 32;
/// Most ports of a pod.
pub const MAX_PORTS: usize = 64;
/// Most probe request lines of a pod: three kinds of probe, a few containers.
pub const MAX_PROBES: usize = 16;
/// Longest probe request line.
pub const MAX_PROBE_BYTES: usize = 256;
/// Most aggregator replicas.
pub const MAX_REPLICAS_TO_PUSH_TO: usize = 16;

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Not protobuf of this shape.
    #[error("not a message of this kind: {0}")]
    Malformed(String),
    /// Written by a version that this build does not read.
    #[error("version {got} is not readable here (versions {first} to {last} are)", first = .readable.0, last = .readable.1)]
    Version {
        /// The writer's version; 0 when it was missing.
        got: u32,
        /// What this build reads.
        readable: (u32, u32),
    },
    /// More than a limit allows.
    #[error("{what}: {got} is over the limit of {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there were.
        got: usize,
        /// How many may be.
        limit: usize,
    },
    /// A string is empty or holds characters that no name has.
    #[error("{what} is no name")]
    BadName {
        /// Of what.
        what: &'static str,
    },
    /// A number that can't be what it stands for.
    #[error("{what} is out of range")]
    OutOfRange {
        /// Of what.
        what: &'static str,
    },
    /// The same pod or workload twice.
    #[error("{what} twice in one message")]
    Twice {
        /// Of what.
        what: &'static str,
    },
}

/// Fails when `got` is over `limit`.
pub(super) fn at_most(what: &'static str, got: usize, limit: usize) -> Result<(), WireError> {
    if got > limit { Err(WireError::TooMany { what, got, limit }) } else { Ok(()) }
}

/// Checks a name: not empty, at most `limit` bytes, ASCII letters, digits, `-`, `_`, `.` and `:` only, so that it can
/// be a metric label, a file name or a log field as it is.
pub(super) fn name(what: &'static str, text: String, limit: usize) -> Result<String, WireError> {
    at_most(what, text.len(), limit)?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    if text.is_empty() || !text.bytes().all(fits) { Err(WireError::BadName { what }) } else { Ok(text) }
}

/// Checks a number: finite, not negative.
pub(super) fn quantity(what: &'static str, value: f64) -> Result<f64, WireError> {
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(WireError::OutOfRange { what }) }
}
