//! What is kept of a request so that it can be answered when its bytes are gone.

use std::net::SocketAddr;

use crate::message::compose::{Composer, reason_phrase};
use crate::message::{HeaderName, Message, Method};
use crate::source::Flow;
use crate::transport::reconnect_address;

/// Via, From, Call-ID and CSeq as header lines, and To (RFC 3261 §8.2.6.2).
#[derive(Clone, Debug, Default)]
pub struct Answerable {
    lines: Box<[u8]>,
    /// Record-Route of an INVITE, for responses that make a dialog (RFC 3261 §12.1.1).
    routes: Box<[u8]>,
    to: Box<[u8]>,
    needs_tag: bool,
    /// Where a new connection leads for the response, if that may be opened (RFC 3261 §18.2.2).
    pub way_back: Option<SocketAddr>,
}

impl Answerable {
    /// Takes what is needed from a request; `may_connect`: its sender is known by his address. `buffer` is scratch.
    pub fn of(request: &Message<'_>, flow: &Flow, may_connect: bool, buffer: &mut Vec<u8>) -> Self {
        let mut composer = Composer::lines_into(buffer);
        composer.repeated(request, flow);
        let lines = buffer.as_slice().into();
        let mut composer = Composer::lines_into(buffer);
        if request.method() == Method::Invite {
            for route in request.line_values(HeaderName::RecordRoute) {
                composer.field("Record-Route", &[route]);
            }
        }
        Self {
            lines,
            routes: buffer.as_slice().into(),
            to: request.to().raw.into(),
            needs_tag: request.to().tag().is_none(),
            way_back: may_connect.then(|| reconnect_address(flow, request.via())),
        }
    }

    /// The 100 to `request`, which it was made from: with its Timestamp, and without a tag (RFC 3261 §8.2.6.1).
    pub fn trying(&self, request: &Message<'_>, buffer: &mut Vec<u8>) {
        let mut composer = Composer::response(buffer, 100, reason_phrase(100));
        composer.lines(&self.lines).field("To", &[&self.to]);
        if let Some(timestamp) = request.value(HeaderName::Timestamp) {
            composer.field("Timestamp", &[timestamp]);
        }
        composer.finish(None, b"");
    }

    /// Begins a response; `tag` is ours, for a To that has none.
    pub fn response<'b>(&self, buffer: &'b mut Vec<u8>, status: u16, tag: &[u8]) -> Composer<'b> {
        let mut composer = Composer::response(buffer, status, reason_phrase(status));
        composer.lines(&self.lines);
        if (101..300).contains(&status) {
            composer.lines(&self.routes);
        }
        if self.needs_tag {
            composer.field("To", &[&self.to, b";tag=", tag]);
        } else {
            composer.field("To", &[&self.to]);
        }
        composer
    }
}
