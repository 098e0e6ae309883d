//! The wire format of KVS signaling, as pure functions.
//!
#![doc = include_str!("../README.md")]
//!
//! # Bounds
//! Every function accepts any input and returns. A frame longer than [`FRAME_BYTES_MAX`] is
//! [`Incoming::Garbage`], and a message whose payload exceeds [`PAYLOAD_CHARS_MAX`] is not encoded.
//!
//! # Secrets
//! Descriptions and candidates contain ICE passwords and addresses; their `Debug` prints digests.
//! A service may repeat a token or a signature in the text of an error, so [`ServiceError`] gives
//! that text only through a redaction function of the caller.
#![forbid(unsafe_code)]

mod arn;
mod message;
pub mod presign;
mod service_error;

pub use arn::{ChannelArn, is_channel_name};
pub use message::{
    FRAME_BYTES_MAX, Incoming, PAYLOAD_CHARS_MAX, SdpType, decode, encode_candidate,
    encode_description,
};
pub use service_error::{ServiceError, SignedWith, TEXT_CHARS_MAX, displayable};
