//! Networks that can be left only through a proxy: sessions with their signaling through it, or
//! with TURN over TCP and TLS as well. Only the proxy can resolve outside host names.

use kvs_viewer_tests::Process;
use kvs_viewer_tests::connect_proxy::{BASIC, ConnectProxy, LOGIN, Manner, Names};
use kvs_viewer_tests::stage::named;
use kvs_viewer_tests::tools::probe;

use crate::PATIENCE;
use crate::lab::Family;
use crate::relayed::{self, closes_every_stream, local_side};
use crate::scene::{CAMERA, Scene, VIEWER, ends_well, frames_go_on};

const PROXY: &str = "proxy";
const PROXY_AT: &str = "10.77.40.2:3128";
const NAMES: Names = &[("service.test", "10.77.10.2"), ("turn.test", "10.77.30.2")];
const SERVICE_AT: &str = "service.test:4700";
const UDP: &str = "turn:turn.test:3478?transport=udp";
const TCP: &str = "turn:turn.test:3478?transport=tcp";
const TLS: &str = "turns:turn.test:5349?transport=tcp";

/// Creates the scene with coturn, and a proxy on link 40. The namespace `place` has no name
/// resolution.
fn scene(uris: &str, place: &str) -> (Scene, Process, ConnectProxy) {
    let (mut scene, coturn) = relayed::scene(uris, "300", &[]);
    scene.lab.space(PROXY);
    scene.lab.link(PROXY, "up0", 40, Family::V4);
    let start = || ConnectProxy::start(PROXY_AT, Manner::Ask, NAMES);
    let proxy = scene.lab.inside(PROXY, start);
    scene.lab.hosts(place, "127.0.0.1 localhost\n");
    scene.lab.resolver(place, "127.0.0.1");
    (scene, coturn, proxy)
}

/// Starts a viewer with a proxy in its environment.
fn watch(scene: &Scene, variable: (&str, &str), args: &[&str]) -> Process {
    start(scene, VIEWER, "watch", variable, args)
}

/// Starts a program with a proxy in its environment and the log level `trace`.
fn start(
    scene: &Scene,
    place: &str,
    subcommand: &str,
    variable: (&str, &str),
    args: &[&str],
) -> Process {
    let mut command = scene.command(place, subcommand);
    command.env("HTTPS_PROXY", format!("http://{LOGIN}@{PROXY_AT}")).env(variable.0, variable.1);
    command.args(["--log", "trace"]).args(args);
    Process::start(subcommand, &mut command, "Build kvs-viewer.")
}

/// The service's endpoint, under the name that only the proxy can resolve.
const BY_NAME: (&str, &str) = ("AWS_ENDPOINT_URL_KINESIS_VIDEO", "https://service.test:4700");

fn keeps_the_login(process: &Process) {
    let text = process.transcript();
    assert!(text.contains(" INFO "), "nothing is logged at all: {text}");
    let password = LOGIN.rsplit(':').next().expect("a password");
    for secret in [password, BASIC.trim_start_matches("Basic ")] {
        assert!(!text.contains(secret), "the login is in the output");
    }
}

#[test]
fn proxied_session_makes_no_direct_connection() {
    let (scene, _coturn, proxy) = scene(UDP, VIEWER);
    scene.lab.drop_on_router("iifname r1 oifname r10");
    let _camera = scene.camera([""; 0]);
    let file = scene.path("proxied.mp4");
    let record = ["--duration", "5", "--record", file.to_str().expect("a path of letters")];
    let mut watch = watch(&scene, BY_NAME, &record);
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    keeps_the_login(&watch);
    let targets = proxy.targets();
    eprintln!("through the proxy: {targets:?}");
    // The targets are the control plane, the ICE servers and the signaling connection, all on the
    // service.
    assert!(targets.len() >= 3, "{targets:?}");
    assert!(targets.iter().all(|target| target == SERVICE_AT), "{targets:?}");
    assert_eq!(scene.lab.dropped(), 0, "nothing was tried directly");
    assert_eq!(named(&watch.events(), "attempt_started").len(), 1);
    let seen = probe(&file);
    assert!(seen.pictures >= 60, "{seen:?}");
}

#[test]
fn no_proxy_host_is_reached_directly() {
    let (scene, _coturn, proxy) = scene(UDP, VIEWER);
    let _camera = scene.camera([""; 0]);
    let no_proxy = ("NO_PROXY", "example.com,10.77.10.0/24");
    let mut watch = watch(&scene, no_proxy, &["--duration", "2"]);
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    assert_eq!(proxy.targets(), Vec::<String>::new());
    keeps_the_login(&watch);
}

/// The viewer's network can reach only the proxy, so TURN goes through it as well.
fn with_nothing_but_the_proxy(uris: &str, turn_at: &str) {
    let (scene, _coturn, proxy) = scene(uris, VIEWER);
    scene.lab.drop_on_router("iifname r1 oifname != r40");
    let _camera = scene.camera([""; 0]);
    let watch = watch(&scene, BY_NAME, &[]);
    let live = watch.event("live", PATIENCE);
    frames_go_on(&watch, 45);
    assert_eq!(local_side(&watch), "relay");
    let targets = proxy.targets();
    eprintln!("{uris}: live after {} ms through {targets:?}", live["t_ms"]);
    assert!(targets.iter().any(|target| target == turn_at), "{targets:?}");
    assert!(targets.iter().all(|target| [SERVICE_AT, turn_at].contains(&target.as_str())));
    keeps_the_login(&watch);
    closes_every_stream(&scene, watch);
}

#[test]
fn turn_over_tcp_through_the_proxy() {
    with_nothing_but_the_proxy(TCP, "turn.test:3478");
}

#[test]
fn turn_over_tls_through_the_proxy() {
    // The service offers UDP as well, as AWS does.
    with_nothing_but_the_proxy(&format!("{UDP},{TLS}"), "turn.test:5349");
}

/// A viewer reaches a camera in such a network: the camera has its relay through the proxy.
#[test]
fn camera_behind_proxy_is_reached_over_relay() {
    let (scene, _coturn, proxy) = scene(TLS, CAMERA);
    scene.lab.drop_on_router("iifname r20 oifname != r40");
    let mut camera = start(&scene, CAMERA, "camera", BY_NAME, &[]);
    camera.event("ready", PATIENCE);
    let watch = scene.live([""; 0]);
    assert!(proxy.targets().contains(&"turn.test:5349".to_owned()), "{:?}", proxy.targets());
    ends_well(watch);
    camera.interrupt();
    assert_eq!(camera.ended(PATIENCE).code, Some(0), "{}", camera.transcript());
    keeps_the_login(&camera);
}
