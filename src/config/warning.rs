//! What a configuration allows but its owner should know.

use super::{Config, Destination, Guard, GuardMode, Line, Mistake, Prefix, Route, Secret};
use crate::source::{LineId, Transport, TrunkId};

/// Characters of a token that nobody guesses; what we make ourselves is longer.
const TOKEN_CHARACTERS: usize = 16;

/// Characters of a password that a cracker does not find by trying all: five tries a ban are enough to stop him here, but
/// not where he has seen a digest.
const PASSWORD_CHARACTERS: usize = 8;

pub(super) fn warnings(config: &Config) -> Vec<Mistake> {
    let mut warnings = Vec::new();
    let mut warn = |line: usize, section: String, text: String| {
        warnings.push(Mistake {
            line,
            section,
            text,
        });
    };
    let http = || "[http]".to_owned();
    if let Some(listen) = config.http.listen
        && !listen.ip().to_canonical().is_loopback()
    {
        let text = format!("listen: {listen} is reachable from other hosts and is not encrypted");
        warn(0, http(), text);
    }
    if config
        .http
        .token
        .as_ref()
        .is_some_and(|token| token.len() < TOKEN_CHARACTERS)
    {
        let text = format!("token: shorter than {TOKEN_CHARACTERS} characters, it can be guessed");
        warn(0, http(), text);
    }
    for prefix in config.guard.allow.iter().filter(|prefix| prefix.bits == 0) {
        warn(0, "[guard]".into(), format!("allow: {prefix} is everybody"));
    }
    if let Some(route) = open_route(config) {
        let route = match route.is_default() {
            true => "a leading 9".to_owned(),
            false => format!("[route {}]", route.name),
        };
        for (key, is) in brake_off(&config.guard) {
            let text = format!(
                "{key}: is {is}, and by {route} every user calls outside: so does whoever gets hold of a \
                 password, as much as he likes"
            );
            warn(0, "[guard]".into(), text);
        }
    }
    let listens =
        |on: Transport| (config.server.listen.iter()).any(|listen| listen.transport == on);
    let udp = listens(Transport::Udp);
    for user in &config.users {
        let section = || format!("[user {}]", user.name);
        if let Some(Secret::Password(password)) = &user.secret
            && password.chars().count() < PASSWORD_CHARACTERS
        {
            let text = format!(
                "password: shorter than {PASSWORD_CHARACTERS} characters, whoever sees one of its \
                 digests finds it by trying"
            );
            warn(user.line, section(), text);
        }
        let addresses = (user.addresses.iter()).map(|peer| {
            (
                peer.to_string(),
                "a public address",
                Prefix::of(peer.address),
            )
        });
        let blocks =
            (user.blocks.iter()).map(|block| (block.to_string(), "a public block", *block));
        for (shown, what, block) in addresses.chain(blocks) {
            if udp && is_public(config, &block) {
                let text = format!(
                    "addresses: {shown} is {what}, and over UDP its sender can be forged: whoever \
                     does that calls as this user"
                );
                warn(user.line, section(), text);
            }
            let deny = config.guard.deny.iter();
            if let Some(deny) = deny.into_iter().find(|deny| deny.overlaps(&block)) {
                let text = format!("addresses: {shown} is denied by {deny} in [guard]");
                warn(user.line, section(), text);
            }
        }
    }
    for route in &config.routes {
        let section = || format!("[route {}]", route.name);
        if let Some(level) = &route.level
            && !config.users.iter().any(|user| user.levels.contains(level))
        {
            let text = format!("level: no user has \"{level}\", nobody can call by it");
            warn(route.line, section(), text);
        }
        if let Some(caller) = transit_caller(config, route) {
            let text = format!(
                "level: is empty, and [{caller}] has no incoming: whoever calls from there can \
                 call out by it"
            );
            warn(route.line, section(), text);
        }
    }
    for trunk in &config.trunks {
        let section = || format!("[trunk {}]", trunk.name);
        for peer in &trunk.addresses {
            if let Some(deny) = config
                .guard
                .deny
                .iter()
                .find(|deny| deny.contains(peer.address))
            {
                warn(
                    trunk.line,
                    section(),
                    format!("addresses: {peer} is denied by {deny} in [guard]"),
                );
            }
        }
        if !listens(trunk.transport) {
            let transport = trunk.transport.uri_token();
            let text = format!("transport: [server] listen has no {transport}, it cannot reach us");
            warn(trunk.line, section(), text);
        }
    }
    for line in &config.lines {
        for text in line_warnings(config, line) {
            warn(line.line, format!("[line {}]", line.name), text);
        }
    }
    warnings.sort_by_key(|warning| warning.line);
    warnings
}

/// A route that leads outside and asks users for no level.
fn open_route(config: &Config) -> Option<&Route> {
    let is_outside = |to: &Destination| !matches!(to, Destination::User(_) | Destination::Group(_));
    (config.routes.iter())
        .filter(|_| !config.users.is_empty())
        .find(|route| route.level.is_none() && route.to.iter().any(is_outside))
}

/// What keeps the brake on toll fraud from working: the key, and what it is.
fn brake_off(guard: &Guard) -> Vec<(&'static str, &'static str)> {
    if guard.mode != GuardMode::Enforce {
        return vec![("mode", "not enforce")];
    }
    let keys = [
        ("outside_calls_max", guard.outside_calls_max),
        ("new_destinations_per_hour", guard.new_destinations_per_hour),
    ];
    let empty = keys.into_iter().filter(|(_, limit)| limit.is_none());
    empty.map(|(key, _)| (key, "empty")).collect()
}

/// What may be wrong with a line.
fn line_warnings(config: &Config, line: &Line) -> Vec<String> {
    let mut texts = Vec::new();
    if line.register && line.password.0.is_empty() {
        texts.push("password: is empty, a registration that is asked for one fails".to_owned());
    }
    let transport = line.transport;
    if !(config.server.listen.iter()).any(|listen| listen.transport == transport) {
        let transport = transport.uri_token();
        let text =
            format!("transport: [server] listen has no {transport}, the line cannot be used");
        texts.push(text);
    }
    let with_domain = (line.auth_user.as_ref()).filter(|_| line.auth_user_with_domain);
    if let Some(user) = with_domain.filter(|user| user.contains('@')) {
        let text = format!("auth_user_with_domain: {user} has a domain already, none is added");
        texts.push(text);
    }
    let is_twin = |other: &&Line| {
        (other.line < line.line, &other.account, &other.server)
            == (true, &line.account, &line.server)
    };
    if let Some(twin) = config.lines.iter().find(is_twin) {
        let text = format!(
            "account: is that of [line {}], line {}, too",
            twin.name, twin.line
        );
        texts.push(text);
    }
    let host = line.next_host().address().into_iter();
    for address in host.chain(line.addresses.iter().map(|peer| peer.address)) {
        if let Some(deny) = (config.guard.deny.iter()).find(|deny| deny.contains(address)) {
            texts.push(format!("{address} is denied by {deny} in [guard]"));
        }
    }
    texts
}

/// The section of a trunk or line whose calls may go out to another one by this route.
fn transit_caller(config: &Config, route: &Route) -> Option<String> {
    let goes_elsewhere = |own: Destination| {
        let mut outside = (route.to.iter())
            .filter(|to| matches!(to, Destination::Trunk(_) | Destination::Line(_)));
        route.is_for_transit() && outside.any(|to| *to != own)
    };
    let trunk = (config.trunks.iter().zip(0..))
        .filter(|(trunk, _)| trunk.incoming.is_none())
        .find(|(_, index)| goes_elsewhere(Destination::Trunk(TrunkId(*index))))
        .map(|(trunk, _)| format!("trunk {}", trunk.name));
    let line = || {
        (config.lines.iter().zip(0..))
            .filter(|(line, _)| line.incoming.is_none())
            .find(|(_, index)| goes_elsewhere(Destination::Line(LineId(*index))))
            .map(|(line, _)| format!("line {}", line.name))
    };
    trunk.or_else(line)
}

/// Not all of it lies in one of `local_networks`, or where addresses are that are never routed on the Internet.
fn is_public(config: &Config, block: &Prefix) -> bool {
    let private = super::keys::LOCAL_NETWORKS.split(',');
    let private: Vec<Prefix> = private
        .filter_map(|text| super::value::prefix(text.trim()).ok())
        .collect();
    let local = config.server.local_networks.iter();
    !local.chain(&private).any(|network| network.covers(block))
}
