//! Writes files and reads them again, with this crate alone and with ffmpeg.

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
