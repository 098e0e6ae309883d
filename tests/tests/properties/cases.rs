//! The number of generated cases of a test.

/// `SIM_CASES` multiplies the number (`10`), or divides it (`1/40`).
pub(crate) fn scaled(cases: u64) -> u64 {
    let Ok(text) = std::env::var("SIM_CASES") else { return cases };
    let (times, parts) = text.split_once('/').unwrap_or((&text, "1"));
    match (times.parse::<u64>(), parts.parse::<u64>()) {
        (Ok(times), Ok(parts)) if parts > 0 => (cases * times / parts).max(1),
        (..) => panic!("SIM_CASES is a number like 10, or a fraction like 1/40, not {text:?}"),
    }
}
