//! The transaction table: nanoseconds of an operation, beside the parse that comes before it anyway.
//!
//! cargo bench --bench transaction

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use sipkeep::message::compose::Composer;
use sipkeep::message::{Method, parse};
use sipkeep::source::{Flow, Sink, Transport};
use sipkeep::time::{Instant, TimerQueue, Wheel};
use sipkeep::transaction::{Received, Transactions};

/// Counts what is sent.
#[derive(Default)]
struct Counter(u64);

impl Sink for Counter {
    fn send(&mut self, _flow: &Flow, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }
}

fn flow() -> Flow {
    Flow {
        transport: Transport::Udp,
        local: SocketAddr::from(([192, 0, 2, 9], 5060)),
        remote: SocketAddr::from(([192, 0, 2, 1], 5062)),
        connection: None,
    }
}

fn request(method: &str, branch: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut composer = Composer::request(&mut bytes, method.as_bytes(), b"sip:200@pbx.example.com");
    composer.field(
        "Via",
        &[b"SIP/2.0/UDP 192.168.1.50:5062;rport;branch=", branch],
    );
    composer.number("Max-Forwards", 70);
    composer.field(
        "From",
        &[b"\"Reception\" <sip:100@pbx.example.com>;tag=8a7b6c5d4e3f"],
    );
    composer.field("To", &[b"<sip:200@pbx.example.com>"]);
    composer.field(
        "Call-ID",
        &[number.to_string().as_bytes(), b"-0c9d8e7f6a5b4c3d2e1f"],
    );
    composer.field("CSeq", &[b"314 ", method.as_bytes()]);
    composer.field("Contact", &[b"<sip:100@192.168.1.50:5062;transport=udp>"]);
    composer.field("User-Agent", &[b"Desk Phone 5.1"]);
    composer.finish(None, b"");
    bytes
}

fn response(request: &[u8], status: u16) -> Vec<u8> {
    let request = parse(request).expect("parses");
    let mut bytes = Vec::new();
    Composer::response_to(&mut bytes, &request, &flow(), status, "Answer", b"c0ffee")
        .finish(None, b"");
    bytes
}

/// Prints the time of one of `count` operations: the best of seven rounds, each with a fresh state.
fn report<S>(id: &str, count: u64, setup: impl Fn() -> S, mut round: impl FnMut(&mut S)) {
    let mut best = Duration::MAX;
    for _ in 0..7 {
        let mut state = setup();
        let start = std::time::Instant::now();
        round(&mut state);
        best = best.min(start.elapsed());
    }
    println!("{id:<44} {:>8.1} ns", best.as_nanos() as f64 / count as f64);
}

fn at(number: u64, interval_us: u64) -> Instant {
    Instant::from_micros(number * interval_us)
}

fn main() {
    const COUNT: u64 = 20_000;
    let table = || Transactions::<u32>::new(&[7; 32], 1 << 20, 1 << 17);
    let branch =
        |number: u64| format!("z9hG4bK{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let many = |method: &str| -> Vec<Vec<u8>> {
        (0..COUNT)
            .map(|number| request(method, branch(number).as_bytes(), number))
            .collect()
    };
    let (registers, invites) = (many("REGISTER"), many("INVITE"));
    let ok = response(&registers[0], 200);
    let busy = response(&invites[0], 486);

    report(
        "message/parse/register_500B",
        COUNT,
        || (),
        |()| {
            for bytes in &registers {
                black_box(parse(bytes).is_ok());
            }
        },
    );
    // Parsing included, since the key needs the message.
    report(
        "transaction/server/register_complete",
        COUNT,
        table,
        |table| {
            let mut out = Counter::default();
            for (number, bytes) in registers.iter().enumerate() {
                let now = at(number as u64, 100);
                let message = parse(bytes).expect("parses");
                let key = table.key(&message);
                assert_eq!(
                    table.receive(now, key, Method::Register, &mut out),
                    Received::New
                );
                table.complete(now, key, &flow(), &ok, &mut out);
                assert!(table.expire(now, &mut out).is_none());
            }
        },
    );
    let filled = || {
        let (mut table, mut out) = (table(), Counter::default());
        for bytes in &registers {
            let key = table.key(&parse(bytes).expect("parses"));
            table.complete(Instant::default(), key, &flow(), &ok, &mut out);
        }
        table
    };
    report(
        "transaction/server/retransmission_absorbed",
        COUNT,
        filled,
        |table| {
            let mut out = Counter::default();
            for bytes in &registers {
                let message = parse(bytes).expect("parses");
                let key = table.key(&message);
                let received = table.receive(at(1, 1), key, Method::Register, &mut out);
                assert_eq!(received, Received::Absorbed);
            }
        },
    );
    report("transaction/server/invite_100_486", COUNT, table, |table| {
        let mut out = Counter::default();
        for (number, bytes) in invites.iter().enumerate() {
            let now = at(number as u64, 100);
            let message = parse(bytes).expect("parses");
            let key = table.key(&message);
            table.receive(now, key, Method::Invite, &mut out);
            let id = table
                .open_server(now, key, &message, &flow(), 1_u32)
                .expect("room");
            table.respond(now, id, 100, &ok, &mut out);
            table.respond(now, id, 486, &busy, &mut out);
            table.receive(now, key, Method::Ack, &mut out);
            while table.expire(now, &mut out).is_some() {}
        }
    });
    // Composing, sending, and parsing the answer included.
    report("transaction/client/options_200", COUNT, table, |table| {
        let mut out = Counter::default();
        for number in 0..COUNT {
            let now = at(number, 100);
            let (id, branch) = table.reserve().expect("room");
            let bytes = request("OPTIONS", branch.as_bytes(), number);
            table.send(now, id, Method::Options, &flow(), &bytes, 1_u32, &mut out);
            let answer = response(&bytes, 200);
            let message = parse(&answer).expect("parses");
            assert!(table.receive_response(now, &message, &mut out).is_some());
            while table.expire(now, &mut out).is_some() {}
        }
    });

    let second = Duration::from_secs(1);
    let durations = [second / 2, second, 2 * second, 4 * second, 32 * second];
    report(
        "time/queue/arm_cancel",
        COUNT,
        || TimerQueue::new(&durations),
        |queue| {
            for number in 0..COUNT {
                let id = queue.arm(at(number, 10), (number % 5) as usize, number);
                queue.cancel(id);
            }
        },
    );
    report(
        "time/queue/arm_expire",
        COUNT,
        || TimerQueue::new(&durations),
        |queue| {
            for number in 0..COUNT {
                queue.arm(at(number, 10), (number % 5) as usize, number);
            }
            while queue.expire(at(100, 1_000_000)).is_some() {}
        },
    );
    report(
        "time/wheel/arm_expire",
        COUNT,
        || Wheel::new(Instant::default()),
        |wheel| {
            for number in 0..COUNT {
                wheel.arm(at(number, 170_000), number);
            }
            while wheel.expire(at(COUNT, 200_000)).is_some() {}
        },
    );
}
