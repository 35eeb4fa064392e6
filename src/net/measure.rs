//! What the shell measures of itself for `status`: memory, time from receive to send, failed reassemblies.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::api::Latency;

/// The longest time that is told apart; longer ones count as this.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Time from the receipt of a batch until its outputs were handed to the kernel, in fixed memory (about 30 KiB).
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        // Two significant digits: within 1 %.
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 2);
        Self(histogram.expect("constant bounds that hdrhistogram allows"))
    }

    /// Counts a batch of `messages`, each of which waited for the whole batch.
    pub(super) fn record(&mut self, time: Duration, messages: usize) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.0.saturating_record_n(micros, messages as u64);
    }

    pub(super) fn status(&self) -> Latency {
        if self.0.is_empty() {
            return Latency::default();
        }
        let at = |quantile| self.0.value_at_quantile(quantile);
        Latency {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        }
    }
}

/// Resident memory of this process in bytes; 0 where /proc does not tell.
pub(super) fn memory_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status").map_or(0, |text| resident_bytes(&text))
}

/// `VmRSS` of proc(5) /proc/PID/status, which needs no page size, as statm does.
fn resident_bytes(status: &str) -> u64 {
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Datagrams that the kernel could not put together from their fragments since the machine started, IPv4 and IPv6.
pub(super) fn reassembly_failures() -> u64 {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    v4_reassembly_failures(&read("/proc/net/snmp"))
        + v6_reassembly_failures(&read("/proc/net/snmp6"))
}

/// Datagrams that UDP sockets of this machine (of its network namespace) lost because a receive buffer was full, IPv4 and
/// IPv6; `None` where /proc does not tell.
pub(super) fn full_buffers() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/snmp").ok()?;
    let v6 = std::fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
    let of_v6 = v6_value(&v6, "Udp6RcvbufErrors").unwrap_or(0);
    Some(v4_value(&text, "Udp:", "RcvbufErrors")? + of_v6)
}

fn v4_reassembly_failures(text: &str) -> u64 {
    v4_value(text, "Ip:", "ReasmFails").unwrap_or(0)
}

/// Of a protocol there are two lines that begin alike, names and then values.
fn v4_value(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
    let (names, values) = (lines.next()?, lines.next()?);
    let position = names.split_whitespace().position(|own| own == name)?;
    values.split_whitespace().nth(position)?.parse().ok()
}

fn v6_reassembly_failures(text: &str) -> u64 {
    v6_value(text, "Ip6ReasmFails").unwrap_or(0)
}

fn v6_value(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let status = "Name:\tsipkeep\nVmPeak:\t 9000 kB\nVmRSS:\t    8123 kB\nThreads:\t1\n";
        assert_eq!(resident_bytes(status), 8123 * 1024);
        assert_eq!(resident_bytes(""), 0);
        assert!(memory_bytes() > 100_000);
        let snmp =
            "Ip: Forwarding ReasmOKs ReasmFails FragOKs\nIp: 1 22 33 44\nIcmp: InMsgs\nIcmp: 5\n";
        assert_eq!(v4_reassembly_failures(snmp), 33);
        assert_eq!(v4_reassembly_failures("Ip: A\n"), 0);
        let snmp = "Udp: InErrors RcvbufErrors\nUdp: 9 7\nUdpLite: InErrors\nUdpLite: 0\n";
        assert_eq!(v4_value(snmp, "Udp:", "RcvbufErrors"), Some(7));
        assert!(full_buffers().is_some());
        let snmp6 = "Ip6ReasmOKs                     \t7\nIp6ReasmFails                   \t9\n";
        assert_eq!(v6_reassembly_failures(snmp6), 9);
    }

    #[test]
    fn latencies_are_quantiles_of_messages() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.status().p50, 0);
        latencies.record(Duration::from_micros(100), 99);
        latencies.record(Duration::from_micros(50_000), 1);
        latencies.record(Duration::from_secs(3600), 0);
        let status = latencies.status();
        assert_eq!((status.p50, status.p99), (100, 100));
        assert!((49_500..=50_500).contains(&status.p999), "{}", status.p999);
        latencies.record(Duration::from_secs(3600), 1000);
        assert!(latencies.status().p99 >= 59_000_000);
    }
}
