//! Scenarios of one request and one answer: OPTIONS, REGISTER with and without credentials.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use sipkeep::message::compose::Composer;
use sipkeep::message::parse;

use crate::arguments::{Arguments, Scenario as Name};
use crate::engine::{Job, Scenario, Verdict};
use crate::message::{self, User};
use crate::socket::{Outbox, Udp};

/// See the module.
pub struct Requests {
    name: Name,
    target: SocketAddr,
    domain: String,
    /// First lines and the Via line as far as the branch.
    head: Vec<u8>,
    locals: Vec<SocketAddr>,
    /// Sockets that the users are spread over.
    flows: usize,
    users: Vec<User>,
    /// Users with no request in progress: nobody has two registrations of one binding under way.
    idle: VecDeque<usize>,
    /// User of each slot.
    playing: Vec<Option<usize>>,
    /// Whether the job in a slot has been challenged: once more means that the password is wrong.
    is_challenged: Vec<bool>,
    password: String,
    numbers: (u32, u32),
    /// Who of them has registered.
    present: Vec<bool>,
    /// How many have not.
    absent: usize,
}

impl Requests {
    /// For one of these scenarios.
    ///
    /// # Errors
    /// None today.
    pub fn new(name: Name, arguments: &Arguments) -> Result<Self, String> {
        Ok(Self {
            name,
            target: arguments.target,
            domain: arguments.domain(),
            head: Vec::new(),
            locals: Vec::new(),
            flows: if is_registering(name) {
                arguments.flows
            } else {
                1
            },
            users: Vec::new(),
            idle: VecDeque::new(),
            playing: Vec::new(),
            is_challenged: Vec::new(),
            password: arguments.password.clone(),
            numbers: arguments.users,
            present: Vec::new(),
            absent: 0,
        })
    }

    /// A request that differs from the last one in what must: branch, tag, Call-ID.
    fn compose(&self, job: Job, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.head);
        let branch = message::branch(job);
        out.extend_from_slice(&branch);
        let unique = &branch[7..];
        let method: &[u8] = if self.name == Name::Register401 {
            b"REGISTER"
        } else {
            b"OPTIONS"
        };
        let domain = self.domain.as_bytes();
        let parts: [&[u8]; 17] = [
            b"\r\nMax-Forwards: 70\r\nFrom: <sip:1000@",
            domain,
            b">;tag=",
            unique,
            b"\r\nTo: <sip:1000@",
            domain,
            b">\r\nCall-ID: ",
            unique,
            b"@desk\r\nCSeq: 1 ",
            method,
            b"\r\nContact: <sip:1000@192.0.2.50:5062>\r\n",
            if self.name == Name::Register401 {
                b"Expires: 3600\r\n"
            } else {
                b"Accept: application/sdp\r\n"
            },
            b"Supported: path, outbound\r\n",
            b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER\r\n",
            b"User-Agent: Desk Phone 5.1\r\n",
            b"Content-Length: 0\r\n",
            b"\r\n",
        ];
        for part in parts {
            out.extend_from_slice(part);
        }
    }
}

const fn is_registering(name: Name) -> bool {
    matches!(name, Name::Register | Name::RegisterNew | Name::RegisterAll)
}

impl Scenario for Requests {
    fn name(&self) -> &'static str {
        self.name.name()
    }

    fn addresses(&self, bind: IpAddr) -> Vec<IpAddr> {
        vec![bind; self.flows]
    }

    fn socket(&self, slot: u32) -> usize {
        let user = self.playing.get(slot as usize).copied().flatten();
        user.map_or(0, |user| user % self.flows)
    }

    fn bound(&mut self, locals: &[SocketAddr]) {
        self.locals = locals.to_vec();
        let method = if self.name == Name::Register401 {
            "REGISTER"
        } else {
            "OPTIONS"
        };
        let (domain, local) = (&self.domain, locals[0]);
        self.head =
            format!("{method} sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=")
                .into_bytes();
    }

    fn prepare(&mut self, sockets: &mut [Udp], run: u32) -> Result<(), String> {
        if !is_registering(self.name) {
            return Ok(());
        }
        let new = |number| User::new(number, &self.domain, &self.password, run);
        self.users = (self.numbers.0..=self.numbers.1).map(new).collect();
        self.idle = (0..self.users.len()).collect();
        self.present = vec![false; self.users.len()];
        self.absent = self.users.len();
        if self.name != Name::Register {
            return Ok(());
        }
        for flow in 0..self.flows {
            let users = self.users.iter_mut().skip(flow).step_by(self.flows);
            message::register_all(users, sockets, flow, self.target, &self.domain, run)?;
        }
        Ok(())
    }

    fn begin(&mut self, job: Job, request: &mut Vec<u8>) -> bool {
        if !is_registering(self.name) {
            self.compose(job, request);
            return true;
        }
        let Some(user) = self.idle.pop_front() else {
            return false;
        };
        let slot = job.slot as usize;
        if self.playing.len() <= slot {
            self.playing.resize(slot + 1, None);
            self.is_challenged.resize(slot + 1, false);
        }
        self.playing[slot] = Some(user);
        self.is_challenged[slot] = false;
        let local = self.locals[user % self.flows];
        self.users[user].register(&message::branch(job), local, &self.domain, request);
        true
    }

    fn answer(
        &mut self,
        _job: Job,
        next: Job,
        bytes: &[u8],
        request: &mut Vec<u8>,
        _out: &mut Outbox,
    ) -> Verdict {
        match (self.name, message::status(bytes)) {
            (Name::RegisterAll, 200) => {
                if let Some(user) = self.playing.get(next.slot as usize).copied().flatten() {
                    let was_present = std::mem::replace(&mut self.present[user], true);
                    self.absent -= usize::from(!was_present);
                }
                Verdict::Done
            }
            (Name::Ping, _)
            | (Name::Options | Name::Register | Name::RegisterNew, 200)
            | (Name::Register401, 401) => Verdict::Done,
            (Name::Register | Name::RegisterNew | Name::RegisterAll, 401 | 407) => {
                // There was no nonce yet; or it has been forgotten or is too old.
                let slot = next.slot as usize;
                let Some(user) = self.playing.get(slot).copied().flatten() else {
                    return Verdict::Failed;
                };
                if std::mem::replace(&mut self.is_challenged[slot], true) {
                    return Verdict::Failed;
                }
                let local = self.locals[user % self.flows];
                let user = &mut self.users[user];
                if !parse(bytes).is_ok_and(|answer| user.challenged(&answer)) {
                    return Verdict::Failed;
                }
                user.register(&message::branch(next), local, &self.domain, request);
                Verdict::Next
            }
            (_, 100..200) => Verdict::Waits,
            _ => Verdict::Failed,
        }
    }

    fn late(&mut self, _bytes: &[u8], _out: &mut Outbox) {}

    fn serve(&mut self, socket: usize, bytes: &[u8], out: &mut Outbox) {
        // The server asks phones for nothing in these scenarios; whoever does is told so.
        let Ok(request) = parse(bytes) else { return };
        let mut answer = Vec::new();
        let flow = message::flow(self.locals[socket], self.target);
        Composer::response_to(
            &mut answer,
            &request,
            &flow,
            501,
            "Not Implemented",
            b"load",
        )
        .finish(None, b"");
        out.push(socket, &answer);
    }

    fn end(&mut self, slot: u32) {
        let user = self.playing.get_mut(slot as usize).and_then(Option::take);
        if matches!(self.name, Name::Register | Name::RegisterAll) {
            self.idle.extend(user);
        }
    }

    fn is_complete(&self) -> bool {
        self.name == Name::RegisterNew && self.idle.is_empty()
    }

    fn is_warm(&self) -> bool {
        self.name != Name::RegisterAll || self.absent == 0
    }

    fn is_echo(&self) -> bool {
        self.name == Name::Ping
    }

    fn messages_of_job(&self) -> u32 {
        if self.name == Name::RegisterNew { 4 } else { 2 }
    }
}
