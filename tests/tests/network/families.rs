//! IPv6 alone, IPv6 without connectivity, and slow name resolution (contract, 53 and 60).

use kvs_viewer_tests::Process;

use crate::PATIENCE;
use crate::lab::Family;
use crate::scene::{SERVICE, Scene, VIEWER, ends_well, frames_go_on, time_of};

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

/// The service has IPv4 and IPv6 addresses, and the router drops all IPv6 packets of the viewer.
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

/// Each DNS query takes two seconds.
#[test]
fn s53_slow_resolver() {
    let scene = Scene::set_named(Family::Both, &[]);
    let _camera = scene.camera([""; 0]);
    scene.lab.hosts(VIEWER, "127.0.0.1 localhost\n");
    scene.lab.resolver(VIEWER, "10.77.10.2");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/slow_dns.py");
    let mut command = scene.lab.command(SERVICE, "python3".as_ref());
    command.args([script, "2", "10.77.10.2", "fd77:0:0:10::2"]);
    let names = Process::start("slow_dns.py", &mut command, "Install python3.");
    names.event("ready", PATIENCE);
    let watch = scene.watch([""; 0]);
    // The session reports this phase before the name is resolved.
    let phase = watch.event_that("phase", PATIENCE, |event| event["to"] == "connecting");
    let opened = watch.event("link_opened", PATIENCE);
    let took = time_of(&opened) - time_of(&phase);
    assert!(took >= 2000, "the name was asked for: {took} ms");
    let live = watch.event("live", PATIENCE);
    frames_go_on(&watch, 30);
    assert_eq!(live["attempt"], 1, "{live}");
    eprintln!("53: link open after {took} ms, live after {} ms", time_of(&live));
    ends_well(watch);
}
