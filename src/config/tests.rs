//! Tests of the reader as its users see it: texts in, typed values or lines of mistakes out.

use super::*;

fn read(text: &str) -> Result<Config, Vec<String>> {
    let config = Config::read(text, Path::new("/etc/sipkeep"));
    config.map_err(|all| {
        all.iter()
            .map(|one| one.in_file(Path::new("config.ini")))
            .collect()
    })
}

#[test]
fn empty_file_runs_with_the_documented_defaults() {
    let config = read("").unwrap();
    let listen: Vec<String> = config
        .server
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(listen, ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"]);
    assert_eq!(config.server.realm(), "sipkeep");
    assert_eq!(config.server.state, Path::new("/etc/sipkeep/sipkeep.db"));
    assert_eq!(config.server.cdr_keep, Duration::from_secs(400 * 86_400));
    assert_eq!(config.server.log, log::LevelFilter::Info);
    assert_eq!(config.server.local_networks.len(), 8);
    assert_eq!(
        config.http,
        Http {
            listen: "127.0.0.1:8080".parse().ok(),
            token: None
        }
    );
    let registrar = Registrar {
        digest: DigestOffer::Md5,
        expires_min: Duration::from_secs(60),
        expires_default: Duration::from_secs(600),
        expires_max: Duration::from_secs(3_600),
        bindings_per_user_max: 10,
    };
    assert_eq!(config.registrar, registrar);
    let guard = Guard {
        mode: GuardMode::Enforce,
        failures_max: 5,
        failures_window: Duration::from_secs(60),
        ban: Duration::from_secs(4 * 3_600),
        ban_max: Duration::from_secs(7 * 86_400),
        unproven_rate: Some(1),
        unproven_burst: 10,
        unproven_total: Some(1_000),
        known_rate: Some(2_000),
        allow: vec![],
        deny: vec![],
    };
    assert_eq!(config.guard, guard);
    assert_eq!(
        config.call,
        Call {
            ring_timeout: Duration::from_secs(60),
            calls_max: 1_000
        }
    );
    assert_eq!((config.users.len(), config.trunks.len()), (0, 0));
    assert_eq!(config.warnings(), []);
}
