//! Every bound that is not a configuration key, with its unit, its reason and what happens at it.

use std::time::Duration;

/// RFC 3261 §17.1.1.1: estimate of the round-trip time.
pub const T1: Duration = Duration::from_millis(500);
/// RFC 3261 §17.1.2.2: the longest interval between retransmissions.
pub const T2: Duration = Duration::from_secs(4);
/// RFC 3261 §17.1.2.2: how long a message stays in the network.
pub const T4: Duration = Duration::from_secs(5);
/// RFC 3261 §17: 64·T1, after which a transaction gives up or forgets.
pub const T1_64: Duration = Duration::from_secs(32);
/// RFC 3261 §16.6 step 11: Timer C, for a callee leg that says nothing new. More than 3 minutes.
pub const TIMER_C: Duration = Duration::from_secs(185);

/// Bytes of a request that RFC 3261 §18.1.1 wants in a datagram at most, since the path's MTU is not known. A longer one
/// goes over a connection, if its peer has one open to us; else it is fragmented, as everybody's is.
pub const DATAGRAM_REQUEST_BYTES_MAX: usize = 1_300;
/// Bytes of one message. A datagram cannot be longer; a stream's longer one gets 513 and is closed.
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// Header lines in one message; the longest of RFC 4475 has about 50. One more: 400.
pub const HEADER_LINES_MAX: usize = 128;

/// Bytes of Via lines, From, To, Call-ID and CSeq that the answer to a malformed request repeats; with more there is no
/// answer. Twenty proxies' Via lines fit.
pub const SALVAGED_BYTES_MAX: usize = 4_096;

/// Bytes of receive buffer that are asked for, for each UDP socket: about 6,500 datagrams of 420 bytes, 30 ms of a flood of
/// 200,000 a second. What comes when it is full the kernel drops and counts.
pub const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Places in lanes that the endpoint is asked for. More than any kernel's program holds; who has none is received among
/// strangers.
pub const LANE_PLACES_MAX: usize = 4_096;
/// Blocks of addresses that all users have together; more is a mistake in the configuration. They are searched for every
/// packet: 12 comparisons.
pub const PEER_BLOCKS_MAX: usize = 4_096;
/// Datagrams held back while earlier ones of their flow may wait in another lane, and ...
pub const HELD_DATAGRAMS_MAX: usize = 1_024;
/// ... bytes of them. One more is dropped and counted: SIP repeats.
pub const HELD_BYTES_MAX: usize = 1 << 20;

/// Bytes of outputs between two `clear_outputs`. Beyond it an output is dropped and counted: SIP repeats.
pub const OUTPUT_ARENA_BYTES: usize = 1 << 20;

/// The fixed tables of sources are this much smaller under cargo-fuzz: an endpoint is then made in microseconds instead of
/// milliseconds, and the bounds come within reach of a program.
const SHRUNK: usize = if cfg!(fuzzing) { 256 } else { 1 };

/// Unproven sources that have a token bucket, 16 bytes each. The one with the least backlog goes.
pub const UNPROVEN_SOURCES_MAX: usize = 65_536 / SHRUNK;
/// Proven sources with failures being counted.
pub const PROVEN_SOURCES_MAX: usize = 65_536 / SHRUNK;
/// Known sources.
pub const KNOWN_SOURCES_MAX: usize = 131_072 / SHRUNK;
/// Packets a second of one source over its budget that are peeked at for a nonce of ours (at most 31).
pub const PEEKS_PER_SOURCE: u32 = 20;
/// The same of all sources together.
pub const PEEKS_TOTAL: u32 = 2_000;
/// One part in so many of `unproven_total` is kept for requests that come again.
pub const REPEATS_SHARE: u64 = 4;
/// Requests that were turned away and are known when they come again, 4 bytes each. The one seen longest ago goes.
pub const REPEATS_MAX: usize = 262_144 / SHRUNK;
/// Packets a second of a proven source.
pub const PROVEN_RATE: u32 = 20;
/// Sources that proved something and whose packets are being counted, 16 bytes each. The one idle longest goes.
pub const RATED_SOURCES_MAX: usize = 65_536 / SHRUNK;
/// Places in each of four rows of the sketch of (source, user) pairs that are delayed, 32 bytes for all four; at most 2^16.
pub const DELAYED_PAIRS_MAX: usize = 16_384 / SHRUNK;
/// Known sources on the budget of strangers because of too many names that failed there. The soonest to end leaves first.
pub const WATCHED_MAX: usize = 4_096 / SHRUNK;
/// Phones with a wrong password that are shown. The one that failed longest ago goes.
pub const MISCONFIGURED_MAX: usize = 64;
/// Challenges that whoever proves only that he receives them (on a stream) may leave unanswered before the budget of
/// unproven sources holds for him too.
pub const UNANSWERED_FREE: u8 = 20;
/// Sources whose ban is over but whose step still counts. The one banned longest ago goes.
pub const PAST_BANS_MAX: usize = 65_536 / SHRUNK;
/// Bans; made by proven sources only, the soonest to end leaves first.
pub const BANS_MAX: usize = 131_072 / SHRUNK;

/// Of the datagrams that the kernel discards for us one in so many passes, by which they are counted. A power of two.
pub const KERNEL_SAMPLE: u32 = 1_024;
/// Bans of each family that are considered for the kernel, the busiest first: more than any program holds.
pub const KERNEL_LIST_MAX: usize = 4_096;
/// After rebuilding the kernel's filters so many times as long no ban of an administrator makes us do it again.
pub const KERNEL_PAUSES: u32 = 20;
/// Between two rebuildings of the kernel's filters, unless an administrator says something.
pub const KERNEL_REBUILD: Duration = Duration::from_millis(250);
/// The same when only the order of bans may have changed, and not all of them fit.
pub const KERNEL_REORDER: Duration = Duration::from_secs(5);

/// Outside numbers that are remembered of one user, so that to call them again is not to call a new one. When there are more,
/// those called longest ago go, one in [`DESTINATIONS_FORGOTTEN`] at once, and are new ones if he calls them again.
pub const DESTINATIONS_PER_USER_MAX: usize = 1_024;
/// The same of all users together, about 90 bytes each.
pub const DESTINATIONS_MAX: usize = 65_536;
/// See [`DESTINATIONS_PER_USER_MAX`]: to look for the one called longest ago takes a look at all.
pub const DESTINATIONS_FORGOTTEN: usize = 64;
/// Bytes of such a number (E.164 has 15 digits, before them stands what a carrier wants). A longer one is not remembered: each
/// call to it is one to a new number.
pub const DESTINATION_BYTES_MAX: usize = 32;

/// Changes of bindings that wait for the disk, about 600 bytes each. One more key is dropped and counted: the binding's
/// next refresh writes it again.
pub const STORE_BINDINGS_MAX: usize = 32_768;
/// Changes of bans that wait for the disk, about 300 bytes each. One more is dropped and counted; the ban itself holds
/// until a restart.
pub const STORE_BANS_MAX: usize = 32_768;
/// Changes of remembered outside numbers that wait for the disk, about 150 bytes each. One more is dropped and counted; the
/// number itself is remembered until a restart.
pub const STORE_DESTINATIONS_MAX: usize = 16_384;
/// Users who have dialled something for their calls: one for each user that there may be.
pub const FEATURES_MAX: usize = 100_000;
/// Users whose dialled features wait for the disk, about 100 bytes each. Those of one more are not kept.
pub const STORE_FEATURES_MAX: usize = 16_384;
/// Changes of [`LETTERS_MAX`] that wait for the disk. One more is dropped and counted: after a restart one that was delivered may
/// come once more, or one that was not is gone.
pub const STORE_MESSAGES_MAX: usize = 8 * LETTERS_MAX;
/// Call records that wait for the disk, about 500 bytes each: a day of a full disk at 45 calls a minute. One more is
/// dropped and counted.
pub const STORE_RECORDS_MAX: usize = 65_536;
/// Queries of call records that wait for their thread. One more is refused as busy.
pub const STORE_QUERIES_MAX: usize = 16;
/// Call records in one page.
pub const CDR_PAGE_MAX: usize = 1_000;

/// Completed transactions: 32 for each call of `calls_max`, but at least this many. The oldest goes first.
pub const COMPLETED_TRANSACTIONS_MIN: usize = 65_536;
/// Bytes of their final responses.
pub const COMPLETED_BYTES_MAX: usize = 32 << 20;
/// Live transactions for each call of `calls_max` (two legs, some branches) beside a fixed reserve of 4,096.
pub const TRANSACTIONS_PER_CALL: usize = 8;

/// Bytes of the responses that live server transactions keep, for each transaction that there may be: an ordinary one has
/// less, and a peer who fills his requests with Via lines, which the response repeats, fills no more than this of the
/// memory. While more is kept no server transaction begins: a new call gets 503, without one.
pub const RESPONSE_BYTES_PER_TRANSACTION: usize = 2048;

/// Bytes of one chunk of the ring of completed transactions: the longest message and its flow fit. An idle server keeps
/// one, a busy one [`COMPLETED_BYTES_MAX`] of them.
pub const COMPLETED_CHUNK_BYTES: usize = 128 << 10;
/// Buffers that the transaction table keeps for reuse, so that an ordinary transaction costs no allocation.
pub const TRANSACTION_BUFFERS_MAX: usize = 256;
/// Bytes of such a buffer; a longer one is freed instead. Most messages fit, and all of them are 512 KiB.
pub const TRANSACTION_BUFFER_BYTES_MAX: usize = 2048;

/// Calls that are over but for a phone that is silent (64·T1 each), for each call of `calls_max` beside a fixed reserve of
/// 64. They do not count against new calls; of one more the oldest is forgotten: whoever was silent until then is not told
/// again that it is over.
pub const ENDED_PER_CALL: usize = 4;

/// So many timers of calls are armed before anybody looks for those that are waited for no longer, 40 bytes each. With more,
/// they are twice as many at most as calls that are up or ring wait for.
pub const CALL_TIMERS_MIN: usize = 1_024;

/// Branches of one call: all that it ever rings, at once or one after the other.
pub const BRANCHES_MAX: usize = 64;
/// How often a call is sent on, by users or their phones. One more time it is not.
pub const FORWARDS_MAX: usize = 10;
/// Callee dialogs of one branch, where a proxy behind it forks. Provisional responses of one more are not taken part in.
pub const EARLY_DIALOGS_MAX: usize = 32;
/// Callee dialogs of one call, those of all its branches: as many as tags can tell apart, but a few.
pub const CALLEE_LEGS_MAX: usize = 120;

/// Bytes of a Reason that a call record keeps, and the log says.
pub const CALL_REASON_BYTES_MAX: usize = 256;
/// Bytes of the header lines that are kept for the other side: those of a callee's refusal, or of a BYE (Reason, `X-`). With
/// more he is told without them.
pub const CARRIED_BYTES_MAX: usize = 2_048;

/// MESSAGEs outside dialogs that wait for an answer, about 1 KiB each and a transaction for each phone. One more: 503.
pub const PAGES_MAX: usize = 1_024;
/// The same of one sender: a user or a trunk.
pub const PAGES_PER_SENDER_MAX: usize = 64;
/// How long the sender of such a MESSAGE waits while a phone answers nothing: he himself gives up at 64·T1 (RFC 3261
/// §17.1.2.2), and an answer after that would be none (RFC 4320 §1).
pub const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// MESSAGEs that wait for users who are not there (`store_messages`). One more gets 480, as if nothing were stored: none that was
/// accepted goes for it.
pub const LETTERS_MAX: usize = 2_048;
/// The same of one user.
pub const LETTERS_PER_USER_MAX: usize = 64;
/// The same that one sender has waiting: a user, or all behind a trunk or line. More than a group has members.
pub const LETTERS_PER_SENDER_MAX: usize = 64;
/// The same for one user.
pub const LETTERS_PER_PAIR_MAX: usize = 16;
/// Bytes of one of them: body, header lines that go with it, From and To. With what a phone's own address, Via and the like add
/// that is a request of 1,300 bytes (RFC 3428 §8), which is one datagram: a longer one may never reach a phone over UDP. It is not
/// kept, and gets 480.
pub const LETTER_BYTES_MAX: usize = 900;
/// Bytes that tell one of them from others: its sender's name, Call-ID, CSeq number and From tag. With more of them it is not kept.
pub const LETTER_NAME_BYTES_MAX: usize = 512;
/// How often one is tried before it goes behind the others of its user.
pub const LETTER_TRIES: u32 = 3;
/// One to which no phone has said anything so often, and which is [`LETTER_SILENT_AGE`] old, goes, and the log says so.
pub const LETTER_SILENCES_MAX: u32 = 10;
/// See [`LETTER_SILENCES_MAX`].
pub const LETTER_SILENT_AGE: Duration = Duration::from_secs(86_400);
/// How long one waits; then it goes, and the log says so.
pub const LETTER_AGE_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Between two looks at which of them are over.
pub const LETTER_SWEEP: Duration = Duration::from_secs(3_600);
/// A user by address who did not take one and is heard from is tried again after so long at the earliest. (Others register first.)
pub const LETTER_RETRY: Duration = Duration::from_secs(60);

/// Subscriptions of all users, about 1 KiB each. One more: 503.
pub const SUBSCRIPTIONS_MAX: usize = 16_384;
/// Subscriptions of one user, over all his phones. One more: 503.
pub const SUBSCRIPTIONS_PER_USER_MAX: usize = 128;
/// Subscriptions of all users that nothing but a datagram's address has asked for, and no NOTIFY has been accepted for. One
/// more: 503.
pub const SUBSCRIPTIONS_UNPROVEN_MAX: usize = SUBSCRIPTIONS_MAX / 4;
/// The same of one user. A phone's lamp keys are subscribed to in one go, so it is not less. One more: 503.
pub const SUBSCRIPTIONS_UNPROVEN_PER_USER_MAX: usize = SUBSCRIPTIONS_PER_USER_MAX / 2;
/// Bytes of what is kept of a SUBSCRIBE: identities, Contact, Record-Route, Event. An ordinary one has about 300. One
/// more: 513.
pub const SUBSCRIPTION_BYTES_MAX: usize = 4_096;
/// The shortest subscription; a shorter one gets 423.
pub const SUBSCRIPTION_MIN: Duration = Duration::from_secs(60);
/// The longest subscription, and that of a SUBSCRIBE that does not say (RFC 3842 §3.4).
pub const SUBSCRIPTION_MAX: Duration = Duration::from_secs(3_600);

/// Calls that a NOTIFY to a lamp key lists. More are not shown: the key is lit anyway, and the message stays one datagram.
pub const LAMP_DIALOGS_MAX: usize = 3;
/// NOTIFYs in a second that tell a lamp key of changes. What changes beyond is told at the end of the second.
pub const LAMP_CHANGES_MAX: u32 = 4;

/// Contacts of one 3xx that are followed. Those beyond are not; [`BRANCHES_MAX`] holds for all that a call ever rings.
pub const REDIRECT_CONTACTS_MAX: usize = 8;

/// Members of one ringing group in config.ini. One more is a mistake.
pub const GROUP_MEMBERS_MAX: usize = 32;

/// Targets of one route in config.ini. One more is a mistake.
pub const ROUTE_TARGETS_MAX: usize = 16;
/// Servers of our kind that a call may have passed, or this one so often, with another question each time: as many hops as
/// Max-Forwards allows. One more: 483.
pub const PASSED_MAX: usize = 70;
/// Addresses of one line that a call tries: each takes a while to be given up, and what the route names next is to have its
/// turn before the caller hangs up.
pub const LINE_WAYS_MAX: usize = 4;
/// Addresses that one call by a route may try: those of its trunks, and of the trunks that are `next` to these. Those beyond
/// are not tried; nor does a call ever have more than [`BRANCHES_MAX`] branches.
pub const HOPS_MAX: usize = 16;
/// How long a trunk may say nothing at all to an INVITE, not even 100, before the next one is tried instead: over UDP it was
/// sent four times by then (0, 0.5, 1.5, 3.5 s), and an answer to the last has had longer than any round trip. Where there is
/// no next one it has 64·T1, as everybody.
pub const TRUNK_SILENCE: Duration = Duration::from_secs(5);

/// How long an address that is asked by OPTIONS whether it can be reached has for its answer: over UDP it was sent five times
/// by then (0, 0.5, 1.5, 3.5, 7.5 s), and two questions to one that is dead do not meet.
pub const REACH_ANSWER: Duration = Duration::from_secs(8);
/// One that has not answered is asked again after these times, then as often as any other: a server that restarts is back
/// within seconds, and one that is gone for good costs five datagrams every half minute.
pub const REACH_DOWN: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];
/// Between the first questions to different addresses, so that a thousand of them are asked in half a minute.
pub const REACH_SPACING: Duration = Duration::from_millis(30);
/// Questions that wait for their answer at a time, a transaction each. One more waits until one of them has ended: a thousand
/// dead addresses still have their turn every 40 s.
pub const REACH_ASKED_MAX: usize = 256;
/// The failure of an address that is never asked is forgotten after so long: nothing else would tell that it is back.
pub const REACH_FORGET: Duration = Duration::from_secs(60);
/// An address is left alone no longer than this, whatever its Retry-After says.
pub const REACH_HOLD_MAX: Duration = Duration::from_secs(3_600);

/// Bytes of a session description that is kept because a refresh may have to offer it again, on each leg. A browser's has
/// about 6,000. A longer one is not kept, and the refresh is an UPDATE even to a phone that does not know it.
pub const DESCRIPTION_BYTES_MAX: usize = 8_192;

/// What is waited after a line's first failed registration; twice as long after each further one ...
pub const LINE_BACKOFF_MIN: Duration = Duration::from_secs(5);
/// ... up to this.
pub const LINE_BACKOFF_MAX: Duration = Duration::from_secs(1_800);
/// The longest that a registrar's Retry-After is obeyed.
pub const LINE_RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// The shortest time for which a registration counts, whatever its registrar says: refreshing it more often would be a
/// flood.
pub const LINE_GRANT_MIN: Duration = Duration::from_secs(20);
/// The longest.
pub const LINE_GRANT_MAX: Duration = Duration::from_secs(7 * 86_400);
/// So many lines begin to register at once ...
pub const LINE_ATTEMPTS_AT_ONCE: u32 = 10;
/// ... and then one each so often: a thousand lines of one carrier take a minute and a half.
pub const LINE_ATTEMPTS_EVERY: Duration = Duration::from_millis(100);
/// A line that somebody asks to register again does so no earlier than this after its last attempt.
pub const LINE_HURRY: Duration = Duration::from_secs(5);
/// A line whose server's name is being asked for waits for the answer, but looks again after this.
pub const LINE_POSTPONED: Duration = Duration::from_secs(600);
/// A registration that lost its connection within this time counts as a failure, so that a peer who closes every connection is
/// asked ever more rarely.
pub const LINE_SETTLED: Duration = Duration::from_secs(60);
/// Requests of one attempt to one address that carry an answer to a challenge: the first, and one more for a nonce that was
/// too old or for a proxy.
pub const LINE_ANSWERS_MAX: u8 = 2;
/// Addresses of one line's registrar that are remembered as asked in vain since it was registered last. A name that leads to
/// still more of them makes nobody hurry.
pub const LINE_ASKED_MAX: usize = 64;
/// A REGISTER whose transaction says nothing by then is given up: longer than 64·T1.
pub const LINE_ATTEMPT_MAX: Duration = Duration::from_secs(70);
/// Lines that are gone from the file and still to be de-registered. Of one more the first is forgotten.
pub const LINES_LEAVING_MAX: usize = 1_024;
/// Bytes of a Service-Route, which every call repeats, and of a public identity. A longer one is left out.
pub const LINE_ROUTE_BYTES_MAX: usize = 1_024;
/// Bytes of a registrar's reason phrase that people are shown.
pub const LINE_REASON_BYTES_MAX: usize = 120;
/// Challenges that are remembered of one line's peer: those of a registrar, of a proxy before it, and the same for calls. The
/// oldest goes.
pub const LINE_CHALLENGES_MAX: usize = 4;
/// Bytes of realm, nonce, opaque and qop of such a challenge, which every request repeats. A longer one is not answered.
pub const LINE_CHALLENGE_BYTES_MAX: usize = 1_024;

/// Connections in all from sources that have not authenticated.
pub const CONNECTIONS_UNAUTHENTICATED_MAX: usize = 512;
/// Connections from one such source.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 16;
/// An unauthenticated connection that says nothing for this long is closed.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(10);

/// Bytes of one binding's texts together: Contact URI and parameters, Path, Call-ID, User-Agent. An ordinary phone has about 150; ten bindings
/// of this length still fit the datagram that lists them. One more: the REGISTER is refused with 403.
pub const BINDING_BYTES_MAX: usize = 4_096;
/// Bytes of the Contact lines that answer a REGISTER: they fit a datagram with the rest. A REGISTER after which there would be more: 403.
pub const LISTED_CONTACTS_BYTES_MAX: usize = 49_152;
/// Contacts in one REGISTER, removals included, unless `bindings_per_user_max` is larger. One more: 403.
pub const CONTACTS_MAX: usize = 64;
/// Contacts of one message that are read at all: each costs much more than the four bytes that it may be written in. More than
/// any REGISTER may have. One more: a request gets 400, of a response it is left out.
pub const MESSAGE_CONTACTS_MAX: usize = 128;
/// Connections in all, those of authenticated peers included. About 1 KiB each while idle. One more is refused.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Bytes that wait to be written to one connection. A peer that takes no more is closed.
pub const CONNECTION_OUT_BYTES_MAX: usize = 256 << 10;
/// The same for a connection whose peer has not authenticated: it is owed challenges and refusals only.
pub const STRANGER_OUT_BYTES_MAX: usize = 64 << 10;
/// A connection that we open and that is not established by then is given up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What waits for a connection that is being closed must be written, and then read by its peer, within this time each.
pub const CONNECTION_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Without a file descriptor left, nothing is accepted for this long.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Addresses in `[server] listen`. One more is refused at start.
pub const LISTEN_MAX: usize = 128;
/// A stopping server gives its calls this long to say goodbye ...
pub const STOP_CALLS: Duration = Duration::from_millis(3_500);
/// ... and has stopped by then, the state file written.
pub const STOP_TOTAL: Duration = Duration::from_millis(4_800);
/// Bytes of one HTTP request, head and body. A longer one gets 413 or 431 and is closed.
pub const HTTP_REQUEST_BYTES_MAX: usize = 64 << 10;
/// HTTP connections. At the bound the one that waits longest for a request is closed.
pub const HTTP_CONNECTIONS_MAX: usize = 32;
/// For a request to come whole, for its answer to be taken, and between two requests.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// Items in one page of a list, unless `limit` says otherwise.
pub const PAGE_DEFAULT: usize = 100;
/// The largest `limit`.
pub const PAGE_MAX: usize = 1_000;

/// Names that are asked about at a time (RFC 3263), each on a socket of its own. One more waits until one of them is
/// answered.
pub const NAME_QUERIES_MAX: usize = 64;
/// Answers that are remembered. The one used longest ago goes.
pub const NAME_CACHE_ENTRIES_MAX: usize = 1_024;
/// Bytes of them together. The same.
pub const NAME_CACHE_BYTES_MAX: usize = 1 << 20;
/// Records of one answer that are read. A longer answer counts as none.
pub const NAME_RECORDS_READ_MAX: usize = 256;
/// Records of one answer that are remembered: the first ones.
pub const NAME_RECORDS_MAX: usize = 32;
/// Aliases (CNAME) on the way from one name to its records.
pub const NAME_ALIASES_MAX: usize = 8;
/// Hosts of one domain that are asked for addresses: the first ones in order.
pub const NAME_HOSTS_MAX: usize = 16;
/// Candidates of one domain: the first ones in order.
pub const NAME_CANDIDATES_MAX: usize = 32;
/// An answer holds at least so long, so that it can be used at all, ...
pub const NAME_TTL_MIN: Duration = Duration::from_secs(5);
/// ... and no longer than this.
pub const NAME_TTL_MAX: Duration = Duration::from_secs(86_400);
/// How long there is nothing if nobody says so (RFC 2308 §5), ...
pub const NAME_NEGATIVE_TTL: Duration = Duration::from_secs(60);
/// ... and at most, whoever says more.
pub const NAME_NEGATIVE_TTL_MAX: Duration = Duration::from_secs(900);
/// Nobody answered: not asked again so soon (RFC 8767 §5).
pub const NAME_RETRY: Duration = Duration::from_secs(30);
/// While nobody answers, the last answer holds so long beyond its time (RFC 8767 §5: one to three days).
pub const NAME_STALE: Duration = Duration::from_secs(3 * 86_400);
/// An answer whose time is over is used nevertheless when no new one has come by then (RFC 8767 §5).
pub const NAME_STALE_AFTER: Duration = Duration::from_millis(1_800);
/// Datagrams on the socket of a query that do not answer it: after so many it is asked by TCP, where nobody can guess.
pub const NAME_WRONG_ANSWERS_MAX: u32 = 8;
/// Addresses that did not work lately. The one whose time is over first goes.
pub const NAME_FAILED_MAX: usize = 256;
/// An address that did not work is tried after all others for so long, ...
pub const NAME_FAILED_HOLD: Duration = Duration::from_secs(60);
/// ... and no longer than this, whatever its Retry-After says.
pub const NAME_FAILED_HOLD_MAX: Duration = Duration::from_secs(3_600);
/// Name servers of resolv.conf(5) (`MAXNS`).
pub const NAME_SERVERS_MAX: usize = 3;
/// Names of `/etc/hosts`; further ones are asked of name servers.
pub const HOSTS_NAMES_MAX: usize = 16_384;
/// Bytes that are read of `/etc/resolv.conf` and of `/etc/hosts`.
pub const NAME_FILE_BYTES_MAX: usize = 1 << 20;
/// Between two looks at whether these files have changed.
pub const NAME_FILES_EVERY: Duration = Duration::from_secs(30);
/// Names of the configuration that are being resolved at a time. Each asks about five things, so the queries suffice.
pub const PLACES_ASKED_MAX: usize = 12;
const _: () = assert!(PLACES_ASKED_MAX * 5 <= NAME_QUERIES_MAX);
/// An address that a name no longer leads to still counts as that name's for so long: as a registration lasts, whose calls
/// come from there.
pub const PLACE_ADDRESSES_HOLD: Duration = Duration::from_secs(3_600);
/// Addresses of a name with those. The ones that are gone longest are left out.
pub const PLACE_ADDRESSES_MAX: usize = 64;

/// Keep-alives a second to all phones behind a NAT together, 46 bytes each on the wire. With more phones than fit each has its
/// own more rarely.
pub const NAT_KEEPALIVES_PER_SECOND: usize = 1_000;

/// `m=` lines of a session description that is relayed; a video conference has about 5. An offer with more is refused where it
/// would have to be relayed, and passed on as it is elsewhere.
pub const SDP_STREAMS_MAX: usize = 16;
/// Lines of such a description; that video conference has about 300, with a hundred candidates. One with more is not read, as one with
/// too many streams: each is looked at three times over, however short it is.
pub const SDP_LINES_MAX: usize = 1_000;

/// Streams of a session description that are relayed, each with four ports and sockets for each branch: audio, video, slides
/// and a fax. The others are refused.
pub const RELAYED_STREAMS_MAX: usize = 4;

/// Of all pairs of ports for media, the part that one user's ringing calls may have: one INVITE to a large group takes two
/// pairs for each stream and member.
pub const RINGING_PAIRS_PART: usize = 8;
/// What they may have in any case: a group of 32 with audio.
pub const RINGING_PAIRS_MIN: usize = 64;
