//! A call that sipkeep takes itself, to say that something is done: a feature code that a user has dialled.
//!
//! There is nobody to talk to and no media to play, and yet a phone shows what became of its call in two ways only: it is
//! connected, or it has failed, with an error tone. So it is answered, with a session in which nobody sends (RFC 3264 §8.4),
//! and ended after [`CONFIRMED_FOR`]: long enough to be seen. What cannot be done is refused.

use std::net::IpAddr;

use super::*;
use crate::message::{HeaderName, Message};

/// How long the phone shows a connected call.
const CONFIRMED_FOR: Duration = Duration::from_secs(2);
/// Media of an offer that are answered; those beyond make it one that is not understood.
const MEDIA_MAX: usize = 16;
/// Discard (RFC 863): nobody sends there.
const PORT: &str = "9";

impl Calls {
    /// Whether an INVITE can be answered by [`Calls::confirm`]: what it offers is SDP, or nothing.
    pub fn can_confirm(request: &Message<'_>) -> bool {
        request.body().is_empty() || media(request).is_some()
    }

    /// Answers a call, and ends it after a moment.
    pub fn confirm(&mut self, setup: Setup<'_>, context: &mut Context<'_>) {
        let handle = self.answer_silently(setup, context);
        self.is_done(handle, context);
    }

    /// Answers a call with a session in which nobody sends.
    pub(super) fn answer_silently(
        &mut self,
        mut setup: Setup<'_>,
        context: &mut Context<'_>,
    ) -> CallHandle {
        let id = context.now.unix.as_millis();
        let session = silent_session(setup.request, setup.ours.ip(), id);
        let handle = self.open(&mut setup, context);
        let Some(call) = self.get(handle) else {
            return handle;
        };
        call.state = State::Answered;
        call.is_final = true;
        let terms = call.asked.terms(call.session_s);
        let mut composer = call.begin_answer(handle, NO_BRANCH, 200, context);
        (call.asked).write_answer(&mut composer, terms, call.session_s);
        composer.finish(Some(b"application/sdp"), session.as_bytes());
        context.respond(call.invite, 200, &call.request);
        call.caller.watch.begin(context.now.mono, terms);
        let asked = call.invite_cseq;
        call.caller_is_answered(handle, NO_BRANCH, Some(asked));
        context.call_event("call", CallStage::Begun, &call.record);
        handle
    }

    /// What the call is for is done, and its phone shows it for a moment.
    pub fn is_done(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        (call.invitation, call.promise) = (None, None);
        call.answered = Some(context.now.mono);
        let record = Arc::make_mut(&mut call.record);
        record.answer = Some(context.now.unix);
        record.status = Some(200);
        keep_record(context, &call.record);
        let at = context.now.mono.plus(CONFIRMED_FOR);
        self.arm(at, Timer::Confirmed(handle));
    }

    /// The phone has shown it for long enough.
    pub(super) fn confirmed(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let is_up = |call: &&mut Call| call.state == State::Answered;
        if let Some(call) = self.get(handle).filter(is_up) {
            match call.promise.is_some() {
                // It could not be done as yet.
                true => self.heard.push_back(handle),
                false => self.end_call(handle, EndedBy::Server, b"", context),
            }
        }
        self.sweep(handle);
    }
}

/// Whether an INVITE offers audio that can be answered without keys.
pub(super) fn offers_plain_audio(request: &Message<'_>) -> bool {
    media(request).is_some_and(|all| all.iter().any(Media::is_plain_audio))
}

/// The media lines of an offer, each with the `rtpmap` of its first format; `None`: it is no SDP that is understood.
fn media<'a>(request: &Message<'a>) -> Option<Vec<Media<'a>>> {
    let kind = request.value(HeaderName::ContentType)?;
    let kind = kind.split(|byte| *byte == b';').next()?.trim_ascii();
    if !kind.eq_ignore_ascii_case(b"application/sdp") {
        return None;
    }
    let mut all: Vec<Media<'a>> = Vec::new();
    for line in std::str::from_utf8(request.body()).ok()?.lines() {
        if let Some(value) = line.strip_prefix("m=") {
            let mut words = value.split(' ');
            let mut next = || words.next().filter(|word| !word.is_empty());
            let (kind, _, proto, format) = (next()?, next()?, next()?, next()?);
            all.push(Media {
                kind,
                proto,
                format,
                rtpmap: None,
            });
        } else if let Some(own) = all.last_mut()
            && let Some(value) = line.strip_prefix("a=rtpmap:")
            && value.split(' ').next() == Some(own.format)
        {
            own.rtpmap = Some(value);
        }
    }
    (all.len() <= MEDIA_MAX).then_some(all)
}

/// One medium of an offer.
struct Media<'a> {
    kind: &'a str,
    proto: &'a str,
    format: &'a str,
    rtpmap: Option<&'a str>,
}

impl Media<'_> {
    /// Without keys for SRTP there is none.
    fn is_plain_audio(&self) -> bool {
        self.kind == "audio" && matches!(self.proto, "RTP/AVP" | "RTP/AVPF")
    }
}

/// The answer to what the caller offers, or an offer: one audio stream, on which nobody sends.
pub(super) fn silent_session(request: &Message<'_>, ours: IpAddr, id: u64) -> String {
    let ours = ours.to_canonical();
    let family = if ours.is_ipv4() { "IP4" } else { "IP6" };
    let mut text =
        format!("v=0\r\no=- {id} 1 IN {family} {ours}\r\ns=-\r\nc=IN {family} {ours}\r\nt=0 0\r\n");
    if request.body().is_empty() {
        text += &format!("m=audio {PORT} RTP/AVP 0 8\r\na=inactive\r\n");
        return text;
    }
    let mut has_audio = false;
    for medium in media(request).unwrap_or_default() {
        let is_taken = !has_audio && medium.is_plain_audio();
        let Media {
            kind,
            proto,
            format,
            rtpmap,
        } = medium;
        if !is_taken {
            text += &format!("m={kind} 0 {proto} {format}\r\n");
            continue;
        }
        has_audio = true;
        text += &format!("m={kind} {PORT} {proto} {format}\r\n");
        if let Some(rtpmap) = rtpmap {
            text += &format!("a=rtpmap:{rtpmap}\r\n");
        }
        text += "a=inactive\r\n";
    }
    text
}
