//! Counts the descriptors and sockets that this process has open, to show that a closed attempt
//! left none.
//!
//! A count is made when the session begins, which includes everything that is open for the lifetime
//! of the process or the session (the network watch is a socket), and when an attempt ends, before
//! the next one opens anything.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use negotiation_core::{Config, Event, Input, Output, Timestamp};
use viewer_session::Observer;

/// The numbers of open descriptors and sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) descriptors: usize,
    pub(crate) sockets: usize,
}

impl Resources {
    /// Counts now; `None` if the system has no `/proc/self/fd`.
    pub(crate) fn count() -> Option<Self> {
        let entries: Vec<_> = fs::read_dir("/proc/self/fd").ok()?.flatten().collect();
        let is_socket = |entry: &&fs::DirEntry| {
            fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        let sockets = entries.iter().filter(is_socket).count();
        // Reading the directory itself uses one descriptor.
        Some(Self { descriptors: entries.len().saturating_sub(1), sockets })
    }

    /// Whether no more is open than in `before`.
    pub(crate) fn is_within(self, before: Self) -> bool {
        self.descriptors <= before.descriptors && self.sockets <= before.sockets
    }
}

/// The maximum number of counts that wait to be read.
const COUNTS_MAX: usize = 64;

/// The counts before the first attempt, and at the end of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    at_begin: Option<Resources>,
    at_end: BTreeMap<u32, Option<Resources>>,
    /// The attempt that ended, until the session sends the next command to a port.
    over: Option<u32>,
}

impl Ledger {
    /// Returns the count before the first attempt.
    pub(crate) fn at_begin(&self) -> Option<Resources> {
        self.lock().at_begin
    }

    /// Returns the count at the end of this attempt.
    pub(crate) fn take(&self, attempt: u32) -> Option<Resources> {
        self.lock().at_end.remove(&attempt).flatten()
    }

    /// Counts again, unless the next attempt may have opened something.
    pub(crate) fn count_again(&self, attempt: u32) -> Option<Resources> {
        let count = Resources::count();
        // Checked after counting, so that the count includes nothing of an attempt that begins
        // later.
        (self.lock().over == Some(attempt)).then_some(count).flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts at the beginning of the session and at the end of each attempt, and passes all calls on
/// to a journal.
pub(crate) struct Counter {
    ledger: Option<Ledger>,
    journal: Option<Box<dyn Observer>>,
}

impl Counter {
    /// Creates the counter; without a ledger it counts nothing.
    pub(crate) fn new(ledger: Option<Ledger>, journal: Option<Box<dyn Observer>>) -> Self {
        Self { ledger, journal }
    }
}

impl Observer for Counter {
    fn began(&mut self, config: &Config, seed: u64, at: Timestamp) {
        if let Some(journal) = &mut self.journal {
            journal.began(config, seed, at);
        }
        if let Some(ledger) = &self.ledger {
            ledger.lock().at_begin = Resources::count();
        }
    }

    fn input(&mut self, at: Timestamp, input: &Input) {
        if let Some(journal) = &mut self.journal {
            journal.input(at, input);
        }
    }

    fn output(&mut self, at: Timestamp, output: &Output) {
        if let Some(journal) = &mut self.journal {
            journal.output(at, output);
        }
        let Some(ledger) = &self.ledger else { return };
        match output {
            Output::Event(Event::AttemptEnded(report)) => {
                let count = Resources::count();
                let mut counts = ledger.lock();
                counts.at_end.insert(report.attempt, count);
                while counts.at_end.len() > COUNTS_MAX {
                    counts.at_end.pop_first();
                }
                counts.over = Some(report.attempt);
            }
            Output::Signaling(..) | Output::Peer(..) => ledger.lock().over = None,
            Output::Event(_) => {}
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use negotiation_core::{
        AttemptEnd, AttemptReport, ConnectionId, Session, Settings, SignalingCommand,
    };
    use std::net::UdpSocket;

    /// Serialises the tests that open and count sockets, since the descriptor table is shared.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn open_socket_is_counted() {
        let _alone = alone();
        let before = Resources::count().expect("linux");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let with = Resources::count().expect("linux");
        assert!(with.sockets > before.sockets);
        drop(socket);
    }

    /// A session's own sockets are open before its first attempt and do not belong to it.
    #[test]
    fn session_sockets_are_not_counted_for_attempts() {
        let _alone = alone();
        let ledger = Ledger::default();
        let mut counter = Counter::new(Some(ledger.clone()), None);
        let before = Resources::count().expect("linux");
        let _sockets: Vec<_> =
            (0..200).map(|_| UdpSocket::bind("127.0.0.1:0").expect("loopback")).collect();
        let config = Settings::never().check().expect("valid");
        counter.began(&config, 1, Timestamp::ZERO);
        let at_begin = ledger.at_begin().expect("it was counted");
        assert!(at_begin.sockets > before.sockets + 100, "{before:?} {at_begin:?}");
    }

    /// The next attempt may open its sockets before the application reads that the last one ended.
    #[test]
    fn sockets_of_the_next_attempt_are_not_counted() {
        let _alone = alone();
        let ledger = Ledger::default();
        let mut counter = Counter::new(Some(ledger.clone()), None);
        let report = AttemptReport {
            attempt: 1,
            client_id: None,
            started: Timestamp::ZERO,
            ended: Timestamp::ZERO,
            end: AttemptEnd::MasterGone,
            evidence: Default::default(),
        };
        counter.output(Timestamp::ZERO, &Output::Event(Event::AttemptEnded(Box::new(report))));
        assert!(ledger.count_again(1).is_some(), "nothing was asked of a port yet");
        let config = Settings::never().check().expect("valid");
        let mut session = Session::new(config, 1, Timestamp::ZERO);
        session.handle_input(Timestamp::ZERO, Input::Open);
        let command = std::iter::from_fn(|| session.poll_output()).find(|output| {
            matches!(
                output,
                Output::Signaling(_, SignalingCommand::Connect { link: ConnectionId(_), .. })
            )
        });
        counter.output(Timestamp::ZERO, &command.expect("it connects"));
        let _sockets: Vec<_> =
            (0..200).map(|_| UdpSocket::bind("127.0.0.1:0").expect("loopback")).collect();
        assert_eq!(ledger.count_again(1), None);
        let at_end = ledger.take(1).expect("it was counted");
        let now = Resources::count().expect("linux");
        assert!(at_end.sockets + 100 < now.sockets, "{at_end:?} {now:?}");
    }
}
