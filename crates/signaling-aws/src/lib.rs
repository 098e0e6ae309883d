//! KVS signaling over AWS: control plane, presigned WebSocket, wire codec.
#![forbid(unsafe_code)]

mod error;
pub mod presign;
pub mod wire;
