//! Addresses, blocks of them and names of hosts.

use super::Wrong;

pub(super) const WRONG: Wrong = &[
    (
        "[server]\nlisten = upd:0.0.0.0:5060",
        &["2: [server] listen: unknown transport \"upd\", did you mean \"udp\"?"],
    ),
    (
        "[server]\nlisten = tls:0.0.0.0:5061",
        &["2: [server] listen: tls: is not yet in this version"],
    ),
    (
        "[server]\nlisten = wss:[::]:443",
        &["2: [server] listen: wss: is not yet in this version"],
    ),
    (
        "[server]\nlisten = udp:0.0.0.0",
        &["2: [server] listen: \"0.0.0.0\" needs a port, as in udp:0.0.0.0:5060"],
    ),
    (
        "[server]\nlisten = ::1",
        &["2: [server] listen: \"::1\" needs a port, as in udp:0.0.0.0:5060"],
    ),
    (
        "[server]\nlisten = udp:0.0.0.0:70000",
        &[
            "2: [server] listen: \"0.0.0.0:70000\" is not an IP address and port, as in udp:0.0.0.0:5060",
        ],
    ),
    (
        "[server]\nlisten = udp:0.0.0.0:0",
        &["2: [server] listen: \"0.0.0.0:0\" has port 0"],
    ),
    (
        "[server]\nlisten = udp:localhost:5060",
        &[
            "2: [server] listen: \"localhost:5060\" is not an IP address and port, as in udp:0.0.0.0:5060",
        ],
    ),
    (
        "[server]\nlisten = udp:224.0.1.75:5060",
        &["2: [server] listen: \"224.0.1.75:5060\" is not an address of one host"],
    ),
    (
        "[server]\nlisten =",
        &[
            "2: [server] listen: is empty; without this line it is udp:0.0.0.0:5060, tcp:0.0.0.0:5060",
        ],
    ),
    (
        "[server]\nlisten = udp:0.0.0.0:5060, 0.0.0.0:5060",
        &["2: [server] listen: \"udp:0.0.0.0:5060\" is there twice"],
    ),
    (
        "[server]\nlisten = tcp:0.0.0.0:5060, tcp:127.0.0.1:5060",
        &["2: [server] listen: \"tcp:127.0.0.1:5060\" and \"tcp:0.0.0.0:5060\" overlap"],
    ),
    (
        "[server]\nlisten = udp:1, ,tcp:2",
        &[
            "2: [server] listen: \"1\" is not an IP address and port, as in udp:0.0.0.0:5060",
            "2: [server] listen: an element of the list is empty",
            "2: [server] listen: \"2\" is not an IP address and port, as in udp:0.0.0.0:5060",
        ],
    ),
    (
        "[http]\nlisten = 8080",
        &["2: [http] listen: \"8080\" is not an IP address and port, as in 127.0.0.1:8080"],
    ),
    (
        "[http]\ntoken = a b",
        &["2: [http] token: may have letters, digits and -._~+/= only"],
    ),
    (
        "[server]\ndomain = pbx_1.example",
        &["2: [server] domain: \"pbx_1.example\" is not a host name or an address"],
    ),
    (
        "[server]\ndomain = a.example, A.example",
        &["2: [server] domain: \"a.example\" is there twice"],
    ),
    (
        "[server]\ndomain = 1.2.3",
        &["2: [server] domain: \"1.2.3\" is not a host name or an address"],
    ),
    (
        "[guard]\nallow = 10.0.0.1/8",
        &[
            "2: [guard] allow: \"10.0.0.1/8\" has bits set behind its length, did you mean \"10.0.0.0/8\"?",
        ],
    ),
    (
        "[guard]\nallow = 10.0.0.0/33",
        &["2: [guard] allow: \"10.0.0.0/33\" has a prefix length that is not 0 to 32"],
    ),
    (
        "[guard]\nallow = ::ffff:10.0.0.0/64",
        &["2: [guard] allow: \"::ffff:10.0.0.0/64\" mixes IPv4 and IPv6: write it as IPv4"],
    ),
    (
        "[guard]\ndeny = example.com",
        &["2: [guard] deny: \"example.com\" is not an IP address or block"],
    ),
    (
        "[guard]\nallow = ::\ndeny = ff02::1, 224.0.0.0/4, 0.0.0.0, 255.255.255.255",
        &[
            "2: [guard] allow: \"::\" is nobody's address: the unspecified address",
            "3: [guard] deny: \"ff02::1\" is nobody's address: multicast",
            "3: [guard] deny: \"224.0.0.0/4\" is nobody's address: multicast",
            "3: [guard] deny: \"0.0.0.0\" is nobody's address: the unspecified address",
            "3: [guard] deny: \"255.255.255.255\" is nobody's address: the broadcast address",
        ],
    ),
    (
        "[guard]\nallow = 192.0.2.0/24\ndeny = 192.0.2.0/24",
        &["3: [guard] deny: 192.0.2.0/24 is in allow as well"],
    ),
    (
        "[user 1]\naddresses = 192.168.1.64/28:5060, [2001:db8::/64]:5060, 0.0.0.0/0, 2001::/16, 224.0.0.0/24",
        &[
            "2: [user 1] addresses: \"192.168.1.64/28:5060\" is a block with a port: write it without, its user is called where he last spoke from",
            "2: [user 1] addresses: \"[2001:db8::/64]:5060\" is a block with a port: write it without, its user is called where he last spoke from",
            "2: [user 1] addresses: \"0.0.0.0/0\" is wider than /8: everybody there would be this user",
            "2: [user 1] addresses: \"2001::/16\" is wider than /32: everybody there would be this user",
            "2: [user 1] addresses: \"224.0.0.0/24\" is nobody's address: multicast",
        ],
    ),
    (
        "[trunk b]\naddresses = 192.168.1.64/28",
        &[
            "2: [trunk b] addresses: \"192.168.1.64/28\" is a block of addresses, which only users have",
        ],
    ),
    (
        "[user 1]\naddresses = 10.0.0.0/24, 10.0.0.0/24, ::ffff:10.0.0.128/121",
        &[
            "2: [user 1] addresses: 10.0.0.0/24 is there twice",
            "2: [user 1] addresses: 10.0.0.128/25 and 10.0.0.0/24 overlap",
        ],
    ),
    (
        "[user 1]\naddresses = 10.0.0.0/24, 2001:db8::/64\n[user 2]\naddresses = 10.0.0.64/28, 10.0.1.1\n\
         [user 3]\naddresses = 10.0.0.0/16, 2001:db8::/56\n[user 4]\naddresses = 10.0.0.7\n\
         [trunk b]\naddresses = [2001:db8::9]:5060",
        &[
            "4: [user 2] addresses: 10.0.0.64/28 overlaps 10.0.0.0/24 of [user 1], line 2",
            "6: [user 3] addresses: 10.0.0.0/16 overlaps 10.0.0.0/24 of [user 1], line 2",
            "6: [user 3] addresses: 2001:db8::/56 overlaps 2001:db8::/64 of [user 1], line 2",
            "8: [user 4] addresses: 10.0.0.7 lies in 10.0.0.0/24 of [user 1], line 2",
            "10: [trunk b] addresses: 2001:db8::9 lies in 2001:db8::/64 of [user 1], line 2",
        ],
    ),
    (
        "[user 1]\naddresses = 10.0.0.1:5060\n[trunk b]\naddresses = 10.0.0.1:5070\ntransport = tcp",
        &["4: [trunk b] addresses: 10.0.0.1:5070 is an address of [user 1], line 2"],
    ),
    (
        "[user 1]\naddresses = 192.168.1.65/28",
        &[
            "2: [user 1] addresses: \"192.168.1.65/28\" has bits set behind its length, did you mean \"192.168.1.64/28\"?",
        ],
    ),
    (
        "[user 1]\naddresses = phone.example",
        &["2: [user 1] addresses: \"phone.example\" is not an IP address"],
    ),
    (
        "[user 1]\naddresses = 0.0.0.0",
        &["2: [user 1] addresses: \"0.0.0.0\" is not an address of one host"],
    ),
    (
        "[user 1]\naddresses = 10.0.0.1:0",
        &["2: [user 1] addresses: \"10.0.0.1:0\" has port 0"],
    ),
    (
        "[user 1]\naddresses = 10.0.0.1, ::ffff:10.0.0.1",
        &["2: [user 1] addresses: 10.0.0.1 is there twice"],
    ),
    (
        "[user 1]\naddresses = 10.0.0.1:5060\n[trunk b]\naddresses = 10.0.0.1",
        &["4: [trunk b] addresses: 10.0.0.1 is an address of [user 1], line 2"],
    ),
];
