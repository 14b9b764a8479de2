//! How the optimiser and the weights' file see a network: named tensors in a fixed order.

use super::real::Real;

/// Sees one tensor: its name, its shape, its values in row-major order.
pub type Visit<'a, T> = dyn FnMut(&str, &[usize], &[T]) + 'a;

/// The same, and may change the values.
pub type VisitMut<'a, T> = dyn FnMut(&str, &[usize], &mut [T]) + 'a;

/// Everything that is trained, tensor by tensor, always in the same order.
pub trait Parameters<T: Real> {
    /// Calls `visit` with each tensor's name (below `prefix`), shape and values in row-major order.
    fn visit(&self, prefix: &str, visit: &mut Visit<'_, T>);

    /// The same, for changing the values.
    fn visit_mut(&mut self, prefix: &str, visit: &mut VisitMut<'_, T>);

    /// How many values are trained.
    fn count(&self) -> usize {
        let mut count = 0;
        self.visit("", &mut |_, _, values| count += values.len());
        count
    }

    /// Sets every value, to clear a gradient.
    fn fill(&mut self, value: T) {
        self.visit_mut("", &mut |_, _, values| values.fill(value));
    }

    /// Copies all values to `out`, one tensor behind the other; its old contents go.
    fn flatten(&self, out: &mut Vec<T>) {
        out.clear();
        self.visit("", &mut |_, _, values| out.extend_from_slice(values));
    }
}

/// Implements [`Parameters`] for a layer by its arrays' names.
macro_rules! parameters_of_arrays {
    ($layer:ident: $($field:ident),+) => {
        impl<T: $crate::nn::Real> $crate::nn::Parameters<T> for $layer<T> {
            fn visit(&self, prefix: &str, visit: &mut $crate::nn::Visit<'_, T>) {
                $(visit(
                    &format!("{prefix}{}", stringify!($field)),
                    self.$field.shape(),
                    $crate::nn::parameters::values(&self.$field),
                );)+
            }

            fn visit_mut(&mut self, prefix: &str, visit: &mut $crate::nn::VisitMut<'_, T>) {
                $({
                    let shape = self.$field.shape().to_vec();
                    let values = self.$field.as_slice_mut().expect("layers keep their arrays in standard layout");
                    visit(&format!("{prefix}{}", stringify!($field)), &shape, values);
                })+
            }
        }
    };
}
pub(crate) use parameters_of_arrays;

/// An array's values in row-major order.
pub(crate) fn values<T, D: ndarray::Dimension>(array: &ndarray::Array<T, D>) -> &[T] {
    array.as_slice().expect("layers keep their arrays in standard layout")
}

/// The same, for changing them.
pub(crate) fn values_mut<T, D: ndarray::Dimension>(array: &mut ndarray::Array<T, D>) -> &mut [T] {
    array.as_slice_mut().expect("layers keep their arrays in standard layout")
}
