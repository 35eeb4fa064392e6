//! The back-to-back user agent (RFC 7092): a call is a caller leg and callee legs, each with a dialog of its own, so that
//! neither side sees the other's addresses.
//!
//! ```text
//!             INVITE            branch answers           BYE, limits, deaths
//!   (nothing) ──────▶ Ringing ────────────────▶ Answered ──────────────▶ Ending ──▶ (nothing)
//!                        │  CANCEL, no answer, refusal, ring timeout       ▲
//!                        └─────────────────────────────────────────────────┘
//! ```
//!
//! `Ending` has its record written already; it waits for the transactions that still run (a cancelled branch that answers
//! all the same gets ACK and BYE). Files: `setup` (INVITE to branches), `confirm` (calls that we take ourselves), `promise` (what waits until its caller has shown that he is there), `target` (whom they ring), `early` (their dialogs before there is an
//! answer), `reliable` (provisional responses and PRACK), `branch` (final responses), `onward` (where a call goes on to), `hunt` (groups, and who sends calls on), `forwarding` (how that is told), `failover` (the next trunk), `within`
//! (requests within the dialogs), `arrival` (a request and our own responses to it), `session` and `refresh` (session timers, probes), `reconnect` (peers that come or are
//! reached another way), `transfer` (REFER), `pickup` (who takes what rings elsewhere), `shown` (what others see of calls), `timers` (what is due when), `ending` (BYE, records), `forgetting` (too many ended calls), `carriage` (which headers pass),
//! `media` (what its session descriptions say, and the relay of what they describe), `challenge` (401 and 407 from lines), `counts` (how many calls everybody is in), `best` (which refusal the caller sees), `page` (MESSAGE outside a dialog, which is no call), `letter` and `mailbox` (those that wait for who is not there).
//!
//! What it does not do: find out who a caller is or where a number leads (`endpoint`), keep bytes for retransmission
//! (`transaction`), read SDP (`sdp`).

mod arrival;
mod best;
mod branch;
mod carriage;
mod challenge;
mod confirm;
mod counts;
mod early;
mod ending;
mod failover;
mod forgetting;
mod forwarding;
mod hunt;
mod letter;
mod mailbox;
mod media;
mod onward;
mod page;
mod pickup;
mod promise;
mod reconnect;
mod refresh;
mod reliable;
mod reply;
mod session;
mod setup;
mod shown;
mod target;
mod timers;
mod transfer;
mod within;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::action::Outputs;
use crate::api::{CallItem, CallStage, Event, Fields, Page, Rfc3339};
use crate::dialog::{Dialog, TagParts};
use crate::line::{self, Lines};
use crate::location::Phone;
use crate::media::{Media, MediaId, Trust};
use crate::message::{Composer, Message, Method};
use crate::source::{Flow, LineId, ReachId, SubscriptionId, TrunkId, UserId, Who};
use crate::store::{CallRecord, Change};
use crate::time::wheel::Wheel;
use crate::time::{Instant, Now};
use crate::token::{Tokens, hex};
use crate::transaction::{ClientId, ServerId, Transactions};
use crate::transport::Connections;

pub use arrival::Arrival;
pub use carriage::{ACCEPT, ALLOW, ALLOW_EVENTS, PASSED, hides_identity};
use counts::{Counts, Side};
use early::Early;
pub use ending::RETRY_AFTER_S;
pub use failover::{Alternatives, Hop, HopTo};
pub use forwarding::{Cause, Diverted, Forwarding};
pub use hunt::{Dialler, Hunt, Role};
pub use letter::{Written, letter};
pub use media::is_behind_nat;
pub use onward::{Found, Onward, Why};
pub use page::{PageId, PageSetup, Pages};
pub use pickup::Ringing;
pub use promise::Heard;
use reliable::Provisionals;
use reply::Answerable;
pub use session::{Asked, INTERVAL_MIN_S};
pub use setup::Setup;
pub use shown::{DialogIds, Progress, ShownDialog};
pub use target::{ANONYMOUS, Identity, OnLine, Target, append_tel};
use timers::Timer;
pub use transfer::Replaces;
pub use within::Located;

/// Whose connection is gone has this long to come back on another one before a probe that fails ends the call: until the next
/// probe. Of itself a phone comes back when it misses the answer to a keep-alive (RFC 5626 §4.4) or registers again.
const RETURN_TIME: Duration = Duration::from_secs(540);

/// Requests on their way from one leg to the other at a time, for each call. One more: 500 with Retry-After.
const RELAYS_MAX: usize = 8;

/// The caller's leg in an [`Owner`] and in tags; branches count from 0.
const CALLER: u8 = 0x80;
/// In a caller-side tag: no branch, the response is our own.
const NO_BRANCH: u8 = 0x7f;

/// Who a transaction belongs to: its transaction user, as RFC 3261 §5 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionUser {
    /// A leg of a call, or nobody.
    Call(Owner),
    /// A page, for one of whose branches it is.
    Page(PageId),
    /// A subscription, whose NOTIFY it is.
    Subscription(SubscriptionId),
    /// An address that is asked whether it can be reached.
    Reach(ReachId),
    /// A line, whose REGISTER it is.
    Line(line::RequestId),
}

impl From<Owner> for TransactionUser {
    fn from(owner: Owner) -> Self {
        Self::Call(owner)
    }
}

/// Which leg of which call a transaction belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The call.
    pub call: CallHandle,
    /// `CALLER` or a branch.
    pub leg: u8,
    /// What for.
    pub purpose: Purpose,
}

impl Owner {
    /// For a transaction before its call exists, or one that never has a call.
    pub const NOBODY: Self = Self {
        call: CallHandle {
            index: u32::MAX,
            serial: 0,
        },
        leg: NO_BRANCH,
        purpose: Purpose::Stray,
    };
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The INVITE that began the call, or a branch's.
    Invite,
    /// A request relayed within the dialogs.
    Relay,
    /// Our BYE.
    Bye,
    /// Our OPTIONS within the dialog: is the peer still there?
    Probe,
    /// Our refresh of a leg's session, or the re-INVITE that joins it with another leg.
    Refresh,
    /// A NOTIFY that says what has become of a transfer.
    Notify,
    /// The INVITE of whoever picks up.
    Pickup,
    /// Its answer says nothing: the BYE of a dialog that nobody wanted, a PRACK.
    Stray,
}

/// A call: slot and serial (serials are never used twice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallHandle {
    index: u32,
    serial: u32,
}

/// Whose leg it is, with his name, which all places where he stands in a call share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// A local user.
    User(UserId, Arc<str>),
    /// A trunk.
    Trunk(TrunkId, Arc<str>),
    /// An external line.
    Line(LineId, Arc<str>),
}

impl Party {
    /// `trunk:NAME` of a trunk, `line:NAME` of a line.
    fn through(&self) -> Option<String> {
        match self {
            Self::User(..) => None,
            Self::Trunk(_, name) => Some(format!("trunk:{name}")),
            Self::Line(_, name) => Some(format!("line:{name}")),
        }
    }

    /// Whether it is one of these two: the world behind it is no part of ours, and calls there may cost money.
    pub fn is_outside(&self) -> bool {
        match self {
            Self::User(..) => false,
            Self::Trunk(..) | Self::Line(..) => true,
        }
    }

    /// Whether it is a line: its peer's challenges are answered.
    fn is_line(&self) -> bool {
        matches!(self, Self::Line(..))
    }

    /// As it is called in config.ini.
    fn name(&self) -> String {
        match self {
            Self::User(_, name) | Self::Trunk(_, name) | Self::Line(_, name) => {
                String::from(&**name)
            }
        }
    }

    /// A user as one who dials from there.
    pub fn dialler(&self, source: std::net::IpAddr) -> Option<Dialler> {
        match self {
            Self::User(_, name) => Some(Dialler {
                name: name.clone(),
                source,
            }),
            Self::Trunk(..) | Self::Line(..) => None,
        }
    }

    /// Who that is at present.
    pub fn who(&self) -> Who {
        match self {
            Self::User(user, _) => Who::User(*user),
            Self::Trunk(trunk, _) => Who::Trunk(*trunk),
            Self::Line(line, _) => Who::Line(*line),
        }
    }
}

/// One side of a call.
#[derive(Clone, Debug)]
struct Leg {
    dialog: Dialog,
    party: Party,
    /// Where a new connection leads to the peer; `None`: nowhere, as with a phone.
    home: Option<SocketAddr>,
    /// A connection that the peer has open to us beside a UDP flow, and our address on it.
    stream: Option<(Flow, SocketAddr)>,
    /// Which of his user's phones the peer is; `None`: none that is registered.
    phone: Option<Phone>,
    /// Since when probes find no connection to the peer.
    lost: Option<Instant>,
    /// Part of our tags on this leg.
    secret: u64,
    /// The header lines with credentials that its last INVITE of ours carried, and the CSeq number of that.
    credentials: Option<(u32, Box<[u8]>)>,
    /// Our ACK to its last 2xx, with the CSeq number: sent again for each 2xx that comes again.
    ack: Option<(u32, Vec<u8>)>,
    /// Its 2xx waits for an ACK that the other side must bring (the answer to a late offer).
    ack_owed: Option<u32>,
    /// Header lines of its INVITEs that say whose call it is: a line's identity.
    presented: Box<[u8]>,
    /// Nothing goes to it that says who calls.
    hides_caller: bool,
    /// Its peer has called, and does not want to be known.
    is_withheld: bool,
    /// Header lines for its BYE, beside the Reason: what the other side's BYE brought.
    farewell: Box<[u8]>,
    /// Our 2xx on this leg that it has not acknowledged, and the CSeq number of its INVITE.
    unacknowledged: Option<(ServerId, u32)>,
    /// End it as soon as it has acknowledged (RFC 3261 §15.1.1: no BYE before), for this reason (a Reason header's value,
    /// or empty).
    bye_after_ack: Option<Box<[u8]>>,
    /// A dialog exists and neither side has ended it.
    is_up: bool,
    /// Its own INVITE, which has picked the call up, waits for a final response.
    answering: Option<Box<pickup::Answering>>,
    /// A probe of ours waits for its answer.
    is_probed: bool,
    /// Where it was before it came here.
    places: Vec<transfer::Place>,
    /// How we notice that the peer is gone.
    watch: session::Watch,
    /// The peer is behind a NAT, as far as its signalling shows.
    is_behind_nat: bool,
    /// Whether the peer is known to receive what we send him: his ACK or PRACK shows it.
    trust: Trust,
}

/// A callee leg.
#[derive(Clone, Debug)]
struct Branch {
    leg: Leg,
    /// Its INVITE. Callees that a proxy behind a branch has forked it to share it.
    client: ClientId,
    /// The CSeq number of that.
    cseq: u32,
    /// How often it has asked for a longer session interval.
    intervals_tried: u8,
    /// The final status, once there.
    status: Option<u16>,
    /// Who gave it: the callee, or we ourselves when he was silent or out of reach.
    ended_by: EndedBy,
    /// Header lines of his refusal that pass to the caller.
    refusal: Box<[u8]>,
    /// What there is before his final response.
    early: Early,
    /// How the call got to him, if the caller did not dial him.
    forwarding: Option<Box<Forwarding>>,
    /// As what it is rung.
    role: Role,
    /// The local user who answers for this outside call: who dialled, or who sent the call on.
    payer: Option<Party>,
    /// It counts among his outside calls now. Of the callees behind one INVITE one does.
    pays: bool,
    /// Whom to try if it fails.
    alternatives: Option<Box<Alternatives>>,
    /// Its INVITE carried an offer: its 2xx can be acknowledged at once.
    had_offer: bool,
    /// When it was sent its INVITE last.
    asked_at: Instant,
    /// It has answered that something.
    is_heard: bool,
    /// It failed, and others are tried in its place: what it said counts no more.
    is_left: bool,
    /// The relay of its media. Callees behind one INVITE share it.
    media: Option<MediaId>,
}

/// A request on its way from one leg to the other.
#[derive(Clone, Debug)]
struct Relay {
    from: u8,
    to: u8,
    server: ServerId,
    client: ClientId,
    method: Method,
    request: Answerable,
    /// It begins an offer and answer, be the offer in it or in its 2xx.
    has_offer: bool,
    /// It carried SDP.
    had_offer: bool,
    /// Provisional responses to it are not passed.
    is_quiet: bool,
    /// CSeq number of the relayed request.
    cseq: u32,
    /// What the request says of session timers.
    asked: session::Asked,
    /// CSeq number of the request as it came: its ACK has the same, though INFO may have come since.
    asked_cseq: u32,
    /// Whoever sent it has his final response (the call ended meanwhile); the other side's is only waited for.
    is_answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ringing,
    Answered,
    Ending,
}

/// Who ended a call, for its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The caller.
    Caller,
    /// The callee.
    Callee,
    /// sipkeep itself.
    Server,
}

#[derive(Clone, Debug)]
struct Call {
    serial: u32,
    state: State,
    caller: Leg,
    branches: Vec<Branch>,
    winner: u8,
    invite: ServerId,
    /// CSeq number of the caller's INVITE: that of its ACK too, whatever the caller sent in between.
    invite_cseq: u32,
    /// What answers to the INVITE are made from.
    request: Answerable,
    /// The INVITE carried SDP: the callee's 2xx can be acknowledged at once.
    had_offer: bool,
    /// Provisional responses to the caller.
    provisionals: Provisionals,
    /// The caller has its final response.
    is_final: bool,
    /// Header lines for it, if it is a refusal.
    refusal: Box<[u8]>,
    /// The Reason (RFC 3326) of whoever ended it, for log and record: a carrier's says more than a status.
    reason: Box<[u8]>,
    /// Our BYEs, probes and refreshes that wait for an answer, and a PRACK that may still come.
    waiting: u32,
    relays: Vec<Relay>,
    /// The caller's INVITE while the call rings.
    invitation: Option<Box<setup::Kept>>,
    /// The ringing group that it is in.
    hunt: Option<Box<Hunt>>,
    /// Whom to try when nobody rings any more, the next one last.
    later: Vec<onward::Later>,
    /// How often the call has asked where it is to go on to, without an answer as yet.
    asking: u8,
    /// What its INVITEs to the outside say of where it has been: the value of [`PASSED`].
    passed: Box<[u8]>,
    /// What the caller's INVITE says of session timers.
    asked: session::Asked,
    /// The session interval that we want, in seconds; `None`: no session timers.
    session_s: Option<u32>,
    /// Whoever keeps it has the same.
    record: Arc<CallRecord>,
    started: Instant,
    /// When it has rung long enough.
    rings_until: Instant,
    /// How long it rings wherever it goes on to, if nothing else is said there.
    rings: Duration,
    /// When the caller himself gives up, and no timer says so yet.
    expires: Option<Instant>,
    answered: Option<Instant>,
    /// Who is counted as being in this call.
    counted: Vec<(Party, Side)>,
    /// Whether its audio is watched.
    is_listened_to: bool,
    /// It is the call to the target of a transfer.
    transfer: Option<Box<transfer::Transfer>>,
    /// One of its sides transfers the other.
    referral: Option<Box<transfer::Referral>>,
    /// Its two sides are being joined.
    join: Option<Box<transfer::Join>>,
    /// What it is for is done when its caller has acknowledged our answer.
    promise: Option<promise::Promise>,
}

/// What the layers below need from the endpoint for one input.
pub struct Context<'a> {
    /// The time.
    pub now: Now,
    /// The transaction layer.
    pub transactions: &'a mut Transactions<TransactionUser>,
    /// Streams, for a trunk whose connection has gone.
    pub connections: &'a mut Connections,
    /// Credentials, Contacts and routes of calls on lines.
    pub lines: &'a mut Lines,
    /// Relays of media.
    pub media: &'a mut Media,
    /// Where outputs go.
    pub out: &'a mut Outputs,
    /// Tags, Call-IDs.
    pub tokens: &'a mut Tokens,
    /// A buffer to compose in.
    pub buffer: &'a mut Vec<u8>,
}

impl Context<'_> {
    /// The branch of an ACK to a 2xx: a transaction of its own that keeps no state (RFC 3261 §17.1.1.3).
    pub fn stateless_branch(&mut self) -> [u8; 23] {
        let mut branch = *b"z9hG4bK0123456789abcdef";
        branch[7..].copy_from_slice(&hex::<16>(self.tokens.next_u64()));
        branch
    }

    /// RFC 3261 §14.2: seconds after which a request that came at a wrong moment may come again, from 0 to 10.
    fn retry_after(&mut self) -> u64 {
        self.tokens.next_u64() % 11
    }

    fn event(&mut self, name: &'static str, fields: impl Into<Fields>) {
        self.out.event(Event {
            level: log::Level::Info,
            name,
            source: None,
            fields: fields.into(),
        });
    }

    /// The same of a call, which its record says all of.
    fn call_event(&mut self, name: &'static str, stage: CallStage, record: &Arc<CallRecord>) {
        self.event(name, Fields::OfCall(stage, Arc::clone(record)));
    }
}

/// All calls.
#[derive(Clone)]
pub struct Calls {
    slots: slab::Slab<Call>,
    next_serial: u32,
    timers: Wheel<Timer>,
    /// With so many timers those are thrown out that nobody waits for any more.
    timers_max: usize,
    /// Ringing and answered ones.
    live: usize,
    live_max: usize,
    /// Those that ended, in that order; most are off the table.
    ended: VecDeque<CallHandle>,
    ring_timeout: Duration,
    session_s: Option<u32>,
    /// The host under which parties of transfers are shown; `None`: our address.
    host: Option<String>,
    /// Calls that ask where they are to go on to.
    onward: VecDeque<Onward>,
    /// Calls whose callers have shown that they are there.
    heard: VecDeque<CallHandle>,
    counts: Counts,
    /// Where legs are that began in another call.
    moved: BTreeMap<transfer::Place, (CallHandle, u8)>,
    /// Users whose calls have changed, in order, each once.
    touched: Vec<UserId>,
    /// Groups whose calls have.
    touched_groups: BTreeSet<Box<str>>,
    /// The slots of the calls that each user is in: he is counted there.
    by_user: BTreeSet<(UserId, u32)>,
    /// Calls that were looked at for what is shown of them.
    #[cfg(feature = "testing")]
    looks: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Calls {
    /// No calls yet.
    pub fn new(now: Instant, config: &crate::config::Config) -> Self {
        let mut calls = Self {
            slots: slab::Slab::new(),
            next_serial: 1,
            timers: Wheel::new(now),
            timers_max: crate::limits::CALL_TIMERS_MIN,
            live: 0,
            live_max: 0,
            ended: VecDeque::new(),
            ring_timeout: Duration::ZERO,
            session_s: None,
            host: None,
            onward: VecDeque::new(),
            heard: VecDeque::new(),
            counts: Counts::default(),
            moved: BTreeMap::new(),
            touched: Vec::new(),
            touched_groups: BTreeSet::new(),
            by_user: BTreeSet::new(),
            #[cfg(feature = "testing")]
            looks: std::sync::Arc::default(),
        };
        calls.reload(config, |_| None, |_| None, |_| None);
        calls
    }

    /// A new configuration: calls go on, their parties get the indices of the same names. Who is gone from the file
    /// keeps his calls until they end, but is not counted.
    pub fn reload(
        &mut self,
        config: &crate::config::Config,
        user: impl Fn(&str) -> Option<UserId>,
        trunk: impl Fn(&str) -> Option<TrunkId>,
        line: impl Fn(&str) -> Option<LineId>,
    ) {
        self.live_max = config.call.calls_max;
        self.host = config.server.domains.first().cloned();
        self.ring_timeout = config.call.ring_timeout;
        let session = config.call.session_expires;
        self.session_s = session.map(|interval| interval.as_secs() as u32);
        self.counts = Counts {
            users: vec![0; config.users.len()],
            trunks: vec![[0; 2]; config.trunks.len()],
            lines: vec![0; config.lines.len()],
            outside: vec![0; config.users.len()],
        };
        // Their numbers are others now.
        self.touched.clear();
        let renamed = |party: &mut Party| match party {
            Party::User(id, name) => *id = user(name).unwrap_or(UserId(u32::MAX)),
            Party::Trunk(id, name) => *id = trunk(name).unwrap_or(TrunkId(u32::MAX)),
            Party::Line(id, name) => *id = line(name).unwrap_or(LineId(u32::MAX)),
        };
        self.by_user.clear();
        let (counts, by_user) = (&mut self.counts, &mut self.by_user);
        for (slot, call) in &mut self.slots {
            renamed(&mut call.caller.party);
            for branch in &mut call.branches {
                renamed(&mut branch.leg.party);
                branch.payer.iter_mut().for_each(renamed);
                let hops = branch.alternatives.iter_mut().flat_map(|own| &mut own.hops);
                for hop in hops {
                    if let HopTo::Party(party) = &mut hop.to {
                        renamed(party);
                    }
                }
            }
            for (party, side) in &mut call.counted {
                renamed(party);
                if let Some(count) = counts.of(party, *side) {
                    *count += 1;
                }
                by_user.extend(counts::entry(party, *side, slot as u32));
            }
        }
    }

    /// Ringing and answered calls.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Whether another call may begin.
    pub fn is_full(&self) -> bool {
        self.live >= self.live_max
    }

    /// No call at all is left, ending ones included.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// `GET calls`: ringing and answered ones in the order of their ids. `after` is the id of the last one seen.
    pub fn page(&self, after: Option<&str>, limit: usize) -> Page<CallItem> {
        let mut live: Vec<&Call> = (self.slots.iter().map(|(_, call)| call))
            .filter(|call| call.state != State::Ending)
            .filter(|call| after.is_none_or(|after| call.record.id.as_str() > after))
            .collect();
        live.sort_unstable_by(|a, b| a.record.id.cmp(&b.record.id));
        let next = (live.len() > limit)
            .then(|| limit.checked_sub(1).and_then(|last| live.get(last)))
            .flatten()
            .map(|call| call.record.id.clone());
        let items = live.into_iter().take(limit).map(Call::item).collect();
        Page { items, next }
    }

    /// The call with this id.
    pub fn find(&self, id: &str) -> Option<CallHandle> {
        self.slots
            .iter()
            .find(|(_, call)| call.record.id == id && call.state != State::Ending)
            .map(|(index, call)| CallHandle {
                index: index as u32,
                serial: call.serial,
            })
    }

    /// Every call that is not ending.
    pub fn all(&self) -> Vec<CallHandle> {
        (self.slots.iter())
            .filter(|(_, call)| call.state != State::Ending)
            .map(|(index, call)| CallHandle {
                index: index as u32,
                serial: call.serial,
            })
            .collect()
    }

    fn get(&mut self, handle: CallHandle) -> Option<&mut Call> {
        self.slots
            .get_mut(handle.index as usize)
            .filter(|call| call.serial == handle.serial)
    }

    /// Takes a call off the table once nothing of it runs any more.
    fn sweep(&mut self, handle: CallHandle) {
        let is_over = self.get(handle).is_some_and(|call| call.is_over());
        if is_over {
            self.remove(handle);
        }
    }
}

impl Leg {
    fn new(dialog: Dialog, party: Party, home: Option<SocketAddr>, secret: u64) -> Self {
        Self {
            dialog,
            party,
            home,
            stream: None,
            phone: None,
            lost: None,
            secret,
            credentials: None,
            ack: None,
            ack_owed: None,
            presented: Box::default(),
            hides_caller: false,
            is_withheld: false,
            farewell: Box::default(),
            unacknowledged: None,
            bye_after_ack: None,
            is_up: false,
            answering: None,
            is_probed: false,
            places: Vec::new(),
            watch: session::Watch::default(),
            is_behind_nat: false,
            trust: Trust::Whole,
        }
    }

    /// Writes what passes to this leg of a message of the other one, but a body.
    fn carry(&self, composer: &mut Composer<'_>, message: &Message<'_>, from_outside: bool) {
        match self.hides_caller {
            true => carriage::write_anonymous(composer, message),
            false => carriage::write(composer, message, from_outside, self.party.is_outside()),
        }
    }

    /// Whether a request came the way this leg's peer speaks (RFC 5626: the flow is the identity, on a stream the very
    /// connection). An address is not enough: behind a NAT neighbours share it, and tags travel in the clear.
    fn is_from(&self, flow: &Flow) -> bool {
        self.dialog.flow.is_same_peer(flow)
    }
}

impl Call {
    fn handle(&self, index: u32) -> CallHandle {
        CallHandle {
            index,
            serial: self.serial,
        }
    }

    fn leg(&self, leg: u8) -> Option<&Leg> {
        if leg == CALLER {
            Some(&self.caller)
        } else {
            self.branches.get(leg as usize).map(|branch| &branch.leg)
        }
    }

    fn leg_mut(&mut self, leg: u8) -> Option<&mut Leg> {
        if leg == CALLER {
            Some(&mut self.caller)
        } else {
            self.branches
                .get_mut(leg as usize)
                .map(|branch| &mut branch.leg)
        }
    }

    /// The leg across from `leg` in an answered call.
    fn other(&self, leg: u8) -> u8 {
        if leg == CALLER { self.winner } else { CALLER }
    }

    /// Our tag towards the caller while it speaks with `branch`.
    fn caller_tag(&self, index: u32, branch: u8) -> [u8; 34] {
        let parts = TagParts {
            index,
            serial: self.serial,
            leg: CALLER | branch,
            secret: self.caller.secret,
        };
        parts.compose()
    }

    fn is_over(&self) -> bool {
        self.state == State::Ending
            && self.waiting == 0
            && self.relays.is_empty()
            && self.branches.iter().all(|branch| branch.status.is_some())
            && self.caller.unacknowledged.is_none()
            && (self.branches.iter()).all(|branch| branch.leg.unacknowledged.is_none())
    }

    fn item(&self) -> CallItem {
        CallItem {
            id: self.record.id.clone(),
            state: if self.state == State::Answered {
                "answered"
            } else {
                "ringing"
            },
            direction: self.record.direction,
            caller: self.record.caller.clone(),
            dialled: self.record.dialled.clone(),
            answered_by: self.record.answered_by.clone(),
            through: self.record.through.clone(),
            start: Rfc3339(self.record.start),
            answer: self.record.answer.map(Rfc3339),
        }
    }
}

/// A record is written when the call is answered and again when it is over.
fn keep_record(context: &mut Context<'_>, record: &Arc<CallRecord>) {
    context.out.keep(Change::Record(Arc::clone(record)));
}
