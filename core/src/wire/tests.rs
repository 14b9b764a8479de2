//! The wire's promises: what was written is read, what is not a message is an error, neighbours understand each other.

use prescale_agent_ebpf::histogram::BUCKETS;
use prescale_models::{Forecast, Grid, Quantiles, Target};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::counters::{CLASSES, REASONS};

fn counters(seed: u64) -> Counters {
    let mut c = Counters {
        read_at_ns: 86_400_000_000_000 + seed,
        starts: 4_000_000 + seed,
        aborts: 12,
        in_flight_integral_ns: 40_000_000_000_000,
        bytes_received: 900_000_000,
        bytes_unread: 90_000,
        probe_starts: 8_640,
        probe_finishes: 8_639,
        bytes_sent: 12_000_000_000,
        connections_opened: 50_000,
        connections_closed: 49_900,
        retransmits: 321,
        ..Counters::default()
    };
    c.finishes[2] = 3_900_000;
    c.finishes[4] = 90_000;
    c.finishes[5] = 900;
    c.unaccounted[0] = 4;
    // A service between 2 and 60 ms with a tail to 2 s: 44 buckets of successes, 20 of client errors, 6 of errors.
    for bucket in 88..132 {
        c.last_byte[2].0[bucket] = 4_000_000 / (1 + (bucket as u64).abs_diff(98).pow(2));
        c.first_byte.0[bucket] = c.last_byte[2].0[bucket];
    }
    for bucket in 80..100 {
        c.last_byte[4].0[bucket] = 4_500;
    }
    for bucket in 120..126 {
        c.last_byte[5].0[bucket] = 150;
    }
    c
}

fn forecast() -> LocalForecast {
    let point = |steps| (Target::At { steps }, Quantiles::new([80.5, 100.0, 120.0, 131.0, 150.0]).unwrap());
    let mut points: Vec<_> = [1, 2, 3, 6, 12, 24].map(point).to_vec();
    points.push((Target::MaxOver { steps: 24 }, Quantiles::new([100.0; 5]).unwrap()));
    let forecast = Forecast { origin: 340_000_000, grid: Grid { step_seconds: 5 }, points };
    LocalForecast { pods: 3, forecast }
}

/// A busy node: `pods` pods, three to a workload.
fn report(pods: usize) -> NodeReport {
    let workload = |i: usize| NodeWorkload {
        id: WorkloadId { namespace: "shop-production".into(), name: format!("checkout-service-{i}") },
        forecast: Some(forecast()),
        burst: (i == 0).then_some(Burst { since: Wall(1_700_000_000_123), rate: 310.5, baseline: 100.25 }),
    };
    let pod = |i: usize| PodReport {
        uid: format!("{i:08x}-7c1e-4f0a-9d3e-0123456789ab"),
        workload: i / 3,
        attach_generation: i as u32 + 1,
        state: PodState::Measured,
        read: Wall(1_700_000_000_950),
        counters: Some(counters(i as u64)),
        resources: Resources {
            cpu_ns: 86_000_000_000_000,
            throttled_ns: 7,
            memory_bytes: 300 << 20,
            pressure: Some(Pressure { cpu_ns: 1, memory_ns: 2, io_ns: 3 }),
        },
        censored: i.is_multiple_of(7).then_some(Censored::Backlog),
        last: i % 50 == 49,
    };
    NodeReport {
        version: VERSION,
        node: "ip-10-0-3-17.eu-central-1.compute.internal".into(),
        boot_id: "d4f1c0de-7c1e-4f0a-9d3e-0123456789ab".into(),
        agent_start: Wall(1_699_990_000_000),
        sequence: 86_400,
        sent: Wall(1_700_000_001_000),
        workloads: (0..pods.div_ceil(3)).map(workload).collect(),
        pods: (0..pods).map(pod).collect(),
        agent: AgentHealth {
            attached: 110,
            attach_failures: 1,
            refused_samples: 2,
            cpu_ns: 3,
            memory_bytes: 4,
        },
    }
}

fn watch_list() -> WatchList {
    let pod = |i: u16| WatchedPod {
        uid: format!("uid-{i}"),
        name: format!("web-{i}"),
        workload: WorkloadId { namespace: "shop".into(), name: "web".into() },
        ports: vec![8080 + i, u16::MAX],
        probes: vec!["GET /healthz".into()],
    };
    WatchList { version: VERSION, revision: 77, pods: (0..3).map(pod).collect() }
}

fn reply() -> ReportReply {
    ReportReply { readable: READABLE, accepted: Some(9), push_to: vec!["prescale-0.prescale:8700".into()] }
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(NodeReport::decode(&report(110).encode()), Ok(report(110)));
    assert_eq!(WatchList::decode(&watch_list().encode()), Ok(watch_list()));
    assert_eq!(ReportReply::decode(&reply().encode()), Ok(reply()));
    for number in 0..8 {
        let state = match number {
            0 => PodState::Waiting,
            1 => PodState::Measured,
            2 => PodState::NotMeasurable(NotMeasurable::CgroupTaken),
            3 => PodState::NotMeasurable(NotMeasurable::NoPermission),
            4 => PodState::NotMeasurable(NotMeasurable::NoSlot),
            5 => PodState::NotMeasurable(NotMeasurable::Vanished),
            6 => PodState::NotMeasurable(NotMeasurable::Unsupported),
            _ => PodState::NotMeasurable(NotMeasurable::KernelRefused),
        };
        let mut one = report(1);
        one.pods[0].state = state;
        one.pods[0].censored = Some(Censored::Throttled);
        assert_eq!(NodeReport::decode(&one.encode()), Ok(one));
    }
}

#[test]
fn a_full_node_s_report_stays_small() {
    let bytes = report(110).encode().len();
    println!("110 busy pods in 37 workloads: {bytes} bytes, {} a pod", bytes / 110);
    assert!((40_000..90_000).contains(&bytes), "{bytes}");
    // The worst that the kernel can count: every bucket of every class in use, every counter large.
    let mut worst = report(250);
    for pod in &mut worst.pods {
        let c = pod.counters.as_mut().unwrap();
        for histogram in c.last_byte.iter_mut().take(2).chain([&mut c.first_byte]) {
            histogram.0.fill(1 << 34);
        }
    }
    let bytes = worst.encode().len();
    println!("250 pods with three full histograms each: {bytes} bytes");
    assert!(bytes < MAX_BODY_BYTES / 3, "{bytes}");
}

/// One unknown field of every wire type, numbers that no message uses.
const UNKNOWN: &[u8] = &[
    0xa0, 0x3e, 0x96, 0x01, // 1000: varint 150
    0xaa, 0x3e, 0x03, b'n', b'e', b'w', // 1001: three bytes
    0xb5, 0x3e, 1, 2, 3, 4, // 1002: fixed 32
    0xb9, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8, // 1003: fixed 64
];

#[test]
fn a_later_version_s_fields_are_skipped() {
    let mut bytes = report(3).encode();
    bytes.extend_from_slice(UNKNOWN);
    assert_eq!(NodeReport::decode(&bytes), Ok(report(3)));
    // Inside a pod, too: re-frame the message with the unknown fields appended to its counters' pod.
    let mut pod = message::PodReport::from(&report(1).pods[0]).encode_to_vec();
    pod.extend_from_slice(UNKNOWN);
    let mut whole = message::NodeReport::from(&report(1));
    whole.pods.clear();
    let mut bytes = whole.encode_to_vec();
    bytes.push(0x42); // field 8, length-delimited
    prost::encoding::encode_varint(pod.len() as u64, &mut bytes);
    bytes.extend_from_slice(&pod);
    assert_eq!(NodeReport::decode(&bytes), Ok(report(1)));
}

#[test]
fn a_later_version_s_classes_and_reasons_are_not_lost() {
    let mut newer = message::NodeReport::from(&report(1));
    newer.version = VERSION + 1;
    let c = newer.pods[0].counters.as_mut().unwrap();
    c.finishes = vec![1; CLASSES + 2];
    c.unaccounted = vec![1; REASONS + 3];
    newer.pods[0].state = 99;
    newer.pods[0].censored = 99;
    let read = NodeReport::decode(&newer.encode_to_vec()).unwrap();
    let c = read.pods[0].counters.as_ref().unwrap();
    assert_eq!(c.finished(), CLASSES as u64 + 2);
    assert_eq!(c.finishes[0], 3);
    assert_eq!(c.unaccounted.iter().sum::<u64>(), REASONS as u64 + 3);
    assert_eq!(read.pods[0].state, PodState::NotMeasurable(NotMeasurable::KernelRefused));
    assert_eq!(read.pods[0].censored, Some(Censored::Backlog));
}

#[test]
fn an_earlier_version_s_missing_fields_take_their_defaults() {
    let full = message::NodeReport::from(&report(1));
    let pod = message::PodReport { uid: "u".into(), ..Default::default() };
    let bare = message::NodeReport { pods: vec![pod], agent: None, ..full };
    let read = NodeReport::decode(&bare.encode_to_vec()).unwrap();
    assert_eq!(read.agent, AgentHealth::default());
    assert_eq!(read.pods[0].counters, None);
    assert_eq!(read.pods[0].state, PodState::Waiting);
    assert_eq!(read.pods[0].resources, Resources::default());
}

#[test]
fn versions_beyond_the_neighbours_are_refused_by_number() {
    for got in [0, READABLE.1 + 1, u32::MAX] {
        let refused = WireError::Version { got, readable: READABLE };
        let report = NodeReport { version: got, ..report(1) };
        assert_eq!(NodeReport::decode(&report.encode()).as_ref(), Err(&refused));
        let list = WatchList { version: got, ..watch_list() };
        assert_eq!(WatchList::decode(&list.encode()).as_ref(), Err(&refused));
    }
    for version in READABLE.0..=READABLE.1 {
        assert!(NodeReport::decode(&NodeReport { version, ..report(1) }.encode()).is_ok());
    }
}

#[test]
fn every_limit_holds() {
    let broken = |change: fn(&mut message::NodeReport)| {
        let mut m = message::NodeReport::from(&report(4));
        change(&mut m);
        NodeReport::decode(&m.encode_to_vec()).expect_err("a limit").to_string()
    };
    type Case = (&'static str, fn(&mut message::NodeReport));
    let cases: [Case; 18] = [
        ("node is no name", |m| m.node.clear()),
        ("node is no name", |m| m.node = "a b".into()),
        ("node: 254 is over", |m| m.node = "a".repeat(254)),
        ("boot id: 65 is over", |m| m.boot_id = "a".repeat(65)),
        ("pod uid is no name", |m| m.pods[0].uid = "a\"b".into()),
        ("workload is no name", |m| m.workloads[0].name = "ü".into()),
        ("sent time is out", |m| m.sent_ms = i64::MAX),
        ("pods: 513 is over", |m| m.pods = vec![m.pods[0].clone(); 513]),
        ("pod twice", |m| m.pods[1] = m.pods[0].clone()),
        ("workload twice", |m| m.workloads[1] = m.workloads[0].clone()),
        ("workload of a pod is out", |m| m.pods[0].workload = 99),
        ("burst rate is out", |m| m.workloads[0].burst.as_mut().unwrap().rate = f64::NAN),
        ("forecast step is out", |m| m.workloads[0].forecast.as_mut().unwrap().step_seconds = 7),
        ("forecast points: 33 is over", |m| {
            let f = m.workloads[0].forecast.as_mut().unwrap();
            f.points = vec![f.points[0].clone(); 33];
        }),
        ("forecast point is out", |m| m.workloads[0].forecast.as_mut().unwrap().points[0].values.clear()),
        ("buckets: 217 is over", |m| {
            let h = m.pods[0].counters.as_mut().unwrap().first_byte.as_mut().unwrap();
            (h.steps, h.counts) = (vec![1; BUCKETS + 1], vec![1; BUCKETS + 1]);
        }),
        ("latency histogram is out", |m| {
            let h = m.pods[0].counters.as_mut().unwrap().first_byte.as_mut().unwrap();
            h.steps[0] = BUCKETS as u32;
        }),
        ("counters is out", |m| m.pods[0].counters.as_mut().unwrap().finishes = vec![u64::MAX; 2]),
    ];
    for (expected, change) in cases {
        let said = broken(change);
        assert!(said.starts_with(expected), "{said:?} instead of {expected:?}");
    }
    let large = vec![0u8; MAX_BODY_BYTES + 1];
    assert!(matches!(NodeReport::decode(&large), Err(WireError::TooMany { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = (NodeReport::decode(&bytes), WatchList::decode(&bytes), ReportReply::decode(&bytes));
    }

    /// Bytes that are almost a message reach further in than noise does; what is read is written the same again.
    #[test]
    fn damaged_messages_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        for original in [report(2).encode(), watch_list().encode(), reply().encode()] {
            let mut bytes = original;
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.truncate(cut.index(bytes.len() * 4));
            if let Ok(read) = NodeReport::decode(&bytes) {
                prop_assert_eq!(NodeReport::decode(&read.encode()), Ok(read));
            }
            if let Ok(read) = WatchList::decode(&bytes) {
                prop_assert_eq!(WatchList::decode(&read.encode()), Ok(read));
            }
            let _ = ReportReply::decode(&bytes);
        }
    }
}

/// The fuzzer's seeds are messages of this version, so that it starts deep inside the decoder.
#[test]
fn the_fuzzer_s_seeds_are_readable() {
    assert_eq!(NodeReport::decode(include_bytes!("../../fuzz/seeds/report")), Ok(report(2)));
    assert_eq!(WatchList::decode(include_bytes!("../../fuzz/seeds/watch-list")), Ok(watch_list()));
    assert_eq!(ReportReply::decode(include_bytes!("../../fuzz/seeds/reply")), Ok(reply()));
}
