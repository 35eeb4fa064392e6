//! Any bytes as a session description and as a multipart body: what rewriting promises, checked naively.

use std::net::IpAddr;

use super::meter;
use crate::limits::SDP_STREAMS_MAX;
use crate::sdp::{Shown, Stream, part, read, rewrite};

/// The list of all streams takes no more, growing from one; nothing but `m=` lines would be less than a quarter of it.
const LIST: usize = 2 * SDP_STREAMS_MAX * size_of::<Stream>();

/// The first byte chooses what is shown of which stream, the rest is the description; then all of it is a multipart body.
pub fn sdp(bytes: &[u8]) {
    let Some((&choice, description)) = bytes.split_first() else {
        return;
    };
    for kind in [
        &b"multipart/mixed;boundary=b"[..],
        b"application/sdp",
        b"multipart/",
    ] {
        if let Some(found) = meter::within(bytes.len() + kind.len(), || part(kind, bytes)) {
            assert!(found.start < found.end && found.end <= bytes.len());
        }
    }
    let write = |from: &[u8], shown: &Shown<'_>| {
        let mut out = Vec::new();
        rewrite(from, shown, &mut out);
        // Each line may become a longer address, and an attribute for its RTCP may come to each stream.
        assert!(out.len() <= 4 * from.len() + 64 * SDP_STREAMS_MAX);
        out
    };
    let address = match choice & 1 {
        0 => IpAddr::from([192, 0, 2, 77]),
        _ => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77]),
    };
    let ports = [None; SDP_STREAMS_MAX];
    let nothing = Shown {
        address,
        ports: &ports,
    };
    assert_eq!(write(description, &nothing), description);
    let Ok(before) = meter::below(LIST.max(4 * description.len()), || read(description)) else {
        // What cannot be read may be rewritten all the same, without a panic.
        let ports = [Some(20_000)];
        write(
            description,
            &Shown {
                address,
                ports: &ports,
            },
        );
        return;
    };
    let is_wanted = |index: usize, stream: &Stream| {
        stream.is_relayable() && (choice >> (1 + index % 7)) & 1 == 1
    };
    let ports: Vec<Option<u16>> = (before.iter().enumerate())
        .map(|(index, stream)| is_wanted(index, stream).then_some(20_000 + 2 * index as u16))
        .collect();
    let shown = Shown {
        address,
        ports: &ports,
    };
    let written = write(description, &shown);
    check(
        &before,
        &read(&written).expect("still a description"),
        &shown,
    );
    assert_eq!(write(&written, &shown), written, "twice is once");
    check_others(description, &written);
}

/// What both sides read of it.
fn check(before: &[Stream], after: &[Stream], shown: &Shown<'_>) {
    assert_eq!(before.len(), after.len());
    for ((before, after), port) in before.iter().zip(after).zip(shown.ports) {
        assert_eq!(after.direction, before.direction);
        assert_eq!(after.is_audio, before.is_audio);
        match port {
            None => {
                assert_eq!(after.port, before.port);
                if before.port != 0 {
                    assert_eq!(after.address, before.address);
                }
            }
            Some(port) => {
                assert_eq!(after.port, *port);
                if before.is_held_by_address() {
                    assert!(after.is_held_by_address());
                } else {
                    assert_eq!(after.address, Some(shown.address));
                }
                if let (Some(before), Some(after)) = (before.rtcp, after.rtcp) {
                    assert!(after.port == *port || after.port == *port + 1);
                    let is_none = before.address.is_none_or(|own| own.is_unspecified());
                    assert!(is_none || after.address == Some(shown.address));
                }
            }
        }
    }
}

/// Lines that a relay has no part in are there as they were, in their order.
fn check_others(before: &[u8], after: &[u8]) {
    let others = |text: &[u8]| -> Vec<Vec<u8>> {
        let lines = text.split(|byte| *byte == b'\n');
        let bare = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec());
        let touched: [&[u8]; 8] = [
            b"c=",
            b"m=",
            b"o=",
            b"a=rtcp:",
            b"a=ice-",
            b"a=candidate",
            b"a=remote-candidates",
            b"a=end-of-candidates",
        ];
        bare.filter(|line| !line.is_empty() && !touched.iter().any(|own| line.starts_with(own)))
            .collect()
    };
    assert_eq!(others(before), others(after));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("c=IN IP4 10.1.2.3".to_owned()),
            Just("c=IN IP4 0.0.0.0".to_owned()),
            Just("c=IN IP6 2001:db8::9".to_owned()),
            Just("c=IN IP4 host.example".to_owned()),
            Just("c=IN IP4 224.1.1.1/127/3".to_owned()),
            Just("o=- 1 2 IN IP4 10.1.2.3".to_owned()),
            Just("o=- 1 2".to_owned()),
            (
                0u16..5,
                prop::sample::select(vec![
                    "RTP/AVP 0",
                    "TCP/MSRP *",
                    "udptl t38",
                    "tcp",
                    "UDP/TLS/RTP/SAVPF 111"
                ])
            )
                .prop_map(|(port, rest)| format!("m=audio {} {rest}", port * 1000)),
            Just("m=video 4000/2 RTP/AVP 31".to_owned()),
            Just("a=rtcp:4001".to_owned()),
            Just("a=rtcp:4000 IN IP4 10.1.2.3".to_owned()),
            Just("a=rtcp:9 IN IP4 0.0.0.0".to_owned()),
            Just("a=rtcp:x IN IP4 10.1.2.3".to_owned()),
            Just("a=rtcp-mux".to_owned()),
            Just("a=group:BUNDLE 0 1".to_owned()),
            Just("a=ice-ufrag:x".to_owned()),
            Just("a=candidate:1 1 UDP 1 10.1.2.3 4000 typ host".to_owned()),
            Just("a=end-of-candidates".to_owned()),
            prop::sample::select(vec![
                "a=sendonly",
                "a=inactive",
                "i=title",
                "b=AS:64",
                "k=x",
                "",
                "x",
                "s=-",
                "t=0 0"
            ])
            .prop_map(str::to_owned),
            "[ -~]{0,12}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

        #[test]
        fn any_lines_keep_their_promises(
            choice in any::<u8>(),
            lines in prop::collection::vec((line(), prop::bool::ANY), 0..24),
            is_ended in any::<bool>(),
        ) {
            let mut bytes = vec![choice];
            bytes.extend_from_slice(b"v=0\r\n");
            for (line, is_bare) in &lines {
                bytes.extend_from_slice(line.as_bytes());
                bytes.extend_from_slice(if *is_bare { b"\n" } else { b"\r\n" });
            }
            if !is_ended {
                bytes.pop();
            }
            super::sdp(&bytes);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            super::sdp(&bytes);
        }
    }
}
