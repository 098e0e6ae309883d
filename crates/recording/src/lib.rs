//! RTP to a playable file, and a file to RTP.
