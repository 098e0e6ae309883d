//! `cargo xtask bench`: measures how fast a session starts, compared with other viewers, and what
//! many sessions cost. `docs/performance.md` describes the measurements and the method.

mod analysis;
mod fleet;
mod process;
pub(crate) mod service;
mod start;
mod table;

use std::path::PathBuf;

use crate::step;

const USAGE: &str = "\
usage: cargo xtask bench start [option...]
           start-up of this viewer, of AWS's JavaScript SDK in Chromium and of aiortc
       cargo xtask bench fleet [N...] [option...]
           N sessions in one process [default: 1 10 100]

  both:
    --viewer [LABEL=]PATH  a viewer's program; may be given several times, to compare builds
                           [default: target/release/kvs-viewer; fleet: target/release/examples/fleet]
    --service PATH         the program that is emulator and camera [default: target/release/kvs-viewer]
    --camera PATH          another program for the camera alone
    --json FILE            write every single measurement, one JSON object a line
  start:
    --runs N               runs of each case [default: 5]
    --rtt MS[,MS]          round-trip times of the TCP connections [default: 0,20,50,100]
    --without NAME[,NAME]  leave out javascript or aiortc
    --files N              files in the full state directory [default: 1000]
  fleet:
    --seconds N            how long the CPU time is taken [default: 10]";

pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    match words {
        ["start", rest @ ..] => start::run(&Options::read(rest)?),
        ["fleet", rest @ ..] => fleet::run(&Options::read(rest)?),
        _ => Err(format!("which benchmark?\n{USAGE}")),
    }
}

/// The command line.
#[derive(Debug)]
struct Options {
    numbers: Vec<usize>,
    viewers: Vec<(String, PathBuf)>,
    service: Option<PathBuf>,
    camera: Option<PathBuf>,
    json: Option<PathBuf>,
    runs: usize,
    rtts: Vec<u64>,
    without: Vec<String>,
    files: usize,
    seconds: u64,
}

impl Options {
    fn read(words: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            numbers: Vec::new(),
            viewers: Vec::new(),
            service: None,
            camera: None,
            json: None,
            runs: 5,
            rtts: vec![0, 20, 50, 100],
            without: Vec::new(),
            files: 1000,
            seconds: 10,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if let Ok(number) = word.parse() {
                options.numbers.push(number);
                continue;
            }
            let value =
                words.next().ok_or_else(|| format!("{word}: a value is missing\n{USAGE}"))?;
            let number =
                || value.parse::<usize>().map_err(|_| format!("{word} {value}: not a number"));
            match *word {
                "--viewer" => options.viewers.push(labelled(value)),
                "--service" => options.service = Some(PathBuf::from(value)),
                "--camera" => options.camera = Some(PathBuf::from(value)),
                "--json" => options.json = Some(PathBuf::from(value)),
                "--runs" => options.runs = number()?.max(1),
                "--files" => options.files = number()?,
                "--seconds" => options.seconds = number()?.max(1) as u64,
                "--without" => options.without = value.split(',').map(str::to_owned).collect(),
                "--rtt" => {
                    let times = value.split(',').map(|ms| ms.trim_end_matches("ms").parse());
                    options.rtts = times
                        .collect::<Result<_, _>>()
                        .map_err(|_| format!("--rtt {value}: not milliseconds"))?;
                }
                _ => return Err(format!("{word} is no option\n{USAGE}")),
            }
        }
        let known = ["javascript", "aiortc"];
        match options.without.iter().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("--without {name}: leave out javascript or aiortc")),
            None => Ok(options),
        }
    }

    /// Returns the viewers to measure, with their labels.
    fn viewers(&self, default: &str) -> Result<Vec<(String, PathBuf)>, String> {
        if self.viewers.is_empty() {
            return Ok(vec![("kvs-viewer".to_owned(), built(default)?)]);
        }
        self.viewers.iter().map(|(label, path)| Ok((label.clone(), given(path)?))).collect()
    }

    /// Returns the paths of emulator and camera.
    fn service(&self) -> Result<(PathBuf, PathBuf), String> {
        let service = match &self.service {
            Some(path) => given(path)?,
            None => built("kvs-viewer")?,
        };
        let camera = self.camera.as_deref().map_or_else(|| Ok(service.clone()), given)?;
        Ok((service, camera))
    }
}

/// Parses `LABEL=PATH`, or a path, which is labelled with its file name.
fn labelled(text: &str) -> (String, PathBuf) {
    match text.split_once('=') {
        Some((label, path)) => (label.to_owned(), PathBuf::from(path)),
        None => {
            let path = PathBuf::from(text);
            let name = path.file_name().map_or_else(|| text.into(), |name| name.to_string_lossy());
            (name.into_owned(), path)
        }
    }
}

fn given(path: &std::path::Path) -> Result<PathBuf, String> {
    // A relative path would be resolved in the workspace's root, in which processes start.
    path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))
}

/// Returns the path of a program that a release build produces.
fn built(name: &str) -> Result<PathBuf, String> {
    let path = step::root().join("target/release").join(name);
    let what = match name.strip_prefix("examples/") {
        Some(example) => format!("-p kvs-viewer --example {example}"),
        None => format!("-p kvs-viewer-cli --bin {name}"),
    };
    let build = format!("cargo build --release --locked {what}");
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing; build it:\n  {build}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let words = ["1", "100", "--viewer", "old=/a/b", "--viewer", "/c/new", "--rtt", "0,50ms"];
        let options = Options::read(&words).unwrap();
        assert_eq!(options.numbers, [1, 100]);
        let expected = [("old".to_owned(), "/a/b".into()), ("new".to_owned(), "/c/new".into())];
        assert_eq!(options.viewers, expected);
        assert_eq!((options.rtts, options.runs), (vec![0, 50], 5));
        for wrong in [&["--runs"][..], &["--runs", "x"], &["--what", "1"], &["--without", "us"]] {
            assert!(Options::read(wrong).is_err(), "{wrong:?}");
        }
    }
}
