//! The sound that arrives at a place: baresip 1.0 records nothing any more once a call was re-invited.

use std::io::{ErrorKind, Read};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::super::sound::from_mu_law;
use super::town::{Place, Town};

/// IPv4, as the kernel numbers what Ethernet carries.
const IPV4: u16 = 0x0800;

/// Hears everything in G.711 µ-law that the server's relay sends to a place.
pub struct Ear {
    heard: Arc<Mutex<Vec<i16>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    pub fn at(place: &Place) -> Self {
        let protocol = Protocol::from(i32::from(IPV4.to_be()));
        let socket = place.enter(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)));
        let socket = socket.unwrap();
        let timeout = Some(Duration::from_millis(50));
        socket.set_read_timeout(timeout).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopping, address) = (Arc::clone(&heard), Arc::clone(&stop), place.address);
        let thread = thread::spawn(move || {
            let mut packet = [0; 2_048];
            while !stopping.load(Ordering::Relaxed) {
                match (&socket).read(&mut packet) {
                    Ok(length) => {
                        let sound = sound_of(&packet[..length], address).unwrap_or_default();
                        let samples = sound.iter().map(|byte| from_mu_law(*byte));
                        shared.lock().unwrap().extend(samples);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
                }
            }
        });
        Self {
            heard,
            stop,
            thread: Some(thread),
        }
    }

    /// All that it has heard so far.
    pub fn heard(&self) -> Vec<i16> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the ear panicked");
        }
    }
}

/// The bytes of sound in an IPv4 packet, if it is RTP of payload type 0 from the server to this address.
fn sound_of(packet: &[u8], to: Ipv4Addr) -> Option<&[u8]> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let is_udp = packet.get(9) == Some(&17);
    let is_its = packet.get(12..16)? == Town::network().server().octets()
        && packet.get(16..20)? == to.octets();
    let rtp = packet.get(header + 8..)?;
    let is_rtp = rtp.first() == Some(&0x80) && rtp.get(1)? & 0x7f == 0;
    (is_udp && is_its && is_rtp).then(|| rtp.get(12..))?
}
