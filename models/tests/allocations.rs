//! Forward passes must not allocate: they run per workload and bin.

use prescale_models::nn::{Dense, Gru, Lstm, Random, Tcn};

fn allocations(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).count_total
}

#[test]
fn forward_passes_do_not_allocate() {
    let random = &mut Random::new(1);
    let x = vec![0.5_f32; 12];
    let gru = Gru::<f32>::random(12, 32, random);
    let lstm = Lstm::<f32>::random(12, 32, random);
    let tcn = Tcn::<f32>::random(12, 32, random);
    let dense = Dense::<f32>::random(32, 8, random);
    let (mut state, mut scratch) = (vec![0.0; 64], vec![0.0; 192]);
    let mut history = vec![0.0; tcn.state_len()];
    let mut out = [0.0; 8];
    assert!(allocations(|| drop(std::hint::black_box(vec![1_u8; 3]))) > 0, "the counter counts");
    let count = allocations(|| {
        for _ in 0..20 {
            gru.step(&x, &mut state[..32], &mut scratch[..gru.scratch()]);
            lstm.step(&x, &mut state, &mut scratch[..lstm.scratch()]);
            tcn.step(&x, &mut history, &mut scratch[..tcn.scratch()]);
            dense.forward(&history[..32], &mut out);
        }
    });
    assert_eq!(count, 0);
    assert!(out.iter().all(|v| v.is_finite()));
}
