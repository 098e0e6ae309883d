//! Choices that are the same on every machine. Proptest draws a `usize` with as many bits as a
//! pointer has, also for the sizes and indices of its own collections, so one seed would give
//! different plans on different machines.

use core::fmt::Debug;
use core::ops::Range;

use proptest::option;
use proptest::prelude::*;

/// One of these values, with equal chances.
pub(super) fn select<T: Clone + Debug>(values: impl Into<Vec<T>>) -> impl Strategy<Value = T> {
    let values: Vec<T> = values.into();
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    (0..count).prop_map(move |place| values[place as usize].clone())
}

/// So many values: the minimum always, and each further one with a chance of one half.
pub(super) fn vec<S: Strategy + 'static>(
    element: S,
    sizes: Range<usize>,
) -> impl Strategy<Value = Vec<S::Value>> {
    let element = element.boxed();
    let others = sizes.end.saturating_sub(sizes.start + 1);
    let first = vec![element.clone(); sizes.start];
    let others: Vec<_> = (0..others).map(|_| option::of(element.clone())).collect();
    (first, others).prop_map(|(mut all, others)| {
        all.extend(others.into_iter().flatten());
        all
    })
}
