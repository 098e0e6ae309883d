//! The session itself, driven by hand: its invariants, and completions that are not awaited.

use alloc::format;
use alloc::vec::Vec;

use super::*;
use crate::{Candidate, Done, Event, FailureCode, Settings};

fn opened() -> Session {
    let config = Settings::one_retry().check().expect("valid");
    let mut session = Session::new(config, 1, Timestamp::from_millis(1000));
    session.handle_input(Timestamp::from_millis(1000), Input::Open);
    session
}

/// The tickets of the submitted commands, and what is ignored.
fn drain(session: &mut Session) -> (Vec<Ticket>, Vec<Ignored>) {
    let (mut tickets, mut ignored) = (Vec::new(), Vec::new());
    while let Some(output) = session.poll_output() {
        match output {
            Output::Signaling(ticket, _) | Output::Peer(ticket, _) => tickets.push(ticket),
            Output::Event(Event::Ignored(reason)) => ignored.push(reason),
            Output::Event(_) => {}
        }
    }
    (tickets, ignored)
}

fn complete(session: &mut Session, ticket: Ticket, outcome: Result<Done, Failure>) {
    session.handle_input(session.cx.now, Input::Completed(Completion { ticket, outcome }));
}

/// Everything fails until the pause before the next attempt.
fn backing_off() -> Session {
    let mut session = opened();
    for _ in 0..20 {
        for ticket in drain(&mut session).0 {
            complete(&mut session, ticket, Err(Failure::new(FailureCode::Network, "")));
        }
    }
    assert_eq!(session.phase(), Phase::BackingOff);
    session
}

#[test]
fn what_makes_no_sense_is_found() {
    let broken = |change: &dyn Fn(&mut Session)| {
        let mut session = opened();
        assert_eq!(session.check_invariants(), Ok(()));
        change(&mut session);
        session.check_invariants().expect_err("broken")
    };
    let over = |session: &mut Session| {
        session.cx.in_flight.forget_all();
        session.cx.timers.disarm_all();
        session.state = State::Ended;
        assert_eq!(session.check_invariants(), Ok(()));
    };
    let held = |n: usize| Candidate {
        text: format!("candidate:{n}").into(),
        mid: None,
        mline_index: None,
        ufrag: None,
    };
    let at = Timestamp::from_millis(5000);
    let two = broken(&|s| {
        s.cx.in_flight.issue(1, at, Purpose::SetLocal);
        s.cx.in_flight.issue(1, at, Purpose::SendOffer);
    });
    assert!(two.starts_with("N2:"), "{two}");
    let waits = broken(&|s| {
        s.cx.in_flight.forget_all();
        s.cx.timers.disarm_all();
    });
    assert!(waits.starts_with("N12:"), "{waits}");
    let left_behind = broken(&|s| s.cx.timers.arm(Timer::FirstMedia, at));
    assert!(left_behind.starts_with("N12: a deadline is armed only"), "{left_behind}");
    let timer = broken(&|s| {
        over(s);
        s.cx.timers.arm(Timer::RetryDelay, at);
    });
    assert!(timer.starts_with("N23:"), "{timer}");
    let command = broken(&|s| {
        over(s);
        s.cx.in_flight.issue(1, at, Purpose::Join);
    });
    assert!(command.starts_with("N23:"), "{command}");
    let remote = broken(&|s| {
        let State::Attempt(attempt) = &mut s.state else { panic!("no attempt") };
        (0..129).for_each(|n| assert!(attempt.candidates.remote.take(held(n), 999, 999).is_ok()));
    });
    assert!(remote.starts_with("N9:"), "{remote}");
    let local = broken(&|s| {
        let State::Attempt(attempt) = &mut s.state else { panic!("no attempt") };
        (0..129).for_each(|n| assert!(attempt.candidates.local.take(held(n), 999).is_ok()));
    });
    assert!(local.starts_with("N9:"), "{local}");
}

#[test]
fn command_is_awaited_until_its_completion() {
    let mut session = opened();
    let ticket = drain(&mut session).0[0];
    assert!(session.awaits(ticket));
    assert!(
        session.cx.is_in_flight(Purpose::CreatePeer) && !session.cx.is_in_flight(Purpose::Join)
    );
    complete(&mut session, ticket, Err(Failure::new(FailureCode::Network, "")));
    assert!(!session.awaits(ticket));
}

#[test]
fn unexpected_completion_is_reported_unless_closing() {
    let mut session = opened();
    drain(&mut session);
    let never = Ticket { attempt: 9, seq: 9 };
    complete(&mut session, never, Err(Failure::cancelled()));
    assert_eq!(drain(&mut session).1, []);
    complete(&mut session, never, Ok(Done::Ok));
    assert_eq!(drain(&mut session).1, [Ignored::StaleCompletion]);
}

#[test]
fn device_that_wakes_up_tries_at_once_unless_it_is_offline() {
    let mut session = backing_off();
    session.handle_input(session.cx.now, Input::Resumed);
    assert_eq!(session.phase(), Phase::Connecting);
    let mut session = backing_off();
    session.handle_input(session.cx.now, Input::Online(false));
    drain(&mut session);
    session.handle_input(session.cx.now, Input::Resumed);
    assert_eq!(session.phase(), Phase::BackingOff);
    assert_eq!(drain(&mut session).1, [Ignored::OutOfPhase]);
}
