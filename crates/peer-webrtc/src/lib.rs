//! A peer port over the webrtc crate.
