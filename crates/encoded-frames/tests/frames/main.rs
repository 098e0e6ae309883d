//! Tests which frames are output for which packets.

#[cfg(test)]
mod assembler;
#[cfg(test)]
mod encoders;
