//! Which headers pass from one leg to the other. Everything else is a leg's own affair.

use crate::limits::CARRIED_BYTES_MAX;
use crate::message::compose::Composer;
use crate::message::{HeaderName, Message};

/// Methods that we take part in.
pub const ALLOW: &[u8] =
    b"INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, REFER, MESSAGE, REGISTER, SUBSCRIBE";
/// Bodies that an INVITE may have.
pub const ACCEPT: &[u8] = b"application/sdp, multipart/mixed";
/// Event packages that can be subscribed to (RFC 6665 §8.2.2).
pub const ALLOW_EVENTS: &[u8] = b"dialog, message-summary";

/// Where a call has been (`endpoint::passed`): what came of it goes on in a line of our own.
pub const PASSED: &str = "X-Sipkeep-Passed";

/// Writes the headers of `message` that pass to the other leg, whatever its body. With a trunk on one side `P-` headers (RFC
/// 7315) pass as well; between phones they would leak what a carrier said. Who he is a trunk may assert, a phone may not
/// (RFC 3325 §5); a phone is not told of one who asks for privacy (§7).
pub fn write(
    composer: &mut Composer<'_>,
    message: &Message<'_>,
    from_outside: bool,
    to_outside: bool,
) {
    let is_outside = from_outside || to_outside;
    write_if(composer, message, |name, raw_name| match name {
        HeaderName::Subject
        | HeaderName::AlertInfo
        | HeaderName::CallInfo
        | HeaderName::UserToUser
        | HeaderName::Reason
        | HeaderName::Diversion
        | HeaderName::HistoryInfo
        | HeaderName::Privacy
        // RFC 6086: what the body of an INFO is, and which of them a side takes.
        | HeaderName::InfoPackage
        | HeaderName::RecvInfo => true,
        HeaderName::PAssertedIdentity => from_outside && (to_outside || !hides_identity(message)),
        HeaderName::PPreferredIdentity => false,
        // All prefixes below have a dash there, most names have none.
        _ if raw_name.get(1) != Some(&b'-') => false,
        _ if raw_name.eq_ignore_ascii_case(PASSED.as_bytes()) => false,
        _ => begins(raw_name, b"X-") || is_outside && begins(raw_name, b"P-"),
    });
    explain(composer, message);
}

/// The same towards the carrier of a line, from a caller who does not want to be known: nothing that says who he is, or is
/// meant to (RFC 3323 §4.1, RFC 3325 §7).
pub fn write_anonymous(composer: &mut Composer<'_>, message: &Message<'_>) {
    write_if(composer, message, |name, raw_name| match name {
        HeaderName::Subject
        | HeaderName::AlertInfo
        | HeaderName::UserToUser
        | HeaderName::Reason
        | HeaderName::Diversion
        | HeaderName::InfoPackage
        | HeaderName::RecvInfo => true,
        _ => begins(raw_name, b"X-"),
    });
    explain(composer, message);
}

/// RFC 3325 §9.3: `Privacy` names `id`, among other things perhaps.
pub fn hides_identity(message: &Message<'_>) -> bool {
    message
        .values(HeaderName::Privacy)
        .flat_map(|value| value.split(|byte| *byte == b';'))
        .any(|wish| wish.trim_ascii().eq_ignore_ascii_case(b"id"))
}

/// Ends a message with this body, which is that of `message` or none: with the headers that describe it.
pub fn finish(mut composer: Composer<'_>, message: &Message<'_>, body: &[u8]) {
    if body.is_empty() {
        return composer.finish(None, b"");
    }
    describe(&mut composer, message);
    composer.finish(message.value(HeaderName::ContentType), body);
}

/// What describes a body beside its type.
pub fn describe(composer: &mut Composer<'_>, message: &Message<'_>) {
    write_if(composer, message, |name, _| {
        matches!(
            name,
            HeaderName::ContentDisposition
                | HeaderName::ContentEncoding
                | HeaderName::ContentLanguage
                | HeaderName::MimeVersion
        )
    });
}

/// What a refusal must say beside its status (RFC 3261 §21.4.6, §21.4.13).
fn explain(composer: &mut Composer<'_>, response: &Message<'_>) {
    if response.is_request() {
        return;
    }
    match response.status() {
        405 => {
            let token = response.cseq().token;
            let others: Vec<&[u8]> = (ALLOW.split(|byte| *byte == b','))
                .map(<[u8]>::trim_ascii)
                .filter(|allowed| *allowed != token)
                .collect();
            composer.field("Allow", &[&others.join(&b", "[..])]);
        }
        415 => write_if(composer, response, |name, _| {
            matches!(
                name,
                HeaderName::Accept | HeaderName::AcceptEncoding | HeaderName::AcceptLanguage
            )
        }),
        _ => {}
    }
}

/// The lines that pass to the other leg, to be written there later; `None`: too many. `buffer` is scratch.
pub fn keep(
    message: &Message<'_>,
    from_outside: bool,
    to_outside: bool,
    buffer: &mut Vec<u8>,
) -> Option<Box<[u8]>> {
    let mut composer = Composer::lines_into(buffer);
    write(&mut composer, message, from_outside, to_outside);
    (buffer.len() <= CARRIED_BYTES_MAX).then(|| buffer.as_slice().into())
}

/// The value of one of those lines.
pub fn line<'a>(lines: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(name))?;
    Some(value.trim_ascii_end())
}

fn write_if(
    composer: &mut Composer<'_>,
    message: &Message<'_>,
    passes: impl Fn(HeaderName, &[u8]) -> bool,
) {
    for line in message.lines() {
        if passes(line.name, line.raw_name)
            && let Ok(name) = std::str::from_utf8(line.raw_name)
        {
            composer.field(name, &[line.value]);
        }
    }
}

fn begins(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
