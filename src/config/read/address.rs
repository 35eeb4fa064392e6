//! `addresses` of users, trunks and lines: who has which, and whether a source's address says who somebody is.
//!
//! Users may share an address, or the very same block, because From tells them apart. Whatever else is shared would leave
//! it open who it is, and so does a block that overlaps another one: each is a mistake, which names both lines.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::{Line, PeerAddress, Prefix, Trunk, User};
use super::value::{self, UserAddress};
use super::{Fields, Reader};
use crate::limits::PEER_BLOCKS_MAX;

/// Who has an address.
struct Owner<'a, 'b> {
    port: Option<u16>,
    fields: &'b Fields<'a>,
}

/// Who has a block.
struct Block<'a, 'b> {
    prefix: Prefix,
    last: u128,
    owners: Vec<&'b Fields<'a>>,
}

type Addresses<'a, 'b> = BTreeMap<IpAddr, Vec<Owner<'a, 'b>>>;
/// By their first addresses; disjoint.
type Blocks<'a, 'b> = BTreeMap<u128, Block<'a, 'b>>;

impl Reader {
    /// The single addresses of a user, and his blocks.
    pub(super) fn user_addresses(
        &mut self,
        fields: &Fields<'_>,
    ) -> (Vec<PeerAddress>, Vec<Prefix>) {
        let (mut addresses, mut blocks) = (Vec::new(), Vec::new());
        for item in self.list(fields, "addresses", value::user_address) {
            match item {
                UserAddress::Address(peer) => addresses.push(peer),
                UserAddress::Block(block) => blocks.push(block),
            }
        }
        (addresses, blocks)
    }

    /// An address belongs to users, to one trunk, or to the lines of one carrier. A trunk may share it with different
    /// ports.
    pub(super) fn check_addresses(
        &mut self,
        sections: &[Fields<'_>],
        all: (&[User], &[Trunk], &[Line]),
    ) {
        let named = named(sections, all);
        let mut addresses = Addresses::new();
        for (fields, peers, _) in &named {
            for peer in *peers {
                self.check_address(&mut addresses, fields, peer);
            }
        }
        let mut blocks = Blocks::new();
        for (fields, _, own) in &named {
            for block in *own {
                self.check_block(&mut blocks, fields, *block);
            }
        }
        if blocks.len() > PEER_BLOCKS_MAX
            && let Some((fields, ..)) = named.iter().rfind(|(_, _, own)| !own.is_empty())
        {
            let text = format!("more than {PEER_BLOCKS_MAX} blocks of all users");
            self.wrong(fields, "addresses", text);
        }
        for (address, owners) in &addresses {
            self.check_in_block(&blocks, *address, owners);
        }
    }

    fn check_address<'a, 'b>(
        &mut self,
        all: &mut Addresses<'a, 'b>,
        fields: &'b Fields<'a>,
        peer: &PeerAddress,
    ) {
        let at = all.entry(peer.address).or_default();
        // Over TCP the port says nothing of who it is.
        let is_tcp = |own: &Fields<'_>| {
            (own.given("transport")).is_some_and(|transport| transport.value == "tcp")
        };
        let overlaps = |other: &Owner<'_, '_>| {
            let is_same = |port: u16| Some(port) == peer.port;
            let is_users = |own: &Fields<'_>| own.spec.kind == "user";
            let by_tcp = is_users(fields) && is_tcp(other.fields)
                || is_users(other.fields) && is_tcp(fields);
            peer.port.is_none() || other.port.is_none_or(is_same) || by_tcp
        };
        // From tells users apart, and what a request asks for tells the lines of a carrier apart.
        let may_share = |other: &Fields<'_>| {
            matches!(fields.spec.kind, "user" | "line")
                && fields.spec.kind == other.spec.kind
                && !std::ptr::eq(fields, other)
        };
        let other = at
            .iter()
            .find(|other| overlaps(other) && !may_share(other.fields))
            .map(|other| other.fields);
        match other {
            Some(other) if std::ptr::eq(other, fields) => {
                self.wrong(fields, "addresses", format!("{peer} is there twice"));
            }
            Some(other) => {
                let line = other.line_of("addresses");
                let text = format!("{peer} is an address of {}, line {line}", other.label);
                self.wrong(fields, "addresses", text);
            }
            None => at.push(Owner {
                port: peer.port,
                fields,
            }),
        }
    }

    fn check_block<'a, 'b>(
        &mut self,
        all: &mut Blocks<'a, 'b>,
        fields: &'b Fields<'a>,
        prefix: Prefix,
    ) {
        let (first, last) = prefix.span();
        let before = all.range_mut(..=last).next_back();
        let Some((_, other)) = before.filter(|(_, other)| other.last >= first) else {
            let owners = vec![fields];
            let block = Block {
                prefix,
                last,
                owners,
            };
            all.insert(first, block);
            return;
        };
        if other.owners.iter().any(|own| std::ptr::eq(*own, fields)) {
            let text = match other.prefix == prefix {
                true => format!("{prefix} is there twice"),
                false => format!("{prefix} and {} overlap", other.prefix),
            };
            self.wrong(fields, "addresses", text);
        } else if other.prefix == prefix {
            other.owners.push(fields);
        } else if let Some(owner) = other.owners.first() {
            let (label, line) = (&owner.label, owner.line_of("addresses"));
            let text = format!("{prefix} overlaps {} of {label}, line {line}", other.prefix);
            self.wrong(fields, "addresses", text);
        }
    }

    /// A single address may lie in a block of its own user only: there it says where he is called.
    fn check_in_block(
        &mut self,
        blocks: &Blocks<'_, '_>,
        address: IpAddr,
        owners: &[Owner<'_, '_>],
    ) {
        let (at, _) = Prefix::of(address).span();
        let before = blocks.range(..=at).next_back();
        let Some((_, block)) = before.filter(|(_, block)| block.last >= at) else {
            return;
        };
        for owner in owners {
            let is_other = |other: &&&Fields<'_>| !std::ptr::eq(**other, owner.fields);
            if let Some(other) = block.owners.iter().find(is_other) {
                let (label, line) = (&other.label, other.line_of("addresses"));
                let text = format!("{address} lies in {} of {label}, line {line}", block.prefix);
                self.wrong(owner.fields, "addresses", text);
            }
        }
    }
}

type Named<'a, 'b> = (&'b Fields<'a>, &'b [PeerAddress], &'b [Prefix]);

/// The addresses and blocks of every user, trunk and line with their sections, in the order of the file.
fn named<'a, 'b>(
    sections: &'b [Fields<'a>],
    (users, trunks, lines): (&'b [User], &'b [Trunk], &'b [Line]),
) -> Vec<Named<'a, 'b>> {
    let (mut users, mut trunks, mut lines) = (users.iter(), trunks.iter(), lines.iter());
    let addresses = |fields: &'b Fields<'a>| match fields.spec.kind {
        "user" => (users.next()).map(|own| (fields, &own.addresses[..], &own.blocks[..])),
        "trunk" => (trunks.next()).map(|own| (fields, &own.addresses[..], &[][..])),
        "line" => (lines.next()).map(|own| (fields, &own.addresses[..], &[][..])),
        _ => None,
    };
    sections.iter().filter_map(addresses).collect()
}
