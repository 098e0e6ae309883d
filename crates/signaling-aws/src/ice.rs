//! The STUN server of a region.

use url::Url;

use crate::endpoint::is_loopback;

/// The STUN URI of a region (docs/kvs-protocol.md 1.4). With FIPS there is none that a peer
/// connection could use: the service offers STUN over TLS only there (`stuns:`).
pub(crate) fn regional_stun(region: &str, fips: bool, dual_stack: bool) -> Option<String> {
    if fips {
        return None;
    }
    let suffix = suffix(region, dual_stack);
    Some(format!("stun:stun.kinesisvideo.{region}.{suffix}:443"))
}

/// The host of a region's control plane (docs/kvs-protocol.md 1.4).
pub(crate) fn regional_control_plane(region: &str, fips: bool, dual_stack: bool) -> String {
    let fips = if fips { "-fips" } else { "" };
    format!("kinesisvideo{fips}.{region}.{}", suffix(region, dual_stack))
}

fn suffix(region: &str, dual_stack: bool) -> &'static str {
    match (region.starts_with("cn-"), dual_stack) {
        (false, false) => "amazonaws.com",
        (false, true) => "api.aws",
        (true, false) => "amazonaws.com.cn",
        (true, true) => "api.amazonwebservices.com.cn",
    }
}

/// Whether a peer connection can use a STUN URI (RFC 7064): over UDP, with a host.
pub(crate) fn is_stun(uri: &str) -> bool {
    let Some(server) = uri.strip_prefix("stun:") else {
        return false;
    };
    // Host and port have the syntax of a URL's authority; the other parts of a URL are excluded.
    !server.contains(['/', '?', '#', '@', '\\'])
        && Url::parse(&format!("http://{server}")).is_ok_and(|url| url.has_host())
}

/// Whether an endpoint is AWS's own; only then is the region's STUN server nearby.
pub(crate) fn is_aws(control_endpoint: Option<&str>) -> bool {
    let Some(endpoint) = control_endpoint else {
        return true;
    };
    let Ok(url) = Url::parse(endpoint) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default().to_owned();
    !is_loopback(&url)
        && [".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn"]
            .iter()
            .any(|suffix| host.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regional_hosts_match_partition_and_flags() {
        for (region, dual, expected) in [
            ("us-west-2", false, "stun:stun.kinesisvideo.us-west-2.amazonaws.com:443"),
            ("us-west-2", true, "stun:stun.kinesisvideo.us-west-2.api.aws:443"),
            ("cn-north-1", false, "stun:stun.kinesisvideo.cn-north-1.amazonaws.com.cn:443"),
            (
                "cn-north-1",
                true,
                "stun:stun.kinesisvideo.cn-north-1.api.amazonwebservices.com.cn:443",
            ),
        ] {
            assert_eq!(regional_stun(region, false, dual).as_deref(), Some(expected));
            assert!(is_stun(expected));
            assert_eq!(regional_stun(region, true, dual), None);
        }
    }

    #[test]
    fn stun_is_over_udp_and_has_a_host() {
        for good in ["stun:example.org", "stun:10.0.0.1:3478", "stun:[2001:db8::1]:3478"] {
            assert!(is_stun(good), "{good}");
        }
        for bad in [
            "stun:",
            "stun::3478",
            "stuns:example.org:443",
            "stun://example.org",
            "stun:example.org?transport=udp",
            "stun:example.org:port",
            "stun:example.org:99999",
            "stun:user@example.org",
            "stun:2001:db8::1",
            "turn:example.org",
            "example.org",
        ] {
            assert!(!is_stun(bad), "{bad}");
        }
    }

    #[test]
    fn only_aws_has_regional_stun() {
        assert!(is_aws(None));
        assert!(is_aws(Some("https://kinesisvideo.us-west-2.amazonaws.com/")));
        assert!(!is_aws(Some("http://127.0.0.1:8443/")));
        assert!(!is_aws(Some("https://kvs.example.com/")));
        assert!(!is_aws(Some("https://amazonaws.com.example.com/")));
    }
}
