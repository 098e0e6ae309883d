//! The KVS WebRTC viewer that always ends: live, or with a reason.
