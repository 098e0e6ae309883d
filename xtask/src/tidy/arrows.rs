//! Checks which crate may import which: the arrows of `docs/architecture.md`, as data.

use super::{Dependency, Package};

/// A crate of the workspace, and those that it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("negotiation-core", &[]),
    ("negotiation-sim", &["negotiation-core"]),
    ("viewer-session", &["negotiation-core"]),
    ("kvs-wire", &["negotiation-core"]),
    ("signaling-aws", &["kvs-wire", "negotiation-core", "viewer-session"]),
    ("encoded-frames", &[]),
    ("peer-webrtc", &["encoded-frames", "negotiation-core", "viewer-session"]),
    ("clock-tokio", &["negotiation-core", "viewer-session"]),
    ("network-ifwatch", &["negotiation-core", "viewer-session"]),
    ("recording", &["encoded-frames"]),
    (
        "kvs-camera",
        &[
            "encoded-frames",
            "negotiation-core",
            "peer-webrtc",
            "recording",
            "signaling-aws",
            "viewer-session",
        ],
    ),
    ("kvs-emulator", &[]),
    ("session-testing", &["negotiation-core", "negotiation-sim", "viewer-session"]),
    (
        "kvs-viewer",
        &[
            "clock-tokio",
            "encoded-frames",
            "negotiation-core",
            "network-ifwatch",
            "peer-webrtc",
            "recording",
            "signaling-aws",
            "viewer-session",
        ],
    ),
    (
        "kvs-viewer-cli",
        &[
            "encoded-frames",
            "kvs-camera",
            "kvs-emulator",
            "kvs-viewer",
            "negotiation-core",
            "peer-webrtc",
            "recording",
            "signaling-aws",
            "viewer-session",
        ],
    ),
    ("kvs-viewer-tests", ALL),
    ("xtask", &["negotiation-core", "negotiation-sim"]),
];

/// The crates that the tests may import: all of them.
const ALL: &[&str] = &[
    "clock-tokio",
    "encoded-frames",
    "kvs-camera",
    "kvs-emulator",
    "kvs-viewer",
    "kvs-viewer-cli",
    "kvs-wire",
    "negotiation-core",
    "negotiation-sim",
    "network-ifwatch",
    "peer-webrtc",
    "recording",
    "session-testing",
    "signaling-aws",
    "viewer-session",
];

/// The third-party crates that the core may import.
const CORE_MAY_HAVE: [&str; 2] = ["tracing", "serde"];

/// Crates for asynchronous code, which the simulator must not import.
const ASYNC: [&str; 6] = ["tokio", "async", "futures", "smol", "mio", "viewer-session"];

/// Crates that only adapters may import, not the driver.
const ADAPTERS_ONLY: [&str; 8] =
    ["aws-", "webrtc", "rtc", "hyper", "rustls", "reqwest", "tungstenite", "if-"];

/// The parts of tokio that need neither its runtime nor its timers.
const DRIVER_TOKIO: [&str; 2] = ["sync", "macros"];

pub(super) fn check(packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            findings.push(format!(
                "{}: a crate without arrows; say in xtask/src/tidy/arrows.rs and in \
                 docs/architecture.md what it may import",
                package.name
            ));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.is_dev) {
            let is_ours = packages.iter().any(|other| other.name == dependency.name);
            if is_ours && !allowed.contains(&dependency.name.as_str()) {
                findings.push(format!(
                    "{} must not import {}: of the workspace it may import {allowed:?}; move the code to \
                     the crate that may, or pass what is needed in",
                    package.name, dependency.name
                ));
            }
            if let Some(why) = wall(&package.name, dependency) {
                findings
                    .push(format!("{} must not import {}: {why}", package.name, dependency.name));
            }
        }
    }
    findings
}

/// Returns the rule that a dependency breaks; these rules apply to third-party crates too.
fn wall(package: &str, dependency: &Dependency) -> Option<&'static str> {
    let name = dependency.name.as_str();
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match package {
        "negotiation-core" if !CORE_MAY_HAVE.contains(&name) => {
            Some("the core has tracing and serde alone; what touches the world belongs in a port")
        }
        "negotiation-core" if dependency.default_features => {
            Some("with default features it needs std; set default-features = false")
        }
        "negotiation-sim" if begins(&ASYNC) => {
            Some("the simulator is a plain loop over virtual time; nothing in it waits")
        }
        "kvs-wire" if begins(&ASYNC) || begins(&ADAPTERS_ONLY) => {
            Some("the codec is pure, also for a browser; IO and signing belong in an adapter")
        }
        "viewer-session" if begins(&ADAPTERS_ONLY) => {
            Some("the driver knows ports alone; this belongs in an adapter")
        }
        "viewer-session"
            if name == "tokio"
                && (dependency.default_features
                    || dependency.features.iter().any(|f| !DRIVER_TOKIO.contains(&f.as_str()))) =>
        {
            Some("the driver runs on any runtime: tokio's features `sync` and `macros`, no others")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn dependency(name: &str) -> Dependency {
        let (name, features) = (name.to_owned(), Vec::new());
        Dependency { name, is_dev: false, default_features: false, features }
    }

    fn check_import(from: &str, dependency: Dependency) -> Vec<String> {
        let package = |name: &str, dependencies| Package {
            name: name.to_owned(),
            folder: PathBuf::new(),
            is_published: false,
            has_repository: false,
            keywords: 0,
            categories: 0,
            has_readme: false,
            dependencies,
            targets: Vec::new(),
        };
        let others = ["signaling-aws", "peer-webrtc", "kvs-emulator", "negotiation-core"];
        let mut packages: Vec<_> =
            others.iter().filter(|name| **name != from).map(|name| package(name, vec![])).collect();
        packages.push(package(from, vec![dependency]));
        check(&packages)
    }

    #[test]
    fn forbidden_arrows_are_found() {
        for (from, to) in [
            ("negotiation-core", "tokio"),
            ("negotiation-core", "bytes"),
            ("negotiation-sim", "tokio"),
            ("negotiation-sim", "futures-util"),
            ("signaling-aws", "peer-webrtc"),
            ("peer-webrtc", "signaling-aws"),
            ("viewer-session", "signaling-aws"),
            ("viewer-session", "aws-config"),
            ("viewer-session", "webrtc"),
            ("kvs-wire", "aws-sigv4"),
            ("kvs-wire", "tokio"),
            ("kvs-wire", "rustls"),
            ("kvs-emulator", "signaling-aws"),
            ("recording", "negotiation-core"),
            ("a-new-crate", "bytes"),
        ] {
            assert_eq!(check_import(from, dependency(to)).len(), 1, "{from} -> {to}");
        }
    }

    #[test]
    fn forbidden_dependency_features_are_found() {
        let with_std = Dependency { default_features: true, ..dependency("tracing") };
        assert_eq!(check_import("negotiation-core", with_std).len(), 1);
        let with_timers = Dependency { features: vec!["time".into()], ..dependency("tokio") };
        assert_eq!(check_import("viewer-session", with_timers).len(), 1);
    }

    #[test]
    fn allowed_arrows_are_not_reported() {
        for (from, to) in [
            ("negotiation-core", "tracing"),
            ("negotiation-sim", "negotiation-core"),
            ("viewer-session", "tokio"),
            ("signaling-aws", "aws-config"),
            ("kvs-viewer-cli", "kvs-emulator"),
        ] {
            assert_eq!(check_import(from, dependency(to)), Vec::<String>::new(), "{from} -> {to}");
        }
        let in_tests = Dependency { is_dev: true, ..dependency("tokio") };
        assert!(check_import("negotiation-core", in_tests).is_empty());
    }
}
