//! Describes commands and completions for `replay --all`.

use negotiation_core::{
    Completion, Connectivity, Done, Input, Message, Output, PeerCommand, PeerEvent, SdpKind,
    SignalingCommand, SignalingEvent,
};

/// Describes a command, with the number of its completion.
pub(crate) fn command(output: &Output) -> String {
    match output {
        Output::Signaling(ticket, command) => format!("{ticket} {}.", signaling_command(command)),
        Output::Peer(ticket, command) => format!("{ticket} {}.", peer_command(command)),
        Output::Event(event) => event.to_string(),
    }
}

fn signaling_command(command: &SignalingCommand) -> String {
    let link = command.link().0;
    match command {
        SignalingCommand::Connect { attempt, .. } => {
            format!("Connection {link}: connect, for attempt {attempt}")
        }
        SignalingCommand::Join { .. } => format!("Connection {link}: join the storage session"),
        SignalingCommand::FetchIceServers { .. } => format!("Connection {link}: get ICE servers"),
        SignalingCommand::Send { message, .. } => {
            format!("Connection {link}: send {}", message_words(message))
        }
        SignalingCommand::Disconnect { .. } => format!("Connection {link}: disconnect"),
    }
}

fn message_words(message: &Message) -> &'static str {
    match message {
        Message::Offer(_) => "the offer",
        Message::Answer(_) => "the answer",
        Message::Candidate(_) => "a candidate",
    }
}

fn sdp_words(kind: SdpKind) -> &'static str {
    match kind {
        SdpKind::Offer => "offer",
        SdpKind::Answer => "answer",
    }
}

fn peer_command(command: &PeerCommand) -> String {
    let what = match command {
        PeerCommand::Create { .. } => "create it".to_owned(),
        PeerCommand::CreateOffer { restart: false, .. } => "create an offer".to_owned(),
        PeerCommand::CreateOffer { restart: true, .. } => {
            "create an offer that restarts ICE".to_owned()
        }
        PeerCommand::CreateAnswer { .. } => "create an answer".to_owned(),
        PeerCommand::SetIceServers { servers, .. } => {
            format!("use {} ICE servers", servers.len())
        }
        PeerCommand::SetLocal { kind, .. } => format!("set the local {}", sdp_words(*kind)),
        PeerCommand::SetRemote { kind, .. } => format!("set the remote {}", sdp_words(*kind)),
        PeerCommand::Rollback { .. } => "roll back".to_owned(),
        PeerCommand::AddCandidate { .. } => "add a remote candidate".to_owned(),
        PeerCommand::RequestKeyframe { .. } => "request a keyframe".to_owned(),
        PeerCommand::StopTransceivers { .. } => "stop its transceivers".to_owned(),
        PeerCommand::RemoveTracks { .. } => "remove its tracks".to_owned(),
        PeerCommand::Close { .. } => "close it".to_owned(),
    };
    format!("Peer connection {}: {what}", command.peer().0)
}

/// Describes an input.
pub(crate) fn input(input: &Input) -> String {
    match input {
        Input::Open => "The application opens the session.".into(),
        Input::Close => "The application closes the session.".into(),
        Input::Timeout => "Time passed.".into(),
        Input::Resumed => "The device slept.".into(),
        Input::NetworkChanged => "The network changed.".into(),
        Input::LocalAddressGone => "The network changed; the address in use is gone.".into(),
        Input::MasterKnown(_) => "What earlier sessions learned about the camera.".into(),
        Input::Online(true) => "The network is there.".into(),
        Input::Online(false) => "The network is gone.".into(),
        Input::Restart => "The application requests an ICE restart.".into(),
        Input::Renegotiate => "The application requests a renegotiation.".into(),
        Input::Signaling(link, event) => {
            format!("Connection {}: {}.", link.0, signaling_event(event))
        }
        Input::Peer(peer, event) => format!("Peer connection {}: {}.", peer.0, peer_event(event)),
        Input::Completed(completion) => completed(completion),
    }
}

fn signaling_event(event: &SignalingEvent) -> String {
    match event {
        SignalingEvent::Offer { body: Ok(_), .. } => "an offer came".into(),
        SignalingEvent::Offer { body: Err(_), .. } => "an offer came that cannot be decoded".into(),
        SignalingEvent::Answer { body: Ok(_), .. } => "an answer came".into(),
        SignalingEvent::Answer { body: Err(_), .. } => {
            "an answer came that cannot be decoded".into()
        }
        SignalingEvent::Candidate { body: Ok(_), .. } => "a remote candidate came".into(),
        SignalingEvent::Candidate { body: Err(_), .. } => {
            "a candidate came that cannot be decoded".into()
        }
        SignalingEvent::Status { failure, .. } => {
            format!("the service refuses a message: {}", failure.without_code())
        }
        SignalingEvent::GoAway => "GO_AWAY".into(),
        SignalingEvent::ReconnectIceServer => "RECONNECT_ICE_SERVER".into(),
        SignalingEvent::Garbage => "a message came that is none".into(),
        SignalingEvent::Disconnected(failure) => {
            format!("disconnected: {}", failure.without_code())
        }
    }
}

fn peer_event(event: &PeerEvent) -> String {
    match event {
        PeerEvent::CandidateGathered(_) => "a local candidate was gathered".into(),
        PeerEvent::GatheringDone => "gathering is done".into(),
        PeerEvent::ConnectivityChanged(to) => connectivity(*to).into(),
        PeerEvent::TrackAdded(kind) => format!("the camera's {} track is there", kind),
        PeerEvent::MediaFlowing(kind) => format!("{} flows", kind),
        PeerEvent::KeyframeReceived => "the first keyframe came".into(),
        PeerEvent::MediaStalled => "media stopped".into(),
        PeerEvent::SenderReport => "a sender report came without media".into(),
        PeerEvent::MediaProblem(problem) => {
            format!("no picture yet: {}", problem.as_str().replace('-', " "))
        }
        PeerEvent::IceServersUnresolved(count) => {
            format!("{count} names of STUN and TURN servers do not resolve")
        }
    }
}

fn connectivity(to: Connectivity) -> &'static str {
    match to {
        Connectivity::Checking => "ICE checks its candidate pairs",
        Connectivity::IceConnected => "ICE is connected",
        Connectivity::Connected => "ICE and DTLS are connected",
        Connectivity::Disconnected => "ICE is disconnected",
        Connectivity::IceFailed => "ICE failed",
        Connectivity::DtlsFailed => "DTLS failed",
        Connectivity::ClosedByPeer => "closed by the camera",
    }
}

fn completed(completion: &Completion) -> String {
    let ticket = completion.ticket;
    match &completion.outcome {
        Ok(Done::Ok) => format!("{ticket} Done."),
        Ok(Done::Connected(id)) => format!("{ticket} Connected, as client {id}."),
        Ok(Done::IceServers(servers)) => format!("{ticket} {} ICE servers.", servers.len()),
        Ok(Done::Created(_)) => format!("{ticket} The peer connection is created."),
        Ok(Done::Description(_)) => format!("{ticket} The description is created."),
        Err(failure) => format!("{ticket} Failed: {}.", failure.without_code()),
    }
}
