//! How long each step may take.

use std::time::Duration;

use crate::config_error::{ConfigError, Field};

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One call of the control plane.
    pub call: Duration,
    /// Finding region and credentials: a metadata service may hang.
    pub credentials: Duration,
    /// TCP, TLS and the upgrade.
    pub connection_open: Duration,
    /// A ping goes out this often.
    pub ping: Duration,
    /// A connection that brings nothing for this long is given up.
    pub silence: Duration,
    /// Writing one message.
    pub write: Duration,
    /// The close handshake of a signaling connection.
    pub close: Duration,
}

impl Default for Limits {
    /// The contract's numbers (part 4); a close handshake fits into a quarter of the shortest close.
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
    /// Whether these can work.
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
