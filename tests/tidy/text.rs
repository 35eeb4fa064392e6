//! Source text as the rules read it: without comments and literals, paths written out.

use super::tables::SHELL;

/// A source file: where it is, its text, and its text without comments and literals.
pub struct File {
    pub path: String,
    pub text: String,
    pub code: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
            code: blank(text),
        }
    }

    /// `message` for src/message/uri.rs, `limits` for src/limits.rs; `None` for lib.rs and what is not in src.
    pub fn layer(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (name != "lib").then_some(name)
    }

    /// Its code up to the unit tests, which stand last.
    pub fn product(&self) -> &str {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return "";
        }
        let mut from = 0;
        while let Some(at) = self.code[from..].find("#[cfg(test)]") {
            let after = self.code[from + at + "#[cfg(test)]".len()..].trim_start();
            if after.starts_with("mod ") {
                return &self.code[..from + at];
            }
            from += at + 1;
        }
        &self.code
    }

    /// Is it impure by right?
    pub fn in_shell(&self) -> bool {
        self.layer().is_none_or(|layer| SHELL.contains(&layer))
    }
}

/// The text with comments, string and character literals as blanks; lines stay where they are.
pub fn blank(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    // Pushes blanks for what is skipped.
    let skip = |out: &mut String, from: usize, to: usize| {
        out.extend(
            bytes[from..to]
                .iter()
                .map(|&c| if c == '\n' { '\n' } else { ' ' }),
        );
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let word_before = at > 0 && (bytes[at - 1].is_alphanumeric() || bytes[at - 1] == '_');
        let end = if rest.starts_with(&['/', '/']) {
            at + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())
        } else if rest.starts_with(&['/', '*']) {
            at + block_comment(rest)
        } else if rest[0] == '"' {
            at + quoted(rest, '"')
        } else if !word_before && matches!(rest[0], 'r' | 'b' | 'c') && literal_prefix(rest) > 0 {
            let prefix = literal_prefix(rest);
            if rest[..prefix].contains(&'r') {
                at + raw_string(rest, prefix)
            } else {
                at + prefix + quoted(&rest[prefix..], rest[prefix])
            }
        } else if rest[0] == '\'' && is_char_literal(rest) {
            at + quoted(rest, '\'')
        } else {
            out.push(rest[0]);
            at += 1;
            continue;
        };
        skip(&mut out, at, end);
        at = end;
    }
    out
}

/// Length of a block comment, which may hold others.
pub fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of a literal that begins and ends with this quote.
pub fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `r`, `b`, `br`, `c`, `cr` if a literal begins here, else 0.
pub fn literal_prefix(rest: &[char]) -> usize {
    for prefix in ["br", "cr", "r", "b", "c"] {
        let length = prefix.len();
        if !rest.iter().copied().take(length).eq(prefix.chars()) {
            continue;
        }
        let after = &rest[length..];
        let hashes = after.iter().take_while(|&&c| c == '#').count();
        let quote = after.get(hashes).copied();
        let raw = prefix.ends_with('r');
        if (raw && quote == Some('"'))
            || (!raw
                && hashes == 0
                && (quote == Some('"') || (prefix == "b" && quote == Some('\''))))
        {
            return length;
        }
    }
    0
}

/// Length of a raw string whose prefix has this length.
pub fn raw_string(rest: &[char], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|&&c| c == '#').count();
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let body = prefix + hashes + 1;
    (body..rest.len())
        .find(|&at| rest[at..].starts_with(&end))
        .map_or(rest.len(), |at| at + end.len())
}

/// `'a'` and `'\n'`, not the lifetime `'a`.
pub fn is_char_literal(rest: &[char]) -> bool {
    rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')
}

/// Every path of the code, `use` trees written out: (line, `std::time::Instant`).
pub fn paths(code: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while at < chars.len() {
        if chars[at] == '\n' {
            line += 1;
        }
        let begins = is_word(chars[at])
            && !chars[at].is_ascii_digit()
            && (at == 0
                || !(is_word(chars[at - 1]) || chars[at - 1] == ':' || chars[at - 1] == '.'));
        if !begins {
            at += 1;
            continue;
        }
        let start_line = line;
        let end = path(&chars, at, String::new(), start_line, &mut found);
        line += chars[at..end].iter().filter(|&&c| c == '\n').count();
        at = end;
    }
    found
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Reads one path or tree that begins at `at`; returns where it ends.
pub fn path(
    chars: &[char],
    mut at: usize,
    mut prefix: String,
    line: usize,
    found: &mut Vec<(usize, String)>,
) -> usize {
    loop {
        let start = at;
        while at < chars.len() && is_word(chars[at]) {
            at += 1;
        }
        prefix.extend(&chars[start..at]);
        let next = skip_blanks(chars, at);
        if !chars[next.min(chars.len())..].starts_with(&[':', ':']) {
            found.push((line, prefix));
            return at;
        }
        let next = skip_blanks(chars, next + 2);
        match chars.get(next) {
            Some(&c) if is_word(c) => {
                prefix.push_str("::");
                at = next;
            }
            Some('{') => {
                prefix.push_str("::");
                let mut inner = skip_blanks(chars, next + 1);
                let mut inner_line = line + newlines(&chars[start..inner]);
                while inner < chars.len() && chars[inner] != '}' {
                    let end = if is_word(chars[inner]) {
                        path(chars, inner, prefix.clone(), inner_line, found)
                    } else {
                        inner + 1
                    };
                    let after = skip_blanks(chars, end);
                    inner_line += newlines(&chars[inner..after]);
                    inner = after;
                }
                return (inner + 1).min(chars.len());
            }
            Some('*') => {
                found.push((line, format!("{prefix}::*")));
                return next + 1;
            }
            _ => {
                found.push((line, prefix));
                return next.min(chars.len());
            }
        }
    }
}

pub fn skip_blanks(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at].is_whitespace() {
        at += 1;
    }
    at
}

pub fn newlines(chars: &[char]) -> usize {
    chars.iter().filter(|&&c| c == '\n').count()
}

/// Words of the code with their lines.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        line.split(|c: char| !is_word(c))
            .filter(|word| !word.is_empty())
            .map(move |word| (number + 1, word))
    })
}

/// Macro calls of the code: `todo!` is (line, `todo`).
pub fn macros(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for (at, _) in line.match_indices('!') {
            if line[at + 1..].trim_start().starts_with('=') {
                continue;
            }
            let name = line[..at]
                .rsplit(|c: char| !is_word(c))
                .next()
                .unwrap_or("");
            if !name.is_empty() {
                found.push((number + 1, name));
            }
        }
    }
    found
}
