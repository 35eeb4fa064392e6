//! The lines of config.ini: text → sections with their `key = value` entries and line numbers.
//!
//! `;` and `#` begin a comment at the start of a line or after a blank. A byte order mark, CRLF line ends and
//! blanks around names are accepted. There are no quotes, no escapes and no continuation lines. What a key may be
//! called or hold is not known here.

use std::borrow::Cow;

use super::Mistake;
use super::value::quote;

/// Bytes of one line. A list of three thousand addresses fits; a binary file does not get further than this.
const LINE_BYTES_MAX: usize = 65_536;

/// `[user 100]` and what follows it.
pub(super) struct Section<'a> {
    pub line: usize,
    /// First word of the header; empty if the header could not be read.
    pub kind: &'a str,
    /// Second word, or empty.
    pub name: &'a str,
    pub entries: Vec<Entry<'a>>,
}

impl Section<'_> {
    /// How mistakes name it: `[user 100]`. Each mistake in it says so: no name makes that long.
    pub fn label(&self) -> String {
        let (kind, name) = (shortened(self.kind), shortened(self.name));
        if name.is_empty() {
            format!("[{kind}]")
        } else {
            format!("[{kind} {name}]")
        }
    }
}

/// At most 60 characters.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]).into(),
        None => text.into(),
    }
}

/// One `key = value`, blanks and comment taken off.
pub(super) struct Entry<'a> {
    pub line: usize,
    pub key: &'a str,
    pub value: &'a str,
}

/// Splits `text`; whatever cannot be read is added to `mistakes` and left out.
pub(super) fn parse<'a>(text: &'a str, mistakes: &mut Vec<Mistake>) -> Vec<Section<'a>> {
    let mut sections: Vec<Section<'a>> = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, raw) in text.split('\n').enumerate() {
        let line = index + 1;
        let content = trim(without_comment(raw.strip_suffix('\r').unwrap_or(raw)));
        let mistake = if raw.len() > LINE_BYTES_MAX {
            Some(format!("line is longer than {LINE_BYTES_MAX} bytes"))
        } else if let Some(c) = content.chars().find(|c| c.is_control() && *c != '\t') {
            Some(format!("control character U+{:04X}", u32::from(c)))
        } else if let Some(header) = content.strip_prefix('[') {
            let mut said = Vec::new();
            sections.push(section_of(header, line, &mut said));
            let section = sections.last().map_or_else(String::new, Section::label);
            let said = said.into_iter();
            mistakes.extend(said.map(|text| Mistake {
                line,
                section: section.clone(),
                text,
            }));
            None
        } else if let Some((key, value)) = content.split_once('=') {
            let (key, value) = (trim(key), trim(value));
            match sections.last_mut() {
                _ if key.is_empty() => Some(r#"nothing before "=""#.into()),
                None => Some(format!("key {} before any [section]", quote(key))),
                Some(section) => {
                    section.entries.push(Entry { line, key, value });
                    None
                }
            }
        } else if content.is_empty() {
            None
        } else {
            // The text is not shown: it may be a password.
            Some(r#"expected "key = value" or "[section]""#.into())
        };
        if let Some(text) = mistake {
            let section = sections.last().map_or_else(String::new, Section::label);
            mistakes.push(Mistake {
                line,
                section,
                text,
            });
        }
    }
    sections
}

/// Reads what follows `[`.
fn section_of<'a>(header: &'a str, line: usize, mistakes: &mut Vec<String>) -> Section<'a> {
    let inside = match header.split_once(']') {
        Some((inside, "")) => inside,
        Some((inside, _)) => {
            mistakes.push(r#"text after "]""#.into());
            inside
        }
        None => {
            mistakes
                .push(r#"missing "]" ("#.to_owned() + "a blank before # or ; begins a comment)");
            header
        }
    };
    let mut words = inside.split([' ', '\t']).filter(|word| !word.is_empty());
    let (kind, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if kind.is_empty() && mistakes.is_empty() {
        mistakes.push("section without a name".into());
    }
    if words.next().is_some() {
        mistakes.push("a section's name is one word".into());
    }
    Section {
        line,
        kind,
        name,
        entries: Vec::new(),
    }
}

/// Cuts the comment off.
fn without_comment(line: &str) -> &str {
    let mut after_blank = true;
    for (index, byte) in line.bytes().enumerate() {
        if after_blank && (byte == b';' || byte == b'#') {
            return &line[..index];
        }
        after_blank = byte == b' ' || byte == b'\t';
    }
    line
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
