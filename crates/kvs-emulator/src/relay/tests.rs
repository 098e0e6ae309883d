//! Delivery, precedence and waiting, in virtual time.

use std::time::Duration;

use super::*;

const ARN: &str = "arn:aws:kinesisvideo:us-west-2:1:channel/c/1";

fn joining(client_id: Option<&str>) -> Joining<'_> {
    Joining { arn: ARN, channel: "c", client_id, peer: "127.0.0.1:1".parse().unwrap() }
}

fn join(relay: &mut Relay, client_id: Option<&str>) -> Connection {
    relay.join(&joining(client_id), Some(2), &Unknowns::default(), Instant::now()).unwrap()
}

fn send(relay: &mut Relay, kind: MessageType, from: Role, viewer: &str, frame: &str) {
    relay.deliver(envelope(kind, from, viewer, frame), &Unknowns::default(), Instant::now());
}

fn envelope(kind: MessageType, from: Role, viewer: &str, frame: &str) -> Envelope {
    Envelope {
        arn: ARN.to_owned(),
        kind,
        from,
        viewer: viewer.to_owned(),
        sender: Sender::Absent,
        payload: frame.to_owned(),
        cut: false,
        expires: Instant::now() + Duration::from_secs(60),
    }
}

fn texts(connection: &mut Connection) -> Vec<String> {
    let mut out = Vec::new();
    while let Ok(outgoing) = connection.outgoing.try_recv() {
        out.push(match outgoing {
            Outgoing::Text(text) => {
                let message: serde_json::Value = serde_json::from_str(&text).unwrap();
                message["messagePayload"].as_str().unwrap().to_owned()
            }
            Outgoing::Close(code, why) => format!("Close({code}, {why:?})"),
            Outgoing::Injected(_) | Outgoing::GoAway | Outgoing::Stall => format!("{outgoing:?}"),
        });
    }
    out
}

use MessageType::{IceCandidate, SdpAnswer, SdpOffer};

#[tokio::test(start_paused = true)]
async fn undelivered_offer_is_overwritten_by_a_newer_one() {
    let mut relay = Relay::default();
    let _viewer = join(&mut relay, Some("v"));
    let _other = join(&mut relay, Some("w"));
    send(&mut relay, SdpOffer, Role::Viewer, "v", "old");
    send(&mut relay, IceCandidate, Role::Viewer, "v", "old candidate");
    send(&mut relay, SdpOffer, Role::Viewer, "w", "w's");
    send(&mut relay, SdpOffer, Role::Viewer, "v", "new");
    send(&mut relay, IceCandidate, Role::Viewer, "v", "candidate");
    let mut master = join(&mut relay, None);
    assert_eq!(texts(&mut master), ["w's", "new", "candidate"]);
    relay.leave(ARN, master.link.id, Instant::now());
    assert_eq!(texts(&mut join(&mut relay, None)), [""; 0], "delivered once");
}

#[tokio::test(start_paused = true)]
async fn undelivered_message_expires() {
    let mut relay = Relay::default();
    let _viewer = join(&mut relay, Some("v"));
    send(&mut relay, SdpOffer, Role::Viewer, "v", "offer");
    tokio::time::advance(Duration::from_secs(59)).await;
    send(&mut relay, SdpOffer, Role::Viewer, "w", "later");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(texts(&mut join(&mut relay, None)), ["later"]);
}

#[tokio::test(start_paused = true)]
async fn newer_connection_displaces_the_older() {
    let mut relay = Relay::default();
    let mut old = join(&mut relay, Some("v"));
    let mut new = join(&mut relay, Some("v"));
    send(&mut relay, SdpAnswer, Role::Master, "v", "answer");
    assert_eq!(texts(&mut old), ["Close(1001, Displaced)"]);
    assert_eq!(texts(&mut new), ["answer"]);
    relay.leave(ARN, old.link.id, Instant::now());
    send(&mut relay, SdpAnswer, Role::Master, "v", "again");
    assert_eq!(texts(&mut new), ["again"], "the old one's end frees nothing");
    let settings = Unknowns { displaced_close_code: None, ..Unknowns::default() };
    relay.join(&joining(Some("v")), None, &settings, Instant::now()).unwrap();
    assert_eq!(texts(&mut new), [""; 0], "left open, as configured");
}

#[tokio::test(start_paused = true)]
async fn viewer_beyond_the_limit_is_refused() {
    let mut relay = Relay::default();
    let seats = [join(&mut relay, Some("a")), join(&mut relay, Some("b"))];
    let again = |relay: &mut Relay, id| {
        relay.join(&joining(Some(id)), Some(2), &Unknowns::default(), Instant::now()).is_some()
    };
    assert!(!again(&mut relay, "c"));
    assert!(again(&mut relay, "b"), "a second connection of one id is no second viewer");
    relay.leave(ARN, seats[0].link.id, Instant::now());
    assert!(again(&mut relay, "c"));
}

#[tokio::test(start_paused = true)]
async fn overtaken_and_held_messages_are_delivered_later() {
    let mut relay = Relay::default();
    let mut viewer = join(&mut relay, Some("v"));
    let answer = envelope(SdpAnswer, Role::Master, "v", "answer");
    relay.overtake(answer.clone(), 2).unwrap();
    for frame in ["1", "2", "3"] {
        send(&mut relay, IceCandidate, Role::Master, "v", frame);
    }
    assert_eq!(texts(&mut viewer), ["1", "2", "answer", "3"]);
    let id = relay.overtake(answer.clone(), 2).unwrap();
    relay.overtake_no_more(ARN, id, &Unknowns::default(), Instant::now());
    assert_eq!(texts(&mut viewer), ["answer"]);
    assert!(relay.hold(7, answer));
    assert_eq!(texts(&mut viewer), [""; 0]);
    assert_eq!(relay.release(7, &Unknowns::default(), Instant::now()), 1);
    assert_eq!(texts(&mut viewer), ["answer"]);
}

#[tokio::test(start_paused = true)]
async fn replay_prefers_a_message_of_an_earlier_connection() {
    let mut relay = Relay::default();
    let _master = join(&mut relay, None);
    let replayed = |relay: &mut Relay, viewer: &str, frame: &str| {
        relay.remember(&envelope(SdpAnswer, Role::Master, viewer, frame))
    };
    let first = join(&mut relay, Some("v"));
    assert_eq!(replayed(&mut relay, "v", "1"), None);
    assert_eq!(replayed(&mut relay, "v", "2").as_deref(), Some("1"), "there is no earlier one");
    relay.leave(ARN, first.link.id, Instant::now());
    let _second = join(&mut relay, Some("v-2"));
    assert_eq!(replayed(&mut relay, "v-2", "3").as_deref(), Some("2"));
    assert_eq!(replayed(&mut relay, "v-2", "4").as_deref(), Some("2"), "not the attempt's own");
    assert_eq!(relay.last(ARN, SdpAnswer, Role::Master).as_deref(), Some("4"));
}

#[tokio::test(start_paused = true)]
async fn message_to_absent_client_waits_for_its_connection() {
    let mut relay = Relay::default();
    let mut viewer = join(&mut relay, Some("v"));
    let answer = envelope(SdpAnswer, Role::Master, "v", "answer");
    relay.keep(answer, &Unknowns::default(), Instant::now());
    assert_eq!(texts(&mut viewer), [""; 0]);
    assert_eq!(texts(&mut join(&mut relay, Some("v"))), ["answer"]);
}

#[tokio::test(start_paused = true)]
async fn socket_with_a_full_queue_is_cut() {
    let mut relay = Relay::default();
    let viewer = join(&mut relay, Some("v"));
    for _ in 0..=QUEUE_MAX {
        send(&mut relay, IceCandidate, Role::Master, "v", "x");
    }
    assert!(viewer.kill.is_cancelled());
}
