//! A scanner's flood: INVITEs to foreign numbers, from as many addresses as wanted, at a rate or as fast as it goes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use sipkeep::net::sys::{BATCH, ReceiveBatch};

use crate::arguments::{Arguments, Pace};
use crate::engine::Job;
use crate::message;
use crate::process::{self, CpuTime};
use crate::report::Report;
use crate::socket::{Outbox, Udp};

/// The first of the addresses that the flood comes from.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);

/// Sends for the warm-up and the measured time. `done` counts what was sent, `strange` what came back.
///
/// # Errors
/// The kernel's, for people.
pub fn run(arguments: &Arguments) -> Result<Report, String> {
    let io = |error: std::io::Error| format!("{}: {error}", arguments.target);
    let pace = arguments.pace.unwrap_or(Pace::Rate(f64::INFINITY));
    let Pace::Rate(rate) = pace else {
        return Err("flood: nothing comes back, so there is no --window".to_owned());
    };
    let many = arguments.sources > 1;
    if many && !arguments.target.is_ipv4() {
        return Err("--sources: over IPv4 only".to_owned());
    }
    let bind = if many {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        arguments.bind
    };
    let mut sockets = [Udp::bind(SocketAddr::new(bind, 0)).map_err(io)?];
    let mut batch = ReceiveBatch::new();
    let mut out = Outbox::default();
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    let run = u32::from_le_bytes(bytes);
    let read = || -> Result<(Option<CpuTime>, u64), String> {
        let cpu = arguments.pid.map(CpuTime::of).transpose()?;
        Ok((cpu, process::socket_drops(arguments.target)))
    };

    let begun = Instant::now();
    let warm_at = begun + arguments.warmup;
    let end_at = warm_at + arguments.measured;
    let mut request = Vec::new();
    let (mut sent, mut answers) = (0u32, 0);
    let mut first = None;
    let last = loop {
        let now = Instant::now();
        if first.is_none() && now >= warm_at {
            first = Some((now, sent, sockets[0].unsent, read()?));
        }
        if now >= end_at {
            break now;
        }
        let due = now.duration_since(begun).as_secs_f64() * rate;
        while out.len() < BATCH && f64::from(sent) < due {
            let source = arguments.sources.checked_sub(2).map(|_| {
                let address = FIRST_SOURCE
                    .to_bits()
                    .wrapping_add(sent % arguments.sources);
                SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(address)), 0)
            });
            compose(
                Job {
                    run,
                    slot: 0,
                    serial: sent,
                },
                &arguments.domain(),
                &mut request,
            );
            out.push_from(0, &request, source);
            sent = sent.wrapping_add(1);
        }
        if out.len() == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
        out.send(&mut sockets, arguments.target).map_err(io)?;
        sockets[0].look_again();
        answers += sockets[0].receive(&mut batch).map_err(io)? as u64;
    };
    // What waits at the server still is its work of the measured time.
    std::thread::sleep(Duration::from_millis(100));
    let (cpu, drops) = read()?;
    let (first_at, first_sent, first_unsent, (first_cpu, first_drops)) =
        first.unwrap_or((begun, 0, 0, (None, 0)));
    let unsent = sockets[0].unsent - first_unsent;
    Ok(Report {
        scenario: "flood",
        pace,
        elapsed: last.duration_since(first_at),
        done: u64::from(sent.wrapping_sub(first_sent)).saturating_sub(unsent),
        failed: 0,
        statuses: BTreeMap::new(),
        lost: 0,
        retransmitted: 0,
        strange: answers,
        unsent,
        server_drops: drops.saturating_sub(first_drops),
        latency: None,
        ringing: None,
        messages_of_job: 1,
        cpu: cpu.zip(first_cpu).map(|(now, then)| now.since(&then)),
        resident_bytes: arguments.pid.and_then(process::resident_bytes),
    })
}

fn compose(job: Job, domain: &str, out: &mut Vec<u8>) {
    out.clear();
    let branch = message::branch(job);
    let unique = &branch[7..];
    let parts: [&[u8]; 15] = [
        b"INVITE sip:900442030000000@",
        domain.as_bytes(),
        b" SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.66:5071;branch=",
        &branch,
        b";rport\r\nMax-Forwards: 70\r\nFrom: \"100\" <sip:100@",
        domain.as_bytes(),
        b">;tag=",
        unique,
        b"\r\nTo: <sip:900442030000000@",
        domain.as_bytes(),
        b">\r\nCall-ID: ",
        unique,
        b"\r\nCSeq: 1 INVITE\r\nContact: <sip:100@192.0.2.66:5071>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n",
        b"User-Agent: pplsip\r\nAccept: application/sdp\r\n",
        b"Content-Length: 0\r\n\r\n",
    ];
    for part in parts {
        out.extend_from_slice(part);
    }
}
