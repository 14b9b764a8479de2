//! Activations between layers, in place, with their derivatives by the output.

use super::real::Real;

/// `y = tanh(y)`.
pub fn tanh<T: Real>(y: &mut [T]) {
    for y in y {
        *y = y.tanh_libm();
    }
}

/// Turns the gradient by tanh's output `y` into that by its input, in place.
pub fn tanh_backward<T: Real>(y: &[T], dy: &mut [T]) {
    for (dy, y) in dy.iter_mut().zip(y) {
        *dy = *dy * (T::ONE - *y * *y);
    }
}

/// `y = max(y, 0)`.
pub fn relu<T: Real>(y: &mut [T]) {
    for y in y {
        if *y < T::ZERO {
            *y = T::ZERO;
        }
    }
}

/// Turns the gradient by relu's output `y` into that by its input, in place.
pub fn relu_backward<T: Real>(y: &[T], dy: &mut [T]) {
    for (dy, y) in dy.iter_mut().zip(y) {
        if *y <= T::ZERO {
            *dy = T::ZERO;
        }
    }
}

/// Softmax in place: positive, sums to one. Entries of −∞ become 0; at least one must be finite.
pub fn softmax<T: Real>(y: &mut [T]) {
    let mut largest = y[0];
    for y in y.iter() {
        if *y > largest {
            largest = *y;
        }
    }
    let mut total = T::ZERO;
    for y in y.iter_mut() {
        *y = (*y - largest).exp_libm();
        total += *y;
    }
    for y in y {
        *y = *y / total;
    }
}

/// Turns the gradient by softmax's output `y` into that by its input, in place.
pub fn softmax_backward<T: Real>(y: &[T], dy: &mut [T]) {
    let mut mean = T::ZERO;
    for (dy, y) in dy.iter().zip(y) {
        mean += *dy * *y;
    }
    for (dy, y) in dy.iter_mut().zip(y) {
        *dy = *y * (*dy - mean);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_input_gradient, noise};
    use super::*;

    #[test]
    fn gradients_are_those_of_central_differences() {
        type Pair = (fn(&mut [f64]), fn(&[f64], &mut [f64]));
        let pairs: [Pair; 3] = [(tanh, tanh_backward), (relu, relu_backward), (softmax, softmax_backward)];
        for (forward, backward) in pairs {
            let (mut x, dy) = (noise(6, 1), noise(6, 2));
            let mut y = x.clone();
            forward(&mut y);
            let mut dx = dy.clone();
            backward(&y, &mut dx);
            check_input_gradient(&mut x, &dx, |x| {
                let mut y = x.to_vec();
                forward(&mut y);
                y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
            });
        }
    }

    #[test]
    fn softmax_leaves_out_what_is_forbidden() {
        let mut y = [1e30_f32, f32::NEG_INFINITY, 1e30];
        softmax(&mut y);
        assert_eq!(y, [0.5, 0.0, 0.5]);
    }
}
