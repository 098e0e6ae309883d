//! Endpoints: which are on this machine, and where requests with credentials may go.

use url::Url;

/// Whether a URL's host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => {
            name == "localhost" || name.ends_with(".localhost") || name == "localhost."
        }
        None => false,
    }
}

/// Whether requests with credentials may go there.
pub(crate) fn check_endpoint(url: &Url) -> Result<(), &'static str> {
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(url) => {}
        _ => return Err("must begin with https:// (http:// only on loopback)"),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or a fragment");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or a password");
    }
    Ok(())
}

/// The control plane's URL in AWS's variables, by its precedence.
pub(crate) fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Option<Url> {
    let ignored = variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    if ignored.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let names = ["AWS_ENDPOINT_URL_KINESIS_VIDEO", "AWS_ENDPOINT_URL"];
    let url = names.into_iter().filter_map(variable).find(|value| !value.is_empty())?;
    Url::parse(&url).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_this_machine_by_address_or_by_name() {
        let here = |url: &str| is_loopback(&Url::parse(url).expect("a URL"));
        for url in
            ["http://127.0.0.1:1", "https://emu.localhost", "http://[::1]/", "http://LOCALHOST"]
        {
            assert!(here(url), "{url}");
        }
        for url in ["https://127.example.com", "https://localhost.example.com", "https://10.0.0.1"]
        {
            assert!(!here(url), "{url}");
        }
    }

    #[test]
    fn variables_have_aws_s_precedence() {
        let (video, all) = ("AWS_ENDPOINT_URL_KINESIS_VIDEO", "AWS_ENDPOINT_URL");
        let found = |variables: &[(&str, &str)]| {
            let value = |name: &str| Some(variables.iter().find(|(n, _)| *n == name)?.1.to_owned());
            of_environment(value).map(|url| url.host_str().expect("a host").to_owned())
        };
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[(all, "https://all")]).as_deref(), Some("all"));
        assert_eq!(found(&[(all, "https://all"), (video, "https://v")]).as_deref(), Some("v"));
        assert_eq!(found(&[(all, "https://all"), (video, "")]).as_deref(), Some("all"));
        let ignored = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
        assert_eq!(found(&[(all, "https://all"), ignored]), None);
    }
}
