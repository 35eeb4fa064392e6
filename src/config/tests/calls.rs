//! Who can be called and by which way: groups, trunks, lines, routes, calls that go on.

use super::*;

#[test]
fn trunks_and_the_dial_plan_are_read() {
    let config = read(
        "[trunk a]\naddresses = 192.0.2.1\ncaller_id = +4930\nrequest_uri_parameters = user=phone;cpc=1\n\
         uri_format = tel\ncalls_in_max = 2\ncalls_out_max = 0\nnext = trunk:b\n\
         [trunk b]\naddresses = 192.0.2.2\nrequest_uri_parameters =;lr\n\
         [user 1]\nlevels = near, far\n\
         [route x]\nprefix =#31\nstrip = 3\nprepend = +49\nto = trunk:b, user:1, trunk:a\nlevel = far\n\
         [route y]\nto = trunk:a\n[route z]\nprefix = 0\nto = trunk:a\n",
    )
    .unwrap();
    let [a, b] = &config.trunks[..] else {
        panic!("two trunks")
    };
    assert_eq!(a.caller_id.as_deref(), Some("+4930"));
    let parameters = [&a.request_uri_parameters, &b.request_uri_parameters];
    assert_eq!(parameters, [";user=phone;cpc=1", ";lr"]);
    assert_eq!(
        (a.uri_format, b.uri_format),
        (UriFormat::Tel, UriFormat::Sip)
    );
    assert_eq!((a.calls_in_max, a.calls_out_max), (Some(2), Some(0)));
    assert_eq!((b.calls_in_max, b.calls_out_max), (None, None));
    assert_eq!(
        (a.next, b.next),
        (Some(Destination::Trunk(TrunkId(1))), None)
    );
    assert_eq!(config.users[0].levels, ["near", "far"]);
    let [x, y, z] = &config.routes[..] else {
        panic!("three routes")
    };
    assert_eq!(
        (x.prefix.as_str(), x.strip, x.prepend.as_str()),
        ("#31", 3, "+49")
    );
    let to = [
        Destination::Trunk(TrunkId(1)),
        Destination::User(UserId(0)),
        Destination::Trunk(TrunkId(0)),
    ];
    assert_eq!(
        (x.to.as_slice(), x.level.as_deref()),
        (&to[..], Some("far"))
    );
    assert_eq!([x, y, z].map(Route::is_for_transit), [false, false, true]);
    // Nobody calls out from b by z if b has a user for its calls.
    let warnings: Vec<String> = config.warnings().into_iter().map(|one| one.text).collect();
    let expected = "level: is empty, and [trunk b] has no incoming: whoever calls from there can call out by it";
    assert_eq!(warnings, [expected]);
}

#[test]
fn lines_are_read() {
    let config = read(
        "[user 100]\n[line ims]\naccount = +8612345678\nserver = GD.ctcims.cn\noutbound_proxy = [2001:db8::9]:5070\n\
         password = a;b c\nauth_user_with_domain = yes\nexpires = 30m\nkeepalive = 0\ntransport = tcp\n\
         addresses = 192.0.2.7\nincoming = 100\nshared = no\ncalls_max = 2\nring_timeout = 30s\nuser_phone = yes\n\
         uri_format = tel\nnew_call_id = yes\nrealm = r\nauth_user = me\n\
         [line b]\naccount = 5\nserver = sip.example.com:5062\naddresses = 192.0.2.7\n",
    )
    .unwrap();
    let [ims, b] = &config.lines[..] else {
        panic!("two lines")
    };
    assert_eq!(
        (
            ims.server.to_string().as_str(),
            b.server.to_string().as_str()
        ),
        ("gd.ctcims.cn", "sip.example.com:5062")
    );
    let proxy = ims.outbound_proxy.as_ref().map(ToString::to_string);
    assert_eq!(proxy.as_deref(), Some("[2001:db8::9]:5070"));
    assert_eq!((ims.password.0.as_str(), ims.keepalive), ("a;b c", None));
    assert!(ims.auth_user_with_domain && ims.user_phone && ims.new_call_id && !ims.shared);
    assert!(b.register && b.shared && !b.new_call_id && b.calls_max.is_none());
    assert_eq!(
        (ims.expires, b.expires),
        (Duration::from_secs(1800), Duration::from_secs(3600))
    );
    assert_eq!(b.keepalive, Some(Duration::from_secs(25)));
    assert_eq!(
        (ims.calls_max, ims.ring_timeout),
        (Some(2), Some(Duration::from_secs(30)))
    );
    assert_eq!(ims.uri_format, UriFormat::Tel);
    // Without a route 9 leads to the shared lines.
    assert_eq!(config.routes[0].to, [Destination::Line(LineId(1))]);
    assert!(
        !format!("{config:?}").contains("a;b c"),
        "no password in a debug text"
    );
}

#[test]
fn calls_on_a_line_may_go_to_whatever_a_number_leads_to() {
    let line = "[line a]\naccount = 1\nserver = b.example\nincoming";
    for text in [
        format!("[user 100]\n{line} = 100\n"),
        format!("[user 100]\n{line} = 700\n[route r]\nprefix = 7\nto = user:100\n"),
        format!(
            "{line} = 030\n[line c]\naccount = 2\nserver = c.example\n[route r]\nprefix = 0\nto = line:a, line:c\n"
        ),
    ] {
        read(&text).expect(&text);
    }
}

#[test]
fn without_a_route_a_leading_9_leads_to_the_trunks() {
    let config =
        read("[trunk a]\naddresses = 192.0.2.1\n[trunk b]\naddresses = 192.0.2.2\n").unwrap();
    let [route] = &config.routes[..] else {
        panic!("one route")
    };
    assert!(route.is_default() && !route.is_for_transit());
    assert_eq!((route.prefix.as_str(), route.strip), ("9", 1));
    let to = [0, 1].map(|index| Destination::Trunk(TrunkId(index)));
    assert_eq!(route.to, to);
    assert_eq!(read("").unwrap().routes, []);
}

#[test]
fn what_may_be_wrong_with_a_line_is_said() {
    let text = "[server]\nlisten = udp:0.0.0.0:5060\n[guard]\ndeny = 198.51.100.0/24\n\
        [line a]\naccount = 100\nserver = sip.example.com\ntransport = tcp\n\
        auth_user = hundred@other\nauth_user_with_domain = yes\n\
        [line b]\naccount = 100\nserver = sip.example.com\noutbound_proxy = 198.51.100.4\nregister = no\n\
        addresses = 198.51.100.5\n\
        [line c]\naccount = 101\nserver = sip.example.com\npassword = x\n";
    let config = Config::read(text, Path::new("")).unwrap();
    let warnings: Vec<String> = (config.warnings().into_iter())
        .map(|one| format!("{} {} {}", one.line, one.section, one.text))
        .collect();
    let expected = [
        "5 [line a] password: is empty, a registration that is asked for one fails",
        "5 [line a] transport: [server] listen has no tcp, the line cannot be used",
        "5 [line a] auth_user_with_domain: hundred@other has a domain already, none is added",
        "11 [line b] account: is that of [line a], line 5, too",
        "11 [line b] 198.51.100.4 is denied by 198.51.100.0/24 in [guard]",
        "11 [line b] 198.51.100.5 is denied by 198.51.100.0/24 in [guard]",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn users_whose_calls_go_on() {
    let config = read(
        "[call]\nfeature_codes = no\n[user 100]\ndo_not_disturb = yes\nforward_always = 101\nforward_busy = 200\n\
         forward_no_answer = 0170-555\nforward_no_answer_after = 15s\nforward_offline = 0011\nlevels = far\n\
         [user 101]\n[group 200]\nmembers = 100\n\
         [route a]\nprefix = 0\nto = user:101\n[route b]\nprefix = 001\nto = user:101\nlevel = far\n",
    )
    .unwrap();
    assert!(!config.call.feature_codes);
    let [user, other] = &config.users[..] else {
        panic!("two users")
    };
    assert!(user.do_not_disturb && !other.do_not_disturb);
    let numbers = user.forwards.numbers();
    assert_eq!(
        numbers.map(|(_, number)| number),
        [Some("101"), Some("200"), Some("0170-555"), Some("0011")]
    );
    assert_eq!(user.forwards.no_answer_after, Duration::from_secs(15));
    assert_eq!(
        other.forwards.numbers().map(|(_, number)| number),
        [None; 4]
    );
    assert_eq!(other.forwards.no_answer_after, Duration::from_secs(20));
    for (text, mistake) in [
        (
            "[user 100]\nforward_always = 100\n",
            "2: [user 100] forward_always: is this user himself",
        ),
        (
            "[user 100]\nforward_busy = 10\n[group 101]\nmembers = 100\n",
            "2: [user 100] forward_busy: no user or group \"10\", and no route for that number, did you mean \"100\"?",
        ),
        (
            "[user 100]\nforward_offline = 0011\n[route b]\nprefix = 001\nto = user:100\nlevel = far\n",
            "2: [user 100] forward_offline: \"0011\" is for users with level \"far\", by [route b]: this one has it not",
        ),
        (
            "[user 100]\nforward_no_answer = a b\n",
            "2: [user 100] forward_no_answer: \" \" in the name: use letters, digits and -_.+*#",
        ),
    ] {
        assert_eq!(
            read(text).expect_err(text),
            [format!("config.ini:{mistake}")]
        );
    }
}

#[test]
fn groups_of_users() {
    let config = read(
        "[user 100]\n[user 101]\n[user 102]\n\
         [group 200]\nmembers = 102, 100\nstrategy = circular\nring_timeout = 15s\nnext = 201\n\
         [group 201]\nmembers = 101\nnext = 0170555\n\
         [route out]\nprefix = 0\nto = trunk:b, group:201\n\
         [trunk b]\naddresses = 192.0.2.1\nincoming = 200\n\
         [line c]\naccount = 1\nserver = b.example\nincoming = 201\n",
    )
    .unwrap();
    let [first, second] = &config.groups[..] else {
        panic!("two groups")
    };
    assert_eq!(first.members, [UserId(2), UserId(0)]);
    assert_eq!(
        (first.strategy, first.ring_timeout, first.next.as_deref()),
        (Strategy::Circular, Duration::from_secs(15), Some("201"))
    );
    assert_eq!(
        (second.strategy, second.ring_timeout, second.next.as_deref()),
        (Strategy::All, Duration::from_secs(60), Some("0170555"))
    );
    assert_eq!(config.routes[0].to[1], Destination::Group(GroupId(1)));
    assert_eq!(config.destination_text(config.routes[0].to[1]), "group:201");
}
