//! What `sipkeep-load --help` prints.

/// See the module.
pub const TEXT: &str = "\
sipkeep-load SCENARIO --target ADDRESS:PORT [OPTIONS]
sipkeep-load mix --target ADDRESS:PORT [OPTIONS]
sipkeep-load lanes --server PROGRAM [OPTIONS]
sipkeep-load media --server PROGRAM [OPTIONS]
sipkeep-load idle --server PROGRAM [OPTIONS]
sipkeep-load compare --server PROGRAM [OPTIONS]
sipkeep-load echo|drop|drop-late --listen ADDRESS:PORT
sipkeep-load forward --listen ADDRESS:PORT --calls N [--rest]

Scenarios
  options        OPTIONS, answered with 200
  register-401   REGISTER without credentials, answered with 401
  register       registrations refreshed in one message, the nonce used again
  register-all   the same without a first registration: all register with a challenge before it is measured, then refresh by turns
  register-new   each user registers for the first time, with a challenge; ends with the last one
  calls          INVITE, 180, 200, ACK, BYE; both sides are played here
  held-calls     the same without BYE: --calls of them, which stay; ends with the last one
  ping           OPTIONS, and whatever comes back is the answer: for the echo loop
  flood          a scanner's INVITEs; no answer is expected
  forged         REGISTERs of strangers, each of another source: --sources of them, once

mix plays several at once, in one open or closed loop; what became of each kind is told apart.
  --mix A=N,B=M        options, register-401, register, calls, and their parts (register=70,options=20,calls=10); users are
                       divided evenly between register and calls
  --scanners RATE      a flood of INVITEs beside it, so many a second, from --sources addresses

idle starts the server PROGRAM with a configuration as it is shipped, three users, a trunk that is not asked whether it is there,
and one registered phone, and looks for --seconds (600) what time on the processor it takes and how often its threads wake.
  --target       where it listens (127.9.0.1:15060, HTTP on the next port)

lanes starts the server PROGRAM with a configuration of its own and measures registered phones that refresh 200 times a
second, each on a flow of its own: without a flood, then from banned sources, from 60,000 sources that each stay below every
threshold, from sources that are ever new; then phones that it has never seen, 10 a second; then a trunk's calls, 10 a second,
while its address is forged. Two more servers have no kernel's filter, so that they read what banned sources send: one up to a
millisecond late, as it does of itself, the other at once (SIPKEEP_READ_AT_ONCE). Registered and new phones beside that flood tell
what late reading costs them.
  --rates A,B,C  datagrams a second of each flood (50000,100000,200000; the newcomers', the trunk's and that
                 which is read have the first)
  --user-id N    Unix user that the server runs as: without privilege its receive buffers are at most net.core.rmem_max
  --target       where it listens (127.0.0.1:15060, HTTP on the next port)

media starts the server PROGRAM with a configuration of its own, sets up calls that it relays and sends 50 packets of 172 bytes
a second each way in each of them, by turns through the server and through bare loops on the same processor, one that wakes
for each packet and one that looks every 0.2 ms; then through the server while a registered phone asks it OPTIONS, 200 a
second; then with scanners' flood, too. Memory for each call is compared with that of another server, which relays none.
  --calls N      calls (500)
  --seconds S    time through the server, as much through each bare loop, half as much beside OPTIONS and the flood (20)
  --rounds N     parts that this time is divided into; ratios are medians of theirs (5)
  --rates A      datagrams a second of the flood (50000)
  --cores A,B    processors: of the load, of the server and the bare loop (0,1; - for any)
  --target       where the server listens (127.9.0.1:15060, HTTP on the next port)

compare measures the server PROGRAM, Kamailio and loops that only receive and send, all on the same core, in turns.
  --kamailio PROGRAM   Kamailio (kamailio, if it is there; \"no\": without it)
  --rounds N           turns; the table has their medians (5)
  --rows TEXT          only rows whose name has this in it, and the bare loops that they are compared with; \"memory\": what
                       is held, and how soon a server starts; \"flat\": what a message costs with small and large tables of
                       registrations, remembered transactions, bans (only when asked for)
  --sizes A,B,C        flat: of these tables (10,1000,100000; the last 10000 on a small machine); memory: of the last one
                       with registrations, with a tenth as many calls. Transactions are remembered as far as their answers fit 32 MiB,
                       some 79,000 of 420 bytes
  --small CPU,MIB      servers have no more than this part of a processor and this memory (0.1,64; - for all memory), by
                       control groups, which root may make. Then what a second carries is a figure, too
  --cores A,B          processors: of the load, of the servers (0,1; - for any)
  --target             the first server's address (127.0.7.1:25071): others have the next ports, phones, trunk and
                       scanners the next addresses
  --output FOLDER      every run as a line of JSON, the table as text and SVG (target/compare)

Load
  --window N     closed loop: so many at a time (128)
  --rate N       open loop: so many a second; latency counts from when each was due
                 (flood, forged: without it as fast as it goes)
  --seconds S    time that is measured (5)
  --warmup S     time before it that is not (1)
  --users FIRST-LAST   user names, numbers (1000-1255); calls go from even places to odd ones
  --password TEXT      of all of them (n7-wetter-koffer)
  --domain HOST        of addresses-of-record (the target's address)
  --bind ADDRESS[:PORT]  own address (the one by which the kernel reaches the target)
  --flows N            register: sockets that the users are spread over (1)
  --trunk ADDR         calls: all come from there, without registration
  --calls N            held-calls: how many (500)
  --count N            ends when so many have begun and ended
  --sources N          flood, forged, scanners: addresses it comes from (1: our own; of a mix to 127.0.0.0/8 127.64.0.0);
                       several are 127.64.0.0 onward, which reach nothing but 127.0.0.0/8; over IPv6 a /64
                       each below fd00::/16, which must be local (bench/forged makes it so)

Report
  --pid PID      the server's process: its CPU time for each message, its memory
  --server PROGRAM, --config FILE
                 the server is sipkeep and runs with this file: what its tables hold at the end
  --json         one line of JSON

echo sends every datagram back, drop counts it: batches of recvmmsg and sendmmsg around nothing. drop-late waits for a
millisecond whenever something has come, so that batches fill. forward has two ports for each call, one behind the other from
the one that is named on, and sends what comes to one of them out of the other to whom that was heard from last; with --rest
it looks every 0.2 ms. They end with SIGTERM.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    #[test]
    fn defaults_are_as_said() {
        let arguments = arguments::parse(lexopt::Parser::from_args(["--help"])).unwrap();
        let (first, last) = arguments.users;
        for said in [
            format!("numbers ({first}-{last});"),
            format!("of all of them ({})", arguments.password),
            format!(
                "sockets that the users are spread over ({})",
                arguments.flows
            ),
            format!("time that is measured ({})", arguments.measured.as_secs()),
            format!("that is not ({})", arguments.warmup.as_secs()),
            format!("how many ({})", arguments.calls),
        ] {
            assert!(TEXT.contains(&said), "{said}");
        }
    }
}
