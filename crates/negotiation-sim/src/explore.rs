//! Explores every interleaving within bounds: the real core against an adversarial network, master
//! and clock, breadth first, until no unexplored state is left. Nothing is sampled.
//!
//! A state is a session in its normal form and a small model of its surroundings. Each state is
//! checked when it is reached. Liveness is checked over the whole graph at the end: from every
//! state the steps without a fault lead to a live session or to the end of the session.

mod bounds;
mod effects;
mod hash;
mod moves;
mod normal;
mod ports;
mod state;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasherDefault;

pub use bounds::{Bounds, Trouble};
use hash::{Key, PassThrough, key};
use moves::Move;
use state::State;

/// The result of an exploration.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Number of different states.
    pub states: usize,
    /// Number of steps between states.
    pub transitions: u64,
    /// Steps from the start to the farthest state.
    pub depth: u32,
    /// The most steps without a fault from any state until the session rests, live or ended.
    pub rest_after: u32,
    /// States in which the session is live and nothing is pending.
    pub live: usize,
    /// States in which the session has ended.
    pub ended: usize,
    /// States left to explore; 0 unless [`Bounds::states_max`] was reached.
    pub left: usize,
    /// Broken rules, each with the steps that lead to it.
    pub violations: Vec<String>,
}

/// There is no step without a fault: the session rests.
const RESTS: u32 = u32::MAX;

/// The step without a fault is not known yet.
const UNKNOWN: u32 = u32::MAX - 1;

/// The exploration stops after this many broken rules.
const VIOLATIONS_MAX: usize = 5;

/// The record that remains of a state after it was explored.
struct Known {
    from: u32,
    step: Move,
    fair: u32,
}

/// Explores every interleaving within `bounds`.
pub fn explore(bounds: &Bounds) -> Explored {
    let mut walk = Walk::default();
    for state in State::beginnings(bounds) {
        match state {
            Ok(state) => {
                walk.reach(bounds, state, 0, Move::Open);
            }
            Err(what) => walk.found.violations.push(what),
        }
    }
    let mut layer = std::mem::take(&mut walk.next);
    while !layer.is_empty() && walk.found.violations.len() < VIOLATIONS_MAX {
        if walk.found.states > bounds.states_max {
            walk.found.left = layer.len();
            return walk.found;
        }
        for (number, state) in layer {
            walk.visit(bounds, number, &state);
        }
        layer = std::mem::take(&mut walk.next);
        walk.found.depth += u32::from(!layer.is_empty());
    }
    if walk.found.violations.is_empty() {
        walk.check_liveness();
    }
    walk.found
}

#[derive(Default)]
struct Walk {
    numbers: HashMap<Key, u32, BuildHasherDefault<PassThrough>>,
    known: Vec<Known>,
    next: Vec<(u32, State)>,
    found: Explored,
}

impl Walk {
    /// Returns the number of a state. A new state is checked, and queued to be explored.
    fn reach(&mut self, bounds: &Bounds, state: State, from: u32, step: Move) -> u32 {
        let new = u32::try_from(self.known.len()).unwrap_or(UNKNOWN);
        let number = *self.numbers.entry(key(&state)).or_insert(new);
        if number != new {
            return number;
        }
        self.known.push(Known { from, step, fair: UNKNOWN });
        self.found.states += 1;
        if let Err(what) = state.check(bounds) {
            self.report(&what, number);
        }
        self.next.push((number, state));
        number
    }

    fn visit(&mut self, bounds: &Bounds, number: u32, state: &State) {
        let fair = state.fair_move();
        if fair.is_none() {
            self.known[number as usize].fair = RESTS;
            let ended = state.has_ended();
            self.found.ended += usize::from(ended);
            self.found.live += usize::from(!ended);
        }
        for step in state.moves(bounds) {
            self.found.transitions += 1;
            match state.after(bounds, step) {
                Ok(next) => {
                    let next = self.reach(bounds, next, number, step);
                    if fair == Some(step) {
                        self.known[number as usize].fair = next;
                    }
                }
                Err(what) => self.report(&format!("{step:?}: {what}"), number),
            }
        }
        if self.known[number as usize].fair == UNKNOWN
            && let Some(step) = fair
            && self.found.violations.is_empty()
        {
            self.report(&format!("the fair step {step:?} is not among the moves"), number);
        }
    }

    /// Follows the steps without a fault from every state; each path must come to rest.
    fn check_liveness(&mut self) {
        let mut distance = vec![UNKNOWN; self.known.len()];
        let mut way = Vec::new();
        for start in 0..self.known.len() {
            let mut at = start;
            let rest = loop {
                if distance[at] == RESTS {
                    let number = u32::try_from(at).unwrap_or(UNKNOWN);
                    return self.report("liveness: the steps without faults form a circle", number);
                }
                if distance[at] != UNKNOWN {
                    break distance[at];
                }
                way.push(at);
                // The mark of a state on the current path: to reach it again is a circle.
                distance[at] = RESTS;
                match self.known[at].fair {
                    RESTS => break 0,
                    next => at = next as usize,
                }
            };
            let mut rest = if self.known[at].fair == RESTS && way.last() == Some(&at) {
                way.pop();
                distance[at] = 0;
                0
            } else {
                rest
            };
            while let Some(at) = way.pop() {
                rest += 1;
                distance[at] = rest;
                self.found.rest_after = self.found.rest_after.max(rest);
            }
        }
    }

    /// Records a broken rule, with the steps that lead to it.
    fn report(&mut self, what: &str, number: u32) {
        if self.found.violations.len() >= VIOLATIONS_MAX {
            return;
        }
        let mut way = Vec::new();
        let mut at = number;
        while let Some(known) = self.known.get(at as usize) {
            way.push(format!("{:?}", known.step));
            if known.step == Move::Open {
                break;
            }
            at = known.from;
        }
        way.reverse();
        self.found.violations.push(format!("{what}\n  after {} of variant {at}", way.join(" ")));
    }
}

/// Checks that states with equal normal forms have the same future: every state within `steps`
/// steps of every kind, after `lead` steps without a fault, leads to the same situations as its
/// normal form. A situation is the normal form of a state without the troubles that are left.
/// Returns the number of states.
///
/// A step that changes nothing but the troubles that are left is not compared, because the normal
/// form leaves out troubles that can have no effect.
///
/// # Errors
/// A state with another future than its normal form, or a broken rule.
pub fn check_normal_form(bounds: &Bounds, lead: u32, steps: u32) -> Result<usize, String> {
    let raw = Bounds { normalised: false, ..bounds.clone() };
    let normalised = Bounds { normalised: true, ..bounds.clone() };
    let (mut reached, mut layer) = (HashSet::new(), Vec::new());
    for beginning in State::beginnings(&raw) {
        let mut state = beginning?;
        for _ in 0..lead {
            let Some(step) = state.fair_move() else { break };
            state = state.after(&raw, step)?;
        }
        layer.push(state);
    }
    for _ in 0..steps {
        let mut next = Vec::new();
        for state in layer {
            let normal = state.normal_form(&normalised)?;
            let (here, mut futures) =
                (key(&state.situation(&raw)?), [BTreeMap::new(), BTreeMap::new()]);
            for (bounds, from, future) in [(&raw, &state, 0), (&normalised, &normal, 1)] {
                for step in from.moves(bounds) {
                    let after = from.after(bounds, step)?;
                    let situation = key(&after.situation(bounds)?);
                    if situation != here {
                        futures[future].insert(situation, step);
                    }
                    if future == 0 && reached.insert(key(&after)) {
                        next.push(after);
                    }
                }
            }
            let [futures, normal_futures] = futures;
            let missing = |one: &BTreeMap<Key, Move>, other: &BTreeMap<Key, Move>| {
                let only = one.iter().find(|(situation, _)| !other.contains_key(*situation));
                only.map(|(_, step)| *step)
            };
            if let Some(step) = missing(&futures, &normal_futures) {
                return Err(format!("the normal form lacks {step:?} of {state:?}"));
            }
            if let Some(step) = missing(&normal_futures, &futures) {
                return Err(format!("the normal form alone has {step:?} in {state:?}"));
            }
        }
        layer = next;
    }
    Ok(reached.len())
}
