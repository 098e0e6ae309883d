//! Plans for situations that generated plans seldom reach.

use std::time::Duration;

use negotiation_core::*;
use negotiation_sim::*;

/// For each end reason, one plan that ends with it.
pub(crate) fn directed() -> Vec<(EndReason, Plan)> {
    let never = || Plan::new(Settings::never());
    let master = |change: fn(&mut MasterTraits)| {
        let mut plan = never();
        change(&mut plan.master);
        plan
    };
    let path = |ice, dtls, media| Plan { paths: vec![PathTraits { ice, dtls, media }], ..never() };
    let fails = |what, code| {
        let how = CommandFault::Fail(code);
        never().with(Fault::Command { what, nth: 0, how })
    };
    let close = Fault::At {
        trigger: Trigger::Entered(Phase::Live, 1),
        after: Duration::from_secs(1),
        action: Action::Close,
    };
    let mut settings = Settings::never();
    settings.mode = Mode::Answerer;
    let mut no_offer = Plan::new(settings);
    no_offer.master.answers = Answers::Never;
    vec![
        (EndReason::Closed, never().with(close)),
        (EndReason::NoAnswer, master(|m| m.answers = Answers::Never)),
        (EndReason::NoOffer, no_offer),
        (EndReason::BadAnswer, master(|m| m.answers = Answers::Undecodable)),
        (EndReason::IncompatibleSdp, master(|m| m.answers = Answers::Refused)),
        (EndReason::Codec, master(|m| m.answers = Answers::RejectsMedia)),
        (EndReason::NoRoute, path(Ice::Fails, Dtls::Works, Media::Flows)),
        (EndReason::Dtls, path(Ice::Works, Dtls::Silent, Media::Flows)),
        (EndReason::NoMedia, path(Ice::Works, Dtls::Works, Media::NoKeyframe)),
        (EndReason::Signaling, fails(CommandKind::Connect, FailureCode::Service)),
        (EndReason::AccessDenied, fails(CommandKind::Connect, FailureCode::AccessDenied)),
        (
            EndReason::ExpiredCredentials,
            fails(CommandKind::Connect, FailureCode::ExpiredCredentials),
        ),
        (EndReason::NoCredentials, fails(CommandKind::Connect, FailureCode::NoCredentials)),
        (EndReason::NoChannel, fails(CommandKind::Connect, FailureCode::NoChannel)),
        (EndReason::InvalidClientId, fails(CommandKind::Connect, FailureCode::InvalidClientId)),
        (EndReason::InvalidArgument, fails(CommandKind::SendOffer, FailureCode::TooBig)),
        (EndReason::StorageMode, fails(CommandKind::Connect, FailureCode::StorageMode)),
        (EndReason::ViewerLimit, fails(CommandKind::Connect, FailureCode::ViewerLimit)),
        (EndReason::Throttled, fails(CommandKind::Connect, FailureCode::Throttled)),
        (EndReason::Replaced, fails(CommandKind::Connect, FailureCode::Replaced)),
        (EndReason::Tls, fails(CommandKind::Connect, FailureCode::Tls)),
        (EndReason::LocalMedia, fails(CommandKind::Create, FailureCode::LocalMedia)),
        (EndReason::PeerFailed, fails(CommandKind::CreateOffer, FailureCode::Port)),
    ]
}
