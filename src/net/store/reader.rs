//! Questions about call records, answered on a thread and a connection of their own, so that a long search delays
//! neither a call nor a write. Write-ahead logging lets both work on the file at once.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use log::Level;
use rusqlite::types::Value;
use rusqlite::{Connection, InterruptHandle, params_from_iter};

use super::{locked, rows, schema};
use crate::api::{Cdr, Page, Rfc3339};
use crate::limits;
use crate::net::log::say;
use crate::store::CdrQuery;

/// One answer: the ticket of its question, and the page.
pub(super) type CdrAnswer = (u64, Result<Page<Cdr>, String>);

/// Between the loop and the thread.
#[derive(Default)]
pub(super) struct Reader {
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Default)]
struct State {
    queries: VecDeque<(u64, CdrQuery)>,
    answers: Vec<CdrAnswer>,
    /// Questions taken from the queue whose answer was not fetched: they count against the bound, too.
    unfetched: usize,
    running: Option<InterruptHandle>,
    stop: bool,
}

impl Reader {
    /// Starts the thread, which ends with [`Reader::stop`].
    pub(super) fn start(
        path: PathBuf,
        wake: impl Fn() + Send + 'static,
    ) -> std::io::Result<Arc<Self>> {
        let reader = Arc::new(Self::default());
        let shared = Arc::clone(&reader);
        std::thread::Builder::new()
            .name("store-read".into())
            .spawn(move || shared.run(&path, &wake))?;
        Ok(reader)
    }

    /// False: too many are waiting.
    pub(super) fn ask(&self, ticket: u64, query: CdrQuery) -> bool {
        let mut state = locked(&self.state);
        if state.stop || state.queries.len() + state.unfetched >= limits::STORE_QUERIES_MAX {
            return false;
        }
        state.queries.push_back((ticket, query));
        self.asked.notify_one();
        true
    }

    pub(super) fn answers(&self) -> Vec<CdrAnswer> {
        let mut state = locked(&self.state);
        let answers = std::mem::take(&mut state.answers);
        state.unfetched -= answers.len();
        answers
    }

    /// Cuts off what is running; nothing is answered any more.
    pub(super) fn stop(&self) {
        let mut state = locked(&self.state);
        state.stop = true;
        state.queries.clear();
        if let Some(running) = &state.running {
            running.interrupt();
        }
        self.asked.notify_one();
    }

    fn run(&self, path: &Path, wake: &dyn Fn()) {
        loop {
            let mut state = locked(&self.state);
            let (ticket, query) = loop {
                if state.stop {
                    return;
                }
                match state.queries.pop_front() {
                    Some(asked) => break asked,
                    None => state = super::wait(&self.asked, state),
                }
            };
            state.unfetched += 1;
            drop(state);

            let answer = self.answer(path, &query);
            let mut state = locked(&self.state);
            state.running = None;
            if state.stop {
                return;
            }
            state.answers.push((ticket, answer));
            drop(state);
            wake();
        }
    }

    /// A connection for each question: questions are rare, and one that was opened before the file was set aside or
    /// replaced would read the old one for ever.
    fn answer(&self, path: &Path, query: &CdrQuery) -> Result<Page<Cdr>, String> {
        let connection = schema::open_read_only(path).map_err(|error| error.to_string())?;
        locked(&self.state).running = Some(connection.get_interrupt_handle());
        page(&connection, query)
    }
}

/// One page, newest first.
pub(super) fn page(connection: &Connection, query: &CdrQuery) -> Result<Page<Cdr>, String> {
    let (sql, values) = select_page(query, &schema::record_columns(connection))?;
    select(connection, &sql, values, page_size(query)).map_err(|error| error.to_string())
}

fn page_size(query: &CdrQuery) -> usize {
    query.limit.clamp(1, limits::CDR_PAGE_MAX)
}

/// The statement and its values; it asks for one row more than the page holds, to know whether there is another page.
pub(super) fn select_page(query: &CdrQuery, columns: &str) -> Result<(String, Vec<Value>), String> {
    let mut conditions = String::from("disposition <> ''");
    let mut values: Vec<Value> = Vec::new();
    if let Some(since) = query.since {
        conditions.push_str(" AND start >= ?");
        values.push(Rfc3339(since).to_string().into());
    }
    if let Some(until) = query.until {
        conditions.push_str(" AND start < ?");
        values.push(Rfc3339(until).to_string().into());
    }
    if let Some(user) = &query.user {
        conditions.push_str(" AND ? IN (caller, dialled, answered_by)");
        values.push(user.clone().into());
    }
    if let Some((start, id)) = query.cursor()? {
        conditions.push_str(" AND (start, id) < (?, ?)");
        values.push(start.to_owned().into());
        values.push(id.to_owned().into());
    }
    let sql = format!(
        "SELECT {columns} FROM call_records INDEXED BY call_records_by_start WHERE {conditions}
         ORDER BY start DESC, id DESC LIMIT {}",
        page_size(query) + 1
    );
    Ok((sql, values))
}

fn select(
    connection: &Connection,
    sql: &str,
    values: Vec<Value>,
    limit: usize,
) -> rusqlite::Result<Page<Cdr>> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut page = Page {
        items: Vec::new(),
        next: None,
    };
    let mut last = String::new();
    let mut read = 0;
    while let Some(row) = rows.next()? {
        if read == limit {
            page.next = Some(last);
            break;
        }
        read += 1;
        // The cursor comes from the columns as they are: a row that cannot be read does not end the list.
        let text = |value: Value| match value {
            Value::Text(text) => text,
            _ => String::new(),
        };
        last = format!("{}_{}", text(row.get("start")?), text(row.get("id")?));
        match rows::record(row) {
            Ok(record) => page.items.push(record),
            Err(reason) => {
                let fields = [("table", "call_records".to_owned()), ("reason", reason)];
                say(Level::Warn, "store_row_skipped", fields);
            }
        }
    }
    Ok(page)
}
