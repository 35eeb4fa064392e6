//! The log: one logfmt line an event on standard error, with bounds that a flood cannot pass.
//!
//! ```text
//! time=2026-03-01T12:00:00.000Z level=warn event=ban source=203.0.113.7 reason=credentials failures=5
//! ```
//!
//! Events with a source are about strangers: at most one line a minute about one source and ten lines a second about
//! all of them; what was left out is summed up in a line `event=suppressed lines=…`, at most once a minute. Only a ban
//! is told although something else about its source was told less than a minute before, since it is what that led to. Values
//! hold bytes that strangers sent, so everything but plain visible ASCII is quoted and escaped, and they are cut.
//!
//! Lines are written on a thread of their own: a terminal that was stopped or a reader that is slow must not stop
//! calls. While it cannot keep up, lines are dropped and counted.

use std::collections::VecDeque;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::api::{Event, Rfc3339};
use crate::source::Source;
use crate::time::{Instant, Now, UnixTime};

/// Time between two lines about one source, and between two summaries.
const QUIET: Duration = Duration::from_secs(60);
/// Lines about strangers in one second.
const LINES_PER_SECOND: usize = 10;
/// Sources that had a line within [`QUIET`]; more there cannot be, so the table forgets nothing too early: ten in each
/// of its seconds, and in the one that has begun.
const SOURCES_MAX: usize = LINES_PER_SECOND * (QUIET.as_secs() as usize + 1);
/// Bytes of one value; what is behind is cut. A user name, a User-Agent or a URI that says something is shorter.
const VALUE_BYTES_MAX: usize = 256;
/// Lines that wait for a slow reader, at most about a megabyte. At the bound a line is dropped and counted.
const WAITING_MAX: usize = 1_024;

/// Which lines about strangers are written. Time is an argument; the table has a fixed size.
#[derive(Debug)]
pub struct Throttle {
    /// Who had a line when, the oldest first.
    written: VecDeque<Written>,
    /// Left out since the last summary.
    suppressed: u64,
    /// When the first of them was left out.
    since: Instant,
    /// When the last summary was written.
    summary: Option<Instant>,
}

/// A line about a stranger.
#[derive(Debug)]
struct Written {
    at: Instant,
    source: Source,
    is_ban: bool,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

impl Throttle {
    /// Nothing was written yet.
    pub fn new() -> Self {
        Self {
            written: VecDeque::with_capacity(SOURCES_MAX),
            suppressed: 0,
            since: Instant::default(),
            summary: None,
        }
    }

    /// Whether a line about `source` is written now; `is_ban`: it says that a ban begins. If not it is counted for
    /// the summary.
    pub fn admit(&mut self, now: Instant, source: Source, is_ban: bool) -> bool {
        let is_old = |line: &Written| now.since(line.at) >= QUIET;
        while self.written.front().is_some_and(is_old) {
            self.written.pop_front();
        }
        // Newest first: the tenth last line tells whether this second is used up, and a flood from one source is
        // found at once.
        let tenth = self.written.iter().rev().nth(LINES_PER_SECOND - 1);
        let spent = tenth.is_some_and(|line| now.since(line.at) < Duration::from_secs(1));
        let same = |line: &Written| line.source == source && (line.is_ban || !is_ban);
        if spent || self.written.iter().rev().any(same) {
            if self.suppressed == 0 {
                self.since = now;
            }
            self.suppressed = self.suppressed.saturating_add(1);
            return false;
        }
        self.written.push_back(Written {
            at: now,
            source,
            is_ban,
        });
        true
    }

    /// How many lines were left out, when it is time to say so: a second after the first of them, and not within a
    /// minute of the last summary.
    pub fn summary(&mut self, now: Instant) -> Option<u64> {
        if self.next_summary().is_none_or(|due| now < due) {
            return None;
        }
        self.summary = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }

    /// When [`Throttle::summary`] will have something to say.
    pub fn next_summary(&self) -> Option<Instant> {
        let first = self.since.plus(Duration::from_secs(1));
        let next = self
            .summary
            .map_or(first, |last| last.plus(QUIET).max(first));
        (self.suppressed > 0).then_some(next)
    }
}

/// The line of an event, with its line end.
pub fn line(time: impl Display, event: &Event) -> String {
    let mut line = begin(time, event.level);
    push(&mut line, "event", event.name);
    let fields = event.fields();
    for (key, value) in &fields {
        push(&mut line, key, value);
    }
    if let Some(source) = event.source
        && !fields.iter().any(|(key, _)| *key == "source")
    {
        push(&mut line, "source", &source.to_string());
    }
    line.push('\n');
    line
}

fn begin(time: impl Display, level: log::Level) -> String {
    let mut line = String::with_capacity(160);
    // Writing to a string cannot fail.
    let _ = write!(
        line,
        "time={time} level={}",
        level.as_str().to_ascii_lowercase()
    );
    line
}

/// Appends ` key=value`, quoted where it must be.
fn push(line: &mut String, key: &str, value: &str) {
    line.push(' ');
    line.push_str(key);
    line.push('=');
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '=');
    if !value.is_empty() && value.len() <= VALUE_BYTES_MAX && value.chars().all(plain) {
        line.push_str(value);
        return;
    }
    line.push('"');
    for (index, c) in value.char_indices() {
        if index >= VALUE_BYTES_MAX {
            line.push_str("...");
            break;
        }
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            ' '..='~' => line.push(c),
            // As in JSON, which is what readers of logfmt unquote.
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
        }
    }
    line.push('"');
}

static THROTTLE: OnceLock<Mutex<Throttle>> = OnceLock::new();
static WRITER: OnceLock<Writer> = OnceLock::new();

fn throttle() -> MutexGuard<'static, Throttle> {
    let throttle = THROTTLE.get_or_init(Mutex::default);
    // Counters are sound at any point, so a thread that died holding them does no harm.
    throttle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the log, or changes its level after a reload.
///
/// # Errors
/// In words, if the writer's thread does not start.
pub fn start(level: log::LevelFilter) -> Result<(), String> {
    if WRITER.get().is_none() {
        let writer = Writer::start().map_err(|error| format!("cannot start the log: {error}"))?;
        // Two starts at once cannot be: there is one shell. The logger is refused if a test has set one.
        let _ = WRITER.set(writer);
        let _ = log::set_logger(&Own);
    }
    log::set_max_level(level);
    Ok(())
}

/// Writes an event, unless its level is too low or there are too many about strangers.
pub fn event(now: Now, event: &Event) {
    if event.level > log::max_level() {
        return;
    }
    let text = lines(&mut throttle(), now, Some(event));
    write(text);
}

/// Writes an event of the shell itself, from any of its threads.
pub fn say<const N: usize>(
    level: log::Level,
    name: &'static str,
    fields: [(&'static str, String); N],
) {
    if level <= log::max_level() {
        let event = Event {
            level,
            name,
            source: None,
            fields: Vec::from(fields).into(),
        };
        write(line(Rfc3339(wall_clock()), &event));
    }
}

/// Writes the summary of what was left out if it is due. For the loop, at [`next_tick`] or more often.
pub fn tick(now: Now) {
    let text = lines(&mut throttle(), now, None);
    write(text);
}

/// What is to be written now: the summary if it is due, then the event unless it is one too many.
fn lines(throttle: &mut Throttle, now: Now, event: Option<&Event>) -> String {
    let mut text = String::new();
    if let Some(lines) = throttle.summary(now.mono) {
        text = begin(Rfc3339(now.unix), log::Level::Warn);
        push(&mut text, "event", "suppressed");
        push(&mut text, "lines", &lines.to_string());
        text.push('\n');
    }
    if let Some(event) = event {
        let stranger = event.source.filter(|_| !is_by_administrator(event));
        if stranger.is_none_or(|source| throttle.admit(now.mono, source, event.name == "ban")) {
            text += &line(Rfc3339(now.unix), event);
        }
    }
    text
}

/// Whether an administrator banned or lifted a ban: he sees each of his acts, and no stranger can make any.
fn is_by_administrator(event: &Event) -> bool {
    let act = match event.name {
        "ban" => ("reason", "manual"),
        "unban" => ("by", "administrator"),
        _ => return false,
    };
    event
        .fields()
        .iter()
        .any(|(key, value)| (*key, &**value) == act)
}

/// When [`tick`] will have something to write.
pub fn next_tick() -> Option<Instant> {
    throttle().next_summary()
}

/// Waits until what was logged so far is written, at most for `timeout`. Before the process ends.
pub fn finish(timeout: Duration) {
    let Some(writer) = WRITER.get() else { return };
    let (done, written) = mpsc::sync_channel(1);
    let deadline = std::time::Instant::now() + timeout;
    let mut job = Job::Flush(done);
    while let Err(TrySendError::Full(back)) = writer.jobs.try_send(job) {
        if std::time::Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
        job = back;
    }
    // No answer in time: the reader of our lines is gone or stopped, and nothing can be told to it.
    let _ = written.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now()));
}

fn write(line: String) {
    if line.is_empty() {
        return;
    }
    match WRITER.get() {
        Some(writer) => writer.write(line),
        // Standard error that cannot be written leaves nowhere to say so.
        None => drop(std::io::stderr().lock().write_all(line.as_bytes())),
    }
}

enum Job {
    Line(String),
    Flush(SyncSender<()>),
}

struct Writer {
    jobs: SyncSender<Job>,
    /// Dropped because [`WAITING_MAX`] lines wait.
    lost: &'static AtomicU64,
}

static LOST: AtomicU64 = AtomicU64::new(0);

impl Writer {
    fn start() -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(WAITING_MAX);
        let run = move || write_all(&queue, &LOST, &mut std::io::stderr());
        std::thread::Builder::new().name("log".into()).spawn(run)?;
        Ok(Self { jobs, lost: &LOST })
    }

    fn write(&self, line: String) {
        if self.jobs.try_send(Job::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The writer's thread: until every sender is gone.
fn write_all(queue: &Receiver<Job>, lost: &AtomicU64, to: &mut impl std::io::Write) {
    for job in queue {
        match job {
            // Standard error that cannot be written leaves nowhere to say so.
            Job::Line(line) => drop(to.write_all(line.as_bytes())),
            Job::Flush(done) => drop((to.flush(), done.try_send(()))),
        }
        let lines = lost.swap(0, Ordering::Relaxed);
        if lines > 0 {
            let mut line = begin(Rfc3339(wall_clock()), log::Level::Warn);
            push(&mut line, "event", "log_lost");
            push(&mut line, "lines", &lines.to_string());
            line.push('\n');
            drop(to.write_all(line.as_bytes()));
        }
    }
}

fn wall_clock() -> UnixTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The `log` crate's backend for messages of our own: `time=… level=info message="…"`.
struct Own;

impl log::Log for Own {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        // Libraries speak up from warnings on only; what they trace is not about SIP.
        let ours = record.target().starts_with("sipkeep");
        if self.enabled(record.metadata()) && (ours || record.level() <= log::Level::Warn) {
            write(message(
                Rfc3339(wall_clock()),
                record.level(),
                &record.args().to_string(),
            ));
        }
    }

    fn flush(&self) {
        finish(Duration::from_secs(1));
    }
}

fn message(time: impl Display, level: log::Level, text: &str) -> String {
    let mut line = begin(time, level);
    push(&mut line, "message", text);
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(5_000_000 + ms * 1_000)
    }

    fn source(number: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from_bits(0xcb00_7100 + number).into())
    }

    fn ban(fields: Vec<(&'static str, String)>) -> Event {
        let source = Some(source(7));
        Event {
            level: log::Level::Warn,
            name: "ban",
            source,
            fields: fields.into(),
        }
    }

    #[test]
    fn an_event_is_one_line() {
        let event = ban(vec![
            ("source", "203.0.113.7".into()),
            ("reason", "credentials".into()),
            ("failures", "5".into()),
        ]);
        let expected =
            "time=T level=warn event=ban source=203.0.113.7 reason=credentials failures=5\n";
        assert_eq!(line("T", &event), expected);
        let expected = "time=T level=warn event=ban users=a,b source=203.0.113.7\n";
        assert_eq!(line("T", &ban(vec![("users", "a,b".into())])), expected);
        let none = Event {
            source: None,
            ..ban(vec![])
        };
        assert_eq!(line("T", &none), "time=T level=warn event=ban\n");
    }

    #[test]
    fn what_strangers_send_cannot_leave_its_value() {
        for (value, expected) in [
            ("", r#""""#),
            ("friendly-scanner", "friendly-scanner"),
            ("a b", r#""a b""#),
            ("x\" level=error", r#""x\" level=error""#),
            ("a=b", r#""a=b""#),
            ("\\", r#""\\""#),
            ("x\r\ntime=0 event=ban\t", r#""x\r\ntime=0 event=ban\t""#),
            ("\u{1b}[31m\0\u{7f}", r#""\u001b[31m\u0000\u007f""#),
            (
                "Zoë😀\u{fffd}\u{202e}",
                r#""Zo\u00eb\ud83d\ude00\ufffd\u202e""#,
            ),
        ] {
            let mut line = String::new();
            push(&mut line, "k", value);
            assert_eq!(line, format!(" k={expected}"), "{value:?}");
        }
    }

    #[test]
    fn a_value_is_cut() {
        for value in ["x".repeat(257), "ë".repeat(40_000), "\0".repeat(9_999)] {
            let text = line("T", &ban(vec![("agent", value)]));
            assert!(text.len() < 6 * VALUE_BYTES_MAX + 100, "{}", text.len());
            assert!(text.contains("...\""));
        }
        assert!(!line("T", &ban(vec![("agent", "x".repeat(256))])).contains('"'));
    }

    proptest::proptest! {
        #[test]
        fn any_value_is_one_printable_word_or_one_quoted_text(value in ".{0,80}") {
            let mut line = String::new();
            push(&mut line, "k", &value);
            proptest::prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let value_text = line.strip_prefix(" k=").unwrap();
            if let Some(inside) = value_text.strip_prefix('"') {
                let text: String = serde_json::from_str(&format!("\"{inside}")).unwrap();
                proptest::prop_assert_eq!(text, value);
            } else {
                proptest::prop_assert_eq!(value_text, value);
            }
        }
    }

    #[test]
    fn an_administrator_sees_each_of_his_acts() {
        let mut throttle = Throttle::new();
        let now = Now::default();
        let manual = ban(vec![("reason", "manual".into())]);
        let mut lifted = ban(vec![("by", "administrator".into())]);
        lifted.name = "unban";
        for event in [&manual, &lifted, &manual, &lifted] {
            assert!(!lines(&mut throttle, now, Some(event)).is_empty());
        }
        lifted.fields = vec![("by", "time".into())].into();
        assert!(!lines(&mut throttle, now, Some(&lifted)).is_empty());
        assert!(lines(&mut throttle, now, Some(&lifted)).is_empty());
    }

    #[test]
    fn one_line_a_minute_about_one_source() {
        let mut throttle = Throttle::new();
        assert!(throttle.admit(at(0), source(1), false));
        assert!(!throttle.admit(at(0), source(1), false));
        assert!(!throttle.admit(at(59_999), source(1), false));
        assert!(throttle.admit(at(59_999), source(2), false));
        assert!(throttle.admit(at(60_000), source(1), false));
        assert!(!throttle.admit(at(60_001), source(2), false));
    }

    #[test]
    fn a_ban_is_told_after_the_failures_that_led_to_it() {
        let mut throttle = Throttle::new();
        assert!(throttle.admit(at(0), source(1), false));
        assert!(throttle.admit(at(900), source(1), true));
        assert!(!throttle.admit(at(1_000), source(1), true));
        assert!(
            !throttle.admit(at(60_000), source(1), false),
            "a minute after the ban too"
        );
        assert!(throttle.admit(at(60_900), source(1), false));
    }

    #[test]
    fn ten_lines_in_any_second_about_all() {
        let mut throttle = Throttle::new();
        let mut times = Vec::new();
        for ms in 0..10_000 {
            if throttle.admit(at(ms), source(ms as u32), false) {
                times.push(ms);
            }
        }
        assert_eq!(times.len(), 100);
        assert!(
            times.windows(11).all(|some| some[10] - some[0] >= 1_000),
            "{times:?}"
        );
    }

    #[test]
    fn a_flood_from_everywhere_leaves_the_table_at_its_size() {
        let mut throttle = Throttle::new();
        let mut last = std::collections::BTreeMap::new();
        let capacity = throttle.written.capacity();
        for ms in (0..300_000).step_by(7) {
            let who = source((ms * 31 % 2_000) as u32);
            if throttle.admit(at(ms), who, false)
                && let Some(before) = last.insert(who, ms)
            {
                assert!(
                    ms - before >= 60_000,
                    "{who} again after {} ms",
                    ms - before
                );
            }
        }
        assert!(throttle.written.len() <= SOURCES_MAX);
        assert_eq!(throttle.written.capacity(), capacity, "the table grew");
    }

    #[test]
    fn the_summary_comes_after_a_second_and_then_once_a_minute() {
        let mut throttle = Throttle::new();
        assert!(throttle.admit(at(0), source(1), false));
        assert_eq!(
            (throttle.next_summary(), throttle.summary(at(5_000))),
            (None, None)
        );
        for ms in 10_000..10_500 {
            assert!(!throttle.admit(at(ms), source(1), false));
        }
        assert_eq!(throttle.next_summary(), Some(at(11_000)));
        assert_eq!(throttle.summary(at(10_999)), None);
        assert_eq!(throttle.summary(at(11_000)), Some(500));
        assert_eq!(
            (throttle.next_summary(), throttle.summary(at(99_000))),
            (None, None)
        );
        assert!(throttle.admit(at(99_000), source(1), false));
        assert!(!throttle.admit(at(99_100), source(1), false));
        assert_eq!(throttle.summary(at(100_100)), Some(1));
        assert!(!throttle.admit(at(101_000), source(1), false));
        assert_eq!(
            throttle.next_summary(),
            Some(at(160_100)),
            "a minute after the last"
        );
        assert_eq!(throttle.summary(at(160_100)), Some(1));
    }

    #[test]
    fn bans_are_about_strangers_and_our_own_events_are_always_written() {
        let mut throttle = Throttle::new();
        let mut at = |seconds: u64, event: Option<&Event>| {
            let mono = Instant::from_micros(seconds * 1_000_000);
            let unix = UnixTime::from_millis(1_772_366_400_000 + seconds * 1_000);
            lines(&mut throttle, Now { mono, unix }, event)
        };
        let own = Event {
            name: "call",
            source: None,
            ..ban(vec![])
        };
        let first = "time=2026-03-01T12:00:00.000Z level=warn event=ban source=203.0.113.7\n";
        assert_eq!(at(0, Some(&ban(vec![]))), first);
        for _ in 0..100 {
            assert_eq!(at(0, Some(&ban(vec![]))), "");
            let line = "time=2026-03-01T12:00:00.000Z level=warn event=call\n";
            assert_eq!(at(0, Some(&own)), line);
        }
        assert_eq!(at(0, None), "");
        let summary = "time=2026-03-01T12:00:01.000Z level=warn event=suppressed lines=100\n";
        let line = "time=2026-03-01T12:00:01.000Z level=warn event=call\n";
        assert_eq!(at(1, Some(&own)), format!("{summary}{line}"));
        assert_eq!(at(1, None), "");
        assert!(at(60, Some(&ban(vec![]))).contains(" event=ban "));
    }

    #[test]
    fn the_writer_writes_what_it_is_given_and_says_what_was_lost() {
        let (jobs, queue) = mpsc::sync_channel(4);
        let lost = AtomicU64::new(3);
        let (done, written) = mpsc::sync_channel(1);
        jobs.send(Job::Line("one\n".into())).unwrap();
        jobs.send(Job::Line("two\n".into())).unwrap();
        jobs.send(Job::Flush(done)).unwrap();
        drop(jobs);
        let mut out = Vec::new();
        write_all(&queue, &lost, &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[2], lines.len()), ("one", "two", 3));
        assert!(
            lines[1].starts_with("time=20")
                && lines[1].ends_with(" level=warn event=log_lost lines=3")
        );
        assert_eq!(written.try_recv(), Ok(()));
    }

    #[test]
    fn messages_of_our_own_are_lines_too() {
        let text = message("T", log::Level::Info, "config.ini:3: [guard] \"x\"");
        assert_eq!(
            text,
            "time=T level=info message=\"config.ini:3: [guard] \\\"x\\\"\"\n"
        );
    }

    #[test]
    fn what_the_shell_says_is_an_event_with_fields() {
        let fields = vec![("path", "a b.db".to_owned()), ("pending", "3".to_owned())];
        let event = Event {
            level: log::Level::Error,
            name: "store_failed",
            source: None,
            fields: fields.into(),
        };
        let expected = "time=T level=error event=store_failed path=\"a b.db\" pending=3\n";
        assert_eq!(line("T", &event), expected);
    }
}
