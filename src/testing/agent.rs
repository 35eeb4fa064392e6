//! A scripted user agent: it sends what it is told to, with everything filled in that the script does not say, and learns
//! tags, routes, challenges and requests from what it receives (RFC 3261 §8.1, §8.2.6, §12).
//!
//! It retransmits nothing and answers nothing by itself: when a packet goes is the script's business. `phone` is the
//! user agent that does everything by itself.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::auth::digest::{self, Login};
use crate::config::Secret;
use crate::message::{
    Composer, DigestParams, HeaderName, Message, Method, NameAddr, parse, reason_phrase,
};
use crate::source::Transport;
use crate::time::Instant;
use crate::transport::{Frame, Framer};

/// The host that agents write in addresses-of-record.
pub const DOMAIN: &str = "pbx";

/// What a script says about a message; everything else is filled in.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Request-URI.
    pub uri: Option<String>,
    /// Branch of the top Via.
    pub branch: Option<String>,
    /// Tag of From.
    pub from_tag: Option<String>,
    /// Tag of To; empty: none.
    pub to_tag: Option<String>,
    /// Call-ID.
    pub call_id: Option<String>,
    /// CSeq number.
    pub cseq: Option<u32>,
    /// Name of the session description that is the body; `none`: no body.
    pub body: Option<String>,
    /// The body itself, byte for byte.
    pub text: Option<Vec<u8>>,
    /// How to authenticate: `no`, `yes`, `wrong`, `again`, `nonce:TEXT`.
    pub auth: Option<String>,
    /// User name in credentials.
    pub user: Option<String>,
    /// Which of the agent's calls, counted from 1; without it the latest.
    pub call: Option<usize>,
    /// Method of the request that a response answers.
    pub method: Option<String>,
    /// Header lines that replace those of their names; an empty value removes them.
    pub headers: Vec<(String, String)>,
}

/// An INVITE that the agent sent.
#[derive(Clone, Debug)]
struct Sent {
    uri: String,
    branch: String,
    cseq: u32,
    /// To of its final response and whether that was a 2xx.
    answer: Option<(String, bool)>,
}

/// A dialog, or what may become one.
#[derive(Clone, Debug)]
struct Dialog {
    call_id: String,
    /// Our URI and tag, the peer's URI and tag.
    local: (String, String),
    remote: (String, Option<String>),
    target: String,
    routes: Vec<String>,
    cseq: u32,
    invite: Option<Sent>,
    /// RAck of a PRACK for the last reliable provisional response (RFC 3262 §7.2).
    rack: Option<String>,
}

/// A request that the agent received.
#[derive(Clone, Debug)]
struct Request {
    bytes: Vec<u8>,
    method: Vec<u8>,
    has_final: bool,
}

/// A user agent.
#[derive(Clone)]
pub struct Agent {
    /// Its name in the script.
    pub name: String,
    /// Its user name.
    pub user: String,
    /// Where it is.
    pub address: SocketAddr,
    /// How it speaks.
    pub transport: Transport,
    /// What reached it and is not yet accounted for: when, and the bytes.
    pub inbox: VecDeque<(Instant, Vec<u8>)>,
    /// The bytes it sent last.
    pub last_sent: Vec<u8>,
    secret: Secret,
    challenge: Option<Vec<u8>>,
    nc: u32,
    last_credentials: Option<Vec<u8>>,
    registration: Option<Dialog>,
    dialogs: Vec<Dialog>,
    requests: Vec<Request>,
    counter: u32,
    framer: Framer,
}

impl Agent {
    /// An agent that has done nothing yet.
    pub fn new(
        name: &str,
        user: &str,
        password: &str,
        address: SocketAddr,
        transport: Transport,
    ) -> Self {
        Self {
            name: name.into(),
            user: user.into(),
            address,
            transport,
            inbox: VecDeque::new(),
            last_sent: Vec::new(),
            secret: Secret::Password(password.into()),
            challenge: None,
            nc: 0,
            last_credentials: None,
            registration: None,
            dialogs: Vec::new(),
            requests: Vec::new(),
            counter: 0,
            framer: Framer::new(),
        }
    }

    /// A datagram reached it.
    pub fn receive_datagram(&mut self, now: Instant, bytes: Vec<u8>) {
        self.learn(&bytes);
        self.inbox.push_back((now, bytes));
    }

    /// Bytes of its connection: each whole message, each CRLF and what cannot be framed is one entry of the inbox.
    pub fn receive_stream(&mut self, now: Instant, bytes: &[u8]) {
        if bytes == b"\r\n" {
            self.inbox.push_back((now, bytes.to_vec()));
            return;
        }
        let mut messages = Vec::new();
        let mut frames = self.framer.feed(bytes);
        while let Some(frame) = frames.next() {
            messages.push(match frame {
                Frame::Message(message) => message.to_vec(),
                Frame::Ping => b"\r\n\r\n".to_vec(),
                Frame::Error(error) => format!("not to be framed: {}", error.reason()).into_bytes(),
            });
        }
        drop(frames);
        for message in messages {
            self.learn(&message);
            self.inbox.push_back((now, message));
        }
    }

    /// Its connection is gone.
    pub fn disconnected(&mut self, now: Instant) {
        self.framer = Framer::new();
        self.inbox.push_back((now, b"closed".to_vec()));
    }

    fn learn(&mut self, bytes: &[u8]) {
        let Ok(message) = parse(bytes) else { return };
        if message.is_request() {
            self.learn_request(&message);
        } else {
            self.learn_response(&message);
        }
    }

    fn learn_request(&mut self, request: &Message<'_>) {
        let method = text(request.cseq().token).into_bytes();
        let retransmitted = self
            .requests
            .iter()
            .any(|known| known.bytes == request.bytes());
        if !retransmitted && request.method() != Method::Ack {
            self.requests.push(Request {
                bytes: request.bytes().to_vec(),
                method,
                has_final: false,
            });
        }
        let call_id = text(request.call_id());
        let target = contact(request);
        match self
            .dialogs
            .iter_mut()
            .find(|dialog| dialog.call_id == call_id)
        {
            Some(dialog) => {
                if let (Method::Invite | Method::Update, Some(target)) = (request.method(), target)
                {
                    dialog.target = target;
                }
            }
            None if request.method() == Method::Invite => {
                let tag = self.token("t");
                self.dialogs.push(Dialog {
                    call_id,
                    local: (text(request.to().uri), tag),
                    remote: (text(request.from().uri), request.from().tag().map(text)),
                    target: target.unwrap_or_default(),
                    routes: request.values(HeaderName::RecordRoute).map(text).collect(),
                    cseq: 0,
                    invite: None,
                    rack: None,
                });
            }
            None => {}
        }
    }

    fn learn_response(&mut self, response: &Message<'_>) {
        let status = response.status();
        if matches!(status, 401 | 407) {
            let name = if status == 401 {
                HeaderName::WwwAuthenticate
            } else {
                HeaderName::ProxyAuthenticate
            };
            if let Some(challenge) = response.value(name) {
                (self.challenge, self.nc) = (Some(challenge.to_vec()), 0);
            }
        }
        let call_id = text(response.call_id());
        let Some(dialog) = self
            .dialogs
            .iter_mut()
            .find(|dialog| dialog.call_id == call_id)
        else {
            return;
        };
        if !matches!(response.cseq().method, Method::Invite | Method::Subscribe) {
            return;
        }
        if status >= 200
            && let Some(sent) = &mut dialog.invite
            && sent.cseq == response.cseq().number
        {
            sent.answer = Some((text(response.to().raw), status < 300));
        }
        if (101..300).contains(&status)
            && let Some(tag) = response.to().tag()
        {
            dialog.remote.1 = Some(text(tag));
            if let Some(target) = contact(response) {
                dialog.target = target;
            }
            dialog.routes = response.values(HeaderName::RecordRoute).map(text).collect();
            dialog.routes.reverse();
        }
        if let Some(rseq) = response.value(HeaderName::RSeq) {
            dialog.rack = Some(format!("{} {} INVITE", text(rseq), response.cseq().number));
        }
    }

    /// Replaces (RFC 3891) that names one of its calls, counted from the latest.
    pub fn replaces(&self, which: usize) -> Option<String> {
        let dialog = self.dialogs.iter().rev().nth(which)?;
        let to = dialog.remote.1.as_deref()?;
        let (call_id, from) = (&dialog.call_id, &dialog.local.1);
        Some(format!("{call_id};to-tag={to};from-tag={from}"))
    }

    fn token(&mut self, kind: &str) -> String {
        self.counter += 1;
        format!("{}-{kind}{}", self.name, self.counter)
    }

    /// Composes a request.
    ///
    /// # Errors
    /// What is missing: no call, no URI.
    pub fn request(&mut self, method: &str, wishes: &Wishes) -> Result<Vec<u8>, String> {
        match method {
            "CANCEL" | "ACK" => return self.hop_by_hop(method, wishes),
            _ => {}
        }
        let mut dialog = self.dialog_for(method, wishes)?;
        let in_dialog = dialog.remote.1.is_some() && method != "REGISTER";
        let uri = match (&wishes.uri, in_dialog) {
            (Some(uri), _) => uri.clone(),
            (None, true) => dialog.target.clone(),
            (None, false) => match &dialog.invite {
                Some(sent) => sent.uri.clone(),
                None => format!("sip:{DOMAIN}"),
            },
        };
        dialog.cseq = wishes.cseq.unwrap_or(dialog.cseq + 1);
        let branch = wishes
            .branch
            .clone()
            .unwrap_or_else(|| format!("z9hG4bK{}", self.token("b")));
        let mut lines = self.head(&dialog, method, &branch, wishes);
        let wants_auth = wishes
            .auth
            .as_deref()
            .unwrap_or(if in_dialog { "no" } else { "yes" });
        if wants_auth != "no"
            && let Some(credentials) = self.credentials(wants_auth, method, &uri, wishes)
        {
            lines.push(("Authorization".into(), credentials));
        }
        if matches!(
            method,
            "INVITE" | "REGISTER" | "UPDATE" | "OPTIONS" | "SUBSCRIBE"
        ) {
            lines.push(("Contact".into(), self.contact()));
        }
        if let ("PRACK", Some(rack)) = (method, &dialog.rack) {
            lines.push(("RAck".into(), rack.clone()));
        }
        if method == "INVITE" {
            dialog.invite = Some(Sent {
                uri: uri.clone(),
                branch,
                cseq: dialog.cseq,
                answer: None,
            });
        }
        let with_body = matches!(method, "INVITE");
        let bytes = self.write_request(method, &uri, lines, wishes, with_body);
        if method == "REGISTER" {
            self.registration = Some(dialog);
        } else if matches!(method, "INVITE" | "SUBSCRIBE") || in_dialog {
            match self
                .dialogs
                .iter_mut()
                .find(|known| known.call_id == dialog.call_id)
            {
                Some(known) => *known = dialog,
                None => self.dialogs.push(dialog),
            }
        }
        Ok(bytes)
    }

    /// The dialog that a request belongs to: with a Request-URI a new one, without one the latest.
    fn dialog_for(&mut self, method: &str, wishes: &Wishes) -> Result<Dialog, String> {
        let own = format!("sip:{}@{DOMAIN}", self.user);
        let fresh = |agent: &mut Self, to: String| Dialog {
            call_id: (wishes.call_id.clone()).unwrap_or_else(|| agent.token("c")),
            local: (
                own.clone(),
                (wishes.from_tag.clone()).unwrap_or_else(|| agent.token("t")),
            ),
            remote: (to, None),
            target: String::new(),
            routes: Vec::new(),
            cseq: 0,
            invite: None,
            rack: None,
        };
        if method == "REGISTER" {
            return Ok(match &self.registration {
                Some(dialog) => dialog.clone(),
                None => fresh(self, format!("sip:{}@{DOMAIN}", self.user)),
            });
        }
        if let Some(call) = wishes.call {
            let found = call
                .checked_sub(1)
                .and_then(|index| self.dialogs.get(index));
            return found
                .cloned()
                .ok_or(format!("{} has no call {call}", self.name));
        }
        match (&wishes.uri, self.dialogs.last()) {
            (None, Some(dialog)) => Ok(dialog.clone()),
            (Some(uri), _) => Ok(fresh(self, uri.clone())),
            (None, None) if method == "OPTIONS" => Ok(fresh(self, format!("sip:{DOMAIN}"))),
            (None, None) => Err(format!(
                "{} has no call: say where {method} goes",
                self.name
            )),
        }
    }

    /// CANCEL (RFC 3261 §9.1) and ACK (§13.2.2.4, §17.1.1.3) of the call's last INVITE.
    fn hop_by_hop(&mut self, method: &str, wishes: &Wishes) -> Result<Vec<u8>, String> {
        let dialog = match wishes.call {
            Some(call) => call
                .checked_sub(1)
                .and_then(|index| self.dialogs.get(index)),
            None => self
                .dialogs
                .iter()
                .rev()
                .find(|dialog| dialog.invite.is_some()),
        };
        let mut dialog = dialog
            .cloned()
            .ok_or(format!("{} has no call", self.name))?;
        let sent = dialog.invite.clone().ok_or("there is no INVITE")?;
        dialog.cseq = wishes.cseq.unwrap_or(sent.cseq);
        let is_success = sent
            .answer
            .as_ref()
            .is_some_and(|(_, is_success)| *is_success);
        let (uri, branch) = if method == "ACK" && is_success {
            (dialog.target.clone(), format!("z9hG4bK{}", self.token("b")))
        } else {
            dialog.routes.clear();
            (sent.uri.clone(), sent.branch.clone())
        };
        let branch = wishes.branch.clone().unwrap_or(branch);
        let uri = wishes.uri.clone().unwrap_or(uri);
        let mut lines = self.head(&dialog, method, &branch, wishes);
        if wishes.to_tag.is_none() {
            let to = match (&sent.answer, method) {
                (Some((to, _)), "ACK") => to.clone(),
                _ if is_success => return Err("there is nothing to cancel any more".into()),
                _ => format!("<{}>", dialog.remote.0),
            };
            replace(&mut lines, "To", &to);
        }
        Ok(self.write_request(method, &uri, lines, wishes, false))
    }

    fn head(
        &self,
        dialog: &Dialog,
        method: &str,
        branch: &str,
        wishes: &Wishes,
    ) -> Vec<(String, String)> {
        let from_tag = wishes.from_tag.as_ref().unwrap_or(&dialog.local.1);
        let to_tag = wishes
            .to_tag
            .clone()
            .or(dialog.remote.1.clone())
            .unwrap_or_default();
        let to_tag = if to_tag.is_empty() {
            String::new()
        } else {
            format!(";tag={to_tag}")
        };
        let via = format!(
            "SIP/2.0/{} {};branch={branch};rport",
            self.transport.via_token(),
            self.address
        );
        let mut lines = vec![
            ("Via".to_owned(), via),
            ("Max-Forwards".into(), "70".into()),
            (
                "From".into(),
                format!("<{}>;tag={from_tag}", dialog.local.0),
            ),
            ("To".into(), format!("<{}>{to_tag}", dialog.remote.0)),
            (
                "Call-ID".into(),
                wishes.call_id.clone().unwrap_or(dialog.call_id.clone()),
            ),
            ("CSeq".into(), format!("{} {method}", dialog.cseq)),
        ];
        if !dialog.routes.is_empty() {
            lines.push(("Route".into(), dialog.routes.join(", ")));
        }
        lines
    }

    fn contact(&self) -> String {
        let transport = if self.transport == Transport::Tcp {
            ";transport=tcp"
        } else {
            ""
        };
        format!("<sip:{}@{}{transport}>", self.user, self.address)
    }

    /// The value of an Authorization header; `None` before there was a challenge.
    fn credentials(
        &mut self,
        how: &str,
        method: &str,
        uri: &str,
        wishes: &Wishes,
    ) -> Option<String> {
        if how == "again" {
            return self.last_credentials.as_ref().map(|value| text(value));
        }
        let challenge = self.challenge.clone()?;
        let mut params = DigestParams::parse(&challenge).ok().flatten()?;
        if let Some(nonce) = how.strip_prefix("nonce:") {
            params.nonce = Some(nonce.as_bytes());
        }
        let wrong = Secret::Password("not-the-password-41".into());
        self.nc += 1;
        let login = Login {
            user: wishes.user.as_deref().unwrap_or(&self.user),
            secret: if how == "wrong" { &wrong } else { &self.secret },
            method: method.as_bytes(),
            uri: uri.as_bytes(),
            nc: self.nc,
            cnonce: b"0a4f113b",
        };
        let value = digest::answer(&params, &login)?;
        self.last_credentials = Some(value.clone());
        Some(text(&value))
    }

    fn write_request(
        &mut self,
        method: &str,
        uri: &str,
        mut lines: Vec<(String, String)>,
        wishes: &Wishes,
        with_body: bool,
    ) -> Vec<u8> {
        let body = self.body(wishes, with_body);
        override_lines(&mut lines, &wishes.headers);
        let mut buffer = Vec::new();
        let composer = Composer::request(&mut buffer, method.as_bytes(), uri.as_bytes());
        finish(composer, &lines, &body);
        buffer
    }

    /// Composes a response to the latest request (of the wished method) that has no final response, or else to the latest.
    ///
    /// # Errors
    /// There is no such request.
    pub fn response(&mut self, status: u16, wishes: &Wishes) -> Result<Vec<u8>, String> {
        let is_wished = |request: &Request| {
            wishes
                .method
                .as_ref()
                .is_none_or(|method| request.method == method.as_bytes())
                && wishes.call_id.as_ref().is_none_or(|id| {
                    parse(&request.bytes).is_ok_and(|parsed| parsed.call_id() == id.as_bytes())
                })
        };
        let open = self
            .requests
            .iter()
            .rposition(|request| !request.has_final && is_wished(request));
        let index = open
            .or_else(|| self.requests.iter().rposition(is_wished))
            .ok_or(format!("{} has no request to answer", self.name))?;
        let request = &mut self.requests[index];
        request.has_final |= status >= 200;
        let bytes = request.bytes.clone();
        let request = parse(&bytes).map_err(|error| error.to_string())?;
        let call_id = text(request.call_id());
        let own_tag = (self.dialogs.iter().find(|dialog| dialog.call_id == call_id))
            .map_or_else(|| "stateless".to_owned(), |dialog| dialog.local.1.clone());
        let mut lines: Vec<(String, String)> = request
            .line_values(HeaderName::Via)
            .map(|via| ("Via".to_owned(), text(via)))
            .collect();
        lines.push(("From".into(), text(request.from().raw)));
        let tag = match (&wishes.to_tag, request.to().tag(), status) {
            (Some(tag), None, _) if tag.is_empty() => String::new(),
            (Some(tag), None, _) => format!(";tag={tag}"),
            (None, None, 101..) => format!(";tag={own_tag}"),
            _ => String::new(),
        };
        lines.push(("To".into(), text(request.to().raw) + &tag));
        lines.push(("Call-ID".into(), call_id));
        lines.push((
            "CSeq".into(),
            text(request.value(HeaderName::CSeq).unwrap_or_default()),
        ));
        let is_session = matches!(request.method(), Method::Invite | Method::Update);
        if is_session && (101..300).contains(&status) {
            lines.push(("Contact".into(), self.contact()));
        }
        let with_body = is_session && matches!(status, 183 | 200..=299);
        let body = self.body(wishes, with_body);
        override_lines(&mut lines, &wishes.headers);
        let mut buffer = Vec::new();
        let composer = Composer::response(&mut buffer, status, reason_phrase(status));
        finish(composer, &lines, &body);
        Ok(buffer)
    }

    /// A session description that is told from others by its `s=` line.
    fn body(&self, wishes: &Wishes, by_default: bool) -> Vec<u8> {
        let name = match (&wishes.text, wishes.body.as_deref()) {
            (Some(text), _) => return text.clone(),
            (None, Some("none")) => return Vec::new(),
            (None, Some(name)) => name,
            (None, None) if by_default => &self.name,
            (None, None) => return Vec::new(),
        };
        session(name, self.address).into_bytes()
    }
}

/// A session description.
pub fn session(name: &str, address: SocketAddr) -> String {
    let ip = address.ip();
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns={name}\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio 30000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
    )
}

fn finish(mut composer: Composer<'_>, lines: &[(String, String)], body: &[u8]) {
    for (name, value) in lines {
        composer.field(name, &[value.as_bytes()]);
    }
    let has_type = lines
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("Content-Type"));
    let kind: Option<&[u8]> = (!has_type).then_some(b"application/sdp");
    composer.finish(kind, body);
}

fn replace(lines: &mut [(String, String)], name: &str, value: &str) {
    if let Some(line) = lines.iter_mut().find(|(own, _)| own == name) {
        line.1 = value.to_owned();
    }
}

/// Lines of these names go, then what the script says stands in their place.
fn override_lines(lines: &mut Vec<(String, String)>, wished: &[(String, String)]) {
    for (name, _) in wished {
        // A Via that is added stands below the agent's own: it says where the request came through.
        if name != "Via+" {
            lines.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        }
    }
    for (name, value) in wished {
        if value.is_empty() {
            continue;
        }
        match name.strip_suffix('+') {
            Some(name) => {
                let at = lines
                    .iter()
                    .rposition(|(own, _)| own.eq_ignore_ascii_case(name));
                lines.insert(
                    at.map_or(lines.len(), |at| at + 1),
                    (name.into(), value.clone()),
                );
            }
            None if name.eq_ignore_ascii_case("Via") => {
                lines.insert(0, (name.clone(), value.clone()));
            }
            None => lines.push((name.clone(), value.clone())),
        }
    }
}

fn contact(message: &Message<'_>) -> Option<String> {
    let value = message.values(HeaderName::Contact).next()?;
    NameAddr::parse(value).ok().map(|contact| text(contact.uri))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
