//! Trunks, the dial plan, and what they name: other trunks, users and groups.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::value::{self, did_you_mean, quote};
use super::super::{Destination, Line, Route, Trunk};
use super::{CALLS_MAX, Fields, Reader, optional};
use crate::limits::ROUTE_TARGETS_MAX;
use crate::source::{GroupId, LineId, TrunkId, UserId};

/// Digits that a route may remove: the longest number has fewer.
const STRIP_MAX: u64 = 64;

/// Between two questions to a trunk whether it is there: more often it would be asked again before it is known to be silent.
const KEEPALIVE_MIN: Duration = Duration::from_secs(10);
const KEEPALIVE_MAX: Duration = Duration::from_secs(3_600);

/// What the file's sections are called, with their places in it.
pub(super) struct Names<'a> {
    users: BTreeMap<&'a str, u32>,
    trunks: BTreeMap<&'a str, u32>,
    lines: BTreeMap<&'a str, u32>,
    groups: BTreeMap<&'a str, u32>,
}

impl<'a> Names<'a> {
    pub(super) fn of(sections: &[Fields<'a>]) -> Self {
        let of = |kind| {
            let named = sections.iter().filter(|fields| fields.spec.kind == kind);
            named.map(|fields| fields.name).zip(0..).collect()
        };
        Self {
            users: of("user"),
            trunks: of("trunk"),
            lines: of("line"),
            groups: of("group"),
        }
    }

    /// Whether a user has this name.
    pub(super) fn has_user(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// Names that can be dialled.
    pub(super) fn callable(&self) -> impl Iterator<Item = &'a str> {
        self.users.keys().chain(self.groups.keys()).copied()
    }

    pub(super) fn user(&self, name: &str) -> Result<UserId, String> {
        let found = self.users.get(name).copied().map(UserId);
        found.ok_or_else(|| unknown("user", name, &self.users))
    }

    fn trunk(&self, name: &str) -> Result<TrunkId, String> {
        let found = self.trunks.get(name).copied().map(TrunkId);
        found.ok_or_else(|| unknown("trunk", name, &self.trunks))
    }

    fn line(&self, name: &str) -> Result<LineId, String> {
        let found = self.lines.get(name).copied().map(LineId);
        found.ok_or_else(|| unknown("line", name, &self.lines))
    }

    pub(super) fn group(&self, name: &str) -> Result<GroupId, String> {
        let found = self.groups.get(name).copied().map(GroupId);
        found.ok_or_else(|| unknown("group", name, &self.groups))
    }

    /// `line:NAME`, `trunk:NAME`, `user:NAME`, `group:NAME`.
    fn destination(&self, text: &str) -> Result<Destination, String> {
        match text.split_once(':') {
            Some(("trunk", name)) => self.trunk(name).map(Destination::Trunk),
            Some(("user", name)) => self.user(name).map(Destination::User),
            Some(("line", name)) => self.line(name).map(Destination::Line),
            Some(("group", name)) => self.group(name).map(Destination::Group),
            _ => Err(format!(
                "{} is none of line:NAME, trunk:NAME, user:NAME and group:NAME",
                quote(text)
            )),
        }
    }
}

fn unknown(kind: &str, name: &str, known: &BTreeMap<&str, u32>) -> String {
    let hint = did_you_mean(name, known.keys().copied());
    format!("no {kind} {}{hint}", quote(name))
}

/// Whether a number can lead anywhere if somebody outside dials it: to a user or group, or out again by a route that is for that.
fn leads_somewhere(
    own: Destination,
    number: &str,
    names: &Names<'_>,
    trunks: &[Trunk],
    routes: &[Route],
) -> Result<(), String> {
    let bare = value::without_separators(number.as_bytes());
    let is_here = |name: &[u8]| {
        std::str::from_utf8(name)
            .is_ok_and(|name| names.has_user(name) || names.group(name).is_ok())
    };
    if is_here(number.as_bytes()) || is_here(&bare) {
        return Ok(());
    }
    let Some(route) = Route::of(routes, &bare) else {
        let hint = did_you_mean(number, names.callable());
        let number = quote(number);
        return Err(format!(
            "no user or group {number}, and no route for that number{hint}"
        ));
    };
    let which = match route.is_default() {
        true => "the default for 9".to_owned(),
        false => format!("[route {}]", route.name),
    };
    if let Some(level) = &route.level {
        return Err(format!(
            "{} is for users with level {}, by {which}: a call from outside has none",
            quote(number),
            quote(level)
        ));
    }
    let may_go_out = route.is_for_transit() && !route.translated(&bare).is_empty();
    for to in &route.to {
        let (mut next, mut left) = (Some(*to), trunks.len() + 1);
        while let Some(to) = next.filter(|_| left > 0) {
            left -= 1;
            if matches!(to, Destination::User(_) | Destination::Group(_)) || may_go_out && to != own
            {
                return Ok(());
            }
            next = match to {
                Destination::Trunk(id) => trunks.get(id.0 as usize).and_then(|trunk| trunk.next),
                Destination::Line(_) | Destination::User(_) | Destination::Group(_) => None,
            };
        }
    }
    Err(format!(
        "{} leads nowhere by {which}: a call from outside goes out again only by a route with a prefix, \
         and not back",
        quote(number)
    ))
}

impl Reader {
    pub(super) fn trunk(&mut self, fields: &Fields<'_>, names: &Names<'_>) -> Trunk {
        if !fields.has("addresses") {
            let text = "addresses: needs at least one, the trunk is known by them";
            self.mistake(fields.line_of("addresses"), &fields.label, text);
        }
        let addresses = self.list(fields, "addresses", value::peer_address);
        let incoming = self.value(
            fields,
            "incoming",
            // Whether it leads anywhere is known when the routes are.
            optional(|text| match names.user(text) {
                Ok(_) => Ok(text.to_owned()),
                Err(_) if value::user_name(text).is_ok() => Ok(text.to_owned()),
                Err(unknown) => Err(unknown),
            }),
        );
        let next = self.value(
            fields,
            "next",
            optional(|text| match names.destination(text)? {
                Destination::User(_) | Destination::Group(_) => {
                    Err(format!("{} is no trunk and no line", quote(text)))
                }
                to if names.trunk(fields.name).map(Destination::Trunk) == Ok(to) => {
                    Err("is this trunk itself".into())
                }
                to => Ok(to),
            }),
        );
        let calls = |text: &str| {
            value::limit(text, CALLS_MAX).map(|limit| limit.map(|calls| calls as usize))
        };
        Trunk {
            name: fields.name.to_owned(),
            addresses,
            transport: self.value(fields, "transport", value::transport),
            keepalive: self.value(fields, "keepalive", |text| match text {
                "0" | "0s" => Ok(None),
                _ => value::duration(text, KEEPALIVE_MIN, KEEPALIVE_MAX).map(Some),
            }),
            incoming,
            caller_id: self.value(
                fields,
                "caller_id",
                optional(|text| value::user_name(text).map(|()| text.to_owned())),
            ),
            request_uri_parameters: self.value(
                fields,
                "request_uri_parameters",
                value::uri_parameters,
            ),
            uri_format: self.value(fields, "uri_format", value::uri_format),
            calls_in_max: self.value(fields, "calls_in_max", calls),
            calls_out_max: self.value(fields, "calls_out_max", calls),
            next,
            line: fields.line,
        }
    }

    /// The dial plan; the default one if the file has none but lines or trunks.
    pub(super) fn routes(
        &mut self,
        sections: &[Fields<'_>],
        names: &Names<'_>,
        lines: &[Line],
    ) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        let mut prefixes: BTreeMap<String, &Fields<'_>> = BTreeMap::new();
        for fields in sections.iter().filter(|fields| fields.spec.kind == "route") {
            let route = self.route(fields, names);
            let is_right = fields.given("prefix").is_some() != route.prefix.is_empty();
            match prefixes.get(&route.prefix).filter(|_| is_right) {
                Some(other) => {
                    let prefix = quote(&route.prefix);
                    let line = other.line_of("prefix");
                    let text = format!("{prefix} is that of {}, line {line}", other.label);
                    self.wrong(fields, "prefix", text);
                }
                None => drop(prefixes.insert(route.prefix.clone(), fields)),
            }
            routes.push(route);
        }
        if routes.is_empty() {
            let shared = (lines.iter().zip(0..)).filter(|(line, _)| line.shared);
            let lines = shared.map(|(_, index)| Destination::Line(LineId(index)));
            let trunks =
                (0..names.trunks.len() as u32).map(|index| Destination::Trunk(TrunkId(index)));
            let to: Vec<Destination> = lines.chain(trunks).collect();
            routes.extend((!to.is_empty()).then(|| Route::outside(to)));
        }
        routes
    }

    /// What the calls of each trunk and line go to must be able to lead somewhere.
    pub(super) fn check_incoming(
        &mut self,
        sections: &[Fields<'_>],
        names: &Names<'_>,
        (trunks, lines): (&[Trunk], &[Line]),
        routes: &[Route],
    ) {
        let of = |kind| {
            sections
                .iter()
                .filter(move |fields| fields.spec.kind == kind)
        };
        let of_trunks = (of("trunk").zip(trunks).zip(0..)).map(|((fields, trunk), index)| {
            let own = Destination::Trunk(TrunkId(index));
            (fields, own, trunk.incoming.as_deref())
        });
        let of_lines = (of("line").zip(lines).zip(0..)).map(|((fields, line), index)| {
            let own = Destination::Line(LineId(index));
            // Of one that is not shared it is a user, or there is a mistake already.
            let incoming = line.incoming.as_deref().filter(|_| line.shared);
            (fields, own, incoming)
        });
        for (fields, own, incoming) in of_trunks.chain(of_lines) {
            if let Some(number) = incoming
                && let Err(text) = leads_somewhere(own, number, names, trunks, routes)
            {
                self.wrong(fields, "incoming", text);
            }
        }
    }

    fn route(&mut self, fields: &Fields<'_>, names: &Names<'_>) -> Route {
        // Who writes "prefix = #31" has written a comment: that shall not become a route for every number.
        if fields.given("prefix").is_some() && !fields.has("prefix") {
            let text = "is empty; without this line the route is for every number \
                        (a # behind a blank begins a comment: prefix =#31)";
            self.wrong(fields, "prefix", text);
        }
        let to = self.list(fields, "to", |text| names.destination(text));
        if !fields.has("to") {
            self.wrong(fields, "to", "needs at least one, as in to = line:carrier");
        } else if to.len() > ROUTE_TARGETS_MAX {
            let text = format!("more than {ROUTE_TARGETS_MAX} of them");
            self.wrong(fields, "to", text);
        }
        for (index, one) in to.iter().enumerate().take(ROUTE_TARGETS_MAX) {
            if to[..index].contains(one) {
                self.wrong(fields, "to", "one of them is there twice");
            }
        }
        Route {
            name: fields.name.to_owned(),
            prefix: self.value(fields, "prefix", value::digits),
            strip: self.value(fields, "strip", |t| value::number(t, 0, STRIP_MAX)) as usize,
            prepend: self.value(fields, "prepend", value::digits),
            to,
            level: self.value(fields, "level", optional(value::level)),
            line: fields.line,
        }
    }
}
