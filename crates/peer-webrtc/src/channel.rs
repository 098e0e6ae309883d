//! Follows the data channel: its end is the earliest hint that the master has left.

use std::sync::Arc;

use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

/// An event of a helper task.
pub(crate) enum HelperEvent {
    ChannelClosed,
    /// The stack ended an event stream by itself.
    Stopped,
}

/// Reports the end of the data channel.
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
