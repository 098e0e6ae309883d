//! Actions on an open socket, by a fault or the admin API: only this module applies a [`Then`].

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::time::Instant;

use crate::connection_guard::ConnectionGuard;
use crate::fault::{Frame, Injection, Role, Then};
use crate::presence::Why;
use crate::relay::{Joining, Link, Outgoing};
use crate::shared::Shared;
use crate::sync::lock;

/// Applies an action to the sockets of a channel that match, and returns their number.
pub(crate) fn apply_to_channel(
    shared: &Arc<Shared>,
    arn: &str,
    role: Option<Role>,
    client_id: Option<&str>,
    then: &Then,
) -> usize {
    let links = lock(&shared.relay).links(arn, role, client_id);
    for link in &links {
        apply(shared, link, then);
    }
    links.len()
}

/// Applies an action to one socket.
pub(crate) fn apply(shared: &Arc<Shared>, link: &Link, then: &Then) {
    match then {
        Then::Close => link.push(Outgoing::Close(1001, Why::Service)),
        Then::CloseWith(code) => link.push(Outgoing::Close(*code, Why::Service)),
        Then::Cut => link.cut(),
        Then::Stall => link.push(Outgoing::Stall),
        Then::GoAway => link.push(Outgoing::GoAway),
        Then::ReconnectIceServer => link.push(Outgoing::Text(shared.reconnect_ice_server())),
        Then::Takeover => take_over(shared, link),
        Then::Inject(what) => link.push(Outgoing::Injected(frames(shared, link, what))),
    }
}

/// The frames of an injection for this link.
pub(crate) fn frames(shared: &Shared, link: &Link, what: &Injection) -> Vec<Frame> {
    let from = match link.who.role {
        Role::Master => Role::Viewer,
        Role::Viewer => Role::Master,
    };
    let last = |kind| lock(&shared.relay).last(&link.who.arn, kind, from);
    let earlier = what.wants().and_then(last);
    what.frames(earlier.as_deref())
}

/// Displaces a client by a connection without one, which accepts every message and sends
/// nothing, until a newer connection displaces it.
fn take_over(shared: &Arc<Shared>, link: &Link) {
    let joining = Joining {
        arn: &link.who.arn,
        channel: &link.who.channel,
        client_id: link.who.client_id.as_deref(),
        peer: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    };
    let seated = lock(&shared.relay).join(&joining, None, &shared.config.unknowns, Instant::now());
    let Some(mut ghost) = seated else { return };
    let guard = ConnectionGuard::new(shared, ghost.link.clone(), None);
    shared.spawn(async move {
        let mut guard = guard;
        let displaced = async {
            while let Some(outgoing) = ghost.outgoing.recv().await {
                if let Outgoing::Close(_, why) = outgoing {
                    return why;
                }
            }
            Why::Displaced
        };
        guard.why = tokio::select! {
            why = displaced => why,
            () = ghost.kill.cancelled() => Why::Service,
        };
    });
}
