//! A scenario's lines, one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::expect::{self, Variables};
use super::parse::{Line, SERVER, Script, Step, Words, time};
use crate::api::{Answer, Command, Rfc3339};
use crate::config::Config;
use crate::message::{Method, parse};
use crate::names::Candidate;
use crate::sdp::{Stream, read as read_sdp};
use crate::source::{LineId, Transport};
use crate::store::CallRecord;
use crate::testing::agent::{Agent, Wishes};
use crate::testing::dns::Manner;
use crate::testing::network::Link;
use crate::testing::world::{Seen, World};
use crate::time::{Instant, UnixTime};

/// How long nothing may happen after the last line.
const SILENCE: Duration = Duration::from_secs(300);

/// A scenario as it runs.
pub struct Player {
    pub(super) world: World,
    /// What the server is started with.
    setup: (Config, u64),
    /// The text of its configuration.
    config: String,
    begin: Instant,
    begin_unix: UnixTime,
    pub(super) agents: Vec<Agent>,
    /// What each agent took last.
    taken: Vec<Vec<u8>>,
    /// Bytes that wait for more of the same segment.
    held: Vec<Vec<u8>>,
    pub(super) variables: Variables,
    /// The streams of the last session description that each agent took.
    pub(super) described: Vec<Vec<Stream>>,
    /// Media that nobody has looked at, and where it came to.
    pub(super) heard: VecDeque<(SocketAddr, Vec<u8>)>,
    records_seen: usize,
    /// Of each name that was asked for, how many were looked at.
    events_seen: BTreeMap<String, usize>,
    /// How much earlier than the script says things have come that jitter moves.
    early: Duration,
    /// Which agents take OPTIONS outside dialogs by themselves, and what they answer.
    options: Vec<Option<Option<u16>>>,
    others: Vec<(String, Config)>,
    trace: Vec<String>,
}

impl Player {
    /// The server and its agents before the first line.
    pub fn new(script: &Script) -> Result<Self, String> {
        let config = read(&script.config)?;
        let mut others = Vec::new();
        for (name, text) in &script.others {
            others.push((name.clone(), read(text)?));
        }
        let server = SERVER.parse().map_err(|_| "SERVER is an address")?;
        let setup = (config.clone(), script.seed);
        let mut world = World::new(config, server, script.seed, Link::default());
        world.name_server.zone = script.zone.clone();
        world.name_server.manner = script.manner;
        let mut agents = Vec::new();
        for spec in &script.agents {
            if spec.transport == Transport::Tcp {
                world.listen(spec.address);
            }
            agents.push(Agent::new(
                &spec.name,
                &spec.user,
                &spec.password,
                spec.address,
                spec.transport,
            ));
        }
        let agents_count = agents.len();
        Ok(Self {
            begin: world.now().mono,
            begin_unix: world.now().unix,
            world,
            setup,
            config: script.config.clone(),
            taken: vec![Vec::new(); agents.len()],
            held: vec![Vec::new(); agents.len()],
            agents,
            variables: Variables::new(),
            described: vec![Vec::new(); agents_count],
            heard: VecDeque::new(),
            records_seen: 0,
            events_seen: BTreeMap::new(),
            early: Duration::ZERO,
            options: vec![None; agents_count],
            others,
            trace: Vec::new(),
        })
    }

    /// Plays all lines, then the silence.
    pub fn play(mut self, script: &Script) -> Result<(), String> {
        let mut last = Duration::ZERO;
        for line in &script.lines {
            last = line.at;
            let result = self.may_be_early(line).and_then(|early| {
                self.advance(line.at, early)?;
                self.step(line)?;
                match self.world.endpoint.census().misplaced {
                    0 => Ok(()),
                    calls => Err(format!(
                        "{calls} calls are not where their users are looked for"
                    )),
                }
            });
            self.outcome(line.number, &line.text, result)?;
        }
        let result = (self.advance(last + SILENCE, None)).and_then(|()| self.end());
        self.outcome(
            script.lines.last().map_or(0, |line| line.number),
            "(the end)",
            result,
        )
    }

    fn outcome(&self, number: usize, text: &str, result: Result<(), String>) -> Result<(), String> {
        result.map_err(|error| {
            let trace = self.trace.join("\n  ");
            format!("line {number}: `{text}`: {error}\nwhat happened:\n  {trace}")
        })
    }

    /// Which agent may receive what this line expects before its time, and since when.
    fn may_be_early(&self, line: &Line) -> Result<Option<(usize, Instant)>, String> {
        let Step::Expect(agent, words) = &line.step else {
            return Ok(None);
        };
        let Some(since) = words.option(expect::SINCE) else {
            return Ok(None);
        };
        let since = time(since, Duration::ZERO).ok_or("since: not a time")?;
        Ok(Some((self.agent(agent)?, self.instant(since))))
    }

    /// When that is by the clock of the world.
    fn instant(&self, at: Duration) -> Instant {
        self.begin.plus(at.saturating_sub(self.early))
    }

    /// Lets time pass; what reached an agent before `at` and was not expected is an error. What one may receive `early` ends
    /// it, and that was `at` then.
    fn advance(&mut self, at: Duration, early: Option<(usize, Instant)>) -> Result<(), String> {
        let mut until = self.instant(at);
        self.pump_for(until, early);
        if let Some((index, since)) = early
            && let Some((when, _)) = self.agents[index].inbox.front()
            && *when >= since
        {
            self.early += until.since(*when);
            until = *when;
        }
        for agent in &self.agents {
            if let Some((when, bytes)) = agent.inbox.front()
                && *when < until
            {
                let when = shown(when.since(self.begin));
                return Err(format!(
                    "{} received this at {when}, which nobody expected:\n{}",
                    agent.name,
                    String::from_utf8_lossy(bytes)
                ));
            }
        }
        Ok(())
    }

    fn pump(&mut self, until: Instant) {
        self.pump_for(until, None);
    }

    /// The same, until this agent has received something.
    fn pump_for(&mut self, until: Instant, early: Option<(usize, Instant)>) {
        let has_come =
            |agents: &[Agent]| early.is_some_and(|(own, _)| !agents[own].inbox.is_empty());
        while !has_come(&self.agents)
            && let Some(delivery) = self.world.run(until)
        {
            let now = self.world.now().mono;
            let at = shown(now.since(self.begin));
            let is_it = |agent: &Agent| agent.address == delivery.to;
            let index = self.agents.iter().position(is_it);
            let agent = index.and_then(|index| self.agents.get_mut(index));
            let line = match &delivery.seen {
                Seen::Datagram(bytes) | Seen::Bytes(bytes) => first_line(bytes),
                Seen::Media(bytes) => format!("media, {} bytes", bytes.len()),
                Seen::Closed => "closed".into(),
            };
            let name = agent
                .as_ref()
                .map_or(delivery.to.to_string(), |agent| agent.name.clone());
            self.trace.push(format!("{at} {name} < {line}"));
            match (agent, delivery.seen) {
                (Some(agent), Seen::Datagram(bytes)) => agent.receive_datagram(now, bytes),
                (Some(agent), Seen::Bytes(bytes)) => agent.receive_stream(now, &bytes),
                (Some(agent), Seen::Closed) => agent.disconnected(now),
                (_, Seen::Media(bytes)) => self.heard.push_back((delivery.to, bytes)),
                (None, _) => {}
            }
            if let Some(index) = index {
                self.take_options(index);
            }
        }
    }

    /// An agent answers OPTIONS by itself if it was told to.
    fn take_options(&mut self, index: usize) {
        let (Some(status), agent) = (self.options[index], &mut self.agents[index]) else {
            return;
        };
        let is_asked = |bytes: &[u8]| {
            parse(bytes).is_ok_and(|message| {
                message.is_request()
                    && message.method() == Method::Options
                    && message.to().tag().is_none()
            })
        };
        if agent.inbox.back().is_none_or(|(_, bytes)| !is_asked(bytes)) {
            return;
        }
        agent.inbox.pop_back();
        let wishes = Wishes {
            method: Some("OPTIONS".into()),
            ..Wishes::default()
        };
        if let Some(Ok(bytes)) = status.map(|status| agent.response(status, &wishes)) {
            match agent.transport {
                Transport::Udp => self.world.send(agent.address, &bytes),
                Transport::Tcp => self.world.write(agent.address, &bytes),
            }
        }
    }

    fn step(&mut self, line: &Line) -> Result<(), String> {
        match &line.step {
            Step::Send(agent, words) => {
                let index = self.agent(agent)?;
                self.send(index, words)?;
            }
            Step::Expect(agent, words) => {
                let index = self.agent(agent)?;
                self.expect(index, words)?;
            }
            Step::Close(agent) => {
                let index = self.agent(agent)?;
                self.world.close(self.agents[index].address);
            }
            Step::Vanish(agent) => {
                let index = self.agent(agent)?;
                self.world.vanish(self.agents[index].address);
            }
            Step::Nothing => {
                // What came at this very moment counts as well.
                if let Some(agent) = self.agents.iter().find(|agent| !agent.inbox.is_empty()) {
                    let bytes = agent.inbox.front().map_or(&b""[..], |(_, bytes)| bytes);
                    return Err(format!("{} received {}", agent.name, first_line(bytes)));
                }
            }
            Step::Server(words) => self.server(words)?,
            Step::Record(words) => self.record(words)?,
            Step::Event(words) => self.event(words)?,
            Step::Options(agent, status) => {
                let index = self.agent(agent)?;
                self.options[index] = Some(*status);
            }
            Step::Dns(words) => self.dns(words)?,
            Step::Media(agent, words) => {
                let index = self.agent(agent)?;
                self.send_media(index, words)?;
            }
            Step::Heard(agent, words) => {
                let index = self.agent(agent)?;
                self.hears(index, words)?;
            }
        }
        self.pump(self.world.now().mono);
        Ok(())
    }

    fn agent(&self, name: &str) -> Result<usize, String> {
        self.agents
            .iter()
            .position(|agent| agent.name == name)
            .ok_or(format!("there is no agent {name}"))
    }

    fn send(&mut self, index: usize, words: &Words) -> Result<(), String> {
        let wishes = self.wishes(words)?;
        let agent = &mut self.agents[index];
        let what = words.plain.first().map_or("", String::as_str);
        let bytes = match what {
            "again" => agent.last_sent.clone(),
            "ping" => b"\r\n\r\n".to_vec(),
            "bytes" => unescaped(words.quoted.as_deref().unwrap_or_default()),
            _ => match what.parse::<u16>() {
                Ok(status) => agent.response(status, &wishes)?,
                Err(_) => agent.request(what, &wishes)?,
            },
        };
        agent.last_sent = bytes.clone();
        let at = shown(self.world.now().mono.since(self.begin));
        self.trace
            .push(format!("{at} {} > {}", agent.name, first_line(&bytes)));
        let address = agent.address;
        if agent.transport == Transport::Udp {
            let from = match words.option("from") {
                Some(from) => from
                    .parse()
                    .map_err(|_| format!("{from}: not an address"))?,
                None => address,
            };
            self.world.send(from, &bytes);
            return Ok(());
        }
        self.held[index].extend_from_slice(&bytes);
        if words.option("segment") == Some("hold") {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.held[index]);
        if !self.world.is_connected(address) && !self.world.connect(address) {
            return Err("its connection was not accepted".into());
        }
        let size = words.option("split").map_or(Ok(bytes.len()), str::parse);
        let size = size.map_err(|_| "split: not a number")?;
        for segment in bytes.chunks(size.max(1)) {
            self.world.write(address, segment);
        }
        Ok(())
    }

    fn wishes(&self, words: &Words) -> Result<Wishes, String> {
        let variables = &self.variables;
        let mut wishes = Wishes {
            headers: headers(&words.headers, variables)?,
            text: words.quoted.as_deref().map(unescaped),
            ..Wishes::default()
        };
        for (key, value) in &words.options {
            let value = match value.strip_prefix('$') {
                Some(name) => variables
                    .get(name)
                    .ok_or(format!("${name} is not bound"))?
                    .clone(),
                None => value.clone(),
            };
            let number = || value.parse().map_err(|_| format!("{key}: not a number"));
            match key.as_str() {
                "branch" => wishes.branch = Some(value),
                "from_tag" => wishes.from_tag = Some(value),
                "to_tag" => wishes.to_tag = Some(value),
                "call_id" => wishes.call_id = Some(value),
                "cseq" => wishes.cseq = Some(number()?),
                "body" => wishes.body = Some(value),
                "auth" => wishes.auth = Some(value),
                "user" => wishes.user = Some(value),
                "call" => wishes.call = Some(number()? as usize),
                "from" | "segment" | "split" => {}
                _ => return Err(format!("`{key}` is no option of what is sent")),
            }
        }
        for word in words.plain.iter().skip(1) {
            let word = match word.strip_prefix('$') {
                Some(name) => variables.get(name).ok_or(format!("${name} is not bound"))?,
                None => word,
            };
            if word.contains(':') {
                wishes.uri = Some(word.clone());
            } else {
                wishes.method = Some(word.clone());
            }
        }
        Ok(wishes)
    }

    fn expect(&mut self, index: usize, words: &Words) -> Result<(), String> {
        let agent = &mut self.agents[index];
        let (_, bytes) = agent.inbox.pop_front().ok_or("it did not come")?;
        expect::check(&bytes, words, &self.taken[index], &mut self.variables)
            .map_err(|error| format!("{error}, in\n{}", String::from_utf8_lossy(&bytes)))?;
        let streams = parse(&bytes)
            .ok()
            .and_then(|message| read_sdp(message.body()).ok());
        if let Some(streams) = streams {
            self.described[index] = streams;
        }
        self.taken[index] = bytes;
        Ok(())
    }

    fn server(&mut self, words: &Words) -> Result<(), String> {
        let plain: Vec<&str> = words.plain.iter().map(String::as_str).collect();
        match plain.as_slice() {
            ["stops"] => self.world.stop(),
            ["restarts"] => {
                let (config, seed) = self.setup.clone();
                self.world.restart(config, seed + 1, Duration::ZERO);
                // The store calls them interrupted.
                (self.world.records).retain(|_, (_, over, _)| *over > 0);
            }
            ["reloads", name] => {
                let other = self.others.iter().find(|(own, _)| own == name);
                let (_, config) = other.ok_or(format!("there is no configuration {name}"))?;
                self.world.reload(config.clone());
            }
            ["hangs", "up"] => {
                let list = self.world.command(Command::Calls {
                    after: None,
                    limit: 1,
                });
                let Answer::Calls(page) = list else {
                    return Err("calls: no list".into());
                };
                let call = page.items.first().ok_or("there is no call")?.id.clone();
                let answer = self.world.command(Command::Hangup { call });
                if !matches!(answer, Answer::Done) {
                    return Err(format!("hangup: {answer:?}"));
                }
            }
            ["bans", source] => {
                let source = source
                    .parse()
                    .map_err(|_| format!("{source}: not a source"))?;
                let answer = self.world.command(Command::Ban {
                    source,
                    duration: None,
                });
                if !matches!(answer, Answer::Banned(_)) {
                    return Err(format!("ban: {answer:?}"));
                }
            }
            ["speaks", "from", local, "to", remote] => {
                let [remote, local] = [remote, local].map(|text| text.parse());
                let (Ok(remote), Ok(local)) = (remote, local) else {
                    return Err("not addresses".into());
                };
                self.world.route(remote, local);
            }
            ["unbans", source] => {
                let source = source
                    .parse()
                    .map_err(|_| format!("{source}: not a source"))?;
                let answer = self.world.command(Command::Unban { source });
                if !matches!(answer, Answer::Done) {
                    return Err(format!("unban: {answer:?}"));
                }
            }
            ["reloads"] => {
                for (key, value) in &words.options {
                    self.config = replaced(&self.config, key, value)?;
                }
                self.setup.0 = read(&self.config)?;
                self.world.reload(self.setup.0.clone());
            }
            ["loses", "port", "of", name] => self.loses_port(name, words)?,
            ["registers", name] => {
                let line = (*name).to_owned();
                let answer = self.world.command(Command::RegisterLine { line });
                if !matches!(answer, Answer::Line(_)) {
                    return Err(format!("register: {answer:?}"));
                }
            }
            ["line", name] => return self.line(name, words),
            ["has"] => return self.counts(words),
            ["reaches"] => return self.reaches(words),
            ["cannot", "reach", line] => {
                let found = self.way(line)?.err().unwrap_or_else(|| "it can".into());
                let wanted = words.quoted.as_deref().unwrap_or("*");
                return expect::check_value(line, wanted, &found, &mut self.variables);
            }
            _ => return Err("not a command".into()),
        }
        Ok(())
    }

    /// Where each line's packets go.
    fn reaches(&mut self, words: &Words) -> Result<(), String> {
        for (line, wanted) in &words.options {
            let found = self.way(line)??;
            expect::check_value(line, wanted, &found, &mut self.variables)?;
        }
        Ok(())
    }

    /// `udp:192.0.2.9:5060,...`, or why there is no way.
    fn way(&self, line: &str) -> Result<Result<String, String>, String> {
        let lines = &self.setup.0.lines;
        let index = lines.iter().position(|own| own.name == line);
        let id = LineId(index.ok_or("no such line")? as u32);
        let endpoint = &self.world.endpoint;
        let place = endpoint.line_place(id).ok_or("a line without a place")?;
        let candidates = endpoint.places().candidates(place);
        let texts = candidates.map(|all| {
            let text = |own: &Candidate| own.to_string().replace(' ', ":");
            let texts: Vec<String> = all.iter().map(text).collect();
            texts.join(",")
        });
        Ok(texts.map_err(|unknown| unknown.to_string()))
    }

    fn dns(&mut self, words: &Words) -> Result<(), String> {
        let plain: Vec<&str> = words.plain.iter().map(String::as_str).collect();
        let server = &mut self.world.name_server;
        match plain.as_slice() {
            ["has", record @ ..] => server.zone.add(&record.join(" "))?,
            ["forgets", name] => server.zone.remove(name),
            ["is", "asked", asked @ ..] => {
                let asked: Vec<String> = asked.chunks(2).map(|words| words.join(" ")).collect();
                let mut was = std::mem::take(&mut server.asked);
                was.sort();
                if was != asked {
                    return Err(format!("it was asked {was:?}, not {asked:?}"));
                }
            }
            words => {
                let manner = Manner::of(&words.join(" "));
                server.manner = manner.ok_or("nothing that a name server does")?;
            }
        }
        Ok(())
    }

    fn counts(&mut self, words: &Words) -> Result<(), String> {
        let census = self.world.endpoint.census();
        for (key, wanted) in &words.options {
            let found = match key.as_str() {
                "calls" => census.calls_live,
                "registrations" => census.bindings,
                "bans" => census.bans,
                "pages" => census.pages,
                "messages" => census.letters,
                "subscriptions" => census.subscriptions,
                "looks" => census.looks as usize,
                "destinations" => census.destinations,
                "transactions" => census.transactions_live,
                "connections" => census.streams,
                "names" => census.names_known,
                "media" => census.media,
                "ports" => self.world.media_ports().len(),
                _ => return Err(format!("`{key}` is nothing that is counted")),
            };
            expect::check_value(key, wanted, &found.to_string(), &mut self.variables)?;
        }
        Ok(())
    }

    /// What people are shown of a line.
    fn line(&mut self, name: &str, words: &Words) -> Result<(), String> {
        let line = name.to_owned();
        let item = match self.world.command(Command::Line { line }) {
            Answer::Line(item) => item,
            other => return Err(format!("line: {other:?}")),
        };
        let begin = self.begin_unix;
        let at = |time: Option<Rfc3339>| {
            time.map(|time| format!("{}ms", time.0.as_millis().saturating_sub(begin.as_millis())))
        };
        for (key, wanted) in &words.options {
            let found = match key.as_str() {
                "state" => Some(item.state.to_owned()),
                "status" => item.status.map(|status| status.to_string()),
                "account" => Some(item.account.clone()),
                "since" => at(item.since),
                "expires" => at(item.expires),
                "next_attempt" => at(item.next_attempt),
                _ => return Err(format!("`{key}` is nothing that a line has")),
            };
            let found = found.unwrap_or_else(|| "none".into());
            expect::check_value(key, wanted, &found, &mut self.variables)
                .map_err(|error| format!("{error}, in\n{item:?}"))?;
        }
        if let Some(wanted) = &words.quoted {
            let found = item.reason.clone().unwrap_or_default();
            expect::check_value("reason", wanted, &found, &mut self.variables)?;
        }
        Ok(())
    }

    /// The next record of a call that is over.
    fn record(&mut self, words: &Words) -> Result<(), String> {
        let id = self
            .world
            .ended
            .get(self.records_seen)
            .ok_or("there is no further record")?;
        self.records_seen += 1;
        let (_, _, record) = self.world.records.get(id).ok_or("a record without an id")?;
        let record = record.clone();
        for (key, wanted) in &words.options {
            let found = field(&record, key, self.begin_unix);
            let found = found.ok_or(format!("`{key}` is not in a record"))?;
            expect::check_value(key, wanted, &found, &mut self.variables)
                .map_err(|error| format!("{error}, in\n{record:?}"))?;
        }
        Ok(())
    }

    /// The next event of this name.
    fn event(&mut self, words: &Words) -> Result<(), String> {
        let name = words.plain.first().ok_or("which event?")?;
        let seen = self.events_seen.entry(name.clone()).or_default();
        let mut events = self.world.events.iter().filter(|event| event.name == name);
        let event = (events.nth(*seen)).ok_or(format!("there is no further event {name}"))?;
        *seen += 1;
        for (key, wanted) in &words.options {
            let fields = event.fields();
            let found = fields.iter().find(|(own, _)| own == key);
            let (_, found) = found.ok_or(format!("`{key}` is not in {event:?}"))?;
            expect::check_value(key, wanted, found, &mut self.variables)
                .map_err(|error| format!("{error}, in\n{event:?}"))?;
        }
        if let Some(quoted) = &words.quoted
            && !event.fields().iter().any(|(_, value)| value == quoted)
        {
            return Err(format!("nothing in it is {quoted:?}, in\n{event:?}"));
        }
        Ok(())
    }

    /// What must hold after the silence.
    fn end(&mut self) -> Result<(), String> {
        let census = self.world.endpoint.census();
        let has_ports = census.media != 0 || self.world.media_ports().len() != 0;
        let is_left = census.has_calls
            || census.calls_live != 0
            || census.moved_legs != 0
            || census.pages != 0
            || census.counted != 0
            || has_ports;
        // A timer may be due long after its call; so many at most.
        let has_timers = census.call_timers > crate::limits::CALL_TIMERS_MIN;
        if is_left || has_timers || census.transactions_live != census.asked {
            return Err(format!(
                "after {} of silence there is left {census:?}",
                shown(SILENCE)
            ));
        }
        if let Some(id) = self.world.ended.get(self.records_seen) {
            return Err(format!(
                "nobody asked for this record: {:?}",
                self.world.records[id].2
            ));
        }
        for (up, over, record) in self.world.records.values() {
            if *over != 1 || *up > 1 {
                return Err(format!(
                    "kept {up} times while up, {over} times when over: {record:?}"
                ));
            }
        }
        Ok(())
    }
}

fn read(text: &str) -> Result<Config, String> {
    Config::read(text, Path::new(".")).map_err(|mistakes| {
        let all: Vec<_> = mistakes
            .iter()
            .map(|mistake| mistake.in_file(Path::new("config")))
            .collect();
        format!("{}\nin\n{text}", all.join("\n"))
    })
}

/// A configuration with another value of a key that stands in it once.
fn replaced(config: &str, key: &str, value: &str) -> Result<String, String> {
    let is_it = |line: &str| {
        line.split_once('=')
            .is_some_and(|(own, _)| own.trim() == key)
    };
    if config.lines().filter(|line| is_it(line)).count() != 1 {
        return Err(format!("`{key}` does not stand in the configuration once"));
    }
    let line = |line: &str| match is_it(line) {
        true => format!("{key} = {value}\n"),
        false => format!("{line}\n"),
    };
    Ok(config.lines().map(line).collect())
}

/// Header lines in which a word `$name` stands for its value.
fn headers(
    lines: &[(String, String)],
    variables: &Variables,
) -> Result<Vec<(String, String)>, String> {
    let bound = |name: &str| (variables.get(name)).ok_or(format!("${name} is not bound"));
    let word = |word: &str| {
        if word.contains("${") {
            let mut whole = String::new();
            let mut rest = word;
            while let Some((before, name, behind)) = (rest.split_once("${"))
                .and_then(|(before, rest)| rest.split_once('}').map(|(a, b)| (before, a, b)))
            {
                whole.push_str(before);
                whole.push_str(bound(name)?);
                rest = behind;
            }
            return Ok(whole + rest);
        }
        match word.strip_prefix('$') {
            Some(name) => bound(name).cloned(),
            None => Ok(word.to_owned()),
        }
    };
    let line = |(name, value): &(String, String)| {
        let words: Result<Vec<String>, String> = value.split(' ').map(word).collect();
        Ok((name.clone(), words?.join(" ")))
    };
    lines.iter().map(line).collect()
}

/// A field of a record as text; `none` for what is null. Times are since the beginning of the scenario.
fn field(record: &CallRecord, key: &str, begin: UnixTime) -> Option<String> {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".into());
    let at = |time: UnixTime| format!("{}ms", time.as_millis().saturating_sub(begin.as_millis()));
    Some(match key {
        "start" => at(record.start),
        "answer" => or_none(record.answer.map(at)),
        "end" => or_none(record.end.map(at)),
        "forwarded_by" => or_none(record.forwarded_by.clone()),
        "transferred_by" => or_none(record.transferred_by.clone()),
        "related" => or_none(record.related.clone()),
        "direction" => record.direction.into(),
        "caller" => record.caller.clone(),
        "dialled" => record.dialled.clone(),
        "answered_by" => or_none(record.answered_by.clone()),
        "through" => or_none(record.through.clone()),
        "source" => record.source.clone(),
        "user_agent" => or_none(record.user_agent.clone()),
        "disposition" => record.disposition.into(),
        "status" => or_none(record.status.map(|status| status.to_string())),
        "ended_by" => or_none(record.ended_by.map(Into::into)),
        "duration_ms" => or_none(record.duration_ms.map(|millis| millis.to_string())),
        "talk_ms" => or_none(record.talk_ms.map(|millis| millis.to_string())),
        "caller_call_id" => record.caller_call_id.clone(),
        "callee_call_id" => or_none(record.callee_call_id.clone()),
        "reason" => or_none(record.reason.clone()),
        _ => return None,
    })
}

fn first_line(bytes: &[u8]) -> String {
    let line = bytes
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    let method = parse(bytes).map(|message| {
        let cseq = message.cseq();
        format!(
            "   ({} {})",
            cseq.number,
            String::from_utf8_lossy(cseq.token)
        )
    });
    String::from_utf8_lossy(line).into_owned() + &method.unwrap_or_default()
}

/// `\r`, `\n`, `\t`, `\0` and `\\`.
pub(super) fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'0') => 0,
                Some(other) => other,
                None => b'\\',
            },
            other => other,
        });
    }
    bytes
}

fn shown(time: Duration) -> String {
    format!("{}ms", time.as_micros() as f64 / 1000.0)
}
