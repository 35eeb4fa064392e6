//! `sipkeep check`: what a configuration will run, or every mistake in it.

use std::path::Path;

use sipkeep::config::{
    Config, Group, Guard, GuardMode, Line, Route, Secret, Strategy, Trunk, User, duration_text,
};

use super::table::align;
use super::{Outcome, print, read};

/// Users that are listed; a site with more knows their names.
const USERS_SHOWN: usize = 50;

/// Prints warnings and what will run, or the mistakes: these are what was asked for, so they go to standard output.
pub fn check(file: &Path) -> Outcome {
    match Config::read_bytes(&read(file)?, file) {
        Ok(config) => Ok(text(&config, file)),
        Err(mistakes) => {
            let lines: Vec<String> = mistakes
                .iter()
                .map(|one| one.in_file(file) + "\n")
                .collect();
            print(&lines.concat());
            let plural = if mistakes.len() == 1 { "" } else { "s" };
            Err(format!(
                "{} mistake{plural} in {}",
                mistakes.len(),
                file.display()
            ))
        }
    }
}

/// What will run.
fn text(config: &Config, file: &Path) -> String {
    let mut rows = Vec::new();
    let mut row = |title: &str, text: String| rows.push(vec![title.to_owned(), text]);
    let server = &config.server;
    row("listens on", join(&server.listen));
    row(
        "domain",
        match server.domains.as_slice() {
            [] => format!("any host (realm \"{}\")", server.realm()),
            domains => format!("{} (realm \"{}\")", domains.join(", "), server.realm()),
        },
    );
    let http = config
        .http
        .listen
        .map_or_else(|| "off".into(), |listen| format!("http://{listen}"));
    row("API", http);
    row(
        "state file",
        format!(
            "{}, call records for {}",
            server.state.display(),
            duration_text(server.cdr_keep)
        ),
    );
    let guard = &config.guard;
    row(
        "guard",
        match guard.mode {
            GuardMode::Off => "off".into(),
            mode => format!(
                "{}{} failures in {} ban for {}, up to {}",
                if mode == GuardMode::Observe {
                    "only observes: "
                } else {
                    ""
                },
                guard.failures_max,
                duration_text(guard.failures_window),
                duration_text(guard.ban),
                duration_text(guard.ban_max),
            ),
        },
    );
    row("calls", format!("{} at a time", config.call.calls_max));
    if guard.mode != GuardMode::Off && !config.routes.is_empty() {
        row("toll fraud", brake_text(guard));
    }
    for (index, user) in config.users.iter().take(USERS_SHOWN).enumerate() {
        let title = if index == 0 {
            format!("users ({})", config.users.len())
        } else {
            String::new()
        };
        row(&title, user_text(user));
    }
    if config.users.is_empty() {
        row("users", "none: nobody can register".into());
    } else if config.users.len() > USERS_SHOWN {
        row(
            "",
            format!("... and {} more", config.users.len() - USERS_SHOWN),
        );
    }
    for (index, group) in config.groups.iter().enumerate() {
        let title = if index == 0 {
            format!("groups ({})", config.groups.len())
        } else {
            String::new()
        };
        row(&title, group_text(config, group));
    }
    for (index, line) in config.lines.iter().enumerate() {
        let title = if index == 0 {
            format!("lines ({})", config.lines.len())
        } else {
            String::new()
        };
        row(&title, line_text(line));
    }
    for (index, trunk) in config.trunks.iter().enumerate() {
        let title = if index == 0 {
            format!("trunks ({})", config.trunks.len())
        } else {
            String::new()
        };
        let incoming = trunk.incoming.as_ref();
        let incoming = incoming.map_or_else(String::new, |to| format!(", its calls go to {to}"));
        let transport = trunk.transport.uri_token();
        row(
            &title,
            format!(
                "{}: {} over {transport}{incoming}{}",
                trunk.name,
                join(&trunk.addresses),
                trunk_limits(config, trunk)
            ),
        );
    }
    for (index, route) in config.routes.iter().enumerate() {
        let title = if index == 0 { "dial plan" } else { "" };
        row(title, route_text(config, route));
    }
    let warning = |one: sipkeep::config::Mistake| format!("warning: {}\n", one.in_file(file));
    let warnings: String = config.warnings().into_iter().map(warning).collect();
    let blank = if warnings.is_empty() { "" } else { "\n" };
    format!(
        "{} is right. This will run:\n\n{}{blank}{warnings}",
        file.display(),
        align(&rows, &[false, false])
    )
}

/// `2 outside calls of a user at a time, 20 new numbers an hour`.
fn brake_text(guard: &Guard) -> String {
    let limit = |limit: Option<u32>| {
        limit.map_or_else(|| "any number of".into(), |limit| limit.to_string())
    };
    format!(
        "{} outside calls of a user at a time, {} new numbers an hour",
        limit(guard.outside_calls_max),
        limit(guard.new_destinations_per_hour)
    )
}

/// `100 "Reception": password in the file`.
fn user_text(user: &User) -> String {
    let mut ways = Vec::new();
    match &user.secret {
        Some(Secret::Password(_)) => ways.push("password".into()),
        Some(Secret::Ha1 { .. }) => ways.push("ha1".into()),
        None if !user.is_by_address() => {
            ways.push("password made at first start (sipkeep status --passwords)".into());
        }
        None => {}
    }
    if user.is_by_address() {
        ways.push(format!("by address {}", join(&user.address_texts())));
    }
    let name = match user.display_name.as_str() {
        "" => user.name.clone(),
        shown => format!("{} \"{shown}\"", user.name),
    };
    let calls = user
        .calls_max
        .map_or_else(String::new, |calls| format!(", {calls} calls at a time"));
    let forwards = (user.forwards.numbers().into_iter())
        .filter_map(|(key, number)| Some(format!(", {} to {}", key.replace('_', " "), number?)));
    let forwards: String = forwards.collect();
    let off = match user.do_not_disturb {
        true => ", is not to be disturbed",
        false => "",
    };
    format!("{name}: {}{calls}{forwards}{off}", ways.join(", "))
}

/// `200: 100, 101 one after the other, 15s each, then 102`.
fn group_text(config: &Config, group: &Group) -> String {
    let members: Vec<&str> = (group.members.iter())
        .filter_map(|member| config.users.get(member.0 as usize))
        .map(|user| user.name.as_str())
        .collect();
    let wait = duration_text(group.ring_timeout);
    let how = match group.strategy {
        Strategy::All => format!("at once for {wait}"),
        Strategy::Linear => format!("one after the other, {wait} each"),
        Strategy::Circular => {
            format!("one after the other from behind the last one, {wait} each")
        }
    };
    let next = (group.next.as_ref()).map_or_else(String::new, |next| format!(", then {next}"));
    format!("{}: {} {how}{next}", group.name, members.join(", "))
}

/// `gd: +8612345678 at gd.ctcims.cn by way of 10.0.0.1 over udp, registers for 1h, its calls go to 100`.
fn line_text(line: &Line) -> String {
    let mut text = format!("{}: {} at {}", line.name, line.account, line.server);
    if let Some(proxy) = &line.outbound_proxy {
        text += &format!(" by way of {proxy}");
    }
    text += &format!(" over {}", line.transport.uri_token());
    match line.register {
        true => text += &format!(", registers for {}", duration_text(line.expires)),
        false => text += ", does not register",
    }
    if let Some(to) = &line.incoming {
        text += &format!(", its calls go to {to}");
    }
    if !line.shared {
        text += ", who alone may call out on it";
    }
    if let Some(calls) = line.calls_max {
        text += &format!(", {calls} calls at a time");
    }
    text
}

/// `, 2 calls in and 4 out at a time, then trunk:c`.
fn trunk_limits(config: &Config, trunk: &Trunk) -> String {
    let calls = match (trunk.calls_in_max, trunk.calls_out_max) {
        (None, None) => String::new(),
        (Some(calls_in), None) => format!(", {calls_in} calls in at a time"),
        (None, Some(calls_out)) => format!(", {calls_out} calls out at a time"),
        (Some(calls_in), Some(calls_out)) => {
            format!(", {calls_in} calls in and {calls_out} out at a time")
        }
    };
    let next = trunk.next.map_or_else(String::new, |next| {
        format!(", then {}", config.destination_text(next))
    });
    calls + &next
}

/// `9...: without the first 1, to trunk:b, trunk:c`.
fn route_text(config: &Config, route: &Route) -> String {
    let mut text = match route.prefix.as_str() {
        "" => "every number".to_owned(),
        prefix => format!("{prefix}..."),
    };
    text.push(':');
    if route.strip > 0 {
        text += &format!(" without the first {},", route.strip);
    }
    if !route.prepend.is_empty() {
        text += &format!(" with {} in front,", route.prepend);
    }
    let to: Vec<String> = (route.to.iter())
        .map(|to| config.destination_text(*to))
        .collect();
    text += &format!(" to {}", to.join(", "));
    match &route.level {
        Some(level) => text += &format!(", for users with level {level}"),
        None if route.is_default() => text += " (for users, as there is no [route])",
        None => {}
    }
    text
}

fn join<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ini: &str) -> String {
        let config = Config::read(ini, Path::new("/srv")).unwrap();
        text(&config, Path::new("config.ini"))
    }

    #[test]
    fn what_will_run_is_shown() {
        let text = of("[server]\ndomain = pbx.example\n\
            [guard]\nmode = observe\nnew_destinations_per_hour =\n\
            [user 100]\ndisplay_name = Reception\n\
            [user 101]\npassword = horse;battery\ncalls_max = 2\n\
            [user 102]\naddresses = 203.0.113.9\n\
            [trunk b]\naddresses = 198.51.100.4:5060\nincoming = 100\ncalls_out_max = 4\nnext = trunk:c\n\
            [trunk c]\naddresses = 198.51.100.5\nincoming = 100\n\
            [route out]\nprefix = 0\nstrip = 1\nprepend = +49\nto = trunk:b, user:100\nlevel = far\n\
            [route any]\nto = trunk:c\n");
        let expected = "\
config.ini is right. This will run:

listens on  udp:0.0.0.0:5060, tcp:0.0.0.0:5060
domain      pbx.example (realm \"pbx.example\")
API         http://127.0.0.1:8080
state file  /srv/sipkeep.db, call records for 400d
guard       only observes: 5 failures in 1m ban for 4h, up to 7d
calls       1000 at a time
toll fraud  2 outside calls of a user at a time, any number of new numbers an hour
users (3)   100 \"Reception\": password made at first start (sipkeep status --passwords)
            101: password, 2 calls at a time
            102: by address 203.0.113.9
trunks (2)  b: 198.51.100.4:5060 over udp, its calls go to 100, 4 calls out at a time, then trunk:c
            c: 198.51.100.5 over udp, its calls go to 100
dial plan   0...: without the first 1, with +49 in front, to trunk:b, user:100, for users with level far
            every number: to trunk:c

warning: config.ini: [guard] mode: is not enforce, and by [route any] every user calls outside: so does \
whoever gets hold of a password, as much as he likes
warning: config.ini:11: [user 102] addresses: 203.0.113.9 is a public address, and over UDP its \
sender can be forged: whoever does that calls as this user
warning: config.ini:21: [route out] level: no user has \"far\", nobody can call by it
";
        assert_eq!(text, expected);
        assert!(!text.contains("battery"));
    }

    #[test]
    fn lines_are_shown_in_words() {
        let text = of("[user 100]\n\
            [line gd]\naccount = +8612345678\nserver = gd.ctcims.cn\noutbound_proxy = 10.0.0.1:5070\n\
            password = Carrier-Secret-9\nincoming = 100\nshared = no\ncalls_max = 2\n\
            [line b]\naccount = 200\nserver = sip.example.com:5070\nregister = no\ntransport = tcp\n");
        let expected = "\
lines (2)   gd: +8612345678 at gd.ctcims.cn by way of 10.0.0.1:5070 over udp, registers for 1h, its calls go to 100, \
who alone may call out on it, 2 calls at a time
            b: 200 at sip.example.com:5070 over tcp, does not register
";
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("Carrier-Secret"), "{text}");
    }

    #[test]
    fn groups_are_shown_in_words() {
        let text = of(
            "[user 100]\nforward_no_answer = 200\nforward_always = 101\n\
            [user 101]\ndo_not_disturb = yes\n\
            [group 200]\nmembers = 100, 101\nnext = 201\n\
            [group 201]\nmembers = 101\nstrategy = linear\nring_timeout = 15s\n\
            [group 202]\nmembers = 101, 100\nstrategy = circular\n",
        );
        let expected = "\
groups (3)  200: 100, 101 at once for 1m, then 201
            201: 101 one after the other, 15s each
            202: 101, 100 one after the other from behind the last one, 1m each
";
        assert!(text.contains(expected), "{text}");
        for what in [
            "forward always to 101, forward no answer to 200\n",
            "(sipkeep status --passwords), is not to be disturbed\n",
        ] {
            assert!(text.contains(what), "{text}");
        }
    }

    #[test]
    fn an_empty_file_and_a_large_one_are_shown() {
        assert!(of("").contains("users       none: nobody can register\n"));
        assert!(of("[guard]\nmode = off\n[http]\nlisten =\n").contains("guard       off\n"));
        let users: String = (1_000..1_060)
            .map(|name| format!("[user {name}]\n"))
            .collect();
        let text = of(&users);
        assert!(
            text.contains("... and 10 more\n") && !text.contains("1050"),
            "{text}"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = check(Path::new("/nowhere/config.ini")).unwrap_err();
        assert!(
            error.starts_with("/nowhere/config.ini: No such file"),
            "{error}"
        );
        assert!(error.ends_with("--config FILE names another"), "{error}");
    }
}
