//! Floods: who still gets through, and what they cost those whose addresses are forged.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sipkeep::endpoint::Input;
use sipkeep::source::{Flow, Transport};

use super::harness::*;

/// Requests of many sources, one after the other, each with a branch of its own.
struct Flood {
    text: Vec<u8>,
    branch: usize,
    sources: u32,
    sent: u32,
}

impl Flood {
    fn new(sources: u32) -> Self {
        let mut request = Request::new("REGISTER").user("100");
        request.via = "SIP/2.0/UDP 10.1.1.1:5060;rport;branch=z9hG4bK00000000".to_owned();
        let text = request.text();
        let branch = text.find("z9hG4bK0").unwrap() + 7;
        Self {
            text: text.into_bytes(),
            branch,
            sources,
            sent: 0,
        }
    }

    /// The next one; how many answers it got.
    fn send(&mut self, site: &mut Site) -> usize {
        let digits = format!("{:08}", self.sent);
        self.text[self.branch..self.branch + 8].copy_from_slice(digits.as_bytes());
        let address = Ipv4Addr::from_bits(0x0b00_0000 + self.sent % self.sources);
        self.sent += 1;
        let flow = Flow {
            transport: Transport::Udp,
            local: SERVER.parse().unwrap(),
            remote: SocketAddr::new(address.into(), 5060),
            connection: None,
        };
        let bytes = &self.text;
        site.endpoint
            .handle_input(site.now, Input::Datagram { flow, bytes });
        let answers = site.endpoint.outputs().len();
        site.endpoint.clear_outputs();
        answers
    }
}

/// A phone as RFC 3261 §17.1.2.2 has it: what is not answered goes out again after 500 ms, 1 s, 2 s.
struct Newcomer {
    request: Request,
    text: String,
    next: Duration,
    interval: Duration,
}

impl Newcomer {
    fn send(request: Request, now: Duration) -> Self {
        let text = request.text();
        Self {
            request,
            text,
            next: now,
            interval: Duration::from_millis(500),
        }
    }
}

#[test]
fn a_newcomer_registers_during_a_flood_of_sources_that_stay_below_every_threshold() {
    let mut site = Site::new();
    let mut flood = Flood::new(60_000);
    let step = Duration::from_micros(20); // 50,000 a second
    let mut now = Duration::ZERO;
    let mut answers = 0;
    let mut phone: Option<Newcomer> = None;
    let start = Duration::from_millis(1_300);
    let registered = loop {
        now += step;
        site.jump(step);
        answers += flood.send(&mut site);
        if phone.is_none() && now >= start {
            phone = Some(Newcomer::send(Request::new("REGISTER").user("100"), now));
        }
        let Some(own) = phone.as_mut().filter(|own| own.next <= now) else {
            assert!(
                now < start + Duration::from_secs(3),
                "it is still not registered"
            );
            continue;
        };
        own.next = now + own.interval;
        own.interval *= 2;
        let outcome = site.udp(STRANGER, &own.text);
        match outcome.statuses()[..] {
            [] => {}
            [401] => {
                let request = Request::new("REGISTER").user("100");
                let request = request.sign(&outcome.only(), "100", PASSWORD);
                phone = Some(Newcomer::send(request, now + Duration::from_millis(5)));
            }
            [200] => break now,
            _ => panic!("{outcome:#?} to {:#?}", own.request),
        }
    };
    assert!(
        registered - start >= Duration::from_millis(400),
        "the flood was none"
    );
    // Those who ask once share what is left.
    let most = 1_000.0 + registered.as_secs_f64() * 1_000.0;
    assert!(
        answers as f64 <= most,
        "{answers} answers in {registered:?}"
    );
    assert_eq!(site.counts(), (1, 0, 0));
}
