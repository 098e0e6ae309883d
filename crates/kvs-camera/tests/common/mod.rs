//! A bare viewer: signaling and the low-level peer connection, without a session.
#![expect(dead_code, reason = "each test binary uses its part")]
#![expect(clippy::wildcard_enum_match_arm, reason = "what a test does not wait for is let go")]

use std::collections::BTreeSet;
use std::time::Duration;

use kvs_camera::{Camera, CameraConfig, CameraEvent};
use kvs_emulator::{
    DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig, Quotas,
};
use negotiation_core::{
    Candidate, ClientIdPolicy, ConnectionId, Description, Done, MediaKind, Message, Sdp,
    SdpSummary, SignalingCommand, SignalingEvent, Ticket,
};
use peer_webrtc::stack::{Stack, StackConfig, StackEvent, StackEvents};
use peer_webrtc::{Authorities, Codec, IcePolicy, Mdns, RtpArrival};
use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use signaling_aws::{AwsSignaling, SignalingConfig};
use tokio::sync::broadcast;
use tokio::time::timeout;
use viewer_session::facts::read_description;
use viewer_session::{SignalingInput, SignalingPort as _};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);
const LINK: ConnectionId = ConnectionId(1);

pub(crate) async fn emulator() -> Emulator {
    let config = EmulatorConfig {
        channels: vec!["door".to_owned()],
        quotas: Quotas { enabled: false, ..Quotas::default() },
        ..EmulatorConfig::default()
    };
    Emulator::start(config).await.expect("the emulator starts")
}

pub(crate) fn signaling(emulator: &Emulator, client_id: &str) -> SignalingConfig {
    SignalingConfig::builder("door")
        .region(emulator.region())
        .endpoint_url(emulator.endpoint())
        .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
        .client_id(client_id)
        .client_id_policy(ClientIdPolicy::Fixed)
        .build()
        .expect("valid")
}

pub(crate) fn config(emulator: &Emulator) -> CameraConfig {
    CameraConfig::new(signaling(emulator, "unused"))
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// Waits for a matching event, and discards the others.
pub(crate) async fn event(
    events: &mut broadcast::Receiver<CameraEvent>,
    what: &str,
    fits: impl Fn(&CameraEvent) -> bool,
) -> CameraEvent {
    within(what, async {
        loop {
            let event = events.recv().await.expect("the camera runs");
            if fits(&event) {
                return event;
            }
        }
    })
    .await
}

pub(crate) async fn start(config: CameraConfig) -> (Camera, broadcast::Receiver<CameraEvent>) {
    let mut camera = Camera::start(config).await.expect("the camera starts");
    let events = camera.events();
    (camera, events)
}

/// A frame as the viewer receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) rtp_ts: u32,
    pub(crate) keyframe: bool,
}

pub(crate) struct Viewer {
    port: AwsSignaling,
    seq: u32,
    pub(crate) id: String,
    pub(crate) stack: Stack,
    pub(crate) queues: StackEvents,
    pub(crate) answers: Vec<String>,
    codecs: Vec<Codec>,
    applied: bool,
    waiting: Vec<Candidate>,
    track_ssrc: Option<u32>,
}

impl Viewer {
    /// Opens the signaling connection and a peer connection; makes no offer yet.
    pub(crate) async fn open(emulator: &Emulator, id: &str, video: Codec) -> Self {
        let mut port = AwsSignaling::new(signaling(emulator, id));
        port.submit(
            Ticket { attempt: 1, seq: 1 },
            SignalingCommand::Connect { link: LINK, attempt: 1, client_id: None },
        );
        let id = within("the viewer's link", async {
            loop {
                if let SignalingInput::Completed(completion) = port.next().await {
                    match completion.outcome.expect("connects") {
                        Done::Connected(id) => return id.as_str().to_owned(),
                        other => panic!("{other:?}"),
                    }
                }
            }
        })
        .await;
        let codecs = vec![video, Codec::Opus];
        let (stack, queues) = build(&codecs).await;
        Self {
            port,
            seq: 1,
            id,
            stack,
            queues,
            answers: Vec::new(),
            codecs,
            applied: false,
            waiting: Vec::new(),
            track_ssrc: None,
        }
    }

    pub(crate) async fn offer(&mut self) {
        let offer = self.make_offer().await;
        self.send_offer(&offer);
    }

    pub(crate) async fn make_offer(&self) -> String {
        let offer = self.stack.connection().create_offer(None).await.expect("offers");
        let text = offer.sdp.clone();
        self.stack.set_local(offer).await.expect("sets");
        text
    }

    pub(crate) fn send_offer(&mut self, sdp: &str) {
        let description = read_description(sdp).expect("valid");
        self.send(Message::Offer(description));
    }

    /// Sends any text as an offer.
    pub(crate) fn send_unchecked(&mut self, sdp: &str) {
        let facts = SdpSummary::default();
        self.send(Message::Offer(Description { sdp: Sdp::new(sdp), facts }));
    }

    /// Sends an offer and returns the answer without applying it.
    pub(crate) async fn answer_to(&mut self, sdp: &str) -> String {
        let before = self.answers.len();
        self.send_offer(sdp);
        self.drive_signaling(before).await;
        self.answers.last().expect("came").clone()
    }

    async fn drive_signaling(&mut self, answers: usize) {
        within("an answer", async {
            while self.answers.len() == answers {
                if let SignalingInput::Event(_, SignalingEvent::Answer { body, .. }) =
                    self.port.next().await
                {
                    self.answers.push(body.expect("readable").sdp.as_str().to_owned());
                }
            }
        })
        .await;
    }

    /// Creates a new peer connection on the same signaling connection and under the same id.
    pub(crate) async fn begin_again(&mut self) -> Stack {
        let (stack, queues) = build(&self.codecs).await;
        self.queues = queues;
        self.applied = false;
        self.waiting.clear();
        std::mem::replace(&mut self.stack, stack)
    }

    fn send(&mut self, message: Message) {
        self.seq += 1;
        let ticket = Ticket { attempt: 1, seq: self.seq };
        self.port.submit(ticket, SignalingCommand::Send { link: LINK, message });
    }

    /// Handles events until `done` returns true: applies answers and exchanges candidates.
    pub(crate) async fn drive(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        within(what, async {
            while !done(self) {
                tokio::select! {
                    input = self.port.next() => if let SignalingInput::Event(_, event) = input {
                        self.on_signaling(event).await;
                    },
                    Some(event) = self.queues.events.recv() => match event {
                        StackEvent::Candidate(text) => {
                            let candidate = Candidate {
                                text: text.as_str().into(),
                                mid: Some("0".to_owned()),
                                mline_index: Some(0),
                                ufrag: None,
                            };
                            match self.applied {
                                true => self.send(Message::Candidate(candidate)),
                                false => self.waiting.push(candidate),
                            }
                        }
                        StackEvent::Track(_) | StackEvent::GatheringDone => {}
                        _ => {}
                    },
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
        })
        .await;
    }

    async fn on_signaling(&mut self, event: SignalingEvent) {
        match event {
            SignalingEvent::Answer { body, .. } => {
                let text = body.expect("readable").sdp.as_str().to_owned();
                self.answers.push(text.clone());
                if !self.applied {
                    self.stack.apply_answer(&text).await.expect("applies");
                    self.applied = true;
                    for candidate in std::mem::take(&mut self.waiting) {
                        self.send(Message::Candidate(candidate));
                    }
                }
            }
            SignalingEvent::Candidate { body, .. } if self.applied => {
                let candidate = body.expect("readable");
                self.stack.add_candidate(&candidate.text).await.expect("adds");
            }
            _ => {}
        }
    }

    /// Sends the gathered candidates before anything else, with those that real viewers also send:
    /// an empty candidate, one without a mid, and an invalid one.
    pub(crate) async fn send_candidates_early(&mut self) {
        let candidate = |text: &str, mid: Option<&str>| {
            Message::Candidate(Candidate {
                text: text.into(),
                mid: mid.map(str::to_owned),
                mline_index: None,
                ufrag: None,
            })
        };
        self.send(candidate("", Some("0")));
        self.send(candidate("nonsense", Some("0")));
        while let Some(event) = within("candidates", self.queues.events.recv()).await {
            match event {
                StackEvent::Candidate(text) => self.send(candidate(&text, None)),
                StackEvent::GatheringDone => return,
                _ => {}
            }
        }
    }

    pub(crate) fn has_media(&mut self) -> bool {
        self.queues.media.as_ref().is_some_and(|media| !media.is_empty())
    }

    /// Makes an offer, and waits until the first packet arrives.
    pub(crate) async fn go_live(&mut self) {
        self.offer().await;
        self.drive("media", Self::has_media).await;
    }

    async fn packet(&mut self) -> RtpArrival {
        within("a packet", self.queues.media.as_mut().expect("receives").recv())
            .await
            .expect("the connection is open")
    }

    /// Returns the next frame, in the order of arrival (loopback keeps it).
    pub(crate) async fn picture(&mut self) -> Picture {
        let video = self.codecs[0];
        let mut begins = false;
        loop {
            let arrival = self.packet().await;
            let header = &arrival.packet.header;
            if header.payload_type != video.payload_type() {
                continue;
            }
            self.track_ssrc = Some(header.ssrc);
            let first = starts_frame(video, &arrival.packet.payload);
            begins |= first;
            if begins {
                let keyframe = is_key(video, &arrival.packet.payload);
                let picture = Picture { rtp_ts: header.timestamp, keyframe };
                // Skip the rest of the frame.
                if !header.marker {
                    while !self.packet_of(video).await.packet.header.marker {}
                }
                return picture;
            }
        }
    }

    async fn packet_of(&mut self, codec: Codec) -> RtpArrival {
        loop {
            let arrival = self.packet().await;
            if arrival.packet.header.payload_type == codec.payload_type() {
                return arrival;
            }
        }
    }

    pub(crate) async fn send_pli(&self) {
        let media_ssrc = self.track_ssrc.expect("a picture came");
        self.rtcp(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc })).await;
    }

    pub(crate) async fn send_fir(&self) {
        let ssrc = self.track_ssrc.expect("a picture came");
        let fir = vec![FirEntry { ssrc, sequence_number: 1 }];
        self.rtcp(Box::new(FullIntraRequest { sender_ssrc: 1, media_ssrc: 0, fir })).await;
    }

    async fn rtcp(&self, packet: Box<dyn rtc::rtcp::Packet>) {
        let ssrc = self.track_ssrc;
        for receiver in self.stack.connection().get_receivers().await {
            let track = receiver.track();
            if track.ssrcs().await.first().copied() == ssrc {
                track.write_rtcp(vec![packet]).await.expect("asks");
                return;
            }
        }
        panic!("no track of {ssrc:?}");
    }
}

async fn build(codecs: &[Codec]) -> (Stack, StackEvents) {
    let config = StackConfig {
        codecs: codecs.to_vec(),
        bind: vec!["127.0.0.1:0".to_owned()],
        policy: IcePolicy::All,
        mdns: Mdns::Ignore,
        authorities: Authorities::system(),
        detour: None,
        media_queue: 4096,
        rtx: false,
    };
    let (stack, queues) = Stack::build(&config).await.expect("builds");
    stack.receive(MediaKind::Video).await.expect("receives");
    stack.receive(MediaKind::Audio).await.expect("receives");
    (stack, queues)
}

/// Returns whether a packet begins a frame and is not a later fragment.
fn starts_frame(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        // The S bit of the payload descriptor, and partition 0 (RFC 7741, 4.2).
        Codec::Vp8 => payload.first().is_some_and(|byte| byte & 0x17 == 0x10),
        // A fragment (28) begins with the S bit (RFC 6184, 5.8).
        _ => match payload {
            [first, second, ..] if first & 0x1f == 28 => second & 0x80 != 0,
            _ => true,
        },
    }
}

fn is_key(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        // X, I with a 15-bit picture id: four bytes of descriptor; then the P bit (RFC 6386, 9.1).
        Codec::Vp8 => {
            let descriptor =
                match payload {
                    [first, ext, id, ..] if first & 0x80 != 0 && ext & 0x80 != 0 => {
                        if id & 0x80 != 0 { 4 } else { 3 }
                    }
                    _ => 1,
                };
            payload.get(descriptor).is_some_and(|byte| byte & 1 == 0)
        }
        // The parameter sets come as one STAP-A (24) before the picture.
        _ => payload.len() > 3 && payload[0] & 0x1f == 24 && payload[3] & 0x1f == 7,
    }
}

/// Returns the descriptors of this process, except those that the runtime keeps.
pub(crate) fn descriptors() -> BTreeSet<String> {
    std::fs::read_dir("/proc/self/fd")
        .expect("readable")
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| target.starts_with("socket:"))
        .collect()
}
