//! Random programs of whatever two sides and other programs may do.

use proptest::prelude::*;

use super::*;

const HOSTS: [&str; 6] = [
    "198.51.100.10",
    "198.51.100.20",
    "10.0.0.5",
    "0.0.0.0",
    "192.0.2.1",
    "2001:db8::7",
];

fn streams() -> impl Strategy<Value = Vec<Stream>> {
    let one = (0..HOSTS.len(), 0u16..4, any::<bool>()).prop_map(|(own, port, is_audio)| Stream {
        is_audio,
        port: port * 5_000,
        address: Some(host(HOSTS[own])),
        ..stream("198.51.100.10:1")
    });
    prop::collection::vec(one, 0..SDP_STREAMS_MAX + 3)
}

#[derive(Clone, Debug)]
enum Step {
    Begin(bool),
    Describe(usize, bool, bool, Vec<Stream>),
    Hear(u32, bool, usize, u16, Vec<u8>),
    Withdraw(usize),
    Open(usize),
    Failed(u32, bool),
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<bool>().prop_map(Step::Begin),
        (0usize..4, any::<bool>(), any::<bool>(), streams())
            .prop_map(|(id, side, exchange, said)| Step::Describe(id, side, exchange, said)),
        (
            0u32..12,
            any::<bool>(),
            0..HOSTS.len(),
            0u16..4,
            prop::collection::vec(any::<u8>(), 0..16)
        )
            .prop_map(|(pair, is_rtp, from, port, packet)| Step::Hear(
                pair,
                is_rtp,
                from,
                port * 5_000,
                packet
            )),
        (0usize..4).prop_map(Step::Withdraw),
        (0usize..4).prop_map(Step::Open),
        (0u32..12, any::<bool>()).prop_map(|(pair, is_taken)| Step::Failed(pair, is_taken)),
        (0usize..4).prop_map(Step::End),
    ]
}

/// What the shell would have open by now.
fn keep_open(out: &mut Outputs, open: &mut std::collections::BTreeMap<MediaPair, u16>) {
    for output in out.iter() {
        match output {
            crate::action::Output::OpenMedia { pair, address } => {
                assert!(!open.values().any(|port| *port == address.port()));
                assert_eq!(open.insert(pair, address.port()), None);
            }
            crate::action::Output::CloseMedia { pair } => assert!(open.remove(&pair).is_some()),
            other => panic!("{other:?}"),
        }
    }
    out.clear();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever two sides say and send: a port is open once, a packet leaves by an open pair and to nobody who cannot
    /// be meant, and in the end every port is given back.
    #[test]
    fn ports_are_neither_lost_nor_shared(steps in prop::collection::vec(step(), 0..60)) {
        let mut media = media("[media]\nports = 20000-20063");
        let mut out = Outputs::default();
        let mut open = std::collections::BTreeMap::new();
        let mut ids = Vec::new();
        for (ms, step) in steps.into_iter().enumerate() {
            let now = at(ms as u64);
            let id = |index: usize| ids.get(index).copied();
            match step {
                Step::Begin(is_open) if ids.len() < 4 => {
                    ids.push(media.begin(now, [place(ALICE, is_open), place(BOB, false)], is_open));
                }
                Step::Begin(_) => {}
                Step::Describe(index, is_caller, is_offer, said) => {
                    let Some(id) = id(index) else { continue };
                    let side = if is_caller { Side::Caller } else { Side::Callee };
                    let who = (side, host(if is_caller { ALICE } else { BOB }));
                    let exchange = if is_offer { Exchange::Offer } else { Exchange::Answer };
                    let before = media.counts();
                    if media.describe(now, id, who, &said, exchange, &mut out).is_err() {
                        assert_eq!(media.counts(), before);
                        continue;
                    }
                    if let Some((_, ports)) = media.show(id, side, &said, &mut out) {
                        keep_open(&mut out, &mut open);
                        for port in ports.into_iter().flatten().filter(|port| *port != 0) {
                            assert!(open.values().any(|own| *own == port), "{port} is not open");
                        }
                    }
                }
                Step::Hear(pair, is_rtp, from, port, packet) => {
                    let component = if is_rtp { Rtp } else { RtcpPort };
                    let from = SocketAddr::new(host(HOSTS[from]), port);
                    let way = media.forward(now, (MediaPair(pair), component), from, &packet);
                    if let Some(way) = way {
                        assert!(open.contains_key(&MediaPair(pair)));
                        assert!(open.contains_key(&way.pair));
                        assert!(!way.remote.ip().is_unspecified() && way.remote.is_ipv4());
                    }
                }
                Step::Withdraw(index) => id(index).into_iter().for_each(|id| media.withdraw(id)),
                Step::Open(index) => id(index).into_iter().for_each(|id| media.open(now, id)),
                Step::Failed(pair, is_taken) => {
                    media.failed(now, MediaPair(pair), is_taken);
                }
                Step::End(index) => {
                    if let Some(id) = id(index) {
                        media.end(id, &mut out);
                        ids.remove(index);
                    }
                }
            }
            keep_open(&mut out, &mut open);
            assert_eq!(media.counts()[2], open.len());
        }
        for id in ids {
            media.end(id, &mut out);
        }
        keep_open(&mut out, &mut open);
        assert!(open.is_empty());
        assert_eq!(media.counts(), [0, 0, 0]);
    }
}
