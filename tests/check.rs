// SPDX-License-Identifier: Apache-2.0
//! `remora check`: what a wrong configuration is answered with, and what a good one prints.

use std::process::{Command, Output};

fn check(yaml: &str) -> (Output, String) {
    check_with(yaml, &[], &[])
}

fn check_with(yaml: &str, flags: &[&str], environment: &[(&str, &str)]) -> (Output, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("remora.yaml");
    std::fs::write(&file, yaml).expect("the directory can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_remora"))
        .env_clear()
        .envs(environment.iter().copied())
        .arg("check")
        .arg("--config")
        .arg(&file)
        .args(flags)
        .output()
        .expect("cargo built the binary");
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output, said.replace(&file.display().to_string(), "remora.yaml"))
}

#[test]
fn a_wrong_configuration_is_answered_with_file_line_column_key_and_what_is_allowed() {
    let cases = [
        (
            "registry: foo\n",
            "remora.yaml:1:11: registry: `foo` is not a registry; allowed: embedded, zookeeper://",
        ),
        (
            "workers: 1\nfacades:\n  zookeeper: { listn: 127.0.0.1:2181 }\n",
            "remora.yaml:3:23: facades.zookeeper.listn: unknown key `listn`; allowed: listen",
        ),
        (
            "facades:\n  zookeeper: { listen: localhost:2181 }\n",
            "remora.yaml:2:24: facades.zookeeper.listen: `localhost:2181` is not an address; allowed: IP:PORT",
        ),
        (
            "facades: { zookeeper: on }\n",
            "remora.yaml:1:23: facades.zookeeper: found boolean `true`; allowed: `off` or a map",
        ),
        (
            "facades: { eureka: off }\n",
            "facades.eureka: unknown key `eureka`; allowed: zookeeper, mesh",
        ),
        (
            "takeover:\n  percent: 101\n",
            "remora.yaml:2:12: takeover.percent: 101; allowed: 0 to 100",
        ),
        (
            "takeover:\n  allow: [ {} ]\n",
            "takeover.allow[0]: an entry without service, application, group or side names everything",
        ),
        (
            "takeover:\n  deny: [ { service: a.*.B } ]\n",
            "`*` may stand at the end of a name only",
        ),
        (
            "mode: watch\n",
            "remora.yaml:1:7: mode: unknown value `watch`; allowed: takeover, observe",
        ),
        (
            "facades:\n  mesh: { probe_every: 0s }\n",
            "remora.yaml:2:24: facades.mesh.probe_every: 0ms; allowed: 1ms and more",
        ),
        (
            "facades:\n  sofaregistry: { max_connections: 10000000 }\n",
            "facades.sofaregistry.max_connections: 10000000; allowed: 1 to 1000000",
        ),
        (
            "protocols:\n  dubbo:\n    ingress_range: 20999-20900\n",
            "remora.yaml:3:20: protocols.dubbo.ingress_range: `20999-20900` is not a port range; allowed: FIRST-LAST",
        ),
        (
            "protocols: { thrift: off, grpc: { egress: 127.0.0.1:1 } }\n",
            "remora.yaml:1:12: protocols: grpc: key `ingress` is missing and has no default",
        ),
        (
            "protcols: {}\n",
            "remora.yaml:1:11: protcols: unknown key `protcols`; allowed: registry, advertise",
        ),
        (
            "\nworkers: 0\n",
            "remora.yaml:2:10: workers: 0 threads; allowed: 1 to 256",
        ),
        ("workers: two\n", "remora.yaml:1:10: workers: not a whole number"),
        (
            "advertise: web-1\n",
            "remora.yaml:1:12: advertise: not an IP address; allowed: one such as 10.0.0.5",
        ),
        (
            "advertise: 0.0.0.0\n",
            "remora.yaml:1:12: advertise: 0.0.0.0 is no host's address",
        ),
        (
            "log: loud\n",
            "remora.yaml:1:6: log: `loud` is not a log level; allowed: off, error",
        ),
        (
            "log: { format: xml }\n",
            "remora.yaml:1:16: log.format: unknown value `xml`; allowed: text, json",
        ),
        (
            "publish: [ { protocol: dubbo } ]\n",
            "publish[0]: key `service` is missing",
        ),
        (
            "workers: 1\nworkers: 2\n",
            "remora.yaml:2:1: key `workers` stands twice; allowed: once",
        ),
        (
            "admin: { listen: 127.0.0.1:2181 }\n",
            "remora.yaml:1:18: admin.listen: 127.0.0.1:2181 is taken by facades.zookeeper.listen; allowed: a port of its own",
        ),
        (
            "registries:\n  - { name: a, registry: embedded }\n  - { name: a, registry: nacos://h:8848 }\n",
            "remora.yaml:3:13: registries[1].name: `a` is used twice; allowed: a name of its own",
        ),
        (
            "registry: nacos://h:8848\n",
            "registry: nacos:// is not served by this version; allowed: embedded, zookeeper",
        ),
        (
            "facades: { mesh: { listen: 127.0.0.1:15020 } }\n",
            "remora.yaml:1:28: facades.mesh.listen: 127.0.0.1:15020 is taken by admin.listen; allowed: a port of its own",
        ),
        (
            "facades: { mesh: {} }\nprotocols: { bolt: off }\n",
            "remora.yaml:1:18: facades.mesh: needs protocols.bolt, which is off",
        ),
        (
            "registries: [ { name: a, registry: embedded, facades: { dubbod: {} } } ]\nprotocols: { dubbo: off }\n",
            "registries[0].facades.dubbod: needs protocols.dubbo, which is off",
        ),
        (
            "facades: { mesh: { applications: [ { address: 10.0.0.5 } ] } }\n",
            "facades.mesh.applications[0].address: 10.0.0.5 is no address of this host alone; allowed: one of 127.0.0.0/8",
        ),
        (
            "facades: { dubbod: { app_port: {} } }\n",
            "facades.dubbod.app_port: unknown key `app_port`; allowed: listen, app_ports",
        ),
        (
            "registry: embedded\nregistries: [ { name: a, registry: embedded } ]\n",
            "registry: stands beside `registries`",
        ),
        (
            "- a\n- b\n",
            "remora.yaml:1:1: no map of keys; allowed: lines such as `registry: embedded`",
        ),
        (
            "takeover: { allow: x }\n",
            "takeover.allow: no list; allowed: one such as [ a, b ], or lines that begin with `-`",
        ),
        ("mode: [observe]\n", "remora.yaml:1:7: mode: not a word; allowed: one"),
        ("mode: { observe: 1 }\n", "mode.observe: not a word; allowed: one"),
        ("advertise: [a]\n", "advertise: not a text; allowed: one"),
        (
            "workers: 1\n---\nworkers: 2\n",
            "more than one YAML document; allowed: one",
        ),
        (
            "data_dir: ''\n",
            "remora.yaml:1:11: data_dir: is empty; allowed: a directory",
        ),
        (
            "data_dir: /dev/null/state\n",
            "remora.yaml:1:11: data_dir: /dev/null is a file; allowed: a directory",
        ),
        (
            "registry: zookeeper://h:2181/shop/../x\n",
            "remora.yaml:1:11: registry: zookeeper://h:2181/shop/../x is no ZooKeeper address: chroot",
        ),
    ];
    for (yaml, expected) in cases {
        let (output, said) = check(yaml);
        assert_eq!(output.status.code(), Some(1), "{yaml}\n{said}");
        assert!(said.contains(expected), "{yaml}\nexpected: {expected}\nsaid: {said}");
    }
}

#[test]
fn broken_yaml_and_an_absent_file_are_told_by_name() {
    let (output, said) = check("facades: { zookeeper: off\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("remora.yaml:"), "{said}");
    let output = Command::new(env!("CARGO_BIN_EXE_remora"))
        .args(["check", "--config", "/nonexistent/remora.yaml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/nonexistent/remora.yaml: No such file"), "{said}");
    let output = Command::new(env!("CARGO_BIN_EXE_remora"))
        .arg("check")
        .env("REMORA_CONFIG", "/nonexistent/remora.yaml")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("/nonexistent/remora.yaml ($REMORA_CONFIG): No such file"),
        "{said}"
    );
}

#[test]
fn a_file_without_an_end_is_not_read_to_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_remora"))
        .args(["check", "--config", "/dev/zero"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("/dev/zero: more than 16 MiB are no configuration"),
        "{said}"
    );
}

#[test]
fn a_flag_before_a_command_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_remora"))
        .args(["--admin", "127.0.0.1:1", "stop"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "not another Remora's end");
}

#[test]
fn a_flag_is_named_once() {
    for registry in ["nacos://h", "nacos://h:8848/namespace"] {
        let (output, said) = check_with("", &["--registry", registry], &[]);
        assert_eq!(output.status.code(), Some(1));
        let expected = "remora: --registry: nacos:// is not served by this version; allowed: embedded, zookeeper";
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn the_contract_loads_and_what_is_served_is_told() {
    let (output, said) = check(
        "registry: zookeeper://shop:s3cret@h1:2181,h2:2181/chroot
advertise: 10.0.0.5
data_dir: /var/lib/remora
facades:
  zookeeper: { listen: 127.0.0.1:2181 }
  mesh:      { listen: 127.0.0.1:13330 }
  dubbod:    { listen: 127.0.0.1:22222 }
  sofaregistry: { listen: 127.0.0.1:9603, session: 127.0.0.1:9600 }
protocols:
  dubbo: { egress: 127.0.0.1:20882, ingress: 0.0.0.0:20881, ingress_range: 20900-20999 }
  bolt:  { egress: 127.0.0.1:12220, ingress: 0.0.0.0:12201, ingress_range: 12300-12399 }
publish:
  - { protocol: dubbo, service: com.example.EchoService, version: 1.0.0, group: blue, address: 127.0.0.1:20880 }
  - { protocol: dubbo, service: com.example.StockService, address: 10.0.0.5:20890 }
admin: { listen: 127.0.0.1:15020 }
workers: 1
",
    );
    assert_eq!(output.status.code(), Some(0), "{said}");
    for expected in [
        "# serves: mesh on 127.0.0.1:13330, in front of zookeeper://shop:***@h1:2181,h2:2181/chroot: SOFARPC registry mesh://",
        "# serves: dubbod on 127.0.0.1:22222",
        "# serves: sofaregistry on 127.0.0.1:9603 and 127.0.0.1:9600",
        "# serves: bolt: calls out by 127.0.0.1:12220, calls in by 0.0.0.0:12201, then 12300-12399",
        "zookeeper://shop:***@h1:2181,h2:2181/chroot",
        "com.example.EchoService",
        "publish[1].address: calls go to 127.0.0.1:20890 here",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert!(!said.contains("publish[0].address"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn every_example_passes_and_says_what_it_serves() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let files = std::fs::read_dir(folder)
        .expect("conf/ is there")
        .map(|entry| entry.expect("it can be read").path());
    let mut count = 0;
    for file in files.filter(|file| file.extension().is_some_and(|e| e == "yaml")) {
        let output = Command::new(env!("CARGO_BIN_EXE_remora"))
            .env_clear()
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .expect("cargo built the binary");
        let said = String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned();
        assert!(output.status.success() && said.contains("# serves: "), "{said}");
        count += 1;
    }
    assert!(count >= 8, "{count} files");
}

#[test]
fn a_door_that_nobody_named_gives_way() {
    let (output, said) = check("admin: { listen: 127.0.0.1:9603 }\nprotocols: { bolt: off }\n");
    assert_eq!(output.status.code(), Some(0), "{said}");
    for expected in [
        "# note: facades.sofaregistry: not opened: 127.0.0.1:9603 is taken by admin.listen",
        "sofaregistry: \"off\"",
        "mesh: \"off\"",
        "dubbod: \"off\"",
        "# serves: zookeeper on",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert!(!said.contains("# serves: mesh"), "of no use without bolt\n{said}");
}

#[test]
fn doors_of_one_of_several_registries_are_off_unless_named() {
    let (output, said) = check("registries: [ { name: a, registry: embedded, facades: { dubbod: {} } } ]\n");
    assert_eq!(output.status.code(), Some(0), "{said}");
    let doors: Vec<&str> = said.lines().filter(|line| line.contains(", in front of")).collect();
    assert_eq!(doors.len(), 1, "{doors:?}");
    assert!(
        doors[0].contains("dubbod on 127.0.0.1:22222, in front of embedded"),
        "{doors:?}"
    );
}

#[test]
fn what_check_prints_is_a_configuration_again() {
    let (_, first) = check("workers: 3\nfacades: { zookeeper: off }\nlog: warn,remora::call=debug\n");
    let (output, second) = check(&first);
    assert_eq!(output.status.code(), Some(0), "{second}");
    assert_eq!(first, second);
    assert!(
        first.contains("workers: 3") && first.contains("zookeeper: \"off\""),
        "{first}"
    );
}

#[test]
fn the_command_line_wins_over_the_environment_over_the_file() {
    let environment = [
        ("REMORA_WORKERS", "3"),
        ("REMORA_REGISTRY", "zookeeper://env:2181"),
        ("REMORA_ADMIN", "127.0.0.1:15021"),
        ("REMORA_LOG", "debug"),
    ];
    let flags = ["--registry", "zookeeper://flag:2181"];
    let (output, said) = check_with("workers: 2\nregistry: zookeeper://file:2181\n", &flags, &environment);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for expected in ["zookeeper://flag:2181", "workers: 3", "127.0.0.1:15021", "level: debug"] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn a_wrong_environment_variable_is_named() {
    let (output, said) = check_with(
        "workers: 2\n",
        &[],
        &[("REMORA_FACADES", "{ zookeeper: { listen: 7 } }")],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("REMORA_FACADES: facades.zookeeper.listen: `7` is not an address"),
        "{said}"
    );
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_remora"))
        .arg("upgarde")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_remora"))
        .env_clear()
        .arg("check")
        .stdout(writer)
        .output()
        .expect("cargo built the binary");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_password_in_the_file_is_not_printed() {
    let (output, said) = check("registry: zookeeper://shop:secret@zk:2181\n");
    assert!(output.status.success(), "{said}");
    assert!(said.contains("registry: zookeeper://shop:***@zk:2181"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn a_wrong_registry_flag_is_answered_without_its_password() {
    for wrong in ["zookeeper://u:s3cret@h1", "zookeeper://u:/s3cret@h1:2181"] {
        let (output, said) = check_with("{}\n", &["--registry", wrong], &[]);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--registry: `zookeeper://u:***@h1"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn a_pipe_is_not_waited_for_and_standard_input_is_read() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pipe = dir.path().join("pipe.yaml");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    let remora = |file: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_remora"));
        command.env_clear().arg("check").arg("--config").arg(file);
        command
    };
    let refused = remora(&pipe).output().expect("it ends");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("pipe.yaml: is a pipe; allowed: a file, or /dev/stdin"),
        "{said}"
    );
    let file = dir.path().join("remora.yaml");
    std::fs::write(&file, "workers: 2\n").expect("the directory can be written");
    let input = std::fs::File::open(&file).expect("it is there");
    let read = remora("/dev/stdin".as_ref())
        .stdin(input)
        .output()
        .expect("cargo built the binary");
    assert!(String::from_utf8_lossy(&read.stdout).contains("workers: 2"), "{read:?}");
}
