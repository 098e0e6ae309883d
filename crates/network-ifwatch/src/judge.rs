//! What of two looks at the network a session must know. Pure: no clock, no system.

use std::collections::BTreeSet;

use viewer_session::NetworkInput;

use crate::seen::{Place, Seen};

/// Remembers what the network was like when there was one.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// What connections were made from; `None` before the first look.
    from: Option<BTreeSet<Place>>,
    is_offline: bool,
}

impl Judge {
    /// What is to be told, in order.
    ///
    /// A change is told where connections would now be made from elsewhere: an interface more (a
    /// virtual one, say) is none, and neither is a new address within the same IPv6 subnet. When a
    /// network comes back as another one, the change goes first: what stands on the old one is
    /// given up before anybody is told to go on.
    pub(crate) fn look_at(&mut self, seen: Seen) -> Vec<NetworkInput> {
        let mut told = Vec::new();
        if seen.is_offline() {
            if !std::mem::replace(&mut self.is_offline, true) {
                told.push(NetworkInput::Online(false));
            }
            return told;
        }
        if self.from.as_ref().is_some_and(|from| from != seen.from()) {
            told.push(NetworkInput::Changed);
        }
        self.from = Some(seen.from().clone());
        if std::mem::take(&mut self.is_offline) {
            told.push(NetworkInput::Online(true));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NetworkInput::{Changed, Online};

    const WIFI: &str = "192.168.1.20";
    const LTE: &str = "10.64.3.9";

    fn run(looks: &[(&[&str], &[&str])]) -> Vec<Vec<NetworkInput>> {
        let mut judge = Judge::default();
        looks.iter().map(|(places, out)| judge.look_at(Seen::fake(places, out))).collect()
    }

    #[test]
    fn one_network_after_another_is_a_change() {
        assert_eq!(run(&[(&[WIFI], &[WIFI]), (&[LTE], &[LTE])]), [vec![], vec![Changed]]);
        // A network that leads nowhere, as in a test.
        assert_eq!(run(&[(&[WIFI], &[]), (&[LTE], &[])]), [vec![], vec![Changed]]);
    }

    #[test]
    fn the_way_out_counts_and_not_what_lies_beside_it() {
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
        assert_eq!(run(&looks), [vec![], vec![], vec![Changed]]);
    }

    #[test]
    fn a_gap_is_told_once_and_so_is_its_end() {
        let nothing: (&[&str], &[&str]) = (&["fe80::1"], &[]);
        let told = run(&[(&[WIFI], &[]), nothing, nothing, (&[WIFI], &[]), nothing, (&[LTE], &[])]);
        let expected = [
            vec![],
            vec![Online(false)],
            vec![],
            vec![Online(true)],
            vec![Online(false)],
            vec![Changed, Online(true)],
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_session_that_begins_without_a_network_hears_of_it() {
        let told = run(&[(&["::1"], &[]), (&[WIFI], &[WIFI])]);
        assert_eq!(told, [vec![Online(false)], vec![Online(true)]]);
    }
}
