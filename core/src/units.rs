//! Units that cross module edges. Constructors refuse NaN, infinities and negatives.

use thiserror::Error;

/// The value can't be a quantity of this unit.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("{0} is not a finite number of at least 0")]
pub struct BadQuantity(pub f64);

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
        pub struct $name(f64);

        impl $name {
            /// None of it.
            pub const ZERO: Self = Self(0.0);

            /// # Errors
            /// [`BadQuantity`] for NaN, infinities and negatives.
            pub fn new(value: f64) -> Result<Self, BadQuantity> {
                if value.is_finite() && value >= 0.0 { Ok(Self(value)) } else { Err(BadQuantity(value)) }
            }

            /// The bare number.
            pub fn get(self) -> f64 {
                self.0
            }
        }
    };
}

quantity!(
    /// Requests per second of the kernel's clock.
    RequestsPerSecond
);
quantity!(
    /// Requests in flight, averaged over a time.
    Concurrency
);
quantity!(
    /// A length of time in seconds of the caller's clock.
    Seconds
);

/// A number of pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replicas(pub u32);
