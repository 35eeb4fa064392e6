//! A name server for one test: a few SRV and address records, over UDP. It remembers what it was asked.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a name has.
#[derive(Clone, Copy, Debug)]
pub enum Record {
    Address(Ipv4Addr),
    /// Priority, port, target (RFC 2782).
    Service(u16, u16, &'static str),
}

/// On port 53 of its address until it is dropped.
pub struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Knows these; any other name does not exist.
    pub fn start(address: Ipv4Addr, records: Vec<(&'static str, Record)>) -> Self {
        let socket = UdpSocket::bind((address, 53)).unwrap();
        let patience = Some(Duration::from_millis(50));
        socket.set_read_timeout(patience).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (list, stopping) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut buffer = [0; 512];
            while !stopping.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let (name, answer) = answer(&buffer[..length], &records);
                list.lock().unwrap().push(name);
                socket.send_to(&answer, from).unwrap();
            }
        });
        Self {
            asked,
            stop,
            thread: Some(thread),
        }
    }

    /// Names that somebody has asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "it panicked");
        }
    }
}

/// The name that a query asks for, and the answer (RFC 1035 §4.1). An OPT record in the query is not answered.
fn answer(query: &[u8], records: &[(&str, Record)]) -> (String, Vec<u8>) {
    let mut name = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        let label = String::from_utf8_lossy(&query[at + 1..end]);
        name.push(label.to_ascii_lowercase());
        at = end;
    }
    let name = name.join(".");
    let question_end = at + 5;
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let own = records.iter().filter(|(owner, _)| *owner == name);
    let exists = own.clone().count() > 0;
    let data: Vec<Vec<u8>> = own
        .filter_map(|(_, record)| match *record {
            Record::Address(address) if kind == 1 => Some(address.octets().to_vec()),
            Record::Service(priority, port, target) if kind == 33 => {
                let numbers = [priority, 0, port].map(u16::to_be_bytes).concat();
                let labels = target
                    .split('.')
                    .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
                Some(numbers.into_iter().chain(labels).chain([0]).collect())
            }
            _ => None,
        })
        .collect();
    // The number, that of an authority, NXDOMAIN or not; one question, so many answers.
    let code = if exists { 0x80 } else { 0x83 };
    let mut answer = [
        &query[..2],
        &[0x85, code, 0, 1, 0, data.len() as u8, 0, 0, 0, 0],
    ]
    .concat();
    answer.extend_from_slice(&query[12..question_end]);
    for data in data {
        // Its name is that of the question; class IN, a minute.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    (name, answer)
}
