//! Sessions over coturn: relay-only, by UDP, TCP and TLS, with credentials that expire and are
//! renewed (contract, 40, 41, 59).

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::thread::sleep;
use std::time::Duration;

use kvs_viewer_tests::Process;
use kvs_viewer_tests::stage::named;
use kvs_viewer_tests::tools::probe;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::PATIENCE;
use crate::lab::Family;
use crate::losses::{Poor, impair};
use crate::scene::{CAMERA, Scene, TURN, VIEWER, ends_well, frames_go_on, since, time_of};

const HOST: &str = "10.77.30.2";
const SECRET: &str = "shared between coturn and the emulator";
const UDP: &str = "turn:10.77.30.2:3478?transport=udp";
const TCP: &str = "turn:10.77.30.2:3478?transport=tcp";
const TLS: &str = "turns:10.77.30.2:5349?transport=tcp";

/// Creates a scene in which the service returns these TURN URIs and coturn serves them.
pub(crate) fn scene(uris: &str, ttl: &str, coturn_args: &[&str]) -> (Scene, Process) {
    let args = ["--turn-uri", uris, "--turn-secret", SECRET, "--turn-ttl", ttl];
    let args = [&args[..], &["--tls-name", "service.test"]].concat();
    let scene = Scene::set(Family::V4, &args);
    let (certificate, key) = (scene.path("turn.pem"), scene.path("turn-key.pem"));
    let (chain, secret, authority) = certified();
    fs::write(&certificate, chain).expect("written");
    fs::write(&key, secret).expect("written");
    let mut trusted = fs::File::options().append(true).open(scene.trusted()).expect("it is there");
    trusted.write_all(authority.as_bytes()).expect("written");
    let mut command = scene.lab.command(TURN, "turnserver".as_ref());
    command.args(["-n", "--no-cli", "--no-dtls", "--verbose", "--log-file", "stdout"]);
    command.args(["--simple-log", "--listening-ip", HOST, "--relay-ip", HOST]);
    command.args(["--listening-port", "3478", "--tls-listening-port", "5349"]);
    command.args(["--realm", "test", "--use-auth-secret", "--static-auth-secret", SECRET]);
    command.arg("--cert").arg(certificate).arg("--pkey").arg(key).args(coturn_args);
    command.arg("--userdb").arg(scene.path("turndb")).arg("--pidfile").arg(scene.path("pid"));
    let hint = "Install it (Debian: apt-get install coturn).";
    let coturn = Process::start("turnserver", &mut command, hint);
    (scene, coturn)
}

/// Creates a certificate for coturn, its key, and the certificate of the CA that signed it.
fn certified() -> (String, String, String) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let signed = authority.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::from_params(&authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let mut leaf =
        CertificateParams::new(vec![HOST.to_owned(), "turn.test".to_owned()]).expect("a name");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate").pem();
    (leaf, key.serialize_pem(), signed)
}

/// Returns the users with an allocation on coturn, without duplicates.
fn users(coturn: &Process) -> Vec<String> {
    let log = coturn.transcript();
    let new = log.lines().filter(|line| line.contains(": new, realm="));
    let user = new.filter_map(|line| line.split("username=<").nth(1)?.split('>').next());
    let mut users: Vec<String> = user.map(str::to_owned).collect();
    let mut seen = BTreeSet::new();
    users.retain(|user| seen.insert(user.clone()));
    users
}

/// Returns the kind of the viewer's candidate in the selected pair.
pub(crate) fn local_side(watch: &Process) -> String {
    let [local, _] = sides(watch);
    local
}

/// Returns the kinds of the viewer's and the camera's candidate in the selected pair.
fn sides(watch: &Process) -> [String; 2] {
    // The first statistics appear up to a second after the session is live.
    let _ = watch.event_that("stats", PATIENCE, |stats| stats["path"].is_object());
    let events = watch.events();
    let stats = named(&events, "stats");
    let path = stats.iter().rev().map(|stats| &stats["path"]).find(|path| path.is_object());
    let path = path.expect("it was reported");
    ["local", "remote"].map(|side| path[side].as_str().expect("a kind").to_owned())
}

#[test]
fn s41_relay_only() {
    let (scene, coturn) = scene(UDP, "300", &[]);
    scene.cut_direct_paths();
    let _camera = scene.camera([""; 0]);
    let file = scene.path("relayed.mp4");
    let args = ["--relay-only", "--duration", "6", "--record"].map(AsRef::as_ref);
    let mut watch = scene.watch(args.into_iter().chain([file.as_os_str()]));
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    assert_eq!(local_side(&watch), "relay");
    let seen = probe(&file);
    eprintln!("41: recorded over coturn: {seen:?}");
    assert!(seen.pictures >= 75, "{seen:?}");
    assert_eq!(scene.lab.dropped(), 0, "nothing but the relay was tried");
    drop(coturn);
}

#[test]
fn s41_relay_connects_without_direct_path() {
    let (scene, _coturn) = scene(UDP, "300", &[]);
    scene.cut_direct_paths();
    let _camera = scene.camera([""; 0]);
    let watch = scene.live([""; 0]);
    let (answered, connected) =
        (watch.event("answer_received", PATIENCE), watch.event("connected", PATIENCE));
    eprintln!("41: connected {} ms after the answer", time_of(&connected) - time_of(&answered));
    // The viewer's own address can also reach the camera's relay.
    let sides = sides(&watch);
    assert!(
        sides.iter().any(|side| side == "relay"),
        "of all candidates, those that work: {sides:?}"
    );
    ends_well(watch);
}

/// The path to a relay is often faster than the direct one. Here a camera has two networks: a fast
/// one that leads to the relay but not to the viewer, and a slow one that leads to the viewer.
#[test]
fn s41_direct_path_is_preferred_to_faster_relay() {
    const RUNS: usize = 5;
    let (mut scene, _coturn) = scene(UDP, "300", &[]);
    let slow = Poor { lost: 0, repeated: 0, reordered: 0, delay: 30, jitter: 0 };
    let _carrier = impair(&mut scene, CAMERA, &slow);
    let lab = &scene.lab;
    // Packets from each address of the camera leave by that address's link.
    lab.ip(CAMERA, "route del default");
    lab.ip(CAMERA, "rule add from 10.77.20.2 table 20");
    lab.ip(CAMERA, "route add default via 10.77.20.1 dev up0 table 20");
    lab.link(CAMERA, "up1", 21, Family::V4);
    lab.drop_on_router("iifname r1 oifname r21");
    lab.drop_on_router("iifname r21 oifname r1");
    let _camera = scene.camera([""; 0]);
    let mut direct = 0;
    for _ in 0..RUNS {
        let watch = scene.live([""; 0]);
        let sides = sides(&watch);
        eprintln!("41: {sides:?}");
        direct += usize::from(sides.iter().all(|side| side != "relay"));
        ends_well(watch);
    }
    // The machine may stall for half a second, so one run may fail.
    assert!(direct >= RUNS - 1, "{direct} of {RUNS} were direct");
}

#[test]
fn s41_without_a_relay_there_is_no_route() {
    let scene = Scene::set(Family::V4, &[]);
    scene.cut_direct_paths();
    let _camera = scene.camera([""; 0]);
    let mut watch = scene.watch(["--retry", "never"]);
    let ended = watch.ended(PATIENCE);
    let reason = watch.event("ended", PATIENCE)["reason"].clone();
    assert_eq!(reason, "no-route", "{:?} {}", ended.code, watch.transcript());
}

/// An ICE restart requests new credentials, and gets another relay with them.
#[test]
fn s40_turn_expire() {
    let (scene, coturn) = scene(UDP, "30", &[]);
    let _camera = scene.camera(["--behaviour", "renegotiate"]);
    scene.cut_direct_paths();
    let watch = scene.live(["--relay-only"]);
    // There are one or two user names, because the name contains the second of the request, and
    // viewer and camera may have requested them in the same second.
    let first = users(&coturn);
    assert!((1..=2).contains(&first.len()), "{}", coturn.transcript());
    // The first credentials have expired by now.
    sleep(Duration::from_secs(31));
    scene.lab.unplug(VIEWER, "up0");
    scene.lab.link(VIEWER, "up1", 2, Family::V4);
    watch.event("recovered", PATIENCE);
    frames_go_on(&watch, 30);
    let all = users(&coturn);
    let later = all.get(first.len()..).unwrap_or_default();
    assert!(!later.is_empty() && !later.iter().any(|user| first.contains(user)), "{all:?}");
    assert_eq!(since(&watch, "attempt_started", 0).len(), 1, "{}", watch.transcript());
    ends_well(watch);
}

/// The credential expires after 30 s, but the relay stays usable: the stack renews its permissions
/// every two minutes.
#[test]
fn s59_relay_outlives() {
    let (scene, coturn) = scene(UDP, "30", &[]);
    let _camera = scene.camera([""; 0]);
    let watch = scene.live(["--relay-only"]);
    let permitted = || {
        let log = coturn.transcript();
        log.lines().filter(|line| line.contains("CREATE_PERMISSION processed, success")).count()
    };
    let (at_first, users_at_first) = (permitted(), users(&coturn));
    assert!(at_first > 0, "{}", coturn.transcript());
    let mut waited = 0;
    while permitted() == at_first {
        assert!(waited < 180, "never asked again: {}", coturn.transcript());
        sleep(Duration::from_secs(1));
        waited += 1;
    }
    eprintln!("59: permitted again after {waited} s, long after the credential ended");
    assert!(waited > 30);
    frames_go_on(&watch, 30);
    assert_eq!(users(&coturn), users_at_first, "{}", coturn.transcript());
    for trouble in ["disconnected", "media_stalled", "recovering"] {
        assert_eq!(since(&watch, trouble, 0).len(), 0, "{}", watch.transcript());
    }
    ends_well(watch);
}

/// The router drops all UDP of the viewer's network, so TURN uses a TCP or TLS stream.
fn without_udp(uris: &str) {
    let (scene, coturn) = scene(uris, "300", &[]);
    scene.lab.drop_on_router("iifname { r1, r2 } meta l4proto udp");
    scene.lab.drop_on_router("oifname { r1, r2 } meta l4proto udp");
    let _camera = scene.camera(["--behaviour", "renegotiate"]);
    let watch = scene.watch([""; 0]);
    let live = watch.event("live", PATIENCE);
    frames_go_on(&watch, 45);
    assert_eq!(local_side(&watch), "relay");
    eprintln!("{uris}: live after {} ms without UDP", live["t_ms"]);
    // A stream belongs to one network, so the switch needs new streams.
    scene.lab.unplug(VIEWER, "up0");
    scene.lab.link(VIEWER, "up1", 2, Family::V4);
    watch.event("recovered", PATIENCE);
    frames_go_on(&watch, 30);
    let ended = watch.events();
    assert_eq!(named(&ended, "attempt_started").len(), 1, "{}", coturn.transcript());
    closes_every_stream(&scene, watch);
}

/// Checks that an ended attempt left no socket open (contract, N23).
pub(crate) fn closes_every_stream(scene: &Scene, mut watch: Process) {
    watch.interrupt();
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    let ended = watch.event("attempt_ended", PATIENCE);
    let (before, after) = (&ended["sockets"]["before"], &ended["sockets"]["after"]);
    assert!(after.as_u64() <= before.as_u64(), "{before} {after} {}", scene.path("").display());
}

#[test]
fn turn_over_tcp_where_udp_is_blocked() {
    without_udp(TCP);
}

#[test]
fn turn_over_tls_where_udp_is_blocked() {
    // The service offers UDP as well, as AWS does; the viewer tries it first.
    without_udp(&format!("{UDP},{TLS}"));
}

/// The viewer does not use a TURN server with a certificate of an unknown CA.
#[test]
fn turn_server_over_tls_is_verified() {
    let (scene, coturn) = scene(TLS, "300", &[]);
    // The viewer trusts only the service's CA.
    fs::copy(scene.path("ca/ca.pem"), scene.trusted()).expect("copied");
    scene.cut_direct_paths();
    let _camera = scene.camera([""; 0]);
    let mut watch = scene.watch(["--relay-only", "--retry", "never"]);
    watch.ended(PATIENCE);
    let reason = watch.event("ended", PATIENCE)["reason"].clone();
    assert_eq!(reason, "no-route", "{}", watch.transcript());
    assert_eq!(users(&coturn), Vec::<String>::new());
}
