//! Ringing groups: who is in them, and where their calls go on to.

use std::collections::BTreeMap;

use super::super::value::{self, did_you_mean, quote};
use super::super::{Group, Route, Strategy};
use super::plan::Names;
use super::{Fields, HOUR, Reader, SECOND, optional};
use crate::limits::GROUP_MEMBERS_MAX;
use crate::source::{GroupId, UserId};

impl Reader {
    pub(super) fn group(&mut self, fields: &Fields<'_>, names: &Names<'_>) -> Group {
        let members = self.list(fields, "members", |text| member(text, names));
        if !fields.has("members") {
            self.wrong(
                fields,
                "members",
                "needs at least one user, as in members = 100",
            );
        } else if members.len() > GROUP_MEMBERS_MAX {
            let text = format!("more than {GROUP_MEMBERS_MAX} of them");
            self.wrong(fields, "members", text);
        }
        for (index, one) in members.iter().enumerate().take(GROUP_MEMBERS_MAX) {
            if members[..index].contains(one) {
                self.wrong(fields, "members", "one of them is there twice");
            }
        }
        Group {
            name: fields.name.to_owned(),
            members,
            strategy: self.value(fields, "strategy", |text| {
                let all = [Strategy::All, Strategy::Linear, Strategy::Circular];
                value::choice(text, &all.map(|one| (one.word(), one)))
            }),
            ring_timeout: self.value(fields, "ring_timeout", |t| value::duration(t, SECOND, HOUR)),
            // Whether it leads anywhere is known when the routes are.
            next: self.value(
                fields,
                "next",
                optional(|text| value::user_name(text).map(|()| text.to_owned())),
            ),
            line: fields.line,
        }
    }

    /// Names of groups and users are dialled alike; and what a group's calls go on to must be there, and end.
    pub(super) fn check_groups(
        &mut self,
        sections: &[Fields<'_>],
        names: &Names<'_>,
        groups: &[Group],
        routes: &[Route],
    ) {
        let mut users = BTreeMap::new();
        for fields in (sections.iter()).filter(|fields| fields.spec.kind == "user") {
            users.entry(fields.name).or_insert(fields.line);
        }
        let sections = (sections.iter()).filter(|fields| fields.spec.kind == "group");
        for ((fields, group), index) in sections.zip(groups).zip(0..) {
            if let Some(line) = users.get(group.name.as_str()) {
                let text = format!("is the name of [user {}], line {line}, too", group.name);
                self.mistake(fields.line, &fields.label, text);
            }
            if let Some(next) = &group.next
                && let Err(text) = goes_on(GroupId(index), next, names, groups, routes)
            {
                self.wrong(fields, "next", text);
            }
        }
    }
}

/// A user. A group in a group would have a time to ring within a time to ring.
fn member(text: &str, names: &Names<'_>) -> Result<UserId, String> {
    match names.user(text) {
        Err(_) if names.group(text).is_ok() => Err(format!(
            "{} is a group: members are users (next leads to another group)",
            quote(text)
        )),
        found => found,
    }
}

/// Whether the calls of this group that nobody answers can go there.
fn goes_on(
    own: GroupId,
    next: &str,
    names: &Names<'_>,
    groups: &[Group],
    routes: &[Route],
) -> Result<(), String> {
    if let Ok(user) = names.user(next) {
        let members = groups.get(own.0 as usize).map(|own| &own.members);
        return match members.is_some_and(|members| members.contains(&user)) {
            true => Err(format!(
                "{} is a member, and has been rung by then",
                quote(next)
            )),
            false => Ok(()),
        };
    }
    let Ok(mut at) = names.group(next) else {
        let bare = value::without_separators(next.as_bytes());
        return match Route::of(routes, &bare) {
            Some(_) => Ok(()),
            None => {
                let hint = did_you_mean(next, names.callable());
                let next = quote(next);
                Err(format!(
                    "no user or group {next}, and no route for that number{hint}"
                ))
            }
        };
    };
    // Each group has one next: whoever comes back to where he began goes round for ever.
    for _ in 0..groups.len() {
        if at == own {
            return Err("leads back to this group".into());
        }
        let next = (groups.get(at.0 as usize)).and_then(|group| group.next.as_deref());
        match next.map(|next| names.group(next)) {
            Some(Ok(next)) => at = next,
            _ => break,
        }
    }
    Ok(())
}
