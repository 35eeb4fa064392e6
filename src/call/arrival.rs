//! A request whose sender is known, and the responses to it that are ours alone.

use super::*;
use crate::message::Message;
use crate::message::compose::{Composer, reason_phrase};
use crate::transaction::ServerKey;

/// A request as it arrived, its sender known.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The request.
    pub request: &'a Message<'a>,
    /// The way it came.
    pub flow: Flow,
    /// Our address on it, for Via and Contact.
    pub ours: std::net::SocketAddr,
    /// Where its responses go.
    pub reply: Flow,
    /// Its key in the transaction layer.
    pub key: ServerKey,
    /// Its sender was behind a NAT when he was challenged, as the nonce that he has answered with says.
    pub was_behind_nat: bool,
}

impl Arrival<'_> {
    /// The same once its sender has proved who he is: its responses go where his Via asks for (RFC 3261 §18.2.2).
    pub fn authenticated(&self) -> Self {
        let reply = crate::transport::response_flow(&self.flow, self.request.via(), true);
        Self { reply, ..*self }
    }

    /// A final response of our own, at once.
    pub fn answer(&self, status: u16, retry_after: Option<u64>, context: &mut Context<'_>) {
        // One within a dialog has its tag already.
        match self.request.to().tag() {
            Some(_) => self.answer_tagged(status, retry_after, b"", context),
            None => {
                let tag = context.stateless_branch();
                self.answer_tagged(status, retry_after, &tag, context);
            }
        }
    }

    /// The same with this To tag, if the request has none.
    pub(super) fn answer_tagged(
        &self,
        status: u16,
        retry_after: Option<u64>,
        tag: &[u8],
        context: &mut Context<'_>,
    ) {
        self.answer_with(status, tag, context, |composer| {
            if let Some(seconds) = retry_after {
                composer.number("Retry-After", seconds);
            }
            match status {
                200 | 405 => composer.field("Allow", &[carriage::ALLOW]),
                415 => composer.field("Accept", &[carriage::ACCEPT]),
                422 => composer.number("Min-SE", session::INTERVAL_MIN_S.into()),
                489 => composer.field("Allow-Events", &[carriage::ALLOW_EVENTS]),
                _ => composer,
            };
        });
    }

    /// The same with these lines of one's own.
    pub fn answer_with(
        &self,
        status: u16,
        tag: &[u8],
        context: &mut Context<'_>,
        lines: impl FnOnce(&mut Composer<'_>),
    ) {
        let mut composer = Composer::response_to(
            context.buffer,
            self.request,
            &self.flow,
            status,
            reason_phrase(status),
            tag,
        );
        lines(&mut composer);
        composer.field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        self.send(status, context);
    }

    /// Sends the final response that was composed into the context's buffer. An INVITE needs a transaction of its own
    /// for it; when there is none free, nothing repeats it (RFC 3261 §8.2.7).
    pub fn send(&self, status: u16, context: &mut Context<'_>) {
        let now = context.now.mono;
        let transactions = &mut *context.transactions;
        if self.request.method() != Method::Invite {
            transactions.complete(now, self.key, &self.reply, context.buffer, context.out);
            return;
        }
        let owner = Owner::NOBODY;
        match transactions.open_server(now, self.key, self.request, &self.reply, owner) {
            Some(server) => {
                transactions.respond(now, server, status, context.buffer, context.out);
            }
            None => crate::source::Sink::send(context.out, &self.reply, context.buffer),
        }
    }
}
