//! The relay: what is told and shown, heard and sent on.

mod aim;
mod decide;
mod exchange;
mod latch;
mod ports;
mod programs;

use super::*;
use crate::sdp::{Direction, Rtcp};
use crate::source::Component::{Rtcp as RtcpPort, Rtp};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn host(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn config(text: &str) -> Config {
    Config::read_bytes(text.as_bytes(), std::path::Path::new("/tmp/x.ini")).unwrap()
}

fn media(text: &str) -> Media {
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    Media::new(&config(text), Tokens::new(&[7; 32], "media"), hasher)
}

fn place(host_text: &str, is_behind_nat: bool) -> Place {
    let is_v4 = host(host_text).is_ipv4();
    let local = host(if is_v4 { "192.0.2.1" } else { "2001:db8::1" });
    Place {
        host: host(host_text),
        local,
        shown: local,
        scope: 0,
        is_behind_nat,
        trust: Trust::Whole,
    }
}

fn stream(address: &str) -> Stream {
    let address: SocketAddr = address.parse().unwrap();
    Stream {
        is_audio: true,
        is_datagrams: true,
        is_rtp: true,
        port: address.port(),
        address: Some(address.ip()),
        rtcp: None,
        direction: Direction::SendRecv,
    }
}

/// RTP with this SSRC.
fn rtp(ssrc: u8) -> [u8; 12] {
    [0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, ssrc]
}

/// Two sides in a relay, their ports open.
struct Call {
    media: Media,
    out: Outputs,
    id: MediaId,
}

const ALICE: &str = "198.51.100.10";
const BOB: &str = "198.51.100.20";

impl Call {
    fn begin(text: &str, places: [Place; 2], is_open: bool) -> Self {
        let mut media = media(text);
        let id = media.begin(at(0), places, is_open);
        Self {
            media,
            out: Outputs::default(),
            id,
        }
    }

    /// Alice offers, Bob answers, at t = 0.
    fn talk(text: &str) -> Self {
        let mut call = Self::begin(text, [place(ALICE, false), place(BOB, false)], true);
        call.agree(stream("198.51.100.10:4000"), stream("198.51.100.20:5000"));
        call
    }

    /// What the other side is shown.
    fn say(
        &mut self,
        side: Side,
        streams: &[Stream],
        exchange: Exchange,
        ms: u64,
    ) -> Vec<Option<u16>> {
        let session = &self.media.sessions[self.id.index as usize];
        let who = (side, session.place(side).host);
        (self
            .media
            .describe(at(ms), self.id, who, streams, exchange, &mut self.out))
        .unwrap();
        let shown = self.media.show(self.id, side, streams, &mut self.out);
        shown.unwrap().1
    }

    /// Offer and answer of one stream, at the beginning.
    fn agree(&mut self, caller: Stream, callee: Stream) {
        self.say(Side::Caller, &[caller], Exchange::Offer, 0);
        self.say(Side::Callee, &[callee], Exchange::Answer, 0);
    }

    fn pair(&self, side: Side, stream: usize) -> MediaPair {
        let found = self
            .media
            .pairs
            .iter()
            .find(|(_, owned)| owned.side == side && owned.stream as usize == stream);
        MediaPair(found.expect("an open pair").0 as u32)
    }

    /// Where a packet that comes from there to the port of a side goes.
    fn hear(
        &mut self,
        side: Side,
        component: Component,
        from: &str,
        packet: &[u8],
        ms: u64,
    ) -> Option<SocketAddr> {
        let pair = self.pair(side, 0);
        let forward = (self.media).forward(at(ms), (pair, component), address(from), packet)?;
        assert_eq!(forward.pair, self.pair(side.other(), 0));
        Some(forward.remote)
    }
}

#[test]
fn packets_go_where_the_other_side_says_until_it_is_heard() {
    let mut call = Call::talk("");
    let bob = Some(address("198.51.100.20:5000"));
    assert_eq!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:4000", &rtp(1), 1),
        bob
    );
    let rtcp = [0x80, 200, 0, 1, 0, 0, 0, 1];
    let bobs_rtcp = Some(address("198.51.100.20:5001"));
    assert_eq!(
        call.hear(Side::Caller, RtcpPort, "198.51.100.10:4001", &rtcp, 1),
        bobs_rtcp
    );
    // Bob sends from another port than he says.
    let alice = Some(address("198.51.100.10:4000"));
    assert_eq!(
        call.hear(Side::Callee, Rtp, "198.51.100.20:60000", &rtp(2), 2),
        alice
    );
    let learned = Some(address("198.51.100.20:60000"));
    assert_eq!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:4000", &rtp(1), 3),
        learned
    );
    // STUN, ZRTP and DTLS pass as well.
    for packet in [&b"\x00\x01"[..], b"\x10\x00", b"\x16\xfe"] {
        let to = call.hear(Side::Caller, Rtp, "198.51.100.10:4000", packet, 3);
        assert_eq!(to, learned);
    }
}

#[test]
fn only_the_hosts_of_signalling_and_description_are_heard() {
    let mut call = Call::talk("");
    assert_eq!(
        call.hear(Side::Caller, Rtp, "203.0.113.66:4000", &rtp(9), 1),
        None
    );
    assert_eq!(call.media.dropped(), 1);
    // Bob's media is elsewhere than his signalling.
    call.say(
        Side::Callee,
        &[stream("203.0.113.20:7000")],
        Exchange::Answer,
        2,
    );
    assert!(
        call.hear(Side::Callee, Rtp, "203.0.113.20:7777", &rtp(2), 3)
            .is_some()
    );
    assert!(
        call.hear(Side::Callee, Rtp, "198.51.100.20:9000", &rtp(2), 3)
            .is_some()
    );
    // With latch = any the first comer is.
    let mut call = Call::talk("[media]\nlatch = any");
    assert!(
        call.hear(Side::Caller, Rtp, "203.0.113.66:4000", &rtp(9), 1)
            .is_some()
    );
    assert!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:4000", &rtp(9), 1)
            .is_some()
    );
}

#[test]
fn a_port_is_fixed_after_five_packets_of_one_ssrc_until_the_next_description() {
    let mut call = Call::talk("");
    for ms in 0..4 {
        assert!(
            call.hear(Side::Caller, Rtp, "198.51.100.10:4040", &rtp(1), ms)
                .is_some()
        );
    }
    // Another SSRC begins anew, another port too.
    assert!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:4040", &rtp(2), 5)
            .is_some()
    );
    assert!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:4444", &rtp(2), 5)
            .is_some()
    );
    for ms in 0..4 {
        assert!(
            call.hear(Side::Caller, Rtp, "198.51.100.10:4444", &rtp(2), 6 + ms)
                .is_some()
        );
    }
    assert_eq!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:4040", &rtp(2), 11),
        None
    );
    // Fixed is the port, not the SSRC.
    assert!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:4444", &rtp(3), 12)
            .is_some()
    );
    // An offer alone changes nothing, for it may be refused; its answer does.
    call.say(
        Side::Caller,
        &[stream("198.51.100.10:4000")],
        Exchange::Offer,
        13,
    );
    assert_eq!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:4040", &rtp(2), 14),
        None
    );
    call.say(
        Side::Callee,
        &[stream("198.51.100.20:5000")],
        Exchange::Answer,
        15,
    );
    let alice =
        |call: &mut Call, ms| call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(8), ms);
    // What was heard is right until something else is.
    assert_eq!(alice(&mut call, 16), Some(address("198.51.100.10:4444")));
    assert!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:4040", &rtp(2), 16)
            .is_some()
    );
    assert_eq!(alice(&mut call, 17), Some(address("198.51.100.10:4040")));
    // Unless it says that it is elsewhere.
    call.say(
        Side::Caller,
        &[stream("198.51.100.10:6000")],
        Exchange::Offer,
        18,
    );
    call.say(
        Side::Callee,
        &[stream("198.51.100.20:5000")],
        Exchange::Answer,
        18,
    );
    assert_eq!(alice(&mut call, 19), Some(address("198.51.100.10:6000")));
}

#[test]
fn a_refused_offer_is_forgotten() {
    let mut call = Call::talk("");
    call.say(
        Side::Caller,
        &[stream("198.51.100.10:6000")],
        Exchange::Offer,
        1,
    );
    call.media.withdraw(call.id);
    call.say(
        Side::Callee,
        &[stream("198.51.100.20:5000")],
        Exchange::Answer,
        2,
    );
    let alice = call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(8), 3);
    assert_eq!(alice, Some(address("198.51.100.10:4000")));
}

#[test]
fn behind_a_nat_the_port_is_tried_at_the_signalling_host() {
    let places = [place(ALICE, true), place(BOB, false)];
    let mut call = Call::begin("", places, true);
    call.agree(stream("10.0.0.5:4000"), stream("198.51.100.20:5000"));
    let first = call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(1), 1);
    assert_eq!(first, Some(address("198.51.100.10:4000")));
    // A host of that private address near us is not it.
    assert_eq!(
        call.hear(Side::Caller, Rtp, "10.0.0.5:4000", &rtp(2), 2),
        None
    );
    assert!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:1025", &rtp(2), 2)
            .is_some()
    );
    let learned = call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(1), 3);
    assert_eq!(learned, Some(address("198.51.100.10:1025")));
}

#[test]
fn nothing_is_sent_to_hosts_that_cannot_be_meant() {
    for said in ["127.0.0.1:4000", "0.0.0.0:4000", "[2001:db8::9]:4000"] {
        let mut call = Call::begin("", [place(ALICE, false), place(BOB, false)], true);
        call.agree(stream(said), stream("198.51.100.20:5000"));
        let to = call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(1), 1);
        let is_hidden = said.starts_with("127");
        let signalling = is_hidden.then(|| address("198.51.100.10:4000"));
        assert_eq!(to, signalling, "{said}");
    }
}

#[test]
fn media_does_not_go_round_between_ports_of_ours() {
    let mut call = Call::begin("", [place(ALICE, false), place(BOB, false)], true);
    call.say(
        Side::Caller,
        &[stream("198.51.100.10:4000")],
        Exchange::Offer,
        0,
    );
    // Bob describes the port that Alice was shown, at our address.
    let shown = call.say(
        Side::Callee,
        &[stream("192.0.2.1:5000")],
        Exchange::Answer,
        0,
    )[0]
    .unwrap();
    call.say(
        Side::Callee,
        &[stream(&format!("192.0.2.1:{shown}"))],
        Exchange::Answer,
        1,
    );
    let from = format!("192.0.2.1:{shown}");
    call.hear(Side::Callee, Rtp, &from, &rtp(1), 1);
    // What Alice sends goes to that port, and from there back to her and nowhere else.
    let to = call.hear(Side::Caller, Rtp, "198.51.100.10:4000", &rtp(1), 1);
    assert_eq!(to, Some(address(&from)));
    let to = call.hear(Side::Callee, Rtp, &from, &rtp(1), 1);
    assert_eq!(to, Some(address("198.51.100.10:4000")));
}

#[test]
fn nothing_passes_before_the_caller_has_shown_that_he_is_there() {
    let mut call = Call::begin("", [place(ALICE, false), place(BOB, false)], false);
    call.agree(stream("198.51.100.10:4000"), stream("198.51.100.20:5000"));
    assert_eq!(
        call.hear(Side::Caller, Rtp, "198.51.100.10:4000", &rtp(1), 1),
        None
    );
    assert_eq!(
        call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(1), 1),
        None
    );
    call.media.open(at(2), call.id);
    assert!(
        call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(1), 3)
            .is_some()
    );
}

#[test]
fn rtcp_goes_where_it_is_said() {
    let mut call = Call::talk("");
    let elsewhere = Stream {
        rtcp: Some(Rtcp {
            port: 5900,
            address: Some(host("203.0.113.9")),
        }),
        ..stream("198.51.100.20:5000")
    };
    call.say(Side::Callee, &[elsewhere], Exchange::Answer, 1);
    let to = call.hear(
        Side::Caller,
        RtcpPort,
        "198.51.100.10:4001",
        &[0x80, 200, 0, 1, 0, 0, 0, 1],
        2,
    );
    assert_eq!(to, Some(address("203.0.113.9:5900")));
}

#[test]
fn silence_counts_while_both_may_speak() {
    let mut call = Call::talk("");
    let silent = |call: &Call| call.media.silent_at(call.id);
    assert_eq!(silent(&call), Some(at(60_000)));
    call.hear(Side::Caller, Rtp, "198.51.100.10:4000", &rtp(1), 10_000);
    assert_eq!(silent(&call), Some(at(70_000)));
    // RTCP and what is not taken are no audio.
    let rtcp = [0x80, 200, 0, 1, 0, 0, 0, 1];
    call.hear(Side::Caller, RtcpPort, "198.51.100.10:4001", &rtcp, 20_000);
    call.hear(Side::Caller, Rtp, "198.51.100.10:4000", &rtcp, 20_000);
    call.hear(Side::Caller, Rtp, "203.0.113.66:4000", &rtp(1), 20_000);
    assert_eq!(silent(&call), Some(at(70_000)));
    // On hold, however it is said.
    let bob = stream("198.51.100.20:5000");
    for hold in [
        Stream {
            direction: Direction::SendOnly,
            ..bob
        },
        Stream {
            direction: Direction::Inactive,
            ..bob
        },
        Stream {
            address: Some(host("0.0.0.0")),
            ..bob
        },
    ] {
        call.say(Side::Callee, &[hold], Exchange::Answer, 30_000);
        assert_eq!(silent(&call), None);
        call.say(Side::Callee, &[bob], Exchange::Answer, 100_000);
        assert_eq!(silent(&call), Some(at(160_000)));
    }
    // A fax has none.
    let fax = Stream {
        is_audio: false,
        ..bob
    };
    call.say(Side::Callee, &[fax], Exchange::Answer, 101_000);
    assert_eq!(silent(&call), None);
    let call = Call::talk("[call]\nmedia_timeout = 0");
    assert_eq!(silent(&call), None);
}
