//! Further connections of one attempt, and joining a storage session, through the emulator
//! (contract, N3, N8, N20 and N21).

use crate::support::{Port, emulator, reach};
use aws_credential_types::Credentials;
use aws_sdk_kinesisvideo::config::{BehaviorVersion, Region};
use aws_sdk_kinesisvideo::types::{MediaStorageConfiguration, MediaStorageConfigurationStatus};
use kvs_emulator::{
    DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig, Unknowns,
};
use negotiation_core::{ConnectionId, Done, FailureCode, SignalingCommand};

#[tokio::test]
async fn second_connection_keeps_the_client_id_of_the_attempt() {
    let emulator = emulator(EmulatorConfig::default()).await;
    let mut port = Port::new(reach(&emulator, "hall"));
    let id = port.connect(1, None).await;
    port.offer(1).await;
    assert_eq!(port.connect(2, Some(id.clone())).await, id);
    port.disconnect(1).await;
    // The remaining connection works, and the id is in use.
    port.offer(2).await;
    let mut other = Port::new(reach(&emulator, "hall"));
    assert_eq!(other.connect(1, None).await.as_str(), "hall-2");
    // The id stays in use while the attempt has no connection: it may connect again soon.
    port.disconnect(2).await;
    let mut third = Port::new(reach(&emulator, "hall"));
    assert_eq!(third.connect(1, None).await.as_str(), "hall-3");
    assert_eq!(port.connect(3, Some(id.clone())).await, id);
    emulator.shutdown().await;
}

// Shows: 64.
#[tokio::test]
async fn channel_that_is_not_in_storage_mode_cannot_be_joined() {
    let emulator = emulator(EmulatorConfig::default()).await;
    let mut port = Port::new(reach(&emulator, "store").storage_session(true));
    assert_eq!(port.connect(1, None).await.as_str(), "store");
    let refused =
        port.run(SignalingCommand::Join { link: ConnectionId(1) }).await.expect_err("refused");
    assert_eq!(refused.code, FailureCode::InvalidArgument, "{refused}");
    assert_eq!(refused.api_name.as_deref(), Some("InvalidArgumentException"));
    emulator.shutdown().await;
}

/// Puts the channel into storage mode, with the call that its owner would make.
async fn store(emulator: &Emulator) {
    let keys =
        Credentials::new(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None, None, "owner");
    let config = aws_sdk_kinesisvideo::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(emulator.region().to_owned()))
        .credentials_provider(keys)
        .endpoint_url(emulator.endpoint())
        .build();
    let owner = aws_sdk_kinesisvideo::Client::from_conf(config);
    let described = owner.describe_signaling_channel().channel_name("door").send().await;
    let described = described.expect("described");
    let arn = described.channel_info().and_then(|info| info.channel_arn()).expect("an ARN");
    let storage = MediaStorageConfiguration::builder()
        .status(MediaStorageConfigurationStatus::Enabled)
        .stream_arn(arn.replace("channel/", "stream/"))
        .build()
        .expect("complete");
    owner
        .update_media_storage_configuration()
        .channel_arn(arn)
        .media_storage_configuration(storage)
        .send()
        .await
        .expect("updated");
}

#[tokio::test]
async fn storage_session_join_can_be_repeated() {
    let unknowns = Unknowns { join_storage_accepted: true, ..Unknowns::default() };
    let emulator = emulator(EmulatorConfig { unknowns, ..EmulatorConfig::default() }).await;
    store(&emulator).await;
    let mut port = Port::new(reach(&emulator, "store").storage_session(true));
    assert_eq!(port.connect(1, None).await.as_str(), "store");
    for _ in 0..2 {
        assert_eq!(port.run(SignalingCommand::Join { link: ConnectionId(1) }).await, Ok(Done::Ok));
    }
    // A storage session keeps its id, also when another connection of this process has the same.
    let mut again = Port::new(reach(&emulator, "store").storage_session(true));
    assert_eq!(again.connect(1, None).await.as_str(), "store");
    emulator.shutdown().await;
}
