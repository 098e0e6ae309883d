//! The menu: every kind of fault by name, where it may apply, and its effect. Faults are checked
//! against it, the admin API serves it, and the manual is tested against it.

use serde::Serialize;

use super::{Action, Point};

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Kind {
    /// Its name: the value of `do`.
    pub(crate) name: &'static str,
    /// The places at which it may apply.
    pub(crate) on: &'static [Point],
    /// The effect, in words.
    pub(crate) what: &'static str,
}

const MESSAGE: &[Point] = &[Point::Message];
const REQUEST: &[Point] = &[Point::Call, Point::Upgrade];
const ANY: &[Point] = &[Point::Message, Point::Call, Point::Upgrade];
const CALL: &[Point] = &[Point::Call];
const UPGRADE: &[Point] = &[Point::Upgrade];

pub(crate) static MENU: [Kind; 23] = [
    kind("drop", MESSAGE, "is lost"),
    kind("delay", ANY, "goes on `ms` later"),
    kind("duplicate", MESSAGE, "is delivered `copies` times more, `every_ms`"),
    kind("reorder", MESSAGE, "is overtaken by the next `behind`, `within_ms`"),
    kind("hold", MESSAGE, "is kept until released"),
    kind("away", MESSAGE, "waits as if its recipient were away"),
    kind("corrupt", MESSAGE, "arrives damaged: `how` is base64, json, sdp or envelope"),
    kind("replay", MESSAGE, "an earlier attempt's of its type comes first, or `instead`"),
    kind("sender", MESSAGE, "arrives as from `sender`: absent, null or any text"),
    kind(
        "inject",
        MESSAGE,
        "`what`, which no client sent, arrives `place` before, after or instead",
    ),
    kind("status", MESSAGE, "is refused with a STATUS_RESPONSE of `error` and `status`"),
    kind("close_socket", MESSAGE, "is lost, and the socket of `whose` closes with `code` or cut"),
    kind("socket", MESSAGE, "`then` happens to the socket of `whose`; `lost` loses the message"),
    kind("refuse", REQUEST, "is answered with `status`, `error` and `message`"),
    kind("page", REQUEST, "is answered with `status` and `body` as they are"),
    kind("throttle", REQUEST, "is refused as above its rate"),
    kind("viewer_limit", REQUEST, "is refused as one viewer too many"),
    kind("expired_token", REQUEST, "is refused as signed with an ended temporary credential"),
    kind("hang", REQUEST, "is never answered, or reset after `ms`"),
    kind("reset", REQUEST, "the connection ends without an answer"),
    kind("garbage", CALL, "is answered with 200 and a body that is no JSON"),
    kind("turn_age", CALL, "GetIceServerConfig hands out credentials `secs` old"),
    kind("after", UPGRADE, "`then` happens to the socket `ms` after it opened"),
];

const fn kind(name: &'static str, on: &'static [Point], what: &'static str) -> Kind {
    Kind { name, on, what }
}

/// The entry of an action.
pub(crate) fn of(action: &Action) -> Option<&'static Kind> {
    let name = match action {
        Action::Drop => "drop",
        Action::Delay { .. } => "delay",
        Action::Duplicate { .. } => "duplicate",
        Action::Reorder { .. } => "reorder",
        Action::Hold => "hold",
        Action::Away => "away",
        Action::Corrupt { .. } => "corrupt",
        Action::Replay { .. } => "replay",
        Action::Sender { .. } => "sender",
        Action::Inject { .. } => "inject",
        Action::Status { .. } => "status",
        Action::CloseSocket { .. } => "close_socket",
        Action::Socket { .. } => "socket",
        Action::Refuse { .. } => "refuse",
        Action::Page { .. } => "page",
        Action::Throttle => "throttle",
        Action::ViewerLimit => "viewer_limit",
        Action::ExpiredToken => "expired_token",
        Action::Hang { .. } => "hang",
        Action::Reset => "reset",
        Action::Garbage => "garbage",
        Action::TurnAge { .. } => "turn_age",
        Action::After { .. } => "after",
    };
    MENU.iter().find(|kind| kind.name == name)
}

#[cfg(test)]
mod tests {
    use super::MENU;
    use crate::fault::Garbage;

    /// The manual lists every kind at its place.
    #[test]
    fn manual_lists_every_fault_kind_and_its_place() {
        let manual = include_str!("../../README.md");
        for kind in &MENU {
            let on = serde_json::to_value(kind.on).unwrap();
            let on: Vec<&str> = on.as_array().unwrap().iter().filter_map(|p| p.as_str()).collect();
            let row = format!("\n| `{}` | {} |", kind.name, on.join(", "));
            assert!(manual.contains(&row), "{row}");
        }
        for how in Garbage::ALL {
            let name = serde_json::to_value(how).unwrap();
            assert!(manual.contains(&format!("`{}`", name.as_str().unwrap())), "{name}");
        }
    }
}
