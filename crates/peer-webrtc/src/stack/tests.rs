//! Tests which servers are used and which addresses are bound.

use negotiation_core::Secret;

use super::*;
use crate::codec::Codec;
use crate::turn_stream::Authorities;

#[tokio::test]
async fn only_servers_that_can_be_reached_are_used() {
    let config = StackConfig {
        codecs: vec![Codec::Opus],
        bind: bind_addresses(true),
        policy: IcePolicy::All,
        mdns: Mdns::Ignore,
        authorities: Authorities::system(),
        detour: None,
        media_queue: 0,
        rtx: false,
    };
    let (stack, _events) = Stack::build(&config).await.expect("built");
    let server = |uris: &[&str], login: Option<&str>| IceServer {
        uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
        username: login.map(Secret::new),
        password: login.map(Secret::new),
    };
    let used = stack
        .usable_servers(&[
            server(&["stun:stun.example.org:3478"], None),
            server(
                &[
                    "turn:turn.example.org:443?transport=udp",
                    "turn:turn.example.org:443?transport=tcp",
                    "turns:turn.example.org:443?transport=tcp",
                    "turns:turn.example.org:443?transport=udp",
                ],
                Some("x"),
            ),
            server(&["turn:turn.example.org:443?transport=udp"], None),
            server(&["turns:turn.example.org:443?transport=tcp"], None),
            server(&["http://example.org", ""], Some("x")),
        ])
        .await;
    let urls: Vec<&str> = used.iter().flat_map(|s| &s.urls).map(String::as_str).collect();
    let [stun, udp, tcp, tls] = urls[..] else { panic!("{urls:?}") };
    assert_eq!(stun, "stun:stun.example.org:3478");
    assert_eq!(udp, "turn:turn.example.org:443?transport=udp");
    for bridge in [tcp, tls] {
        assert!(bridge.starts_with("turn:127.0.0.1:"), "{bridge}");
    }
    stack.close().await.expect("closed");
}

#[test]
fn bind_addresses_are_never_empty() {
    assert!(!bind_addresses(false).is_empty());
    assert_eq!(bind_addresses(true)[0], "127.0.0.1:0");
}
