//! Real SIP programs against the built server: calls, scans and attacks as strangers and phones make them.
//!
//! Each test has addresses of its own in 127.0.0.0/8, a server of its own in a folder of its own, and ends only what it
//! started. The tests are ignored unless asked for, because most need other programs: `tests/run peers` installs those
//! and runs them. A missing program fails a test; leaving a test out is the business of `tests/run`.

mod baresip;
mod calls;
mod capture;
mod cli;
mod crash;
mod desk;
mod disk;
mod dns;
mod harness;
mod kamailio;
mod lifecycle;
mod line_calls;
mod line_registers;
mod lines;
mod linphone;
mod many;
mod nat;
mod phones;
mod pjsua2;
mod sipp;
mod sipsak;
mod sipvicious;
mod soak;
mod sound;
mod trunks;
