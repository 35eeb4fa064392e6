//! Sections and entries → the typed [`Config`]. A value that is wrong is noted and its default put in its place, so
//! that one reading finds every mistake.

mod address;
mod forward;
mod group;
mod line;
mod plan;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::ini::{self, Entry, Section};
use super::keys::{self, KeySpec, SectionSpec};
use super::value::{self, did_you_mean, duration_text, quote};
use super::{
    Call, Config, DigestOffer, Group, Guard, GuardMode, Http, Line, Media, MediaLatch, MediaRelay,
    Mistake, Registrar, Secret, Server, Trunk, User, password,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// RFC 4028 §5: no session interval is shorter.
const SESSION_MIN: Duration = Duration::from_secs(90);
/// Longest time that anything is kept or refused: ten years.
const YEARS_10: Duration = Duration::from_secs(3_650 * 86_400);

/// Calls at a time, also when `calls_max` is empty: their tables are reserved at start.
const CALLS_MAX: u64 = 100_000;
/// Answers or packets a second.
const RATE_MAX: u64 = 10_000_000;
/// New outside numbers of one user in an hour: half of what is remembered of him, so that none of them is forgotten within it.
const NEW_DESTINATIONS_MAX: u64 = crate::limits::DESTINATIONS_PER_USER_MAX as u64 / 2;
/// Elements of one list.
const LIST_MAX: usize = 4_096;
/// Sections: 100,000 users, and room for trunks, groups and the rest.
const SECTIONS_MAX: usize = 110_000;

/// A section that was checked: known keys, each at most once.
struct Fields<'a> {
    spec: &'static SectionSpec,
    label: String,
    name: &'a str,
    line: usize,
    entries: Vec<Entry<'a>>,
}

impl<'a> Fields<'a> {
    fn given(&self, key: &str) -> Option<&Entry<'a>> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Whether the key stands in the file with a value.
    fn has(&self, key: &str) -> bool {
        self.given(key).is_some_and(|entry| !entry.value.is_empty())
    }

    /// The key's line, or the section's.
    fn line_of(&self, key: &str) -> usize {
        self.given(key).map_or(self.line, |entry| entry.line)
    }
}

#[derive(Default)]
struct Reader {
    mistakes: Vec<Mistake>,
}

pub(super) fn read(text: &str, folder: &Path) -> Result<Config, Vec<Mistake>> {
    let mut reader = Reader::default();
    let sections = ini::parse(text, &mut reader.mistakes);
    let mut sections = reader.check_sections(sections);
    for spec in keys::known_keys()
        .iter()
        .filter(|spec| spec.ready && spec.example.is_none())
    {
        if !sections.iter().any(|fields| fields.spec.kind == spec.kind) {
            let label = format!("[{}]", spec.kind);
            sections.push(Fields {
                spec,
                label,
                name: "",
                line: 0,
                entries: Vec::new(),
            });
        }
    }
    let single = |kind: &str| {
        let section = sections.iter().find(|fields| fields.spec.kind == kind);
        section.expect("every single section is there, an empty one if need be")
    };
    let server = reader.server(single("server"), folder);
    let http = reader.http(single("http"));
    let registrar = reader.registrar(single("registrar"));
    let guard = reader.guard(single("guard"));
    let call = reader.call(single("call"));
    let media = reader.media(single("media"));
    let all = |kind| {
        sections
            .iter()
            .filter(move |fields| fields.spec.kind == kind)
    };
    let users: Vec<User> = all("user")
        .map(|fields| reader.user(fields, registrar.digest))
        .collect();
    let names = plan::Names::of(&sections);
    let trunks: Vec<Trunk> = all("trunk")
        .map(|fields| reader.trunk(fields, &names))
        .collect();
    let lines: Vec<Line> = all("line")
        .map(|fields| reader.line(fields, &names))
        .collect();
    let groups: Vec<Group> = all("group")
        .map(|fields| reader.group(fields, &names))
        .collect();
    reader.check_addresses(&sections, (&users, &trunks, &lines));
    let routes = reader.routes(&sections, &names, &lines);
    reader.check_incoming(&sections, &names, (&trunks, &lines), &routes);
    reader.check_forwards(&sections, &names, &users, &routes);
    reader.check_groups(&sections, &names, &groups, &routes);
    let mut mistakes = reader.mistakes;
    if mistakes.is_empty() {
        Ok(Config {
            server,
            http,
            registrar,
            guard,
            call,
            media,
            users,
            trunks,
            lines,
            groups,
            routes,
        })
    } else {
        mistakes.sort_by_key(|mistake| mistake.line);
        Err(mistakes)
    }
}

/// Checks that need no value: what the file's sections and keys are called, and how often they are there.
impl Reader {
    fn mistake(&mut self, line: usize, section: &str, text: impl Into<String>) {
        self.mistakes.push(Mistake {
            line,
            section: section.into(),
            text: text.into(),
        });
    }

    fn check_sections<'a>(&mut self, sections: Vec<Section<'a>>) -> Vec<Fields<'a>> {
        let mut first: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut checked = Vec::new();
        for section in sections
            .into_iter()
            .filter(|section| !section.kind.is_empty())
        {
            let label = section.label();
            let line = section.line;
            let Some(spec) = keys::section(section.kind) else {
                let hint = did_you_mean(section.kind, keys::known_keys().iter().map(|s| s.kind));
                let kind = quote(section.kind);
                self.mistake(line, &label, format!("unknown section {kind}{hint}"));
                continue;
            };
            if let Err(text) = check_name(spec, section.name) {
                self.mistake(line, &label, text);
            }
            match first.get(&(section.kind, section.name)) {
                Some(earlier) => {
                    let text = format!("duplicate section, the first is on line {earlier}");
                    self.mistake(line, &label, text);
                }
                None => drop(first.insert((section.kind, section.name), line)),
            }
            if !spec.ready {
                self.mistake(line, &label, "not yet in this version");
            }
            let entries = self.check_keys(spec, &label, section.entries);
            if spec.ready {
                checked.push(Fields {
                    spec,
                    label,
                    name: section.name,
                    line,
                    entries,
                });
            }
        }
        if checked.len() > SECTIONS_MAX {
            let Fields { line, label, .. } = &checked[SECTIONS_MAX];
            let text = format!("more than {SECTIONS_MAX} sections");
            self.mistakes.push(Mistake {
                line: *line,
                section: label.clone(),
                text,
            });
        }
        checked
    }

    fn check_keys<'a>(
        &mut self,
        spec: &'static SectionSpec,
        label: &str,
        entries: Vec<Entry<'a>>,
    ) -> Vec<Entry<'a>> {
        let mut kept: Vec<Entry<'a>> = Vec::new();
        for entry in entries {
            let earlier = kept.iter().find(|kept| kept.key == entry.key);
            let text = match spec.key(entry.key) {
                None => unknown_key(spec, entry.key),
                Some(_) if earlier.is_some() => {
                    let line = earlier.map_or(0, |earlier| earlier.line);
                    format!(
                        "duplicate key {}, the first is on line {line}",
                        quote(entry.key)
                    )
                }
                Some(key) => {
                    let refused = spec.ready && !key.ready;
                    let line = entry.line;
                    kept.push(entry);
                    if refused {
                        self.mistake(
                            line,
                            label,
                            format!("{}: not yet in this version", key.name),
                        );
                    }
                    continue;
                }
            };
            self.mistake(entry.line, label, text);
        }
        kept
    }
}

fn check_name(spec: &SectionSpec, name: &str) -> Result<(), String> {
    match spec.example {
        None if name.is_empty() => Ok(()),
        None => Err(format!(
            "there is one section [{}], without a name",
            spec.kind
        )),
        Some(example) if name.is_empty() => {
            Err(format!("needs a name, as in [{} {example}]", spec.kind))
        }
        Some(_) if matches!(spec.kind, "user" | "group") => value::user_name(name),
        Some(_) => value::plain_name(name),
    }
}

fn unknown_key(spec: &SectionSpec, key: &str) -> String {
    let hint = did_you_mean(key, spec.keys.iter().map(|key| key.name));
    let elsewhere = keys::known_keys()
        .iter()
        .find(|other| other.key(key).is_some());
    let hint = match elsewhere {
        Some(other) if hint.is_empty() => {
            let name = other
                .example
                .map_or_else(String::new, |example| format!(" {example}"));
            format!(", it belongs in [{}{name}]", other.kind)
        }
        _ => hint,
    };
    format!("unknown key {}{hint}", quote(key))
}

/// Reading single values.
impl Reader {
    /// The value of a key as `parse` reads it; the default if it is not given or wrong.
    fn value<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let spec = key_of(fields, key);
        if let Some(entry) = fields.given(key) {
            match check_form(spec, entry.value).and_then(|()| parse(entry.value)) {
                Ok(value) => return value,
                Err(text) => self.mistake(entry.line, &fields.label, format!("{key}: {text}")),
            }
        }
        parse(spec.default).expect("defaults are right, as the test of an empty file shows")
    }

    /// A comma-separated list; each element that is wrong is a mistake of its own.
    fn list<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let spec = key_of(fields, key);
        let entry = fields.given(key);
        if let Some(entry) = entry
            && let Err(text) = check_form(spec, entry.value)
        {
            self.mistake(entry.line, &fields.label, format!("{key}: {text}"));
            return Vec::new();
        }
        let text = entry.map_or(spec.default, |entry| entry.value);
        let line = fields.line_of(key);
        let mut items = Vec::new();
        if text.is_empty() {
            return items;
        }
        for (index, element) in text.split(',').map(str::trim).enumerate() {
            if index == LIST_MAX {
                let text = format!("{key}: more than {LIST_MAX} elements");
                self.mistake(line, &fields.label, text);
                break;
            }
            let parsed = match element {
                "" => Err("an element of the list is empty".into()),
                _ => parse(element),
            };
            match parsed {
                Ok(item) => items.push(item),
                Err(text) => self.mistake(line, &fields.label, format!("{key}: {text}")),
            }
        }
        items
    }

    fn wrong(&mut self, fields: &Fields<'_>, key: &str, text: impl std::fmt::Display) {
        self.mistake(fields.line_of(key), &fields.label, format!("{key}: {text}"));
    }
}

fn key_of(fields: &Fields<'_>, key: &str) -> &'static KeySpec {
    fields.spec.key(key).expect("a key of the table")
}

/// What is wrong with a value whatever its key.
fn check_form(spec: &KeySpec, value: &str) -> Result<(), String> {
    if value.is_empty() && !spec.may_be_empty {
        return Err(format!(
            "is empty; without this line it is {}",
            spec.default
        ));
    }
    if value.len() >= 2 && value.starts_with('"') && value.ends_with('"') && !value.contains(',') {
        return Err("values are written without quotes".into());
    }
    Ok(())
}

/// The sections of which there is one.
impl Reader {
    fn server(&mut self, fields: &Fields<'_>, folder: &Path) -> Server {
        let listen: Vec<_> = self
            .list(fields, "listen", value::listen)
            .into_iter()
            .flatten()
            .collect();
        for (index, one) in listen.iter().enumerate() {
            let overlaps = |other: &&super::Listen| {
                let (a, b) = (one.address, other.address);
                let wild = a.ip().is_unspecified() || b.ip().is_unspecified() || a.ip() == b.ip();
                let same_family = a.is_ipv4() == b.is_ipv4();
                one.transport == other.transport && a.port() == b.port() && wild && same_family
            };
            if let Some(other) = listen[..index].iter().find(overlaps) {
                let text = if one == other {
                    format!("\"{one}\" is there twice")
                } else {
                    format!("\"{one}\" and \"{other}\" overlap")
                };
                self.wrong(fields, "listen", text);
            }
        }
        let domains = self.list(fields, "domain", value::domain);
        for (index, domain) in domains.iter().enumerate() {
            if domains[..index].contains(domain) {
                self.wrong(fields, "domain", format!("\"{domain}\" is there twice"));
            }
        }
        let public_address = self.value(fields, "public_address", optional(value::public_address));
        let mut local_networks = self.list(fields, "local_networks", value::prefix);
        if local_networks.is_empty() {
            let default = keys::LOCAL_NETWORKS.split(',');
            local_networks = default
                .filter_map(|text| value::prefix(text.trim()).ok())
                .collect();
        }
        use log::LevelFilter::{Debug, Error, Info, Trace, Warn};
        let levels = [
            ("error", Error),
            ("warn", Warn),
            ("info", Info),
            ("debug", Debug),
            ("trace", Trace),
        ];
        Server {
            listen,
            domains,
            public_address,
            local_networks,
            state: self.value(fields, "state", |text| Ok(folder.join(text))),
            cdr_keep: self.value(fields, "cdr_keep", |t| value::duration(t, SECOND, YEARS_10)),
            log: self.value(fields, "log", |text| value::choice(text, &levels)),
        }
    }

    fn http(&mut self, fields: &Fields<'_>) -> Http {
        let listen = self.value(fields, "listen", |text| {
            if text.is_empty() {
                return Ok(None);
            }
            value::socket_address(text, "127.0.0.1:8080").map(Some)
        });
        let token = self.value(fields, "token", |text| {
            // RFC 6750 §2.1: what can stand behind "Bearer". The value is a secret and is not shown.
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
            if !text.bytes().all(fits) {
                return Err("may have letters, digits and -._~+/= only".into());
            }
            if text.len() > value::TEXT_BYTES_MAX {
                return Err(format!(
                    "is longer than {} characters",
                    value::TEXT_BYTES_MAX
                ));
            }
            Ok((!text.is_empty()).then(|| text.to_owned()))
        });
        Http { listen, token }
    }

    fn registrar(&mut self, fields: &Fields<'_>) -> Registrar {
        let digest = self.value(fields, "digest", |text| {
            // The documentation writes the last one in quotes, so the file may.
            let words: Vec<&str> = text.trim_matches('"').split(',').map(str::trim).collect();
            match words.as_slice() {
                ["md5"] => Ok(DigestOffer::Md5),
                ["sha256"] => Ok(DigestOffer::Sha256),
                ["sha256", "md5"] => Ok(DigestOffer::Sha256AndMd5),
                _ => Err(format!(
                    "{} is none of md5, sha256 and \"sha256, md5\"",
                    quote(text)
                )),
            }
        });
        // A registrar may refuse only what is below one hour (RFC 3261 §10.3 step 7); expiry has 32 bits.
        let (min, max) = ("expires_min", "expires_max");
        let mut expires_min = self.value(fields, min, |t| value::seconds(t, SECOND, HOUR));
        let mut expires_max = self.value(fields, max, |t| value::seconds(t, SECOND, 365 * DAY));
        let default = "expires_default";
        let mut expires_default =
            self.value(fields, default, |t| value::seconds(t, SECOND, 365 * DAY));
        // What is not in the file makes room for what is: `expires_max = 5m` alone is no contradiction.
        if !fields.has(min) && fields.has(max) {
            expires_min = expires_min.min(expires_max);
        }
        if !fields.has(min) && fields.has(default) {
            expires_min = expires_min.min(expires_default);
        }
        if !fields.has(max) && fields.has(default) {
            expires_max = expires_max.max(expires_default);
        }
        if !fields.has(default) {
            expires_default = expires_default.min(expires_max).max(expires_min);
        }
        self.ordered(fields, (min, expires_min), (max, expires_max));
        self.ordered(fields, (min, expires_min), (default, expires_default));
        self.ordered(fields, (default, expires_default), (max, expires_max));
        let bindings = self.value(fields, "bindings_per_user_max", |t| {
            value::number(t, 1, 100)
        });
        Registrar {
            digest,
            expires_min,
            expires_default,
            expires_max,
            bindings_per_user_max: bindings as usize,
            nat_keepalive: self.value(fields, "nat_keepalive", |text| match text {
                "0" | "0s" => Ok(None),
                _ => value::seconds(text, SECOND, HOUR).map(Some),
            }),
        }
    }

    /// A mistake on the later line if the first duration is longer than the second.
    fn ordered(&mut self, fields: &Fields<'_>, low: (&str, Duration), high: (&str, Duration)) {
        let right = |reader: &Self, key| {
            let line = fields.line_of(key);
            fields.has(key) && !reader.mistakes.iter().any(|mistake| mistake.line == line)
        };
        if low.1 <= high.1 || !right(self, low.0) || !right(self, high.0) {
            return;
        }
        let [low_text, high_text] = [low.1, high.1].map(duration_text);
        if fields.line_of(low.0) > fields.line_of(high.0) {
            self.wrong(
                fields,
                low.0,
                format!("{low_text} is more than {} ({high_text})", high.0),
            );
        } else {
            self.wrong(
                fields,
                high.0,
                format!("{high_text} is less than {} ({low_text})", low.0),
            );
        }
    }

    fn guard(&mut self, fields: &Fields<'_>) -> Guard {
        let modes = [
            ("enforce", GuardMode::Enforce),
            ("observe", GuardMode::Observe),
            ("off", GuardMode::Off),
        ];
        let ban = self.value(fields, "ban", |t| value::duration(t, SECOND, YEARS_10));
        let mut ban_max = self.value(fields, "ban_max", |t| value::duration(t, SECOND, YEARS_10));
        if !fields.has("ban_max") {
            ban_max = ban_max.max(ban);
        }
        let ban = if fields.has("ban") {
            ban
        } else {
            ban.min(ban_max)
        };
        self.ordered(fields, ("ban", ban), ("ban_max", ban_max));
        let allow = self.list(fields, "allow", value::source_prefix);
        let deny = self.list(fields, "deny", value::source_prefix);
        for prefix in &deny {
            if allow.contains(prefix) {
                self.wrong(fields, "deny", format!("{prefix} is in allow as well"));
            }
        }
        let limit =
            |t: &str, max| value::limit(t, max).map(|limit| limit.map(|limit| limit as u32));
        let rate = |t: &str| limit(t, RATE_MAX);
        Guard {
            mode: self.value(fields, "mode", |text| value::choice(text, &modes)),
            failures_max: self.value(fields, "failures_max", |t| value::number(t, 1, 10_000))
                as u32,
            failures_window: self.value(fields, "failures_window", |t| {
                value::duration(t, SECOND, DAY)
            }),
            ban,
            ban_max,
            unproven_rate: self.value(fields, "unproven_rate", rate),
            unproven_burst: self.value(fields, "unproven_burst", |t| value::number(t, 0, RATE_MAX))
                as u32,
            unproven_total: self.value(fields, "unproven_total", rate),
            known_rate: self.value(fields, "known_rate", rate),
            allow,
            deny,
            kernel_filter: self.value(fields, "kernel_filter", |text| {
                value::choice(text, &[("auto", true), ("off", false)])
            }),
            outside_calls_max: self
                .value(fields, "outside_calls_max", |text| limit(text, CALLS_MAX)),
            new_destinations_per_hour: self.value(fields, "new_destinations_per_hour", |text| {
                limit(text, NEW_DESTINATIONS_MAX)
            }),
        }
    }

    fn call(&mut self, fields: &Fields<'_>) -> Call {
        let calls_max = self.value(fields, "calls_max", |t| value::limit(t, CALLS_MAX));
        Call {
            ring_timeout: self.value(fields, "ring_timeout", |t| value::duration(t, SECOND, HOUR)),
            calls_max: calls_max.unwrap_or(CALLS_MAX) as usize,
            session_expires: self.value(fields, "session_expires", |text| match text {
                "0" | "0s" => Ok(None),
                _ => value::seconds(text, SESSION_MIN, DAY).map(Some),
            }),
            media_timeout: self.value(fields, "media_timeout", |text| match text {
                "0" | "0s" => Ok(None),
                _ => value::seconds(text, SECOND, DAY).map(Some),
            }),
            feature_codes: self.value(fields, "feature_codes", value::yes),
            pickup: self.value(fields, "pickup", value::code),
        }
    }

    fn media(&mut self, fields: &Fields<'_>) -> Media {
        let relays = [
            ("auto", MediaRelay::Auto),
            ("always", MediaRelay::Always),
            ("never", MediaRelay::Never),
        ];
        let latches = [
            ("signalled", MediaLatch::Signalled),
            ("any", MediaLatch::Any),
        ];
        Media {
            relay: self.value(fields, "relay", |text| value::choice(text, &relays)),
            ports: self.value(fields, "ports", value::ports),
            latch: self.value(fields, "latch", |text| value::choice(text, &latches)),
        }
    }
}

/// The sections that have names, and what must fit between them.
impl Reader {
    fn user(&mut self, fields: &Fields<'_>, digest: DigestOffer) -> User {
        let name = fields.name;
        let password = self.value(fields, "password", |text| {
            if text.len() > value::TEXT_BYTES_MAX {
                return Err(format!("is longer than {} bytes", value::TEXT_BYTES_MAX));
            }
            match password::weakness(text, name) {
                Some(weakness) if !text.is_empty() => Err(weakness.into()),
                _ => Ok((!text.is_empty()).then(|| text.to_owned())),
            }
        });
        let md5 = self.value(fields, "ha1_md5", optional(value::hex::<16>));
        let sha256 = self.value(fields, "ha1_sha256", optional(value::hex::<32>));
        let hashed = fields.has("ha1_md5") || fields.has("ha1_sha256");
        if hashed && fields.has("password") {
            self.wrong(
                fields,
                "password",
                "there is ha1_md5 or ha1_sha256 as well, keep one of them",
            );
        } else if hashed {
            let needed: &[(&str, &str)] = match digest {
                DigestOffer::Md5 => &[("ha1_md5", "md5")],
                DigestOffer::Sha256 => &[("ha1_sha256", "sha256")],
                DigestOffer::Sha256AndMd5 => &[("ha1_md5", "md5"), ("ha1_sha256", "sha256")],
            };
            for (key, algorithm) in needed.iter().filter(|(key, _)| !fields.has(key)) {
                let other = if *key == "ha1_md5" {
                    "ha1_sha256"
                } else {
                    "ha1_md5"
                };
                let text = format!("{key} is missing, [registrar] digest offers {algorithm}");
                self.mistake(fields.line_of(other), &fields.label, text);
            }
        }
        let secret = match password {
            Some(password) => Some(Secret::Password(password)),
            None if md5.is_some() || sha256.is_some() => Some(Secret::Ha1 { md5, sha256 }),
            None => None,
        };
        let display_name = self.value(fields, "display_name", |text| {
            if text.len() > value::TEXT_BYTES_MAX {
                return Err(format!("is longer than {} bytes", value::TEXT_BYTES_MAX));
            }
            match text.contains(['"', '\\']) {
                true => Err(r#"must not contain " or \"#.into()),
                false => Ok(text.to_owned()),
            }
        });
        let calls_max = self.value(fields, "calls_max", |t| value::limit(t, CALLS_MAX));
        let (addresses, blocks) = self.user_addresses(fields);
        User {
            name: name.to_owned(),
            secret,
            display_name,
            addresses,
            blocks,
            calls_max: calls_max.map(|calls| calls as usize),
            levels: self.list(fields, "levels", value::level),
            do_not_disturb: self.value(fields, "do_not_disturb", value::yes),
            forwards: self.forwards(fields),
            stores_messages: self.value(fields, "store_messages", value::yes),
            line: fields.line,
        }
    }
}

/// A value that may be missing.
fn optional<T>(
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| {
        if text.is_empty() {
            Ok(None)
        } else {
            parse(text).map(Some)
        }
    }
}
