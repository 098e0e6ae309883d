//! Counts the inputs of a run, and its faults under the names of the contract's part 5. A planned
//! fault that hit nothing is not counted.

use core::fmt;

use negotiation_core::{FailureCode, Phase};

use crate::faults::{CommandFault, CommandKind, Delivery};
use crate::kinds::{InputKind, kinds};

kinds! {
    /// A kind of fault, by its name in the contract.
    FaultName and {
        Drop "drop",
        Delay "delay",
        Duplicate "duplicate",
        Reorder "reorder",
        Hold "hold",
        Corrupt "corrupt",
        Replay "replay of an earlier attempt",
        LinkCut "link cut",
        HalfOpen "half-open",
        UpgradeRefused "upgrade refused",
        UpgradeUnanswered "upgrade unanswered",
        RestRefused "REST refused",
        RestHangs "REST hanging",
        RestReset "REST reset",
        RestGarbage "REST garbage",
        RestThrottled "REST throttled",
        OperationFailed "operation failed",
        OperationLate "operation late",
        OperationLost "operation lost",
        ClockJump "clock jump",
        TimerLate "timer late",
        MasterAbsent "master absent",
        MasterLater "master later",
        MasterSilent "master silent",
        MasterLingers "master lingering on an id",
        MasterReboots "master rebooting",
        MasterOffers "master offering",
        RestartRefused "restart refused",
        Takeover "takeover",
        GoAway "GO_AWAY",
        ReconnectIceServer "RECONNECT_ICE_SERVER",
        StatusResponse "STATUS_RESPONSE",
        CredentialsExpired "credentials expired",
        TurnExpired "TURN expired",
        NetworkDown "network down",
        NetworkChanged "network changed",
        Offline "offline",
        IceDisconnected "ICE disconnected",
        IceFailed "ICE failed",
        DtlsFailed "DTLS failed",
        NoMedia "no media",
        Stall "stall",
        Closing "the application closing",
    }
}

/// The faults that are an input of the session, in any phase except before the start and after the
/// end.
const INPUT_FAULTS: &[(InputKind, FaultName)] = &[
    (InputKind::Close, FaultName::Closing),
    (InputKind::NetworkChanged, FaultName::NetworkChanged),
    (InputKind::Offline, FaultName::Offline),
    (InputKind::GoAway, FaultName::GoAway),
    (InputKind::ReconnectIceServer, FaultName::ReconnectIceServer),
    (InputKind::Status, FaultName::StatusResponse),
    (InputKind::StatusStray, FaultName::StatusResponse),
    (InputKind::LinkEnded, FaultName::LinkCut),
    (InputKind::Disconnected, FaultName::IceDisconnected),
    (InputKind::IceFailed, FaultName::IceFailed),
    (InputKind::DtlsFailed, FaultName::DtlsFailed),
    (InputKind::MediaStalled, FaultName::Stall),
];

impl FaultName {
    /// The kinds of input that are this fault, with the phases in which they count.
    pub(crate) fn input_kind(self) -> impl Iterator<Item = (Phase, InputKind)> {
        let input_kind = INPUT_FAULTS.iter().filter(move |(_, named)| *named == self);
        let phases =
            || Phase::ALL.into_iter().filter(|phase| !matches!(phase, Phase::Idle | Phase::Ended));
        input_kind.flat_map(move |(input_kind, _)| phases().map(move |phase| (phase, *input_kind)))
    }
}

/// How often each fault happened in one run, except those that are inputs.
#[derive(Clone, Debug)]
pub(crate) struct FaultCounts(pub(crate) [u32; FaultName::ALL.len()]);

impl FaultCounts {
    pub(crate) fn new() -> Self {
        Self([0; FaultName::ALL.len()])
    }

    pub(crate) fn hit(&mut self, named: FaultName) {
        self.0[named as usize] += 1;
    }

    /// Counts a fault of a message.
    pub(crate) fn message(&mut self, how: Delivery) {
        match how {
            Delivery::Drop => self.hit(FaultName::Drop),
            Delivery::Delay(_) => self.hit(FaultName::Delay),
            Delivery::Duplicate(_) => self.hit(FaultName::Duplicate),
            Delivery::Hold => self.hit(FaultName::Hold),
            Delivery::Corrupt => self.hit(FaultName::Corrupt),
            // An older answer is counted when it is delivered, where there is one.
            Delivery::AfterOldAnswer | Delivery::FromSender(_) => {}
        }
    }

    /// Counts a fault of a command.
    pub(crate) fn command(&mut self, command: CommandKind, how: CommandFault) {
        let rest = matches!(command, CommandKind::IceServers | CommandKind::Join);
        match how {
            CommandFault::Late(_) => self.hit(FaultName::OperationLate),
            CommandFault::Hang => {
                self.hit(FaultName::OperationLost);
                if rest {
                    self.hit(FaultName::RestHangs);
                } else if command == CommandKind::Connect {
                    self.hit(FaultName::UpgradeUnanswered);
                }
            }
            CommandFault::Fail(code) => {
                self.hit(FaultName::OperationFailed);
                if rest {
                    self.hit(call_failed(code));
                } else if command == CommandKind::Connect {
                    self.hit(FaultName::UpgradeRefused);
                }
                if code == FailureCode::ExpiredCredentials {
                    self.hit(FaultName::CredentialsExpired);
                }
            }
        }
    }
}

/// The name of a failed REST call. A response that cannot be read counts as a failure of the
/// service.
fn call_failed(code: FailureCode) -> FaultName {
    match code {
        FailureCode::Throttled | FailureCode::ViewerLimit => FaultName::RestThrottled,
        FailureCode::Service => FaultName::RestGarbage,
        FailureCode::Dns | FailureCode::Network | FailureCode::Tls | FailureCode::Closed => {
            FaultName::RestReset
        }
        FailureCode::NoChannel
        | FailureCode::AccessDenied
        | FailureCode::ExpiredCredentials
        | FailureCode::NoCredentials
        | FailureCode::InvalidClientId
        | FailureCode::InvalidArgument
        | FailureCode::StorageMode
        | FailureCode::Replaced
        | FailureCode::TimedOut
        | FailureCode::NotOpen
        | FailureCode::TooBig
        | FailureCode::BadDescription
        | FailureCode::Codec
        | FailureCode::LocalMedia
        | FailureCode::AddressPolicy
        | FailureCode::Port
        | FailureCode::Cancelled => FaultName::RestRefused,
    }
}

/// How often each kind of input was handled in each phase, in one run.
#[derive(Clone, Debug)]
pub(crate) struct InputCounts(pub(crate) Box<[[u32; InputKind::ALL.len()]; Phase::ALL.len()]>);

impl InputCounts {
    pub(crate) fn new() -> Self {
        Self(Box::new([[0; InputKind::ALL.len()]; Phase::ALL.len()]))
    }

    /// Counts an input of this kind in this phase.
    pub(crate) fn hit(&mut self, phase: Phase, input_kind: InputKind) {
        self.0[phase as usize][input_kind as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_name_number_is_its_index() {
        for (place, named) in FaultName::ALL.iter().enumerate() {
            assert_eq!(*named as usize, place, "{named}");
        }
    }
}
