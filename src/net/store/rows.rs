//! One row in, one row out: between the plain data of `crate::store` and the tables of the state file.
//!
//! Reading never fails as a whole for one bad row: somebody may have edited the file by hand. Such a row is left out
//! and counted.

use std::net::SocketAddr;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use crate::api::{Cdr, Rfc3339};
use crate::source::{Source, Transport};
use crate::store::restored::StoredBinding;
use crate::store::{
    BanReason, BanRow, BindingKey, BindingRow, CallRecord, DestinationKey, DestinationRow,
    FeatureRow, MessageRow,
};
use crate::time::UnixTime;

/// Columns of `call_records`, in the order of [`Cdr`]'s fields.
pub(super) const RECORD_COLUMNS: &str = "id, start, answer, \"end\", direction, caller, dialled, answered_by, through, \
     forwarded_by, transferred_by, related, source, user_agent, disposition, status, ended_by, duration_ms, talk_ms, \
     caller_call_id, callee_call_id, reason";

/// Rows that were read, and what was left out.
pub(super) struct Loaded<T> {
    pub rows: Vec<T>,
    /// Rows left out, and why the first of them.
    pub skipped: usize,
    pub reason: Option<String>,
}

/// Every row of `sql` that can be read.
pub(super) fn load<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> Result<T, String>,
) -> rusqlite::Result<Loaded<T>> {
    let mut loaded = Loaded {
        rows: Vec::new(),
        skipped: 0,
        reason: None,
    };
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(value) => loaded.rows.push(value),
            Err(reason) => {
                loaded.skipped += 1;
                loaded.reason.get_or_insert(reason);
            }
        }
    }
    Ok(loaded)
}

fn text<'a>(row: &'a Row<'_>, column: &str) -> Result<&'a str, String> {
    row.get_ref(column)
        .ok()
        .and_then(|value| value.as_str().ok())
        .ok_or_else(|| format!("{column} is not text"))
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> Result<T, String> {
    text(row, column)?
        .parse()
        .map_err(|_| format!("{column} cannot be read"))
}

fn time(row: &Row<'_>, column: &str) -> Result<UnixTime, String> {
    parsed::<Rfc3339>(row, column).map(|time| time.0)
}

fn number<T: TryFrom<i64>>(row: &Row<'_>, column: &str) -> Result<T, String> {
    let number: i64 = row
        .get(column)
        .map_err(|_| format!("{column} is not a number"))?;
    T::try_from(number).map_err(|_| format!("{column} is out of range"))
}

/// `None` where the column is NULL.
fn optional<T>(
    row: &Row<'_>,
    column: &str,
    read: impl Fn(&Row<'_>, &str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match row.get_ref(column) {
        Ok(ValueRef::Null) => Ok(None),
        Ok(_) => read(row, column).map(Some),
        Err(_) => Err(format!("{column} is missing")),
    }
}

fn string(row: &Row<'_>, column: &str) -> Result<String, String> {
    text(row, column).map(str::to_owned)
}

fn bytes(row: &Row<'_>, column: &str) -> Result<Vec<u8>, String> {
    row.get_ref(column)
        .ok()
        .and_then(|value| value.as_bytes().ok())
        .map(<[u8]>::to_vec)
        .ok_or_else(|| format!("{column} is not text"))
}

/// Bytes as text where they are text, so that people can read them; a NUL would end text early in many tools.
fn readable(bytes: &[u8]) -> ToSqlOutput<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        _ => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
    }
}

fn written(time: UnixTime) -> String {
    Rfc3339(time).to_string()
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn binding(row: &Row<'_>) -> Result<StoredBinding, String> {
    let transport = match text(row, "transport")? {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return Err("transport is neither udp nor tcp".into()),
    };
    let granted_s = number(row, "granted_s")?;
    let row = BindingRow {
        user: string(row, "user")?.into(),
        contact: bytes(row, "contact")?.into(),
        path: bytes(row, "path")?.into(),
        call_id: bytes(row, "call_id")?.into(),
        cseq: number(row, "cseq")?,
        q: number(row, "q")?,
        instance: bytes(row, "instance")?.into(),
        reg_id: number(row, "reg_id")?,
        user_agent: bytes(row, "user_agent")?.into(),
        transport,
        local: parsed::<SocketAddr>(row, "local")?,
        remote: parsed::<SocketAddr>(row, "source")?,
        since: time(row, "since")?,
        expires: time(row, "expires")?,
        // NULL, or not there, in a file of an older sipkeep.
        is_behind_nat: row.get("behind_nat").unwrap_or_default(),
    };
    Ok(StoredBinding { row, granted_s })
}

/// One binding, by the parts of its key.
const BY_KEY: &str = "WHERE user = ?1 AND contact = ?2 AND instance = ?3 AND reg_id = ?4";

/// The binding as the file has it now; `None`: not there, or it cannot be read.
pub(super) fn find_binding(
    connection: &Connection,
    key: &BindingKey,
) -> rusqlite::Result<Option<StoredBinding>> {
    connection
        .prepare_cached(&format!("SELECT * FROM registrations {BY_KEY}"))?
        .query_row(
            params![
                &*key.user,
                readable(&key.contact),
                readable(&key.instance),
                key.reg_id
            ],
            |row| Ok(binding(row).ok()),
        )
        .optional()
        .map(Option::flatten)
}

pub(super) fn put_binding(
    connection: &Connection,
    row: &BindingRow,
    granted_s: u32,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "REPLACE INTO registrations (user, contact, source, local, transport, user_agent, since, expires,
               granted_s, path, call_id, cseq, q, instance, reg_id, behind_nat)
             VALUES (:user, :contact, :source, :local, :transport, :user_agent, :since, :expires,
               :granted_s, :path, :call_id, :cseq, :q, :instance, :reg_id, :behind_nat)",
        )?
        .execute(named_params! {
            ":user": &*row.user,
            ":contact": readable(&row.contact),
            ":source": row.remote.to_string(),
            ":local": row.local.to_string(),
            ":transport": row.transport.uri_token(),
            ":user_agent": readable(&row.user_agent),
            ":since": written(row.since),
            ":expires": written(row.expires),
            ":granted_s": granted_s,
            ":behind_nat": row.is_behind_nat,
            ":path": readable(&row.path),
            ":call_id": readable(&row.call_id),
            ":cseq": row.cseq,
            ":q": row.q,
            ":instance": readable(&row.instance),
            ":reg_id": row.reg_id,
        })
        .map(drop)
}

/// Of one binding: its place in the table, until when it lasts, and the seconds that it was granted.
pub(super) fn binding_end(row: &Row<'_>) -> Result<(i64, UnixTime, u32), String> {
    Ok((
        number(row, "rowid")?,
        time(row, "expires")?,
        number(row, "granted_s")?,
    ))
}

pub(super) fn set_binding_end(
    connection: &Connection,
    place: i64,
    expires: UnixTime,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE registrations SET expires = ?2 WHERE rowid = ?1")?
        .execute(params![place, written(expires)])
        .map(drop)
}

pub(super) fn remove_binding(connection: &Connection, key: &BindingKey) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!("DELETE FROM registrations {BY_KEY}"))?
        .execute(params![
            &*key.user,
            readable(&key.contact),
            readable(&key.instance),
            key.reg_id
        ])
        .map(drop)
}

const fn reason_word(reason: BanReason) -> &'static str {
    match reason {
        BanReason::Credentials => "credentials",
        BanReason::Scan => "scan",
        BanReason::Deny => "deny",
        BanReason::Manual => "manual",
    }
}

pub(super) fn ban(row: &Row<'_>) -> Result<BanRow, String> {
    let reason = match text(row, "reason")? {
        "credentials" => BanReason::Credentials,
        "scan" => BanReason::Scan,
        "deny" => BanReason::Deny,
        "manual" => BanReason::Manual,
        _ => return Err("reason is none that is known".into()),
    };
    Ok(BanRow {
        source: parsed(row, "source")?,
        reason,
        failures: number(row, "failures")?,
        users: serde_json::from_str(text(row, "users")?)
            .map_err(|_| "users is not a list of names".to_owned())?,
        first_seen: time(row, "first_seen")?,
        last_seen: time(row, "last_seen")?,
        since: time(row, "since")?,
        until: time(row, "until")?,
        step: number(row, "step")?,
    })
}

pub(super) fn put_ban(connection: &Connection, row: &BanRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "REPLACE INTO bans (source, reason, failures, users, first_seen, last_seen, since, until, step)
             VALUES (:source, :reason, :failures, :users, :first_seen, :last_seen, :since, :until, :step)",
        )?
        .execute(named_params! {
            ":source": row.source.to_string(),
            ":reason": reason_word(row.reason),
            ":failures": row.failures,
            ":users": serde_json::Value::from(row.users.as_slice()).to_string(),
            ":first_seen": written(row.first_seen),
            ":last_seen": written(row.last_seen),
            ":since": written(row.since),
            ":until": written(row.until),
            ":step": row.step,
        })
        .map(drop)
}

pub(super) fn remove_ban(connection: &Connection, source: Source) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM bans WHERE source = ?1")?
        .execute([source.to_string()])
        .map(drop)
}

pub(super) fn known(row: &Row<'_>) -> Result<(Source, UnixTime), String> {
    Ok((parsed(row, "source")?, time(row, "last_success")?))
}

pub(super) fn put_known(
    connection: &Connection,
    source: Source,
    last_success: UnixTime,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("REPLACE INTO known (source, last_success) VALUES (?1, ?2)")?
        .execute(params![source.to_string(), written(last_success)])
        .map(drop)
}

pub(super) fn destination(row: &Row<'_>) -> Result<DestinationRow, String> {
    Ok(DestinationRow {
        key: DestinationKey {
            user: string(row, "user")?,
            number: bytes(row, "number")?,
        },
        first_called: time(row, "first_called")?,
        last_called: time(row, "last_called")?,
    })
}

pub(super) fn put_destination(
    connection: &Connection,
    row: &DestinationRow,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "REPLACE INTO destinations (user, number, first_called, last_called) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            row.key.user,
            readable(&row.key.number),
            written(row.first_called),
            written(row.last_called)
        ])
        .map(drop)
}

pub(super) fn remove_destination(
    connection: &Connection,
    key: &DestinationKey,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM destinations WHERE user = ?1 AND number = ?2")?
        .execute(params![key.user, readable(&key.number)])
        .map(drop)
}

pub(super) fn feature(row: &Row<'_>) -> Result<FeatureRow, String> {
    let off = optional(row, "do_not_disturb", number::<i64>)?;
    Ok(FeatureRow {
        user: string(row, "user")?,
        forward_always: optional(row, "forward_always", string)?,
        do_not_disturb: off.map(|off| off != 0),
    })
}

pub(super) fn put_feature(connection: &Connection, row: &FeatureRow) -> rusqlite::Result<()> {
    if row.is_empty() {
        return (connection.prepare_cached("DELETE FROM features WHERE user = ?1")?)
            .execute([&row.user])
            .map(drop);
    }
    connection
        .prepare_cached(
            "REPLACE INTO features (user, forward_always, do_not_disturb) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![row.user, row.forward_always, row.do_not_disturb])
        .map(drop)
}

pub(super) fn message(row: &Row<'_>) -> Result<MessageRow, String> {
    Ok(MessageRow {
        id: number(row, "id")?,
        user: string(row, "user")?,
        received: time(row, "received")?,
        expires: time(row, "expires")?,
        sender: string(row, "sender")?,
        sharer: row.get("sharer").unwrap_or_default(),
        request: bytes(row, "request")?,
        from_display: bytes(row, "from_display")?,
        from_user: bytes(row, "from_user")?,
        from_host: optional(row, "from_host", string)?,
        from_tel: number::<i64>(row, "from_tel")? != 0,
        dialled: bytes(row, "dialled")?,
        max_forwards: number(row, "max_forwards")?,
        headers: bytes(row, "headers")?,
        body: bytes(row, "body")?,
    })
}

pub(super) fn put_message(connection: &Connection, row: &MessageRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "REPLACE INTO messages (id, user, received, expires, sender, request, from_display, from_user, from_host,
               from_tel, dialled, max_forwards, headers, body, sharer)
             VALUES (:id, :user, :received, :expires, :sender, :request, :from_display, :from_user, :from_host,
               :from_tel, :dialled, :max_forwards, :headers, :body, :sharer)",
        )?
        .execute(named_params! {
            ":id": integer(row.id),
            ":user": row.user,
            ":received": written(row.received),
            ":expires": written(row.expires),
            ":sender": row.sender,
            ":request": readable(&row.request),
            ":from_display": readable(&row.from_display),
            ":from_user": readable(&row.from_user),
            ":from_host": row.from_host,
            ":from_tel": row.from_tel,
            ":dialled": readable(&row.dialled),
            ":max_forwards": row.max_forwards,
            ":headers": readable(&row.headers),
            ":body": readable(&row.body),
            ":sharer": row.sharer,
        })
        .map(drop)
}

pub(super) fn remove_message(connection: &Connection, id: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM messages WHERE id = ?1")?
        .execute([integer(id)])
        .map(drop)
}

pub(super) fn secret(row: &Row<'_>) -> Result<(String, String), String> {
    Ok((string(row, "name")?, string(row, "value")?))
}

pub(super) fn put_secret(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("REPLACE INTO secrets (name, value) VALUES (?1, ?2)")?
        .execute([name, value])
        .map(drop)
}

/// The nonce key as a secret's value: when it was made, and 64 hex digits.
pub(super) fn nonce_key_text(key: &[u8; 32], made: UnixTime) -> String {
    format!("{} {}", Rfc3339(made), key_text(key))
}

/// A key as 64 hex digits.
pub(super) fn key_text(key: &[u8; 32]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The reverse of [`nonce_key_text`].
pub(super) fn nonce_key(text: &str) -> Option<([u8; 32], UnixTime)> {
    let (made, hex) = text.split_once(' ')?;
    let made: Rfc3339 = made.parse().ok()?;
    Some((key(hex)?, made.0))
}

/// The reverse of [`key_text`].
pub(super) fn key(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (byte, digits) in key.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

pub(super) fn record(row: &Row<'_>) -> Result<Cdr, String> {
    let clock = |row: &Row<'_>, column: &str| time(row, column).map(Rfc3339);
    Ok(Cdr {
        id: string(row, "id")?,
        start: clock(row, "start")?,
        answer: optional(row, "answer", clock)?,
        end: optional(row, "end", clock)?,
        direction: string(row, "direction")?,
        caller: string(row, "caller")?,
        dialled: string(row, "dialled")?,
        answered_by: optional(row, "answered_by", string)?,
        through: optional(row, "through", string)?,
        forwarded_by: optional(row, "forwarded_by", string)?,
        transferred_by: optional(row, "transferred_by", string)?,
        related: optional(row, "related", string)?,
        source: string(row, "source")?,
        user_agent: optional(row, "user_agent", string)?,
        disposition: string(row, "disposition")?,
        status: optional(row, "status", number)?,
        ended_by: optional(row, "ended_by", string)?,
        duration_ms: optional(row, "duration_ms", number)?,
        talk_ms: optional(row, "talk_ms", number)?,
        caller_call_id: string(row, "caller_call_id")?,
        callee_call_id: optional(row, "callee_call_id", string)?,
        reason: optional(row, "reason", string)?,
    })
}

pub(super) fn put_record(connection: &Connection, record: &CallRecord) -> rusqlite::Result<()> {
    // An ended record is never replaced by its own earlier state.
    connection
        .prepare_cached(
            "INSERT INTO call_records (id, start, answer, \"end\", direction, caller, dialled, answered_by, through,
               forwarded_by, transferred_by, related, source, user_agent, disposition, status, ended_by, duration_ms,
               talk_ms, caller_call_id, callee_call_id, reason)
             VALUES (:id, :start, :answer, :end, :direction, :caller, :dialled, :answered_by, :through,
               :forwarded_by, :transferred_by, :related, :source, :user_agent, :disposition, :status, :ended_by,
               :duration_ms, :talk_ms, :caller_call_id, :callee_call_id, :reason)
             ON CONFLICT (id) DO UPDATE SET start = excluded.start, answer = excluded.answer, \"end\" = excluded.\"end\",
               direction = excluded.direction, caller = excluded.caller, dialled = excluded.dialled,
               answered_by = excluded.answered_by, through = excluded.through, forwarded_by = excluded.forwarded_by,
               transferred_by = excluded.transferred_by, related = excluded.related, source = excluded.source,
               user_agent = excluded.user_agent, disposition = excluded.disposition, status = excluded.status,
               ended_by = excluded.ended_by, duration_ms = excluded.duration_ms, talk_ms = excluded.talk_ms,
               caller_call_id = excluded.caller_call_id, callee_call_id = excluded.callee_call_id,
               reason = excluded.reason
             WHERE disposition = '' OR excluded.disposition <> ''",
        )?
        .execute(named_params! {
            ":id": record.id,
            ":start": written(record.start),
            ":answer": record.answer.map(written),
            ":end": record.end.map(written),
            ":direction": record.direction,
            ":caller": record.caller,
            ":dialled": record.dialled,
            ":answered_by": record.answered_by,
            ":through": record.through,
            ":forwarded_by": record.forwarded_by,
            ":transferred_by": record.transferred_by,
            ":related": record.related,
            ":source": record.source,
            ":user_agent": record.user_agent,
            ":disposition": record.disposition,
            ":status": record.status,
            ":ended_by": record.ended_by,
            ":duration_ms": record.duration_ms.map(integer),
            ":talk_ms": record.talk_ms.map(integer),
            ":caller_call_id": record.caller_call_id,
            ":callee_call_id": record.callee_call_id,
            ":reason": record.reason,
        })
        .map(drop)
}
