//! Runs the tools of a check; each error contains the command that failed and what to do.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, PoisonError};

/// The checks that were left out because a tool is missing.
static LEFT_OUT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Returns the cargo that runs this program, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut cargo = tool(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if is_ci() {
        // Data for incremental builds and debuggers is not needed here, and doubles the disk usage.
        cargo.env("CARGO_PROFILE_DEV_INCREMENTAL", "false");
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "none").env("CARGO_TERM_COLOR", "never");
    }
    cargo
}

/// Returns any other tool, in the workspace's root, with the programs that [`crate::setup`]
/// installed on its path.
pub(crate) fn tool(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    // Joining fails only if a folder's name contains a colon.
    if let Ok(path) = std::env::join_paths(path()) {
        command.env("PATH", path);
    }
    command
}

/// Returns the folders in which programs are searched.
pub(crate) fn path() -> Vec<PathBuf> {
    let installed = [tools().join("bin"), venv().join("bin"), node().join("node_modules/.bin")];
    let installed = installed.into_iter().filter(|folder| folder.is_dir());
    let user = std::env::var_os("PATH").unwrap_or_default();
    installed.chain(std::env::split_paths(&user)).collect()
}

/// Returns the folder in which cargo's tools are installed.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Returns the folder of the Python packages that tests use.
pub(crate) fn venv() -> PathBuf {
    root().join("target/interop-venv")
}

/// Returns the folder for a newer Node.js than the system's.
pub(crate) fn node() -> PathBuf {
    root().join("target/node")
}

/// Whether this is a run of continuous integration, in which no check may be left out.
fn is_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// Runs a command with visible output, and fails if the command does.
pub(crate) fn run(command: &mut Command, what_to_do: &str) -> Result<(), String> {
    let status = status(command).map_err(|error| format!("{error}\n{what_to_do}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("`{}` failed ({status})\n{what_to_do}", shown(command)))
}

/// Runs a command with visible output, and returns its exit status.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus, String> {
    eprintln!("$ {}", shown(command));
    command.status().map_err(|error| format!("`{}` did not start: {error}", shown(command)))
}

/// Records a check that is left out because a tool is missing; in CI this is an error.
pub(crate) fn leave_out(why: String) -> Result<(), String> {
    if is_ci() {
        return Err(why);
    }
    eprintln!("left out: {why}");
    LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner).push(why);
    Ok(())
}

/// Returns the checks that were left out so far, and why.
pub(crate) fn left_out() -> Vec<String> {
    LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Returns the output of a command; `None` if it is not installed or fails.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}
