//! An HTTP CONNECT proxy, and proxies that refuse, send endless headers, or never respond. A proxy
//! runs on its own thread and stops when its value is dropped.
//!
//! Tests of single crates include this file by its path.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// The accepted user and password, as written in a proxy URL.
pub const LOGIN: &str = "user:pass-canary";

/// [`LOGIN`], as written in the `Proxy-Authorization` header.
pub const BASIC: &str = "Basic dXNlcjpwYXNzLWNhbmFyeQ==";

/// The maximum length of a request head, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// How a proxy responds to CONNECT.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Connects to the target.
    Connect,
    /// Connects to the target if the request contains [`LOGIN`].
    Ask,
    /// Responds with this text and closes the connection.
    Say(&'static str),
    /// Responds with headers that never end.
    Babble,
    /// Never responds.
    Hang,
}

/// Host names that only the proxy can resolve, each with its address.
pub type Names = &'static [(&'static str, &'static str)];

/// A running proxy.
#[derive(Debug)]
pub struct ConnectProxy {
    authority: String,
    requested: Arc<Mutex<Vec<String>>>,
    runtime: Option<Runtime>,
}

impl ConnectProxy {
    /// Starts a proxy that listens on this address, in the network namespace of the calling thread.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    #[must_use]
    pub fn start(listen: &str, manner: Manner, names: Names) -> Self {
        let listener = std::net::TcpListener::bind(listen).expect("it listens");
        listener.set_nonblocking(true).expect("a socket for tokio");
        let authority = listener.local_addr().expect("bound").to_string();
        let requested = Arc::<Mutex<Vec<String>>>::default();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_io().build();
        let runtime = runtime.expect("a runtime");
        let seen = Arc::clone(&requested);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a socket for tokio");
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, manner, names, Arc::clone(&seen)));
            }
        });
        Self { authority, requested, runtime: Some(runtime) }
    }

    /// Returns the proxy's address and port.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the targets that clients requested, in order.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        self.requested.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(
    mut client: TcpStream,
    manner: Manner,
    names: Names,
    requested: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let login = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
    });
    // Requests with other methods are recorded too: a client should send only CONNECT.
    let seen = if method == "CONNECT" { target.clone() } else { format!("{method} {target}") };
    requested.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    let answer = match manner {
        Manner::Ask if login.as_deref() != Some(BASIC) => {
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
        }
        Manner::Connect | Manner::Ask => {
            let found = names.iter().fold(target, |at, (name, known)| at.replace(name, known));
            match TcpStream::connect(&found).await {
                Ok(mut server) => {
                    let printed = b"HTTP/1.1 200 Connection established\r\n\r\n";
                    if client.write_all(printed).await.is_ok() {
                        // The copy ends when either side closes; its result does not matter.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                    return;
                }
                Err(_) => "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            }
        }
        Manner::Say(answer) => answer,
        Manner::Babble => {
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while client.write_all(b"x-more: of the same\r\n").await.is_ok() {}
            return;
        }
        Manner::Hang => return std::future::pending().await,
    };
    // The client may have closed the connection.
    let _ = client.write_all(answer.as_bytes()).await;
}
