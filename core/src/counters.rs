//! Everything a pod's kernel counters say, summed over CPUs: cumulative since its attach.

use prescale_agent_ebpf::histogram::BUCKETS;

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
    /// The packet had no socket, or one that is not TCP.
    NoSocket,
    /// More requests were pipelined than the queue holds.
    PipelineOverflow,
    /// The message could not be followed (upgrade, malformed head, head over the limit).
    Unparsed,
}

/// Length of the array of [`Unaccounted`] reasons; room for more.
pub const REASONS: usize = 16;

/// A latency histogram over [`prescale_agent_ebpf::histogram`]'s buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram(pub Box<[u64; BUCKETS]>);

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
    /// Integral over time of the number of requests in flight, nanoseconds.
    pub in_flight_integral_ns: u64,
    /// Payload bytes received and sent.
    pub bytes_received: u64,
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
        self.finishes.iter().sum()
    }

    /// Requests started and neither finished nor aborted.
    pub fn in_flight(&self) -> u64 {
        self.starts.saturating_sub(self.finished() + self.aborts)
    }
}
