//! Files that are written and read again, in this crate alone and by ffmpeg.

#[cfg(test)]
mod ffmpeg;
#[cfg(test)]
mod live;
#[cfg(test)]
mod network;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod timing;
