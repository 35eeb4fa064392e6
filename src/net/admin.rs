//! The administration's paths under `/api/v1`, and `/health`: request → command → JSON. Nothing here touches a socket.
//!
//! Who may ask is decided before what is asked: without the token every path under `/api/v1` answers 401, known or not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::core::Core;
use super::filter::Filter;
use super::http::{Reply, Response};
use super::lanes::Lanes;
use super::measure::{self, Latencies};
use super::store::Store;
use super::streams::Streams;
use super::udp::UdpSockets;
use crate::api::http::Request;
use crate::api::{Answer, Cdr, Command, Dialled, Page, Reached, Rfc3339, Status};
use crate::config::{Config, Group, Route, Trunk, User, duration_text, parse_duration};
use crate::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::source::Source;
use crate::store::CdrQuery;
use crate::time::{Now, UnixTime};

/// Everything a request may read or change.
pub(super) struct Admin<'a, C> {
    pub(super) core: &'a mut C,
    pub(super) store: &'a Store,
    pub(super) udp: &'a mut UdpSockets,
    pub(super) streams: &'a Streams,
    pub(super) filter: &'a mut Filter,
    pub(super) lanes: &'a Lanes,
    pub(super) latencies: &'a Latencies,
    pub(super) config: &'a Config,
    pub(super) now: Now,
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Resource {
    Health,
    Status,
    Registrations,
    Calls,
    Call(String),
    Bans,
    Ban(String),
    Cdrs,
    Users,
    User(String),
    Trunks,
    Trunk(String),
    Routes,
    Route(String),
    Groups,
    Group(String),
    Lines,
    Line(String),
    /// `lines/{name}/register`
    RegisterLine(String),
    /// Comes with a later version.
    Later,
}

impl Resource {
    /// The resource of a path under `/api/v1/`; `None`: there is none.
    fn of_api(path: &str) -> Result<Option<Self>, String> {
        let mut segments = Vec::new();
        for segment in path.split('/') {
            segments.push(percent_decode(segment)?);
        }
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        Ok(Some(match segments.as_slice() {
            ["status"] => Self::Status,
            ["registrations"] => Self::Registrations,
            ["calls"] => Self::Calls,
            ["calls", id] => Self::Call((*id).to_owned()),
            ["bans"] => Self::Bans,
            // `2001:db8::/64` with its slash as it is: people paste it so.
            ["bans", source @ ..] if source.len() <= 2 => Self::Ban(source.join("/")),
            ["cdrs"] => Self::Cdrs,
            ["users"] => Self::Users,
            ["users", name] => Self::User((*name).to_owned()),
            ["trunks"] => Self::Trunks,
            ["trunks", name] => Self::Trunk((*name).to_owned()),
            ["routes"] => Self::Routes,
            ["routes", name] => Self::Route((*name).to_owned()),
            ["lines"] => Self::Lines,
            ["lines", name] => Self::Line((*name).to_owned()),
            ["lines", name, "register"] => Self::RegisterLine((*name).to_owned()),
            ["groups"] => Self::Groups,
            ["groups", name] => Self::Group((*name).to_owned()),
            ["events" | "openapi.json"] => Self::Later,
            _ => return Ok(None),
        }))
    }

    /// Methods answered (HEAD beside every GET), and those that a later version will answer.
    fn methods(&self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Health | Self::Status | Self::Registrations | Self::Cdrs => (&["GET"], &[]),
            Self::Calls => (&["GET"], &["POST"]),
            Self::Call(_) | Self::Ban(_) => (&["DELETE"], &[]),
            Self::Bans => (&["GET", "POST"], &[]),
            Self::Users | Self::Trunks | Self::Groups | Self::Routes | Self::Lines => {
                (&["GET"], &[])
            }
            Self::RegisterLine(_) => (&["POST"], &[]),
            Self::User(_) | Self::Trunk(_) | Self::Group(_) | Self::Route(_) | Self::Line(_) => {
                (&["GET"], &["PUT", "DELETE"])
            }
            Self::Later => (&[], &["GET", "POST", "PUT", "DELETE"]),
        }
    }

    /// Names of query parameters.
    fn parameters(&self, method: &str) -> &'static [&'static str] {
        match self {
            Self::Registrations
            | Self::Calls
            | Self::Users
            | Self::Trunks
            | Self::Groups
            | Self::Routes
            | Self::Lines => &["limit", "after"],
            Self::Bans if method == "GET" => &["limit", "after"],
            Self::Cdrs => &["since", "until", "user", "limit", "after"],
            _ => &[],
        }
    }
}

/// Body of `POST bans`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BanRequest {
    source: String,
    /// `4h`; absent: as the guard's first ban.
    #[serde(rename = "for")]
    duration: Option<String>,
}

/// `GET users`: the keys of config.ini, no secrets. What the user has dialled goes before what the file says.
#[derive(Serialize)]
struct UserItem<'a> {
    name: &'a str,
    display_name: &'a str,
    addresses: Vec<String>,
    calls_max: Option<usize>,
    levels: &'a [String],
    do_not_disturb: bool,
    forward_always: Option<String>,
    forward_busy: Option<&'a str>,
    forward_no_answer: Option<&'a str>,
    forward_no_answer_after: String,
    forward_offline: Option<&'a str>,
    store_messages: bool,
    /// MESSAGEs that wait until he is there.
    messages_waiting: usize,
    dialled: Dialled,
}

/// `GET trunks`: the keys of config.ini, and whether it can be reached.
#[derive(Serialize)]
struct TrunkItem<'a> {
    name: &'a str,
    addresses: Vec<String>,
    transport: &'static str,
    keepalive: String,
    incoming: Option<&'a str>,
    caller_id: Option<&'a str>,
    request_uri_parameters: &'a str,
    uri_format: &'static str,
    calls_in_max: Option<usize>,
    calls_out_max: Option<usize>,
    next: Option<String>,
    /// `up`: one of its addresses is; `down`: all of them are; `unknown`.
    state: &'static str,
    reached: Vec<Reached>,
}

/// `GET groups`: the keys of config.ini.
#[derive(Serialize)]
struct GroupItem<'a> {
    name: &'a str,
    members: Vec<&'a str>,
    strategy: &'static str,
    ring_timeout: String,
    next: Option<&'a str>,
}

/// `GET routes`: the keys of config.ini.
#[derive(Serialize)]
struct RouteItem<'a> {
    /// Empty: what holds without any in the file.
    name: &'a str,
    prefix: &'a str,
    strip: usize,
    prepend: &'a str,
    to: Vec<String>,
    level: Option<&'a str>,
}

impl<'a> UserItem<'a> {
    fn of(user: &'a User, (dialled, messages_waiting): (Dialled, usize)) -> Self {
        let addresses = user.address_texts();
        let User {
            name,
            display_name,
            calls_max,
            levels,
            forwards,
            ..
        } = user;
        let forward_always = match dialled.forward_always.as_deref() {
            Some("") => None,
            Some(number) => Some(number.to_owned()),
            None => forwards.always.clone(),
        };
        Self {
            name,
            display_name,
            addresses,
            calls_max: *calls_max,
            levels,
            do_not_disturb: dialled.do_not_disturb.unwrap_or(user.do_not_disturb),
            forward_always,
            forward_busy: forwards.busy.as_deref(),
            forward_no_answer: forwards.no_answer.as_deref(),
            forward_no_answer_after: duration_text(forwards.no_answer_after),
            forward_offline: forwards.offline.as_deref(),
            store_messages: user.stores_messages,
            messages_waiting,
            dialled,
        }
    }
}

impl<'a> TrunkItem<'a> {
    fn of(config: &Config, trunk: &'a Trunk, reached: Vec<Reached>) -> Self {
        let is = |state: &'static str| move |one: &Reached| one.state == state;
        let state = if reached.iter().any(is("up")) {
            "up"
        } else if !reached.is_empty() && reached.iter().all(is("down")) {
            "down"
        } else {
            "unknown"
        };
        Self {
            name: &trunk.name,
            addresses: trunk.addresses.iter().map(ToString::to_string).collect(),
            transport: trunk.transport.uri_token(),
            keepalive: trunk
                .keepalive
                .map_or_else(|| "0".to_owned(), duration_text),
            incoming: trunk.incoming.as_deref(),
            caller_id: trunk.caller_id.as_deref(),
            request_uri_parameters: (trunk.request_uri_parameters).trim_start_matches(';'),
            uri_format: trunk.uri_format.word(),
            calls_in_max: trunk.calls_in_max,
            calls_out_max: trunk.calls_out_max,
            next: trunk.next.map(|to| config.destination_text(to)),
            state,
            reached,
        }
    }
}

impl<'a> GroupItem<'a> {
    fn of(config: &'a Config, group: &'a Group) -> Self {
        let users = group.members.iter();
        let users = users.filter_map(|member| config.users.get(member.0 as usize));
        Self {
            name: &group.name,
            members: users.map(|user| user.name.as_str()).collect(),
            strategy: group.strategy.word(),
            ring_timeout: duration_text(group.ring_timeout),
            next: group.next.as_deref(),
        }
    }
}

impl<'a> RouteItem<'a> {
    fn of(config: &Config, route: &'a Route) -> Self {
        let to = route.to.iter().map(|to| config.destination_text(*to));
        Self {
            name: &route.name,
            prefix: &route.prefix,
            strip: route.strip,
            prepend: &route.prepend,
            to: to.collect(),
            level: route.level.as_deref(),
        }
    }
}

impl<C: Core> Admin<'_, C> {
    /// Answers a request, or leaves its `ticket` with the store.
    pub(super) fn answer(&mut self, request: &Request<'_>, ticket: u64) -> Reply {
        match self.route(request, ticket) {
            Ok(reply) => reply,
            Err(response) => Reply::Now(response),
        }
    }

    fn route(&mut self, request: &Request<'_>, ticket: u64) -> Result<Reply, Response> {
        let resource = match request.path {
            "/health" => Resource::Health,
            "/" | "/metrics" => Resource::Later,
            path if path.starts_with("/openapi/") => Resource::Later,
            path => {
                let not_found = || Response::error(404, "no such path");
                let path = path.strip_prefix("/api/v1/").ok_or_else(not_found)?;
                if path != "openapi.json" {
                    self.authorize(request)?;
                }
                let resource = Resource::of_api(path).map_err(|text| Response::error(400, &text));
                resource?.ok_or_else(not_found)?
            }
        };
        let method = if request.method == "HEAD" {
            "GET"
        } else {
            request.method
        };
        let (methods, later) = resource.methods();
        if later.contains(&method) {
            return Err(Response::error(501, "not yet in this version"));
        }
        if !methods.contains(&method) {
            let allow = methods.join(", ").replace("GET", "GET, HEAD");
            return Err(Response::error(405, "method not allowed").with("Allow", &allow));
        }
        let query = Query::parse(request.query, resource.parameters(method))
            .map_err(|text| Response::error(400, &text))?;
        self.act(&resource, method, request, &query, ticket)
    }

    /// Compares the token in constant time; only its length shows.
    fn authorize(&self, request: &Request<'_>) -> Result<(), Response> {
        let given = request.authorization.and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme
                .eq_ignore_ascii_case(b"Bearer ")
                .then(|| token.trim_ascii())
        });
        let token = self.config.http.token.as_deref().unwrap_or_default();
        let is_right = given.is_some_and(|given| bool::from(given.ct_eq(token.as_bytes())));
        // Without a token nobody is let in: it is made at the start, so this would be our own mistake.
        if is_right && !token.is_empty() {
            return Ok(());
        }
        Err(Response::error(401, "a bearer token is needed").with("WWW-Authenticate", "Bearer"))
    }

    fn act(
        &mut self,
        resource: &Resource,
        method: &str,
        request: &Request<'_>,
        query: &Query,
        ticket: u64,
    ) -> Result<Reply, Response> {
        let bad = |text: String| Response::error(400, &text);
        let after = || query.get("after").map(str::to_owned);
        let response = match resource {
            Resource::Health => self.health(),
            Resource::Status => self.command(Command::Status),
            Resource::Registrations => {
                let limit = query.limit().map_err(bad)?;
                self.command(Command::Registrations {
                    after: after(),
                    limit,
                })
            }
            Resource::Calls => {
                let limit = query.limit().map_err(bad)?;
                self.command(Command::Calls {
                    after: after(),
                    limit,
                })
            }
            Resource::Call(id) => self.command(Command::Hangup { call: id.clone() }),
            Resource::Bans if method == "POST" => self.ban(request.body)?,
            Resource::Bans => {
                let limit = query.limit().map_err(bad)?;
                self.command(Command::Bans {
                    after: after(),
                    limit,
                })
            }
            Resource::Ban(source) => {
                let source = parse_source(source).map_err(bad)?;
                self.command(Command::Unban { source })
            }
            Resource::Cdrs => {
                let query = query.cdrs().map_err(bad)?;
                query.cursor().map_err(bad)?;
                if self.store.query(ticket, query) {
                    return Ok(Reply::Later);
                }
                Response::error(503, "too many queries at once").with("Retry-After", "1")
            }
            Resource::Users => {
                let (users, next) = page(&self.config.users, |user| &user.name, query)?;
                let items = self.user_items(users);
                Response::json(200, &Page { items, next })
            }
            Resource::Trunks => {
                let (trunks, next) = page(&self.config.trunks, |trunk| &trunk.name, query)?;
                let items = self.trunk_items(trunks);
                Response::json(200, &Page { items, next })
            }
            Resource::Groups => {
                let show = |group| GroupItem::of(self.config, group);
                list(&self.config.groups, |group| &group.name, show, query)?
            }
            Resource::Routes => {
                let show = |route| RouteItem::of(self.config, route);
                list(&self.config.routes, |route| &route.name, show, query)?
            }
            Resource::User(name) => {
                let user = self.config.users.iter().find(|user| user.name == *name);
                match self.user_items(user).first() {
                    Some(item) => Response::json(200, item),
                    None => Response::error(404, "no such user"),
                }
            }
            Resource::Trunk(name) => {
                let trunk = self.config.trunks.iter().find(|trunk| trunk.name == *name);
                match self.trunk_items(trunk).first() {
                    Some(item) => Response::json(200, item),
                    None => Response::error(404, "no such trunk"),
                }
            }
            Resource::Group(name) => one(
                &self.config.groups,
                |group| group.name == *name,
                |group| GroupItem::of(self.config, group),
                "no such group",
            ),
            Resource::Route(name) => one(
                &self.config.routes,
                |route| route.name == *name && !route.is_default(),
                |route| RouteItem::of(self.config, route),
                "no such route",
            ),
            Resource::Lines => {
                let limit = query.limit().map_err(bad)?;
                self.command(Command::Lines {
                    after: after(),
                    limit,
                })
            }
            Resource::Line(name) => self.command(Command::Line { line: name.clone() }),
            Resource::RegisterLine(name) => {
                self.command(Command::RegisterLine { line: name.clone() })
            }
            Resource::Later => Response::error(501, "not yet in this version"),
        };
        Ok(Reply::Now(response))
    }

    /// Users with what they have dialled.
    fn user_items<'u>(&mut self, users: impl IntoIterator<Item = &'u User>) -> Vec<UserItem<'u>> {
        let users: Vec<&User> = users.into_iter().collect();
        let names = users.iter().map(|user| user.name.clone()).collect();
        let answer = (self.core).command(self.now, Command::Users { users: names });
        let mut known = match answer {
            Answer::Users(known) => known.into_iter(),
            _ => Vec::new().into_iter(),
        };
        let item = |user| UserItem::of(user, known.next().unwrap_or_default());
        users.into_iter().map(item).collect()
    }

    /// Trunks with what the core knows of their addresses.
    fn trunk_items<'t>(
        &mut self,
        trunks: impl IntoIterator<Item = &'t Trunk>,
    ) -> Vec<TrunkItem<'t>> {
        let trunks: Vec<&Trunk> = trunks.into_iter().collect();
        let names = trunks.iter().map(|trunk| trunk.name.clone()).collect();
        let answer = self
            .core
            .command(self.now, Command::Reached { trunks: names });
        let mut reached = match answer {
            Answer::Reached(reached) => reached.into_iter(),
            _ => Vec::new().into_iter(),
        };
        let item = |trunk| TrunkItem::of(self.config, trunk, reached.next().unwrap_or_default());
        trunks.into_iter().map(item).collect()
    }

    fn command(&mut self, command: Command) -> Response {
        let answer = self.core.command(self.now, command);
        // Before the answer is written: a ban, and its end, hold for the next packet.
        self.filter
            .update(self.core, self.udp, self.streams, self.now);
        match answer {
            Answer::Status(mut status) => {
                self.complete(&mut status);
                Response::json(200, &status)
            }
            Answer::Registrations(page) => Response::json(200, &page),
            Answer::Calls(page) => Response::json(200, &page),
            Answer::Bans(page) => Response::json(200, &page),
            Answer::Users(users) => Response::json(200, &users),
            Answer::Lines(page) => Response::json(200, &page),
            Answer::Line(line) => Response::json(200, &line),
            Answer::Banned(ban) => Response::json(201, &ban),
            Answer::Reached(reached) => Response::json(200, &reached),
            Answer::Done => Response::json(200, &serde_json::json!({ "ok": true })),
            Answer::NotFound(what) => Response::error(404, &what),
            Answer::Refused(reason) => Response::error(409, &reason),
        }
    }

    /// Adds what only the shell knows.
    fn complete(&mut self, status: &mut Status) {
        status.memory_bytes = measure::memory_bytes();
        status.latency_us = self.latencies.status();
        status.store = self.store.status();
        status.guard.reassembly_failures = measure::reassembly_failures();
        status.guard.kernel = (self.filter).status(&self.config.guard, self.udp, self.streams);
        status.guard.lanes = self.lanes.status(self.udp);
    }

    fn health(&self) -> Response {
        let store = self.store.status();
        if store.ok {
            return Response::json(200, &serde_json::json!({ "ok": true }));
        }
        let reason = store
            .error
            .unwrap_or_else(|| "the state file cannot be written".into());
        Response::json(503, &serde_json::json!({ "ok": false, "reason": reason }))
    }

    fn ban(&mut self, body: &[u8]) -> Result<Response, Response> {
        let bad = |text: &str| Response::error(400, text);
        let ban: BanRequest =
            serde_json::from_slice(body).map_err(|error| bad(&format!("JSON: {error}")))?;
        let source = parse_source(&ban.source).map_err(|text| bad(&text))?;
        let duration = match ban.duration.as_deref().map(parse_duration) {
            None => None,
            Some(Ok(duration)) if duration.is_zero() => return Err(bad("for: must not be zero")),
            Some(Ok(duration)) => Some(duration),
            Some(Err(text)) => return Err(bad(&format!("for: {text}"))),
        };
        Ok(self.command(Command::Ban { source, duration }))
    }
}

/// What the store found.
pub(super) fn cdrs_response(answer: Result<Page<Cdr>, String>) -> Response {
    match answer {
        Ok(page) => Response::json(200, &page),
        Err(text) => Response::error(503, &text),
    }
}

fn parse_source(text: &str) -> Result<Source, String> {
    text.parse().map_err(|_| {
        format!(
            "source: \"{text}\" is not an IPv4 address or an IPv6 /64, /56 or /48 that anybody sends from"
        )
    })
}

/// A page of what the configuration lists, in the order of the file.
fn list<'a, T, I: Serialize>(
    items: &'a [T],
    name: impl Fn(&'a T) -> &'a str,
    show: impl Fn(&'a T) -> I,
    query: &Query,
) -> Result<Response, Response> {
    let (items, next) = page(items, name, query)?;
    let items = items.iter().map(show).collect();
    Ok(Response::json(200, &Page { items, next }))
}

/// What such a page has, and where the next one begins.
fn page<'a, T>(
    items: &'a [T],
    name: impl Fn(&'a T) -> &'a str,
    query: &Query,
) -> Result<(&'a [T], Option<String>), Response> {
    let limit = query.limit().map_err(|text| Response::error(400, &text))?;
    let start = match query.get("after") {
        None => 0,
        Some(after) => match items.iter().position(|item| name(item) == after) {
            Some(position) => position + 1,
            None => return Err(Response::error(400, "after: no such item")),
        },
    };
    let end = start.saturating_add(limit).min(items.len());
    let next = (end < items.len()).then(|| name(&items[end - 1]).to_owned());
    Ok((&items[start..end], next))
}

fn one<'a, T, I: Serialize>(
    items: &'a [T],
    is: impl Fn(&T) -> bool,
    show: impl Fn(&'a T) -> I,
    missing: &str,
) -> Response {
    match items.iter().find(|item| is(item)) {
        Some(item) => Response::json(200, &show(item)),
        None => Response::error(404, missing),
    }
}

/// Parameters of a query, each at most once and none unknown.
#[derive(Debug, Default)]
struct Query(BTreeMap<String, String>);

impl Query {
    fn parse(text: &str, known: &[&str]) -> Result<Self, String> {
        let mut parameters = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode(name)?;
            if !known.contains(&name.as_str()) {
                return Err(format!("unknown parameter \"{name}\""));
            }
            if parameters
                .insert(name.clone(), percent_decode(value)?)
                .is_some()
            {
                return Err(format!("parameter \"{name}\" is there twice"));
            }
        }
        Ok(Self(parameters))
    }

    /// An empty value is none, as forms send it.
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn limit(&self) -> Result<usize, String> {
        let Some(text) = self.get("limit") else {
            return Ok(PAGE_DEFAULT);
        };
        match text.parse() {
            Ok(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
            _ => Err(format!("limit: not a number from 1 to {PAGE_MAX}")),
        }
    }

    fn time(&self, name: &str) -> Result<Option<UnixTime>, String> {
        let time = self.get(name).map(|text| text.parse::<Rfc3339>());
        let time = time
            .transpose()
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(time.map(|Rfc3339(time)| time))
    }

    fn cdrs(&self) -> Result<CdrQuery, String> {
        Ok(CdrQuery {
            since: self.time("since")?,
            until: self.time("until")?,
            user: self.get("user").map(str::to_owned),
            limit: self.limit()?,
            after: self.get("after").map(str::to_owned),
        })
    }
}

/// RFC 3986 §2.1. A `+` is a plus sign, in queries too: no value has blanks, and `+49…` and `+02:00` are what people write.
fn percent_decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let decoded = rest.get(..2).and_then(|hex| {
            let high = char::from(hex[0]).to_digit(16)?;
            let low = char::from(hex[1]).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        });
        bytes.push(decoded.ok_or("a % without two hexadecimal digits")?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}
