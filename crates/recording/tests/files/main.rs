//! Files that are written and read again, in this crate alone and by ffmpeg.

mod ffmpeg;
mod network;
mod round_trip;
