//! Which record of a service comes first: weights of SRV (RFC 2782), order and preference of NAPTR (RFC 3403, RFC 3263 §4.1).

use super::name::Name;
use super::wire::{Naptr, Srv};
use crate::source::Transport;
use crate::token::Tokens;

/// What a domain's NAPTR records say about SIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Services {
    /// Where to ask for SRV records, in order.
    Some(Vec<(Transport, Name)>),
    /// SIP is offered, but over no transport that we have.
    NotOurs,
    /// Nothing.
    Unsaid,
}

/// The services that we can use, over this transport if it is settled: then a domain that offers only others says nothing. Of
/// those with the lowest order only: the others are for those who can do none of them.
pub(super) fn services<'a>(
    records: impl Iterator<Item = &'a Naptr>,
    wanted: Option<Transport>,
) -> Services {
    let mut ours = Vec::new();
    let mut is_offered = false;
    for record in records {
        let service = record.service.to_ascii_uppercase();
        is_offered |= service.starts_with(b"SIP+") || service.starts_with(b"SIPS+");
        let transport = match &*service {
            b"SIP+D2U" => Transport::Udp,
            b"SIP+D2T" => Transport::Tcp,
            _ => continue,
        };
        let leads_to_srv = record.flags.eq_ignore_ascii_case(b"s") && !record.has_regexp;
        let is_wanted = wanted.is_none_or(|wanted| wanted == transport);
        if is_wanted && leads_to_srv && !record.replacement.is_root() {
            ours.push((transport, record));
        }
    }
    ours.sort_by_key(|(_, record)| (record.order, record.preference));
    let order = ours.first().map(|(_, record)| record.order);
    ours.retain(|(_, record)| Some(record.order) == order);
    match (ours.is_empty(), is_offered) {
        (false, _) => Services::Some(
            ours.into_iter()
                .map(|(transport, record)| (transport, record.replacement.clone()))
                .collect(),
        ),
        (true, true) if wanted.is_none() => Services::NotOurs,
        (true, _) => Services::Unsaid,
    }
}

/// The records in the order in which they are tried: by priority, and among equals drawn by weight as RFC 2782 says.
pub(super) fn draw(mut records: Vec<Srv>, tokens: &mut Tokens) -> Vec<Srv> {
    // Those without weight stand first, where only a draw of zero meets them.
    records.sort_by_key(|record| (record.priority, record.weight > 0));
    let mut drawn = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let equals = records
            .iter()
            .take_while(|record| record.priority == priority);
        let sums = equals.scan(0u64, |sum, record| {
            *sum = sum.saturating_add(record.weight.into());
            Some(*sum)
        });
        let sums: Vec<u64> = sums.collect();
        let total = sums.last().copied().unwrap_or(0);
        let draw = tokens
            .next_u64()
            .checked_rem(total.saturating_add(1))
            .unwrap_or(0);
        let index = sums.iter().position(|sum| *sum >= draw).unwrap_or(0);
        drawn.push(records.remove(index));
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn srv(priority: u16, weight: u16, port: u16) -> Srv {
        Srv {
            priority,
            weight,
            port,
            host: name("host"),
        }
    }

    fn ports(records: &[Srv]) -> Vec<u16> {
        records.iter().map(|record| record.port).collect()
    }

    #[test]
    fn weights_are_shares() {
        let mut tokens = Tokens::new(&[7; 32], "srv");
        let records = vec![srv(1, 0, 1), srv(1, 10, 2), srv(1, 30, 3), srv(1, 60, 4)];
        let mut firsts = [0u32; 5];
        for _ in 0..10_000 {
            firsts[usize::from(draw(records.clone(), &mut tokens)[0].port)] += 1;
        }
        // 1, 10, 30 and 60 of 101 draws, give or take five standard deviations.
        for (port, share) in [(1, 1.0), (2, 10.0), (3, 30.0), (4, 60.0)] {
            let p: f64 = share / 101.0;
            let (mean, deviation) = (10_000.0 * p, (10_000.0 * p * (1.0 - p)).sqrt());
            let off = (f64::from(firsts[port]) - mean).abs();
            assert!(off < 5.0 * deviation, "{port}: {firsts:?}");
        }
    }

    #[test]
    fn equals_without_weight_stay_as_they_came() {
        let mut tokens = Tokens::new(&[7; 32], "srv");
        let records = vec![srv(1, 0, 1), srv(1, 0, 2)];
        assert_eq!(ports(&draw(records, &mut tokens)), [1, 2]);
        assert_eq!(draw(Vec::new(), &mut tokens), []);
    }

    proptest! {
        #[test]
        fn every_record_is_drawn_once_and_by_priority(
            values in proptest::collection::vec((0u16..4, any::<u16>()), 0..32), seed in any::<u8>()
        ) {
            let mut tokens = Tokens::new(&[seed; 32], "srv");
            let records: Vec<Srv> = (values.iter().enumerate())
                .map(|(n, &(priority, weight))| srv(priority, weight, n as u16))
                .collect();
            let drawn = draw(records.clone(), &mut tokens);
            prop_assert!(drawn.is_sorted_by_key(|record| record.priority));
            let mut all = ports(&drawn);
            all.sort_unstable();
            prop_assert_eq!(all, ports(&records));
        }
    }

    fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Naptr {
        Naptr {
            order,
            preference,
            flags: (*b"S").into(),
            service: service.as_bytes().into(),
            has_regexp: false,
            replacement: name(replacement),
        }
    }

    #[test]
    fn services_that_we_have_come_by_order_and_preference() {
        let records = [
            naptr(10, 1, "SIPS+D2T", "tls"),
            naptr(30, 1, "SIP+D2U", "later"),
            naptr(20, 60, "sip+d2u", "udp"),
            naptr(20, 50, "SIP+D2T", "tcp"),
            naptr(1, 1, "E2U+sip", "enum"),
        ];
        let expected = vec![(Transport::Tcp, name("tcp")), (Transport::Udp, name("udp"))];
        assert_eq!(services(records.iter(), None), Services::Some(expected));
        assert_eq!(services(records[..1].iter(), None), Services::NotOurs);
        assert_eq!(services(records[4..].iter(), None), Services::Unsaid);
        for (wanted, expected) in [(Transport::Udp, "udp"), (Transport::Tcp, "tcp")] {
            let expected = Services::Some(vec![(wanted, name(expected))]);
            assert_eq!(services(records.iter(), Some(wanted)), expected);
            assert_eq!(
                services(records[..1].iter(), Some(wanted)),
                Services::Unsaid
            );
        }
        // The lowest order of those that fit.
        let later = Services::Some(vec![(Transport::Udp, name("later"))]);
        let records = [&records[1], &records[3]];
        assert_eq!(services(records.into_iter(), Some(Transport::Udp)), later);
    }

    #[test]
    fn services_that_lead_to_no_srv_are_left_out() {
        let mut flagged = naptr(1, 1, "SIP+D2U", "x");
        flagged.flags = (*b"u").into();
        let mut rewriting = naptr(1, 1, "SIP+D2U", "x");
        rewriting.has_regexp = true;
        assert_eq!(
            services([flagged, rewriting].iter(), None),
            Services::NotOurs
        );
    }
}
