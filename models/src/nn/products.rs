//! The products that all layers are made of, with a stated order of summation.
//!
//! A weight matrix is stored input-major: row `i` holds what input `i` adds to each output. Then the forward product
//! and the weights' gradient run along rows without a reduction, and only the inputs' gradient needs a dot product.
//! Rust never reorders float sums or fuses multiply and add by itself, so these loops give the same bytes everywhere.

use super::real::Real;

/// Lanes of the dot product: a multiple of every vector width in question, so that it is worth vectorising.
const LANES: usize = 8;

/// `y += xᵀ W`, with `x.len()` rows of `y.len()` columns.
///
/// # Panics
/// If the lengths don't fit together.
pub fn add_product<T: Real>(weights: &[T], x: &[T], y: &mut [T]) {
    let width = y.len();
    assert_eq!(weights.len(), x.len() * width, "a weight matrix of the wrong shape");
    if width == 0 {
        return;
    }
    // Four rows at a time, so that each output is loaded and stored once for four products.
    let mut rows = weights.chunks_exact(4 * width);
    let mut xs = x.chunks_exact(4);
    for (block, x) in (&mut rows).zip(&mut xs) {
        let (a, rest) = block.split_at(width);
        let (b, rest) = rest.split_at(width);
        let (c, d) = rest.split_at(width);
        for ((((y, a), b), c), d) in y.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *y += (x[0] * *a + x[1] * *b) + (x[2] * *c + x[3] * *d);
        }
    }
    for (row, x) in rows.remainder().chunks_exact(width).zip(xs.remainder()) {
        for (y, w) in y.iter_mut().zip(row) {
            *y += *x * *w;
        }
    }
}

/// `dx += W dy`: the inputs' gradient of [`add_product`].
///
/// # Panics
/// If the lengths don't fit together.
pub fn add_transposed<T: Real>(weights: &[T], dy: &[T], dx: &mut [T]) {
    assert_eq!(weights.len(), dx.len() * dy.len(), "a weight matrix of the wrong shape");
    if dy.is_empty() {
        return;
    }
    for (dx, row) in dx.iter_mut().zip(weights.chunks_exact(dy.len())) {
        *dx += dot(row, dy);
    }
}

/// `dW += x ⊗ dy`: the weights' gradient of [`add_product`].
///
/// # Panics
/// If the lengths don't fit together.
pub fn add_outer<T: Real>(x: &[T], dy: &[T], gradient: &mut [T]) {
    assert_eq!(gradient.len(), x.len() * dy.len(), "a gradient of the wrong shape");
    if dy.is_empty() {
        return;
    }
    for (x, row) in x.iter().zip(gradient.chunks_exact_mut(dy.len())) {
        for (g, dy) in row.iter_mut().zip(dy) {
            *g += *x * *dy;
        }
    }
}

/// `y += x`.
pub fn add<T: Real>(x: &[T], y: &mut [T]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += *x;
    }
}

/// The dot product: eight running sums, then added pairwise, then the rest.
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::ZERO; LANES];
    let (mut a, mut b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in (&mut a).zip(&mut b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += *a * *b;
        }
    }
    let mut total = ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
    for (a, b) in a.remainder().iter().zip(b.remainder()) {
        total += *a * *b;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same products, element by element.
    #[test]
    fn the_products_are_those_of_the_definition() {
        for (rows, width) in [(1, 1), (3, 5), (4, 8), (9, 17), (12, 3)] {
            let w: Vec<f64> = (0..rows * width).map(|i| ((i * 7 + 3) % 11) as f64 - 5.0).collect();
            let x: Vec<f64> = (0..rows).map(|i| (i as f64) - 1.5).collect();
            let dy: Vec<f64> = (0..width).map(|i| 2.0 - (i as f64) * 0.5).collect();
            let (mut y, mut dx, mut dw) = (vec![1.0; width], vec![2.0; rows], vec![3.0; rows * width]);
            add_product(&w, &x, &mut y);
            add_transposed(&w, &dy, &mut dx);
            add_outer(&x, &dy, &mut dw);
            for (o, y) in y.iter().enumerate() {
                let sum: f64 = (0..rows).map(|i| x[i] * w[i * width + o]).sum();
                assert!((y - 1.0 - sum).abs() < 1e-12, "{rows}x{width} output {o}");
            }
            for (i, dx) in dx.iter().enumerate() {
                let sum: f64 = (0..width).map(|o| dy[o] * w[i * width + o]).sum();
                assert!((dx - 2.0 - sum).abs() < 1e-12, "{rows}x{width} input {i}");
            }
            for (j, dw) in dw.iter().enumerate() {
                assert!((dw - 3.0 - x[j / width] * dy[j % width]).abs() < 1e-12, "{rows}x{width} weight {j}");
            }
        }
    }
}
