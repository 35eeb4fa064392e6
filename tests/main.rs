//! The one test binary beside the unit tests. Each module says what it needs; `tests/run` says how to run it.

mod idle;
mod joined;
mod load;
mod loopback;
mod peers;
mod replay;
mod scenario;
mod security;
mod siege;
mod simulate;
mod tidy;
mod torture;
mod verdicts;
