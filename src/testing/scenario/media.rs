//! Media that agents send and hear.

use std::net::SocketAddr;

use super::expect;
use super::parse::Words;
use super::play::Player;

impl Player {
    /// A packet to where the agent was last told to send the media of a stream.
    pub(super) fn send_media(&mut self, index: usize, words: &Words) -> Result<(), String> {
        let own = self.agents[index].address.ip();
        let what = words.plain.first().map_or("", String::as_str);
        let number = |key: &str| words.option(key).map_or(Ok(0), str::parse::<u8>);
        let (ssrc, stream) = (number("ssrc"), number("stream"));
        let (Ok(ssrc), Ok(stream)) = (ssrc, stream) else {
            return Err("not a small number".into());
        };
        let described = self.described[index].get(usize::from(stream));
        let described = described.ok_or("it was told of no such stream")?;
        let is_rtcp = u16::from(what == "rtcp");
        let packet = packet_of(what, ssrc).ok_or("neither rtp nor srtp, dtls, rtcp nor udptl")?;
        let from = match words.option("from") {
            Some(from) => from
                .parse()
                .map_err(|_| format!("{from}: not an address"))?,
            None => SocketAddr::new(own, 30_000 + is_rtcp),
        };
        self.world
            .send_media(from, described.port + is_rtcp, &packet);
        Ok(())
    }

    /// The port that the agent was last told to send the media of a stream to could not be opened.
    pub(super) fn loses_port(&mut self, name: &str, words: &Words) -> Result<(), String> {
        let index = (self.agents.iter()).position(|agent| agent.name == name);
        let index = index.ok_or_else(|| format!("{name}: nobody"))?;
        let stream = words.option("stream").map_or(Ok(0), str::parse::<usize>);
        let stream = stream.map_err(|_| "not a stream")?;
        let described = self.described[index].get(stream);
        let port = described.ok_or("it was told of no such stream")?.port;
        self.world.fail_media(port);
        Ok(())
    }

    /// The next packet that came to the agent's host, or to `at`.
    pub(super) fn hears(&mut self, index: usize, words: &Words) -> Result<(), String> {
        let own = self.agents[index].address.ip();
        let at: Option<SocketAddr> = match words.option("at") {
            Some(at) => Some(at.parse().map_err(|_| format!("{at}: not an address"))?),
            None => None,
        };
        let is_there = |(to, _): &(SocketAddr, Vec<u8>)| at.map_or(to.ip() == own, |at| *to == at);
        let found = self.heard.iter().position(is_there);
        let packet = found.and_then(|place| self.heard.remove(place));
        let found = match &packet {
            None => "nothing".to_owned(),
            Some((_, bytes)) => kind(bytes).to_owned(),
        };
        let wanted = words.plain.first().map_or("", String::as_str);
        if found != wanted {
            return Err(format!(
                "it hears {found}: {packet:?}, and {:?}",
                self.heard
            ));
        }
        if let (Some(ssrc), Some((_, bytes))) = (words.option("ssrc"), &packet) {
            let own = bytes.get(place(&found)).copied();
            if own.and_then(|own| packet_of(&found, own)).as_ref() != Some(bytes) {
                return Err(format!("{found} is not as it was sent: {bytes:?}"));
            }
            let own = own.map_or("none".into(), |own| own.to_string());
            return expect::check_value("ssrc", ssrc, &own, &mut self.variables);
        }
        Ok(())
    }
}

/// A packet of that kind.
fn packet_of(kind: &str, ssrc: u8) -> Option<Vec<u8>> {
    Some(match kind {
        "rtp" => vec![0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, ssrc, 0x55],
        // What is encrypted, and the tag behind it, may be any bytes (RFC 3711 §3.1).
        "srtp" => [0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, ssrc]
            .into_iter()
            .chain(0..=255)
            .collect(),
        // A handshake record of DTLS 1.2 (RFC 6347 §4.1), the number in its sequence number.
        "dtls" => vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, ssrc, 0, 1, 1],
        "rtcp" => vec![0x80, 200, 0, 1, 0, 0, 0, ssrc],
        "udptl" => vec![0, ssrc],
        _ => return None,
    })
}

fn kind(packet: &[u8]) -> &'static str {
    match packet {
        [0, ..] => "udptl",
        [22, ..] => "dtls",
        [_, 200, ..] => "rtcp",
        _ if packet.len() > 13 => "srtp",
        _ => "rtp",
    }
}

/// Where the number stands in a packet of that kind.
fn place(kind: &str) -> usize {
    match kind {
        "rtp" | "srtp" => 11,
        "dtls" => 10,
        "rtcp" => 7,
        _ => 1,
    }
}
