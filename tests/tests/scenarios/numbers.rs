//! Checks that the numbers of `docs/contract.md`, part 4, are those of the presets.

use std::time::Duration;

use negotiation_core::{RetryDelay, Settings};

const CONTRACT: &str = include_str!("../../../docs/contract.md");

/// A row of the table: its name and its cells for `one_retry` and `persistent`.
struct Row {
    name: &'static str,
    cells: [&'static str; 2],
}

fn rows() -> Vec<Row> {
    let part = CONTRACT.split_once("## 4. Numbers").expect("part 4").1;
    let part = part.split_once("\n## ").map_or(part, |(part, _)| part);
    let table = part.lines().filter(|line| line.starts_with("| ")).skip(1);
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        // "same" repeats the cell before it.
        let second = if cells[2] == "same" { cells[1] } else { cells[2] };
        Row { name: cells[0], cells: [cells[1], second] }
    };
    table.map(row).collect()
}

/// The durations in a text such as `5 s / 300 ms` or `15, 20, then 30 s`: a number without a unit
/// has that of the next one.
fn durations(text: &str) -> Vec<Duration> {
    let words: Vec<&str> = text.split([' ', ',', '/']).filter(|word| !word.is_empty()).collect();
    let (mut found, mut waiting) = (Vec::new(), Vec::new());
    for word in words {
        let unit = match word {
            "ms" => 0.001,
            "s" => 1.0,
            "min" => 60.0,
            _ => {
                waiting.extend(word.parse::<f64>().ok());
                continue;
            }
        };
        found.extend(waiting.drain(..).map(|number| Duration::from_secs_f64(number * unit)));
    }
    found
}

/// Returns a preset's durations for a row, or `None` for a row that is no setting of the core.
fn of_preset(row: &str, of: &Settings) -> Option<Vec<Duration>> {
    let jitter = |delay: RetryDelay| match delay {
        RetryDelay::Fixed(delay) => vec![delay],
        RetryDelay::FullJitter { base, cap } => vec![base, cap],
    };
    Some(match row {
        "one control-plane call / credentials / ICE servers" => {
            vec![of.call_timeout, of.credentials_timeout, of.ice_servers_timeout]
        }
        "opening a signaling connection (socket and upgrade)" => vec![of.link_open_timeout],
        "one port operation" => vec![of.operation_timeout],
        "answer" => of.answer_timeouts.clone(),
        "offer in answerer mode / the join call is repeated every" => {
            vec![of.offer_timeout, of.join_interval]
        }
        "ICE and DTLS established / once a second answer made the first suspect" => {
            vec![of.establish_timeout, of.suspect_timeout]
        }
        "first media after connected" => vec![of.first_media_timeout],
        "retries" => of.retry_window.into_iter().collect(),
        "delay before a retry" => jitter(of.retry_delay),
        "grace after ICE disconnected (the stack's own detection comes before it, set to 2 s)" => {
            vec![of.disconnect_grace]
        }
        "ICE restart answered and established" => vec![of.restart_timeout],
        "the same when the local address of the pair in use is gone" => {
            vec![of.restart_timeout_address_gone]
        }
        "media give-up" => vec![of.media_give_up],
        "offline: set-up deadlines stand still and no attempt starts, for at most" => {
            vec![of.offline_limit]
        }
        "signaling connection reopened with" => jitter(of.link_reopen),
        "refill of the budget" => vec![of.refill_after],
        "close, whole / each step" => vec![of.close_timeout],
        // The signaling adapter has the ping interval; the longest time is printed, and is
        // approximate.
        "ping every / connection given up after" | "longest time until live or ended" => {
            return None;
        }
        other => panic!("no setting is known for the row {other:?}: add it here"),
    })
}

#[test]
fn numbers_of_the_contract_are_those_of_the_presets() {
    let presets = [Settings::one_retry(), Settings::persistent()];
    let rows = rows();
    assert_eq!(rows.len(), 19);
    for Row { name, cells } in rows {
        for (cell, preset) in cells.into_iter().zip(&presets) {
            let Some(expected) = of_preset(name, preset) else { continue };
            // The row of retries begins with their number, which has no unit.
            let text = match name {
                "retries" => {
                    let (number, rest) = cell.split_once(',').unwrap_or((cell, ""));
                    assert_eq!(number.parse(), Ok(preset.retries), "{name}");
                    rest
                }
                _ => cell,
            };
            assert_eq!(durations(text), expected, "{name}: {cell}");
        }
    }
}
