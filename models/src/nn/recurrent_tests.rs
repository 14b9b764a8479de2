//! What every recurrent layer owes: gradients, sequences in parts, the states of an independent implementation.

use super::reference;
use super::testing::{check_gradient, noise};
use super::{Gru, GruTape, Lstm, LstmTape, Random};

/// The laws for a layer whose state is `$parts` vectors of its width.
macro_rules! laws {
    ($name:ident, $layer:ident, $tape:ident, $parts:literal) => {
        mod $name {
            use super::*;

            #[test]
            fn the_gradient_through_time_is_that_of_central_differences() {
                let (inputs, hidden, steps) = (3, 4, 6);
                let mut layer = $layer::<f64>::random(inputs, hidden, &mut Random::new(1));
                let mut xs = noise(inputs * steps, 2);
                let weights = noise(hidden * steps, 3);
                let start = noise($parts * hidden, 4);
                let loss = |layer: &$layer<f64>, xs: &[f64]| {
                    let (mut state, mut scratch) = (start.clone(), vec![0.0; layer.scratch()]);
                    let mut loss = 0.0;
                    for (x, weights) in xs.chunks_exact(inputs).zip(weights.chunks_exact(hidden)) {
                        layer.step(x, &mut state, &mut scratch);
                        loss += state.iter().zip(weights).map(|(h, w)| h * w).sum::<f64>();
                    }
                    loss
                };
                let mut tape = $tape::new(hidden);
                layer.start(&start, &mut tape);
                assert_eq!(layer.forward(&xs, &mut tape), steps);
                let (mut gradient, mut dxs) = ($layer::zeros(inputs, hidden), vec![0.0; xs.len()]);
                layer.backward(&xs, &mut tape, &mut weights.clone(), &mut gradient, Some(&mut dxs));
                check_gradient(&mut layer, &gradient, &mut xs, &dxs, loss);
            }

            #[test]
            fn a_sequence_in_two_parts_is_the_sequence() {
                let layer = $layer::<f32>::random(2, 5, &mut Random::new(7));
                let xs: Vec<f32> = noise(16, 8).iter().map(|x| *x as f32).collect();
                let (mut whole, mut parts) = ($tape::new(5), $tape::new(5));
                layer.forward(&xs, &mut whole);
                layer.forward(&xs[..6], &mut parts);
                layer.forward(&xs[6..], &mut parts);
                assert_eq!(whole.state(8), parts.state(5));
            }

            #[test]
            fn the_states_are_those_of_the_reference() {
                let case = reference::case(stringify!($name));
                let mut layer = $layer::<f64>::zeros(3, 4);
                reference::load(&mut layer, &case);
                let (mut state, mut scratch) =
                    (reference::values(&case, "start"), vec![0.0; layer.scratch()]);
                let xs = reference::values(&case, "xs");
                let states = reference::values(&case, "states");
                for (x, expected) in xs.chunks_exact(3).zip(states.chunks_exact($parts * 4)) {
                    layer.step(x, &mut state, &mut scratch);
                    reference::assert_near(&state, expected);
                }
            }
        }
    };
}

laws!(gru, Gru, GruTape, 1);
laws!(lstm, Lstm, LstmTape, 2);
