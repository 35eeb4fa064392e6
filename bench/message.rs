//! `message/parse`: nanoseconds of one parse, and as a multiple of one memchr pass that finds the same line ends, measured in
//! turns in the same run. Aim 15, accepted 25; over that the exit code is 1.
//!
//! cargo bench --bench message

use std::hint::black_box;
use std::time::{Duration, Instant};

use sipkeep::message::{Composer, HeaderName, parse, salvage};
use sipkeep::source::{Flow, Transport};

const ACCEPTED: f64 = 25.0;

const REGISTER: &str = "REGISTER sip:pbx.example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.50:5062;branch=z9hG4bK1f3c9a7d55e20b64;rport\r\n\
    Max-Forwards: 70\r\n\
    From: \"Reception\" <sip:100@pbx.example.com>;tag=8a7b6c5d4e3f\r\n\
    To: \"Reception\" <sip:100@pbx.example.com>\r\n\
    Call-ID: 0c9d8e7f6a5b4c3d2e1f@192.168.1.50\r\n\
    CSeq: 314 REGISTER\r\n\
    Contact: <sip:100@192.168.1.50:5062;transport=udp>;expires=3600\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO\r\n\
    User-Agent: Desk Phone 5.1\r\n\
    Expires: 3600\r\n\
    Content-Length: 0\r\n\r\n";

const INVITE: &str = "INVITE sip:200@pbx.example.com;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.50:5062;branch=z9hG4bK2e4d6c8b0a1f3e5d;rport\r\n\
    Max-Forwards: 70\r\n\
    From: \"Reception\" <sip:100@pbx.example.com>;tag=1a2b3c4d5e6f\r\n\
    To: <sip:200@pbx.example.com;user=phone>\r\n\
    Call-ID: 9f8e7d6c5b4a39281706@192.168.1.50\r\n\
    CSeq: 2 INVITE\r\n\
    Contact: \"Reception\" <sip:100@192.168.1.50:5062;transport=udp>\r\n\
    Authorization: Digest username=\"100\", realm=\"pbx.example.com\", \
    nonce=\"AZk3f0Y0c2M5ZjE0ODdhYjE5MjMzYzc5ZjA1ZjY4\", uri=\"sip:200@pbx.example.com;user=phone\", \
    response=\"6629fae49393a05397450978507c4ef1\", algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, \
    nc=00000001\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY\r\n\
    Supported: replaces, timer, 100rel\r\n\
    Session-Expires: 1800;refresher=uac\r\n\
    User-Agent: Desk Phone 5.1\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 317\r\n\r\n\
    v=0\r\no=- 20518 20518 IN IP4 192.168.1.50\r\ns=call\r\nc=IN IP4 192.168.1.50\r\nt=0 0\r\n\
    m=audio 11800 RTP/AVP 9 0 8 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n\
    a=sendrecv\r\na=rtcp:11801\r\na=ssrc:3735928559 cname:reception@192.168.1.50\r\n";

const OK: &str = "SIP/2.0 200 OK\r\n\
    Via: SIP/2.0/UDP 192.168.1.50:5062;branch=z9hG4bK1f3c9a7d55e20b64;rport=5062;received=192.168.1.50\r\n\
    From: \"Reception\" <sip:100@pbx.example.com>;tag=8a7b6c5d4e3f\r\n\
    To: \"Reception\" <sip:100@pbx.example.com>;tag=c0ffee\r\n\
    Call-ID: 0c9d8e7f6a5b4c3d2e1f@192.168.1.50\r\n\
    CSeq: 314 REGISTER\r\n\
    Contact: <sip:100@192.168.1.50:5062;transport=udp>;expires=600\r\n\
    Content-Length: 0\r\n\r\n";

/// Nanoseconds of one call of `body`, over a stretch that is short against a time slice.
fn time(mut body: impl FnMut()) -> f64 {
    const CALLS: u32 = 50;
    let start = Instant::now();
    for _ in 0..CALLS {
        body();
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// The tenth of the samples from below: the work is the same each time, so what is above it is the machine's other work.
fn undisturbed(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 10]
}

/// Both in turns until `duration` is over; the undisturbed times.
fn in_turns(duration: Duration, mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < duration {
        ones.push(time(&mut one));
        others.push(time(&mut other));
    }
    (undisturbed(&mut ones), undisturbed(&mut others))
}

/// Finds every line end, one by one, as a parser needs them.
fn line_ends(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).fold(0, |sum, at| sum ^ black_box(at))
}

fn main() {
    let duration = Duration::from_millis(1500);
    let mut over = false;
    for (id, text) in [
        ("register_500B", REGISTER),
        ("invite_sdp_1200B", INVITE),
        ("ok_200", OK),
    ] {
        let bytes = text.as_bytes();
        if let Err(error) = parse(bytes) {
            panic!("{id}: {error}");
        }
        let (parsed, pass) = in_turns(
            duration,
            || {
                black_box(parse(black_box(bytes)).is_ok());
            },
            || {
                black_box(line_ends(black_box(bytes)));
            },
        );
        let ratio = parsed / pass;
        over |= ratio > ACCEPTED;
        println!(
            "message/parse/{id:<20} {parsed:>7.0} ns {:>5} bytes {pass:>5.0} ns memchr {ratio:>6.1} x",
            bytes.len()
        );
    }
    let flow = Flow {
        transport: Transport::Udp,
        local: "192.168.1.1:5060".parse().expect("an address"),
        remote: "192.168.1.50:5062".parse().expect("an address"),
        connection: None,
    };
    let request = parse(REGISTER.as_bytes()).expect("parsed above");
    let mut buffer = Vec::new();
    let (composed, salvaged) = in_turns(
        duration,
        || {
            let mut composer =
                Composer::response_to(&mut buffer, &request, &flow, 200, "OK", b"c0ffee");
            for value in request.values(HeaderName::Contact) {
                composer.field("Contact", &[value]);
            }
            composer.finish(None, b"");
            black_box(buffer.len());
        },
        || {
            black_box(salvage(black_box(REGISTER.as_bytes())).is_some());
        },
    );
    println!("message/compose/ok_200           {composed:>7.0} ns");
    println!("message/salvage/register_500B    {salvaged:>7.0} ns");
    if over {
        println!("over {ACCEPTED} times one memchr pass");
        std::process::exit(1);
    }
}
