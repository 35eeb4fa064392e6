//! What a program's steps do.

use std::net::SocketAddr;

use super::setup::*;
use super::*;
use crate::api::{Answer, Command};
use crate::source::Source;
use crate::testing::agent::Wishes;
use crate::testing::dns::NAME_SERVER;

impl Program<'_> {
    /// Some response to the latest request, or to an INVITE.
    pub(super) fn respond(&mut self) {
        let index = self.agent();
        let status = STATUSES[self.byte() % STATUSES.len()];
        let how = self.byte();
        let is_reliable = how & 3 == 2;
        let mut wishes = Wishes {
            method: (how & 3 == 1 || is_reliable).then(|| "INVITE".into()),
            to_tag: (how & 28 == 4).then(|| "other".into()),
            body: Some(BODIES[(how >> 5) % 3].into()).filter(|body: &String| !body.is_empty()),
            ..Wishes::default()
        };
        if let Some((_, name)) = CHALLENGES.iter().find(|(own, _)| *own == status) {
            let stale = how >> 6 & 1 == 1;
            let nonce = how >> 2 & 3;
            let value = format!("Digest realm=\"c\", nonce=\"{nonce}\", stale={stale}");
            wishes.headers.push(((*name).into(), value));
        }
        if is_reliable {
            let rseq = 1 + (how >> 2 & 7);
            wishes.headers.push(("Require".into(), "100rel".into()));
            wishes.headers.push(("RSeq".into(), rseq.to_string()));
        }
        if let Ok(bytes) = self.agents[index].response(status, &wishes) {
            self.send(index, index, bytes);
        }
    }

    /// A packet to a port of a relay: from where the agent's description says that its media comes from, from a port beside
    /// that, or from where it speaks SIP.
    pub(super) fn talk(&mut self) {
        let (index, what) = (self.agent(), self.byte());
        let ports: Vec<u16> = self.world.media_ports().collect();
        let Some(even) = ports.get((what >> 3) % ports.len().max(1)) else {
            return;
        };
        let mut from = self.agents[index].address;
        match what & 3 {
            3 => {}
            beside => from.set_port(30_000 + beside as u16),
        }
        let port = even + (what >> 2 & 1) as u16;
        let mut packet = vec![0x80; 12];
        packet.push(what as u8);
        self.world.send_media(from, port, &packet);
    }

    /// REFER: to a number, or to another call of the agent's or of somebody else's.
    pub(super) fn transfer(&mut self) {
        let (index, how) = (self.agent(), self.byte());
        let target = TARGETS[self.byte() % TARGETS.len()];
        let mut to = target.to_owned();
        if how & 1 == 1 {
            let whose = if how & 2 == 0 { index } else { self.agent() };
            if let Some(replaces) = self.agents[whose].replaces(how >> 6) {
                let escaped = replaces.replace(';', "%3B").replace('=', "%3D");
                to = format!("{to}?Replaces={escaped}");
            }
        }
        let mut headers = vec![("Refer-To".to_owned(), format!("<{to}>"))];
        if how & 4 != 0 {
            headers.push(("Refer-Sub".into(), "false".into()));
        }
        if how & 8 != 0 {
            headers.push(("Referred-By".into(), "<sip:alice@pbx>".into()));
        }
        let call = (how & 16 != 0).then_some(1 + (how >> 5 & 1));
        let wishes = Wishes {
            call,
            headers,
            body: Some("none".into()),
            ..Wishes::default()
        };
        if let Ok(bytes) = self.agents[index].request("REFER", &wishes) {
            self.send(index, index, bytes);
        }
    }

    /// INVITE with Replaces: who takes somebody's call, that rings or is up.
    pub(super) fn replace(&mut self) {
        let (index, whose, how) = (self.agent(), self.agent(), self.byte());
        let Some(mut replaces) = self.agents[whose].replaces(how >> 6) else {
            return;
        };
        if how & 4 != 0 {
            replaces.push_str(";early-only");
        }
        let wishes = Wishes {
            uri: Some(TARGETS[2 + (how >> 3) % 3].to_owned()),
            body: Some(BODIES[how % 3].to_owned()).filter(|body| !body.is_empty()),
            headers: vec![("Replaces".into(), replaces)],
            ..Wishes::default()
        };
        if let Ok(bytes) = self.agents[index].request("INVITE", &wishes) {
            self.send(index, index, bytes);
        }
    }

    /// SUBSCRIBE: a new one, or again in its dialog, for a while or no more.
    pub(super) fn subscribe(&mut self) {
        let (index, how) = (self.agent(), self.byte());
        let target = TARGETS[self.byte() % TARGETS.len()];
        let event = EVENTS[how % EVENTS.len()];
        let expires = if how & 4 == 0 { "600" } else { "0" };
        let is_new = how & 8 == 0 && !target.is_empty();
        let wishes = Wishes {
            uri: is_new.then(|| target.to_owned()),
            headers: vec![
                ("Event".into(), event.into()),
                ("Expires".into(), expires.into()),
            ],
            ..Wishes::default()
        };
        if let Ok(bytes) = self.agents[index].request("SUBSCRIBE", &wishes) {
            self.send(index, index, bytes);
        }
    }

    /// What an agent said, or says now, from where nobody is: a stranger's address, or another port of somebody's.
    pub(super) fn forge(&mut self) {
        let index = self.agent();
        let what = self.byte();
        let from = match what % 4 {
            0 => SocketAddr::from(([198, 51, 100, (what >> 2) as u8], 5060)),
            1 => SocketAddr::from(([198, 51, (what >> 2) as u8, self.byte() as u8], 5060)),
            _ => {
                let mut address = self.agents[(what >> 2) % AGENTS.len()].address;
                address.set_port(40_000 + (what >> 5) as u16);
                address
            }
        };
        let bytes = if what & 128 == 0 {
            self.agents[index].last_sent.clone()
        } else {
            let method = METHODS[self.byte() % METHODS.len()];
            let bytes = self.agents[index].request(method, &Wishes::default());
            bytes.unwrap_or_default()
        };
        self.world.send(from, &bytes);
    }

    /// Of a request only the beginning comes on its connection; the rest may follow.
    pub(super) fn cut(&mut self) {
        let is_stream = |agent: &Agent| agent.transport == Transport::Tcp;
        let Some(index) = self.agents.iter().position(is_stream) else {
            return;
        };
        let address = self.agents[index].address;
        let method = METHODS[self.byte() % METHODS.len()];
        let at = self.byte() * 256 + self.byte();
        if let Ok(mut bytes) = self.agents[index].request(method, &Wishes::default())
            && (self.world.is_connected(address) || self.world.connect(address))
        {
            self.rest.push((index, bytes.split_off(at % bytes.len())));
            self.world.write(address, &bytes);
        }
    }

    pub(super) fn request(&mut self) {
        let index = self.agent();
        let method = METHODS[self.byte() % METHODS.len()];
        let target = TARGETS[self.byte() % TARGETS.len()];
        let how = self.byte();
        let mut wishes = Wishes {
            uri: Some(target.to_owned())
                .filter(|target| !target.is_empty() && method != "REGISTER"),
            body: Some(BODIES[how % 3].to_owned()).filter(|body| !body.is_empty()),
            call: (how & 16 != 0).then_some(1 + (how >> 5)),
            auth: (how & 12 == 12).then(|| "wrong".into()),
            ..Wishes::default()
        };
        if method == "REGISTER" && how & 3 == 3 {
            wishes.headers.push(("Expires".into(), "0".into()));
        }
        if how & 0x90 == 0x80 && how % 3 == 2 {
            let which = how >> 2 & 3;
            wishes.text = Some(DESCRIPTIONS[which].as_bytes().to_vec());
            wishes.body = None;
        }
        if let ("INVITE", 4 | 8) = (method, how & 12) {
            let name = if how & 4 != 0 { "Supported" } else { "Require" };
            wishes.headers.push((name.into(), "100rel".into()));
        }
        if let Ok(bytes) = self.agents[index].request(method, &wishes) {
            self.send(index, index, bytes);
        }
    }

    /// What agent `index` says, from the address (and the connection) of agent `from`.
    pub(super) fn send(&mut self, index: usize, from: usize, bytes: Vec<u8>) {
        let (address, transport) = (self.agents[from].address, self.agents[from].transport);
        self.agents[index].last_sent = bytes.clone();
        if transport == Transport::Udp {
            self.world.send(address, &bytes);
        } else if self.world.is_connected(address) || self.world.connect(address) {
            self.world.write(address, &bytes);
        }
    }

    pub(super) fn administrate(&mut self) {
        let what = self.byte();
        let source = Source::of(self.agents[what / 16 % AGENTS.len()].address.ip());
        match what % 8 {
            0 | 1 => {
                if let Answer::Calls(page) = self.world.command(Command::Calls {
                    after: None,
                    limit: 1,
                }) && let Some(call) = page.items.first()
                {
                    let call = call.id.clone();
                    self.world.command(Command::Hangup { call });
                }
            }
            2 => {
                self.world.command(Command::Ban {
                    source,
                    duration: None,
                });
            }
            3 => {
                self.world.command(Command::Unban { source });
            }
            4 => {
                self.world.command(Command::Registrations {
                    after: None,
                    limit: 3,
                });
            }
            5 => {
                self.world.reload(config(self.is_relayed));
            }
            7 => self.resolve(what),
            // Rare, since nothing begins after it.
            6 if what == 0xfe => {
                self.is_stopped = true;
                self.world.stop();
            }
            _ => {}
        }
    }

    /// Names: the name server changes its manners, one of its records goes and a reload asks again, or bytes come on the
    /// socket of a query, from the name server or from somebody else.
    fn resolve(&mut self, what: usize) {
        match what >> 3 & 3 {
            0 => self.world.name_server.manner = MANNERS[(what >> 5) % MANNERS.len()],
            1 => {
                self.world.name_server.zone.remove("a.carrier.example");
                self.world.reload(config(self.is_relayed));
            }
            which => {
                let from = match which {
                    2 => NAME_SERVER,
                    _ => self.agents[0].address,
                };
                let length = self.byte().min(self.data.len());
                let (bytes, rest) = self.data.split_at(length);
                self.data = rest;
                self.world.input_answer(what >> 5, from, bytes);
            }
        }
    }
}
