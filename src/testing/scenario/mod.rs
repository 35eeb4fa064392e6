//! Scenarios: text files that read like the call flows of the RFCs, played against the production endpoint on virtual time.
//!
//! ```text
//! # RFC 3261 §17.2.1: 486 is retransmitted on Timer G until ACK
//! seed 7
//! agent desk 192.0.2.50:5060 user=bob      # alice, bob and carol are always there
//! config:
//!   [call]
//!   ring_timeout = 30s
//!    0ms  alice registers                   # REGISTER, 401, REGISTER with credentials, 200
//!    0ms  bob registers
//!   10ms  alice > INVITE sip:bob@pbx branch=z9hG4bK1
//!       | Subject: lunch                    # a header of the message above
//!   10ms  alice < 100
//!   10ms  bob < INVITE from_tag=$ours       # binds $ours, or compares with it
//!       | Subject: lun*                     # asserted; "| !Subject" asserts its absence
//!   20ms  bob > 486
//!   20ms  bob < ACK
//!   20ms  alice < 486
//!  520ms  alice < 486 again                 # byte for byte what came before
//!  600ms  alice > ACK
//!     1m  nothing                           # nobody has received anything else
//!     1m  record caller=alice dialled=bob disposition=busy status=486
//! ```
//!
//! Times are exact, unless jitter makes them: `1h carrier < REGISTER since=20m` comes between
//! these two, and what follows it counts from there: it was 1h then. Everything that reaches an agent must be expected, in this order for each agent. At the end five
//! minutes of silence pass, in which nothing may be sent, and after which the server has no call and no
//! transaction left and every record was asserted.
//!
//! Headers that stand often are written once, before the first time: `headers carried:`, lines of them, and then `| @carried`.
//! A text in quotes is the body itself: `alice > MESSAGE sip:bob@pbx "hello\r\n"`, `bob < MESSAGE "hello\r\n"`; `| Body: *hello*`
//! below a message is a pattern of it, in which `\r\n` stands for a line's end.
//!
//! Events are looked at as one likes: `event outside_limit user=alice` is the first of that name that was not looked at.
//!
//! Besides: `A calls B`, `A talks to B`, `A hangs up on B` stand for the usual lines; `server stops`, `server restarts` (after a power cut), `server hangs up`, `server loses port of A` (that it was last told to send media to; `stream=1`),
//! `server bans ADDRESS`, `server unbans ADDRESS`, `server reloads KEY=VALUE` (another value of a key that stands in the configuration once), `server has calls=1 registrations=2 subscriptions=0`; `A closes` (its connection), `A vanishes` (its connection is dead without a FIN);
//! `A > again` (the last bytes once more), `A > ping`, `A < ping`, `A < pong`, `A < closed`, `A > bytes "…\r\n"`. Options of `>`: those of
//! [`Wishes`](super::agent::Wishes), `from=ADDRESS` (a forged source), `segment=hold` (goes with the next bytes of the stream),
//! `split=N` (in segments of N bytes).
//! `config NAME:` is another configuration, for `server reloads NAME`. A trunk is asked whether it is there only if it has a
//! `keepalive`; `A answers OPTIONS` (or `A answers OPTIONS 404`), `A ignores OPTIONS`: from then on by itself, without a line.
//! `event trunk name=one state=down "no answer"`: the next event of that name, with these fields and one of that value.
//! Names are resolved by a name server whose records stand in header lines, `dns: sip.example.org 60 A 192.0.2.9` (see
//! [`dns`](super::dns)), or how it behaves at first, `dns: is silent`; later `dns has sip.example.org A 192.0.2.10`, `dns forgets NAME`, `dns answers`, `dns is silent`,
//! `dns is absent`, `dns fails`, `dns is forged`, `dns is asked NAME TYPE NAME TYPE ...` (since it was asserted last, sorted),
//! `server reaches LINE=udp:192.0.2.9:5060,udp:...`, `server cannot reach LINE "why"`.
//! `server speaks from 192.0.2.1 to 198.51.100.4`: the kernel's route there, asked for where `listen` is a wildcard.
//! `server line NAME state=refused status=403 "reason"` is what people are shown of a line, `server registers NAME` has it register now.
//! Media: `A sends rtp ssrc=1` (also `srtp`, `dtls`, `rtcp`, `udptl`; `stream=1`, `from=ADDRESS`) goes to where A was last told to send it, from
//! the port 30000 of A's address; `B hears rtp ssrc=1`, `B hears nothing`, `at=ADDRESS` where that is not B's host. Media that
//! nobody asks for is no mistake. `bob < INVITE sdp=192.0.2.1:*` compares addresses and ports of the streams.
//! In a header that is sent, a word `$name` stands for what was bound, within a word `${name}`, and so it does where a URI may
//! stand: `carrier < INVITE contact=$us`, `carrier > INVITE $us`; a PRACK acknowledges the last reliable response.

mod expect;
mod media;
mod parse;
mod play;

pub use parse::Script;

/// Plays a scenario.
///
/// # Errors
/// The line that does not hold, what came instead, and everything that was sent before.
pub fn play(text: &str) -> Result<(), String> {
    let script = Script::parse(text)?;
    play::Player::new(&script)?.play(&script)
}
