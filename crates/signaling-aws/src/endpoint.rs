//! Endpoints: which are on this machine, and where requests with credentials may go.

use std::fmt;

use url::Url;

/// The side of the channel that this process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Master,
    Viewer,
}

/// Whether a URL's host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => is_loopback_name(name),
        None => false,
    }
}

/// Whether a name means this machine, whatever a resolver returns for it (RFC 6761, 6.3).
pub(crate) fn is_loopback_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = name.rsplit('.').next().unwrap_or_default();
    label.eq_ignore_ascii_case("localhost")
}

/// The hosts at which endpoints may use plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlainHttp {
    /// At none.
    Refused,
    /// On this machine.
    Loopback,
    /// On any host: the application allowed plain HTTP.
    Anywhere,
}

impl PlainHttp {
    fn admits(self, url: &Url) -> bool {
        match self {
            Self::Refused => false,
            Self::Loopback => is_loopback(url),
            Self::Anywhere => true,
        }
    }

    /// Returns where the control plane at an endpoint may name plain HTTP endpoints. A remote
    /// service must not direct requests to ports of this machine, so only a service on loopback
    /// may, or one that is itself used over plain HTTP because the application allowed it.
    pub(crate) fn of_service(control_endpoint: Option<&str>, allowed: bool) -> Self {
        let url = control_endpoint.and_then(|endpoint| Url::parse(endpoint).ok());
        match url {
            Some(url) if allowed && url.scheme() == "http" => Self::Anywhere,
            Some(url) if is_loopback(&url) => Self::Loopback,
            Some(_) | None => Self::Refused,
        }
    }
}

/// Why requests with credentials may not go to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndpointProblem {
    /// It has no scheme; holds the URL with one.
    NoScheme(Option<String>),
    /// It is plain HTTP where that is not accepted; holds the URL with TLS.
    PlainHttp(Option<String>),
    /// Its scheme is not one of HTTP.
    Scheme,
    /// It is no URL; holds the parser's reason.
    NoUrl(String),
    /// It has a query or a fragment.
    Query,
    /// It has a user name or a password.
    Login,
}

impl fmt::Display for EndpointProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FORM: &str = "it looks like https://HOST[:PORT]";
        match self {
            Self::NoScheme(Some(with)) => write!(f, "has no scheme; write {with}"),
            Self::NoScheme(None) => write!(f, "has no scheme; {FORM}"),
            Self::PlainHttp(with) => {
                f.write_str("is plain HTTP beyond this machine, where others can read and use the signed requests")?;
                match with {
                    Some(with) => write!(f, "; write {with}"),
                    None => Ok(()),
                }
            }
            Self::Scheme => {
                write!(f, "must begin with https://, or http:// on this machine; {FORM}")
            }
            Self::NoUrl(problem) => write!(f, "is no URL ({problem}); {FORM}"),
            Self::Query => f.write_str("must not have a query or a fragment"),
            Self::Login => f.write_str("must not hold a user name or a password"),
        }
    }
}

/// Parses an endpoint for requests with credentials.
pub(crate) fn parse_endpoint(text: &str, plain: PlainHttp) -> Result<Url, EndpointProblem> {
    // A text that may hold a login is not repeated.
    let shown = |url: String| (!text.contains('@')).then_some(url);
    if !text.contains("://") {
        let with = |scheme: &str| Url::parse(&format!("{scheme}://{text}")).ok();
        let here = with("http").filter(is_loopback).map(|_| format!("http://{text}"));
        let there = || with("https").map(|_| format!("https://{text}"));
        return Err(EndpointProblem::NoScheme(here.or_else(there).and_then(shown)));
    }
    let url = Url::parse(text).map_err(|error| EndpointProblem::NoUrl(error.to_string()))?;
    match url.scheme() {
        "https" => {}
        "http" if plain.admits(&url) => {}
        "http" => return Err(EndpointProblem::PlainHttp(shown(text.replacen("http", "https", 1)))),
        _ => return Err(EndpointProblem::Scheme),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(EndpointProblem::Query);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EndpointProblem::Login);
    }
    Ok(url)
}

/// Whether a signaling socket may be opened there.
pub(crate) fn is_socket_endpoint(url: &Url, plain: PlainHttp) -> bool {
    match url.scheme() {
        "wss" => true,
        "ws" => plain.admits(url),
        _ => false,
    }
}

/// The control plane's URL in AWS's variables, by AWS's precedence.
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
    fn host_is_this_machine_by_address_or_by_name() {
        let here = |url: &str| is_loopback(&Url::parse(url).expect("a URL"));
        for url in
            ["http://127.0.0.1:1", "https://emu.localhost", "http://[::1]/", "http://LOCALHOST."]
        {
            assert!(here(url), "{url}");
        }
        for url in ["https://127.example.com", "https://localhost.example.com", "https://10.0.0.1"]
        {
            assert!(!here(url), "{url}");
        }
    }

    #[test]
    fn refused_endpoint_names_a_valid_form() {
        let printed =
            |text: &str| parse_endpoint(text, PlainHttp::Loopback).expect_err(text).to_string();
        for (text, corrected) in [
            ("localhost:4700", "write http://localhost:4700"),
            ("127.0.0.1:4700/x", "write http://127.0.0.1:4700/x"),
            ("kvs-emulator:4700", "write https://kvs-emulator:4700"),
            ("http://kvs-emulator:4700", "write https://kvs-emulator:4700"),
            ("wss://kvs-emulator", "https://HOST"),
            ("https://", "https://HOST"),
            ("", "https://HOST"),
        ] {
            assert!(printed(text).contains(corrected), "{text}: {}", printed(text));
        }
        for text in ["user:canary@kvs-emulator:4700", "http://user:canary@h", "https://u:canary@h"]
        {
            assert!(!printed(text).contains("canary"), "{}", printed(text));
        }
        assert!(parse_endpoint("http://kvs-emulator:4700", PlainHttp::Anywhere).is_ok());
    }

    #[test]
    fn plain_http_is_allowed_for_loopback_or_plain_service() {
        for (control, allowed, expected) in [
            (None, true, PlainHttp::Refused),
            (Some("https://kvs.example"), true, PlainHttp::Refused),
            (Some("https://localhost:1"), false, PlainHttp::Loopback),
            (Some("http://127.0.0.1:1"), false, PlainHttp::Loopback),
            (Some("http://kvs-emulator:4700"), true, PlainHttp::Anywhere),
            (Some("http://kvs-emulator:4700"), false, PlainHttp::Refused),
        ] {
            assert_eq!(PlainHttp::of_service(control, allowed), expected, "{control:?}");
        }
        let socket = |url: &str, plain| is_socket_endpoint(&Url::parse(url).expect("a URL"), plain);
        assert!(socket("ws://kvs-emulator:4700", PlainHttp::Anywhere));
        assert!(!socket("ws://kvs-emulator:4700", PlainHttp::Loopback));
        assert!(socket("ws://localhost:1", PlainHttp::Loopback));
        assert!(!socket("ws://localhost:1", PlainHttp::Refused));
    }

    #[test]
    fn environment_variables_follow_aws_precedence() {
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
