//! Secrets that the server made at its first start, read from the state file without writing to it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

/// How long the file may be busy: the server writes a batch in less.
const BUSY: Duration = Duration::from_secs(5);

/// The secrets of these names, in their order; `None` for those that are not there.
///
/// # Errors
/// In words, if the file is not there or cannot be read.
pub fn secrets(file: &Path, names: &[String]) -> Result<Vec<Option<String>>, String> {
    let shown = file.display();
    if !file.exists() {
        return Err(format!(
            "{shown} is not there yet: sipkeep makes it at its first start"
        ));
    }
    let read = || -> rusqlite::Result<Vec<Option<String>>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(file, flags)?;
        database.busy_timeout(BUSY)?;
        let mut query = database.prepare("SELECT value FROM secrets WHERE name = ?1")?;
        let value = |name: &String| query.query_row([name], |row| row.get(0)).optional();
        names.iter().map(value).collect()
    };
    read().map_err(|error| format!("cannot read {shown}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.db");
        let names = ["password:100", "password:101"].map(String::from);
        let error = secrets(&file, &names).unwrap_err();
        assert!(
            error.ends_with("is not there yet: sipkeep makes it at its first start"),
            "{error}"
        );
        assert!(!file.exists(), "asking must not make the file");
        let database = Connection::open(&file).unwrap();
        let error = secrets(&file, &names).unwrap_err();
        assert!(error.contains("no such table"), "{error}");
        let table = "PRAGMA journal_mode = WAL; CREATE TABLE secrets(name, value);
            INSERT INTO secrets VALUES ('password:101', 'zebra-lamp');";
        database.execute_batch(table).unwrap();
        let found = secrets(&file, &names).unwrap();
        assert_eq!(found, [None, Some("zebra-lamp".to_owned())]);
    }
}
