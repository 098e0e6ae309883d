//! `cargo xtask tidy`: checks rules that the compiler does not check; a test at the end of this
//! file runs it too.
//!
//! Each check returns its findings; each finding contains the location and what to do.

mod arrows;
mod circles;
mod citations;
mod links;
mod manifests;
mod sources;
mod words;

use std::path::PathBuf;

use crate::step;

/// One of the workspace's own packages in the output of `cargo metadata`.
pub(crate) struct Package {
    pub(crate) name: String,
    folder: PathBuf,
    /// Whether the manifest lacks `publish = false`.
    pub(crate) is_published: bool,
    pub(crate) has_repository: bool,
    keywords: usize,
    categories: usize,
    has_readme: bool,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

struct Dependency {
    name: String,
    is_dev: bool,
    default_features: bool,
    features: Vec<String>,
}

struct Target {
    root: PathBuf,
    is_library: bool,
}

pub(crate) fn run() -> Result<(), String> {
    let findings = findings()?;
    if findings.is_empty() {
        eprintln!("tidy: nothing to complain about");
        return Ok(());
    }
    Err(format!("found: {}\n{}", findings.len(), findings.join("\n")))
}

fn findings() -> Result<Vec<String>, String> {
    let packages = packages()?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(&packages));
    findings.extend(manifests::check(&packages)?);
    findings.extend(sources::check(&packages)?);
    findings.extend(links::check()?);
    findings.extend(crate::contract::check()?);
    findings.extend(words::check()?);
    findings.extend(circles::check()?);
    findings.extend(crate::filemap::check()?);
    findings.extend(citations::check()?);
    findings.sort();
    Ok(findings)
}

pub(crate) fn packages() -> Result<Vec<Package>, String> {
    let mut cargo = step::cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let text = step::output(&mut cargo)
        .ok_or("`cargo metadata --no-deps` failed: run it to see which manifest is broken")?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    Ok(packages.iter().map(package).collect())
}

fn package(json: &serde_json::Value) -> Package {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let manifest = PathBuf::from(text(&json["manifest_path"]));
    Package {
        name: text(&json["name"]),
        folder: manifest.parent().unwrap_or(&manifest).to_path_buf(),
        is_published: json["publish"].is_null(),
        has_repository: json["repository"].is_string(),
        keywords: list(&json["keywords"]).len(),
        categories: list(&json["categories"]).len(),
        has_readme: json["readme"].is_string(),
        dependencies: list(&json["dependencies"])
            .iter()
            .map(|dependency| Dependency {
                name: text(&dependency["name"]),
                is_dev: dependency["kind"] == "dev",
                default_features: dependency["uses_default_features"] == true,
                features: list(&dependency["features"]).iter().map(text).collect(),
            })
            .collect(),
        targets: list(&json["targets"])
            .iter()
            .map(|target| Target {
                root: PathBuf::from(text(&target["src_path"])),
                is_library: list(&target["kind"]).iter().any(|kind| kind == "lib"),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn workspace_is_tidy() {
        let findings = super::findings().expect("the workspace can be read");
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }
}
