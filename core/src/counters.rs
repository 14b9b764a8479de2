//! Everything a pod's kernel counters say, summed over CPUs: cumulative since its attach.

use prescale_agent_ebpf::histogram::{BUCKETS, lower_bound_ns};

/// Status classes, in the order of every per-class array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatusClass {
    /// A status that could not be read; never guessed.
    Unknown,
    /// 1xx that ended an exchange (101).
    Informational,
    /// 2xx.
    Success,
    /// 3xx.
    Redirection,
    /// 4xx.
    ClientError,
    /// 5xx.
    ServerError,
}

/// Length of per-class arrays; larger than the enum so that kernel indices mask cheaply.
pub const CLASSES: usize = 8;

/// Why the kernel saw traffic that it could not account for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unaccounted {
    /// The payload of a new connection is no HTTP/1.1 request.
    NotHttp,
    /// Bytes that were expected next never came past (a gap in the sequence).
    SequenceGap,
    /// A response began that no request was waiting for.
    UnexpectedResponse,
    /// The connection was already open when the program was attached.
    MidStream,
    /// No memory for the socket's or the listener's state.
    NoMemory,
    /// More requests were pipelined than the queue holds.
    PipelineOverflow,
    /// The message could not be followed (upgrade, malformed head, head over the limit).
    Unparsed,
    /// A new connection speaks TLS.
    Tls,
    /// A new connection speaks HTTP/2 (prior knowledge), which is not read yet.
    Http2,
}

impl Unaccounted {
    /// Every reason, in the kernel's order.
    pub const ALL: [Self; 9] = [
        Self::NotHttp,
        Self::SequenceGap,
        Self::UnexpectedResponse,
        Self::MidStream,
        Self::NoMemory,
        Self::PipelineOverflow,
        Self::Unparsed,
        Self::Tls,
        Self::Http2,
    ];

    /// As metrics and documents name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotHttp => "not_http",
            Self::SequenceGap => "sequence_gap",
            Self::UnexpectedResponse => "unexpected_response",
            Self::MidStream => "mid_stream",
            Self::NoMemory => "no_memory",
            Self::PipelineOverflow => "pipeline_overflow",
            Self::Unparsed => "unparsed",
            Self::Tls => "tls",
            Self::Http2 => "http2",
        }
    }
}

const _: () = {
    use prescale_agent_ebpf::layout::reason;
    let kernel = [
        reason::NOT_HTTP,
        reason::SEQUENCE_GAP,
        reason::UNEXPECTED_RESPONSE,
        reason::MID_STREAM,
        reason::NO_MEMORY,
        reason::PIPELINE_OVERFLOW,
        reason::UNPARSED,
        reason::TLS,
        reason::HTTP2,
    ];
    let mut i = 0;
    while i < kernel.len() {
        assert!(kernel[i] as usize == i && Unaccounted::ALL[i] as usize == i);
        i += 1;
    }
};

/// Length of the array of [`Unaccounted`] reasons; room for more.
pub const REASONS: usize = 16;

/// A latency histogram over [`prescale_agent_ebpf::histogram`]'s buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram(pub Box<[u64; BUCKETS]>);

impl Histogram {
    /// Requests in it.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// What was added since `earlier`, or `None` if a bucket went back.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut delta = Self::default();
        for ((to, new), old) in delta.0.iter_mut().zip(self.0.iter()).zip(earlier.0.iter()) {
            *to = new.checked_sub(*old)?;
        }
        Some(delta)
    }

    /// Adds `other`'s requests; sticks at the largest count instead of overflowing.
    pub fn add(&mut self, other: &Self) {
        for (to, more) in self.0.iter_mut().zip(other.0.iter()) {
            *to = to.saturating_add(*more);
        }
    }

    /// The latency that a share `q` (0 to 1) of the requests did not exceed, seconds of the kernel's clock, linear
    /// within the bucket; `None` when it is empty.
    pub fn quantile_seconds(&self, q: f64) -> Option<f64> {
        self.quantiles_seconds([q]).map(|[quantile]| quantile)
    }

    /// Several of [`Histogram::quantile_seconds`] in one pass; the shares ascend.
    pub fn quantiles_seconds<const N: usize>(&self, shares: [f64; N]) -> Option<[f64; N]> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // Rounding of the running sum can leave a rank a hair beyond it: the end of the last bucket in use.
        let last = self.0.iter().rposition(|n| *n > 0).unwrap_or(0);
        let mut out = [lower_bound_ns(last + 1) as f64 / 1e9; N];
        let (mut below, mut next) = (0.0, 0);
        for (bucket, &n) in self.0.iter().enumerate().filter(|(_, n)| **n > 0) {
            let n = n as f64;
            while let Some(share) = shares.get(next) {
                let rank = share.clamp(0.0, 1.0) * count as f64;
                if below + n < rank {
                    break;
                }
                let (low, high) = (lower_bound_ns(bucket) as f64, lower_bound_ns(bucket + 1) as f64);
                out[next] = (low + (high - low) * ((rank - below) / n).clamp(0.0, 1.0)) / 1e9;
                next += 1;
            }
            below += n;
        }
        Some(out)
    }

    /// The mean latency, seconds, each request at its bucket's middle (at most 6 % off); `None` when it is empty.
    pub fn mean_seconds(&self) -> Option<f64> {
        let count = self.count();
        let middle = |b: usize| (lower_bound_ns(b) + lower_bound_ns(b + 1)) as f64 / 2.0;
        let used = self.0.iter().enumerate().filter(|(_, n)| **n > 0);
        let sum: f64 = used.map(|(b, &n)| middle(b) * n as f64).sum();
        (count > 0).then(|| sum / count as f64 / 1e9)
    }

    /// The share of requests slower than `seconds`, linear within the bucket; `None` when it is empty.
    pub fn share_above(&self, seconds: f64) -> Option<f64> {
        let (count, limit_ns) = (self.count(), seconds * 1e9);
        let above = |bucket: usize| {
            let (low, high) = (lower_bound_ns(bucket) as f64, lower_bound_ns(bucket + 1) as f64);
            ((high - limit_ns) / (high - low)).clamp(0.0, 1.0)
        };
        let sum: f64 = self.0.iter().enumerate().map(|(b, &n)| above(b) * n as f64).sum();
        (count > 0).then(|| sum / count as f64)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self(Box::new([0; BUCKETS]))
    }
}

/// One pod's cumulative counters since its attach, as of one read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The kernel's monotonic clock when they were read, nanoseconds; rates and concurrency divide by its
    /// differences, never by the caller's clock.
    pub read_at_ns: u64,
    /// Requests whose first byte arrived.
    pub starts: u64,
    /// Requests whose response's last byte left, per [`StatusClass`].
    pub finishes: [u64; CLASSES],
    /// Requests whose connection ended before the response did.
    pub aborts: u64,
    /// Probes of the kubelet that arrived; they are in none of the other counts but bytes and connections.
    pub probe_starts: u64,
    /// Of these, those whose response's last byte left.
    pub probe_finishes: u64,
    /// Integral over time of the number of requests in flight, nanoseconds.
    pub in_flight_integral_ns: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes received on connections whose requests can't be read (TLS, HTTP/2, after an upgrade); with those
    /// of connections that were open before the attach and have shown no request yet, which are not in
    /// [`Self::bytes_received`].
    pub bytes_unread: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Connections that carried payload.
    pub connections_opened: u64,
    /// Of those, closed.
    pub connections_closed: u64,
    /// Segments seen again.
    pub retransmits: u64,
    /// Traffic that could not be accounted for, per [`Unaccounted`].
    pub unaccounted: [u64; REASONS],
    /// Time from a request's first byte in to the response's first byte out.
    pub first_byte: Histogram,
    /// Time from a request's first byte in to the response's last byte out, per [`StatusClass`].
    pub last_byte: [Histogram; CLASSES],
}

impl Counters {
    /// Requests finished, all classes.
    pub fn finished(&self) -> u64 {
        self.finishes.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Requests started and neither finished nor aborted.
    pub fn in_flight(&self) -> u64 {
        self.starts.saturating_sub(self.finished().saturating_add(self.aborts))
    }
}
