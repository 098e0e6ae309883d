//! Which frames come out, for what comes in.

#[cfg(test)]
mod assembler;
#[cfg(test)]
mod encoders;
