//! External lines: accounts at carriers.

use super::super::value;
use super::super::{Line, Password};
use super::plan::Names;
use super::{CALLS_MAX, DAY, Fields, HOUR, Reader, SECOND, optional};

/// RFC 3261 §10.2.1.1 has no least time; a registration that lasts shorter than this is nothing but refreshing.
const EXPIRES_MIN: std::time::Duration = std::time::Duration::from_secs(30);

impl Reader {
    pub(super) fn line(&mut self, fields: &Fields<'_>, names: &Names<'_>) -> Line {
        for (key, example) in [("account", "+8612345678"), ("server", "sip.example.com")] {
            if !fields.has(key) {
                let text = format!("{key}: is needed, as in {key} = {example}");
                self.mistake(fields.line_of(key), &fields.label, text);
            }
        }
        let number = |text: &str| value::user_name(text).map(|()| text.to_owned());
        let server = self.value(fields, "server", optional(value::host));
        let shared = self.value(fields, "shared", value::yes);
        let incoming = self.value(fields, "incoming", optional(number));
        if !shared && !incoming.as_deref().is_some_and(|to| names.has_user(to)) {
            let text = "with no, incoming must be a user: he alone may call out on this line";
            self.wrong(fields, "shared", text);
        }
        let calls_max = self.value(fields, "calls_max", |t| value::limit(t, CALLS_MAX));
        let password = self.value(fields, "password", value::credential);
        Line {
            name: fields.name.to_owned(),
            account: self.value(fields, "account", |text| number(text)),
            // Where there is none, there is a mistake.
            server: server.unwrap_or_else(|| super::super::Host {
                name: String::new(),
                port: None,
            }),
            outbound_proxy: self.value(fields, "outbound_proxy", optional(value::host)),
            password: Password(password),
            realm: self.value(fields, "realm", optional(value::credential)),
            auth_user: self.value(fields, "auth_user", optional(value::credential)),
            auth_user_with_domain: self.value(fields, "auth_user_with_domain", value::yes),
            register: self.value(fields, "register", value::yes),
            expires: self.value(fields, "expires", |t| {
                value::seconds(t, EXPIRES_MIN, DAY * 7)
            }),
            keepalive: self.value(fields, "keepalive", |text| match text {
                "0" | "0s" => Ok(None),
                _ => value::duration(text, SECOND, HOUR).map(Some),
            }),
            transport: self.value(fields, "transport", value::transport),
            addresses: self.list(fields, "addresses", value::peer_address),
            incoming,
            shared,
            calls_max: calls_max.map(|calls| calls as usize),
            ring_timeout: self.value(
                fields,
                "ring_timeout",
                optional(|text| value::duration(text, SECOND, HOUR)),
            ),
            user_phone: self.value(fields, "user_phone", value::yes),
            uri_format: self.value(fields, "uri_format", value::uri_format),
            new_call_id: self.value(fields, "new_call_id", value::yes),
            line: fields.line,
        }
    }
}
