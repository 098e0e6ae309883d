//! How many descriptors and sockets this process has open, to show that a closed attempt left none.

use std::fs;

/// A count of what is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) descriptors: usize,
    pub(crate) sockets: usize,
}

impl Resources {
    /// Counts now; `None` where the system has no `/proc/self/fd`.
    pub(crate) fn count() -> Option<Self> {
        let entries: Vec<_> = fs::read_dir("/proc/self/fd").ok()?.flatten().collect();
        let is_socket = |entry: &&fs::DirEntry| {
            fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        let sockets = entries.iter().filter(is_socket).count();
        // The listing itself holds one descriptor.
        Some(Self { descriptors: entries.len().saturating_sub(1), sockets })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn an_open_socket_is_counted() {
        let before = Resources::count().expect("linux");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let with = Resources::count().expect("linux");
        assert!(with.sockets > before.sockets);
        drop(socket);
    }
}
