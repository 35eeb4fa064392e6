//! The dial plan: where a number leads (`[route]`, `[trunk]`), and who of those is called first.
//!
//! A number is compared as it was dialled, unescaped, without visual separators and parameters (RFC 3966 §5.1.1), be it in a
//! `sip:` or in a `tel:` URI. A user's or group's name goes before the routes; of these the longest prefix decides, also when it refuses.

use super::callee::{Asking, Rung};
use super::invite::request_uri;
use super::*;
use crate::brake;
use crate::call::{Alternatives, Arrival, Hop, HopTo, Identity, Party, Target};
use crate::config::{Destination, Route, UriFormat, without_separators};
use crate::limits::HOPS_MAX;
use crate::names::Candidate;
use crate::source::{GroupId, Who};

/// Where a number leads.
pub(super) enum Lead {
    User(UserId),
    Group(GroupId),
    /// By a route: to the first of these that can be called.
    Onward(Alternatives),
    /// The route asks for a level that the caller has not.
    Forbidden,
    Nowhere,
}

/// A status, and where that does not say it the record's disposition.
pub(super) type Refusal = (u16, Option<&'static str>);

impl Endpoint {
    /// Where a request's number leads: of a trunk's or line's to its `incoming`, else by the dial plan.
    pub(super) fn leads_to(&self, arrival: &Arrival<'_>, identity: Who, dialled: &[u8]) -> Lead {
        if let Some(incoming) = self.incoming(identity) {
            // As if the trunk or line had dialled it, with no more rights.
            return self.lead(identity, incoming.as_bytes());
        }
        // Whatever host the carrier of a line writes, the call is for us.
        if !matches!(identity, Who::Line(_)) && !self.is_ours(arrival.request, &arrival.flow) {
            return Lead::Nowhere;
        }
        match (self.lead(identity, dialled), identity) {
            (Lead::Onward(mut way), Who::Line(line))
                if !self.is_carriers_number(line, arrival.request, dialled) =>
            {
                way.hops.retain(|hop| !hop.is_outside());
                match way.hops.is_empty() {
                    true => Lead::Nowhere,
                    false => Lead::Onward(way),
                }
            }
            (lead, _) => lead,
        }
    }

    /// What the calls of a trunk or line go to, whichever number they are for.
    pub(super) fn incoming(&self, identity: Who) -> Option<&str> {
        match identity {
            Who::Trunk(id) => (self.config.trunks.get(id.0 as usize)?.incoming).as_deref(),
            Who::Line(id) => (self.config.lines.get(id.0 as usize)?.incoming).as_deref(),
            Who::User(_) => None,
        }
    }

    /// Where a number leads by the dial plan, if this one calls it.
    pub(super) fn lead(&self, identity: Who, dialled: &[u8]) -> Lead {
        if let Some(user) = self.auth.user(dialled) {
            return Lead::User(user);
        }
        let bare = without_separators(dialled);
        if let Some(user) = self.auth.user(&bare) {
            return Lead::User(user);
        }
        let group = self
            .groups
            .find(dialled)
            .or_else(|| self.groups.find(&bare));
        if let Some(group) = group {
            return Lead::Group(group);
        }
        let Some(route) = Route::of(&self.config.routes, &bare) else {
            return Lead::Nowhere;
        };
        if !self.has_level(identity, route) {
            return Lead::Forbidden;
        }
        let mut number = route.translated(&bare);
        let mut hops = self.hops(identity, route);
        if number.is_empty() {
            // A single digit may stand for a user; a trunk must be told a number.
            hops.retain(|hop| !hop.is_outside());
            number = bare.to_vec();
        }
        if hops.is_empty() {
            return Lead::Nowhere;
        }
        hops.reverse();
        Lead::Onward(Alternatives {
            is_emergency: brake::is_emergency(&bare, &number, route),
            number: number.into(),
            hops,
        })
    }

    fn has_level(&self, identity: Who, route: &Route) -> bool {
        let Some(level) = &route.level else {
            return true;
        };
        match identity {
            Who::User(user) => (self.config.users.get(user.0 as usize))
                .is_some_and(|user| user.levels.contains(level)),
            Who::Trunk(_) | Who::Line(_) => false,
        }
    }

    /// Who a route calls, in the order of the file; after each trunk its `next`.
    fn hops(&self, identity: Who, route: &Route) -> Vec<Hop> {
        let mut hops = Vec::with_capacity(route.to.len());
        let mut seen: Vec<Destination> = Vec::new();
        for to in &route.to {
            let mut next = Some(*to);
            while let Some(to) = next.filter(|to| !seen.contains(to)) {
                seen.push(to);
                next = match to {
                    Destination::Trunk(id) => {
                        (self.config.trunks.get(id.0 as usize)).and_then(|trunk| trunk.next)
                    }
                    Destination::Line(_) | Destination::User(_) | Destination::Group(_) => None,
                };
                if self.may_go(identity, to, route) {
                    hops.extend(self.hops_to(to));
                }
            }
        }
        hops.truncate(HOPS_MAX);
        hops
    }

    /// Whether a call may take this way. It goes back to where it came from by no route: two servers would send it to and
    /// fro.
    fn may_go(&self, identity: Who, to: Destination, route: &Route) -> bool {
        match (identity, to) {
            (_, Destination::User(_) | Destination::Group(_)) => true,
            (Who::User(_), Destination::Trunk(_)) => true,
            (Who::User(own), Destination::Line(line)) => self.may_use(own, line),
            (Who::Trunk(own), Destination::Trunk(to)) if own == to => false,
            (Who::Line(own), Destination::Line(to)) if own == to => false,
            (Who::Trunk(_) | Who::Line(_), _) => route.is_for_transit(),
        }
    }

    /// Whether a user may call out on a line: on a shared one everybody may.
    fn may_use(&self, user: UserId, line: LineId) -> bool {
        let user = self.config.users.get(user.0 as usize);
        let line = self.config.lines.get(line.0 as usize);
        user.zip(line).is_some_and(|(user, line)| {
            line.shared || line.incoming.as_deref() == Some(user.name.as_str())
        })
    }

    /// One for each address of a trunk or line.
    fn hops_to(&self, to: Destination) -> Vec<Hop> {
        let hop = |party: &Party, address, way| Hop {
            to: HopTo::Party(party.clone()),
            address,
            way,
        };
        match to {
            Destination::Group(id) => {
                let group = self.config.groups.get(id.0 as usize);
                let to = group.map(|group| HopTo::Group(group.name.as_str().into()));
                let hops = to.into_iter().map(|to| Hop {
                    to,
                    address: 0,
                    way: None,
                });
                hops.collect()
            }
            Destination::User(id) => {
                let user = self.config.users.get(id.0 as usize);
                let party = user.map(|user| Party::User(id, user.name.as_str().into()));
                party.iter().map(|party| hop(party, 0, None)).collect()
            }
            Destination::Line(id) => {
                let Some(line) = self.line(id) else {
                    return Vec::new();
                };
                let party = Party::Line(id, line.name.as_str().into());
                let ways = self.line_ways(id);
                if ways.is_empty() {
                    // There is none to try, which is to be said.
                    return vec![hop(&party, 0, None)];
                }
                let hops = ways.into_iter().map(|way| hop(&party, 0, Some(way)));
                hops.collect()
            }
            Destination::Trunk(id) => {
                let Some(trunk) = self.config.trunks.get(id.0 as usize) else {
                    return Vec::new();
                };
                let party = Party::Trunk(id, trunk.name.as_str().into());
                let addresses = 0..trunk.addresses.len();
                addresses
                    .map(|address| hop(&party, address, None))
                    .collect()
            }
        }
    }

    /// The first of these that can be called now; those behind it are tried when it fails. A user who is busy or has no
    /// phone here is passed over unless his calls go on to somebody else, so is a group of which nobody can be rung, and so is a trunk that has no room; whoever is rung settles it.
    pub(super) fn hop_targets(
        &mut self,
        now: Now,
        mut alternatives: Alternatives,
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        self.living_first(now, &mut alternatives.hops);
        // That somebody is busy says more than that another is away.
        let mut is_busy = false;
        let mut refusal = (503, Some("failed"));
        while let Some(hop) = alternatives.hops.pop() {
            let number = &alternatives.number;
            let here = match &hop.to {
                HopTo::Party(Party::User(user, _)) => {
                    Some(self.ring_user(now, *user, number, asking))
                }
                HopTo::Group(name) => (self.groups.find(name.as_bytes()))
                    .map(|group| self.ring_group(now, group, number, asking)),
                HopTo::Party(Party::Trunk(..) | Party::Line(..)) => None,
            };
            match here {
                Some(Ok(rung)) => return Ok(rung),
                Some(Err((486, _))) => is_busy = true,
                Some(Err(_)) => refusal = (480, None),
                None => {}
            }
            let Some(party) = hop.party() else { continue };
            match party {
                Party::User(..) => {}
                Party::Line(line, _) if self.is_line_full(*line) => {
                    refusal = (503, Some("rejected"));
                }
                Party::Trunk(trunk, _) if self.is_trunk_full(*trunk, 1) => {
                    refusal = (503, Some("rejected"));
                }
                Party::Trunk(..) | Party::Line(..) => {
                    let target = match party {
                        Party::Line(line, _) => self.line_target(now, *line, &hop, number),
                        Party::Trunk(trunk, _) => self.trunk_target(now, *trunk, &hop, number),
                        Party::User(..) => None,
                    };
                    if let Some(mut target) = target {
                        target.alternatives =
                            (!alternatives.hops.is_empty()).then(|| Box::new(alternatives));
                        return Ok(vec![target].into());
                    }
                    refusal = (503, Some("failed"));
                }
            }
        }
        if is_busy {
            refusal = (486, None);
        }
        Err(refusal)
    }

    /// Addresses that cannot be reached are tried after all others, and not left out: what we know may be out of date.
    fn living_first(&self, now: Now, hops: &mut [Hop]) {
        // The next one stands last.
        hops.sort_by_key(|hop| match &hop.to {
            HopTo::Group(_) | HopTo::Party(Party::User(..)) => true,
            HopTo::Party(Party::Line(id, _)) => {
                let transport = self.line(*id).map(|line| line.transport);
                let way = transport
                    .zip(hop.way)
                    .map(|(transport, address)| Candidate { transport, address });
                !way.is_some_and(|way| self.places.is_failed(now.mono, way))
            }
            HopTo::Party(Party::Trunk(id, _)) => {
                let trunk = self.config.trunks.get(id.0 as usize);
                trunk.is_some_and(|trunk| {
                    (trunk.addresses.get(hop.address)).is_some_and(|address| {
                        let address = peers::socket_address(address);
                        self.reach.is_living(now.mono, trunk.transport, address)
                    })
                })
            }
        });
    }

    /// Whether a trunk has all the calls that it may have, from it (`way` 0) or to it (1).
    pub(super) fn is_trunk_full(&self, trunk: TrunkId, way: usize) -> bool {
        let calls = self.calls.calls_of_trunk(trunk);
        let limits = (self.config.trunks.get(trunk.0 as usize))
            .map(|trunk| [trunk.calls_in_max, trunk.calls_out_max])
            .unwrap_or_default();
        match (calls.get(way), limits.get(way).copied().flatten()) {
            (Some(calls), Some(limit)) => *calls as usize >= limit,
            _ => false,
        }
    }

    /// A number at an address of a trunk, if there is a way to it.
    fn trunk_target(&mut self, now: Now, id: TrunkId, hop: &Hop, number: &[u8]) -> Option<Target> {
        let trunk = self.config.trunks.get(id.0 as usize)?;
        let peer = peers::socket_address(trunk.addresses.get(hop.address)?);
        let transport = trunk.transport;
        let flow = self.flow_to(now, peer, transport)?;
        let trunk = self.config.trunks.get(id.0 as usize)?;
        let is_tel = trunk.uri_format == UriFormat::Tel && is_telephone_number(number);
        let mut uri = match is_tel {
            true => [b"tel:", number].concat(),
            false => request_uri(number, &flow),
        };
        uri.extend_from_slice(trunk.request_uri_parameters.as_bytes());
        let to = Identity {
            user: number.to_vec(),
            host: (!is_tel).then(|| crate::message::uri::host_text(flow.remote.ip())),
            is_tel,
            ..Identity::default()
        };
        let way = (flow, self.contact_address(&flow));
        Some(Target {
            caller_id: trunk
                .caller_id
                .as_ref()
                .map(|number| number.as_bytes().into()),
            ..Target::at(way, hop.party()?.clone(), uri, to)
        })
    }
}

/// What can stand in a tel URI as it is (RFC 3966 §3). `#` is no byte of a URI; escaped, few would read it.
pub(super) fn is_telephone_number(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"+").unwrap_or(number);
    !digits.is_empty()
        && digits
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'*')
}
