//! MESSAGE outside a dialog (RFC 3428), which is called a page here: one request comes in, one goes to each phone of the
//! callee, and one answer goes back. No dialog, no call, no record.
//!
//! ```text
//!             MESSAGE                 first 2xx, all refused, 30 s           no branch is left
//!   (nothing) ───────▶ waits ──────────────────────────────────▶ answered ───────────────────▶ (nothing)
//! ```
//!
//! None goes out through a trunk (`endpoint::page` refuses it): a carrier charges for it, and there would be neither a record
//! nor a limit. A MESSAGE cannot be taken back: all phones of a user show it, whichever answers first.
//!
//! What reaches no phone of a user whose messages are kept waits in the `mailbox`, and its sender gets 202. When the user is back a
//! page without a sender takes it to his phones (`delivery`): the first one only, so that they come in order; the next follows
//! when a phone has taken it, or all have refused it for good.

mod delivery;

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;

use super::mailbox::Mailbox;
use super::*;
use crate::limits::{BRANCHES_MAX, PAGE_TIMEOUT, PAGES_MAX, PAGES_PER_SENDER_MAX};
use crate::message::Message;
use crate::store::MessageRow;

/// Whom a branch of a page is for: slot and serial (serials are never used twice), and which of the page's users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageId {
    index: u32,
    serial: u32,
    member: u8,
}

/// What the endpoint found out about a MESSAGE.
#[derive(Debug)]
pub struct PageSetup<'a> {
    /// As it arrived.
    pub arrival: Arrival<'a>,
    /// Its server transaction.
    pub server: ServerId,
    /// Who sent it.
    pub sender: Party,
    /// His name or number, for the log.
    pub sender_name: String,
    /// From towards the callee.
    pub from: Identity,
    /// Whom it is for, for the log.
    pub dialled: String,
    /// Where to; at most [`BRANCHES_MAX`] get it.
    pub targets: Vec<Target>,
    /// As it is kept; `None`: for nobody.
    pub letter: Option<Box<MessageRow>>,
    /// For whom, if it does not reach them.
    pub keepers: Vec<Box<str>>,
    /// For somebody it waits already.
    pub is_kept: bool,
}

/// Where a page comes from.
#[derive(Clone, Debug)]
enum Origin {
    /// Somebody who waits for his answer.
    Sender {
        server: ServerId,
        request: Answerable,
        party: Party,
    },
    /// The mailbox: the letter of this id.
    Mailbox(u64),
}

/// A user whom a page is for.
#[derive(Clone, Debug)]
struct Member {
    user: Box<str>,
    /// What does not reach him is kept.
    keeps: bool,
    /// Branches without a final response.
    waiting: usize,
    is_taken: bool,
    /// One of his phones was not there.
    is_away: bool,
    /// He has been heard from since the page began: what is kept for him can go at once.
    is_back: bool,
    /// One of his phones has said something, or that none does would mean nothing.
    has_answered: bool,
    /// What waits for him since this page did not reach him.
    kept: Option<u64>,
}

#[derive(Clone, Debug)]
struct Page {
    serial: u32,
    origin: Origin,
    sender_name: String,
    dialled: String,
    members: Vec<Member>,
    letter: Option<Box<MessageRow>>,
    /// For somebody it waits.
    is_kept: bool,
    /// The best refusal as yet, with its header lines that pass.
    refusal: Option<(u16, Box<[u8]>)>,
    is_answered: bool,
}

/// All pages, and what waits for users who are not there.
#[derive(Clone, Debug)]
pub struct Pages {
    slots: slab::Slab<Page>,
    next_serial: u32,
    /// When each page is given up, the first one first: all have the same time.
    deadlines: VecDeque<(Instant, PageId)>,
    /// Pages of each sender who has any.
    senders: HashMap<Sender, usize, RandomState>,
    mailbox: Mailbox,
    /// Users for whom the next letter can go.
    due: VecDeque<Box<str>>,
}

/// Who is counted as a sender: by name, since a reload changes numbers.
type Sender = Box<str>;

impl Pages {
    /// No pages yet; `kept`: what waited when the last run ended.
    pub fn new(now: Now, kept: Vec<MessageRow>, hasher: RandomState) -> Self {
        Self {
            slots: slab::Slab::new(),
            next_serial: 1,
            deadlines: VecDeque::new(),
            senders: HashMap::with_hasher(hasher),
            mailbox: Mailbox::new(now, kept),
            due: VecDeque::new(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Whether this sender may begin no further page now.
    pub fn is_full(&self, sender: &Party) -> bool {
        let own = self.senders.get(&key(sender)).copied().unwrap_or(0);
        self.slots.len() >= PAGES_MAX || own >= PAGES_PER_SENDER_MAX
    }

    /// When [`Pages::expire`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let page = self.deadlines.front().map(|(at, _)| *at);
        [page, self.mailbox.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Sends a MESSAGE to every target.
    pub fn start(&mut self, setup: PageSetup<'_>, context: &mut Context<'_>) {
        let PageSetup {
            arrival,
            sender,
            from,
            ..
        } = &setup;
        let request = arrival.request;
        let from_outside = sender.is_outside();
        let hops = request.max_forwards().unwrap_or(70).saturating_sub(1);
        let mut members: Vec<Member> = Vec::with_capacity(1);
        for target in setup.targets.iter().take(BRANCHES_MAX) {
            let id = self.vacant(member_of(&mut members, target, &setup.keepers));
            let write = |mut composer: Composer<'_>| {
                carriage::write(
                    &mut composer,
                    request,
                    from_outside,
                    target.party.is_outside(),
                );
                carriage::finish(composer, request, request.body());
            };
            if send(from, hops, target, id, context, write)
                && let Some(member) = members.get_mut(usize::from(id.member))
            {
                member.waiting += 1;
            }
        }
        // Who has no branch any more has what was not sent to him kept.
        for target in setup.targets.iter().skip(BRANCHES_MAX) {
            if setup
                .keepers
                .iter()
                .any(|own| **own == *target.party.name())
            {
                member_of(&mut members, target, &setup.keepers);
            }
        }
        let answerable = Answerable::of(request, &arrival.flow, from_outside, context.buffer);
        *self.senders.entry(key(sender)).or_default() += 1;
        let id = self.insert(Page {
            serial: self.next_serial,
            origin: Origin::Sender {
                server: setup.server,
                request: answerable,
                party: setup.sender,
            },
            sender_name: setup.sender_name,
            dialled: setup.dialled,
            members,
            letter: setup.letter,
            is_kept: setup.is_kept,
            refusal: None,
            is_answered: false,
        });
        let at = context.now.mono.plus(PAGE_TIMEOUT);
        self.deadlines.push_back((at, id));
        // For whom no transaction was free, or no branch.
        self.members_end(id, |member| member.waiting == 0, context);
        if self.is_over(id) {
            self.conclude(id, Some(503), context);
        }
    }

    /// The number of the next page, for one of its users.
    fn vacant(&self, member: usize) -> PageId {
        PageId {
            index: self.slots.vacant_key() as u32,
            serial: self.next_serial,
            // As many as a group has members, at most.
            member: member as u8,
        }
    }

    fn insert(&mut self, page: Page) -> PageId {
        let id = self.vacant(0);
        self.next_serial = self.next_serial.wrapping_add(1);
        self.slots.insert(page);
        id
    }

    /// A response to a branch.
    pub fn receive_response(
        &mut self,
        id: PageId,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        let Some(page) = self.get(id) else { return };
        match response.status() {
            ..200 => return,
            status @ 200..300 => self.taken(id, status, context),
            status => {
                let to_outside = page.is_from_outside();
                let lines = carriage::keep(response, false, to_outside, context.buffer);
                if let Some(member) = page.members.get_mut(usize::from(id.member)) {
                    member.has_answered = true;
                }
                page.refused(id, status, lines.unwrap_or_default());
            }
        }
        self.branch_ends(id, context);
    }

    /// A branch has found nobody.
    pub fn unanswered(&mut self, id: PageId, context: &mut Context<'_>) {
        if let Some(page) = self.get(id) {
            page.refused(id, 408, Box::default());
            self.branch_ends(id, context);
        }
    }

    /// Gives one page up whose time is over, or takes letters away that are; `false` when there is none.
    pub fn expire(&mut self, context: &mut Context<'_>) -> bool {
        self.sweep(context);
        let Some((at, id)) = self.deadlines.front().copied() else {
            return false;
        };
        if at > context.now.mono {
            return false;
        }
        self.deadlines.pop_front();
        if let Some(page) = self.get(id) {
            for member in &mut page.members {
                member.is_away |= member.waiting > 0;
            }
            self.members_end(id, |member| member.waiting > 0, context);
            let is_late = |member: &Member| member.waiting > 0 && member.kept.is_some();
            match self.get(id) {
                // A phone that takes it all the same shall not get it again.
                Some(page) if page.members.iter().any(is_late) => page.answer(202, b"", context),
                _ => self.conclude(id, None, context),
            }
        }
        true
    }

    /// A phone has taken it.
    fn taken(&mut self, id: PageId, status: u16, context: &mut Context<'_>) {
        let Some(page) = self.slots.get_mut(id.index as usize) else {
            return;
        };
        let Some(member) = page.members.get_mut(usize::from(id.member)) else {
            return;
        };
        let is_first = !std::mem::replace(&mut member.is_taken, true);
        let (user, kept) = (member.user.clone(), member.kept.take());
        if let Some(kept) = kept {
            // After all.
            self.mailbox.remove(&user, kept, context.out);
        }
        match page.origin {
            // RFC 3428 §7: it has no body; what it says otherwise is the phone's own affair.
            Origin::Sender { .. } => page.answer(status, b"", context),
            Origin::Mailbox(letter) if is_first => self.delivered(&user, letter, status, context),
            Origin::Mailbox(_) => {}
        }
        self.is_due(&user);
    }

    fn branch_ends(&mut self, id: PageId, context: &mut Context<'_>) {
        let Some(page) = self.get(id) else { return };
        if let Some(member) = page.members.get_mut(usize::from(id.member)) {
            member.waiting = member.waiting.saturating_sub(1);
        }
        let own = usize::from(id.member);
        let is_own = |page: &Page| (page.members.get(own)).is_some_and(|own| own.waiting == 0);
        if self.get(id).is_some_and(|page| is_own(page)) {
            self.member_ends(id, context);
        }
        if self.is_over(id) {
            self.conclude(id, None, context);
        }
    }

    fn is_over(&mut self, id: PageId) -> bool {
        self.get(id)
            .is_some_and(|page| page.members.iter().all(|member| member.waiting == 0))
    }

    fn members_end(
        &mut self,
        id: PageId,
        is_one: impl Fn(&Member) -> bool,
        context: &mut Context<'_>,
    ) {
        let count = self.get(id).map_or(0, |page| page.members.len());
        for member in 0..count {
            let id = PageId {
                member: member as u8,
                ..id
            };
            let member = self.get(id).and_then(|page| page.members.get_mut(member));
            if let Some(member) = member.filter(|member| is_one(member)) {
                // Nobody could be asked.
                member.is_away |= member.waiting == 0;
                self.member_ends(id, context);
            }
        }
    }

    /// No phone of a user is waited for any more: what has not reached him is kept.
    fn member_ends(&mut self, id: PageId, context: &mut Context<'_>) {
        let Some(page) = self.slots.get_mut(id.index as usize) else {
            return;
        };
        let Some(member) = page.members.get_mut(usize::from(id.member)) else {
            return;
        };
        if member.is_taken || member.kept.is_some() {
            return;
        }
        if let Origin::Mailbox(letter) = page.origin {
            let status = (!member.is_away).then(|| page.refusal.as_ref().map_or(408, |own| own.0));
            let member = member.clone();
            return self.undelivered(letter, &member, status, context);
        }
        let user = member.user.clone();
        let letter = page
            .letter
            .as_ref()
            .filter(|_| member.keeps && member.is_away);
        let Some(letter) = letter else { return };
        let Origin::Sender { party, .. } = &page.origin else {
            return;
        };
        let who = (&*user, &*key(party));
        member.kept = (self.mailbox).put(context.now, who, letter, context.out);
        page.is_kept |= member.kept.is_some();
        if member.is_back {
            self.is_due(&user);
        }
    }

    /// Nothing more is waited for: the sender gets this status, or the best refusal, unless he has his answer.
    fn conclude(&mut self, id: PageId, status: Option<u16>, context: &mut Context<'_>) {
        if self.get(id).is_none() {
            return;
        }
        let mut page = self.slots.remove(id.index as usize);
        if let Origin::Sender { party, .. } = &page.origin
            && let Some(count) = self.senders.get_mut(&key(party))
        {
            *count -= 1;
            if *count == 0 {
                self.senders.remove(&key(party));
            }
        }
        let (refusal, lines) = page.refusal.take().unwrap_or((480, Box::default()));
        match status.unwrap_or(match refusal {
            // RFC 4320 §4.2: no 408 to what is not an INVITE.
            408 => 480,
            refusal => best::towards_caller(refusal),
        }) {
            _ if page.is_kept => page.answer(202, b"", context),
            status => page.answer(status, &lines, context),
        }
        // Most pages are gone after milliseconds, and their deadlines are not to be waited for.
        if self.slots.is_empty() {
            self.deadlines.clear();
        } else if self.deadlines.len() > 2 * PAGES_MAX {
            let slots = &self.slots;
            self.deadlines.retain(|(_, id)| {
                (slots.get(id.index as usize)).is_some_and(|page| page.serial == id.serial)
            });
        }
    }

    fn get(&mut self, id: PageId) -> Option<&mut Page> {
        (self.slots.get_mut(id.index as usize)).filter(|page| page.serial == id.serial)
    }
}

impl Page {
    fn is_from_outside(&self) -> bool {
        matches!(&self.origin, Origin::Sender { party, .. } if party.is_outside())
    }

    /// A branch was refused.
    fn refused(&mut self, id: PageId, status: u16, lines: Box<[u8]>) {
        let is_away = match self.origin {
            Origin::Sender { .. } => delivery::is_away(status),
            // It was accepted: only what will never be otherwise ends it.
            Origin::Mailbox(_) => !delivery::is_for_good(status),
        };
        if let Some(member) = self.members.get_mut(usize::from(id.member)) {
            member.is_away |= is_away;
        }
        if (self.refusal.as_ref()).is_none_or(|(old, _)| best::is_better(status, *old)) {
            self.refusal = Some((status, lines));
        }
    }

    /// The one final response to the sender.
    fn answer(&mut self, status: u16, lines: &[u8], context: &mut Context<'_>) {
        let Origin::Sender {
            server, request, ..
        } = &self.origin
        else {
            return;
        };
        if std::mem::replace(&mut self.is_answered, true) {
            return;
        }
        let tag = context.stateless_branch();
        let mut composer = request.response(context.buffer, status, &tag);
        if status == 503 {
            composer.number("Retry-After", RETRY_AFTER_S);
        }
        composer.lines(lines).field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        context.respond(*server, status, request);
        context.event(
            "message",
            vec![
                ("caller", std::mem::take(&mut self.sender_name)),
                ("dialled", std::mem::take(&mut self.dialled)),
                ("status", status.to_string()),
            ],
        );
    }
}

/// Which of the users a target is, with those who were there before.
fn member_of(members: &mut Vec<Member>, target: &Target, keepers: &[Box<str>]) -> usize {
    let name = target.party.name();
    let known = members.iter().position(|member| *member.user == *name);
    known.unwrap_or_else(|| {
        members.push(Member {
            keeps: keepers.iter().any(|keeper| **keeper == *name),
            user: name.into(),
            waiting: 0,
            is_taken: false,
            is_away: false,
            is_back: false,
            has_answered: false,
            kept: None,
        });
        members.len() - 1
    })
}

/// Sends a MESSAGE to one target (§5), `write` ends it; `false`: no transaction was free.
fn send(
    from: &Identity,
    hops: u8,
    target: &Target,
    id: PageId,
    context: &mut Context<'_>,
    write: impl FnOnce(Composer<'_>),
) -> bool {
    let Some((client, via_branch)) = context.transactions.reserve() else {
        return false;
    };
    let call_id = [0, 1].map(|_| hex::<16>(context.tokens.next_u64()));
    let tag = hex::<16>(context.tokens.next_u64());
    let dialog = target.dialog(from, call_id.as_flattened(), &tag);
    let via_branch = via_branch.as_bytes();
    let mut composer = dialog.compose_relayed(
        context.buffer,
        Method::Message,
        dialog.local_cseq,
        via_branch,
        hops,
    );
    composer.field("User-Agent", &[b"sipkeep"]);
    write(composer);
    context.transactions.send(
        context.now.mono,
        client,
        Method::Message,
        &dialog.flow,
        context.buffer,
        TransactionUser::Page(id),
        context.out,
    );
    true
}

fn key(sender: &Party) -> Sender {
    // No user's name has a colon.
    (sender.through().unwrap_or_else(|| sender.name())).into()
}
