//! RFC 4475 and RFC 5118 through the whole server: what each message is answered with when a known source sends it (a user by
//! address). What parsing alone decides is in `torture`.

use std::path::Path;

use sipkeep::config::Config;
use sipkeep::endpoint::{Endpoint, Input, Output};
use sipkeep::message::parse;
use sipkeep::source::{Flow, Transport};
use sipkeep::store::Snapshot;
use sipkeep::time::{Instant, Now, UnixTime};

/// Users who are called in the messages: known by name, not registered, so a call to them gets 480.
const CALLED: [&str; 6] = [
    "vivekg",
    "sips:user@example.com",
    "user",
    "UserB",
    "j_user",
    "null-\0-null",
];

const NOW: Now = Now {
    mono: Instant::from_micros(1_000_000),
    unix: UnixTime::from_millis(1_790_000_000_000),
};

/// A server that knows 192.0.2.1 as user `sender` and all of [`CALLED`] by password.
fn endpoint(sender: &str) -> Endpoint {
    let mut text = "[user 9]\naddresses = 192.0.2.1\n".to_owned();
    for index in 0..CALLED.len() {
        text.push_str(&format!(
            "[user 10{index}]\npassword = torture-{index}-kXq\n"
        ));
    }
    let mut config = Config::read(&text, Path::new(".")).expect("a good configuration");
    // Names that a configuration file would not take, such as the escaped NUL of §3.1.1.4.
    let names = [sender].into_iter().chain(CALLED);
    for (user, name) in config.users.iter_mut().zip(names) {
        user.name = name.to_owned();
    }
    Endpoint::new(NOW, config, [7; 32], Snapshot::default())
}

fn flow() -> Flow {
    Flow {
        transport: Transport::Udp,
        local: "192.0.2.100:5060".parse().unwrap(),
        remote: "192.0.2.1:5060".parse().unwrap(),
        connection: None,
    }
}

/// Final statuses that the server answers with, the last one's whole text.
fn answers(endpoint: &mut Endpoint, bytes: &[u8]) -> Vec<(u16, String)> {
    endpoint.clear_outputs();
    endpoint.handle_input(
        NOW,
        Input::Datagram {
            flow: flow(),
            bytes,
        },
    );
    let mut answers = Vec::new();
    for output in endpoint.outputs() {
        if let Output::Datagram { bytes, flow: way } = output {
            assert_eq!(
                way.remote.ip(),
                flow().remote.ip(),
                "never to where a Via points"
            );
            let text = String::from_utf8_lossy(bytes).into_owned();
            // An answer to what cannot be parsed echoes its headers; any other we can read ourselves.
            let status = text[8..11].parse().expect("a status code");
            assert!(
                matches!(status, 400 | 505) || parse(bytes).is_ok(),
                "{text}"
            );
            answers.push((status, text));
        }
    }
    answers
}

/// `name section file sender => statuses`: a test each. An INVITE that is taken gets 480, since nobody is
/// registered; a request within a dialog that we do not have, 481.
macro_rules! verdicts {
    ($($name:ident $section:literal $file:literal $sender:literal => [$($status:literal),*];)+) => {
        $(
            #[doc = concat!("Section ", $section)]
            #[test]
            fn $name() {
                let bytes = include_bytes!(concat!("corpus/", $file));
                let expected: &[u16] = &[$($status),*];
                let answers = answers(&mut endpoint($sender), &on_the_wire($file, bytes));
                let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
                assert_eq!(statuses, expected, "{answers:#?}");
            }
        )+

        /// No file lies in the corpus without a verdict.
        #[test]
        fn every_file_has_its_verdict() {
            let tested = [$($file),+];
            for folder in ["rfc4475", "rfc5118"] {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
                for entry in std::fs::read_dir(path).unwrap() {
                    let file = format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap());
                    assert!(file.ends_with("manifest.tsv") || tested.contains(&file.as_str()), "{file}");
                }
            }
        }
    };
}

/// The messages of RFC 5118 come with bare LF, and those of §4.10 without the blank line.
fn on_the_wire(file: &str, bytes: &[u8]) -> Vec<u8> {
    if file.starts_with("rfc4475") {
        return bytes.to_vec();
    }
    let text = String::from_utf8(bytes.to_vec())
        .unwrap()
        .replace("\r\n", "\n");
    let text = if text.contains("\n\n") {
        text
    } else {
        format!("{}\n\n", text.trim_end())
    };
    // §4.6 counts 17 bytes more than its body has; `torture` has it as it stands.
    let text = text.replace("Content-Length: 268", "Content-Length: 251");
    text.replace('\n', "\r\n").into_bytes()
}

verdicts! {
    wsinv "3.1.1.1" "rfc4475/wsinv.dat" "x" => [481];
    intmeth "3.1.1.2" "rfc4475/intmeth.dat" "x" => [405];
    esc01 "3.1.1.3" "rfc4475/esc01.dat" "x" => [480];
    escnull "3.1.1.4" "rfc4475/escnull.dat" "null-\0-null" => [200];
    esc02 "3.1.1.5" "rfc4475/esc02.dat" "x" => [405];
    lwsdisp "3.1.1.6" "rfc4475/lwsdisp.dat" "x" => [200];
    longreq "3.1.1.7" "rfc4475/longreq.dat" "x" => [480];
    dblreq "3.1.1.8" "rfc4475/dblreq.dat" "j.user" => [200];
    semiuri "3.1.1.9" "rfc4475/semiuri.dat" "x" => [200];
    transports "3.1.1.10" "rfc4475/transports.dat" "x" => [200];
    mpart01 "3.1.1.11" "rfc4475/mpart01.dat" "x" => [404];
    unreason "3.1.1.12" "rfc4475/unreason.dat" "x" => [];
    noreason "3.1.1.13" "rfc4475/noreason.dat" "x" => [];
    badinv01 "3.1.2.1" "rfc4475/badinv01.dat" "x" => [400];
    clerr "3.1.2.2" "rfc4475/clerr.dat" "x" => [400];
    ncl "3.1.2.3" "rfc4475/ncl.dat" "x" => [400];
    scalar02 "3.1.2.4" "rfc4475/scalar02.dat" "x" => [400];
    scalarlg "3.1.2.5" "rfc4475/scalarlg.dat" "x" => [];
    quotbal "3.1.2.6" "rfc4475/quotbal.dat" "x" => [400];
    ltgtruri "3.1.2.7" "rfc4475/ltgtruri.dat" "x" => [400];
    lwsruri "3.1.2.8" "rfc4475/lwsruri.dat" "x" => [400];
    lwsstart "3.1.2.9" "rfc4475/lwsstart.dat" "x" => [400];
    trws "3.1.2.10" "rfc4475/trws.dat" "x" => [400];
    escruri "3.1.2.11" "rfc4475/escruri.dat" "x" => [400];
    baddate "3.1.2.12" "rfc4475/baddate.dat" "x" => [480];
    regbadct "3.1.2.13" "rfc4475/regbadct.dat" "user" => [400];
    badaspec "3.1.2.14" "rfc4475/badaspec.dat" "x" => [400];
    baddn "3.1.2.15" "rfc4475/baddn.dat" "x" => [400];
    badvers "3.1.2.16" "rfc4475/badvers.dat" "x" => [505];
    mismatch01 "3.1.2.17" "rfc4475/mismatch01.dat" "x" => [400];
    mismatch02 "3.1.2.18" "rfc4475/mismatch02.dat" "x" => [400];
    bigcode "3.1.2.19" "rfc4475/bigcode.dat" "x" => [];
    badbranch "3.2.1" "rfc4475/badbranch.dat" "x" => [200];
    insuf "3.3.1" "rfc4475/insuf.dat" "x" => [];
    unkscm "3.3.2" "rfc4475/unkscm.dat" "x" => [416];
    novelsc "3.3.3" "rfc4475/novelsc.dat" "x" => [416];
    unksm2 "3.3.4" "rfc4475/unksm2.dat" "x" => [401];
    bext01 "3.3.5" "rfc4475/bext01.dat" "x" => [420];
    invut "3.3.6" "rfc4475/invut.dat" "x" => [415];
    regaut01 "3.3.7" "rfc4475/regaut01.dat" "x" => [401];
    multi01 "3.3.8" "rfc4475/multi01.dat" "x" => [400];
    mcl01 "3.3.9" "rfc4475/mcl01.dat" "x" => [400];
    bcast "3.3.10" "rfc4475/bcast.dat" "x" => [];
    zeromf "3.3.11" "rfc4475/zeromf.dat" "x" => [200];
    cparam01 "3.3.12" "rfc4475/cparam01.dat" "watson" => [200];
    cparam02 "3.3.13" "rfc4475/cparam02.dat" "watson" => [200];
    regescrt "3.3.14" "rfc4475/regescrt.dat" "user" => [200];
    sdp01 "3.3.15" "rfc4475/sdp01.dat" "x" => [406];
    inv2543 "3.4.1" "rfc4475/inv2543.dat" "x" => [480];
    test_dat "no section" "rfc4475/test.dat" "x" => [];
    ipv6_good "4.1" "rfc5118/ipv6-good" "x" => [401];
    ipv6_bad "4.2" "rfc5118/ipv6-bad" "x" => [400];
    port_ambiguous "4.3" "rfc5118/port-ambiguous" "x" => [401];
    port_unambiguous "4.4" "rfc5118/port-unambiguous" "x" => [401];
    via_received_with "4.5" "rfc5118/via-received-param-with-delim" "x" => [481];
    via_received_without "4.5" "rfc5118/via-received-param-no-delim" "x" => [200];
    ipv6_in_sdp "4.6" "rfc5118/ipv6-in-sdp" "x" => [480];
    mult_ip_in_header "4.7" "rfc5118/mult-ip-in-header" "x" => [481];
    mult_ip_in_sdp "4.8" "rfc5118/mult-ip-in-sdp" "x" => [480];
    ipv4_mapped "4.9" "rfc5118/ipv4-mapped-ipv6" "x" => [480];
    three_colons "4.10" "rfc5118/ipv6-bug-abnf-3-colons" "x" => [200];
    two_colons "4.10" "rfc5118/ipv6-correct-abnf-2-colons" "x" => [200];
}

#[test]
fn bytes_behind_the_body_are_no_second_request() {
    // §3.1.1.8: one answer, though the datagram holds a REGISTER and more.
    let mut endpoint = endpoint("j.user");
    let bytes = include_bytes!("corpus/rfc4475/dblreq.dat");
    assert_eq!(answers(&mut endpoint, bytes).len(), 1);
}

#[test]
fn parameters_of_contacts_are_kept() {
    // §3.3.12 to §3.3.14: what the registration says comes back.
    for (file, text) in [
        (
            &include_bytes!("corpus/rfc4475/cparam01.dat")[..],
            "<sip:+19725552222@gw1.example.net>;expires=600;unknownparam",
        ),
        (
            include_bytes!("corpus/rfc4475/cparam02.dat"),
            "<sip:+19725552222@gw1.example.net;unknownparam>",
        ),
    ] {
        let (_, answer) = answers(&mut endpoint("watson"), file)
            .pop()
            .expect("an answer");
        assert!(answer.contains(text), "{answer}");
    }
    let file = include_bytes!("corpus/rfc4475/regescrt.dat");
    let (_, answer) = answers(&mut endpoint("user"), file)
        .pop()
        .expect("an answer");
    assert!(
        answer.contains("<sip:user@example.com?Route=%3Csip:sip.example.com%3E>"),
        "{answer}"
    );
}
