//! A state file that is none, for the real program: it is set aside as it was, or the start is refused with the reason, and
//! nothing of it is overwritten.

use super::*;

/// What stands in config.ini; a password that is made shows whether the file was read.
const USERS: &str = "[user 100]\n";

fn state(site: &Site) -> PathBuf {
    site.folder.path().join("sipkeep.db")
}

/// What a server leaves that ran and stopped.
fn sound() -> Vec<u8> {
    let site = Site::new(USERS);
    assert!(site.start().stop().0.success());
    std::fs::read(state(&site)).unwrap()
}

/// Files in the folder that were set aside, without those that reading them makes.
fn aside(site: &Site) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(site.folder.path()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| {
            let name = path.to_string_lossy();
            name.contains(".broken-") && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .collect()
}

#[test]
fn what_is_no_database_is_set_aside_as_it_was() {
    let sound = sound();
    let noise: Vec<u8> = (0..9_000_u32)
        .map(|at| (at.wrapping_mul(0x9e37_79b1) >> 13) as u8)
        .collect();
    let mut headed = noise.clone();
    headed[..100].copy_from_slice(&sound[..100]);
    let cases = [
        noise,
        headed,
        sound[..1].to_vec(),
        sound[..5_000].to_vec(),
        sound[..sound.len() / 2].to_vec(),
    ];
    for case in cases {
        let site = Site::new(USERS);
        std::fs::write(state(&site), &case).unwrap();
        let server = site.start();
        let log = server.errors();
        assert!(
            log.contains("event=store_set_aside"),
            "{} bytes: {log}",
            case.len()
        );
        assert!(!log.contains("panicked"), "{log}");
        // It runs as at a first start: the password is a new one, and shown.
        assert!(
            server.out().contains("Passwords were made"),
            "{}",
            server.out()
        );
        assert!(server.stop().0.success());
        let aside = aside(&site);
        assert_eq!(aside.len(), 1);
        assert!(
            std::fs::read(&aside[0]).unwrap() == case,
            "{} bytes",
            case.len()
        );
        // The next start knows the new file.
        let server = site.start();
        assert!(!server.out().contains("Passwords were made"));
        assert_eq!(
            server.errors().matches("event=store_").count(),
            0,
            "{}",
            server.errors()
        );
    }
}

#[test]
fn an_empty_file_is_begun_and_said() {
    let site = Site::new(USERS);
    std::fs::write(state(&site), b"").unwrap();
    let server = site.start();
    server.wait_for_log("level=warn event=store_empty");
    assert!(server.stop().0.success());
    assert!(aside(&site).is_empty());
}

#[test]
fn what_is_somebody_elses_is_refused_and_left_as_it_is() {
    let database = |sql: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        std::fs::read(path).unwrap()
    };
    let newer = "PRAGMA application_id = 1936289899; PRAGMA user_version = 99; CREATE TABLE x (y)";
    for (sql, reason) in [
        (
            "CREATE TABLE x (y)",
            "it is the database of another program",
        ),
        (newer, "it was written by a newer sipkeep (format 99"),
    ] {
        let site = Site::new(USERS);
        let bytes = database(sql);
        std::fs::write(state(&site), &bytes).unwrap();
        let (code, out, errors) = site.run();
        assert_eq!((code, out.as_str()), (Some(1), ""), "{errors}");
        assert!(
            errors.contains("sipkeep.db: ") && errors.contains(reason),
            "{errors}"
        );
        assert!(std::fs::read(state(&site)).unwrap() == bytes);
        assert!(aside(&site).is_empty());
    }
}

#[test]
fn what_is_no_file_is_refused_and_left_as_it_is() {
    let site = Site::new(USERS);
    let refused = |reason: &str| {
        let (code, out, errors) = site.run();
        assert_eq!((code, out.as_str()), (Some(1), ""), "{errors}");
        assert!(errors.contains(reason), "{errors}");
    };
    std::fs::create_dir(state(&site)).unwrap();
    refused("sipkeep.db: it is a folder");
    std::fs::remove_dir(state(&site)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", state(&site)).unwrap();
    refused("sipkeep.db: it is no ordinary file");
    std::fs::remove_file(state(&site)).unwrap();
    std::os::unix::fs::symlink("/nowhere/sipkeep.db", state(&site)).unwrap();
    refused("sipkeep.db");
}

/// As an ordinary user: `nobody`, if these tests run as root.
#[test]
fn a_file_that_must_not_be_read_is_refused_and_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new(USERS);
    let sound = sound();
    std::fs::write(state(&site), &sound).unwrap();
    std::fs::set_permissions(state(&site), std::fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = succeeds(Command::new("sh").args(["-c", "test $(id -u) = 0"]));
    let mut by = Command::new("env");
    if is_root {
        by = Command::new("setpriv");
        by.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
        ]);
        let mut can = Command::new("setpriv");
        can.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "test",
            "-x",
        ]);
        std::fs::set_permissions(site.folder.path(), std::fs::Permissions::from_mode(0o777))
            .unwrap();
        if !succeeds(can.arg(env!("CARGO_BIN_EXE_sipkeep"))) {
            println!("skipped: nobody cannot run the server, or there is no setpriv");
            return;
        }
    }
    let output = site.command_by(by).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("sipkeep.db") && !errors.contains("panicked"),
        "{errors}"
    );
    std::fs::set_permissions(state(&site), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(std::fs::read(state(&site)).unwrap() == sound);
    assert!(aside(&site).is_empty());
}
