//! Lamp keys: the `dialog` package (RFC 4235). A phone shows on a key whether somebody talks, or rings and can be picked up.
//!
//! A NOTIFY has the whole state, so one that is lost is made good by the next. Calls that it lists no longer it lists once
//! more as terminated, since some phones wait for that. Watched are names, of users and groups: a reload changes nothing.
//! What changes more often than [`LAMP_CHANGES_MAX`] times a second is said at the end of the second.

use std::time::Duration;

use crate::call::{Progress, ShownDialog};
use crate::limits::{LAMP_CHANGES_MAX, LAMP_DIALOGS_MAX};
use crate::source::UserId;
use crate::time::Instant;

/// What there is to see. The endpoint knows the calls, and who may see how much of them.
pub trait Lamps {
    /// The calls of a user or group, what rings first. Of one that is gone from the file there are none.
    fn dialogs(&self, watched: &str) -> Vec<ShownDialog>;
    /// Whether this user may see with whom, and what is needed to take a call that rings.
    fn may_know(&self, watched: &str, watcher: UserId) -> bool;
}

/// What there is to see of one name, looked up once however many watch it.
pub(super) struct View<'a> {
    lamps: &'a dyn Lamps,
    watched: &'a str,
    /// For those who may not know everything, and for those who may.
    seen: [Option<Vec<ShownDialog>>; 2],
}

impl<'a> View<'a> {
    pub fn new(lamps: &'a dyn Lamps, watched: &'a str) -> Self {
        Self {
            lamps,
            watched,
            seen: [None, None],
        }
    }

    /// The calls as this user may see them.
    pub fn of(&mut self, watcher: UserId) -> &[ShownDialog] {
        let may_know = self.lamps.may_know(self.watched, watcher);
        let [veiled, whole] = &mut self.seen;
        let whole = whole.get_or_insert_with(|| self.lamps.dialogs(self.watched));
        if may_know {
            return whole;
        }
        veiled.get_or_insert_with(|| {
            let veil = |dialog: &ShownDialog| ShownDialog {
                remote: None,
                ids: None,
                ..dialog.clone()
            };
            whole.iter().map(veil).collect()
        })
    }
}

/// What one subscription to calls has been told.
#[derive(Clone, Debug)]
pub(super) struct Lamp {
    /// The user or group.
    pub watched: Box<str>,
    /// The URI that was subscribed to.
    entity: Box<[u8]>,
    /// The number of the next NOTIFY (RFC 4235 §4.1.1).
    version: u32,
    shown: Vec<ShownDialog>,
    /// When the present second began, and how many changes were told in it.
    second: Instant,
    told: u32,
}

impl Lamp {
    pub fn new(watched: &str, entity: &[u8], now: Instant) -> Self {
        Self {
            watched: watched.into(),
            entity: entity.into(),
            version: 0,
            shown: Vec::new(),
            second: now,
            told: 0,
        }
    }

    /// Whether the last NOTIFY says the same.
    pub fn shows(&self, dialogs: &[ShownDialog]) -> bool {
        let dialogs = dialogs.get(..LAMP_DIALOGS_MAX).unwrap_or(dialogs);
        self.shown == dialogs
    }

    /// When a change may be told, if not now.
    pub fn waits_until(&mut self, now: Instant) -> Option<Instant> {
        let end = self.second.plus(Duration::from_secs(1));
        if now >= end {
            (self.second, self.told) = (now, 0);
        }
        (self.told >= LAMP_CHANGES_MAX).then_some(end)
    }

    /// A change is told.
    pub fn tells(&mut self) {
        self.told = self.told.saturating_add(1);
    }

    /// The body of the next NOTIFY.
    pub fn body(&mut self, dialogs: &[ShownDialog]) -> Vec<u8> {
        let dialogs = dialogs.get(..LAMP_DIALOGS_MAX).unwrap_or(dialogs);
        let mut xml = Vec::with_capacity(512);
        xml.extend_from_slice(
            b"<?xml version=\"1.0\"?>\r\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"",
        );
        xml.extend_from_slice(self.version.to_string().as_bytes());
        xml.extend_from_slice(b"\" state=\"full\" entity=\"");
        escape(&self.entity, &mut xml);
        xml.extend_from_slice(b"\">\r\n");
        let is_listed = |id: &str| dialogs.iter().any(|dialog| dialog.id == id);
        for over in self.shown.iter().filter(|shown| !is_listed(&shown.id)) {
            begin(over, &mut xml);
            xml.extend_from_slice(b"><state>terminated</state></dialog>\r\n");
        }
        for dialog in dialogs {
            self.write(dialog, &mut xml);
        }
        xml.extend_from_slice(b"</dialog-info>\r\n");
        self.shown = dialogs.to_vec();
        self.version = self.version.wrapping_add(1);
        xml
    }

    fn write(&self, dialog: &ShownDialog, xml: &mut Vec<u8>) {
        begin(dialog, xml);
        if let Some(ids) = &dialog.ids {
            attribute("call-id", &ids.call_id, xml);
            attribute("local-tag", &ids.local_tag, xml);
            attribute("remote-tag", &ids.remote_tag, xml);
        }
        let state: &[u8] = match dialog.progress {
            Progress::Trying => b"trying",
            Progress::Early => b"early",
            Progress::Confirmed => b"confirmed",
        };
        for part in [b"><state>", state, b"</state>"] {
            xml.extend_from_slice(part);
        }
        if let Some(remote) = &dialog.remote {
            let mut uri = b"sip:".to_vec();
            crate::message::escape_user(remote.as_bytes(), &mut uri);
            if let Some(at) = memchr::memrchr(b'@', &self.entity) {
                uri.extend_from_slice(self.entity.get(at..).unwrap_or_default());
            }
            xml.extend_from_slice(b"<remote><identity>");
            escape(&uri, xml);
            xml.extend_from_slice(b"</identity><target uri=\"");
            escape(&uri, xml);
            xml.extend_from_slice(b"\"/></remote>");
        }
        xml.extend_from_slice(b"</dialog>\r\n");
    }
}

fn begin(dialog: &ShownDialog, xml: &mut Vec<u8>) {
    xml.extend_from_slice(b"<dialog");
    attribute("id", dialog.id.as_bytes(), xml);
    let direction: &[u8] = match dialog.is_initiator {
        true => b"initiator",
        false => b"recipient",
    };
    attribute("direction", direction, xml);
}

fn attribute(name: &str, value: &[u8], xml: &mut Vec<u8>) {
    for part in [b" ", name.as_bytes(), b"=\""] {
        xml.extend_from_slice(part);
    }
    escape(value, xml);
    xml.push(b'"');
}

/// Text as it may stand in XML, in attributes too (XML 1.0 §2.2, §2.4). What cannot stand there is left out.
fn escape(text: &[u8], xml: &mut Vec<u8>) {
    for letter in String::from_utf8_lossy(text).chars() {
        match letter {
            '&' => xml.extend_from_slice(b"&amp;"),
            '<' => xml.extend_from_slice(b"&lt;"),
            '>' => xml.extend_from_slice(b"&gt;"),
            '"' => xml.extend_from_slice(b"&quot;"),
            '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => {}
            letter => {
                let mut bytes = [0; 4];
                xml.extend_from_slice(letter.encode_utf8(&mut bytes).as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::DialogIds;

    fn ringing(id: &str) -> ShownDialog {
        ShownDialog {
            id: id.to_owned(),
            progress: Progress::Early,
            is_initiator: false,
            remote: Some("<\"&'".to_owned()),
            ids: Some(DialogIds {
                call_id: (*b"c\"1").into(),
                local_tag: (*b"l").into(),
                remote_tag: (*b"r").into(),
            }),
        }
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_a_stranger_writes_stays_text() {
        let now = Instant::from_micros(0);
        let mut lamp = Lamp::new("bob", b"sip:bob@h?a&b", now);
        let xml = text(lamp.body(&[ringing("1")]));
        assert!(xml.contains("version=\"0\" state=\"full\" entity=\"sip:bob@h?a&amp;b\""));
        assert!(xml.contains("call-id=\"c&quot;1\" local-tag=\"l\" remote-tag=\"r\""));
        assert!(xml.contains("<identity>sip:%3C%22&amp;'@h"), "{xml}");
        let mut out = Vec::new();
        escape(b"a\x00\xff<\x1b\xc3\xa4", &mut out);
        assert_eq!(text(out), "a\u{fffd}&lt;ä");
    }

    #[test]
    fn what_is_over_is_said_once() {
        let mut lamp = Lamp::new("bob", b"sip:bob@h", Instant::from_micros(0));
        assert!(lamp.shows(&[]));
        lamp.body(&[ringing("1")]);
        assert!(lamp.shows(&[ringing("1")]) && !lamp.shows(&[ringing("2")]));
        let xml = text(lamp.body(&[]));
        assert!(xml.contains("version=\"1\""));
        assert!(xml.contains(
            "<dialog id=\"1\" direction=\"recipient\"><state>terminated</state></dialog>"
        ));
        let xml = text(lamp.body(&[]));
        assert!(xml.contains("version=\"2\"") && !xml.contains("<dialog "));
    }

    #[test]
    fn a_body_is_bounded() {
        let mut lamp = Lamp::new("bob", b"sip:bob@h", Instant::from_micros(0));
        let many = |from: usize| (from..from + 100).map(|id| ringing(&id.to_string()));
        lamp.body(&many(0).collect::<Vec<_>>());
        let xml = text(lamp.body(&many(100).collect::<Vec<_>>()));
        assert_eq!(xml.matches("<state>early").count(), LAMP_DIALOGS_MAX);
        assert_eq!(xml.matches("<state>terminated").count(), LAMP_DIALOGS_MAX);
        let all: Vec<ShownDialog> = many(100).collect();
        assert!(lamp.shows(&all));
    }

    #[test]
    fn so_many_changes_in_a_second() {
        let at = |millis: u64| Instant::from_micros(millis * 1_000);
        let mut lamp = Lamp::new("bob", b"sip:bob@h", at(0));
        for _ in 0..LAMP_CHANGES_MAX {
            assert_eq!(lamp.waits_until(at(10)), None);
            lamp.tells();
        }
        assert_eq!(lamp.waits_until(at(20)), Some(at(1_000)));
        assert_eq!(lamp.waits_until(at(1_000)), None);
    }
}
