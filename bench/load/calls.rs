//! Whole calls (RFC 3261 §13, §15) with both phones played here: the caller's socket sends INVITE, ACK and BYE, the
//! callee's answers 180, 200 and 200. Users at even places call those at odd ones.
//!
//! The callee keeps nothing: it answers a repeated INVITE as the first one, and does not repeat its 200. Where packets
//! are lost a call may so end as lost that a phone would have saved.

use std::net::{IpAddr, SocketAddr};

use sipkeep::message::compose::Composer;
use sipkeep::message::{HeaderName, Message, Method, parse};

use crate::arguments::{Arguments, Command, Scenario as Name};
use crate::engine::{Job, Scenario, Verdict};
use crate::message::{self, User};
use crate::socket::{Outbox, Udp};

/// Place of the caller's and of the callee's socket.
const CALLER: usize = 0;
const CALLEE: usize = 1;

const OFFER: &[u8] = b"v=0\r\no=- 3723651 3723651 IN IP4 192.0.2.50\r\ns=-\r\nc=IN IP4 192.0.2.50\r\nt=0 0\r\n\
    m=audio 11780 RTP/AVP 9 0 8 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n";
const ANSWER: &[u8] = b"v=0\r\no=- 991 991 IN IP4 192.0.2.51\r\ns=-\r\nc=IN IP4 192.0.2.51\r\nt=0 0\r\n\
    m=audio 11800 RTP/AVP 9 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

/// A call's slot.
#[derive(Default)]
struct Call {
    pair: usize,
    call_id: Vec<u8>,
    cseq: u32,
    /// The INVITE was answered: the BYE is under way.
    is_ending: bool,
}

/// See the module.
pub struct Calls {
    target: SocketAddr,
    domain: String,
    locals: [SocketAddr; 2],
    users: Vec<User>,
    calls: Vec<Call>,
    next_pair: usize,
    password: String,
    numbers: (u32, u32),
    buffer: Vec<u8>,
    /// Whom all calls come from, without registration or password.
    trunk: Option<IpAddr>,
    /// Calls that stay, still to be made; `None`: they end with a BYE.
    held: Option<usize>,
}

impl Calls {
    /// Between the users of the arguments.
    ///
    /// # Errors
    /// There are not two, for people.
    pub fn new(arguments: &Arguments) -> Result<Self, String> {
        let (first, last) = arguments.users;
        if first == last {
            return Err("--users: a call needs two".to_owned());
        }
        Ok(Self {
            target: arguments.target,
            domain: arguments.domain(),
            locals: [arguments.target; 2],
            users: Vec::new(),
            calls: Vec::new(),
            next_pair: 0,
            password: arguments.password.clone(),
            numbers: arguments.users,
            buffer: Vec::new(),
            trunk: arguments.trunk,
            held: (arguments.command == Command::Load(Name::HeldCalls)).then_some(arguments.calls),
        })
    }

    fn invite(&mut self, job: Job, out: &mut Vec<u8>) {
        let call = &mut self.calls[job.slot as usize];
        call.cseq += 1;
        let (callers, callees) = self.users.split_at_mut(call.pair * 2 + 1);
        let (Some(caller), Some(callee)) = (callers.last_mut(), callees.first()) else {
            return;
        };
        let local = self.locals[CALLER];
        let uri = callee.aor.as_bytes();
        let mut composer = message::request(out, b"INVITE", uri, local, &message::branch(job));
        composer.field(
            "From",
            &[b"<", caller.aor.as_bytes(), b">;tag=", &call.call_id],
        );
        composer
            .field("To", &[b"<", uri, b">"])
            .field("Call-ID", &[&call.call_id]);
        composer.field("CSeq", &[call.cseq.to_string().as_bytes(), b" INVITE"]);
        composer.field(
            "Contact",
            &[format!("<sip:{}@{local}>", caller.name).as_bytes()],
        );
        caller.authorize(&mut composer, b"INVITE", uri);
        composer.field(
            "Allow",
            &[b"INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER"],
        );
        composer.field("User-Agent", &[b"Desk Phone 5.1"]);
        composer.finish(Some(b"application/sdp"), OFFER);
    }

    /// ACK to a 2xx (a transaction of its own), or a BYE: what both take from the answer.
    fn within(&self, answer: &Message<'_>, method: &[u8], job: Job, out: &mut Vec<u8>) -> bool {
        let Some(contact) = answer.contact_values().next() else {
            return false;
        };
        let (local, branch) = (self.locals[CALLER], message::branch(job));
        let number = answer.cseq().number + u32::from(method == b"BYE");
        let mut composer = message::request(out, method, contact.address.uri, local, &branch);
        // RFC 3261 §12.1.2: a proxy that stays in the way has said so, the last one first.
        let routes: Vec<&[u8]> = answer.values(HeaderName::RecordRoute).collect();
        for route in routes.iter().rev() {
            composer.field("Route", &[route]);
        }
        copy(
            &mut composer,
            answer,
            &[HeaderName::From, HeaderName::To, HeaderName::CallId],
        );
        composer.field("CSeq", &[number.to_string().as_bytes(), b" ", method]);
        composer.finish(None, b"");
        true
    }

    /// ACK to another final answer: part of the INVITE's transaction (RFC 3261 §17.1.1.3). Its branch and its URI, which is
    /// that of our To, stand in the answer.
    fn acknowledge_refusal(&mut self, answer: &Message<'_>, out: &mut Outbox) {
        let local = self.locals[CALLER];
        let (uri, branch) = (answer.to().uri, answer.via().branch);
        let mut composer = message::request(&mut self.buffer, b"ACK", uri, local, branch);
        copy(
            &mut composer,
            answer,
            &[HeaderName::From, HeaderName::To, HeaderName::CallId],
        );
        composer.field(
            "CSeq",
            &[answer.cseq().number.to_string().as_bytes(), b" ACK"],
        );
        composer.finish(None, b"");
        out.push(CALLER, &self.buffer);
    }

    fn acknowledge(&mut self, answer: &Message<'_>, job: Job, out: &mut Outbox) -> bool {
        let mut bytes = std::mem::take(&mut self.buffer);
        // A branch of its own: that of the INVITE's job, in a slot that no job has.
        let job = Job {
            slot: job.slot | 1 << 31,
            ..job
        };
        let is_composed = self.within(answer, b"ACK", job, &mut bytes);
        if is_composed {
            out.push(CALLER, &bytes);
        }
        self.buffer = bytes;
        is_composed
    }

    fn invited(
        &mut self,
        job: Job,
        next: Job,
        answer: &Message<'_>,
        request: &mut Vec<u8>,
        out: &mut Outbox,
    ) -> Verdict {
        match answer.status() {
            180..200 => Verdict::Rings,
            100..180 => Verdict::Waits,
            200..300 if self.held.is_some() => match self.acknowledge(answer, job, out) {
                true => Verdict::Done,
                false => Verdict::Failed,
            },
            200..300 => {
                let is_composed = self.acknowledge(answer, job, out)
                    && self.within(answer, b"BYE", next, request);
                self.calls[job.slot as usize].is_ending = true;
                if is_composed {
                    Verdict::Next
                } else {
                    Verdict::Failed
                }
            }
            status => {
                self.acknowledge_refusal(answer, out);
                let caller = &mut self.users[self.calls[job.slot as usize].pair * 2];
                // The nonce has been forgotten or is too old: once more with the new one.
                let is_first = self.calls[job.slot as usize].cseq == 1;
                if matches!(status, 401 | 407) && is_first && caller.challenged(answer) {
                    self.invite(next, request);
                    return Verdict::Next;
                }
                Verdict::Failed
            }
        }
    }
}

/// Copies single header fields of an answer.
fn copy(composer: &mut Composer<'_>, answer: &Message<'_>, names: &[HeaderName]) {
    for name in names {
        if let Some(value) = answer.value(*name) {
            composer.field(name.text(), &[value]);
        }
    }
}

impl Scenario for Calls {
    fn name(&self) -> &'static str {
        match self.held {
            Some(_) => Name::HeldCalls.name(),
            None => Name::Calls.name(),
        }
    }

    fn addresses(&self, bind: IpAddr) -> Vec<IpAddr> {
        vec![self.trunk.unwrap_or(bind), bind]
    }

    fn bound(&mut self, locals: &[SocketAddr]) {
        self.locals = [locals[CALLER], locals[CALLEE]];
    }

    fn prepare(&mut self, sockets: &mut [Udp], run: u32) -> Result<(), String> {
        let new = |number| User::new(number, &self.domain, &self.password, run);
        self.users = (self.numbers.0..=self.numbers.1).map(new).collect();
        self.users.truncate(self.users.len() & !1);
        let (target, domain) = (self.target, &self.domain);
        let callers = self.trunk.is_none().then_some((CALLER, 0));
        for (socket, place) in callers.into_iter().chain([(CALLEE, 1)]) {
            let users = self.users.iter_mut().skip(place).step_by(2);
            message::register_all(users, sockets, socket, target, domain, run)?;
        }
        Ok(())
    }

    fn begin(&mut self, job: Job, request: &mut Vec<u8>) -> bool {
        match &mut self.held {
            Some(0) => return false,
            Some(left) => *left -= 1,
            None => {}
        }
        let slot = job.slot as usize;
        if self.calls.len() <= slot {
            self.calls.resize_with(slot + 1, Call::default);
        }
        self.next_pair = (self.next_pair + 1) % (self.users.len() / 2);
        let call = &mut self.calls[slot];
        call.pair = self.next_pair;
        call.call_id.clear();
        call.call_id.extend_from_slice(&message::branch(job)[7..]);
        call.cseq = 0;
        call.is_ending = false;
        self.invite(job, request);
        true
    }

    fn answer(
        &mut self,
        job: Job,
        next: Job,
        bytes: &[u8],
        request: &mut Vec<u8>,
        out: &mut Outbox,
    ) -> Verdict {
        if self.calls[job.slot as usize].is_ending {
            return match message::status(bytes) {
                100..200 => Verdict::Waits,
                200..300 => Verdict::Done,
                _ => Verdict::Failed,
            };
        }
        match parse(bytes) {
            Ok(answer) => self.invited(job, next, &answer, request, out),
            Err(_) => Verdict::Failed,
        }
    }

    fn late(&mut self, bytes: &[u8], out: &mut Outbox) {
        // A repeated final answer to an INVITE says that its ACK was lost (RFC 3261 §13.2.2.4, §17.1.1.2).
        let Ok(answer) = parse(bytes) else { return };
        if answer.cseq().method != Method::Invite {
            return;
        }
        match answer.status() {
            200..300 => {
                let job = Job {
                    run: 0,
                    slot: 0,
                    serial: answer.cseq().number,
                };
                self.acknowledge(&answer, job, out);
            }
            300.. => self.acknowledge_refusal(&answer, out),
            _ => {}
        }
    }

    fn serve(&mut self, socket: usize, bytes: &[u8], out: &mut Outbox) {
        let Ok(request) = parse(bytes) else { return };
        let flow = message::flow(self.locals[socket], self.target);
        let contact = format!("<sip:{}>", self.locals[socket]);
        let mut respond = |status, reason, tag: &[u8], body: &[u8]| {
            let mut composer =
                Composer::response_to(&mut self.buffer, &request, &flow, status, reason, tag);
            if request.method() == Method::Invite {
                composer.field("Contact", &[contact.as_bytes()]);
                for route in request.values(HeaderName::RecordRoute) {
                    composer.field("Record-Route", &[route]);
                }
            }
            let kind = (!body.is_empty()).then_some(&b"application/sdp"[..]);
            composer.finish(kind, body);
            out.push(socket, &self.buffer);
        };
        match request.method() {
            Method::Ack => {}
            Method::Invite => {
                // The same for each repetition; the server's branch is unguessable and short.
                let branch = request.via().branch;
                let tag = &branch[branch.len().saturating_sub(16)..];
                respond(180, "Ringing", tag, b"");
                respond(200, "OK", tag, ANSWER);
            }
            Method::Bye | Method::Cancel | Method::Options => respond(200, "OK", b"", b""),
            _ => respond(501, "Not Implemented", b"load", b""),
        }
    }

    fn end(&mut self, _slot: u32) {}

    fn is_complete(&self) -> bool {
        self.held == Some(0)
    }

    fn messages_of_job(&self) -> u32 {
        // In: INVITE, 180, 200, ACK, BYE, 200. Out: 100, INVITE, 180, 200, ACK, BYE, 200.
        13
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    #[test]
    fn a_proxys_challenge_is_acknowledged_and_answered() {
        let words = ["calls", "--target", "127.0.0.1:5060", "--users", "1-2"];
        let arguments = arguments::parse(lexopt::Parser::from_args(words)).unwrap();
        let mut calls = Calls::new(&arguments).unwrap();
        calls.users = [1, 2].map(|user| User::new(user, "pbx", "x", 7)).into();
        let job = Job {
            run: 7,
            slot: 0,
            serial: 1,
        };
        let next = Job { serial: 2, ..job };
        let mut request = Vec::new();
        assert!(calls.begin(job, &mut request));
        let invite = parse(&request).unwrap();
        let mut answer = Vec::new();
        let flow = message::flow(arguments.target, arguments.target);
        let mut composer = Composer::response_to(&mut answer, &invite, &flow, 407, "Who", b"t");
        composer.field("Proxy-Authenticate", &[b"Digest realm=\"r\", nonce=\"n\""]);
        composer.finish(None, b"");
        let mut out = Outbox::default();
        let verdict = calls.answer(job, next, &answer, &mut request, &mut out);
        assert_eq!((verdict, out.len()), (Verdict::Next, 1));
        let again = parse(&request).unwrap();
        assert!(again.value(HeaderName::ProxyAuthorization).is_some());
        assert_eq!((again.method(), again.cseq().number), (Method::Invite, 2));
        // It comes again: the ACK was lost.
        calls.late(&answer, &mut out);
        assert_eq!(out.len(), 2);
        let verdict = calls.answer(next, job, &answer, &mut request, &mut out);
        assert_eq!((verdict, out.len()), (Verdict::Failed, 3));
    }
}
