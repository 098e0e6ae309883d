//! Tests answers in every form that browsers accept: the stack takes them, and media can flow.

use std::time::Duration;

use negotiation_core::MediaKind;
use peer_webrtc::Codec;
use peer_webrtc::stack::{Stack, StackEvents};

use crate::common::{Master, config, h264, within};

/// A name, and a change to a valid answer.
type Change = (&'static str, fn(&str) -> String);

const TAKEN: &[Change] = &[
    ("honest", str::to_owned),
    ("no mid", |a| without(a, "a=mid")),
    ("no mid of audio", |a| in_section(a, "m=audio", |s| without(s, "a=mid"))),
    ("no mid and no group", |a| without(&without(a, "a=mid"), "a=group")),
    ("a group of other mids", |a| {
        without(a, "a=group").replacen("a=", "a=group:BUNDLE x y\r\na=", 1)
    }),
    ("audio refused bare", |a| {
        in_section(a, "m=audio", |_| "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n".to_owned())
    }),
    ("audio refused with format 0", |a| {
        in_section(a, "m=audio", |_| "m=audio 0 RTP/AVP 0\r\na=mid:1\r\n".to_owned())
    }),
    ("audio refused with unknown formats", |a| {
        in_section(a, "m=audio", |_| "m=audio 0 UDP/TLS/RTP/SAVPF 13 99 x\r\n".to_owned())
    }),
    ("audio missing", |a| in_section(a, "m=audio", |_| String::new())),
    ("data missing", |a| in_section(a, "m=application", |_| String::new())),
    ("data refused", |a| a.replace("m=application 9", "m=application 0")),
    ("sections reversed", |a| {
        let (head, mut sections) = split(a);
        sections.reverse();
        head + &sections.concat()
    }),
    ("one section more", |a| a.to_owned() + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:9\r\n"),
    ("LF", |a| a.replace("\r\n", "\n")),
    ("CR", |a| a.replace("\r\n", "\r")),
    ("CR CR LF", |a| a.replace("\r\n", "\r\r\n")),
    ("blank lines", |a| a.replace("\r\n", "\r\n\r\n")),
    ("blanks", |a| a.replace("\r\n", "  \t\r\n")),
    ("line ends written out", |a| a.replace("\r\n", "\\r\\n")),
    ("NULs", |a| format!("{a}\0\0")),
    ("byte order mark", |a| format!("\u{feff}{a}")),
    ("no setup", |a| without(a, "a=setup")),
    ("setup actpass", |a| a.replace("a=setup:active", "a=setup:actpass")),
    ("no rtcp-mux", |a| without(a, "a=rtcp-mux")),
    ("no o, s, t, c", |a| {
        ["o=", "s=", "t=", "c="].iter().fold(a.to_owned(), |a, p| without(&a, p))
    }),
    ("transport at the session", |a| {
        let transport = ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint", "a=setup"];
        let lines: String = transport
            .iter()
            .filter_map(|name| a.lines().find(|line| line.starts_with(name)))
            .map(|line| format!("{line}\r\n"))
            .collect();
        let rest = transport.iter().fold(a.to_owned(), |a, name| without(&a, name));
        rest.replacen("m=", &format!("{lines}m="), 1)
    }),
    ("two fingerprints", |a| {
        a.replacen("a=fingerprint", "a=fingerprint:sha-512 AA:BB\r\na=fingerprint", 1)
    }),
    ("upper case", |a| {
        a.replace("sha-256", "SHA-256").replace("a=sendonly", "a=SENDONLY").replace("H264", "h264")
    }),
    ("no sources", |a| without(a, "a=ssrc")),
    ("sources that cannot be read", |a| a.replace("a=ssrc:", "a=ssrc:x")),
    ("directions at the session", |a| {
        let bare = ["a=sendonly", "a=sendrecv"].iter().fold(a.to_owned(), |a, d| without(&a, d));
        bare.replacen("m=", "a=sendonly\r\nm=", 1)
    }),
    ("no direction", |a| without(&without(a, "a=sendonly"), "a=sendrecv")),
    ("unknown attributes", |a| a.replace("a=mid", "a=foo\r\na=x-bar:1 2 3\r\na=mid")),
    ("unknown lines", |a| a.replace("a=mid", "hello\r\ny=1\r\nb=AS:9x\r\na=mid")),
    ("a long line", |a| a.replace("a=mid", &format!("a=x:{}\r\na=mid", "y".repeat(8000)))),
    ("broken extensions", |a| a.replace("a=mid", "a=extmap:x y\r\na=extmap:1\r\na=mid")),
    ("broken candidates", |a| a.replace("a=mid", "a=candidate:nonsense\r\na=mid")),
    ("another number for H264", |a| a.replace(":102", ":120").replace("SAVPF 102", "SAVPF 120")),
    ("no map", |a| without(&without(a, "a=rtpmap:102"), "a=fmtp:102")),
];

async fn viewer() -> (Stack, StackEvents, String) {
    let codecs = [Codec::H264, Codec::Vp8, Codec::Opus];
    let (viewer, events) = Stack::build(&config(&codecs, 1024)).await.expect("builds");
    viewer.receive(MediaKind::Video).await.expect("receives");
    viewer.receive(MediaKind::Audio).await.expect("receives");
    viewer.connection().create_data_channel("data", None).await.expect("a channel");
    let offer = viewer.connection().create_offer(None).await.expect("offers");
    let text = offer.sdp.clone();
    viewer.set_local(offer).await.expect("sets");
    (viewer, events, text)
}

#[tokio::test]
async fn answers_that_browsers_accept_are_applied_and_media_flows() {
    for (name, change) in TAKEN {
        let (viewer, mut events, offer) = viewer().await;
        let mut master = Master::new(Codec::H264).await;
        let answer = master.stack.answer(&offer).await.expect("answers");
        let changed = change(&answer);
        let applied = viewer.apply_answer(&changed).await;
        assert!(applied.is_ok(), "{name}: {:?}\n{changed}", applied.err().map(|e| e.to_string()));
        for candidate in master.candidates().await {
            viewer.add_candidate(&candidate).await.expect("adds");
        }
        let mut media = events.media.take().expect("a receiver has media");
        let mut seq = 0_u16;
        let flows = async {
            while media.try_recv().is_err() {
                let _ = master.video.send(h264(seq, u32::from(seq) * 3000, true)).await;
                seq = seq.wrapping_add(1);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(name, flows).await;
        // The offer of a restart has the sections of the first offer.
        let restart = viewer.connection().create_offer(None).await.expect("offers again");
        assert_eq!(kinds(&restart.sdp), kinds(&offer), "{name}: {}", restart.sdp);
        close(&viewer, &master).await;
    }
}

fn kinds(sdp: &str) -> Vec<&str> {
    let lines = sdp.lines().filter_map(|line| line.strip_prefix("m="));
    lines.filter_map(|line| line.split(' ').next()).collect()
}

#[tokio::test]
async fn incomplete_answer_error_names_missing_line() {
    let refused: &[(Change, &str)] = &[
        (("no SDP", |_| "hello".to_owned()), "no SDP"),
        (("no ufrag", |a| without(a, "a=ice-ufrag")), "no a=ice-ufrag line"),
        (("no fingerprint", |a| without(a, "a=fingerprint")), "no a=fingerprint line"),
        (("H265", |a| a.replace("H264/90000", "H265/90000")), "\"a=rtpmap:102 H265/90000\""),
    ];
    for ((name, change), complaint) in refused {
        let (viewer, _events, offer) = viewer().await;
        let master = Master::new(Codec::H264).await;
        let answer = master.stack.answer(&offer).await.expect("answers");
        let error = viewer.apply_answer(&change(&answer)).await.expect_err(name).to_string();
        assert!(error.contains(complaint), "{name}: {error}");
        close(&viewer, &master).await;
    }
}

async fn close(viewer: &Stack, master: &Master) {
    viewer.close().await.expect("closed");
    master.stack.close().await.expect("closed");
}

fn without(sdp: &str, prefix: &str) -> String {
    let lines = sdp.lines().filter(|line| !line.starts_with(prefix));
    lines.map(|line| format!("{line}\r\n")).collect()
}

fn split(sdp: &str) -> (String, Vec<String>) {
    let mut parts = sdp.split("\r\nm=").map(|part| format!("{}\r\n", part.trim_end()));
    let head = parts.next().expect("a head");
    (head, parts.map(|part| format!("m={part}")).collect())
}

fn in_section(sdp: &str, start: &str, change: fn(&str) -> String) -> String {
    let (head, sections) = split(sdp);
    let changed = sections.iter().map(|section| match section.starts_with(start) {
        true => change(section),
        false => section.clone(),
    });
    head + &changed.collect::<String>()
}
