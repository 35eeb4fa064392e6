//! The bare loops: what receiving and sending costs when nothing is done with what came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use sipkeep::net::sys::{BATCH, Outgoing, ReceiveBatch};

use crate::arguments::Loop;
use crate::socket::{Udp, Waiter};

/// How long `drop-late` lets datagrams gather.
const LATE: Duration = Duration::from_millis(1);

/// Echoes or drops until SIGTERM or SIGINT; then how many came.
///
/// # Errors
/// The kernel's, for people.
pub fn run(kind: Loop, listen: SocketAddr) -> Result<String, String> {
    turn_until_signal(kind, listen).map_err(|error| format!("{listen}: {error}"))
}

fn turn_until_signal(kind: Loop, listen: SocketAddr) -> std::io::Result<String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut sockets = [Udp::bind(listen)?];
    let mut waiter = Waiter::new(&sockets)?;
    let mut batch = ReceiveBatch::new();
    let (mut received, mut is_full) = (0, false);
    while !stop.load(Ordering::Relaxed) {
        // What a full batch has left is read at once.
        if kind != Loop::DropLate || !is_full {
            waiter.wait(&mut sockets, Duration::from_millis(100))?;
        }
        if kind == Loop::DropLate && !is_full {
            std::thread::sleep(LATE);
            sockets[0].look_again();
        }
        let count = sockets[0].receive(&mut batch)?;
        is_full = count == BATCH;
        received += count;
        if kind == Loop::Echo && count > 0 {
            let mut answers = [Outgoing::NONE; BATCH];
            let mut length = 0;
            for datagram in batch.datagrams() {
                answers[length] = Outgoing {
                    remote: datagram.remote,
                    local: None,
                    bytes: datagram.bytes,
                };
                length += 1;
            }
            sockets[0].send(&answers[..length])?;
        }
    }
    Ok(format!(
        "{received} datagrams received, {} not sent",
        sockets[0].unsent
    ))
}
