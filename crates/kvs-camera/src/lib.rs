//! A synthetic camera: a KVS WebRTC master for any KVS-compatible endpoint.
