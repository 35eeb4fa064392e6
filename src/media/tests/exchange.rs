//! Offers that are refused in the end, forks, and how much a description may take.

use super::*;

fn video(address: &str) -> Stream {
    Stream {
        is_audio: false,
        ..stream(address)
    }
}

/// Where media for Alice goes.
fn to_alice(call: &mut Call) -> Option<SocketAddr> {
    call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(2), 9)
}

#[test]
fn an_early_answer_to_an_offer_that_is_refused_holds_no_longer() {
    let (next, other) = ("198.51.100.10:8000", "198.51.100.10:6000");
    let bob = [stream("198.51.100.20:5000")];
    for is_refused in [true, false] {
        let mut call = Call::talk("");
        call.media.answered(call.id, &mut call.out);
        call.hear(Side::Caller, Rtp, "198.51.100.10:4040", &rtp(1), 1);
        call.say(Side::Caller, &[stream(other)], Exchange::Offer, 1);
        for _ in 0..2 {
            call.say(Side::Callee, &bob, Exchange::Preview, 2);
            assert_eq!(to_alice(&mut call), Some(address(other)));
        }
        if is_refused {
            call.media.withdraw(call.id);
            // Where it was heard before, too.
            assert_eq!(to_alice(&mut call), Some(address("198.51.100.10:4040")));
        } else {
            call.say(Side::Callee, &bob, Exchange::Answer, 2);
            call.media.withdraw(call.id);
            assert_eq!(to_alice(&mut call), Some(address(other)));
        }
        // Another offer says that the one before was answered.
        call.say(Side::Caller, &[stream(next)], Exchange::Offer, 3);
        call.say(Side::Callee, &bob, Exchange::Preview, 3);
        call.say(Side::Caller, &[stream(other)], Exchange::Offer, 4);
        call.media.withdraw(call.id);
        assert_eq!(to_alice(&mut call), Some(address(next)));
    }
}

#[test]
fn what_one_fork_refuses_another_may_take() {
    let mut call = Call::begin("", [place(ALICE, false), place(BOB, false)], true);
    let both = [stream("198.51.100.10:4000"), video("198.51.100.10:4002")];
    call.say(Side::Caller, &both, Exchange::Offer, 0);
    let refused = Stream { port: 0, ..both[1] };
    let audio = stream("198.51.100.20:5000");
    for exchange in [Exchange::Preview, Exchange::Answer] {
        let shown = call.say(Side::Callee, &[audio, refused], exchange, 1);
        assert!(shown[0].is_some() && shown[1].is_none());
    }
    let other = [audio, video("198.51.100.20:5002")];
    let shown = call.say(Side::Callee, &other, Exchange::Answer, 2);
    assert!(shown.iter().all(|port| port.is_some_and(|port| port != 0)));
    call.media.answered(call.id, &mut call.out);
    assert_eq!(call.media.counts(), [1, 4, 4]);
}

#[test]
fn of_many_streams_the_first_few_are_relayed() {
    let mut call = Call::begin("", [place(ALICE, false), place(BOB, false)], true);
    let many: Vec<Stream> = (0..SDP_STREAMS_MAX)
        .map(|index| video(&format!("198.51.100.10:{}", 4000 + 2 * index)))
        .collect();
    let shown = call.say(Side::Caller, &many, Exchange::Offer, 0);
    assert!(
        shown[..4]
            .iter()
            .all(|port| port.is_some_and(|port| port != 0))
    );
    assert!(shown[4..].iter().all(|port| *port == Some(0)));
    assert_eq!(call.media.counts(), [1, 8, 4]);
    // Whoever answers them all the same is no different.
    let shown = call.say(Side::Callee, &many, Exchange::Answer, 0);
    assert!(shown[4..].iter().all(|port| *port == Some(0)));
    assert_eq!(call.media.counts(), [1, 8, 8]);
}

#[test]
fn an_answer_brings_no_stream_that_was_not_offered() {
    let mut call = Call::begin("", [place(ALICE, false), place(BOB, false)], true);
    let one = [stream("198.51.100.10:4000")];
    call.say(Side::Caller, &one, Exchange::Offer, 0);
    let two = [stream("198.51.100.20:5000"), video("198.51.100.20:5002")];
    let shown = call.say(Side::Callee, &two, Exchange::Answer, 0);
    assert!(shown[0] != Some(0) && shown[1] == Some(0));
    assert_eq!(call.media.counts(), [1, 2, 2]);
}

#[test]
fn ringing_calls_of_one_user_have_a_part_of_the_ports() {
    // 1,024 pairs, of which an eighth.
    let mut media = media("[media]\nports = 20000-22047");
    let mut out = Outputs::default();
    let one = [stream("198.51.100.10:4000")];
    let who = (Side::Caller, host(ALICE));
    let mut ring = |media: &mut Media, user: &str| {
        let id = media.begin(at(0), [place(ALICE, false), place(BOB, false)], true);
        media.rings_for(id, user);
        let result = media.describe(
            at(0),
            id,
            who,
            &one,
            Exchange::Offer,
            &mut Outputs::default(),
        );
        if result.is_err() {
            media.end(id, &mut out);
        }
        result.map(|()| id)
    };
    let first: Vec<MediaId> = (0..64)
        .map(|_| ring(&mut media, "alice").unwrap())
        .collect();
    assert_eq!(ring(&mut media, "alice"), Err(Full));
    assert!(ring(&mut media, "bob").is_ok());
    // Answered calls do not count, ended ones neither.
    let mut out = Outputs::default();
    media.answered(first[0], &mut out);
    assert!(ring(&mut media, "alice").is_ok());
    assert_eq!(ring(&mut media, "alice"), Err(Full));
    media.end(first[0], &mut out);
    assert_eq!(ring(&mut media, "alice"), Err(Full));
    media.end(first[1], &mut out);
    assert!(ring(&mut media, "alice").is_ok());
    first.into_iter().for_each(|id| media.end(id, &mut out));
    assert_eq!(media.ringing.len(), 2);
}
