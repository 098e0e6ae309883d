//! The data channel, whose end is the earliest hint that the master went away.

use std::sync::Arc;

use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

/// What a helper task noticed.
pub(crate) enum Aside {
    ChannelClosed,
    /// The stack ended a stream of events by itself.
    Stopped,
}

/// Reports a channel's end.
pub(crate) async fn follow_channel(channel: Arc<dyn DataChannel>, aside: mpsc::Sender<Aside>) {
    while let Some(event) = channel.poll().await {
        let said = match event {
            DataChannelEvent::OnClosing | DataChannelEvent::OnClose => Aside::ChannelClosed,
            DataChannelEvent::OnOpen
            | DataChannelEvent::OnMessage(_)
            | DataChannelEvent::OnError
            | DataChannelEvent::OnBufferedAmountLow
            | DataChannelEvent::OnBufferedAmountHigh
            | _ => continue,
        };
        if aside.send(said).await.is_err() {
            return;
        }
    }
    let _ = aside.send(Aside::Stopped).await;
}
