//! Telephones behind NATs, as homes have them: real programs, real NATs (nft), real sound.
//!
//! Each test has a town of its own (`town`), made of network namespaces that are gone when the test is, however it ends:
//! nothing has a name, and nothing is changed outside them. Only root may make them: `tests/run` leaves these tests out
//! for anybody else.

mod calls;
mod ear;
mod group;
mod inside;
mod phone;
mod silence;
mod space;
mod stranger;
mod town;
mod transfers;
