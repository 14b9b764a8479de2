//! Whatever bytes come: the decoders don't panic, what they read is written back the same, and the merge takes it.
//!
//! `cargo xtask fuzz --seconds 30` builds and runs it, starting from `seeds/`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prescale_core::merge::{Merge, MergeSettings};
use prescale_core::wire::{NodeReport, ReportReply, WatchList};
use prescale_core::world::{Mode, WorkloadSettings, WorkloadState};
use prescale_core::{Mono, Now, Wall};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(list) = WatchList::decode(bytes) {
        assert_eq!(WatchList::decode(&list.encode()), Ok(list));
    }
    if let Ok(reply) = ReportReply::decode(bytes) {
        assert_eq!(ReportReply::decode(&reply.encode()), Ok(reply));
    }
    if let Ok(report) = NodeReport::decode(bytes) {
        assert_eq!(NodeReport::decode(&report.encode()), Ok(report.clone()));
        merge(&report);
    }
});

/// The merge believes a report no further than it has to: no arithmetic of it may overflow.
fn merge(report: &NodeReport) {
    let settings = WorkloadSettings {
        mode: Mode::Full,
        min_replicas: 1,
        max_replicas: 9,
        rps_per_pod: None,
        slo_seconds: None,
        headroom: 0.0,
        paused: false,
    };
    let state = |id| WorkloadState {
        id,
        settings: settings.clone(),
        replicas: 1,
        resource_version: 1,
        pods: Vec::new(),
    };
    let world: Vec<_> = report.workloads.iter().map(|w| state(w.id.clone())).collect();
    let mut merge = Merge::new(MergeSettings::default());
    let mut now = Now { mono: Mono(0), wall: report.sent };
    merge.world(now, &world);
    let _ = merge.report(now, report);
    now.mono = Mono(1_500_000_000);
    now.wall = Wall(now.wall.0.saturating_add(1_500));
    let mut later = report.clone();
    later.sequence = later.sequence.wrapping_add(1);
    for pod in &mut later.pods {
        pod.read = Wall(pod.read.0.saturating_add(1_000));
        if let Some(counters) = &mut pod.counters {
            counters.read_at_ns = counters.read_at_ns.saturating_add(1_000_000_000);
            counters.starts = counters.starts.saturating_add(10);
        }
    }
    let _ = merge.report(now, &later);
    for workload in &world {
        let _ = merge.demand(now, &workload.id);
        let _ = merge.seconds(now, &workload.id);
        let _ = merge.totals(&workload.id);
    }
}
