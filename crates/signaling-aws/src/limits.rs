//! How long each step may take.

use std::time::Duration;

use crate::config_error::{ConfigError, Field};

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The duration of one call of the control plane.
    pub call: Duration,
    /// The search for region and credentials: a metadata service may hang.
    pub credentials: Duration,
    /// The opening of a connection: TCP, TLS and the upgrade.
    pub connection_open: Duration,
    /// The interval between pings.
    pub ping: Duration,
    /// The time without received data after which a connection is given up.
    pub silence: Duration,
    /// The write of one message.
    pub write: Duration,
    /// The close handshake of a signaling connection.
    pub close: Duration,
}

impl Default for Limits {
    /// The contract's limits (part 4); a close handshake takes at most a quarter of the shortest
    /// close.
    fn default() -> Self {
        Self {
            call: Duration::from_secs(5),
            credentials: Duration::from_secs(10),
            connection_open: Duration::from_secs(15),
            ping: Duration::from_secs(10),
            silence: Duration::from_secs(25),
            write: Duration::from_secs(5),
            close: Duration::from_millis(200),
        }
    }
}

impl Limits {
    /// Checks that the limits are usable.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let longest = Duration::from_secs(3_600);
        for (field, value) in [
            ("call", self.call),
            ("credentials", self.credentials),
            ("connection_open", self.connection_open),
            ("ping", self.ping),
            ("silence", self.silence),
            ("write", self.write),
            ("close", self.close),
        ] {
            if value < Duration::from_millis(1) || value > longest {
                return Err(ConfigError::new(
                    Field::Limits,
                    format!("{field} must be between 1 ms and 1 h"),
                ));
            }
        }
        if self.silence <= self.ping {
            return Err(ConfigError::new(
                Field::Limits,
                "silence must be longer than ping: a healthy connection is silent between two pings",
            ));
        }
        Ok(())
    }
}
