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
        let packet = match what {
            "rtp" => vec![0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, ssrc, 0x55],
            "rtcp" => vec![0x80, 200, 0, 1, 0, 0, 0, ssrc],
            "udptl" => vec![0, ssrc],
            _ => return Err("neither rtp nor rtcp nor udptl".into()),
        };
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
            Some((_, bytes)) if bytes.first() == Some(&0) => "udptl".into(),
            Some((_, bytes)) if bytes.get(1) == Some(&200) => "rtcp".into(),
            Some(_) => "rtp".into(),
        };
        let wanted = words.plain.first().map_or("", String::as_str);
        if found != wanted {
            return Err(format!(
                "it hears {found}: {packet:?}, and {:?}",
                self.heard
            ));
        }
        if let (Some(ssrc), Some((_, bytes))) = (words.option("ssrc"), &packet) {
            let place = match found.as_str() {
                "rtp" => 11,
                "rtcp" => 7,
                _ => 1,
            };
            let found = bytes.get(place).map_or("none".into(), u8::to_string);
            return expect::check_value("ssrc", ssrc, &found, &mut self.variables);
        }
        Ok(())
    }
}
