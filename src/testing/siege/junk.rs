//! What forgers and scanners send. Nothing in it depends on the server's answers, for a forger never sees them.

use std::io::Write;
use std::net::SocketAddr;

use super::Material;

/// A request whose sender says that he is at `from`. `lines`: further header lines, each with CRLF.
pub fn request(
    method: &str,
    user: u64,
    from: SocketAddr,
    number: u64,
    (via, lines): (&str, &[u8]),
    out: &mut Vec<u8>,
) {
    let _ = write!(
        out,
        "{method} sip:{user}@192.0.2.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};branch=z9hG4bK{number:x}{via}\r\n\
         From: <sip:{user}@pbx>;tag={number:x}\r\nTo: <sip:{user}@pbx>\r\nCall-ID: {number:x}\r\n\
         CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContact: <sip:{user}@{from}>\r\n"
    );
    out.extend_from_slice(lines);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// Numbers that scanners try: the phones' begin at 1000.
pub const NUMBERS: (u64, u64) = (990, 1_029);
/// Numbers that nobody has.
pub const NOBODY: (u64, u64) = (900, 989);

/// Anything that a forger can think of under the address `from`, towards one of these numbers. `maddr`: where he would
/// like answers to go.
pub fn forged(
    material: &mut Material<'_>,
    (from, maddr): (SocketAddr, SocketAddr),
    (first, last): (u64, u64),
    out: &mut Vec<u8>,
) {
    let number = material.random.next_u64();
    let user = material.random.between(first, last);
    let rport = (";rport", &b""[..]);
    match material.random.below(16) {
        0 | 1 => request("REGISTER", user, from, number, rport, out),
        // A digest out of thin air.
        2 | 3 => {
            let line = format!(
                "Authorization: Digest username=\"{user}\", realm=\"sipkeep\", nonce=\"{number:032x}\", \
                 uri=\"sip:pbx\", response=\"{number:032x}\", algorithm=MD5, cnonce=\"1\", qop=auth, nc=00000001\r\n"
            );
            request(
                "REGISTER",
                user,
                from,
                number,
                (";rport", line.as_bytes()),
                out,
            );
        }
        // What others answered to their own challenges.
        4..=6 => {
            let method = ["REGISTER", "INVITE", "MESSAGE"][material.random.below(3) as usize];
            let mut line = Vec::new();
            let count = material.overheard.len() as u64;
            if let Some(value) = material
                .overheard
                .get(material.random.below(count) as usize)
            {
                line.extend_from_slice(b"Authorization: ");
                line.extend_from_slice(value);
                line.extend_from_slice(b"\r\n");
            }
            request(method, user, from, number, (";rport", &line), out);
        }
        7 | 8 => request("INVITE", user, from, number, rport, out),
        // Answers to nothing, and to what may be under way.
        9 | 10 => {
            let status = ["100 Trying", "200 OK", "401 Unauthorized", "503 No"]
                [material.random.below(4) as usize];
            let method = ["INVITE", "BYE", "REGISTER"][material.random.below(3) as usize];
            let _ = write!(
                out,
                "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{:08x}{number:016x}\r\n\
                 From: <sip:{user}@pbx>;tag=1\r\nTo: <sip:{user}@pbx>;tag=2\r\nCall-ID: {number:x}\r\n\
                 CSeq: 1 {method}\r\nContact: <sip:x@{maddr}>\r\nContent-Length: 0\r\n\r\n",
                number % 64
            );
        }
        // Answers are to go elsewhere.
        11 | 12 => {
            let via = format!(";maddr={};received={}", maddr.ip(), maddr.ip());
            request("REGISTER", user, maddr, number, (&via, b""), out);
        }
        13 => {
            let method = ["OPTIONS", "BYE", "CANCEL", "ACK"][material.random.below(4) as usize];
            request(method, user, from, number, rport, out);
        }
        14 => {
            for _ in 0..material.random.below(300) {
                out.push(material.random.next_u64() as u8);
            }
        }
        // Cut off, or with a bit turned over.
        _ => {
            request("REGISTER", user, from, number, rport, out);
            let at = material.random.below(out.len() as u64) as usize;
            if material.random.chance(500) {
                out.truncate(at);
            } else {
                out[at] ^= 1 << material.random.below(8);
            }
        }
    }
}
