//! What of two looks at the network a session must know. Pure: no clock, no system.

use std::collections::BTreeSet;
use std::net::IpAddr;

use viewer_session::NetworkInput;

use crate::seen::{Place, Seen};

/// Remembers what the network was like when there was one.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// What connections were made from; `None` before the first look.
    from: Option<BTreeSet<Place>>,
    is_offline: bool,
    /// The newest look.
    seen: Option<Seen>,
    /// The place of the pair whose loss was reported.
    gone: Option<Place>,
}

impl Judge {
    /// Whether this snapshot differs from the one before: only then there can be a change to
    /// report.
    pub(crate) fn is_news(&self, seen: &Seen) -> bool {
        self.seen.as_ref() != Some(seen)
    }

    /// The changes to report, in order. `pair` is the local address of the connection in use, where
    /// one is known.
    ///
    /// A change is reported where connections would now be made from elsewhere: an interface more
    /// (a virtual one, for example) is none, and neither is a new address within the same IPv6
    /// subnet. When a network comes back as another one, the change goes first: what stands on the
    /// old one is given up before a session goes on.
    ///
    /// The address of the pair in use is gone when this machine no longer has it; where it is not
    /// known, when nothing is left of the places that connections were made from.
    pub(crate) fn look_at(&mut self, seen: Seen, pair: Option<IpAddr>) -> Vec<NetworkInput> {
        let mut reported = Vec::new();
        self.seen = Some(seen.clone());
        if seen.is_offline() {
            if !std::mem::replace(&mut self.is_offline, true) {
                reported.push(NetworkInput::Online(false));
            }
            return reported;
        }
        let changed = self.from.as_ref().is_some_and(|from| from != seen.from());
        let place = pair.map(Place::of);
        let gone = match place {
            Some(place) => !place.is_loopback() && !seen.places.contains(&place),
            None => self.from.as_ref().is_some_and(|from| from.is_disjoint(&seen.places)),
        };
        let told_before = place.is_some() && self.gone == place;
        if gone && (changed || (place.is_some() && !told_before)) {
            self.gone = place;
            reported.push(NetworkInput::AddressGone);
        } else if changed {
            reported.push(NetworkInput::Changed);
        }
        self.from = Some(seen.from().clone());
        if std::mem::take(&mut self.is_offline) {
            reported.push(NetworkInput::Online(true));
        }
        reported
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NetworkInput::{AddressGone, Changed, Online};

    const WIFI: &str = "192.168.1.20";
    const LTE: &str = "10.64.3.9";

    fn run(looks: &[(&[&str], &[&str])]) -> Vec<Vec<NetworkInput>> {
        let mut judge = Judge::default();
        looks.iter().map(|(places, out)| judge.look_at(Seen::fake(places, out), None)).collect()
    }

    /// The same with the local address of a pair.
    fn run_with(pair: &str, looks: &[(&[&str], &[&str])]) -> Vec<Vec<NetworkInput>> {
        let mut judge = Judge::default();
        let pair = pair.parse().ok();
        let look =
            |(places, out): &(&[&str], &[&str])| judge.look_at(Seen::fake(places, out), pair);
        looks.iter().map(look).collect()
    }

    /// Contract, N18: with the address of the pair in use nothing comes back by itself.
    // Shows: N19.
    #[test]
    fn address_of_the_pair_in_use_decides_whether_it_is_gone() {
        // Another way out, and the pair's network is still there.
        let both: (&[&str], &[&str]) = (&[WIFI, LTE], &[LTE]);
        assert_eq!(run_with(WIFI, &[(&[WIFI], &[WIFI]), both]), [vec![], vec![Changed]]);
        // The pair's network goes, and the way out stays.
        let looks: [(&[&str], &[&str]); 3] = [both, (&[LTE], &[LTE]), (&[LTE, "10.9.9.9"], &[LTE])];
        assert_eq!(run_with(WIFI, &looks), [vec![], vec![AddressGone], vec![]]);
        // Both go: it is reported once.
        assert_eq!(
            run_with(WIFI, &[(&[WIFI], &[WIFI]), (&[LTE], &[LTE])]),
            [vec![], vec![AddressGone]]
        );
        // A connection within this machine loses nothing.
        assert_eq!(
            run_with("127.0.0.1", &[(&[WIFI], &[WIFI]), (&[LTE], &[LTE])]),
            [vec![], vec![Changed]]
        );
        // A temporary address of a subnet that is still there.
        assert_eq!(
            run_with("2001:db8:0:1::aa", &[(&["2001:db8:0:1::bb"], &["2001:db8:0:1::bb"])]),
            [vec![]]
        );
    }

    #[test]
    fn look_that_shows_nothing_new_is_no_news() {
        let mut judge = Judge::default();
        let seen = || Seen::fake(&[WIFI], &[WIFI]);
        assert!(judge.is_news(&seen()));
        judge.look_at(seen(), None);
        assert!(!judge.is_news(&seen()) && judge.is_news(&Seen::fake(&[LTE], &[LTE])));
    }

    #[test]
    fn one_network_after_another_is_a_change() {
        assert_eq!(run(&[(&[WIFI], &[WIFI]), (&[LTE], &[LTE])]), [vec![], vec![AddressGone]]);
        // A network that leads nowhere, as in a test.
        assert_eq!(run(&[(&[WIFI], &[]), (&[LTE], &[])]), [vec![], vec![AddressGone]]);
    }

    #[test]
    fn only_the_route_in_use_counts_as_a_change() {
        let looks: [(&[&str], &[&str]); 3] =
            [(&[WIFI], &[WIFI]), (&[WIFI, "172.17.0.1"], &[WIFI]), (&[WIFI, LTE], &[LTE])];
        assert_eq!(run(&looks), [vec![], vec![], vec![Changed]]);
    }

    #[test]
    fn temporary_addresses_of_one_subnet_are_one_place() {
        let looks: [(&[&str], &[&str]); 3] = [
            (&["2001:db8:0:1::aa"], &["2001:db8:0:1::aa"]),
            (&["2001:db8:0:1::aa", "2001:db8:0:1::bb"], &["2001:db8:0:1::bb"]),
            (&["2001:db8:0:2::bb"], &["2001:db8:0:2::bb"]),
        ];
        assert_eq!(run(&looks), [vec![], vec![], vec![AddressGone]]);
    }

    #[test]
    fn network_gap_and_its_end_are_reported_once() {
        let nothing: (&[&str], &[&str]) = (&["fe80::1"], &[]);
        let reported =
            run(&[(&[WIFI], &[]), nothing, nothing, (&[WIFI], &[]), nothing, (&[LTE], &[])]);
        let expected = [
            vec![],
            vec![Online(false)],
            vec![],
            vec![Online(true)],
            vec![Online(false)],
            vec![AddressGone, Online(true)],
        ];
        assert_eq!(reported, expected);
    }

    #[test]
    fn session_without_a_network_at_start_is_offline() {
        let reported = run(&[(&["::1"], &[]), (&[WIFI], &[WIFI])]);
        assert_eq!(reported, [vec![Online(false)], vec![Online(true)]]);
    }
}
