//! Who calls and is called, and by which way: users, trunks, lines, groups, the dial plan.

use super::*;

pub(super) const WRONG: Wrong = &[
    // Users
    (
        "[user 100]\npassword = 100",
        &["2: [user 100] password: is equal to the user name"],
    ),
    (
        "[user Bob]\npassword = bOB",
        &["2: [user Bob] password: is equal to the user name"],
    ),
    (
        "[user 100]\npassword = 001",
        &["2: [user 100] password: is the user name reversed"],
    ),
    (
        "[user 100]\npassword = PassWord",
        &["2: [user 100] password: is one of the common passwords that are tried first"],
    ),
    (
        "[user 100]\npassword = 1234",
        &["2: [user 100] password: is a plain sequence of digits"],
    ),
    (
        "[user 100]\npassword = 987654",
        &["2: [user 100] password: is a plain sequence of digits"],
    ),
    (
        "[user 100]\npassword = 0000",
        &["2: [user 100] password: is a plain sequence of digits"],
    ),
    (
        "[user 100]\npassword = 67890123",
        &["2: [user 100] password: is a plain sequence of digits"],
    ),
    (
        "[user 1]\nha1_md5 = 00",
        &["2: [user 1] ha1_md5: is not 32 hexadecimal digits, see \"sipkeep ha1\""],
    ),
    (
        "[user 1]\npassword = tall;tree\nha1_md5 = 0123456789abcdef0123456789abcdef",
        &["2: [user 1] password: there is ha1_md5 or ha1_sha256 as well, keep one of them"],
    ),
    (
        "[registrar]\ndigest = sha256\n[user 1]\nha1_md5 = 0123456789abcdef0123456789abcdef",
        &["4: [user 1] ha1_sha256 is missing, [registrar] digest offers sha256"],
    ),
    (
        "[user 1]\nha1_sha256 = 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        &["2: [user 1] ha1_md5 is missing, [registrar] digest offers md5"],
    ),
    (
        "[user 1]\ndisplay_name = a \"b\" c",
        &["2: [user 1] display_name: must not contain \" or \\"],
    ),
    // Trunks
    (
        "[trunk b]",
        &["1: [trunk b] addresses: needs at least one, the trunk is known by them"],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\ntransport = tls",
        &["3: [trunk b] transport: tls is not yet in this version"],
    ),
    (
        "[user bob]\n[trunk b]\naddresses = 192.0.2.1\nincoming = bbo",
        &[
            "4: [trunk b] incoming: no user or group \"bbo\", and no route for that number, did you mean \"bob\"?",
        ],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\nincoming = reception",
        &["3: [trunk b] incoming: no user or group \"reception\", and no route for that number"],
    ),
    (
        "[user 770]\n[trunk b]\naddresses = 192.0.2.1\nincoming = 77",
        &[
            "4: [trunk b] incoming: no user or group \"77\", and no route for that number, did you mean \"770\"?",
        ],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\nincoming = user:100",
        &["3: [trunk b] incoming: no user \"user:100\""],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\nnext = trunk:b",
        &["3: [trunk b] next: is this trunk itself"],
    ),
    (
        "[trunk bravo]\naddresses = 192.0.2.1\nnext = trunk:brava",
        &["3: [trunk bravo] next: no trunk \"brava\", did you mean \"bravo\"?"],
    ),
    (
        "[user 1]\n[trunk b]\naddresses = 192.0.2.1\nnext = user:1",
        &["4: [trunk b] next: \"user:1\" is no trunk and no line"],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\nnext = line:a",
        &["3: [trunk b] next: no line \"a\""],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\nuri_format = tle\ncalls_in_max = x\ncalls_out_max = -1\n\
         caller_id = a b\nrequest_uri_parameters = user=phone;;x",
        &[
            "3: [trunk b] uri_format: \"tle\" is none of sip, tel, did you mean \"tel\"?",
            "4: [trunk b] calls_in_max: \"x\" is not a whole number",
            "5: [trunk b] calls_out_max: \"-1\" is not a whole number",
            "6: [trunk b] caller_id: \" \" in the name: use letters, digits and -_.+*#",
            "7: [trunk b] request_uri_parameters: \"\" is not a parameter of a URI, as in \
             user=phone;cpc=ordinary",
        ],
    ),
    // The dial plan
    (
        "[route a]\nprefix = 0",
        &["1: [route a] to: needs at least one, as in to = line:carrier"],
    ),
    (
        "[user 100]\n[route a]\nto = trunk:x, user:10, 100, carrier:y, line:z, group:200, user:100, user:100",
        &[
            "3: [route a] to: no trunk \"x\"",
            "3: [route a] to: no user \"10\", did you mean \"100\"?",
            "3: [route a] to: \"100\" is none of line:NAME, trunk:NAME, user:NAME and group:NAME",
            "3: [route a] to: \"carrier:y\" is none of line:NAME, trunk:NAME, user:NAME and group:NAME",
            "3: [route a] to: no line \"z\"",
            "3: [route a] to: no group \"200\"",
            "3: [route a] to: one of them is there twice",
        ],
    ),
    (
        "[user 1]\n[route a]\nto = user:1\nprefix = 0 30\nstrip = 65\nprepend = 0+\nlevel = a b",
        &[
            "4: [route a] prefix: \" \" is none of 0 to 9, * and #, or a + before them",
            "5: [route a] strip: \"65\" is out of range, 0 to 64",
            "6: [route a] prepend: \"+\" is none of 0 to 9, * and #, or a + before them",
            "7: [route a] level: \" \" in the name: use letters, digits and -_.",
        ],
    ),
    (
        "[user 1]\n[route a]\nprefix = #31\nto = user:1",
        &[
            "3: [route a] prefix: is empty; without this line the route is for every number \
           (a # behind a blank begins a comment: prefix =#31)",
        ],
    ),
    (
        "[user 1]\nlevels = far,\n[route a]\nprefix = 9\nto = user:1\n[route b]\nprefix = 9\nto = user:1",
        &[
            "2: [user 1] levels: an element of the list is empty",
            "7: [route b] prefix: \"9\" is that of [route a], line 4",
        ],
    ),
    (
        "[user 1]\n[route a]\nto = user:1\n[route b]\nto = user:1",
        &["4: [route b] prefix: \"\" is that of [route a], line 2"],
    ),
];

#[test]
fn lines_that_are_not_right() {
    for (text, mistake) in [
        (
            "[line a]\nserver = b.example\n",
            "account: is needed, as in account = +8612345678",
        ),
        (
            "[line a]\naccount = 1\n",
            "server: is needed, as in server = sip.example.com",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example:0\n",
            "server: \"0\" is not a port",
        ),
        (
            "[line a]\naccount = 1\nserver = 2001:db8::1\n",
            "server: \"2001:db8::1\" is not a host or host:port (an IPv6 address stands in brackets)",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example\ntransport = tls\n",
            "transport: tls is not yet in this version",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example\nshared = no\nincoming = 7\n",
            "shared: with no, incoming must be a user: he alone may call out on this line",
        ),
        (
            "[trunk t]\naddresses = 192.0.2.1\n[line a]\naccount = 1\nserver = b.example\naddresses = 192.0.2.1\n",
            "addresses: 192.0.2.1 is an address of [trunk t], line 2",
        ),
        ("[route r]\nto = line:b\n", "to: no line \"b\""),
        (
            "[user 100]\n[line a]\naccount = 1\nserver = b.example\nincoming = 10O\n",
            "config.ini:5: [line a] incoming: no user or group \"10O\", and no route for that number, did you mean \"100\"?",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example\nincoming = 9030\n",
            "incoming: \"9030\" leads nowhere by the default for 9: a call from outside goes out again only by a route \
             with a prefix, and not back",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example\nincoming = 030\n[route r]\nprefix = 0\nto = line:a\n",
            "incoming: \"030\" leads nowhere by [route r]: a call from outside goes out again only by a route \
             with a prefix, and not back",
        ),
    ] {
        let all = read(text).expect_err(text);
        assert!(
            all.iter().any(|one| one.ends_with(mistake)),
            "{all:?} {mistake}"
        );
    }
}

#[test]
fn groups_that_are_not_right() {
    for (text, mistake) in [
        (
            "[group 200]\n",
            "1: [group 200] members: needs at least one user, as in members = 100",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 10, 100, 100\n",
            "3: [group 200] members: no user \"10\", did you mean \"100\"?",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100, 100\n",
            "3: [group 200] members: one of them is there twice",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100\n[group 201]\nmembers = 100, 200\n",
            "5: [group 201] members: \"200\" is a group: members are users (next leads to another group)",
        ),
        (
            "[user 100]\n[group 100]\nmembers = 100\n",
            "2: [group 100] is the name of [user 100], line 1, too",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100\nstrategy = liner\n",
            "4: [group 200] strategy: \"liner\" is none of all, linear, circular, did you mean \"linear\"?",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100\nnext = 100\n",
            "4: [group 200] next: \"100\" is a member, and has been rung by then",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100\nnext = 20\n",
            "4: [group 200] next: no user or group \"20\", and no route for that number, did you mean \"200\"?",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100\nnext = 200\n",
            "4: [group 200] next: leads back to this group",
        ),
        (
            "[user 1]\n[group 2]\nmembers = 1\nnext = 3\n[group 3]\nmembers = 1\nnext = 4\n\
             [group 4]\nmembers = 1\nnext = 3\n",
            "7: [group 3] next: leads back to this group",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example\nincoming = 20\n[user 200]\n",
            "4: [line a] incoming: no user or group \"20\", and no route for that number, did you mean \"200\"?",
        ),
    ] {
        let all = read(text).expect_err(text);
        let mistake = format!("config.ini:{mistake}");
        assert!(all.contains(&mistake), "{all:?} {mistake}");
    }
    let members: Vec<String> = (100..133).map(|name| name.to_string()).collect();
    let mut text: String = members
        .iter()
        .map(|name| format!("[user {name}]\n"))
        .collect();
    text += &format!("[group 200]\nmembers = {}\n", members.join(", "));
    assert_eq!(
        read(&text).unwrap_err(),
        ["config.ini:35: [group 200] members: more than 32 of them"]
    );
    // A loop is told at each of its groups, and not at one that merely leads into it.
    let text = "[user 1]\n[group 2]\nmembers = 1\nnext = 3\n[group 3]\nmembers = 1\nnext = 3\n";
    assert_eq!(read(text).unwrap_err().len(), 1);
}
