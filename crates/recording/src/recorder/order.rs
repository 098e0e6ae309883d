//! Converts decoding order to presentation order: assigns each picture its presentation and
//! decoding time.
//!
//! Pictures are released in decoding order, each with its presentation time and a decoding time,
//! which always rises. A stream without B-frames passes through without delay.

use std::collections::VecDeque;

use crate::picture_order::{Depth, Order};

/// The number of first pictures that are examined if the stream does not specify its reordering
/// depth.
const OBSERVED: usize = 4;
/// The maximum number of waiting pictures.
const DEPTH_MAX: usize = 16;
/// The number of recently assigned times that are remembered, so that no two pictures share one.
const RECENT: usize = 64;

/// A picture with its times, in ticks of the recording.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Timed<T> {
    pub(super) frame: T,
    pub(super) decoded: i64,
    pub(super) shown: i64,
}

/// The pictures of one track that wait for their times.
#[derive(Debug)]
pub(super) struct Presentation<T> {
    step_min: i64,
    depth: usize,
    /// Whether the first pictures are still examined for the reordering depth.
    observing: bool,
    waiting: VecDeque<Waiting<T>>,
    /// The times that are not assigned to a picture yet.
    times: Vec<i64>,
    /// The decoding times of the next pictures; `None` before the first picture was released.
    decoding: Option<VecDeque<i64>>,
    last_decoded: Option<i64>,
    last_shown: Option<(Order, i64)>,
    recent: VecDeque<i64>,
    /// The decoding order, as the position of pictures with unreadable headers.
    count: i64,
    sequence: u64,
    /// The ticks between two pictures in presentation order.
    interval: i64,
}

#[derive(Debug)]
struct Waiting<T> {
    frame: T,
    order: Order,
    shown: Option<i64>,
}

impl<T> Presentation<T> {
    /// Creates a presentation with times at least `step_min` apart.
    pub(super) fn new(step_min: i64) -> Self {
        Self {
            step_min,
            depth: 0,
            observing: false,
            waiting: VecDeque::new(),
            times: Vec::new(),
            decoding: None,
            last_decoded: None,
            last_shown: None,
            recent: VecDeque::new(),
            count: 0,
            sequence: 0,
            interval: 0,
        }
    }

    /// Whether a picture with this position is presented before one that arrived earlier.
    pub(super) fn is_reordered(&self, order: Option<Order>) -> bool {
        let Some(order) = order else { return false };
        let waiting = self.waiting.iter().map(|waiting| waiting.order);
        let shown = self.last_shown.iter().map(|(shown, _)| *shown);
        waiting.chain(shown).any(|earlier| earlier > order)
    }

    /// How far timestamps and arrival of an intact clock may differ because of the reordering, in
    /// ticks.
    pub(super) fn allowance(&self) -> i64 {
        let depth = if self.observing { OBSERVED } else { self.depth };
        i64::try_from(depth).unwrap_or(0) * self.interval
    }

    /// Adds the next picture in decoding order. If its position is unknown, it is presented after
    /// all earlier ones.
    pub(super) fn push(&mut self, frame: T, order: Option<Order>, depth: Depth, time: i64) {
        let order = order.unwrap_or(Order { sequence: self.sequence, count: self.count });
        if order.sequence != self.sequence {
            // No picture after an IDR picture is presented before it, and none before it is
            // presented after it.
            self.release_all();
            (self.sequence, self.count) = (order.sequence, order.count);
        }
        self.count = self.count.max(order.count + 1);
        match depth {
            Depth::Known(depth) => self.grow_to(depth),
            Depth::Unknown if self.decoding.is_none() && self.waiting.is_empty() => {
                self.observing = true;
            }
            Depth::Unknown => {}
        }
        let is_late = self.last_shown.is_some_and(|(shown, _)| order < shown);
        let shown = is_late.then(|| {
            // The stream reorders further than known, so the picture keeps its own time.
            self.grow_to(self.depth + 1);
            self.unique(time)
        });
        if shown.is_none() {
            self.times.push(time);
        }
        self.waiting.push_back(Waiting { frame, order, shown });
        if self.observing {
            if self.waiting.len() < OBSERVED {
                return;
            }
            self.observing = false;
            self.grow_to(self.observed_depth());
        }
        while self.times.len() > self.depth {
            self.release_one();
        }
        if self.waiting.front().is_some_and(|first| first.shown.is_none())
            && self.waiting.len() > DEPTH_MAX
        {
            // No valid stream reorders this far; its headers are wrong.
            self.release_all();
        }
    }

    /// Returns the next picture in decoding order, once its times are known.
    pub(super) fn pop(&mut self) -> Option<Timed<T>> {
        let shown = self.waiting.front()?.shown?;
        let decoded = self.decoding.as_mut()?.pop_front()?;
        let decoded = self.last_decoded.map_or(decoded, |last| decoded.max(last + self.step_min));
        self.last_decoded = Some(decoded);
        let frame = self.waiting.pop_front()?.frame;
        Some(Timed { frame, decoded, shown })
    }

    /// Assigns times to all pictures without waiting for more.
    pub(super) fn release_all(&mut self) {
        if self.observing {
            self.observing = false;
            self.grow_to(self.observed_depth());
        }
        while !self.times.is_empty() {
            self.release_one();
        }
    }

    /// Returns how many pictures at most preceded one that is presented before them.
    fn observed_depth(&self) -> usize {
        let orders: Vec<Order> = self.waiting.iter().map(|waiting| waiting.order).collect();
        (0..orders.len())
            .map(|index| orders[..index].iter().filter(|earlier| **earlier > orders[index]).count())
            .max()
            .unwrap_or(0)
    }

    fn grow_to(&mut self, depth: usize) {
        let depth = depth.min(DEPTH_MAX);
        while self.depth < depth {
            self.depth += 1;
            if let Some(decoding) = &mut self.decoding {
                // The greater depth needs one more decoding time, a picture earlier.
                let before = decoding.front().copied().or(self.last_decoded).unwrap_or(0);
                decoding.push_front(before - self.interval.min(before.abs()));
            }
        }
    }

    /// Assigns the earliest time to the picture that is presented first.
    fn release_one(&mut self) {
        let Some(earliest) = (0..self.times.len()).min_by_key(|&index| self.times[index]) else {
            return;
        };
        if self.decoding.is_none() {
            let latest = self.times.iter().max().copied().unwrap_or(0);
            let count = i64::try_from(self.times.len() - 1).unwrap_or(0);
            if count > 0 {
                self.interval = (latest - self.times[earliest]) / count;
            }
            // The first pictures are decoded before the first one is presented.
            let interval = self.interval.max(self.step_min);
            let depth = i64::try_from(self.depth).unwrap_or(0);
            let begin = self.times[earliest];
            self.decoding = Some((1..=depth).map(|index| begin - index * interval).rev().collect());
        }
        let time = self.times.swap_remove(earliest);
        let next = self.waiting.iter_mut().filter(|waiting| waiting.shown.is_none());
        let Some(next) = next.min_by_key(|waiting| waiting.order) else { return };
        let before = self.last_shown.map(|(_, shown)| shown);
        let time = before.map_or(time, |before| time.max(before + self.step_min));
        next.shown = Some(time);
        let order = next.order;
        if let Some(before) = before {
            let step = time - before;
            self.interval = if self.interval == 0 { step } else { (self.interval * 3 + step) / 4 };
        }
        self.last_shown = Some((order, time));
        self.remember(time);
        if let Some(decoding) = &mut self.decoding {
            decoding.push_back(time);
        }
    }

    /// Returns the time, or the latest earlier one that no picture has yet.
    fn unique(&mut self, time: i64) -> i64 {
        let latest = self.last_shown.map_or(time, |(_, shown)| shown - self.step_min);
        let mut time = time.min(latest);
        while let Some(taken) =
            self.recent.iter().find(|taken| (time - **taken).abs() < self.step_min)
        {
            time = taken - self.step_min;
        }
        self.remember(time);
        if let Some(decoding) = &mut self.decoding {
            // The decoding times are the presentation times, sorted.
            let at = decoding.iter().position(|decoded| *decoded > time).unwrap_or(decoding.len());
            decoding.insert(at, time);
        }
        time
    }

    fn remember(&mut self, time: i64) {
        self.recent.push_back(time);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEP: i64 = 90;

    /// Pushes pictures with these presentation positions, each at its own time; returns the
    /// released pictures.
    fn run(orders: &[i64], depth: Depth, time: impl Fn(usize, i64) -> i64) -> Vec<Timed<i64>> {
        let mut presentation = Presentation::new(STEP);
        let mut out = Vec::new();
        for (index, &count) in orders.iter().enumerate() {
            let order = Order { sequence: 1, count };
            presentation.push(count, Some(order), depth, time(index, count));
            out.extend(std::iter::from_fn(|| presentation.pop()));
        }
        presentation.release_all();
        out.extend(std::iter::from_fn(|| presentation.pop()));
        assert!(presentation.waiting.is_empty());
        out
    }

    fn check(out: &[Timed<i64>], orders: &[i64]) {
        assert_eq!(out.iter().map(|timed| timed.frame).collect::<Vec<_>>(), orders);
        for pair in out.windows(2) {
            assert!(pair[1].decoded >= pair[0].decoded + STEP, "{pair:?}");
        }
        let mut shown: Vec<(i64, i64)> =
            out.iter().map(|timed| (timed.frame, timed.shown)).collect();
        shown.sort_unstable();
        for pair in shown.windows(2) {
            assert!(pair[1].1 >= pair[0].1 + STEP, "{pair:?}");
        }
    }

    /// I P B B P B B, in decoding order.
    fn two_b_frames(count: i64) -> Vec<i64> {
        let mut orders = vec![0];
        for group in 0..count {
            orders.extend([group * 3 + 3, group * 3 + 1, group * 3 + 2]);
        }
        orders
    }

    #[test]
    fn pictures_without_b_frames_are_released_at_once() {
        let mut presentation = Presentation::new(STEP);
        for count in 0..10 {
            let order = Order { sequence: 1, count: count * 2 };
            presentation.push(count, Some(order), Depth::Known(0), count * 6000);
            let timed = presentation.pop().unwrap();
            assert_eq!(
                (timed.frame, timed.decoded, timed.shown),
                (count, count * 6000, count * 6000)
            );
        }
    }

    #[test]
    fn b_frames_keep_presentation_times() {
        let orders = two_b_frames(20);
        for depth in [Depth::Known(1), Depth::Known(2), Depth::Unknown, Depth::Known(0)] {
            let out = run(&orders, depth, |_, count| count * 6000);
            check(&out, &orders);
            for timed in &out {
                assert_eq!(timed.shown, timed.frame * 6000, "{depth:?}");
                let late = timed.decoded > timed.shown;
                assert!(!late || depth == Depth::Known(0), "{depth:?} {timed:?}");
            }
        }
    }

    #[test]
    fn decoding_order_timestamps_are_sorted_for_presentation() {
        let orders = two_b_frames(20);
        let out = run(&orders, Depth::Known(2), |index, _| i64::try_from(index).unwrap() * 6000);
        check(&out, &orders);
        for timed in &out {
            assert_eq!(timed.shown, timed.frame * 6000);
        }
    }

    #[test]
    fn idr_picture_releases_earlier_pictures() {
        let mut presentation = Presentation::new(STEP);
        for (index, (sequence, count)) in
            [(1, 0), (1, 3), (1, 1), (1, 2), (2, 0)].into_iter().enumerate()
        {
            let order = Order { sequence, count };
            let time = i64::try_from(index).unwrap() * 3000;
            presentation.push(index, Some(order), Depth::Known(4), time);
        }
        let out: Vec<usize> = std::iter::from_fn(|| presentation.pop()).map(|t| t.frame).collect();
        assert_eq!(out, [0, 1, 2, 3]);
    }

    proptest! {
        /// Each picture is released once, in decoding order, with a rising decoding time and a
        /// unique presentation time, for any headers and any clock.
        #[test]
        fn each_picture_is_released_once_with_unique_time(
            pictures in proptest::collection::vec(
                (prop_oneof![9 => Just(0u64), 1 => Just(1)], 0i64..20, 0i64..200_000, any::<bool>()),
                1..60,
            ),
            depth in prop_oneof![(0usize..5).prop_map(Depth::Known), Just(Depth::Unknown)],
        ) {
            let mut presentation = Presentation::new(STEP);
            let (mut sequence, mut out) = (0, Vec::new());
            for (index, &(step, count, time, known)) in pictures.iter().enumerate() {
                sequence += step;
                let order = known.then_some(Order { sequence, count });
                presentation.push(index, order, depth, time);
                out.extend(std::iter::from_fn(|| presentation.pop()));
                prop_assert!(presentation.waiting.len() <= DEPTH_MAX + 2);
            }
            presentation.release_all();
            out.extend(std::iter::from_fn(|| presentation.pop()));
            prop_assert_eq!(out.len(), pictures.len());
            for (index, timed) in out.iter().enumerate() {
                prop_assert_eq!(timed.frame, index);
            }
            for pair in out.windows(2) {
                prop_assert!(pair[1].decoded >= pair[0].decoded + STEP);
            }
            let mut shown: Vec<i64> = out.iter().map(|timed| timed.shown).collect();
            shown.sort_unstable();
            for pair in shown.windows(2) {
                prop_assert!(pair[1] > pair[0]);
            }
        }
    }
}
