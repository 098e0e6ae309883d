//! Flags for faults: short forms of the common ones, and any fault as JSON.

use crate::error::EmulatorError;
use crate::fault::{Action, Fault, Match, Point, Role, Target, Then};
use crate::wire::MessageType;

/// Heading of the help.
const FAULTS: &str = "Faults";

/// Faults in force from the start. Where several match an event, the first in this list decides.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FaultArgs {
    /// Drop the first N answers
    #[arg(long, value_name = "N", help_heading = FAULTS)]
    pub drop_answers: Option<u64>,
    /// Drop the first N offers
    #[arg(long, value_name = "N", help_heading = FAULTS)]
    pub drop_offers: Option<u64>,
    /// Deliver the first N answers twice
    #[arg(long, value_name = "N", help_heading = FAULTS)]
    pub duplicate_answers: Option<u64>,
    /// Deliver the first N offers twice
    #[arg(long, value_name = "N", help_heading = FAULTS)]
    pub duplicate_offers: Option<u64>,
    /// Let the next two messages overtake each answer
    #[arg(long, help_heading = FAULTS)]
    pub reorder: bool,
    /// Delay each answer by this many milliseconds
    #[arg(long, value_name = "MS", help_heading = FAULTS)]
    pub answer_delay_ms: Option<u64>,
    /// Reset the viewer's WebSocket instead of delivering the first N answers
    #[arg(long, value_name = "N", help_heading = FAULTS)]
    pub cut_on_answer: Option<u64>,
    /// Close each viewer's WebSocket this many milliseconds after it opened
    #[arg(long, value_name = "MS", help_heading = FAULTS)]
    pub close_socket_after: Option<u64>,
    /// Send GO_AWAY to each viewer this many milliseconds after its WebSocket opened
    #[arg(long, value_name = "MS", help_heading = FAULTS)]
    pub go_away_after: Option<u64>,
    /// Refuse an API call, or Connect for WebSockets; *N refuses the first N alone
    #[arg(long, value_name = "CALL=STATUS/ERROR[*N]", help_heading = FAULTS)]
    pub refuse: Vec<String>,
    /// Add any fault, as JSON (see the manual)
    #[arg(long, value_name = "JSON", help_heading = FAULTS)]
    pub fault: Vec<String>,
}

impl FaultArgs {
    /// The faults of these flags.
    pub fn to_faults(&self) -> Result<Vec<Fault>, EmulatorError> {
        use MessageType::{SdpAnswer, SdpOffer};
        let mut faults = Vec::new();
        for text in &self.fault {
            let parsed = serde_json::from_str(text);
            faults.push(parsed.map_err(|error| refused(format!("{text:?}: {error}")))?);
        }
        for text in &self.refuse {
            faults.push(refusal(text)?);
        }
        let mut first = |times: Option<u64>, kind, action: Action| {
            if let Some(times) = times {
                faults.push(Fault::new(Match::first(kind, times), action));
            }
        };
        first(self.drop_answers, SdpAnswer, Action::Drop);
        first(self.drop_offers, SdpOffer, Action::Drop);
        let cut = Action::CloseSocket { whose: Target::Recipient, code: None };
        first(self.cut_on_answer, SdpAnswer, cut);
        let twice = Action::Duplicate { copies: 1, every_ms: 0 };
        first(self.duplicate_answers, SdpAnswer, twice.clone());
        first(self.duplicate_offers, SdpOffer, twice);
        if self.reorder {
            let action = Action::Reorder { behind: 2, within_ms: 1000 };
            faults.push(Fault::new(Match::every(SdpAnswer), action));
        }
        if let Some(ms) = self.answer_delay_ms {
            faults.push(Fault::new(Match::every(SdpAnswer), Action::Delay { ms }));
        }
        let viewers = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
        for (after, then) in
            [(self.close_socket_after, Then::Close), (self.go_away_after, Then::GoAway)]
        {
            if let Some(ms) = after {
                faults.push(Fault::new(viewers.clone(), Action::After { ms, then }));
            }
        }
        Ok(faults)
    }
}

fn refusal(text: &str) -> Result<Fault, EmulatorError> {
    let broken = || {
        refused(format!(
            "{text:?} is not CALL=STATUS/ERROR, such as GetIceServerConfig=500/InternalFailure*2"
        ))
    };
    let (call, rest) = text.split_once('=').ok_or_else(broken)?;
    let (rest, times) = match rest.split_once('*') {
        Some((rest, times)) => (rest, Some(times.parse().map_err(|_| broken())?)),
        None => (rest, None),
    };
    let (status, error) = rest.split_once('/').ok_or_else(broken)?;
    let status = status.parse().map_err(|_| broken())?;
    let action =
        Action::Refuse { status, error: error.to_owned(), message: "Refused by fault.".to_owned() };
    let upgrade = |from| Match { from, times, ..Match::on(Point::Upgrade) };
    let matches = match call {
        "Connect" => upgrade(None),
        "ConnectAsViewer" => upgrade(Some(Role::Viewer)),
        "ConnectAsMaster" => upgrade(Some(Role::Master)),
        call => Match { call: Some(call.to_owned()), times, ..Match::on(Point::Call) },
    };
    Ok(Fault::new(matches, action))
}

fn refused(reason: String) -> EmulatorError {
    EmulatorError::Setting { field: "faults", reason }
}
