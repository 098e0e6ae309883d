//! Drives the core alone, as a host without async does.

use viewer_session::core::{CandidateRelease, ClientId};
use viewer_session::core::{
    Completion, Description, Done, EndReason, Event, Failure, FailureCode, Input, Output,
    PeerCommand, PeerTraits, Sdp, SdpSummary, Session, Settings, SignalingCommand, Timestamp,
};

/// Runs a session with a master that never answers, in virtual time, until it ends after two
/// attempts.
pub fn run() {
    let config = Settings::one_retry().check().expect("a preset is valid");
    let limit = config.max_time_without_answer();
    let mut now = Timestamp::ZERO;
    let mut session = Session::new(config, 7, now);
    let mut inputs = vec![Input::Open];
    loop {
        for input in std::mem::take(&mut inputs) {
            session.handle_input(now, input);
        }
        while let Some(output) = session.poll_output() {
            let (ticket, outcome) = match output {
                Output::Signaling(ticket, command) => (ticket, signaling(&command)),
                Output::Peer(ticket, command) => (ticket, peer(&command)),
                Output::Event(Event::Ended(outcome)) => {
                    assert_eq!(outcome.reason, EndReason::NoAnswer);
                    assert_eq!(outcome.attempts_total, 2);
                    assert!(outcome.lasted <= limit);
                    return;
                }
                Output::Event(_) => continue,
            };
            inputs.push(Input::Completed(Completion { ticket, outcome }));
        }
        if inputs.is_empty() {
            now = session.poll_timeout().expect("a session that waits has a deadline").0;
            inputs.push(Input::Timeout);
        }
    }
}

/// Completes every signaling command successfully.
pub fn signaling(command: &SignalingCommand) -> Result<Done, Failure> {
    match command {
        SignalingCommand::Connect { .. } => ClientId::new("viewer")
            .map(Done::Connected)
            .map_err(|_| Failure::new(FailureCode::InvalidClientId, "refused")),
        SignalingCommand::FetchIceServers { .. } => Ok(Done::IceServers(Vec::new())),
        SignalingCommand::Join { .. }
        | SignalingCommand::Send { .. }
        | SignalingCommand::Disconnect { .. } => Ok(Done::Ok),
    }
}

/// Completes every peer connection command successfully.
pub fn peer(command: &PeerCommand) -> Result<Done, Failure> {
    Ok(match command {
        PeerCommand::Create { .. } => Done::Created(PeerTraits {
            candidates: CandidateRelease::AfterOffer,
            restart_keeps_pair: false,
        }),
        PeerCommand::CreateOffer { .. } | PeerCommand::CreateAnswer { .. } => {
            Done::Description(Description {
                sdp: Sdp::new("a description"),
                facts: SdpSummary::default(),
            })
        }
        PeerCommand::SetIceServers { .. }
        | PeerCommand::SetLocal { .. }
        | PeerCommand::SetRemote { .. }
        | PeerCommand::Rollback { .. }
        | PeerCommand::AddCandidate { .. }
        | PeerCommand::RequestKeyframe { .. }
        | PeerCommand::StopTransceivers { .. }
        | PeerCommand::RemoveTracks { .. }
        | PeerCommand::Close { .. } => Done::Ok,
    })
}
