//! Amazon Kinesis Video Streams WebRTC signaling on this machine, with faults.
