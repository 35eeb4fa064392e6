//! Which headers pass from one leg to the other. Everything else is a leg's own affair.

use crate::message::compose::Composer;
use crate::message::{HeaderName, Message};

/// Methods that we take part in.
pub const ALLOW: &[u8] = b"INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE, REGISTER";

/// Writes the headers of `message` that pass to the other leg. With a trunk on one side `P-` headers (RFC 7315) pass as
/// well; between phones they would leak what a carrier said. Who he is a trunk may assert, a phone may not (RFC 3325 §5).
pub fn write(composer: &mut Composer<'_>, message: &Message<'_>, from_trunk: bool, to_trunk: bool) {
    let trunk = from_trunk || to_trunk;
    for line in message.lines() {
        let passes = match line.name {
            HeaderName::Subject
            | HeaderName::AlertInfo
            | HeaderName::CallInfo
            | HeaderName::UserToUser
            | HeaderName::Reason
            | HeaderName::Diversion
            | HeaderName::HistoryInfo
            | HeaderName::Privacy
            | HeaderName::Priority
            | HeaderName::ContentDisposition
            | HeaderName::ContentEncoding
            | HeaderName::ContentLanguage
            | HeaderName::MimeVersion => true,
            HeaderName::PAssertedIdentity => from_trunk,
            HeaderName::PCalledPartyId => trunk,
            HeaderName::PPreferredIdentity => false,
            HeaderName::Other => {
                let begins = |prefix: &[u8]| {
                    line.raw_name
                        .get(..2)
                        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
                };
                begins(b"X-") || trunk && begins(b"P-")
            }
            _ => false,
        };
        if passes && let Ok(name) = std::str::from_utf8(line.raw_name) {
            composer.field(name, &[line.value]);
        }
    }
}
