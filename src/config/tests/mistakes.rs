//! What is wrong with a file, and how that is told.

mod addresses;
mod form;
mod peers;
mod values;

use super::*;

/// Texts, and the mistakes in each without `config.ini:`.
type Wrong = &'static [(&'static str, &'static [&'static str])];

#[test]
fn each_mistake_is_told_with_its_line() {
    let tables = [form::WRONG, values::WRONG, addresses::WRONG, peers::WRONG];
    for (text, expected) in tables.into_iter().flatten() {
        let expected: Vec<String> = expected
            .iter()
            .map(|one| format!("config.ini:{one}"))
            .collect();
        assert_eq!(mistakes(text), expected, "in {text:?}");
    }
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_lines() {
    let text = "[user 100]\npasword = x\n[trunk b]\ntransport = sctp\n[guard]\nban = 4\n[server]\nlog = loud\n";
    let lines: Vec<String> = mistakes(text)
        .iter()
        .map(|one| one.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    let expected = [
        "config.ini:2:",
        "config.ini:3:",
        "config.ini:4:",
        "config.ini:6:",
        "config.ini:8:",
    ];
    assert_eq!(lines, expected);
}

/// Guessing what was meant takes no memory of its own.
#[test]
fn many_mistakes_take_little_memory() {
    let text = format!("[server]\n{}", "lisstem =\n".repeat(300));
    let info = allocation_counter::measure(|| {
        let mistakes = read(&text).unwrap_err();
        assert!(
            mistakes[0].ends_with("did you mean \"listen\"?"),
            "{}",
            mistakes[0]
        );
        assert_eq!(mistakes.len(), 300);
    });
    assert!(info.bytes_total < 400 * 1024, "{info:?}");
}

/// Each says which section it is in, so a name has no length that many could repeat.
#[test]
fn a_long_name_is_not_told_with_every_mistake() {
    let text = format!("[user {}]\n{}", "n".repeat(2_000), "wrong\n".repeat(300));
    let info = allocation_counter::measure(|| {
        let mistakes = Config::read(&text, Path::new("/")).unwrap_err();
        assert!(mistakes.len() >= 300);
        assert!(mistakes.iter().all(|one| one.section.chars().count() < 80));
    });
    assert!(info.bytes_total < 500 * 1024, "{info:?}");
}

#[test]
fn secrets_are_never_shown_in_a_mistake() {
    for text in [
        "[user 1]\nhorse-battery",
        "[user 1]\npassword = horse-battery\npassword = horse-battery",
        "[user 1]\nha1_md5 = horse-battery",
        "[http]\ntoken = horse-battery;!",
        "[user horse]\npassword = esroh",
    ] {
        let all = mistakes(text).join("\n");
        assert!(!all.contains("battery") && !all.contains("esroh"), "{all}");
    }
    let secret = read("[user 1]\npassword = horse-battery").unwrap();
    assert!(!format!("{secret:?}").contains("horse"));
}
