//! The data channel, whose end is the earliest hint that the master went away.

use std::sync::Arc;

use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

/// What a helper task noticed.
pub(crate) enum HelperEvent {
    ChannelClosed,
    /// The stack ended a stream of events by itself.
    Stopped,
}

/// Reports a channel's end.
pub(crate) async fn follow_channel(
    channel: Arc<dyn DataChannel>,
    helper: mpsc::Sender<HelperEvent>,
) {
    while let Some(event) = channel.poll().await {
        let printed = match event {
            DataChannelEvent::OnClosing | DataChannelEvent::OnClose => HelperEvent::ChannelClosed,
            DataChannelEvent::OnOpen
            | DataChannelEvent::OnMessage(_)
            | DataChannelEvent::OnError
            | DataChannelEvent::OnBufferedAmountLow
            | DataChannelEvent::OnBufferedAmountHigh
            | _ => continue,
        };
        if helper.send(printed).await.is_err() {
            return;
        }
    }
    let _ = helper.send(HelperEvent::Stopped).await;
}
