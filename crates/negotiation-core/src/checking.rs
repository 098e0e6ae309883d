//! For checkers and simulators: rules that hold in every state, and the normal form of a session.

mod invariants;
mod normal;

pub use normal::Normalised;
