//! The command line of `sipkeep-load`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::cgroup::Limits;
use crate::socket;

/// What `mix` plays unless another mix is said.
const MIX: &str = "register=70,options=20,calls=10";

/// What to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scenario {
    Options,
    Register401,
    Register,
    RegisterAll,
    RegisterNew,
    Calls,
    HeldCalls,
    Ping,
    Flood,
    Forged,
}

impl Scenario {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Options => "options",
            Self::Register401 => "register-401",
            Self::Register => "register",
            Self::RegisterAll => "register-all",
            Self::RegisterNew => "register-new",
            Self::Calls => "calls",
            Self::HeldCalls => "held-calls",
            Self::Ping => "ping",
            Self::Flood => "flood",
            Self::Forged => "forged",
        }
    }

    const ALL: [Self; 10] = [
        Self::Options,
        Self::Register401,
        Self::Register,
        Self::RegisterAll,
        Self::RegisterNew,
        Self::Calls,
        Self::HeldCalls,
        Self::Ping,
        Self::Flood,
        Self::Forged,
    ];
}

/// A bare loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Loop {
    Echo,
    Drop,
    DropLate,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `--help`
    Help,
    /// Generate load.
    Load(Scenario),
    /// Several scenarios at once.
    Mix {
        /// Each with its part.
        weights: Vec<(Scenario, u32)>,
        /// Datagrams a second of a flood beside it.
        scanners: Option<f64>,
    },
    /// Measure what a server does that has nothing to do.
    Idle {
        /// The server to start.
        server: PathBuf,
    },
    /// Measure what floods leave of the service of those who are known.
    Lanes {
        /// The server to start.
        server: PathBuf,
        /// Of the floods, a second.
        rates: Vec<f64>,
        /// Unix user of the server.
        user_id: Option<u32>,
    },
    /// Measure the relay of media.
    Media {
        /// The server to start.
        server: PathBuf,
        /// Calls at a time.
        calls: usize,
        /// Parts of the measured time.
        rounds: usize,
        /// Datagrams a second of the flood.
        flood: f64,
        /// Processors of the load and of the server.
        cores: Option<(usize, usize)>,
    },
    /// Compare servers.
    Compare(Compare),
    /// Be a server that does nothing.
    Loop {
        /// Which.
        kind: Loop,
        /// Where.
        listen: SocketAddr,
    },
    /// Be a relay that does nothing else.
    Forward {
        /// The first port.
        listen: SocketAddr,
        /// Pairs of ports.
        calls: usize,
        /// It does not wake for each packet.
        rests: bool,
    },
}

impl Command {
    /// Whether there is something to be taken away when it is interrupted.
    pub const fn starts_servers(&self) -> bool {
        matches!(
            self,
            Self::Idle { .. } | Self::Lanes { .. } | Self::Media { .. } | Self::Compare(_)
        )
    }
}

/// What to compare with what.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare {
    /// The server.
    pub server: PathBuf,
    /// Kamailio; `None`: without it.
    pub kamailio: Option<PathBuf>,
    /// Turns.
    pub rounds: usize,
    /// Rows that have this in their name.
    pub rows: String,
    /// Processors of the load and of the servers.
    pub cores: Option<(usize, usize)>,
    /// What tables hold in the rows that should not depend on it, the smallest first.
    pub sizes: Vec<u32>,
    /// What the servers have of the machine; `None`: a core.
    pub small: Option<Limits>,
    /// Folder of the results.
    pub output: PathBuf,
}

impl Default for Compare {
    fn default() -> Self {
        Self {
            server: PathBuf::new(),
            kamailio: Some("kamailio".into()),
            rounds: 5,
            rows: String::new(),
            cores: Some((0, 1)),
            sizes: Vec::new(),
            small: None,
            output: "target/compare".into(),
        }
    }
}

/// How requests are paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many in progress at a time.
    Window(usize),
    /// So many begun a second, whatever becomes of them.
    Rate(f64),
}

/// The command line.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Arguments {
    pub command: Command,
    pub target: SocketAddr,
    /// `None`: the scenario's own.
    pub pace: Option<Pace>,
    pub measured: Duration,
    pub warmup: Duration,
    /// First and last, both included.
    pub users: (u32, u32),
    pub password: String,
    pub domain: Option<String>,
    pub bind: IpAddr,
    /// Port of the only socket; 0: any.
    pub port: u16,
    /// Addresses that a flood comes from.
    pub sources: u32,
    /// Sockets that registered users are spread over.
    pub flows: usize,
    /// Where calls come from without registration.
    pub trunk: Option<IpAddr>,
    /// Calls that stay.
    pub calls: usize,
    /// Jobs in all; `None`: as many as there is time for.
    pub count: Option<u64>,
    /// Program and file of a server of ours that tells what its tables hold.
    pub told_by: Option<(PathBuf, PathBuf)>,
    pub pid: Option<u32>,
    pub json: bool,
}

impl Arguments {
    /// Whether the target is one of 127.0.0.0/8, all of which may send to each other.
    pub fn is_to_loopback(&self) -> bool {
        matches!(self.target.ip(), IpAddr::V4(address) if address.is_loopback())
    }

    /// The host of addresses-of-record.
    pub fn domain(&self) -> String {
        let bare = || match self.target.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        self.domain.clone().unwrap_or_else(bare)
    }
}

/// Reads the command line.
///
/// # Errors
/// What is wrong, for people.
pub fn parse(mut parser: lexopt::Parser) -> Result<Arguments, lexopt::Error> {
    let mut word = None;
    let (mut target, mut listen, mut server) = (None, None, None);
    let (mut rates, mut user_id) = (None, None);
    let (mut weights, mut scanners, mut config) = (None, None, None);
    let mut compare = Compare::default();
    let (mut calls, mut rounds, mut cores) = (500, 5, Some((0, 1)));
    let (mut measured, mut rests, mut own) = (None, false, None);
    let mut arguments = Arguments {
        command: Command::Help,
        target: SocketAddr::from(([127, 0, 0, 1], 5060)),
        pace: None,
        measured: Duration::from_secs(5),
        warmup: Duration::from_secs(1),
        users: (1000, 1255),
        password: "n7-wetter-koffer".to_owned(),
        domain: None,
        bind: IpAddr::from([127, 0, 0, 1]),
        port: 0,
        sources: 1,
        flows: 1,
        trunk: None,
        calls: 500,
        count: None,
        told_by: None,
        pid: None,
        json: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) if word.is_none() => word = Some(value.string()?),
            Short('h') | Long("help") => return Ok(arguments),
            Long("target") => target = Some(parser.value()?.parse()?),
            Long("listen") => listen = Some(parser.value()?.parse()?),
            Long("rate") => arguments.pace = Some(rate(parser.value()?.parse()?)?),
            Long("window") => {
                let window = at_least_one("--window", parser.value()?.parse()?)?;
                arguments.pace = Some(Pace::Window(window));
            }
            Long("seconds") => measured = Some(seconds(parser.value()?.parse()?)?),
            Long("calls") => calls = at_least_one("--calls", parser.value()?.parse()?)?,
            Long("count") => {
                arguments.count = Some(at_least_one("--count", parser.value()?.parse()?)?);
            }
            Long("mix") => weights = Some(mix(&parser.value()?.string()?)?),
            Long("scanners") => {
                let rate = flood_rates("--scanners", &parser.value()?.string()?)?;
                scanners = rate.first().copied();
            }
            Long("config") => config = Some(PathBuf::from(parser.value()?)),
            Long("rest") => rests = true,
            Long("rounds") => rounds = at_least_one("--rounds", parser.value()?.parse()?)?,
            Long("cores") => cores = two_cores(&parser.value()?.string()?)?,
            Long("warmup") => arguments.warmup = seconds(parser.value()?.parse()?)?,
            Long("users") => arguments.users = users(&parser.value()?.string()?)?,
            Long("password") => arguments.password = parser.value()?.string()?,
            Long("domain") => arguments.domain = Some(parser.value()?.string()?),
            Long("bind") => own = Some(bind(&parser.value()?.string()?)?),
            Long("sources") => {
                arguments.sources = at_least_one("--sources", parser.value()?.parse()?)?;
            }
            Long("flows") => arguments.flows = at_least_one("--flows", parser.value()?.parse()?)?,
            Long("trunk") => arguments.trunk = Some(parser.value()?.parse()?),
            Long("kamailio") => {
                let path = PathBuf::from(parser.value()?);
                compare.kamailio = Some(path).filter(|path| path.as_os_str() != "no");
            }
            Long("sizes") => compare.sizes = sizes(&parser.value()?.string()?)?,
            Long("small") => compare.small = Some(small(&parser.value()?.string()?)?),
            Long("rows") => compare.rows = parser.value()?.string()?,
            Long("output") => compare.output = PathBuf::from(parser.value()?),
            Long("server") => server = Some(PathBuf::from(parser.value()?)),
            Long("user-id") => user_id = Some(parser.value()?.parse()?),
            Long("rates") => rates = Some(flood_rates("--rates", &parser.value()?.string()?)?),
            Long("pid") => arguments.pid = Some(parser.value()?.parse()?),
            Long("json") => arguments.json = true,
            _ => return Err(argument.unexpected()),
        }
    }
    let word = word.ok_or("a scenario is missing")?;
    arguments.measured = measured.unwrap_or(arguments.measured);
    arguments.calls = calls;
    let kind = match word.as_str() {
        "echo" => Some(Loop::Echo),
        "drop" => Some(Loop::Drop),
        "drop-late" => Some(Loop::DropLate),
        _ => None,
    };
    if let Some(kind) = kind {
        let listen = listen.ok_or("--listen is missing")?;
        arguments.command = Command::Loop { kind, listen };
        return Ok(arguments);
    }
    if word == "forward" {
        let listen = listen.ok_or("--listen is missing")?;
        arguments.command = Command::Forward {
            listen,
            calls,
            rests,
        };
        return Ok(arguments);
    }
    if word == "media" {
        arguments.target = target.unwrap_or(SocketAddr::from(([127, 9, 0, 1], 15_060)));
        arguments.measured = measured.unwrap_or(Duration::from_secs(20));
        arguments.command = Command::Media {
            server: server.ok_or("--server is missing")?,
            calls,
            rounds,
            flood: rates
                .and_then(|rates| rates.first().copied())
                .unwrap_or(50e3),
            cores,
        };
        return Ok(arguments);
    }
    if word == "lanes" {
        let server = server.ok_or("--server is missing")?;
        arguments.target = target.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 15_060)));
        arguments.command = Command::Lanes {
            server,
            rates: rates.unwrap_or_else(|| vec![50e3, 100e3, 200e3]),
            user_id,
        };
        return Ok(arguments);
    }
    if word == "idle" {
        arguments.target = target.unwrap_or(SocketAddr::from(([127, 9, 0, 1], 15_060)));
        arguments.measured = measured.unwrap_or(Duration::from_secs(600));
        let server = server.ok_or("--server is missing")?;
        arguments.command = Command::Idle { server };
        return Ok(arguments);
    }
    if word == "compare" {
        arguments.target = target.unwrap_or(SocketAddr::from(([127, 0, 7, 1], 25_071)));
        compare.server = server.ok_or("--server is missing")?;
        (compare.rounds, compare.cores) = (rounds, cores);
        if compare.sizes.is_empty() {
            // What does not fit a small machine says nothing about it.
            let most = if compare.small.is_some() {
                10_000
            } else {
                100_000
            };
            compare.sizes = vec![10, 1_000, most];
        }
        arguments.command = Command::Compare(compare);
        return Ok(arguments);
    }
    arguments.command = match word.as_str() {
        "mix" => Command::Mix {
            weights: match weights {
                Some(weights) => weights,
                None => mix(MIX)?,
            },
            scanners,
        },
        word => Command::Load(scenario(word)?),
    };
    arguments.target = target.ok_or("--target is missing")?;
    (arguments.bind, arguments.port) = match own {
        Some(own) => own,
        None => (address_towards(arguments.target)?, 0),
    };
    // Nobody else may send from there.
    if arguments.sources > 1 && arguments.target.is_ipv4() && !arguments.is_to_loopback() {
        return Err("--sources: several reach only 127.0.0.0/8, and IPv6".into());
    }
    arguments.told_by = match (server, config) {
        (Some(server), Some(config)) => Some((server, config)),
        (None, None) => None,
        _ => return Err("--server and --config belong together here".into()),
    };
    Ok(arguments)
}

/// Growing numbers of what is held.
fn sizes(text: &str) -> Result<Vec<u32>, lexopt::Error> {
    let sizes: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    // As many bans as there may be, and as many sources as the flood has.
    let is_good = |sizes: &Vec<u32>| {
        let is_growing = sizes.windows(2).all(|pair| pair[0] < pair[1]);
        is_growing && sizes.iter().all(|size| (2..=100_000).contains(size))
    };
    (sizes.ok().filter(is_good))
        .ok_or_else(|| format!("--sizes: {text:?} is not A,B,C, growing, from 2 to 100000").into())
}

/// Part of a processor and MiB, `-` for all memory.
fn small(text: &str) -> Result<Limits, lexopt::Error> {
    let limits = text.split_once(',').and_then(|(cpu, memory)| {
        let cpu: f64 = cpu.parse().ok()?;
        let memory_bytes = match memory {
            "-" => None,
            memory => Some(u64::from(memory.parse::<u32>().ok()?) << 20),
        };
        // The kernel takes a millisecond in a hundred at least.
        let is_good = (0.01..=1.0).contains(&cpu) && memory_bytes.is_none_or(|bytes| bytes > 0);
        is_good.then_some(Limits { cpu, memory_bytes })
    });
    limits.ok_or_else(|| format!("--small: {text:?} is not CPU,MIB").into())
}

fn scenario(word: &str) -> Result<Scenario, lexopt::Error> {
    (Scenario::ALL.into_iter())
        .find(|scenario| scenario.name() == word)
        .ok_or_else(|| format!("no scenario {word:?}").into())
}

fn bind(text: &str) -> Result<(IpAddr, u16), lexopt::Error> {
    let both = text
        .parse()
        .map(|address: SocketAddr| (address.ip(), address.port()));
    both.or_else(|_| text.parse().map(|address| (address, 0)))
        .map_err(|_| format!("--bind: {text:?} is not ADDRESS[:PORT]").into())
}

/// Scenarios that can be mixed, each once, and their parts.
fn mix(text: &str) -> Result<Vec<(Scenario, u32)>, lexopt::Error> {
    let wrong = || format!("--mix: {text:?} is not SCENARIO=PART,...");
    let mut weights: Vec<(Scenario, u32)> = Vec::new();
    for part in text.split(',') {
        let (name, weight) = part.split_once('=').ok_or_else(wrong)?;
        let name = scenario(name)?;
        let weight: u32 = weight.parse().map_err(|_| wrong())?;
        let is_mixable = matches!(
            name,
            Scenario::Options | Scenario::Register401 | Scenario::Register | Scenario::Calls
        );
        let is_twice = weights.iter().any(|(other, _)| *other == name);
        if !is_mixable || is_twice || weight == 0 || weight > 1_000_000 {
            return Err(wrong().into());
        }
        weights.push((name, weight));
    }
    Ok(weights)
}

fn rate(rate: f64) -> Result<Pace, lexopt::Error> {
    if rate.is_finite() && rate > 0.0 {
        Ok(Pace::Rate(rate))
    } else {
        Err("--rate: more than 0".into())
    }
}

fn flood_rates(name: &str, text: &str) -> Result<Vec<f64>, lexopt::Error> {
    let rates: Result<Vec<f64>, _> = text.split(',').map(str::parse).collect();
    rates
        .ok()
        .filter(|rates| rates.iter().all(|rate| rate.is_finite() && *rate > 0.0))
        .ok_or_else(|| format!("{name}: {text:?} is no list of rates").into())
}

fn at_least_one<N: Default + PartialEq>(name: &str, number: N) -> Result<N, lexopt::Error> {
    if number == N::default() {
        return Err(format!("{name}: at least 1").into());
    }
    Ok(number)
}

/// The address that it is reached from, for who has said none.
fn address_towards(target: SocketAddr) -> Result<IpAddr, lexopt::Error> {
    let address = socket::address_towards(target);
    address.map_err(|error| format!("{target}: {error} (--bind says from where)").into())
}

fn two_cores(text: &str) -> Result<Option<(usize, usize)>, lexopt::Error> {
    if text == "-" {
        return Ok(None);
    }
    let cores = text.split_once(',');
    let cores = cores.and_then(|(own, other)| Some((own.parse().ok()?, other.parse().ok()?)));
    cores
        .map(Some)
        .ok_or_else(|| format!("--cores: {text:?} is not A,B").into())
}

fn seconds(seconds: f64) -> Result<Duration, lexopt::Error> {
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string().into())
}

fn users(text: &str) -> Result<(u32, u32), lexopt::Error> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let wrong = || format!("--users: {text:?} is not FIRST-LAST");
    let first = first.parse().map_err(|_| wrong())?;
    let last = last.parse().map_err(|_| wrong())?;
    if first > last || last - first >= 1_000_000 {
        return Err(wrong().into());
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Arguments, lexopt::Error> {
        parse(lexopt::Parser::from_args(words))
    }

    #[test]
    fn scenarios_and_loops() {
        let load = read(&["register", "--target", "127.0.0.1:5060", "--users", "5-9"]).unwrap();
        assert_eq!(load.command, Command::Load(Scenario::Register));
        assert_eq!(
            (load.users, load.domain()),
            ((5, 9), "127.0.0.1".to_owned())
        );
        let echo = read(&["echo", "--listen", "127.0.0.1:1"]).unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(
            echo.command,
            Command::Loop {
                kind: Loop::Echo,
                listen
            }
        );
    }

    #[test]
    fn media_has_times_of_its_own() {
        let media = read(&["media", "--server", "x", "--cores", "-", "--calls", "9"]).unwrap();
        let expected = Command::Media {
            server: "x".into(),
            calls: 9,
            rounds: 5,
            flood: 50e3,
            cores: None,
        };
        assert_eq!(
            (media.command, media.measured),
            (expected, Duration::from_secs(20))
        );
        let short = read(&["media", "--server", "x", "--seconds", "2"]).unwrap();
        assert_eq!(short.measured, Duration::from_secs(2));
    }

    #[test]
    fn mixes_and_tables() {
        let words = [
            "mix",
            "--target",
            "127.0.0.1:5060",
            "--mix",
            "calls=3,options=1",
        ];
        let more = [
            "--scanners",
            "500",
            "--server",
            "x",
            "--config",
            "y",
            "--count",
            "9",
        ];
        let mix = read(&[&words[..], &more].concat()).unwrap();
        let weights = vec![(Scenario::Calls, 3), (Scenario::Options, 1)];
        let scanners = Some(500.0);
        assert_eq!(mix.command, Command::Mix { weights, scanners });
        assert_eq!(mix.told_by, Some(("x".into(), "y".into())));
        assert_eq!(mix.count, Some(9));
        let usual = read(&words[..3]).unwrap();
        let Command::Mix { weights, scanners } = usual.command else {
            panic!("{:?}", usual.command);
        };
        assert_eq!(
            (weights.len(), weights[0], scanners),
            (3, (Scenario::Register, 70), None)
        );
        assert_eq!((usual.told_by, usual.count), (None, None));
    }

    #[test]
    fn small_machines_and_sizes() {
        let words = [
            "compare", "--server", "x", "--small", "0.1,64", "--sizes", "5,50",
        ];
        let Command::Compare(compare) = read(&words).unwrap().command else {
            panic!("no comparison");
        };
        let limits = Limits {
            cpu: 0.1,
            memory_bytes: Some(64 << 20),
        };
        assert_eq!((compare.small, compare.sizes), (Some(limits), vec![5, 50]));
        assert_eq!(small("0.5,-").unwrap().memory_bytes, None);
        for (words, most) in [(&words[..3], 100_000), (&words[..5], 10_000)] {
            let Command::Compare(compare) = read(words).unwrap().command else {
                panic!("no comparison");
            };
            assert_eq!(compare.sizes, [10, 1_000, most]);
        }
    }

    #[test]
    fn a_port_of_ones_own() {
        assert_eq!(
            bind("127.0.0.2:5062").unwrap(),
            ([127, 0, 0, 2].into(), 5062)
        );
        assert_eq!(bind("127.0.0.2").unwrap(), ([127, 0, 0, 2].into(), 0));
        assert_eq!(bind("[::1]:9").unwrap().1, 9);
        assert!(bind("here").is_err());
    }

    #[test]
    fn the_kernel_knows_from_where_a_target_is_reached() {
        for (target, expected) in [
            ("127.0.0.1:5060", "127.0.0.1"),
            ("127.9.0.1:1", "127.0.0.1"),
        ] {
            let read = read(&["options", "--target", target]).unwrap();
            assert_eq!((read.bind.to_string(), read.port), (expected.to_owned(), 0));
        }
        let words = [
            "options",
            "--target",
            "192.0.2.1:1",
            "--bind",
            "127.0.0.3:7",
        ];
        let bound = read(&words).unwrap();
        assert_eq!((bound.bind, bound.port), ([127, 0, 0, 3].into(), 7));
        assert!(!bound.is_to_loopback());
    }

    #[test]
    fn an_idle_server_has_ten_minutes() {
        let idle = read(&["idle", "--server", "x"]).unwrap();
        let expected = Command::Idle { server: "x".into() };
        assert_eq!(
            (idle.command, idle.measured),
            (expected, Duration::from_secs(600))
        );
    }

    #[test]
    fn mistakes_are_told() {
        for words in [
            &[][..],
            &["options"],
            &["echo"],
            &["walk", "--target", "127.0.0.1:1"],
            &["options", "--target", "127.0.0.1:1", "--window", "0"],
            &["options", "--target", "127.0.0.1:1", "--rate", "-1"],
            &["options", "--target", "127.0.0.1:1", "--users", "9-5"],
            &["register", "--target", "127.0.0.1:1", "--flows", "0"],
            &["lanes"],
            &["compare"],
            &["compare", "--server", "x", "--rounds", "0"],
            &["lanes", "--server", "x", "--rates", "5,-1"],
            &["media"],
            &["media", "--server", "x", "--calls", "0"],
            &["media", "--server", "x", "--cores", "1"],
            &["forward", "--calls", "5"],
            &["mix"],
            &["mix", "--target", "127.0.0.1:1", "--mix", "calls"],
            &["mix", "--target", "127.0.0.1:1", "--mix", "calls=0"],
            &["mix", "--target", "127.0.0.1:1", "--mix", "calls=1,calls=2"],
            &["mix", "--target", "127.0.0.1:1", "--mix", "flood=1"],
            &["mix", "--target", "127.0.0.1:1", "--scanners", "no"],
            &["options", "--target", "127.0.0.1:1", "--server", "x"],
            &["options", "--target", "127.0.0.1:1", "--config", "x"],
            &["options", "--target", "127.0.0.1:1", "--count", "0"],
            &["options", "--target", "127.0.0.1:1", "--bind", "x:1"],
            &["flood", "--target", "127.0.0.1:1", "--sources", "0"],
            &[
                "flood",
                "--target",
                "192.0.2.1:1",
                "--bind",
                "127.0.0.1",
                "--sources",
                "2",
            ],
            &["idle"],
            &["compare", "--server", "x", "--sizes", "10,10"],
            &["compare", "--server", "x", "--sizes", "1"],
            &["compare", "--server", "x", "--small", "0.1"],
            &["compare", "--server", "x", "--small", "2,64"],
            &["compare", "--server", "x", "--small", "0.1,0"],
        ] {
            assert!(read(words).is_err(), "{words:?}");
        }
    }
}
