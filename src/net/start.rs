//! From a configuration file to a running server and to its exit code: reads, locks, binds, makes what is missing, says
//! what runs. Reads the file again for SIGHUP.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mio::{Poll, Waker};

use super::clock::{Clock, unix};
use super::event_loop::{self, Bound, Shell, WAKER};
use super::names::Paths;
use super::store::{Secrets, Store};
use super::{log, sys};
use crate::config::{Config, Listen, Secret};
use crate::endpoint::Endpoint;
use crate::source::Transport;

/// Characters of generated passwords: lower case, so that a telephone's keypad can type them, without 0/o, 1/l/i.
const ALPHABET: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
/// 14 of 31 characters are 69 bits: who records a registration does not find the password by trying.
const PASSWORD_CHARACTERS: usize = 14;
/// Characters of a generated token, 158 bits. Nobody types it.
const TOKEN_CHARACTERS: usize = 32;
/// Name of the token among the state file's secrets.
pub const HTTP_TOKEN: &str = "http_token";

/// The configuration that runs, and what is needed to read it again.
pub(super) struct Running {
    path: PathBuf,
    /// With every secret filled in and the ports that listeners got.
    pub(super) config: Config,
    /// `listen` as the file has it, of SIP and of HTTP, and the state file: what cannot change without a restart.
    fixed: Fixed,
    secrets: Secrets,
    /// What says whom to ask about names.
    pub(super) name_files: Paths,
}

#[derive(Clone, PartialEq)]
struct Fixed {
    listen: Vec<Listen>,
    http: Option<std::net::SocketAddr>,
    state: PathBuf,
}

impl Fixed {
    fn of(config: &Config) -> Self {
        Self {
            listen: config.server.listen.clone(),
            http: config.http.listen,
            state: config.server.state.clone(),
        }
    }
}

/// Runs the server of a configuration file until SIGTERM or SIGINT.
///
/// # Errors
/// Why it does not start or did not end in order, a line for each mistake, for the terminal. The exit code is 1 then.
pub fn run(config_path: &Path) -> Result<(), String> {
    sys::return_large_blocks();
    let config = read(config_path).map_err(|mistakes| mistakes.join("\n"))?;
    log::start(config.server.log)?;
    let result = serve(config_path, config);
    log::finish(Duration::from_millis(500));
    result
}

fn serve(path: &Path, mut config: Config) -> Result<(), String> {
    let system = |error: std::io::Error| error.to_string();
    if let Err(error) = sys::raise_file_limit() {
        ::log::warn!("the limit of open files stays as it is: {error}");
    }
    let poll = Poll::new().map_err(system)?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(system)?);
    let wake = move || {
        if let Err(error) = waker.wake() {
            ::log::warn!("the loop cannot be woken for an answer of the store: {error}");
        }
    };
    // Before anything is made and kept: a start that fails leaves no file, and no password that nobody was shown.
    let bound = event_loop::bind(poll.registry(), &config)?;
    let (store, snapshot, mut secrets) =
        Store::open(&config.server.state, unix(), config.server.cdr_keep, wake)?;
    let made = complete(&mut config, &mut secrets, &store)?;

    let fixed = Fixed::of(&config);
    config.server.listen.clone_from(&bound.listen);
    let clock = Clock::new();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("no random numbers: {error}"))?;
    let endpoint = Endpoint::new(clock.now(), config.clone(), seed, snapshot);
    let text = banner(&config, &bound, &made);
    let running = Running {
        path: path.to_owned(),
        config,
        fixed,
        secrets,
        name_files: Paths::from_environment(),
    };
    let mut shell = Shell::new(endpoint, poll, bound, store, clock, running)?;
    shell.install_signals()?;
    shell.read_all_routes();
    // A terminal that has gone away is no reason not to serve.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    shell.run()
}

/// Reads a configuration file; every mistake as a line for people.
fn read(path: &Path) -> Result<Config, Vec<String>> {
    let bytes = std::fs::read(path)
        .map_err(|error| vec![format!("{}: cannot be read: {error}", path.display())])?;
    Config::read_bytes(&bytes, path).map_err(|mistakes| {
        mistakes
            .iter()
            .map(|mistake| mistake.in_file(path))
            .collect()
    })
}

impl Running {
    /// As [`serve`] makes it, its token included.
    #[cfg(test)]
    pub(super) fn for_test(
        path: PathBuf,
        mut config: Config,
        mut secrets: Secrets,
        store: &Store,
        bound: &Bound,
    ) -> Self {
        complete(&mut config, &mut secrets, store).unwrap();
        let fixed = Fixed::of(&config);
        let folder = path.parent().unwrap();
        let name_files = Paths {
            resolv_conf: folder.join("resolv.conf"),
            hosts: folder.join("hosts"),
        };
        config.server.listen.clone_from(&bound.listen);
        Self {
            path,
            config,
            fixed,
            secrets,
            name_files,
        }
    }

    /// Reads the file again. The configuration to go on with, and which users were given a password.
    ///
    /// # Errors
    /// Every mistake, or what needs a restart; nothing has changed then.
    pub(super) fn reread(&mut self, store: &Store) -> Result<(Config, Vec<String>), Vec<String>> {
        let mut config = read(&self.path)?;
        let new = Fixed::of(&config);
        let restart = [
            ("[server] listen", new.listen != self.fixed.listen),
            ("[http] listen", new.http != self.fixed.http),
            ("[server] state", new.state != self.fixed.state),
        ];
        let restart: Vec<String> = restart
            .into_iter()
            .filter(|&(_, is_changed)| is_changed)
            .map(|(key, _)| {
                format!(
                    "{}: {key} has changed: needs a restart",
                    self.path.display()
                )
            })
            .collect();
        if !restart.is_empty() {
            return Err(restart);
        }
        let made = complete(&mut config, &mut self.secrets, store).map_err(|error| vec![error])?;
        config.server.listen.clone_from(&self.config.server.listen);
        self.config = config.clone();
        let names = made.into_iter().map(|(name, _)| name).collect();
        Ok((config, names))
    }
}

/// Fills in what the file leaves to us: passwords and the token, from the state file or made now and kept there. The
/// passwords that were made: (user, password).
///
/// # Errors
/// No random numbers, or they could not be kept: they would be others at the next start.
fn complete(
    config: &mut Config,
    secrets: &mut Secrets,
    store: &Store,
) -> Result<Vec<(String, String)>, String> {
    let mut made = Vec::new();
    let mut keep = Vec::new();
    for user in &mut config.users {
        if user.secret.is_some() || user.is_by_address() {
            continue;
        }
        let name = format!("password:{}", user.name);
        let password = match secrets.get(&name) {
            Some(password) => password.to_owned(),
            None => {
                let password = random_text(PASSWORD_CHARACTERS)?;
                made.push((user.name.clone(), password.clone()));
                keep.push((name, password.clone()));
                password
            }
        };
        user.secret = Some(Secret::Password(password));
    }
    if config.http.listen.is_some() && config.http.token.is_none() {
        let token = match secrets.get(HTTP_TOKEN) {
            Some(token) => token.to_owned(),
            None => {
                let token = random_text(TOKEN_CHARACTERS)?;
                keep.push((HTTP_TOKEN.to_owned(), token.clone()));
                token
            }
        };
        config.http.token = Some(token);
    }
    if !keep.is_empty() {
        // Waiting for a disk that is known to fail would only keep calls waiting.
        let status = store.status();
        if let Some(error) = status.error.filter(|_| !status.ok) {
            return Err(format!("passwords cannot be kept: state file: {error}"));
        }
        let pairs: Vec<(&str, &str)> = keep
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        store
            .keep_secrets(&pairs)
            .map_err(|error| format!("passwords cannot be kept: state file: {error}"))?;
        for (name, value) in &keep {
            secrets.set(name, value);
        }
    }
    Ok(made)
}

/// Characters of [`ALPHABET`], each with the same probability.
fn random_text(length: usize) -> Result<String, String> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
        // 248 is the largest multiple of 31 in a byte: those above would favour the first characters.
        let fair = bytes.iter().filter(|&&byte| byte < 248);
        text.extend(
            fair.map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]))
                .take(length - text.len()),
        );
    }
    Ok(text)
}

/// What runs, for the terminal; at a first start with the passwords and what to type into a telephone.
fn banner(config: &Config, bound: &Bound, made: &[(String, String)]) -> String {
    let mut text = format!("sipkeep {}\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<10} {value}\n"));
    let listen: Vec<String> = bound.listen.iter().map(ToString::to_string).collect();
    line("listen", listen.join(", "));
    let hosts = phone_hosts(config, &interface_addresses());
    line("telephones", format!("register at {}", hosts.join(" or ")));
    if let Some(http) = &bound.http {
        line("API", format!("http://{}/api/v1/", http.local));
    }
    line("users", config.users.len().to_string());
    line("lines", config.lines.len().to_string());
    line("trunks", config.trunks.len().to_string());
    line("state", config.server.state.display().to_string());
    if !made.is_empty() {
        text.push_str("\nPasswords were made. Type into a telephone:\n");
        text.push_str(&format!("  server or domain  {}\n", hosts.join(" or ")));
        let width = made
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        for (name, password) in made {
            text.push_str(&format!("  user  {name:<width$}   password  {password}\n"));
        }
        text.push_str("They are kept; \"sipkeep status --passwords\" shows them again.\n");
    }
    if std::io::stdout().is_terminal() {
        text.push('\n');
    }
    text
}

/// Addresses of this machine; none, and a line in the log, if they cannot be listed.
pub(super) fn interface_addresses() -> Vec<IpAddr> {
    sys::interface_addresses().unwrap_or_else(|error| {
        ::log::warn!("addresses of this machine cannot be listed: {error}");
        Vec::new()
    })
}

/// Where telephones find us: `host` or `host:port`, each once. Addresses of this machine stand for a wildcard, those that
/// only the machine itself reaches only if there is no other.
fn phone_hosts(config: &Config, interfaces: &[IpAddr]) -> Vec<String> {
    let is_local = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    };
    let mut hosts: Vec<(IpAddr, u16)> = Vec::new();
    for &Listen { transport, address } in &config.server.listen {
        let is_first_of_port = transport == Transport::Udp
            || !config.server.listen.contains(&Listen {
                transport: Transport::Udp,
                address,
            });
        if !is_first_of_port {
            continue;
        }
        if address.ip().is_unspecified() {
            let family = interfaces
                .iter()
                .filter(|own| own.is_ipv4() == address.is_ipv4());
            hosts.extend(family.map(|own| (*own, address.port())));
        } else {
            hosts.push((address.ip(), address.port()));
        }
    }
    if hosts.iter().any(|(address, _)| !is_local(address)) {
        hosts.retain(|(address, _)| !is_local(address));
    }
    let mut seen = BTreeSet::new();
    hosts.retain(|host| seen.insert(*host));
    let show = |(address, port): (IpAddr, u16)| match (address, port) {
        (address, 5060) => address.to_string(),
        (address, port) => std::net::SocketAddr::new(address, port).to_string(),
    };
    hosts.into_iter().map(show).collect()
}
