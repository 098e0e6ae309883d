//! The real driver on the simulator's worlds: its loop is under test, not only the core.
//!
//! A run of a [`World`] is played back: simulated ports and a simulated clock bring every input of
//! the world's journal at its time, and the application's requests go through the real handle. What
//! the driver submits and reports must then be what the world's session put out: the same commands,
//! in the same order, to the right port, and the same events.
//!
//! [`World`]: negotiation_sim::World

use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use negotiation_core::{
    Config, Event, Input, Output, PeerCommand, SignalingCommand, Ticket, Timestamp,
};
use negotiation_sim::Journal;
use viewer_session::{
    Clock, Control, Handle, PeerInput, PeerPort, SessionUpdate, SignalingInput, SignalingPort,
    session,
};

/// Where the driver went another way than the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How many outputs were the same before.
    pub after: usize,
    /// What the world's session put out.
    pub world: String,
    /// What the driver made of it.
    pub driver: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "after {} outputs that were the same: the world has {}, the driver {}",
            self.after, self.world, self.driver
        )
    }
}

/// Runs the driver over a world's journal, and returns how many outputs were the same.
///
/// `config` and `seed` are those of the world's plan. Needs no runtime, and no time passes.
///
/// # Errors
/// Names the first command or event that differs, or the input that the driver did not take.
pub fn drive(journal: &Journal, config: Config, seed: u64) -> Result<usize, Difference> {
    let inputs: VecDeque<_> = journal.inputs().map(|(at, input)| (at, input.clone())).collect();
    let began = inputs.front().map_or(Timestamp::ZERO, |(at, _)| *at);
    let tape = Tape(Arc::new(Mutex::new(Playback {
        inputs,
        now: began,
        commands: Vec::new(),
        of_signaling: BTreeSet::new(),
        began_by: Some(Input::Open),
    })));
    let ports = (Links(tape.clone()), Peers(tape.clone()));
    let (driver, mut handle) = session(config, seed, ports.0, ports.1, PlayedClock(tape.clone()));
    let mut events = Vec::new();
    let mut run = pin!(driver.run());
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let before = tape.lock().inputs.len();
        let over = run.as_mut().poll(&mut context).is_ready();
        reported(&mut handle, &mut events, &mut context);
        if over {
            break;
        }
        if tape.lock().inputs.is_empty() {
            break;
        }
        let wished = tape.request(&handle.control());
        if !wished && tape.lock().inputs.len() == before {
            let playback = tape.lock();
            let world = format!("the input {:?}", playback.inputs.front());
            let driver = "waits for something else".to_owned();
            return Err(Difference { after: playback.commands.len(), world, driver });
        }
    }
    let commands = core::mem::take(&mut tape.lock().commands);
    compare(journal, &commands, &events)
}

/// Reads the events so far.
fn reported(handle: &mut Handle, events: &mut Vec<(Timestamp, Event)>, context: &mut Context<'_>) {
    while let Poll::Ready(Some(reported)) = pin!(handle.next_event()).poll(context) {
        if let SessionUpdate::Event { at, event } = reported {
            events.push((at, event));
        }
    }
}

/// Commands and events are compared each in their own order: a port and the application's queue
/// know nothing of each other.
fn compare(
    journal: &Journal,
    commands: &[(Timestamp, Output)],
    events: &[(Timestamp, Event)],
) -> Result<usize, Difference> {
    let is_event = |output: &Output| matches!(output, Output::Event(_));
    let recorded = journal.outputs().filter(|(_, output)| !is_event(output));
    let commanded = commands.iter().map(|(at, output)| (*at, output));
    let same = same(recorded, commanded)?;
    let reported: Vec<_> = events.iter().map(|(at, e)| (*at, Output::Event(e.clone()))).collect();
    let reported = reported.iter().map(|(at, output)| (*at, output));
    Ok(same + self::same(journal.outputs().filter(|(_, o)| is_event(o)), reported)?)
}

fn same<'a>(
    mut world: impl Iterator<Item = (Timestamp, &'a Output)>,
    mut driver: impl Iterator<Item = (Timestamp, &'a Output)>,
) -> Result<usize, Difference> {
    let text = |entry: Option<(Timestamp, &Output)>| match entry {
        Some((at, output)) => format!("{at} {output:?}"),
        None => "nothing".to_owned(),
    };
    for after in 0.. {
        match (world.next(), driver.next()) {
            (None, None) => return Ok(after),
            (a, b) if a == b => {}
            (a, b) => return Err(Difference { after, world: text(a), driver: text(b) }),
        }
    }
    Ok(0)
}

/// What is still to come, and what the driver did.
struct Playback {
    inputs: VecDeque<(Timestamp, Input)>,
    now: Timestamp,
    commands: Vec<(Timestamp, Output)>,
    /// The commands to the signaling port, which reports how each ended.
    of_signaling: BTreeSet<Ticket>,
    /// The input that the driver feeds by itself.
    began_by: Option<Input>,
}

/// The playback, shared by ports, clock and application.
#[derive(Clone)]
struct Tape(Arc<Mutex<Playback>>);

impl Tape {
    fn lock(&self) -> MutexGuard<'_, Playback> {
        let mut playback = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if playback.inputs.front().map(|(_, input)| input) == playback.began_by.as_ref() {
            playback.began_by = None;
            playback.inputs.pop_front();
        }
        playback
    }

    /// Takes the next input if it is one of these; time is then what it was in the world.
    fn take<T>(&self, mine: impl Fn(&Input, &BTreeSet<Ticket>) -> Option<T>) -> Option<T> {
        let mut playback = self.lock();
        let (at, input) = playback.inputs.front()?;
        let (at, taken) = (*at, mine(input, &playback.of_signaling)?);
        playback.now = at;
        playback.inputs.pop_front();
        Some(taken)
    }

    async fn next<T>(&self, mine: impl Fn(&Input, &BTreeSet<Ticket>) -> Option<T>) -> T {
        poll_fn(|_| self.take(&mine).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Does what the application does next, if it is its turn.
    fn request(&self, control: &Control) -> bool {
        let request = |input: &Input, _: &BTreeSet<Ticket>| -> Option<fn(&Control)> {
            match input {
                Input::Close => Some(Control::close),
                Input::Resumed => Some(Control::resumed),
                Input::NetworkChanged => Some(Control::network_changed),
                Input::LocalAddressGone => Some(Control::local_address_gone),
                Input::Online(true) => Some(|control| control.online(true)),
                Input::Online(false) => Some(|control| control.online(false)),
                Input::Restart => Some(Control::restart),
                Input::Renegotiate => Some(Control::renegotiate),
                Input::Open
                | Input::MasterKnown(_)
                | Input::Timeout
                | Input::Signaling(..)
                | Input::Peer(..)
                | Input::Completed(_) => None,
            }
        };
        let request = self.take(request);
        if let Some(request) = request {
            request(control);
        }
        request.is_some()
    }

    fn note(&self, output: Output) {
        let mut playback = self.lock();
        if let Output::Signaling(ticket, _) = &output {
            playback.of_signaling.insert(*ticket);
        }
        let now = playback.now;
        playback.commands.push((now, output));
    }
}

struct Links(Tape);

#[cfg_attr(not(target_family = "wasm"), async_trait)]
#[cfg_attr(target_family = "wasm", async_trait(?Send))]
impl SignalingPort for Links {
    fn submit(&mut self, ticket: Ticket, command: SignalingCommand) {
        self.0.note(Output::Signaling(ticket, command));
    }

    async fn next(&mut self) -> SignalingInput {
        let mine = |input: &Input, requested: &BTreeSet<Ticket>| {
            if let Input::Signaling(link, event) = input {
                return Some(SignalingInput::Event(*link, event.clone()));
            }
            let Input::Completed(completion) = input else { return None };
            let mine = requested.contains(&completion.ticket);
            mine.then(|| SignalingInput::Completed(completion.clone()))
        };
        self.0.next(mine).await
    }
}

struct Peers(Tape);

#[cfg_attr(not(target_family = "wasm"), async_trait)]
#[cfg_attr(target_family = "wasm", async_trait(?Send))]
impl PeerPort for Peers {
    fn submit(&mut self, ticket: Ticket, command: PeerCommand) {
        self.0.note(Output::Peer(ticket, command));
    }

    async fn next(&mut self) -> PeerInput {
        let mine = |input: &Input, requested: &BTreeSet<Ticket>| {
            if let Input::Peer(peer, event) = input {
                return Some(PeerInput::Event(*peer, event.clone()));
            }
            let Input::Completed(completion) = input else { return None };
            let mine = !requested.contains(&completion.ticket);
            mine.then(|| PeerInput::Completed(completion.clone()))
        };
        self.0.next(mine).await
    }
}

struct PlayedClock(Tape);

#[cfg_attr(not(target_family = "wasm"), async_trait)]
#[cfg_attr(target_family = "wasm", async_trait(?Send))]
impl Clock for PlayedClock {
    fn now(&self) -> Timestamp {
        self.0.lock().now
    }

    async fn sleep_until(&self, _deadline: Timestamp) {
        self.0.next(|input, _| (*input == Input::Timeout).then_some(())).await;
    }
}
