//! The start, the deadline of the core, the stop and the reload.

use super::*;

#[test]
fn port_that_is_taken_is_said_in_words() {
    let bench = Bench::new();
    let poll = Poll::new().unwrap();
    for (transport, address) in [("udp", bench.udp), ("tcp", bench.tcp)] {
        let text = format!("[server]\nlisten = {transport}:{address}\n[http]\nlisten =\n");
        let config = Config::read(&text, bench.folder.path()).unwrap();
        let error = event_loop::bind(poll.registry(), &config).err().unwrap();
        assert!(
            error.contains(&format!(
                "port {} is in use by this process",
                address.port()
            )),
            "{error}"
        );
    }
    let config = Config::read(
        "[server]\nlisten = udp:203.0.113.9:5999\n",
        bench.folder.path(),
    )
    .unwrap();
    let error = event_loop::bind(poll.registry(), &config).err().unwrap();
    assert!(
        error.contains("this machine has no address 203.0.113.9"),
        "{error}"
    );
}

#[test]
fn deadline_of_the_core_is_kept() {
    let mut bench = Bench::new();
    bench.run();
    let now = bench.shell.now();
    bench.shell.core.deadline = Some(now.mono.plus(Duration::from_millis(50)));
    let begin = std::time::Instant::now();
    while bench.shell.core.ticks == 0 {
        bench.shell.turn(&mut bench.events, None).unwrap();
    }
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(49), "{waited:?}");
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

/// What the core says to keep is in the state file after the end of `run`, which waits for calls to end.
#[test]
fn stop_waits_for_calls_and_closes_the_store() {
    let mut bench = Bench::new();
    let begin = std::time::Instant::now();
    let now = bench.shell.now();
    let key = Change::NonceKey([7; 32], UnixTime::from_millis(1_000));
    bench.shell.core.out.push(Owned::Keep(key));
    bench.shell.core.busy = true;
    bench.shell.stop(now);
    assert!(bench.shell.core.stopped);
    let Bench { shell, folder, .. } = bench;
    shell.run().unwrap();
    let took = begin.elapsed();
    assert!(
        took >= limits::STOP_CALLS && took < Duration::from_secs(5),
        "{took:?}"
    );
    let path = folder.path().join("state.db");
    let (_, snapshot, _) = Store::open(&path, unix(), Duration::from_secs(1), || {}).unwrap();
    assert_eq!(snapshot.nonce_key.unwrap().0, [7; 32]);
}

#[test]
fn reload_keeps_the_old_configuration_on_a_mistake_and_refuses_a_new_address() {
    let text = "[user 100]\npassword = kx7-mmq2-9\n[http]\nlisten =\n";
    let mut bench = Bench::with(text);
    let path = bench.folder.path().join("config.ini");
    let reload = |bench: &mut Bench, text: &str| {
        std::fs::write(&path, text).unwrap();
        let now = bench.shell.now();
        bench.shell.reload(now);
        bench.shell.core.reloads
    };
    assert_eq!(bench.shell.core.interfaces.len(), 1);
    assert_eq!(reload(&mut bench, "[user 100]\npasword = x\n"), 0);
    assert_eq!(
        reload(
            &mut bench,
            &format!("[server]\nlisten = udp:127.0.0.1:5099\n{text}")
        ),
        0
    );
    let listen = bench.shell.running.config.server.listen.clone();
    assert_eq!(
        reload(
            &mut bench,
            &format!("{text}[user 101]\n[trunk a]\naddresses = 127.0.0.3\n")
        ),
        1
    );
    let config = &bench.shell.running.config;
    assert_eq!(config.server.listen, listen);
    let crate::config::Secret::Password(made) = config.users[1].secret.clone().unwrap() else {
        panic!("no password was made")
    };
    assert_eq!(made.len(), 14);
    let local = std::net::IpAddr::from([127, 0, 0, 1]);
    assert_eq!(bench.shell.core.routes, [([127, 0, 0, 3].into(), local)]);
    let interfaces = &bench.shell.core.interfaces;
    assert_eq!(interfaces.len(), 2);
    assert!(interfaces.iter().all(|own| own.contains(&local)));
    // The same password again: it was kept.
    assert_eq!(reload(&mut bench, &format!("{text}[user 101]\n")), 2);
    let again = bench.shell.running.config.users[1].secret.clone();
    assert_eq!(again, Some(crate::config::Secret::Password(made.clone())));
    let state = bench.folder.path().join("state.db");
    let kept = crate::net::store::read_secrets(&state).unwrap();
    assert_eq!(kept.get("password:101"), Some(made.as_str()));
}
