//! Choices that are the same on every machine. Proptest draws a `usize` from as many bits as a
//! pointer has, and with it the sizes and places of its own collections: on another machine one
//! seed would mean another plan.

use core::fmt::Debug;
use core::ops::Range;

use proptest::option;
use proptest::prelude::*;

/// One of these, each as likely.
pub(super) fn select<T: Clone + Debug>(values: impl Into<Vec<T>>) -> impl Strategy<Value = T> {
    let values: Vec<T> = values.into();
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    (0..count).prop_map(move |place| values[place as usize].clone())
}

/// So many of them: the first few always, each of the others as likely as not.
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
