//! Prophet and an LSTM: the curve knows the day and the week, the network what has happened since.
//!
//! Zhang: *Time series forecasting using a hybrid ARIMA and neural network model*, Neurocomputing 50 (2003), is where the
//! scheme is from (a network on the residuals of a statistical model); with Prophet and LSTM it is common in load forecasting.
//! A [`Frame`] keeps the residuals of Prophet's curve and their levels, [`Network`] turns them into the residual ahead, and
//! [`ProphetLstm`] is the sum. One network for all workloads, trained by [`training`].

mod expert;
mod frame;
mod network;
pub mod training;

pub use expert::ProphetLstm;
pub use frame::{CANDIDATES, Frame, INPUTS, View};
pub use network::{HIDDEN, Network, shipped};
