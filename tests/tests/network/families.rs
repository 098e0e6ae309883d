//! IPv6 alone, and IPv6 that leads nowhere (contract, 53 and 60).

use crate::PATIENCE;
use crate::lab::Family;
use crate::scene::{Scene, ends_well, frames_go_on, time_of};

#[test]
fn s60_ipv6_only() {
    let scene = Scene::set(Family::V6, &[]);
    let _camera = scene.camera([""; 0]);
    let watch = scene.watch([""; 0]);
    let live = watch.event("live", PATIENCE);
    frames_go_on(&watch, 30);
    eprintln!("60: live after {} ms", time_of(&live));
    ends_well(watch);
}

/// The service has both kinds of address, and what goes to the IPv6 one vanishes.
#[test]
fn s53_ipv6_black_hole() {
    let scene = Scene::set_named(Family::Both, &[]);
    let _camera = scene.camera([""; 0]);
    scene.lab.drop_on_router("iifname r1 meta nfproto ipv6");
    scene.lab.drop_on_router("oifname r1 meta nfproto ipv6");
    let watch = scene.watch([""; 0]);
    let live = watch.event("live", PATIENCE);
    frames_go_on(&watch, 30);
    eprintln!("53: live after {} ms", time_of(&live));
    ends_well(watch);
}
