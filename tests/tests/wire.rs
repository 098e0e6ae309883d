//! The scenarios of the contract's part 5 with the real adapters and driver, an emulator and a
//! camera on loopback, and short deadlines in the configuration.
//!
//! Each scenario prints a line when it has ended: number, name, stimulus, required outcome, what
//! happened, and the time from the stimulus to recovery or the end. All lines are printed again at
//! the end, and written to `target/wire.md`. Media is identified by content: see `wire/film.rs`.

#[path = "wire/answers.rs"]
mod answers;
#[path = "wire/candidates.rs"]
mod candidates;
#[path = "wire/closing.rs"]
mod closing;
#[path = "wire/film.rs"]
mod film;
#[path = "wire/frame.rs"]
mod frame;
#[path = "wire/glare.rs"]
mod glare;
#[path = "wire/links.rs"]
mod links;
#[path = "wire/master.rs"]
mod master;
#[path = "wire/media.rs"]
mod media;
#[path = "wire/programs.rs"]
mod programs;
#[path = "wire/recovery.rs"]
mod recovery;
#[path = "wire/report.rs"]
mod report;
#[path = "wire/routes.rs"]
mod routes;
#[path = "wire/service.rs"]
mod service;
#[path = "wire/source.rs"]
mod source;
#[path = "wire/stage.rs"]
mod stage;
#[path = "wire/storage.rs"]
mod storage;
#[path = "wire/table.rs"]
mod table;
#[path = "wire/viewer.rs"]
mod viewer;

use report::shown;
use stage::{ms, scenario, scenario_on, secs};
