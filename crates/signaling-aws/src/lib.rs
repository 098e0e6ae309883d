//! KVS signaling over AWS: control plane, presigned WebSocket, wire codec.
