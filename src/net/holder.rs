//! Who has a port that we cannot have, for the message of a start that fails. Read from /proc, and of processes of other
//! users there is nothing to see without privilege.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Bytes of a process's name: the kernel has no longer ones.
const NAME_BYTES_MAX: usize = 64;

/// Who has an address that we cannot have, in words. `transport`: `udp`; anything else is TCP.
pub(super) fn of(transport: &str, address: SocketAddr) -> String {
    let tables = if transport == "udp" {
        ["/proc/net/udp", "/proc/net/udp6"]
    } else {
        ["/proc/net/tcp", "/proc/net/tcp6"]
    };
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| inodes(&table, address))
        .collect();
    match process_with(&inodes) {
        Some(id) if id == std::process::id() => {
            "this process (by another entry of \"listen\", or by the API)".into()
        }
        Some(id) => format!("{} (process {id})", name(id)),
        None => "another program, which another user runs".into(),
    }
}

/// The inodes of the sockets in a table of /proc/net that receive what is sent to this address: of TCP the listening ones.
fn inodes(table: &str, address: SocketAddr) -> Vec<String> {
    /// `st` of a TCP socket that listens, and of a UDP socket without a peer.
    const RECEIVING: [&str; 2] = ["0A", "07"];
    let fields = table.lines().skip(1).map(|line| {
        let mut fields = line.split_whitespace();
        // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
        (fields.nth(1), fields.nth(1), fields.nth(5))
    });
    fields
        .filter_map(|(local, state, inode)| {
            let (host, port) = local?.rsplit_once(':')?;
            let own = ip(host)?;
            let is_it = u16::from_str_radix(port, 16) == Ok(address.port())
                && (own == address.ip() || own.is_unspecified() || address.ip().is_unspecified());
            (is_it && RECEIVING.contains(&state?)).then(|| inode.map(str::to_owned))?
        })
        .collect()
}

/// An address as these tables have it: words of 32 bits in the machine's byte order.
fn ip(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for word in text.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(v4.into());
    }
    Some(IpAddr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).to_canonical())
}

/// The first process that has one of these sockets open.
fn process_with(inodes: &[String]) -> Option<u32> {
    let links: Vec<String> = (inodes.iter())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if links.is_empty() {
        return None;
    }
    let has_one = |folder: &Path| {
        let files = fs::read_dir(folder.join("fd")).ok()?;
        let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        Some(targets.into_iter().any(|target| {
            let target = target.to_string_lossy();
            links.iter().any(|link| *link == target)
        }))
    };
    fs::read_dir("/proc").ok()?.find_map(|entry| {
        let entry = entry.ok()?;
        let id = entry.file_name().to_str()?.parse().ok()?;
        has_one(&entry.path())?.then_some(id)
    })
}

fn name(id: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    let shown: String = (text.trim_end().escape_default())
        .take(NAME_BYTES_MAX)
        .collect();
    if shown.is_empty() {
        "another program".into()
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn names_the_process_that_has_a_port() {
        let ours = "this process".to_owned();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let said = of("udp", address);
        assert!(said.starts_with(&ours), "{said}");
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let wildcard = SocketAddr::new("::".parse().unwrap(), address.port());
        for address in [address, wildcard] {
            assert!(of("tcp", address).starts_with(&ours), "{address}");
        }
        // A connection's own port is nobody's who listens.
        let connection = TcpStream::connect(address).unwrap();
        let said = of("tcp", connection.local_addr().unwrap());
        assert!(said.starts_with("another program"), "{said}");
    }

    #[test]
    fn reads_the_kernels_tables() {
        let host = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let (one, two, all) = (host([127, 0, 0, 1]), host([127, 0, 0, 2]), host([0; 4]));
        let line = |local: &str, state: &str, inode: u32| {
            format!("  0: {local} 00000000:0000 {state} 0:0 0:0 0 1000 0 {inode} 1 x 100\n")
        };
        let table = [
            "  sl  local_address rem_address   st ...\n".to_owned(),
            line(&format!("{one}:13C4"), "0A", 1),
            line(&format!("{one}:13C4"), "01", 2),
            line(&format!("{one}:13C5"), "0A", 3),
            line(&format!("{two}:13C4"), "07", 4),
            line(&format!("{all}:13C6"), "07", 5),
            "cut off".to_owned(),
        ];
        let found = |address: &str| inodes(&table.concat(), address.parse().unwrap());
        assert_eq!(found("127.0.0.1:5060"), ["1"]);
        assert_eq!(found("0.0.0.0:5060"), ["1", "4"]);
        assert_eq!(found("127.0.0.2:5062"), ["5"]);
        assert_eq!(found("127.0.0.1:5070"), [""; 0]);
        let six = [
            host([0x20, 1, 0xd, 0xb8]),
            all.clone(),
            all,
            host([0, 0, 0, 7]),
        ];
        assert_eq!(ip(&six.concat()), Some("2001:db8::7".parse().unwrap()));
    }
}
