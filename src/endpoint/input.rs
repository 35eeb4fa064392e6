//! Bytes to messages: admission before a byte is read, framing, parsing, and what bad bytes are answered with.

use super::lamps::sight;
use super::*;
use crate::guard::Standing;
use crate::line::Silence;
use crate::message::compose::{Composer, reason_phrase};
use crate::message::{self, Method};
use crate::transaction::Expired;
use crate::transport::stream::{Frame, FrameError, Framer, PONG};
use crate::transport::{Stream, raw_branch, raw_tags};

impl Endpoint {
    pub(super) fn datagram(&mut self, now: Now, flow: &Flow, bytes: &[u8]) {
        let Some(standing) = self.admit(now, flow, bytes) else {
            return;
        };
        // Keep-alives of phones behind NAT: CRLF, or a few zero bytes; and what they answer to ours.
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
            || self.keepalive.is_answer(flow, bytes)
        {
            return;
        }
        self.message(now, flow, standing, bytes);
    }

    /// The guard's word on a packet, from its source alone; over budget, one look for its branch, and one for a nonce of ours.
    fn admit(&mut self, now: Now, flow: &Flow, bytes: &[u8]) -> Option<Standing> {
        let source = flow.source();
        let who = self.peers.lookup(flow).is_some();
        let is_stream = flow.connection.is_some();
        let mut admission = self.guard.admit(now, source, who, is_stream);
        if admission == Admission::Watched {
            let is_live = self.location.has_flow(flow).is_some();
            admission = self.guard.admit_watched(now, source, is_stream, is_live);
        }
        if let Admission::Excess(standing) = admission {
            let ours = self.is_answering(bytes) || self.keepalive.is_answer(flow, bytes);
            let branch = raw_branch(bytes);
            admission = (self.guard).admit_excess(now, source, standing, ours, branch);
        }
        if admission == Admission::Crowded {
            let branch = raw_branch(bytes);
            admission = self.guard.admit_repeated(now, source, branch);
        }
        if admission == Admission::Peek && self.auth.peek(now, bytes, source) {
            admission = self.guard.prove(now, source);
        }
        match admission {
            Admission::Admit(standing) => Some(standing),
            _ => None,
        }
    }

    /// Whether a message that was not parsed carries the branch of a request of ours or a tag of a call or subscription: both
    /// hold 64 bits that only the peer has seen. Nothing else follows from it.
    fn is_answering(&self, bytes: &[u8]) -> bool {
        raw_branch(bytes).is_some_and(|branch| self.transactions.is_own_branch(branch))
            || raw_tags(bytes)
                .any(|tag| self.calls.is_own_tag(tag) || self.subscriptions.is_own_tag(tag))
    }

    pub(super) fn stream_opened(&mut self, now: Now, flow: Flow) {
        let Some(connection) = flow.connection else {
            return;
        };
        // A carrier may call over TCP whatever the transport of its line (RFC 3261 §18.1.1).
        let is_trusted =
            self.peers.lookup(&flow).is_some() || self.peers.has_address(flow.remote.ip());
        match self.connections.get_mut(connection) {
            // One that we opened: now its own address is known.
            Some(stream) => (stream.flow, stream.heard) = (flow, now.mono),
            None => {
                self.connections.insert(
                    connection,
                    Stream {
                        flow,
                        framer: Framer::new(),
                        is_trusted,
                        heard: now.mono,
                        has_spoken: false,
                    },
                );
                if is_trusted {
                    self.out.trust_stream(connection);
                }
            }
        }
    }

    pub(super) fn stream_bytes(&mut self, now: Now, connection: ConnectionId, bytes: &[u8]) {
        let Some(stream) = self.connections.get_mut(connection) else {
            return;
        };
        (stream.heard, stream.has_spoken) = (now.mono, true);
        // The stream stays where it is: what it brings may make it trusted.
        let (flow, mut framer) = (stream.flow, std::mem::take(&mut stream.framer));
        // A ban that began in this batch: whatever was on its way is discarded.
        let is_banned =
            self.guard.is_banned(now, flow.source()) && self.peers.lookup(&flow).is_none();
        let is_open = !is_banned && self.frames(now, &flow, &mut framer, bytes);
        if is_open {
            if let Some(stream) = self.connections.get_mut(connection) {
                stream.framer = framer;
            }
        } else {
            self.out.close_stream(connection);
            self.stream_closed(now, connection);
        }
    }

    /// Handles every whole message of a stream; `false` when it must be closed.
    fn frames(&mut self, now: Now, flow: &Flow, framer: &mut Framer, bytes: &[u8]) -> bool {
        let mut frames = framer.feed(bytes);
        let mut error = None;
        while let Some(frame) = frames.next() {
            match frame {
                Frame::Ping => crate::source::Sink::send(&mut self.out, flow, PONG),
                Frame::Message(bytes) => {
                    // Over its budget even a stream's message is dropped; a ban closes the connection.
                    let Some(standing) = self.admit(now, flow, bytes) else {
                        continue;
                    };
                    self.message(now, flow, standing, bytes);
                }
                Frame::Error(reason) => error = Some(reason),
            }
        }
        drop(frames);
        let Some(error) = error else { return true };
        self.frame_error(flow, error, framer.refused());
        false
    }

    /// 513 to what is too long, 400 to a length that cannot be; then the stream has no meaning any more.
    fn frame_error(&mut self, flow: &Flow, error: FrameError, head: &[u8]) {
        let Some((status, skeleton)) = error.status().zip(message::salvage(head)) else {
            return;
        };
        let tag = self.stateless_tag(&[skeleton.call_id, skeleton.from, skeleton.cseq]);
        let buffer = &mut self.buffer;
        Composer::error_response(buffer, &skeleton, flow, status, error.reason(), &tag)
            .finish(None, b"");
        crate::source::Sink::send(&mut self.out, flow, buffer);
    }

    pub(super) fn stream_closed(&mut self, now: Now, connection: ConnectionId) {
        let Some(stream) = self.connections.remove(connection) else {
            // Something was written to a connection that had gone: its transactions fail now.
            self.transactions.connection_closed(connection);
            let (calls, mut context) = self.split(now);
            calls.written_to_nobody(connection, &mut context);
            self.expire_transactions(now);
            return;
        };
        let again = match self.transactions.waits_on(connection) {
            true => (self.connections).again(now.mono, &stream, &mut self.out),
            false => None,
        };
        match again {
            Some(flow) => {
                (self.transactions).reconnected(connection, &flow, &mut self.out);
                self.lines.moved(connection, &flow);
            }
            None => self.transactions.connection_closed(connection),
        }
        self.location
            .connection_closed(connection, &mut self.changes);
        self.keep_changes();
        self.line_connection_closed(now, connection);
        if stream.is_trusted {
            let (calls, mut context) = self.split(now);
            calls.connection_closed(connection, &mut context);
        }
        self.expire_transactions(now);
    }

    /// One whole message.
    fn message(&mut self, now: Now, flow: &Flow, standing: Standing, bytes: &[u8]) {
        // Looked at where it is: to move it is to copy its index.
        match &message::parse(bytes) {
            Ok(message) if message.is_request() => self.request(now, flow, standing, message),
            Ok(response) => {
                let found = self
                    .transactions
                    .receive_response(now.mono, response, &mut self.out);
                let Some(found) = found else { return };
                if let (_, TransactionUser::Reach(id)) = found {
                    return self.reach_answered(now, id, response);
                }
                self.reach_responded(now, flow, response);
                if let TransactionUser::Call(owner) = found.1
                    && self.is_from_line(owner, flow)
                {
                    self.line_answered(now, flow, response);
                }
                let ours = self.contact_address(flow);
                self.sees_us(now, found.1, flow, ours, response);
                if let (id, TransactionUser::Call(owner)) = found
                    && matches!(response.status(), 401 | 407)
                    && self.is_from_line(owner, flow)
                {
                    let (calls, mut context) = self.split(now);
                    if calls.challenged(id, owner, response, &mut context) {
                        return;
                    }
                }
                let (users, mut context) = self.users(now);
                match found {
                    (id, TransactionUser::Call(owner)) => {
                        let way = (flow, ours);
                        (users.calls).receive_response(id, owner, response, way, &mut context);
                    }
                    (_, TransactionUser::Page(page)) => {
                        (users.pages).receive_response(page, response, &mut context);
                    }
                    (_, TransactionUser::Subscription(id)) => {
                        let lamps = sight(users.calls, users.config, users.auth);
                        (users.subscriptions).receive_response(id, response, &lamps, &mut context);
                    }
                    (_, TransactionUser::Reach(_)) => {}
                    (_, TransactionUser::Line(id))
                        if matches!(response.status(), 401 | 407)
                            && !self.may_ask_line(id, flow) =>
                    {
                        self.line_unanswered(now, id, Silence::Stranger(flow.remote));
                    }
                    (_, TransactionUser::Line(id)) => self.line_response(now, id, response),
                }
            }
            Err(error) => self.bad_message(now, flow, standing, bytes, *error),
        }
    }

    /// 400, 505 or 513 with the reason to whoever has shown that he receives it, silence to others.
    fn bad_message(
        &mut self,
        now: Now,
        flow: &Flow,
        standing: Standing,
        bytes: &[u8],
        error: message::Error,
    ) {
        let source = flow.source();
        if matches!(standing, Standing::Unproven | Standing::Proven) {
            self.guard.suspect(now, source);
        }
        if !self.may_tell(now, source, standing) {
            return;
        }
        let Some(skeleton) = message::salvage(bytes) else {
            return;
        };
        if Method::of(skeleton.method) == Method::Ack {
            return;
        }
        let status = error.kind.status();
        let reason = if status == 400 {
            error.kind.reason()
        } else {
            reason_phrase(status)
        };
        let tag = self.stateless_tag(&[skeleton.call_id, skeleton.from, skeleton.cseq]);
        Composer::error_response(&mut self.buffer, &skeleton, flow, status, reason, &tag)
            .finish(None, b"");
        crate::source::Sink::send(&mut self.out, flow, &self.buffer);
    }

    /// Everything that is due.
    pub(super) fn tick(&mut self, now: Now) {
        self.hang_up_some(now);
        self.places.expire(now.mono, &mut self.out);
        self.expire_transactions(now);
        self.tick_reach(now);
        self.tick_keepalive(now.mono);
        loop {
            let (users, mut context) = self.users(now);
            let is_any = users.calls.expire(&mut context)
                || users.pages.expire(&mut context)
                || users
                    .subscriptions
                    .expire(&sight(users.calls, users.config, users.auth), &mut context);
            if !is_any {
                break;
            }
        }
        self.lines_go_on(now);
        self.location.expire(now, &mut self.changes);
        self.keep_changes();
        while let Some(source) = self.guard.expire(now) {
            self.lane_changes += 1;
            let fields = vec![("source", source.to_string()), ("by", "time".to_owned())];
            self.out.event(Event {
                level: log::Level::Info,
                name: "unban",
                source: Some(source),
                fields: fields.into(),
            });
        }
    }

    fn expire_transactions(&mut self, now: Now) {
        let mut unanswering = Vec::new();
        while let Some(expired) = self.transactions.expire(now.mono, &mut self.out) {
            let is_timeout = matches!(expired, Expired::Timeout { .. });
            let (users, mut context) = self.users(now);
            match expired.owner() {
                TransactionUser::Call(owner) => {
                    if is_timeout {
                        unanswering.extend(users.calls.connection_of(owner));
                    }
                    let silent = users.calls.invited(owner);
                    users.calls.expired(expired.of(owner), &mut context);
                    if let Some((party, flow)) = silent {
                        self.line_doubt(now, &party, &flow);
                    }
                }
                TransactionUser::Page(page) => users.pages.unanswered(page, &mut context),
                TransactionUser::Subscription(id) => users.subscriptions.unanswered(id),
                TransactionUser::Reach(id) => self.reach_failed(now, id, is_timeout),
                TransactionUser::Line(id) => {
                    let silence = match is_timeout {
                        true => Silence::NoAnswer,
                        false => Silence::NoConnection,
                    };
                    if is_timeout {
                        unanswering.extend(self.line_connection(id));
                    }
                    self.line_unanswered(now, id, silence);
                }
            }
        }
        self.calls_unheard(now);
        // One that brings nothing else either is dead, and nobody has said so: the next message must not go there. Whatever
        // was due has been done, so closing them finds no more of them.
        for connection in unanswering {
            if self.connections.is_silent(connection, now.mono) {
                self.out.close_stream(connection);
                self.stream_closed(now, connection);
            }
        }
    }

    /// RFC 3261 §8.2.7: the To tag of an answer without state depends on nothing but the request.
    pub(super) fn stateless_tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        crate::token::hex(self.tag_hasher.hash_one(parts))
    }
}
