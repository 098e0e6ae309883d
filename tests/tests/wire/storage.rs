//! Storage sessions, in which the service sends the offer: scenario 64.

use kvs_emulator::EmulatorConfig;
use negotiation_core::{Event, Mode, Output, PeerCommand};

use crate::stage::STORAGE;
use crate::viewer::Entry;
use crate::{scenario_on, shown};

#[test]
fn w64_storage_new_session() {
    let service =
        EmulatorConfig { storage_channels: vec![STORAGE.to_owned()], ..EmulatorConfig::default() };
    scenario_on(64, "", service, async |stage| {
        stage.camera_with(|camera| camera.storage_session = true).await;
        let mut plan = stage.plan();
        plan.settings.mode = Mode::Answerer;
        plan.signaling = plan.signaling.storage_session(true);
        let mut viewer = plan.watch();
        viewer.live().await;
        viewer.more_pictures(15).await;
        let peers = |entry: &Entry| {
            matches!(entry, Entry::Output(Output::Peer(_, PeerCommand::Create { .. })))
        };
        assert_eq!(viewer.log.count(peers), 1);
        let offered = viewer.now();
        assert!(stage.emulator.offer_again(&stage.channel, Some("hall")));
        let again = viewer.until("the new peer", |event| *event == Event::Connected).await;
        viewer.next_picture(again).await;
        viewer.more_pictures(15).await;
        assert_eq!(viewer.log.count(peers), 2, "{}", viewer.log.story());
        assert_eq!(viewer.offers(false), 0, "this viewer answers");
        assert_eq!(viewer.close().await.attempts_total, 1);
        shown("answered on a new peer, in the same attempt", again.saturating_since(offered))
    });
}
