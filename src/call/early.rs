//! Early dialogs (RFC 3261 §12.1, §13.2.2.4): each has a tag of its own on both sides.
//!
//! A callee leg is one early dialog. Where a proxy behind a branch forks, each further To tag is a branch of its own with
//! the same client transaction: the caller sees what he would see of a proxy, and PRACK and UPDATE find the right phone.

use super::*;
use crate::limits::{CALLEE_LEGS_MAX, EARLY_DIALOGS_MAX};
use crate::message::Message;

/// What an early dialog of the caller with one branch has come to.
#[derive(Clone, Debug)]
pub(super) struct Early {
    /// CSeq number that the caller used last in this dialog: each counts from the INVITE's by itself.
    pub asked: u32,
    /// RSeq of the callee's last reliable provisional response that was taken.
    pub taken: Option<u32>,
    /// RSeq that we used last towards the caller; 0: none yet.
    pub used: u32,
    /// Offer and answer of the INVITE have reached both sides reliably: more offers may follow.
    pub is_negotiated: bool,
    /// The callee's answer, which the caller has not got reliably: it goes into his 2xx.
    pub answer: Option<Answer>,
}

/// A session description that is kept.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Content-Type.
    pub kind: Box<[u8]>,
    pub body: Box<[u8]>,
}

impl Early {
    /// Nothing yet but an INVITE with this CSeq number.
    pub fn new(invite_cseq: u32) -> Self {
        Self {
            asked: invite_cseq,
            taken: None,
            used: 0,
            is_negotiated: false,
            answer: None,
        }
    }
}

impl Call {
    /// The early dialog of this branch's INVITE that a response belongs to. A To tag that was not there before makes
    /// another one; `None`: there are too many, and this one is not taken part in.
    pub(super) fn early_dialog(&mut self, leg: u8, response: &Message<'_>) -> Option<u8> {
        let tag = response.to().tag().unwrap_or_default();
        let first = self.branches.get(leg as usize)?;
        let client = first.client;
        if tag.is_empty() || first.leg.dialog.remote_tag.is_empty() {
            return Some(leg);
        }
        let known = self
            .branches
            .iter()
            .position(|branch| branch.client == client && *branch.leg.dialog.remote_tag == *tag);
        if let Some(known) = known {
            return u8::try_from(known).ok();
        }
        let behind = (self.branches.iter()).filter(|branch| branch.client == client);
        if behind.count() >= EARLY_DIALOGS_MAX || self.branches.len() >= CALLEE_LEGS_MAX {
            // A 2xx takes the place of another: the call is its own now.
            return (response.status() >= 200).then_some(leg);
        }
        let fork = Branch {
            leg: first.leg.clone(),
            client,
            cseq: first.cseq,
            intervals_tried: 0,
            status: None,
            ended_by: EndedBy::Callee,
            refusal: Box::default(),
            early: Early::new(self.invite_cseq),
            forwarding: first.forwarding.clone(),
            role: first.role,
            payer: first.payer.clone(),
            pays: false,
            alternatives: None,
            had_offer: first.had_offer,
            asked_at: first.asked_at,
            is_heard: true,
            // So it comes back with whoever it answers for, if it does.
            is_left: first.is_left,
            media: first.media,
        };
        let index = u8::try_from(self.branches.len()).ok()?;
        self.branches.push(fork);
        let fork = self.branches.last_mut()?;
        fork.leg.dialog.remote_cseq = None;
        fork.leg.dialog.establish(response);
        Some(index)
    }

    /// The branch of our tag `leg` that a callee's request belongs to: the forks of one INVITE share our tag.
    pub(super) fn callee_of(&self, leg: u8, request: &Message<'_>) -> Option<u8> {
        let client = self.branches.get(leg as usize)?.client;
        let position = self
            .branches
            .iter()
            .position(|branch| branch.client == client && branch.leg.dialog.owns(request))?;
        u8::try_from(position).ok()
    }

    /// Whether nobody but the callees behind this branch's INVITE can still answer: the caller can play one early media.
    pub(super) fn is_alone(&self, leg: u8) -> bool {
        let client = self.branches.get(leg as usize).map(|branch| branch.client);
        self.branches
            .iter()
            .all(|branch| branch.status.is_some() || Some(branch.client) == client)
    }

    /// RFC 3261 §12.2.2: whether a request has a higher CSeq number than the last one in its dialog. Each early dialog of
    /// the caller counts by itself.
    pub(super) fn accept_cseq(&mut self, located: Located, number: u32) -> bool {
        let winner = self.winner;
        match self.branches.get_mut(located.branch as usize) {
            Some(branch) if located.leg == CALLER && located.branch != winner => {
                let in_order = number > branch.early.asked;
                branch.early.asked = branch.early.asked.max(number);
                in_order
            }
            _ => self
                .leg_mut(located.leg)
                .is_some_and(|leg| leg.dialog.accept_cseq(number)),
        }
    }

    /// Where a request goes on: the leg across from its own. Otherwise the status, and whether it may be tried again.
    pub(super) fn across(
        &self,
        located: Located,
        method: Method,
        has_offer: bool,
    ) -> Result<u8, (u16, bool)> {
        let from_caller = located.leg == CALLER;
        let branch = if from_caller {
            located.branch
        } else {
            located.leg
        };
        let to = if from_caller { branch } else { CALLER };
        match self.state {
            // Nobody is across from a call that we took ourselves.
            State::Answered if self.winner == NO_BRANCH => return Err((488, false)),
            State::Answered if branch == self.winner => return Ok(to),
            // Who waits for the target of a transfer has nobody to speak with as yet.
            State::Ringing if from_caller && self.transfer.is_some() => return Err((500, true)),
            State::Ringing => {}
            State::Answered | State::Ending => return Err((481, false)),
        }
        let Some(early) = self.branches.get(branch as usize) else {
            return Err((481, false));
        };
        if early.status.is_some() || early.leg.dialog.remote_tag.is_empty() {
            return Err((481, false));
        }
        match method {
            // RFC 3311 §5.2: no second offer before the first is answered, on both sides.
            Method::Update | Method::Prack if early.early.is_negotiated || !has_offer => Ok(to),
            Method::Update if from_caller && !self.had_offer => Err((491, false)),
            // Nothing else is passed on before there is one callee; it may be tried again then.
            _ => Err((500, true)),
        }
    }

    /// The early dialog with the caller in which `branch` speaks to him: with the tag that he knows it by.
    pub(super) fn caller_dialog(&self, index: u32, branch: u8) -> Dialog {
        let mut dialog = self.caller.dialog.clone();
        dialog.local.extend_from_slice(b";tag=");
        dialog
            .local
            .extend_from_slice(&self.caller_tag(index, branch));
        dialog
    }
}
