//! Handles the signals that end the process: Ctrl-C, SIGTERM, and SIGHUP (a closed terminal, a lost
//! `ssh`). All of them close the session and finalize its files.

use std::future::pending;

/// Receives signals from its creation on, so that a signal that arrives before `next` is not lost.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    hangup: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    /// Installs the signal handlers. A signal without a handler keeps the system's default action.
    #[cfg(unix)]
    pub(crate) fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let take = |kind: SignalKind| signal(kind).ok();
        // `nohup` starts programs with SIGHUP ignored, so that they outlive their terminal.
        let hangup = if is_hangup_ignored() { None } else { take(SignalKind::hangup()) };
        Self {
            interrupt: take(SignalKind::interrupt()),
            terminate: take(SignalKind::terminate()),
            hangup,
        }
    }

    /// Creates the receiver; Ctrl-C is handled in `next`.
    #[cfg(not(unix))]
    pub(crate) fn listen() -> Self {
        Self {}
    }

    /// Waits for the next signal. Cancel-safe.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            () = arrival(&mut self.interrupt) => {}
            () = arrival(&mut self.terminate) => {}
            () = arrival(&mut self.hangup) => {}
        }
    }

    /// Discards the signals that have arrived: a closing terminal sends SIGHUP more than once, and
    /// so do programs that forward a signal to a whole process group.
    pub(crate) async fn forget(&mut self) {
        loop {
            tokio::select! {
                biased;
                () = self.next() => {}
                () = std::future::ready(()) => return,
            }
        }
    }

    /// Waits for the next signal.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    }
}

#[cfg(unix)]
async fn arrival(signal: &mut Option<tokio::signal::unix::Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    pending().await
}

/// Whether SIGHUP was ignored when the process began; `false` if the system does not report it.
#[cfg(unix)]
fn is_hangup_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status))
}

/// Reads the mask of ignored signals of `/proc/PID/status`; SIGHUP is the lowest bit.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn earlier_signals_are_discarded() {
        let mut signals = Signals::listen();
        signals.forget().await;
        let next = tokio::time::timeout(std::time::Duration::ZERO, signals.next()).await;
        assert!(next.is_err(), "none came");
    }

    #[test]
    fn mask_of_ignored_signals_is_read() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n"));
        assert!(!ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
