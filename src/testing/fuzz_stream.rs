//! Fuzz body of stream framing: a stream cut anywhere gives the same frames as the whole, and a frame is as long as
//! `message::parse` reads it.

use super::meter;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::message;
use crate::transport::{Frame, FrameError, Framer};

/// What a stream gave: messages as ranges of lengths would hide mix-ups, so their bytes.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Message(Vec<u8>),
    Ping,
    Error(FrameError),
}

/// `data`: a count of cuts, the lengths of the segments, then the stream.
///
/// # Panics
/// When a property does not hold.
pub fn stream_frame(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else {
        return;
    };
    let (lengths, stream) = rest.split_at(usize::from(count % 32).min(rest.len()));
    let mut whole = Vec::new();
    feed(&mut Framer::new(), stream, &mut whole);

    let mut framer = Framer::new();
    let mut cut = Vec::new();
    let mut remaining = stream;
    // Lengths are used again and again; with none, or zeros only, the rest comes one byte at a time.
    let mut length = lengths.iter().cycle();
    while !remaining.is_empty() {
        let wanted = length
            .next()
            .map_or(1, |&length| usize::from(length).max(1));
        let (segment, tail) = remaining.split_at(wanted.min(remaining.len()));
        feed(&mut framer, segment, &mut cut);
        assert!(framer.pending() <= MESSAGE_BYTES_MAX, "bounded");
        remaining = tail;
    }
    assert_eq!(cut, whole, "cuts do not matter");
    // Now and then in two at every place.
    if count >= 240 && stream.len() <= 512 {
        for at in 0..stream.len() {
            let mut framer = Framer::new();
            cut.clear();
            let (one, other) = stream.split_at(at);
            feed(&mut framer, one, &mut cut);
            feed(&mut framer, other, &mut cut);
            assert_eq!(cut, whole, "cut at {at}");
        }
    }
    check(stream, &whole);
}

fn feed(framer: &mut Framer, segment: &[u8], seen: &mut Vec<Seen>) {
    let length = framer.pending() + segment.len();
    let mut shadow = framer.clone();
    // A copy of what is unfinished, which has room for eight bytes at least and grows by doubling.
    meter::within(length.max(2), || {
        let mut frames = shadow.feed(segment);
        while frames.next().is_some() {}
    });
    let mut frames = framer.feed(segment);
    while let Some(frame) = frames.next() {
        seen.push(match frame {
            Frame::Message(message) => Seen::Message(message.to_vec()),
            Frame::Ping => Seen::Ping,
            Frame::Error(error) => Seen::Error(error),
        });
    }
}

/// The frames are the stream in order, and nothing but line ends lies between them.
fn check(stream: &[u8], seen: &[Seen]) {
    let mut rest = stream;
    let skip_line_ends = |rest: &mut &[u8]| {
        let mut count = 0;
        while let Some(tail) = rest.strip_prefix(b"\r\n") {
            *rest = tail;
            count += 1;
        }
        count
    };
    let mut pings = 0;
    for (number, frame) in seen.iter().enumerate() {
        match frame {
            Seen::Ping => pings += 1,
            Seen::Message(message) => {
                assert_eq!(
                    skip_line_ends(&mut rest) / 2,
                    pings,
                    "two line ends are a ping"
                );
                pings = 0;
                rest = rest
                    .strip_prefix(&message[..])
                    .expect("the stream's own bytes");
                assert!(message.len() <= MESSAGE_BYTES_MAX);
                // With bytes behind it, as in a datagram: where the message ends is read alike in both places.
                let longer = [message, b"l: 7\r\n\r\nbehind".as_slice()].concat();
                for bytes in [
                    message.as_slice(),
                    longer.get(..MESSAGE_BYTES_MAX).unwrap_or(&longer),
                ] {
                    if let Ok(parsed) = message::parse(bytes) {
                        assert_eq!(parsed.bytes(), message, "one length");
                    }
                }
            }
            Seen::Error(_) => assert_eq!(number, seen.len() - 1, "an error is the last"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
        From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";

    fn line() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "l: 3\r\n",
            "L:5\r\n",
            "Content-Length: 0\r\n",
            "CONTENT-length \t: 9\r\n",
            "l:\r\n 4\r\n",
            "l: 4\r\n \t\r\n",
            "l: 04\r\n",
            "l: 4 4\r\n",
            "l: 65536\r\n",
            "l: 4294967300\r\n",
            "l: 99999999999999999999999\r\n",
            "l: -1\r\n",
            "l: 4, 4\r\n",
            "Subject: x\r\n l: 2\r\n",
            "Subject: l: 2\r\n",
            "Content-Length : 1\r\n",
            "l : 2\r\n",
            "l\r\n : 2\r\n",
            "Content-Lengt: 2\r\n",
            "X: a\nl: 2\r\n",
            "X: a\rl: 2\r\n",
            ": 2\r\n",
            "l:2\r\r\n",
            "\u{0}l: 2\r\n",
        ])
        .prop_map(str::to_owned)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn holds(
            cuts in prop::collection::vec(any::<u8>(), 0..32),
            messages in prop::collection::vec((prop::collection::vec(line(), 0..4), "[a-z\r\n]{0,12}"), 1..4),
        ) {
            let mut data = vec![cuts.len() as u8];
            data.extend(&cuts);
            for (lines, body) in messages {
                data.extend(format!("{HEAD}{}\r\n{body}", lines.concat()).as_bytes());
            }
            stream_frame(&data);
        }

        #[test]
        fn holds_for_any_bytes(data in prop::collection::vec(any::<u8>(), 0..300)) {
            stream_frame(&data);
        }

        /// What parses with a Content-Length as a datagram is exactly one frame of a stream.
        #[test]
        fn what_parses_is_framed(line in line(), body in "[a-z]{0,10}") {
            let bytes = format!("{HEAD}{line}\r\n{body}");
            let mut seen = Vec::new();
            feed(&mut Framer::new(), bytes.as_bytes(), &mut seen);
            if let Ok(parsed) = message::parse(bytes.as_bytes())
                && parsed.value(message::HeaderName::ContentLength).is_some()
            {
                prop_assert_eq!(seen.first(), Some(&Seen::Message(parsed.bytes().to_vec())));
            }
        }
    }
}
