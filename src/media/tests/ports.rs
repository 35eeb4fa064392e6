//! Which ports a relay takes, when it gives them back, and how little memory it takes beside.

use super::*;

#[test]
fn ports_are_pairs_at_random_and_are_given_back() {
    let mut call = Call::begin(
        "[media]\nports = 20001-20010",
        [place(ALICE, false), place(BOB, false)],
        true,
    );
    let video = Stream {
        is_audio: false,
        ..stream("198.51.100.10:4002")
    };
    let shown = call.say(
        Side::Caller,
        &[stream("198.51.100.10:4000"), video],
        Exchange::Offer,
        0,
    );
    // 20002 to 20009: four pairs.
    assert!(
        shown
            .iter()
            .flatten()
            .all(|port| port % 2 == 0 && (20_002..=20_008).contains(port))
    );
    assert_eq!(call.media.counts(), [1, 4, 2]);
    let other = call
        .media
        .begin(at(0), [place(ALICE, false), place(BOB, false)], true);
    let who = (Side::Caller, host(ALICE));
    let one = [stream("198.51.100.10:4000")];
    let mut out = Outputs::default();
    let full = call
        .media
        .describe(at(0), other, who, &one, Exchange::Offer, &mut out);
    assert_eq!(full, Err(Full));
    // Video is refused: there is room, once nobody else can take it.
    let refused = Stream { port: 0, ..video };
    let bob = [stream("198.51.100.20:5000"), refused];
    call.say(Side::Callee, &bob, Exchange::Preview, 1);
    assert_eq!(call.media.counts(), [2, 4, 3]);
    call.media.answered(call.id, &mut call.out);
    call.say(
        Side::Callee,
        &[stream("198.51.100.20:5000"), refused],
        Exchange::Answer,
        1,
    );
    assert_eq!(call.media.counts(), [2, 2, 2]);
    let fits = call
        .media
        .describe(at(2), other, who, &one, Exchange::Offer, &mut out);
    assert_eq!((fits, call.media.counts()), (Ok(()), [2, 4, 2]));
    // It can come back once there are ports again.
    call.media.end(other, &mut out);
    call.say(
        Side::Caller,
        &[stream("198.51.100.10:4000"), video],
        Exchange::Offer,
        3,
    );
    call.say(
        Side::Callee,
        &[stream("198.51.100.20:5000"), video],
        Exchange::Answer,
        3,
    );
    assert_eq!(call.media.counts(), [1, 4, 4]);
    call.media.end(call.id, &mut call.out);
    call.media.end(call.id, &mut call.out);
    assert_eq!(call.media.counts(), [0, 0, 0]);
    // Each that was opened was closed, in that order.
    let mut open = Vec::new();
    for output in call.out.iter() {
        match output {
            crate::action::Output::OpenMedia { pair, address } => {
                assert!(!open.contains(&pair));
                assert_eq!(address.ip(), host("192.0.2.1"));
                open.push(pair);
            }
            crate::action::Output::CloseMedia { pair } => open.retain(|own| *own != pair),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(open, []);
}

#[test]
fn a_port_that_another_program_has_is_left_alone() {
    let mut call = Call::begin(
        "[media]\nports = 20000-20003",
        [place(ALICE, false), place(BOB, false)],
        true,
    );
    call.say(
        Side::Caller,
        &[stream("198.51.100.10:4000")],
        Exchange::Offer,
        0,
    );
    let pair = call.pair(Side::Callee, 0);
    assert_eq!(call.media.failed(at(1), pair, true), Some((call.id, false)));
    assert_eq!(call.media.failed(at(1), MediaPair(77), true), None);
    call.media.end(call.id, &mut call.out);
    // Two ports for the two sides are not left.
    let id = call
        .media
        .begin(at(2), [place(ALICE, false), place(BOB, false)], true);
    let one = [stream("198.51.100.10:4000")];
    let who = (Side::Caller, host(ALICE));
    let full = call
        .media
        .describe(at(2), id, who, &one, Exchange::Offer, &mut call.out);
    assert_eq!(full, Err(Full));
    assert_eq!(call.media.counts(), [1, 0, 0]);
}

#[test]
fn streams_of_one_bundle_have_one_port() {
    let mut call = Call::begin("", [place(ALICE, false), place(BOB, false)], true);
    let video = Stream {
        is_audio: false,
        ..stream("198.51.100.10:4000")
    };
    let both = [stream("198.51.100.10:4000"), video];
    let shown = call.say(Side::Caller, &both, Exchange::Offer, 0);
    assert_eq!(shown[0], shown[1]);
    let shown = call.say(
        Side::Callee,
        &[stream("198.51.100.20:5000"), stream("198.51.100.20:5002")],
        Exchange::Answer,
        0,
    );
    assert_ne!(shown[0], shown[1]);
}

/// What a relay with one stream takes here, with the room that tables keep for more.
#[test]
fn a_relayed_call_takes_little_memory() {
    const CALLS: usize = 1_000;
    let mut media = media("[media]\nports = 10000-20000");
    let sides = [
        (Side::Caller, stream("198.51.100.10:4000"), Exchange::Offer),
        (Side::Callee, stream("198.51.100.20:5000"), Exchange::Answer),
    ];
    let mut ids = Vec::with_capacity(CALLS);
    let mut out = Outputs::default();
    let info = allocation_counter::measure(|| {
        for _ in 0..CALLS {
            let id = media.begin(at(0), [place(ALICE, false), place(BOB, false)], true);
            for (side, said, exchange) in sides {
                let who = (side, said.address.unwrap());
                let told = media.describe(at(0), id, who, &[said], exchange, &mut out);
                assert_eq!(told, Ok(()));
                assert!(media.show(id, side, &[said], &mut out).is_some());
            }
            out.clear();
            ids.push(id);
        }
    });
    assert_eq!(media.counts(), [CALLS, 2 * CALLS, 2 * CALLS]);
    let each = info.bytes_current as usize / CALLS;
    assert!((300..=1_300).contains(&each), "{each} bytes");
    // A packet takes none.
    let pair = MediaPair(0);
    let info = allocation_counter::measure(|| {
        let from = address("198.51.100.20:5000");
        assert!(media.forward(at(1), (pair, Rtp), from, &rtp(1)).is_some());
    });
    assert_eq!(info.count_total, 0);
}
