//! The promises of a peer port.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use negotiation_core::{
    Candidate, Connectivity, Description, Done, PeerCommand, PeerEvent, PeerId, Sdp, SdpKind,
    SdpSummary, Ticket,
};
use viewer_session::{Clock, MaybeSend, PeerPort};

use crate::bench::{Bench, Pace, Peers, until, was_overtaken, within};
use crate::report::{Found, Report, Trouble, require};

/// Fresh peer ports, and a remote peer for each.
#[cfg_attr(not(target_family = "wasm"), async_trait)]
#[cfg_attr(target_family = "wasm", async_trait(?Send))]
pub trait PeerStage: MaybeSend {
    /// The port under test.
    type Port: PeerPort;

    /// The clock that waiting is done on.
    fn clock(&self) -> Arc<dyn Clock>;

    /// A port without a peer connection, and a remote peer without any exchange.
    async fn port(&mut self) -> Self::Port;

    /// The remote peer answers this offer.
    async fn answer(&mut self, offer: &Description) -> Description;

    /// The remote peer makes an offer of its own.
    async fn offer(&mut self) -> Description;

    /// The remote peer takes the answer to it.
    async fn take_answer(&mut self, answer: &Description);

    /// The remote peer's candidates for its last description, all of them.
    async fn candidates(&mut self) -> Vec<Candidate>;

    /// The remote peer takes a candidate of the port's.
    async fn take_candidate(&mut self, candidate: &Candidate);

    /// Sockets, tasks or whatever else the ports of this stage hold open now.
    fn open_resources(&self) -> usize;

    /// How long to wait.
    fn pace(&self) -> Pace {
        Pace::default()
    }
}

const PEER: PeerId = PeerId(1);
const UNKNOWN: PeerId = PeerId(9);

/// More commands than any queue of an adapter should hold.
const FLOOD: usize = 5_000;

/// Checks every promise of a peer port, each on a port of its own.
pub async fn check_peer<S: PeerStage>(stage: &mut S) -> Report {
    let mut report = Report::default();
    report.add("with_nothing_to_say_next_stays_pending", pending(stage).await);
    report.add("commands_are_carried_out_in_their_order", in_order(stage).await);
    report.add("an_offer_trickles_and_its_facts_are_read", offers(stage).await);
    report.add("an_offer_and_an_answer_connect_whatever_is_dropped", connects(stage).await);
    report.add("the_remote_offer_is_answered_and_connects", answers(stage).await);
    report.add("a_description_that_is_refused_completes_with_a_failure", refused(stage).await);
    report.add("commands_for_no_peer_complete_with_a_failure", no_peer(stage).await);
    report.add("closing_what_is_not_there_completes_well", closes_nothing(stage).await);
    report.add("a_close_overtakes_and_cancels", overtakes(stage).await);
    report.add("queues_are_bounded_and_every_ticket_completes", bounded(stage).await);
    report.add("after_a_close_completed_there_is_silence", silence(stage).await);
    report.add("dropping_the_port_frees_everything", dropped(stage).await);
    report
}

async fn bench<S: PeerStage>(stage: &mut S) -> Bench<Peers<S::Port>> {
    let (clock, pace) = (stage.clock(), stage.pace());
    Bench::new(Peers(stage.port().await), clock, pace, Vec::new())
}

async fn created<S: PeerStage>(stage: &mut S) -> Found<Bench<Peers<S::Port>>> {
    let mut bench = bench(stage).await;
    let done = bench.well(PeerCommand::Create { peer: PEER }).await?;
    let Done::Created(_) = done else {
        return Err(Trouble::broken(format!("creating brought {done:?}")));
    };
    Ok(bench)
}

/// Makes an offer or an answer, and sets it.
async fn described<P: PeerPort>(bench: &mut Bench<Peers<P>>, kind: SdpKind) -> Found<Description> {
    let make = match kind {
        SdpKind::Offer => PeerCommand::CreateOffer { peer: PEER, restart: false },
        SdpKind::Answer => PeerCommand::CreateAnswer { peer: PEER },
    };
    let done = bench.well(make).await?;
    let Done::Description(description) = done else {
        return Err(Trouble::broken(format!("the {kind:?} is {done:?}")));
    };
    let set = PeerCommand::SetLocal { peer: PEER, kind, description: description.clone() };
    bench.well(set).await?;
    Ok(description)
}

async fn set_remote<P: PeerPort>(
    bench: &mut Bench<Peers<P>>,
    kind: SdpKind,
    description: Description,
) -> Found {
    bench.well(PeerCommand::SetRemote { peer: PEER, kind, description }).await.map(|_| ())
}

/// Candidates both ways, until the peers are connected.
async fn connected<S: PeerStage>(stage: &mut S, bench: &mut Bench<Peers<S::Port>>) -> Found {
    let (clock, patience) = (stage.clock(), stage.pace().patience);
    let gathering = stage.candidates();
    let theirs = within(clock.as_ref(), patience, "the remote's gathering", gathering).await?;
    for candidate in theirs {
        bench.well(PeerCommand::AddCandidate { peer: PEER, candidate }).await?;
    }
    let up = |(peer, event): &(u32, PeerEvent)| {
        *peer == PEER.0 && *event == PeerEvent::ConnectivityChanged(Connectivity::Connected)
    };
    let mut reported = 0;
    while !bench.events.iter().any(up) {
        let ours: Vec<_> = bench.events.iter().skip(reported).filter_map(candidate_in).collect();
        reported = bench.events.len();
        for candidate in ours {
            require(candidate.mid.is_some() && candidate.mline_index.is_some(), || {
                "a candidate names its section both ways".into()
            })?;
            stage.take_candidate(&candidate).await;
        }
        if !bench.read(patience).await? {
            return Err(Trouble::broken(format!("not connected: {:?}", bench.events)));
        }
    }
    Ok(())
}

fn candidate_in(event: &(u32, PeerEvent)) -> Option<Candidate> {
    match &event.1 {
        PeerEvent::CandidateGathered(candidate) if !candidate.is_end() => Some(candidate.clone()),
        PeerEvent::CandidateGathered(_)
        | PeerEvent::GatheringDone
        | PeerEvent::ConnectivityChanged(_)
        | PeerEvent::TrackAdded(_)
        | PeerEvent::MediaFlowing(_)
        | PeerEvent::KeyframeReceived
        | PeerEvent::MediaStalled
        | PeerEvent::SenderReport
        | PeerEvent::MediaProblem(_)
        | PeerEvent::IceServersUnresolved(_) => None,
    }
}

async fn close<P: PeerPort>(bench: &mut Bench<Peers<P>>) -> Found {
    for step in closing(PEER) {
        bench.well(step).await?;
    }
    Ok(())
}

fn closing(peer: PeerId) -> [PeerCommand; 3] {
    [
        PeerCommand::StopTransceivers { peer },
        PeerCommand::RemoveTracks { peer },
        PeerCommand::Close { peer },
    ]
}

async fn pending<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = bench(stage).await;
    let quiet = stage.pace().quiet;
    require(!bench.read(quiet).await?, || "a port without a command reported something".into())
}

async fn in_order<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = bench(stage).await;
    let tickets = [
        bench.submit(PeerCommand::Create { peer: PEER }),
        bench.submit(PeerCommand::SetIceServers { peer: PEER, servers: Vec::new() }),
        bench.submit(PeerCommand::CreateOffer { peer: PEER, restart: false }),
        bench.submit(PeerCommand::RequestKeyframe { peer: PEER }),
    ];
    for ticket in tickets {
        let _ = bench.outcome(ticket).await?;
    }
    require(bench.completed == tickets, || format!("completed as {:?}", bench.completed))?;
    let offer = bench.known(tickets[2]);
    require(matches!(offer, Some(Ok(Done::Description(_)))), || format!("{offer:?}"))?;
    close(&mut bench).await?;
    bench.settle().await
}

async fn offers<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = created(stage).await?;
    let offer = described(&mut bench, SdpKind::Offer).await?;
    let text = offer.sdp.as_str();
    require(text.contains("a=ice-options:trickle"), || "the offer does not trickle".into())?;
    let facts = &offer.facts;
    require(facts.ice_ufrag.is_some() && facts.ice_pwd.is_some(), || "no credentials".into())?;
    require(!facts.fingerprints.is_empty(), || "no fingerprint".into())?;
    require(!facts.media.is_empty(), || "no media".into())?;
    require(facts.media.iter().all(|media| media.mid.is_some()), || "no mid".into())?;
    close(&mut bench).await?;
    bench.settle().await
}

async fn connects<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = created(stage).await?;
    offered_and_connected(stage, &mut bench).await?;
    close(&mut bench).await?;
    bench.settle().await
}

async fn offered_and_connected<S: PeerStage>(
    stage: &mut S,
    bench: &mut Bench<Peers<S::Port>>,
) -> Found {
    let offer = described(bench, SdpKind::Offer).await?;
    let answer = stage.answer(&offer).await;
    set_remote(bench, SdpKind::Answer, answer).await?;
    connected(stage, bench).await
}

async fn answers<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = created(stage).await?;
    let offer = stage.offer().await;
    set_remote(&mut bench, SdpKind::Offer, offer).await?;
    let answer = described(&mut bench, SdpKind::Answer).await?;
    stage.take_answer(&answer).await;
    connected(stage, &mut bench).await?;
    close(&mut bench).await?;
    bench.settle().await
}

async fn refused<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = created(stage).await?;
    described(&mut bench, SdpKind::Offer).await?;
    let description = Description { sdp: Sdp::new("no description"), facts: SdpSummary::default() };
    let set = PeerCommand::SetRemote { peer: PEER, kind: SdpKind::Answer, description };
    let outcome = bench.run(set).await?;
    require(outcome.is_err(), || format!("nonsense was set: {outcome:?}"))?;
    close(&mut bench).await?;
    bench.settle().await
}

async fn no_peer<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = bench(stage).await;
    for command in [
        PeerCommand::CreateOffer { peer: UNKNOWN, restart: false },
        PeerCommand::CreateAnswer { peer: UNKNOWN },
        PeerCommand::Rollback { peer: UNKNOWN },
        PeerCommand::RequestKeyframe { peer: UNKNOWN },
        PeerCommand::SetIceServers { peer: UNKNOWN, servers: Vec::new() },
        PeerCommand::AddCandidate { peer: UNKNOWN, candidate: candidate(1) },
    ] {
        let what = format!("{command:?}");
        let outcome = bench.run(command).await?;
        require(outcome.is_err(), || format!("without a peer {what} brought {outcome:?}"))?;
    }
    bench.settle().await
}

async fn closes_nothing<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = bench(stage).await;
    for step in closing(UNKNOWN) {
        bench.well(step).await?;
    }
    bench.well(PeerCommand::Create { peer: PEER }).await?;
    close(&mut bench).await?;
    close(&mut bench).await?;
    bench.settle().await
}

async fn overtakes<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = created(stage).await?;
    let queued: Vec<_> = (0..30)
        .map(|_| bench.submit(PeerCommand::CreateOffer { peer: PEER, restart: false }))
        .collect();
    let steps = closing(PEER).map(|step| bench.submit(step));
    let last = steps[2];
    // A port on another thread may have carried out some before the close was submitted: those
    // whose completions are there already, and the one it was at.
    while bench.read(Duration::ZERO).await? {}
    let carried_out = |bench: &Bench<Peers<S::Port>>| {
        let ended = queued.iter().filter_map(|ticket| bench.known(*ticket));
        ended.filter(|outcome| !was_overtaken(outcome)).count()
    };
    let before_the_close = carried_out(&bench);
    let closed = bench.outcome(last).await?;
    require(closed == Ok(Done::Ok), || format!("closing ended with {closed:?}"))?;
    bench.settle().await?;
    let in_all = carried_out(&bench);
    require(in_all <= before_the_close + 1, || {
        format!(
            "of {} queued commands {in_all} were carried out, {before_the_close} of them before the close",
            queued.len()
        )
    })?;
    require(bench.completed.last() == Some(&last), || {
        "the close completed before what it cancelled".into()
    })
}

async fn bounded<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = created(stage).await?;
    let tickets: Vec<Ticket> = (0..FLOOD)
        .map(|n| {
            let candidate = candidate(u16::try_from(n).unwrap_or(u16::MAX));
            bench.submit(PeerCommand::AddCandidate { peer: PEER, candidate })
        })
        .collect();
    bench.settle().await?;
    let refused = tickets.iter().filter(|t| bench.known(**t).is_some_and(Result::is_err)).count();
    require(refused > 0, || format!("{FLOOD} commands wait, and none was refused"))?;
    close(&mut bench).await?;
    bench.settle().await
}

fn candidate(number: u16) -> Candidate {
    Candidate {
        text: format!("candidate:{number} 1 udp 1 127.0.0.1 {} typ host", 1000 + number % 60_000)
            .into(),
        mid: Some("0".into()),
        mline_index: Some(0),
        ufrag: None,
    }
}

async fn silence<S: PeerStage>(stage: &mut S) -> Found {
    let mut bench = created(stage).await?;
    offered_and_connected(stage, &mut bench).await?;
    close(&mut bench).await?;
    bench.silent_from_now(PEER.0).await?;
    let late = bench.run(PeerCommand::RequestKeyframe { peer: PEER }).await?;
    require(late.is_err(), || format!("a closed peer did {late:?}"))
}

async fn dropped<S: PeerStage>(stage: &mut S) -> Found {
    let (clock, patience) = (stage.clock(), stage.pace().patience);
    let mut bench = bench(stage).await;
    let free = || stage.open_resources() == 0;
    require(until(clock.as_ref(), patience, free).await, || {
        format!("{} things of earlier ports are still open", stage.open_resources())
    })?;
    bench.well(PeerCommand::Create { peer: PEER }).await?;
    described(&mut bench, SdpKind::Offer).await?;
    require(stage.open_resources() > 0, || "an open peer connection counts as no resource".into())?;
    bench.submit(PeerCommand::CreateOffer { peer: PEER, restart: false });
    bench.drop_port();
    let free = || stage.open_resources() == 0;
    require(until(clock.as_ref(), patience, free).await, || {
        format!("{} things are open after the port was dropped", stage.open_resources())
    })
}
