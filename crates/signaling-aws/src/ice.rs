//! The STUN server of a region.

use url::Url;

use crate::endpoint::is_loopback;

/// The STUN URI of a region (docs/kvs-protocol.md 1.4).
pub(crate) fn regional_stun(region: &str, fips: bool, dual_stack: bool) -> String {
    // With FIPS the service speaks STUN over TLS only.
    let (scheme, host) = match fips {
        true => ("stuns", "stun.kinesisvideo-fips"),
        false => ("stun", "stun.kinesisvideo"),
    };
    let suffix = match (region.starts_with("cn-"), dual_stack) {
        (false, false) => "amazonaws.com",
        (false, true) => "api.aws",
        (true, false) => "amazonaws.com.cn",
        (true, true) => "api.amazonwebservices.com.cn",
    };
    format!("{scheme}:{host}.{region}.{suffix}:443")
}

/// Whether an endpoint is AWS's own: a region's STUN server is near no other.
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
    fn every_kind_of_region_has_its_host() {
        for (region, fips, dual, expected) in [
            ("us-west-2", false, false, "stun:stun.kinesisvideo.us-west-2.amazonaws.com:443"),
            ("us-west-2", false, true, "stun:stun.kinesisvideo.us-west-2.api.aws:443"),
            ("us-west-2", true, false, "stuns:stun.kinesisvideo-fips.us-west-2.amazonaws.com:443"),
            ("us-west-2", true, true, "stuns:stun.kinesisvideo-fips.us-west-2.api.aws:443"),
            ("cn-north-1", false, false, "stun:stun.kinesisvideo.cn-north-1.amazonaws.com.cn:443"),
            (
                "cn-north-1",
                false,
                true,
                "stun:stun.kinesisvideo.cn-north-1.api.amazonwebservices.com.cn:443",
            ),
        ] {
            assert_eq!(regional_stun(region, fips, dual), expected);
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
