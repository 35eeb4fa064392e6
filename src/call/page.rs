//! MESSAGE outside a dialog (RFC 3428), which is called a page here: one request comes in, one goes to each phone of the
//! callee, and one answer goes back. No dialog, no call, no record; nothing is stored for who is not there.
//!
//! ```text
//!             MESSAGE                 first 2xx, all refused, 30 s           no branch is left
//!   (nothing) ───────▶ waits ──────────────────────────────────▶ answered ───────────────────▶ (nothing)
//! ```
//!
//! None goes out through a trunk (`endpoint::page` refuses it): a carrier charges for it, and there would be neither a record
//! nor a limit. A MESSAGE cannot be taken back: all phones of a user show it, whichever answers first.

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;

use super::*;
use crate::limits::{BRANCHES_MAX, PAGE_TIMEOUT, PAGES_MAX, PAGES_PER_SENDER_MAX};
use crate::message::Message;

/// A page: slot and serial (serials are never used twice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageId {
    index: u32,
    serial: u32,
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
}

#[derive(Clone, Debug)]
struct Page {
    serial: u32,
    server: ServerId,
    request: Answerable,
    sender: Party,
    sender_name: String,
    dialled: String,
    /// Branches without a final response.
    waiting: usize,
    /// The best refusal as yet, with its header lines that pass.
    refusal: Option<(u16, Box<[u8]>)>,
    is_answered: bool,
}

/// All pages.
#[derive(Clone, Debug)]
pub struct Pages {
    slots: slab::Slab<Page>,
    next_serial: u32,
    /// When each page is given up, the first one first: all have the same time.
    deadlines: VecDeque<(Instant, PageId)>,
    /// Pages of each sender who has any.
    senders: HashMap<Sender, usize, RandomState>,
}

/// Who is counted as a sender: by name, since a reload changes numbers.
type Sender = Box<str>;

impl Pages {
    /// No pages yet.
    pub fn new(hasher: RandomState) -> Self {
        Self {
            slots: slab::Slab::new(),
            next_serial: 1,
            deadlines: VecDeque::new(),
            senders: HashMap::with_hasher(hasher),
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
        self.deadlines.front().map(|(at, _)| *at)
    }

    /// Sends a MESSAGE to every target.
    pub fn start(&mut self, setup: PageSetup<'_>, context: &mut Context<'_>) {
        let id = PageId {
            index: self.slots.vacant_key() as u32,
            serial: self.next_serial,
        };
        self.next_serial = self.next_serial.wrapping_add(1);
        let mut waiting = 0;
        for target in setup.targets.iter().take(BRANCHES_MAX) {
            waiting += usize::from(send(&setup, target, id, context));
        }
        let request = setup.arrival.request;
        self.slots.insert(Page {
            serial: id.serial,
            server: setup.server,
            request: Answerable::of(
                request,
                &setup.arrival.flow,
                setup.sender.is_outside(),
                context.buffer,
            ),
            sender: setup.sender,
            sender_name: setup.sender_name,
            dialled: setup.dialled,
            waiting,
            refusal: None,
            is_answered: false,
        });
        if let Some(page) = self.slots.get(id.index as usize) {
            *self.senders.entry(key(&page.sender)).or_default() += 1;
        }
        let at = context.now.mono.plus(PAGE_TIMEOUT);
        self.deadlines.push_back((at, id));
        if waiting == 0 {
            // No transaction was free for any branch.
            self.conclude(id, Some(503), context);
        }
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
            // RFC 3428 §7: it has no body; what it says otherwise is the phone's own affair.
            status @ 200..300 => page.answer(status, b"", context),
            status => {
                let to_outside = page.sender.is_outside();
                let lines = carriage::keep(response, false, to_outside, context.buffer);
                page.refused(status, lines.unwrap_or_default());
            }
        }
        self.branch_ends(id, context);
    }

    /// A branch has found nobody.
    pub fn unanswered(&mut self, id: PageId, context: &mut Context<'_>) {
        if let Some(page) = self.get(id) {
            page.refused(408, Box::default());
            self.branch_ends(id, context);
        }
    }

    /// Gives one page up whose time is over; `false` when there is none.
    pub fn expire(&mut self, context: &mut Context<'_>) -> bool {
        match self.deadlines.front().copied() {
            Some((at, id)) if at <= context.now.mono => {
                self.deadlines.pop_front();
                self.conclude(id, None, context);
                true
            }
            _ => false,
        }
    }

    fn branch_ends(&mut self, id: PageId, context: &mut Context<'_>) {
        let Some(page) = self.get(id) else { return };
        page.waiting = page.waiting.saturating_sub(1);
        if page.waiting == 0 {
            self.conclude(id, None, context);
        }
    }

    /// Nothing more is waited for: the sender gets this status, or the best refusal, unless he has his answer.
    fn conclude(&mut self, id: PageId, status: Option<u16>, context: &mut Context<'_>) {
        if self.get(id).is_none() {
            return;
        }
        let mut page = self.slots.remove(id.index as usize);
        if let Some(count) = self.senders.get_mut(&key(&page.sender)) {
            *count -= 1;
            if *count == 0 {
                self.senders.remove(&key(&page.sender));
            }
        }
        let (refusal, lines) = page.refusal.take().unwrap_or((480, Box::default()));
        let status = status.unwrap_or(match refusal {
            // RFC 4320 §4.2: no 408 to what is not an INVITE.
            408 => 480,
            refusal => best::towards_caller(refusal),
        });
        page.answer(status, &lines, context);
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
    /// A branch was refused.
    fn refused(&mut self, status: u16, lines: Box<[u8]>) {
        if (self.refusal.as_ref()).is_none_or(|(old, _)| best::is_better(status, *old)) {
            self.refusal = Some((status, lines));
        }
    }

    /// The one final response to the sender.
    fn answer(&mut self, status: u16, lines: &[u8], context: &mut Context<'_>) {
        if std::mem::replace(&mut self.is_answered, true) {
            return;
        }
        let tag = context.stateless_branch();
        let mut composer = self.request.response(context.buffer, status, &tag);
        if status == 503 {
            composer.number("Retry-After", RETRY_AFTER_S);
        }
        composer.lines(lines).field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        context.respond(self.server, status, &self.request);
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

/// Sends the MESSAGE to one target (§5); `false`: no transaction was free.
fn send(setup: &PageSetup<'_>, target: &Target, id: PageId, context: &mut Context<'_>) -> bool {
    let Some((client, via_branch)) = context.transactions.reserve() else {
        return false;
    };
    let call_id = [0, 1].map(|_| hex::<16>(context.tokens.next_u64()));
    let tag = hex::<16>(context.tokens.next_u64());
    let dialog = target.dialog(&setup.from, call_id.as_flattened(), &tag);
    let request = setup.arrival.request;
    let hops = request.max_forwards().unwrap_or(70).saturating_sub(1);
    let via_branch = via_branch.as_bytes();
    let mut composer = dialog.compose_relayed(
        context.buffer,
        Method::Message,
        dialog.local_cseq,
        via_branch,
        hops,
    );
    composer.field("User-Agent", &[b"sipkeep"]);
    let (from_outside, to_outside) = (setup.sender.is_outside(), target.party.is_outside());
    carriage::write(&mut composer, request, from_outside, to_outside);
    carriage::finish(composer, request, request.body());
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
