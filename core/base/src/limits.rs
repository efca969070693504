//! Every ceiling that a peer can hit, with its reason. What is configurable takes its default from here.
//!
//! Units come last in the name. A new limit goes here and nowhere else: a test reads the other files for `_MAX`.

use std::time::Duration;

// ---- names

/// An address of record; RFC 4475 §3.1.1.7 tries a user part of 1 KiB on us, keys should stay far below.
pub const AOR_BYTES_MAX: usize = 512;

// ---- SIP

/// A SIP message on a stream, head and body: a page message of the largest size and its head.
pub const SIP_MESSAGE_BYTES_MAX: usize = 65_535;
/// The head of a SIP message: what does not fit is no request of a sane client (cut off on streams, dropped on UDP).
pub const SIP_HEAD_BYTES_MAX: usize = 16_384;
/// Header fields of one message, comma-joined ones counted once.
pub const SIP_FIELDS_MAX: usize = 96;
/// A Request-URI (RFC 3261 §21.4.12 answers 414).
pub const SIP_URI_BYTES_MAX: usize = 1_024;
/// Largest datagram received; above it the kernel cuts, and we drop what was cut.
pub const DATAGRAM_BYTES_MAX: usize = 65_535;
/// RFC 3261 §18.1.1: above this a request of our own goes by a congestion controlled transport.
pub const DATAGRAM_REQUEST_BYTES_MAX: usize = 1_300;
/// Max-Forwards of requests that we make, and the most that we pass on (RFC 3261 §8.1.1.6).
pub const MAX_FORWARDS: u8 = 70;
/// Branches that a request may have at once where it does not say (RFC 5393 §5.3.3), and the most that we make.
pub const MAX_BREADTH: usize = 60;

// ---- page mode

/// Default of `[limits] message_bytes`: the body of a page message.
pub const PAGE_BODY_BYTES_MAX: usize = 16_384;
/// Default of `[deferred] messages_per_user`: letters that wait for one user.
pub const LETTERS_PER_USER_MAX: u32 = 1_000;
/// Default of `[deferred] bytes_per_user`: their octets together.
pub const LETTER_BYTES_PER_USER_MAX: u64 = 4 << 20;
/// Default of `[deferred] expiry`, seconds: how long a letter waits when its sender names no time.
pub const LETTER_EXPIRY_S: u64 = 7 * 24 * 3_600;
/// How long a seen message id is remembered (decisions D3).
pub const SEEN_EXPIRY_S: u64 = 600;
/// A receiver who is silent this long counts as away (decisions D4).
pub const SILENCE: Duration = Duration::from_secs(10);
/// RFC 4320 §2.2: what comes after the sender's timer F (32 s) is useless; what is left of it is for repeats on the way.
pub const ANSWER_BY: Duration = Duration::from_secs(25);
/// Headers of one message/cpim that are read.
pub const CPIM_HEADERS_MAX: usize = 64;
/// Elements of an XML document in a message (IMDN, is-composing) that are read.
pub const XML_ELEMENTS_MAX: usize = 128;
/// How deep they may stand in each other.
pub const XML_DEPTH_MAX: usize = 16;
/// First pause before a letter is tried again while a binding stands; doubles up to [`LETTER_RETRY_MAX`] (D4).
pub const LETTER_RETRY_MIN: Duration = Duration::from_secs(30);
/// Longest such pause.
pub const LETTER_RETRY_MAX: Duration = Duration::from_secs(600);

// ---- MSRP

/// The head of an MSRP request or response: two long paths and a dozen headers; what does not fit is no peer of ours.
pub const MSRP_HEAD_BYTES_MAX: usize = 16_384;
/// A transaction id or a Message-ID (RFC 4975 §9 `ident`).
pub const MSRP_IDENT_BYTES_MAX: usize = 32;
/// What of a body may have to wait for the rest of an end-line: CRLF, seven hyphens, the id, the flag, CR (RFC 4975 §9).
pub const MSRP_HELD_BACK_BYTES_MAX: usize = 2 + 7 + MSRP_IDENT_BYTES_MAX + 1 + 1;
/// One MSRP URI: a host name of 255 octets, a user, a session id.
pub const MSRP_URI_BYTES_MAX: usize = 1_024;
/// URIs of one path: an endpoint, and the relays of both domains (RFC 4976).
pub const MSRP_PATH_URIS_MAX: usize = 8;
/// The body of a request that is no SEND (RFC 4975 §7.1).
pub const MSRP_REQUEST_BODY_BYTES_MAX: usize = 10_240;
/// A larger body must be interruptible, a smaller piece should not be cut (RFC 4975 §7.1.1).
pub const MSRP_UNCUT_BYTES_MAX: usize = 2_048;
/// SENDs of one connection whose responses are due; past it further ones go on, and nobody is told if they are refused.
pub const MSRP_AWAITED_MAX: usize = 16_384;
/// How long a response to a SEND may take after its last octet has left (RFC 4975 §7.1.1).
pub const MSRP_RESPONSE_TIME_MAX: Duration = Duration::from_secs(30);
/// Separate ranges of one message that are remembered: a message whose pieces come in worse disorder is refused.
pub const MSRP_RANGES_MAX: usize = 1_024;
/// Messages that an endpoint puts together at once; a further one is refused with 413.
pub const MSRP_PARTIALS_MAX: usize = 64;
/// Default of what an endpoint keeps in memory of one message, and of all unfinished ones together.
pub const MSRP_MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// A message that an endpoint writes into a file as it comes: a film of an hour. Whoever is sent more answers 413.
pub const MSRP_FILE_BYTES_MAX: u64 = 1 << 30;
/// A message that an endpoint with files holds in memory all the same, since it is to be shown or acted on: a long text.
pub const MSRP_SHOWN_BYTES_MAX: u64 = 1 << 20;
/// The name of a file that somebody sends, before its extension: with what is put around it, file systems take 255
/// octets. What is longer is cut.
pub const FILE_NAME_BYTES_MAX: usize = 180;
/// The extension of such a name with its dot: what is longer is none.
pub const FILE_EXTENSION_BYTES_MAX: usize = 16;
/// An unfinished message of which no piece has come for so long is given up; RFC 4975 names no time.
pub const MSRP_MESSAGE_TIME_MAX: Duration = Duration::from_secs(120);
/// A chunk that has begun and does not go on holds its connection this long at most.
pub const MSRP_STALL_MAX: Duration = Duration::from_secs(120);
/// Octets that one read of an MSRP connection takes: more gains nothing on small chunks and loses on large ones.
pub const MSRP_READ_BYTES: usize = 65_536;

// ---- sessions

/// Default of `[im] session_idle`: a session in which nothing is said ends after this.
pub const SESSION_IDLE: Duration = Duration::from_secs(1_800);
/// Default of `[im] session_timer`: the session interval that we ask for (RFC 4028 §4 advises it).
pub const SESSION_TIMER: Duration = Duration::from_secs(1_800);
/// Default of `[im] session_timer_min`: the shortest session interval; 422 below. RFC 4028 §4 allows no less.
pub const SESSION_TIMER_MIN: Duration = Duration::from_secs(90);
/// How long a callee's phones may ring in all before the caller hears 480; above the 3 minutes of RFC 3261 §16.6.
pub const SESSION_RING_TIME_MAX: Duration = Duration::from_secs(240);
/// How long the callee's actor may take to say where the callee is; then 503.
pub const SESSION_LOCATE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long an accepted session may wait for both MSRP connections (decisions D9).
pub const SESSION_BIND_TIME_MAX: Duration = Duration::from_secs(30);
/// Sessions of one shard, those included whose transactions still linger; then 503.
pub const SESSIONS_PER_SHARD_MAX: usize = 32_768;
/// Peers behind one contact whose provisional responses are acknowledged (RFC 3262): a fork has several.
pub const FORKS_MAX: usize = 8;
/// Sessions that one user holds, called or taken: far more than anybody follows. A caller above it is told 503, who calls
/// somebody above it 486.
pub const SESSIONS_PER_USER_MAX: usize = 128;
/// Phones that one INVITE rings at once or one after another; the losers are those of the lowest q.
pub const SESSION_FORKS_MAX: usize = 16;
/// INVITEs of one session that are served or remembered for their repeats; above it a re-INVITE is told 500 (RFC 3261
/// §14.2): a session is refreshed every minute and a half at most, and each is remembered for 32 s.
pub const SESSION_SERVING_MAX: usize = 16;
/// Inputs that wait for one session's actor; then the sender is told 503.
pub const SESSION_MAILBOX_MAX: usize = 64;

// ---- SDP

/// A session description: a dozen media lines with all their attributes.
pub const SDP_BYTES_MAX: usize = 16_384;
/// Its media lines.
pub const SDP_MEDIA_MAX: usize = 32;

// ---- registration

/// Contacts of one user.
pub const BINDINGS_PER_USER_MAX: usize = 10;
/// Longest binding, seconds; more is shortened (RFC 3261 §10.3 step 7).
pub const BINDING_EXPIRY_S_MAX: u32 = 3_600 * 24;
/// Binding when the client names no time, seconds (RFC 3261 §10.2.1.1).
pub const BINDING_EXPIRY_S_DEFAULT: u32 = 3_600;
/// A Contact URI with its parameters.
pub const CONTACT_BYTES_MAX: usize = 1_024;

/// What `Flow-Timer` tells clients on connections, seconds: how long a flow may be silent (RFC 5626 §4.4). Far below
/// [`IDLE_CONNECTION_MAX`], so that only the silent are cut off.
pub const FLOW_TIMER_S: u32 = 120;
/// Subscriptions to one user's registrations; then 503.
pub const WATCHERS_PER_USER_MAX: usize = 16;
/// Contacts that changed and are not told yet, for each of them; the oldest is lost.
pub const REG_CHANGES_MAX: usize = 64;
/// A subscription to a registration whose subscriber names no time, seconds (RFC 3680 §4.4).
pub const REG_EXPIRY_S_DEFAULT: u32 = 3_761;
/// The shortest one, seconds; 423 below.
pub const REG_EXPIRY_S_MIN: u32 = 60;
/// The longest one, seconds; more is shortened.
pub const REG_EXPIRY_S_MAX: u32 = 3_600 * 24;

// ---- other domains

/// Records of one DNS answer that are looked at; a domain with more servers needs no more of them tried.
pub const DNS_RECORDS_MAX: usize = 16;
/// Addresses of one host that are tried.
pub const DNS_ADDRESSES_MAX: usize = 8;
/// Questions that the search for one place may ask: a NAPTR, its SRVs, two for each host.
pub const DNS_QUESTIONS_MAX: usize = 80;
/// One question, all its repeats and servers included; then it counts as not answered.
pub const DNS_QUESTION_TIME_MAX: Duration = Duration::from_secs(3);
/// Responses of name servers that are remembered; the loser is the one that was used least.
pub const DNS_CACHE_MAX: u64 = 16_384;
/// An answer is believed no longer than this, whatever it says: so soon is found again who has moved his servers.
pub const DNS_TTL_MAX: Duration = Duration::from_secs(3_600);
/// That a name does not exist is believed no longer than this (RFC 2308 §5 allows three hours).
pub const DNS_NEGATIVE_TTL_MAX: Duration = Duration::from_secs(300);
/// What nobody could answer is not asked again for so long (RFC 2308 §7.1 allows five minutes).
pub const DNS_FAILURE_TTL: Duration = Duration::from_secs(5);
/// The whole search for one place: well before the sender's patience ends, see [`SILENCE`].
pub const LOCATE_TIME_MAX: Duration = Duration::from_secs(8);
/// Searches at once; a further one is refused.
pub const LOCATE_FLIGHTS_MAX: usize = 512;
/// Who waits for one of them; a further one is refused.
pub const LOCATE_WAITERS_MAX: usize = 1_024;
/// Questions that wait for the locator's actor; then they are refused.
pub const LOCATOR_MAILBOX_MAX: usize = 4_096;
/// Places and numbers whose outcome is remembered; the loser is the oldest.
pub const LOCATED_MAX: usize = 16_384;
/// Targets of one place that a request may try.
pub const TARGETS_MAX: usize = 16;
/// A target that failed is set aside for so long; doubles up to [`TARGET_ASIDE_MAX`] while it goes on failing.
pub const TARGET_ASIDE_MIN: Duration = Duration::from_secs(5);
/// Longest such pause, and the most of a Retry-After that is obeyed.
pub const TARGET_ASIDE_MAX: Duration = Duration::from_secs(300);
/// After its pause one request tries it; others do too if nothing is known of that after this.
pub const TARGET_PROBE_TIME_MAX: Duration = Duration::from_secs(10);
/// Failed targets that are remembered; the loser is whose pause ends first.
pub const TARGETS_ASIDE_MAX: usize = 4_096;
/// Rules without a URI that may lead on to each other (RFC 6116 §5.2.1).
pub const ENUM_CHAIN_MAX: usize = 5;
/// Questions that the search for one number may ask.
pub const ENUM_QUESTIONS_MAX: usize = 12;
/// URIs of one number that are handed out.
pub const ENUM_URIS_MAX: usize = 8;
/// The compiled form of a rule's regular expression: what needs more is no rule about digits.
pub const ENUM_PROGRAM_BYTES_MAX: usize = 65_536;

// ---- transactions

/// Relayed and served transactions kept at once in all stripes; the loser is the oldest answered one.
pub const TRANSACTIONS_MAX: usize = 4_000_000;
/// Stripes of the transaction table: each a lock of its own.
pub const STRIPES: usize = 64;

// ---- identity

/// How long a nonce serves (decisions D6).
pub const NONCE_LIFE: Duration = Duration::from_secs(300);
/// Nonces whose counts are remembered; who is evicted gets `stale=true`.
pub const NONCES_MAX: usize = 65_536;

// ---- actors

/// Inputs that wait for one user's actor; then the sender is told 503.
pub const USER_MAILBOX_MAX: usize = 256;
/// Requests that wait while a user's state is loaded; then 503 (decisions D19).
pub const LOADING_WAITERS_MAX: usize = 128;
/// Offers that wait at a shard's nursery, in batches; then 503.
pub const NURSERY_MAILBOX_MAX: usize = 1_024;
/// Active users a shard; above it new ones wait for others to leave: 503.
pub const ACTIVE_USERS_PER_SHARD_MAX: usize = 1_000_000;
/// A user's actor with nothing to do leaves after this.
pub const USER_IDLE: Duration = Duration::from_secs(30);
/// The longest turn an actor should take (decisions D15); longer ones are counted and shown.
pub const TURN_MAX: Duration = Duration::from_micros(100);

// ---- connections

/// Octets that wait for one connection's socket; past it the reader that caused them stops reading, and a sender that
/// cannot stop (an actor) loses the message.
pub const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// Connections of all listeners together: below the 20,000 files a process may commonly open.
pub const CONNECTIONS_MAX: usize = 18_000;
/// Connections of one source address.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 16_000;
/// A connection that has sent the beginning of a message has this long to send the rest of its head.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection over which nothing whole has ever come is closed after this.
pub const SILENT_CONNECTION_MAX: Duration = Duration::from_secs(60);
/// A connection that carried something is kept this long without any octet (RFC 5626 asks clients to ping sooner).
pub const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(1_800);
/// How long we try to open a connection of our own.
pub const DIAL_TIME_MAX: Duration = Duration::from_secs(5);
/// Datagrams read or written by one system call.
pub const DATAGRAM_BATCH: usize = 64;
/// Batches read before the task yields.
pub const BATCHES_PER_TURN: usize = 4;
/// Datagrams that actors of one shard may leave for one socket between two flushes; the loser is the newest.
pub const DATAGRAMS_QUEUED_MAX: usize = 65_536;
/// Requests without credentials that one source address may send in a second before they are dropped.
pub const CHALLENGES_PER_SOURCE_PER_S_MAX: u32 = 10_000;
/// Source addresses whose rate is remembered; fixed memory, the least recent leaves.
pub const SOURCES_MAX: usize = 65_536;

// ---- store

/// Commits that one batch of the writer takes (decisions D21).
pub const COMMIT_BATCH_MAX: usize = 512;
/// Commits that wait for the writer; then 503.
pub const COMMIT_QUEUE_MAX: usize = 16_384;
/// A commit whose outcome is not known after this counts as failed (decisions D22).
pub const COMMIT_TIME_MAX: Duration = Duration::from_secs(10);
/// Reads that wait for a reader thread; then 503.
pub const READ_QUEUE_MAX: usize = 16_384;
/// One stored value.
pub const RECORD_BYTES_MAX: usize = 512 * 1024;
/// Letters that a user's actor holds in memory at once.
pub const LETTERS_IN_HAND_MAX: usize = 16;

// ---- admin port

/// Connections of the admin port; further ones wait in the kernel's queue.
pub const ADMIN_CONNECTIONS_MAX: usize = 256;
/// A log filter is one line.
pub const LOG_FILTER_BYTES_MAX: usize = 4_096;
/// A line of a user file.
pub const IMPORT_LINE_BYTES_MAX: usize = 16_384;
/// A password or a login name.
pub const SECRET_BYTES_MAX: usize = 256;
/// Body of an admin request: an array of users is the largest.
pub const ADMIN_BODY_BYTES_MAX: usize = 16 << 20;
/// Children of one node that `/tree` names; the others are counted.
pub const TREE_CHILDREN_SHOWN_MAX: usize = 100;
