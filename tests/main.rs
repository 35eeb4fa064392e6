//! The one test binary beside the unit tests. Each module says what it needs; `tests/run` says how to run it.

mod loopback;
mod peers;
mod security;
mod tidy;
mod torture;
mod verdicts;
