// SPDX-License-Identifier: Apache-2.0
//! `remora upgrade` as an operator uses it, under calls that never stop.

#[path = "upgrading/mod.rs"]
mod upgrading;

use std::os::unix::fs::PermissionsExt;

use upgrading::Site;

#[test]
fn calls_go_on_over_one_upgrade_after_another() {
    let mut site = Site::start();
    let load = site.load();
    load.advance(50);
    let mut served = vec![site.serving()];
    for _ in 0..4 {
        let said = site.upgrade(&[]);
        // Five consumers, the provider twice.
        assert!(said.contains("connections handed over"), "{said}");
        load.advance(50);
        served.push(site.serving());
    }
    let calls = site.end(load);
    assert!(calls >= 250, "{calls}");
    served.sort_unstable();
    served.dedup();
    assert_eq!(served.len(), 5, "a new process each time: {served:?}");
    // Whoever started the first one still knows it by its id, and ends the one that serves.
    site.signal("-TERM");
    assert!(site.exit().success(), "{}", site.log());
    assert!(std::net::TcpStream::connect(site.admin).is_err());
}

#[test]
fn what_stands_in_the_programs_place_is_started() {
    let site = Site::start();
    let load = site.load();
    // Another path, as after `--binary`: the upgrade after that takes the same again.
    let copy = site.dir.path().join("remora-next");
    std::fs::copy(env!("CARGO_BIN_EXE_remora"), &copy).expect("the binary can be copied");
    site.upgrade(&["--binary", copy.to_str().expect("a plain path")]);
    let running = || std::fs::read_link(format!("/proc/{}/exe", site.serving())).expect("it runs");
    assert_eq!(running(), copy);
    std::fs::rename(&copy, site.dir.path().join("remora-old")).expect("it can be moved");
    std::fs::copy(env!("CARGO_BIN_EXE_remora"), &copy).expect("the binary can be copied");
    site.upgrade(&[]);
    load.advance(20);
    site.end(load);
}

#[test]
fn what_cannot_take_over_changes_nothing() {
    let site = Site::start();
    let load = site.load();
    let before = site.serving();
    let script = |name: &str, text: &str| {
        let path = site.dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("the directory can be written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        path.display().to_string()
    };
    let said = site.upgrade_fails(&["--binary", "/nowhere/remora"]);
    assert!(said.contains("/nowhere/remora"), "{said}");
    let said = site.upgrade_fails(&["--binary", &script("dies", "exit 3")]);
    assert!(said.contains("exit status: 3"), "{said}");
    let said = site.upgrade_fails(&[
        "--binary",
        &script("babbles", "echo 'no letter of ours at all, whatever it says' >&0"),
    ]);
    assert!(said.contains("not a letter"), "{said}");
    let not_a_program = site.dir.path().join("services.yaml");
    let said = site.upgrade_fails(&["--binary", not_a_program.to_str().expect("a plain path")]);
    assert!(said.contains("could not be started"), "{said}");

    let good = std::fs::read_to_string(site.config()).expect("it was written");
    std::fs::write(site.config(), good.replace("data_dir:", "data_dri:")).expect("the directory can be written");
    let said = site.upgrade_fails(&[]);
    assert!(said.contains("data_dri") && said.contains("remora.yaml"), "{said}");
    // Valid, but this process has the port of another one that is not ours to have.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("it is bound");
    std::fs::write(site.config(), good.replace(&site.admin.to_string(), &addr.to_string())).expect("it can be written");
    let said = site.upgrade_fails(&[]);
    assert!(said.contains(&addr.to_string()), "{said}");
    std::fs::write(site.config(), good).expect("the directory can be written");

    load.advance(50);
    assert_eq!(site.serving(), before);
    site.upgrade(&[]);
    assert_ne!(site.serving(), before);
    load.advance(50);
    site.end(load);
}

#[test]
fn what_is_withdrawn_while_the_new_process_starts_is_not_published_again() {
    let site = Site::start();
    let before = site.serving();
    let (begun, go_on) = (site.dir.path().join("begun"), site.dir.path().join("go-on"));
    let path = site.dir.path().join("slow");
    let script = format!(
        "#!/bin/sh\ntouch {}\nwhile [ ! -e {} ]; do sleep 0.02; done\nexec {} \"$@\"\n",
        begun.display(),
        go_on.display(),
        env!("CARGO_BIN_EXE_remora")
    );
    std::fs::write(&path, script).expect("the directory can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let said = std::thread::scope(|threads| {
        let upgrading = threads.spawn(|| site.upgrade_fails(&["--binary", path.to_str().expect("a plain path")]));
        let deadline = std::time::Instant::now() + upgrading::PATIENCE;
        while !begun.exists() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let withdrawn = site.ask("withdraw", &[]);
        assert!(withdrawn.status.success(), "{withdrawn:?}");
        std::fs::write(&go_on, "").expect("the directory can be written");
        upgrading.join().expect("it was refused")
    });
    assert!(said.contains("withdrawn for good"), "{said}");
    assert_eq!(site.serving(), before);
}

#[test]
fn what_was_withdrawn_is_not_published_again_by_an_upgrade() {
    let site = Site::start();
    let before = site.serving();
    let withdrawn = site.ask("withdraw", &[]);
    assert!(withdrawn.status.success(), "{withdrawn:?}");
    let said = site.upgrade_fails(&[]);
    assert!(said.contains("withdrawn for good"), "{said}");
    assert_eq!(site.serving(), before);
}
