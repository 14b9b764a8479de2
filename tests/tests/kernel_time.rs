//! Times: queue wait is part of a request's latency, and the number in flight is right at every moment.

use std::net::SocketAddr;
use std::time::Instant;

use prescale_agent_ebpf::histogram::lower_bound_ns;
use prescale_core::counters::Counters;
use prescale_tests::kernel::client::{Raw, load};
use prescale_tests::kernel::pod::{self, Pod, read_until};

/// The mean of a histogram in seconds, with the middle of each bucket: good to half a bucket, 6 %.
fn mean_seconds(counters: &Counters) -> f64 {
    let mut sum = 0.0;
    for histogram in &counters.last_byte {
        for (bucket, &count) in histogram.0.iter().enumerate() {
            sum += count as f64 * (lower_bound_ns(bucket) + lower_bound_ns(bucket + 1)) as f64 / 2e9;
        }
    }
    sum / counters.finished() as f64
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn the_wait_in_the_queue_of_a_saturated_server_is_seen() {
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    // One thread, 20 ms a request, eight clients without a pause: seven always wait, in the sockets, not in the
    // server. The work is long so that the client's own wait for a CPU, which is no server's, stays under the 2 %.
    let port = pod.serve(None, "127.0.0.1", &["--single", "--work-us", "20000"]);
    let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
    let before = kernel.read(slot).expect("attached");
    let seen = load(SocketAddr::from(([127, 0, 0, 1], port)), 8, 320, &["/200/100/length"], true);
    let after = read_until(&mut kernel, slot, |counters| counters.finished() == 320);
    let client = seen.mean_seconds();
    let integral = (after.in_flight_integral_ns - before.in_flight_integral_ns) as f64 / 1e9;
    let from_integral = integral / after.finished() as f64;
    let from_histogram = mean_seconds(&after);
    println!("mean: client {client:.5} s, integral {from_integral:.5} s, histogram {from_histogram:.5} s");
    assert!(client > 0.120, "the server was not saturated: {client} s");
    assert!((from_integral / client - 1.0).abs() < 0.02, "client {client} s, kernel {from_integral} s");
    assert!((from_histogram / client - 1.0).abs() < 0.08, "client {client} s, histogram {from_histogram} s");
}

#[test]
#[ignore = "needs root and a kernel with cgroup2; `cargo xtask test` runs it"]
fn what_is_in_flight_shows_at_every_moment() {
    let mut kernel = pod::load();
    let mut pod = Pod::new();
    let port = pod.serve(None, "127.0.0.1", &[]);
    let slot = kernel.attach(pod.directory(), &[port], &[]).expect("the pod can be measured");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut hanging: Vec<Raw> = (0..7).map(|_| Raw::connect(address)).collect();
    for connection in &mut hanging {
        connection.write(b"GET /200/0/hang HTTP/1.1\r\n\r\n");
    }
    let from = read_until(&mut kernel, slot, |counters| counters.in_flight() == 7);
    // Others come and go meanwhile, one pipelined, one answered before its body is there.
    let begin = Instant::now();
    let mut early = Raw::connect(address);
    early.write(b"GET /200/9/length HTTP/1.1\r\n\r\nGET /200/9/length HTTP/1.1\r\n\r\n");
    assert_eq!((early.response(), early.response()), (200, 200));
    let others = 2 * begin.elapsed();
    let to = read_until(&mut kernel, slot, |counters| counters.read_at_ns > from.read_at_ns + 300_000_000);
    let integral = to.in_flight_integral_ns - from.in_flight_integral_ns;
    let held = 7 * (to.read_at_ns - from.read_at_ns);
    assert!(
        integral > held && integral < held + others.as_nanos() as u64,
        "{integral} of {held} + {others:?}"
    );
    drop(hanging);
    let ended = read_until(&mut kernel, slot, |counters| counters.in_flight() == 0);
    let still =
        read_until(&mut kernel, slot, |counters| counters.read_at_ns > ended.read_at_ns + 100_000_000);
    assert_eq!(still.in_flight_integral_ns, ended.in_flight_integral_ns);
    assert_eq!((still.aborts, still.finished()), (7, 2));
}
