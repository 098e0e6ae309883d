//! The promises of a signaling port.

use core::time::Duration;
use std::sync::Arc;

use async_trait::async_trait;
use negotiation_core::{
    Candidate, ConnectionId, Description, Done, Message, SignalingCommand, SignalingEvent, Ticket,
};
use viewer_session::facts::read_description;
use viewer_session::{Clock, MaybeSend, SignalingPort};

use crate::bench::{Bench, Links, Pace, until, was_overtaken, within};
use crate::report::{Found, Report, Trouble, require};

/// Fresh signaling ports, and the other end of the channel.
#[cfg_attr(not(target_family = "wasm"), async_trait)]
#[cfg_attr(target_family = "wasm", async_trait(?Send))]
pub trait SignalingStage: MaybeSend {
    /// The port under test.
    type Port: SignalingPort;

    /// The clock that waiting is done on.
    fn clock(&self) -> Arc<dyn Clock>;

    /// A port with nothing open, and a master on its channel that has received nothing yet.
    async fn port(&mut self) -> Self::Port;

    /// The next message that the master receives. Only ever dropped when the check fails.
    async fn received(&mut self) -> Message;

    /// The master sends this to the viewer it received last.
    async fn say(&mut self, message: Message);

    /// From now on opening a connection takes for ever, or no longer. False when that cannot be
    /// done.
    async fn hang(&mut self, hangs: bool) -> bool;

    /// The service cuts the connections that are open. False when that cannot be done.
    async fn cut(&mut self) -> bool;

    /// Sockets, tasks or whatever else the ports of this stage hold open now.
    fn open_resources(&self) -> usize;

    /// Texts that no port may ever report: keys, tokens, passwords.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// How long to wait.
    fn pace(&self) -> Pace {
        Pace::default()
    }
}

const LINK: ConnectionId = ConnectionId(1);
const OTHER: ConnectionId = ConnectionId(2);

/// Messages of a burst: fewer than any quota, more than any accident of order.
const BURST: u16 = 12;

/// More commands than any queue of an adapter should hold.
const FLOOD: usize = 5_000;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 127.0.0.1\r\na=mid:0\r\na=recvonly\r\n\
    a=ice-ufrag:here\r\na=ice-pwd:not-a-secret-of-anybody\r\na=fingerprint:sha-256 00:11\r\n";

/// Checks every promise of a signaling port, each on a port of its own.
pub async fn check_signaling<S: SignalingStage>(stage: &mut S) -> Report {
    let mut report = Report::default();
    report.add("with_nothing_to_say_next_stays_pending", pending(stage).await);
    report.add("a_link_opens_and_says_its_id_once", opens(stage).await);
    report.add("messages_go_out_in_their_order", outgoing(stage).await);
    report.add("messages_come_in_in_their_order_whatever_is_dropped", incoming(stage).await);
    report.add("commands_for_no_link_complete_with_a_failure", no_link(stage).await);
    report.add("closing_what_is_not_open_completes_well", closes_nothing(stage).await);
    report.add("a_close_overtakes_and_cancels", overtakes(stage).await);
    report.add("queues_are_bounded_and_every_ticket_completes", bounded(stage).await);
    report.add("after_a_close_completed_there_is_silence", silence(stage).await);
    report.add("closing_one_link_leaves_the_other", two_links(stage).await);
    report.add("the_end_of_a_link_is_told_once", told_once(stage).await);
    report.add("dropping_the_port_frees_everything", dropped(stage).await);
    report
}

async fn bench<S: SignalingStage>(stage: &mut S) -> Bench<Links<S::Port>> {
    let (clock, pace, secrets) = (stage.clock(), stage.pace(), stage.secrets());
    Bench::new(Links(stage.port().await), clock, pace, secrets)
}

async fn opened<S: SignalingStage>(stage: &mut S) -> Found<Bench<Links<S::Port>>> {
    let mut bench = bench(stage).await;
    connect(&mut bench).await?;
    Ok(bench)
}

async fn connect<P: SignalingPort>(bench: &mut Bench<Links<P>>) -> Found {
    let connect = SignalingCommand::Connect { link: LINK, attempt: 1, client_id: None };
    let done = bench.well(connect).await?;
    require(matches!(done, Done::Connected(_)), || format!("connecting brought {done:?}"))
}

async fn hear<S: SignalingStage>(stage: &mut S) -> Found<Message> {
    let (clock, patience) = (stage.clock(), stage.pace().patience);
    within(clock.as_ref(), patience, "the master's hearing of a message", stage.received()).await
}

fn offer() -> Message {
    // A description that reads as none would be a defect of this file alone.
    let facts = read_description(SDP).unwrap_or_else(|_| Description {
        sdp: negotiation_core::Sdp::new(SDP),
        facts: negotiation_core::SdpSummary::default(),
    });
    Message::Offer(facts)
}

fn candidate(number: u16) -> Message {
    Message::Candidate(Candidate {
        text: format!("candidate:{number} 1 udp 1 127.0.0.1 {} typ host", 1000 + number).into(),
        mid: Some("0".into()),
        mline_index: Some(0),
        ufrag: None,
    })
}

fn number_of(candidate: &Candidate) -> Option<u16> {
    candidate.text.strip_prefix("candidate:")?.split(' ').next()?.parse().ok()
}

fn send(link: ConnectionId, message: Message) -> SignalingCommand {
    SignalingCommand::Send { link, message }
}

async fn pending<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = bench(stage).await;
    let quiet = stage.pace().quiet;
    require(!bench.read(quiet).await?, || "a port without a command reported something".into())
}

async fn opens<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = opened(stage).await?;
    let done = bench.well(SignalingCommand::FetchIceServers { link: LINK }).await?;
    let servers = matches!(done, Done::IceServers(_));
    require(servers, || format!("asking for servers brought {done:?}"))?;
    bench.settle().await?;
    require(bench.events.is_empty(), || format!("nothing was sent, and yet: {:?}", bench.events))
}

async fn outgoing<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = opened(stage).await?;
    let mut tickets = vec![bench.submit(send(LINK, offer()))];
    tickets.extend((0..BURST).map(|number| bench.submit(send(LINK, candidate(number)))));
    for ticket in &tickets {
        let outcome = bench.outcome(*ticket).await?;
        require(outcome == Ok(Done::Ok), || format!("{ticket} ended with {outcome:?}"))?;
    }
    require(bench.completed.ends_with(&tickets), || {
        format!("completed out of order: {:?}", bench.completed)
    })?;
    let first = hear(stage).await?;
    require(matches!(first, Message::Offer(_)), || format!("{first:?} came before the offer"))?;
    for expected in 0..BURST {
        let received = hear(stage).await?;
        let number = match &received {
            Message::Candidate(candidate) => number_of(candidate),
            Message::Offer(_) | Message::Answer(_) => None,
        };
        require(number == Some(expected), || {
            format!("received {received:?} instead of {expected}")
        })?;
    }
    bench.settle().await
}

async fn incoming<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = opened(stage).await?;
    bench.well(send(LINK, offer())).await?;
    hear(stage).await?;
    let Message::Offer(answer) = offer() else { return Ok(()) };
    stage.say(Message::Answer(answer)).await;
    for number in 0..BURST {
        stage.say(candidate(number)).await;
    }
    let last = |event: &(u32, SignalingEvent)| number_in(&event.1) == Some(BURST - 1);
    bench.event("the master's last candidate", last).await?;
    bench.settle().await?;
    let answers = |(_, event): &&(u32, SignalingEvent)| {
        matches!(event, SignalingEvent::Answer { body: Ok(_), .. })
    };
    let answers = bench.events.iter().filter(answers).count();
    require(answers == 1, || format!("one answer was said, and {answers} came"))?;
    let numbers: Vec<_> = bench.events.iter().filter_map(|(_, e)| number_in(e)).collect();
    require(numbers.iter().copied().eq(0..BURST), || format!("candidates came as {numbers:?}"))
}

fn number_in(event: &SignalingEvent) -> Option<u16> {
    match event {
        SignalingEvent::Candidate { body: Ok(candidate), .. } => number_of(candidate),
        SignalingEvent::Candidate { .. }
        | SignalingEvent::Offer { .. }
        | SignalingEvent::Answer { .. }
        | SignalingEvent::Status { .. }
        | SignalingEvent::GoAway
        | SignalingEvent::ReconnectIceServer
        | SignalingEvent::Garbage
        | SignalingEvent::Disconnected(_) => None,
    }
}

async fn no_link<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = bench(stage).await;
    for command in [send(LINK, offer()), SignalingCommand::Join { link: LINK }] {
        let what = format!("{command:?}");
        let outcome = bench.run(command).await?;
        require(outcome.is_err(), || format!("without a link {what} brought {outcome:?}"))?;
    }
    bench.settle().await
}

async fn closes_nothing<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = bench(stage).await;
    bench.well(SignalingCommand::Disconnect { link: LINK }).await?;
    connect(&mut bench).await?;
    for _ in 0..2 {
        bench.well(SignalingCommand::Disconnect { link: LINK }).await?;
    }
    bench.well(SignalingCommand::Disconnect { link: OTHER }).await?;
    bench.settle().await
}

async fn overtakes<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = hanging(stage).await?;
    let result = close_overtakes(&mut bench).await;
    stage.hang(false).await;
    result
}

async fn hanging<S: SignalingStage>(stage: &mut S) -> Found<Bench<Links<S::Port>>> {
    let bench = bench(stage).await;
    if !stage.hang(true).await {
        return Err(Trouble::Cannot("the stage cannot make a link hang"));
    }
    Ok(bench)
}

async fn close_overtakes<P: SignalingPort>(bench: &mut Bench<Links<P>>) -> Found {
    let connect =
        bench.submit(SignalingCommand::Connect { link: LINK, attempt: 1, client_id: None });
    let mut queued: Vec<_> = (0..BURST).map(|n| bench.submit(send(LINK, candidate(n)))).collect();
    let at_once = bench.read(Duration::from_millis(30)).await?;
    require(!at_once || bench.known(connect).is_none(), || "it does not hang".into())?;
    let close = bench.submit(SignalingCommand::Disconnect { link: LINK });
    let closed = bench.outcome(close).await?;
    require(closed == Ok(Done::Ok), || format!("closing ended with {closed:?}"))?;
    bench.settle().await?;
    queued.insert(0, connect);
    for ticket in queued {
        let outcome = bench.known(ticket);
        require(outcome.is_some_and(was_overtaken), || {
            format!("{ticket} was overtaken by the close and ended with {outcome:?}")
        })?;
    }
    require(bench.completed.last() == Some(&close), || {
        "the close completed before what it cancelled".into()
    })
}

async fn bounded<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = hanging(stage).await?;
    let result = flood(&mut bench).await;
    stage.hang(false).await;
    result
}

async fn flood<P: SignalingPort>(bench: &mut Bench<Links<P>>) -> Found {
    bench.submit(SignalingCommand::Connect { link: LINK, attempt: 1, client_id: None });
    let sends: Vec<Ticket> =
        (0..FLOOD).map(|n| bench.submit(send(LINK, candidate(n as u16)))).collect();
    let last = sends.last().copied().unwrap_or(Ticket { attempt: 1, seq: 1 });
    let refused = bench.outcome(last).await?;
    require(refused.is_err(), || format!("{FLOOD} messages wait, and the last: {refused:?}"))?;
    bench.well(SignalingCommand::Disconnect { link: LINK }).await?;
    bench.settle().await
}

async fn silence<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = opened(stage).await?;
    bench.well(send(LINK, offer())).await?;
    hear(stage).await?;
    for number in 0..BURST {
        stage.say(candidate(number)).await;
    }
    // They are on their way, or wait in the port, and are not read.
    bench.well(SignalingCommand::Disconnect { link: LINK }).await?;
    stage.say(candidate(BURST)).await;
    bench.silent_from_now(LINK.0).await?;
    bench.settle().await
}

async fn two_links<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = bench(stage).await;
    let first = SignalingCommand::Connect { link: LINK, attempt: 1, client_id: None };
    let Done::Connected(id) = bench.well(first).await? else {
        return Err(Trouble::broken("no id for the first link"));
    };
    let again = SignalingCommand::Connect { link: OTHER, attempt: 1, client_id: Some(id.clone()) };
    let Done::Connected(same) = bench.well(again).await? else {
        return Err(Trouble::broken("no id for the second link"));
    };
    require(same == id, || format!("the attempt's second link is {same}, its first {id}"))?;
    bench.well(SignalingCommand::Disconnect { link: LINK }).await?;
    bench.silent_from_now(LINK.0).await?;
    bench.well(send(OTHER, offer())).await?;
    hear(stage).await?;
    stage.say(candidate(3)).await;
    let wanted =
        |(link, event): &(u32, SignalingEvent)| *link == OTHER.0 && number_in(event) == Some(3);
    bench.event("a word on the second link", wanted).await?;
    bench.well(SignalingCommand::Disconnect { link: OTHER }).await?;
    bench.settle().await
}

async fn told_once<S: SignalingStage>(stage: &mut S) -> Found {
    let mut bench = opened(stage).await?;
    if !stage.cut().await {
        return Err(Trouble::Cannot("the stage cannot cut a link"));
    }
    let ended = |(link, event): &(u32, SignalingEvent)| {
        *link == LINK.0 && matches!(event, SignalingEvent::Disconnected(_))
    };
    bench.event("the end of the link", ended).await?;
    let outcome = bench.run(send(LINK, offer())).await?;
    require(outcome.is_err(), || "a message went out on a link that has ended".into())?;
    bench.settle().await?;
    let times = bench.events.iter().filter(|event| ended(event)).count();
    require(times == 1, || format!("the end was reported {times} times"))?;
    bench.well(SignalingCommand::Disconnect { link: LINK }).await?;
    Ok(())
}

async fn dropped<S: SignalingStage>(stage: &mut S) -> Found {
    let (clock, patience) = (stage.clock(), stage.pace().patience);
    let free = || stage.open_resources() == 0;
    require(until(clock.as_ref(), patience, free).await, || {
        format!("{} things of earlier ports are still open", stage.open_resources())
    })?;
    let mut bench = opened(stage).await?;
    bench.well(send(LINK, offer())).await?;
    bench.submit(SignalingCommand::FetchIceServers { link: LINK });
    require(stage.open_resources() > 0, || "an open link counts as no resource".into())?;
    bench.drop_port();
    let free = || stage.open_resources() == 0;
    require(until(clock.as_ref(), patience, free).await, || {
        format!("{} things are open after the port was dropped", stage.open_resources())
    })
}
