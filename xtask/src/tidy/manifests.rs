//! Every crate takes the workspace's lints, and says what it is.

use super::{Package, read, shown};

pub(super) fn check(packages: &[Package]) -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for package in packages {
        let manifest = package.folder.join("Cargo.toml");
        let text = read(&manifest)?;
        if !takes_workspace_lints(&text) {
            findings.push(format!(
                "{}: add `[lints]` with `workspace = true`, so that the crate has our lints",
                shown(&manifest)
            ));
        }
        if !text.contains("\ndescription = \"") {
            findings.push(format!(
                "{}: add a `description`: one sentence that says what the crate is for",
                shown(&manifest)
            ));
        }
    }
    Ok(findings)
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.replace(' ', "") == "workspace=true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_that_forgot_the_lints_is_found() {
        assert!(takes_workspace_lints("[package]\n[lints]\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[package]\nversion.workspace = true\n"));
        assert!(!takes_workspace_lints("[lints]\n[dependencies]\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[lints.rust]\nworkspace = true\n"));
    }
}
