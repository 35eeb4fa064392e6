//! Where users' calls go on to.

use super::super::value::{self, did_you_mean, quote};
use super::super::{Forwards, Route, User};
use super::plan::Names;
use super::{Fields, HOUR, Reader, SECOND, optional};

impl Reader {
    pub(super) fn forwards(&mut self, fields: &Fields<'_>) -> Forwards {
        let mut number = |key| {
            self.value(
                fields,
                key,
                // Whether it leads anywhere is known when the routes are.
                optional(|text| value::user_name(text).map(|()| text.to_owned())),
            )
        };
        let [always, busy, no_answer, offline] = [
            "forward_always",
            "forward_busy",
            "forward_no_answer",
            "forward_offline",
        ]
        .map(&mut number);
        Forwards {
            always,
            busy,
            no_answer,
            no_answer_after: self.value(fields, "forward_no_answer_after", |text| {
                value::duration(text, SECOND, HOUR)
            }),
            offline,
        }
    }

    /// A user forwards to numbers that he may dial, and not to himself.
    pub(super) fn check_forwards(
        &mut self,
        sections: &[Fields<'_>],
        names: &Names<'_>,
        users: &[User],
        routes: &[Route],
    ) {
        let sections = (sections.iter()).filter(|fields| fields.spec.kind == "user");
        for (fields, user) in sections.zip(users) {
            for (key, number) in user.forwards.numbers() {
                if let Some(number) = number
                    && let Err(text) = may_forward(user, number, names, routes)
                {
                    self.wrong(fields, key, text);
                }
            }
        }
    }
}

fn may_forward(
    user: &User,
    number: &str,
    names: &Names<'_>,
    routes: &[Route],
) -> Result<(), String> {
    if number == user.name {
        return Err("is this user himself".into());
    }
    if names.has_user(number) || names.group(number).is_ok() {
        return Ok(());
    }
    let Some(route) = Route::of(routes, &value::without_separators(number.as_bytes())) else {
        let hint = did_you_mean(number, names.callable());
        return Err(format!(
            "no user or group {0}, and no route for that number{hint}",
            quote(number)
        ));
    };
    match &route.level {
        Some(level) if !user.levels.contains(level) => Err(format!(
            "{} is for users with level {}, by [route {}]: this one has it not",
            quote(number),
            quote(level),
            route.name
        )),
        _ => Ok(()),
    }
}
