//! What broke other SIP servers, and how people lived with what was to protect them: each class has a test here, against
//! the whole server without sockets, on virtual time.

mod addresses;
mod bans;
mod bounds;
mod credentials;
mod dialogs;
mod equal;
mod floods;
mod harness;
mod outside;
mod parsing;
mod strangers;
