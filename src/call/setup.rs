//! A call begins: the caller's INVITE becomes one INVITE for each branch (RFC 3261 §13, RFC 7092).

use std::borrow::Cow;

use super::media::{Said, Unfit};
use super::target::{Identity, Target};
use super::*;
use crate::message::compose::{Composer, append_address, reason_phrase};
use crate::message::{HeaderName, Message};

/// How often a branch may ask for a longer session interval.
const INTERVALS_MAX: u8 = 3;

/// The caller's INVITE, from which that of each branch is made.
pub(super) struct Invitation<'a> {
    pub request: &'a Message<'a>,
    pub from: &'a Identity,
}

impl<'a> Invitation<'a> {
    /// From towards a target. To a line it is the line's own identity: the caller's is nothing to its carrier.
    fn from(&self, target: &'a Target) -> Cow<'a, Identity> {
        match &target.line {
            Some(_) if self.is_anonymous() => Cow::Owned(Identity::anonymous()),
            Some(line) => Cow::Borrowed(&line.from),
            None => self.from.shown_as(target.caller_id.as_deref()),
        }
    }

    /// The caller does not want to be known (RFC 3323 §4.1.1.3, RFC 3325 §9.3).
    fn is_anonymous(&self) -> bool {
        self.from.is_anonymous() || carriage::hides_identity(self.request)
    }
}

/// The same, kept while branches may still be added: a message at most for each call.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// As it came.
    pub request: Box<[u8]>,
    pub from: Identity,
}

/// What the endpoint found out about a new call before it begins.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The INVITE.
    pub request: &'a Message<'a>,
    /// How it came.
    pub flow: Flow,
    /// Our address on that flow.
    pub ours: std::net::SocketAddr,
    /// Its server transaction.
    pub server: ServerId,
    /// Who calls.
    pub caller: Party,
    /// Where a new connection leads to him, if it can be had.
    pub caller_home: Option<SocketAddr>,
    /// A connection that he has open to us beside a UDP flow, and our address on it.
    pub caller_stream: Option<(Flow, SocketAddr)>,
    /// Which of his phones he calls from, if it is registered.
    pub caller_phone: Option<Phone>,
    /// He is behind a NAT, as his phone has registered or as this INVITE says.
    pub is_behind_nat: bool,
    /// Whether he receives what we send him: whoever is known by his address alone over UDP has yet to show it.
    pub trust: Trust,
    /// User part of our Contact towards a line that calls; empty: as towards all others.
    pub caller_contact: Box<[u8]>,
    /// How long a call of that line rings; `None`: as all others.
    pub ring_timeout: Option<Duration>,
    /// Calling number, for records.
    pub caller_name: String,
    /// From towards the callees.
    pub from: Identity,
    /// The number that was dialled, as it is shown in records.
    pub dialled: String,
    /// Where the call has been, for those it goes out to: the value of [`PASSED`].
    pub passed: Vec<u8>,
    /// `internal`, `incoming`, `outgoing`, `transit`.
    pub direction: &'static str,
    /// The ringing group that it is for, if these are members of one.
    pub hunt: Option<Box<Hunt>>,
    /// Where to; at most [`crate::limits::BRANCHES_MAX`] are rung.
    pub targets: Vec<Target>,
}

impl Setup<'_> {
    /// The caller does not want to be known.
    pub(super) fn is_withheld(&self) -> bool {
        self.from.is_anonymous() || carriage::hides_identity(self.request)
    }
}

impl Calls {
    /// Begins a call: 100 to the caller, an INVITE to each target. Returns its handle, which the caller sets as the owner
    /// of the server transaction.
    pub fn start(&mut self, mut setup: Setup<'_>, context: &mut Context<'_>) -> CallHandle {
        let handle = self.open(&mut setup, context);
        // What is not composed is not sent.
        let Some(call) = self.get(handle) else {
            return handle;
        };
        call.request.trying(setup.request, context.buffer);
        context.transactions.respond(
            context.now.mono,
            setup.server,
            100,
            context.buffer,
            context.out,
        );

        let invitation = Invitation {
            request: setup.request,
            from: &setup.from,
        };
        for target in setup.targets.iter().take(crate::limits::BRANCHES_MAX) {
            self.ring(handle, &invitation, target, context);
        }
        self.tells_of_forwarding(handle, 0, &setup.targets, context);
        self.arm_ringing(handle);
        if let Some(call) = self.get(handle) {
            context.call_event("call", CallStage::Begun, &call.record);
        }
        // No transaction was free for any branch: the caller must not wait for nobody.
        self.conclude(handle, context);
        self.sweep(handle);
        handle
    }

    /// A call that is there, and nothing has been said as yet.
    pub(super) fn open(&mut self, setup: &mut Setup<'_>, context: &mut Context<'_>) -> CallHandle {
        let called = || setup.targets.first().and_then(Target::ring_timeout);
        let group = setup.hunt.as_ref().map(|hunt| hunt.rings);
        let wait = group.or(setup.ring_timeout).or_else(called);
        let until = (context.now.mono).plus(wait.unwrap_or(self.ring_timeout));
        // RFC 3261 §13.3.1: how long the caller himself wants it to ring.
        let limit = (setup.request.expires()).map(|limit| Duration::from_secs(limit.into()));
        let gives_up = limit.map(|limit| context.now.mono.plus(limit));
        let entry = self.slots.vacant_entry();
        let handle = CallHandle {
            index: entry.key() as u32,
            serial: self.next_serial,
        };
        self.next_serial = self.next_serial.wrapping_add(1);
        let mut caller = Leg::new(
            Dialog::from_request(setup.request, &setup.flow, setup.ours),
            setup.caller.clone(),
            setup.caller_home,
            context.tokens.next_u64(),
        );
        caller.dialog.contact_user = setup.caller_contact.clone();
        caller.phone = setup.caller_phone;
        caller.stream = setup.caller_stream;
        caller.is_behind_nat = setup.is_behind_nat;
        caller.trust = setup.trust;
        caller.is_withheld = setup.is_withheld();
        caller.watch.learn(setup.request);
        let asked = session::Asked::of(setup.request);
        // What he is sent before the answer may have to be offered again as well.
        caller
            .watch
            .begin(context.now.mono, asked.terms(self.session_s));
        let who = [&mut setup.caller_name, &mut setup.dialled].map(std::mem::take);
        let record = new_record(setup, who, context);
        entry.insert(Call {
            serial: handle.serial,
            state: State::Ringing,
            caller,
            branches: Vec::with_capacity(setup.targets.len()),
            winner: NO_BRANCH,
            invite: setup.server,
            invite_cseq: setup.request.cseq().number,
            request: Answerable::of(
                setup.request,
                &setup.flow,
                setup.caller_home.is_some(),
                context.buffer,
            ),
            had_offer: !setup.request.body().is_empty(),
            provisionals: Provisionals::new(setup.request, setup.targets.len()),
            is_final: false,
            refusal: Box::default(),
            reason: Box::default(),
            waiting: 0,
            relays: Vec::new(),
            invitation: Some(Box::new(Kept {
                request: setup.request.bytes().into(),
                from: setup.from.clone(),
            })),
            hunt: setup.hunt.take(),
            later: Vec::new(),
            asking: 0,
            passed: std::mem::take(&mut setup.passed).into(),
            asked,
            session_s: self.session_s,
            record: Arc::new(record),
            started: context.now.mono,
            rings_until: until,
            rings: setup.ring_timeout.unwrap_or(self.ring_timeout),
            expires: gives_up,
            answered: None,
            // The caller and one callee, as a rule.
            counted: Vec::with_capacity(2),
            is_listened_to: false,
            transfer: None,
            referral: None,
            join: None,
            promise: None,
        });
        self.live += 1;
        self.count_in(handle, &setup.caller, Side::Caller);
        context.transactions.set_server_owner(
            setup.server,
            Owner {
                call: handle,
                leg: CALLER,
                purpose: Purpose::Invite,
            },
        );
        handle
    }

    /// Until when it rings: as long as we want, or the caller.
    fn arm_ringing(&mut self, handle: CallHandle) {
        let Some(call) = self.get(handle) else { return };
        let until = call.rings_until;
        match call.expires.take_if(|at| *at < until) {
            Some(at) => self.arm(at, Timer::Expired(handle)),
            None => self.arm(until, Timer::RingTimeout(handle)),
        }
    }

    /// A call that does not begin: a number that leads nowhere, a limit. Its INVITE gets its refusal, and it is a record.
    pub fn turn_away(
        &mut self,
        setup: &Setup<'_>,
        status: u16,
        disposition: Option<&'static str>,
        context: &mut Context<'_>,
    ) {
        let tag = context.stateless_branch();
        let mut composer = Composer::response_to(
            context.buffer,
            setup.request,
            &setup.flow,
            status,
            reason_phrase(status),
            &tag,
        );
        if status == 503 {
            composer.number("Retry-After", ending::RETRY_AFTER_S);
        }
        composer.field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        context.transactions.respond(
            context.now.mono,
            setup.server,
            status,
            context.buffer,
            context.out,
        );
        let who = [&setup.caller_name, &setup.dialled].map(String::clone);
        let mut record = new_record(setup, who, context);
        record.end = Some(context.now.unix);
        record.status = Some(status);
        record.disposition = disposition.unwrap_or_else(|| ending::disposition(status));
        record.ended_by = Some("server");
        record.duration_ms = Some(0);
        record.talk_ms = Some(0);
        let record = Arc::new(record);
        context.call_event("end", CallStage::Refused, &record);
        keep_record(context, &record);
    }

    /// Adds a branch and sends its INVITE.
    pub(super) fn ring(
        &mut self,
        handle: CallHandle,
        invitation: &Invitation<'_>,
        target: &Target,
        context: &mut Context<'_>,
    ) {
        let Some((client, via_branch)) = context.transactions.reserve() else {
            return;
        };
        let secret = context.tokens.next_u64();
        let call_id = [0, 1].map(|_| hex::<16>(context.tokens.next_u64()));
        let Some(call) = self.get(handle) else { return };
        let leg_index = call.branches.len() as u8;
        let tag = TagParts {
            index: handle.index,
            serial: handle.serial,
            leg: leg_index,
            secret,
        }
        .compose();
        let from = invitation.from(target);
        let mut dialog = target.dialog(&from, call_id.as_flattened(), &tag);
        dialog.local_cseq = 0;
        // A trunk was called where it is configured to be.
        let home = target.party.is_outside().then_some(target.flow.remote);
        let mut leg = Leg::new(dialog, target.party.clone(), home, secret);
        leg.phone = target.phone;
        leg.stream = target.stream;
        leg.is_behind_nat = target.is_behind_nat;
        if let Some(line) = &target.line {
            leg.hides_caller = invitation.is_anonymous();
            leg.presented = line.presented(leg.hides_caller, context.buffer);
        }
        call.branches.push(Branch {
            leg,
            client,
            cseq: 0,
            intervals_tried: 0,
            status: None,
            ended_by: EndedBy::Callee,
            refusal: Box::default(),
            early: Early::new(call.invite_cseq),
            forwarding: target.forwarding.clone(),
            role: target.role,
            payer: target.payer.clone(),
            pays: false,
            alternatives: target.alternatives.clone(),
            had_offer: false,
            asked_at: context.now.mono,
            is_heard: false,
            is_left: false,
            media: None,
        });
        // A user is in a call once; each call to a trunk takes a line of it.
        let is_counted = !target.party.is_outside() && call.counts(&target.party);
        let owner = Owner {
            call: handle,
            leg: leg_index,
            purpose: Purpose::Invite,
        };
        let invited = call.invite(owner, (client, via_branch), invitation, context);
        if let Err(unfit) = invited {
            call.end_branch(leg_index, unfit.status(), EndedBy::Server);
            return;
        }
        if !is_counted {
            self.count_in(handle, &target.party, Side::Callee);
        }
        self.pays(handle, leg_index);
        self.watch_answer(handle, leg_index, context);
        if target.alternatives.is_some() {
            self.watch_silence(handle, leg_index, context);
        }
    }

    /// RFC 4028 §7.3: a branch wants sessions to be refreshed less often than we offered (422): it is asked once more, with
    /// its minimum, within what would have become the same dialog. `false`: it is a refusal as any other.
    pub(super) fn invites_again(
        &mut self,
        owner: Owner,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(call) = self.get(owner.call) else {
            return false;
        };
        let own_s = call.session_s;
        let is_ringing = call.state == State::Ringing && !call.is_final && !call.is_declined();
        let Some(branch) = (call.branches.get_mut(owner.leg as usize)).filter(|_| is_ringing)
        else {
            return false;
        };
        // Who has rung before he refuses is left alone: there may be early dialogs behind him.
        let is_untouched = branch.leg.dialog.remote_tag.is_empty();
        let may = branch.status.is_none() && is_untouched && branch.intervals_tried < INTERVALS_MAX;
        if !may || !branch.leg.watch.raise(response, own_s) {
            return false;
        }
        branch.intervals_tried += 1;
        let Some(kept) = call.invitation.take() else {
            return false;
        };
        let reserved = context.transactions.reserve();
        if let (Some(reserved), Ok(request)) = (reserved, crate::message::parse(&kept.request)) {
            let invitation = Invitation {
                request: &request,
                from: &kept.from,
            };
            // It has its ports already.
            let is_sent = call.invite(owner, reserved, &invitation, context).is_ok();
            call.invitation = Some(kept);
            return is_sent;
        }
        call.invitation = Some(kept);
        false
    }
}

impl Call {
    /// Sends the INVITE of a branch; not if its media must be relayed and cannot be.
    fn invite(
        &mut self,
        owner: Owner,
        (client, via_branch): (ClientId, crate::transaction::Branch),
        invitation: &Invitation<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Unfit> {
        let from_outside = self.caller.party.is_outside();
        let request = invitation.request;
        let offer = Said::offer(CALLER, request);
        let body = match self.passes(owner.leg, offer, context) {
            Ok(body) => body,
            Err(unfit) => {
                context.transactions.release(client);
                return Err(unfit);
            }
        };
        let Some(branch) = self.branches.get_mut(owner.leg as usize) else {
            return Ok(());
        };
        let leg = &mut branch.leg;
        (branch.client, branch.cseq) = (client, leg.dialog.next_cseq());
        branch.had_offer = !request.body().is_empty();
        let hops = request.max_forwards().unwrap_or(70).saturating_sub(1);
        let mut composer = leg.dialog.compose_relayed(
            context.buffer,
            Method::Invite,
            branch.cseq,
            via_branch.as_bytes(),
            hops,
        );
        leg.dialog.write_contact(&mut composer);
        composer
            .field("Allow", &[carriage::ALLOW])
            .field("User-Agent", &[b"sipkeep"]);
        let has_timer = leg.watch.write_first(&mut composer, self.session_s);
        // Whoever is outside takes no call of ours in another's place.
        let has_replaces = !leg.party.is_outside();
        // The PRACK of an offer that comes so could not wait until whoever is transferred has answered it.
        let has_reliable =
            self.provisionals.is_offered() && (branch.had_offer || self.transfer.is_none());
        let options: [(bool, &[u8]); 3] = [
            (has_reliable, b"100rel"),
            (has_replaces, b"replaces"),
            (has_timer, b"timer"),
        ];
        let options = (options.iter()).filter_map(|(is_one, option)| is_one.then_some(option));
        let mut options = options.enumerate().peekable();
        if options.peek().is_some() {
            composer.field_with("Supported", |line| {
                for (at, option) in options {
                    line.extend_from_slice(if at > 0 { b", " } else { b"" });
                    line.extend_from_slice(option);
                }
            });
        }
        if let Some(forwarding) = &branch.forwarding {
            composer.field("Diversion", &[&forwarding.diversion(leg.dialog.ours.ip())]);
        }
        if leg.party.is_outside() {
            composer.field(PASSED, &[&self.passed]);
        } else if let Some(transfer) = &self.transfer {
            let by = transfer.referred_by(leg.dialog.ours);
            composer.field("Referred-By", &[&by]);
        }
        composer.lines(&leg.presented);
        leg.carry(&mut composer, request, from_outside);
        if let Some(forwarding) = branch.forwarding.as_ref().filter(|_| !leg.hides_caller) {
            let history = forwarding.history(request, leg.dialog.ours.ip());
            composer.field("History-Info", &[&history]);
        }
        carriage::finish(composer, request, &body);
        leg.send(client, Method::Invite, owner, context);
        Ok(())
    }
}

/// `who`: the caller and whom he dialled.
fn new_record(
    setup: &Setup<'_>,
    [caller, dialled]: [String; 2],
    context: &mut Context<'_>,
) -> CallRecord {
    let id = new_id(context);
    let mut source = Vec::with_capacity(16);
    append_address(&mut source, setup.flow.remote.ip());
    let through = setup.caller.through().or_else(|| {
        setup
            .targets
            .first()
            .and_then(|target| target.party.through())
    });
    CallRecord {
        id,
        start: context.now.unix,
        direction: setup.direction,
        caller,
        dialled,
        through,
        source: text(&source),
        user_agent: setup.request.value(HeaderName::UserAgent).map(text),
        caller_call_id: text(setup.request.call_id()),
        ..CallRecord::default()
    }
}

/// The id of a record.
pub(super) fn new_id(context: &mut Context<'_>) -> String {
    // Milliseconds first, so that ids sort as the calls began.
    let begun = hex::<12>(context.now.unix.as_millis());
    let id = [begun, hex::<12>(context.tokens.next_u64())];
    text(id.as_flattened())
}

/// What peers write is ASCII as a rule, which is seen many bytes at a time.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}
