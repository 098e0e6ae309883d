//! The kinds of faults under the names that the contract gives them at the end of its part 5, and
//! how often each struck: a fault that was planned and met nothing is not counted.

use core::fmt;

use negotiation_core::{FailureCode, Phase};

use super::kinds::{Heard, kinds};
use crate::faults::{Handling, Op, OpFault};

kinds! {
    /// A kind of fault, as the contract names it.
    Named and {
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

/// Those that are an input of the session's, in any phase but before the start and after the end.
const HEARD: &[(Heard, Named)] = &[
    (Heard::Close, Named::Closing),
    (Heard::NetworkChanged, Named::NetworkChanged),
    (Heard::Offline, Named::Offline),
    (Heard::GoAway, Named::GoAway),
    (Heard::ReconnectIceServer, Named::ReconnectIceServer),
    (Heard::Status, Named::StatusResponse),
    (Heard::StatusStray, Named::StatusResponse),
    (Heard::LinkEnded, Named::LinkCut),
    (Heard::Disconnected, Named::IceDisconnected),
    (Heard::IceFailed, Named::IceFailed),
    (Heard::DtlsFailed, Named::DtlsFailed),
    (Heard::MediaStalled, Named::Stall),
];

impl Named {
    /// The kinds of input that are this fault, by the phases in which they hurt.
    pub(super) fn heard(self) -> impl Iterator<Item = (Phase, Heard)> {
        let heard = HEARD.iter().filter(move |(_, named)| *named == self);
        let phases =
            || Phase::ALL.into_iter().filter(|phase| !matches!(phase, Phase::Idle | Phase::Ended));
        heard.flat_map(move |(heard, _)| phases().map(move |phase| (phase, *heard)))
    }
}

/// How often each struck in one run, but for those that are inputs.
#[derive(Clone, Debug)]
pub(crate) struct Struck(pub(super) [u32; Named::ALL.len()]);

impl Struck {
    pub(crate) fn new() -> Self {
        Self([0; Named::ALL.len()])
    }

    pub(crate) fn hit(&mut self, named: Named) {
        self.0[named as usize] += 1;
    }

    /// A message was handled like this.
    pub(crate) fn mail(&mut self, how: Handling) {
        match how {
            Handling::Drop => self.hit(Named::Drop),
            Handling::Delay(_) => self.hit(Named::Delay),
            Handling::Duplicate(_) => self.hit(Named::Duplicate),
            Handling::Hold => self.hit(Named::Hold),
            Handling::Corrupt => self.hit(Named::Corrupt),
            // Where there is an older one, it is counted when it passes.
            Handling::AfterOld | Handling::From(_) => {}
        }
    }

    /// A command went like this.
    pub(crate) fn op(&mut self, op: Op, how: OpFault) {
        let rest = matches!(op, Op::IceServers | Op::Join);
        match how {
            OpFault::Late(_) => self.hit(Named::OperationLate),
            OpFault::Hang => {
                self.hit(Named::OperationLost);
                if rest {
                    self.hit(Named::RestHangs);
                } else if op == Op::Connect {
                    self.hit(Named::UpgradeUnanswered);
                }
            }
            OpFault::Fail(code) => {
                self.hit(Named::OperationFailed);
                if rest {
                    self.hit(call_failed(code));
                } else if op == Op::Connect {
                    self.hit(Named::UpgradeRefused);
                }
                if code == FailureCode::ExpiredCredentials {
                    self.hit(Named::CredentialsExpired);
                }
            }
        }
    }
}

/// What became of a call to the service. An answer that cannot be read is the service's failure.
fn call_failed(code: FailureCode) -> Named {
    match code {
        FailureCode::Throttled | FailureCode::ViewerLimit => Named::RestThrottled,
        FailureCode::Service => Named::RestGarbage,
        FailureCode::Dns | FailureCode::Network | FailureCode::Tls | FailureCode::Closed => {
            Named::RestReset
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
        | FailureCode::Cancelled => Named::RestRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_at_its_place() {
        for (place, named) in Named::ALL.iter().enumerate() {
            assert_eq!(*named as usize, place, "{named}");
        }
    }
}
