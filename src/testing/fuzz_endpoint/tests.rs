//! That programs reach what they are for, and random ones.

use super::*;
use crate::testing::random::Random;

fn live(program: &Program<'_>) -> usize {
    program.world.endpoint.census().calls_live
}

#[test]
fn what_has_happened_before_has() {
    let states = BEFORE.map(|before| {
        let program = Program::after(false, before);
        let up = (program.world.records.values()).any(|(up, over, _)| (*up, *over) == (1, 0));
        let bindings = program.world.endpoint.census().bindings;
        (bindings, live(&program), up)
    });
    let expected = [
        (0, 0, false),
        (2, 0, false),
        (3, 0, false),
        (2, 1, false),
        (2, 1, true),
        (3, 1, false),
        (2, 1, true),
        (2, 1, true),
        (2, 1, true),
    ];
    assert_eq!(states, expected);
}

#[test]
fn names_are_within_reach() {
    // An administrator's step, 15, of which some are about names: the name server falls silent, all is asked again.
    let mut program = Program::after(false, &[&[0, 5]]);
    let asked = program.world.name_server.asked.len();
    let known = program.world.endpoint.census().names_known;
    program.play(&[15, 0x27, 15, 0x0f, 0, 2]);
    assert!(program.world.name_server.asked.len() > asked);
    assert_eq!((known, program.world.endpoint.census().names_asked), (2, 1));
    // Bytes on the socket of a query: from the name server, from somebody else.
    program.play(&[15, 0x17, 3, 1, 2, 3, 15, 0x1f, 3, 1, 2, 3]);
    assert_eq!(program.world.endpoint.census().names_asked, 1);
    program.check_end();
    assert_eq!(program.world.endpoint.census().names_asked, 0);
}

#[test]
fn a_call_is_within_reach() {
    let mut program = Program::after(false, &[REGISTERED, RINGING, &[0, 5], ANSWERED, &[0, 5]]);
    assert_eq!(live(&program), 1);
    // Alice's BYE, bob's 200.
    program.play(&[3, 0, 2, 0, 0, 7, 1, 3, 0]);
    assert_eq!((live(&program), program.world.ended.len()), (0, 1));
    program.check_end();
}

#[test]
fn a_transfer_is_within_reach() {
    // Bob sends alice to the user by address, who answers; alice takes the fresh offer.
    let mut program = Program::after(false, &[REGISTERED, RINGING, ANSWERED]);
    program.play(&[21, 1, 0, 4, 7, 3, 3, 1, 7, 0, 3, 1]);
    let transferred = |program: &Program<'_>| {
        let mut records = program.world.records.values();
        records.any(|(up, _, record)| *up == 1 && record.transferred_by.is_some())
    };
    assert!(transferred(&program));
    program.check_end();
    // And to whom bob has called meanwhile: his first call, with Replaces of his last.
    let mut program = Program::after(false, &[REGISTERED, RINGING, ANSWERED]);
    program.play(&[3, 1, 0, 4, 0, 7, 3, 3, 1, 3, 1, 3, 0, 0]);
    assert_eq!((live(&program), transferred(&program)), (2, false));
    program.play(&[21, 1, 17, 4]);
    assert_eq!((live(&program), transferred(&program)), (1, true));
    program.check_end();
}

#[test]
fn a_pickup_is_within_reach() {
    // The user by address takes what rings at bob: by the code, or by a Replaces of bob's call. It is his with his ACK.
    for take in [&[3, 3, 0, 13, 0][..], &[22, 3, 1, 0]] {
        let mut program = Program::after(false, &[REGISTERED, RINGING]);
        program.play(take);
        program.play(&[3, 3, 3, 0, 0]);
        let mut records = program.world.records.values();
        let taken = records.find(|(up, ..)| *up == 1).map(|kept| &kept.2);
        let by = taken.and_then(|record| record.answered_by.as_deref());
        assert_eq!(by, Some("900"), "{take:?}");
        program.check_end();
    }
}

#[test]
fn relays_are_within_reach() {
    let mut program = Program::after(true, &[REGISTERED, RINGING, ANSWERED]);
    assert_eq!(program.world.media_ports().len(), 2);
    // Alice's packet comes to bob through the port that she was shown, through no other, and a stranger's to nobody.
    let mut heard = 0;
    for packet in [&[20, 0, 0][..], &[20, 0, 8], &[20, 5, 0], &[20, 5, 8]] {
        program.data = packet;
        program.step();
        let until = program.world.now().mono.plus(Duration::from_secs(1));
        while let Some(delivery) = program.world.run(until) {
            heard += usize::from(matches!(delivery.seen, Seen::Media(_)));
        }
    }
    assert_eq!(heard, 1);
    program.check_end();
}

#[test]
fn a_subscription_is_within_reach() {
    let mut program = Program::after(false, &[REGISTERED]);
    let subscriptions = |program: &Program<'_>| program.world.endpoint.census().subscriptions;
    // Challenged, then with credentials; its NOTIFY is answered.
    program.play(&[23, 0, 0, 2, 7, 0, 3, 0]);
    assert_eq!(subscriptions(&program), 1);
    program.play(&[23, 0, 12, 0, 7, 0, 3, 0, 0, 5]);
    assert_eq!(subscriptions(&program), 0);
    program.check_end();
}

#[test]
fn messages_come_in_pieces() {
    let bindings = |program: &Program<'_>| program.world.endpoint.census().bindings;
    // A REGISTER over TCP is challenged; the one with credentials comes in two pieces.
    let mut program = Program::after(false, &[&[3, 2, 1, 0, 0], &[17, 1, 0, 40], &[0, 5]]);
    assert_eq!(bindings(&program), 0);
    program.play(&[18]);
    assert_eq!(bindings(&program), 1);
}

/// Steps that lead somewhere: calls, answers, ends. Random bytes alone would seldom agree on who is called by whom.
const FRAGMENTS: [&[u8]; 84] = [
    &[3, 0, 0, 2, 0], // alice: INVITE sip:bob@pbx
    &[3, 0, 0, 2, 1], // without an offer
    &[3, 1, 0, 3, 0], // bob: INVITE sip:alice@pbx
    &[3, 4, 0, 2, 0], // trunk: INVITE sip:bob@pbx
    &[3, 0, 0, 5, 0], // alice: INVITE sip:9030@pbx
    &[3, 3, 0, 3, 0], // user by address: INVITE sip:alice@pbx
    &[3, 0, 0, 0, 0], // re-INVITE, or INVITE with credentials
    &[3, 1, 0, 0, 0], // bob: re-INVITE
    &[3, 1, 0, 0, 1], // without an offer
    &[3, 0, 2, 0, 0], // BYEs
    &[3, 1, 2, 0, 0],
    &[3, 4, 2, 0, 0],
    &[3, 0, 3, 0, 0], // ACKs
    &[3, 1, 3, 0, 0],
    &[3, 4, 3, 0, 0],
    &[3, 0, 4, 0, 0], // CANCELs
    &[3, 1, 4, 0, 0],
    &[7, 1, 3, 1], // bob: 200 to INVITE
    &[7, 1, 3, 0], // 200 to whatever is open
    &[7, 0, 3, 0],
    &[7, 2, 3, 0],
    &[7, 4, 3, 0],
    REGISTERED_TCP,
    &[3, 0, 7, 0, 2], // INFO
    INCOMING,
    &[17, 0, 1, 7], // cut, and the rest
    &[18],
    &[16, 0, 0],      // alice's last from a stranger
    &[16, 1, 34],     // bob's from another port of bob's
    &[16, 0, 131],    // alice's next from another port
    &[3, 0, 0, 2, 6], // INVITEs with 100rel, supported and required
    &[3, 0, 0, 2, 9],
    &[3, 0, 0, 2, 4], // without an offer
    &[7, 1, 2, 10],   // bob: reliable 183, RSeq 3, 4, 5; in another dialog; 180 without SDP
    &[7, 1, 2, 14],
    &[7, 1, 2, 18],
    &[7, 1, 2, 6],
    &[7, 1, 1, 46],
    &[7, 4, 2, 10],   // the trunk
    &[3, 0, 9, 0, 0], // alice: PRACK, with a body
    &[3, 0, 9, 0, 0],
    &[3, 0, 9, 0, 2],
    &[3, 4, 9, 0, 0], // the trunk
    &[3, 0, 6, 0, 2], // UPDATEs
    &[3, 1, 6, 0, 2],
    ON_LINE,
    &[3, 0, 0, 1, 0], // alice: INVITE sip:8030@pbx
    &[3, 6, 0, 2, 0], // line: INVITE sip:bob@pbx
    &[3, 6, 2, 0, 0], // BYE
    &[3, 6, 3, 0, 0], // ACK
    &[7, 6, 3, 1],    // 200 to INVITE
    &[7, 6, 3, 0],    // to whatever is open
    &[7, 6, 1, 1],    // 180
    &[7, 6, 2, 10],   // a reliable 183
    &[7, 6, 6, 0],    // 407
    &[7, 6, 8, 4],    // 401, another nonce
    &[7, 6, 8, 72],   // 401, stale
    &[16, 6, 0],      // the line's last from a stranger
    &[16, 6, 98],     // and from another port of the line's
    &[7, 1, 8, 4],    // bob: 401
    &[21, 1, 0, 4],   // bob: REFER to 900, alice: to bob, to the group, to nobody, to the trunk
    &[21, 0, 0, 2],
    &[21, 0, 0, 8],
    &[21, 1, 8, 6],
    &[21, 1, 4, 5],
    &[21, 1, 49, 4], // bob: REFER in his first call with Replaces of his last
    &[21, 0, 17, 4], // alice
    &[21, 0, 3, 2, 1],
    &[7, 0, 3, 1], // alice, user by address: 200 to INVITE
    &[7, 3, 3, 1],
    &[7, 3, 1, 1],
    &[3, 1, 0, 4, 0],  // bob: INVITE sip:900@pbx
    &[3, 0, 0, 8, 0],  // alice: the group
    &[3, 1, 0, 12, 0], // pickups: bob, user by address
    &[3, 3, 0, 12, 0],
    &[3, 3, 0, 13, 0],
    &[3, 3, 0, 14, 1],
    &[22, 3, 1, 0], // user by address: Replaces of bob's call
    &[22, 0, 1, 4],
    &[23, 0, 0, 2], // alice: SUBSCRIBE to bob, and no more
    &[23, 0, 12, 0],
    &[3, 1, 0, 15, 0], // bob: no calls, calls again
    &[3, 1, 0, 16, 0],
    &[20, 0, 0, 20, 1, 1, 20, 4, 5, 20, 6, 16], // media
];

#[test]
fn random_programs() {
    let cases = std::env::var("CASES").ok();
    let cases = cases.and_then(|text| text.parse().ok()).unwrap_or(300);
    for seed in 0..cases {
        let mut random = Random::new(seed);
        // Mostly registered phones first, so that the rest is not all challenges.
        let mut data = vec![random.below(2 * BEFORE.len() as u64) as u8];
        let steps = random.between(5, 60);
        for _ in 0..steps {
            if random.chance(800) {
                let index = random.below(FRAGMENTS.len() as u64) as usize;
                data.extend_from_slice(FRAGMENTS[index]);
            } else if random.chance(600) {
                data.extend_from_slice(&[0, random.below(10) as u8]);
            } else {
                data.extend((0..6).map(|_| random.next_u64() as u8));
            }
        }
        let result = std::panic::catch_unwind(|| endpoint(&data));
        assert!(result.is_ok(), "seed {seed}: {data:?}");
    }
}
