//! Every number that can be turned, and every limit.
//! Knows nothing of files or flags. Each default says where it comes from.

use std::time::Duration;

/// Limits that are part of the format: every peer must agree on them.
pub mod limits {
    /// Bytes of one letter's payload (DESIGN 3.1).
    pub const LETTER_BYTES: usize = 256 * 1024;
    /// Recipients of one letter (DESIGN 3.1).
    pub const RECIPIENTS: usize = 1_000;
    /// Size times recipients of one letter, in bytes (DESIGN 3.1).
    pub const LETTER_BYTES_TIMES_RECIPIENTS: usize = 16 * 1024 * 1024;
    /// Envelopes of one bundle (DESIGN 3.3).
    pub const BUNDLE_ENVELOPES: usize = 64;
    /// Bytes of the envelopes of one bundle (DESIGN 3.3).
    pub const BUNDLE_BYTES: usize = 320 * 1024;
    /// Bytes of one sealed bundle: full of envelopes, with its contact and signatures (guess: 32 KiB are enough for those).
    pub const SEALED_BYTES: usize = BUNDLE_BYTES + 32 * 1024;
    /// Bundle ids of one frame: 32 bytes each, so that lists stay small beside what they list (guess).
    pub const BUNDLE_IDS: usize = 1_024;
    /// Bytes of one frame: the largest order, with room for what is around it.
    pub const FRAME_BYTES: usize = 6 * 1024 * 1024;
    /// Bundles, contacts or ranges of one frame (guess: a page of contacts is then about 30 KiB).
    pub const PAGE: usize = 128;
    /// Letter ids that count as one item of a page: they are 20 bytes each where a contact has 300.
    pub const IDS_PER_ITEM: usize = 32;
    /// How far above the author's floor a number may be (research/reliability.md 4.1: 10^6).
    pub const AHEAD: u64 = 1 << 20;
    /// The greatest number of a letter: far beyond any use, and far from where arithmetic ends.
    pub const NUMBER_MAX: u64 = 1 << 62;
    /// Bytes of the contacts of one page, but at least one contact (guess: as much as is written at once).
    pub const PAGE_BYTES: usize = 64 * 1024;
    /// Ranges in which an author's letters may be scattered; a letter that would begin another waits for those between
    /// (guess: an honest author's letters are one range, and a few while some are on their way).
    pub const PIECES: usize = 1_024;
    /// Bytes of entries in one record segment, about, so that every segment fits a frame.
    pub const SEGMENT_BYTES: usize = 256 * 1024;
    /// Segments of one frame (measured: about 300 bytes each when little happens).
    pub const SEGMENTS: usize = 1_024;
    /// Bytes of the segments of one frame, but at least one segment.
    pub const SEGMENTS_BYTES: usize = 256 * 1024;
    /// Bytes of an envelope's type word (guess: twice the longest we have).
    pub const KIND_BYTES: usize = 32;
    /// Bytes of an idempotency key (guess: a UUID, a path or a URL fits).
    pub const KEY_BYTES: usize = 256;
    /// Beacons of the listener in one hello: its latest, and the last of another start of it.
    pub const YOURS: usize = 2;
    /// Starts that a node remembers of itself (guess: a backup older than that is told by its record).
    pub const STARTS: usize = 64;
    /// Former memories that a node remembers (guess: nobody puts back as many backups while somebody remembers the first of them).
    pub const EPOCHS: usize = 64;
    /// Bytes of a signed card: 16 addresses of 300 bytes, and the rest (research/libp2p.md, table: values in Kademlia).
    pub const CONTACT_BYTES: usize = 8 * 1024;
    /// Bytes of the gossiped frame that carries a beacon or a claim (measured: about 330).
    pub const GOSSIP_BYTES: usize = 2048;
    /// Units of one order (DESIGN 6).
    pub const ORDER_UNITS: usize = 100_000;
    /// Bytes of all items of one order (DESIGN 6).
    pub const ORDER_ITEMS_BYTES: usize = 4 * 1024 * 1024;
    /// Arguments of one order (guess: what no person types, and few programs need).
    pub const ORDER_ARGS: usize = 10_000;
    /// Bytes of all arguments of one order (guess: an eighth of what Linux gives a program, of which the environment takes some).
    pub const ORDER_ARGS_BYTES: usize = 256 * 1024;
    /// Bytes of one argument or item, with its closing NUL (Linux: MAX_ARG_STRLEN, 32 pages).
    pub const ORDER_ARG_BYTES: usize = 128 * 1024;
    /// Bytes of an order's standard input (guess: beside the items in one frame).
    pub const ORDER_STDIN_BYTES: usize = 1024 * 1024;
    /// Bytes of orders in one frame beyond which it does not go by the urgent stream (DESIGN 8: 64 KiB are written at once).
    pub const URGENT_BYTES: usize = 64 * 1024;
    /// Services of one worker (DESIGN 6).
    pub const SERVICES: usize = 64;
    /// Slots of one service (guess: more than a machine runs at once).
    pub const SLOTS: u32 = 4_096;
    /// Bytes of what a service says about itself (guess: a line of text).
    pub const ABOUT_BYTES: usize = 256;
    /// Logical CPUs that a unit may ask for (guess: more than one machine has).
    pub const CORES: u32 = 65_536;
    /// Bytes of memory that a unit may ask for (guess: more than one machine has).
    pub const MEMORY_BYTES: u64 = 1 << 60;
    /// Words of software that one order or offer names (guess).
    pub const SOFTWARE: usize = 16;
    /// Bytes of one such word (guess: a name and a version).
    pub const SOFTWARE_BYTES: usize = 64;
    /// Bytes of each output that travel with a report (DESIGN 6).
    pub const EXCERPT_BYTES: usize = 32 * 1024;
    /// Bytes of each output that a worker keeps (DESIGN 6).
    pub const OUTPUT_BYTES: usize = 1024 * 1024;
    /// How long an order may be given to end (a hundred years: no clock overflows, and nobody means more).
    pub const ORDER_EXPIRES: std::time::Duration = std::time::Duration::from_secs(100 * 366 * 86_400);
    /// Bytes of an output in one frame (guess: a tenth of a second of a slow link).
    pub const OUTPUT_PAGE: usize = 256 * 1024;
    /// Bytes of a reason (guess: a line).
    pub const WHY_BYTES: usize = 512;
    /// Bytes of what a program says about its progress (guess: a line).
    pub const NOTE_BYTES: usize = 128;
    /// Items of one word about orders and tasks (guess: about 200 bytes each).
    pub const WORDS: usize = 1_024;
    /// Peers that would take over from the leader (DESIGN 6.1).
    pub const STANDBYS: usize = 2;
    /// Numbers of units that count as one item of a page.
    pub const UNITS_PER_ITEM: usize = 1_024;
    /// How far above the known term a claim may be (DESIGN 6.1).
    pub const TERMS_AHEAD: u64 = 1 << 20;
}

/// What one participant may be told about its own behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The swarm's name; part of every signature.
    pub swarm: String,
    /// Time between beacons (DESIGN 5).
    pub beacon_interval: Duration,
    /// Beacons a second of all peers together at which intervals stretch (DESIGN 5).
    pub beacons_per_second: u32,
    /// Missed beacons after which a peer is not available (DESIGN 5).
    pub missed_unavailable: u32,
    /// Missed beacons after which a peer is gone (DESIGN 5) …
    pub missed_gone: u32,
    /// … but never before this (DESIGN 5).
    pub gone_at_least: Duration,
    /// A delay of our own beyond which we judge nobody … (DESIGN 5)
    pub stalled_after: Duration,
    /// … for this long (DESIGN 5).
    pub stalled_grace: Duration,
    /// Time between two repetitions of an unanswered hello (guess).
    pub hello_interval: Duration,
    /// Least time between two hellos to one peer, whoever asks for them (guess).
    pub hello_least: Duration,
    /// Least time between two answers to what was not understood: two versions must not talk about it for ever (guess).
    pub unsupported_interval: Duration,
    /// Time before the first exchange of peer lists with a new neighbour, so that direct greetings come first (guess).
    pub first_exchange: Duration,
    /// Least time between two exchanges of peer lists (measured: at 2 s, who missed somebody in a start of 50 asked in vain too
    /// often to meet everybody in 5 s; lists that taught nothing are left alone).
    pub exchange_interval: Duration,
    /// Time between two writes of "last seen" for a peer that stays (guess: loses at most this much on a crash).
    pub last_seen_interval: Duration,
    /// Peers remembered; beyond it nobody is added (DESIGN 1: tested with 100, simulated beyond).
    pub peers: usize,
    /// Peers remembered when the next is one that was never met: the rest is for those who come themselves (guess).
    pub peers_unmet: usize,
    /// Bytes of bundles sent to one peer and not yet receipted (guess: half of what the network layer queues).
    pub window_bytes: usize,
    /// First wait for a receipt before a bundle is sent again …
    pub resend_first: Duration,
    /// … doubling up to this (DESIGN 4: not reachable after 2 s).
    pub resend_most: Duration,
    /// Wait after the network refused a frame because its queue was full (guess: a queue drains in less).
    pub refused_wait: Duration,
    /// Letters accepted and not yet receipted by all (measured: about 60 bytes of memory each).
    pub outbox_letters: u64,
    /// Unreceipted bytes on disk (guess).
    pub outbox_bytes: u64,
    /// Bytes of letters that wait for the first bearer of a name (guess: they are kept in memory).
    pub later_bytes: u64,
    /// Unread bytes of one author beyond which its letters stay with it (guess: as much as a node may have waiting for others; who reads
    /// makes room).
    pub inbox_bytes_author: u64,
    /// How long a recipient that does not take letters is left alone before it is asked again (guess: a user changes his mind, or
    /// makes room).
    pub denied_for: Duration,
    /// How long a gap holds the display of later letters (DESIGN 3.2).
    pub gap_wait: Duration,
    /// Letters of one author and epoch held back by a gap, at most; beyond it the gap is shown at once (twice what fits
    /// `window_bytes` in the shortest letters, of about 250 bytes; each takes about 100 bytes of memory here).
    pub held_letters: usize,
    /// Machines that hold each bundle for an absent recipient (DESIGN 4: R).
    pub custodians: usize,
    /// How long letters to somebody connected go without any receipt before custodians get them too (DESIGN 4).
    pub deposit_after: Duration,
    /// Bytes deposited with one custodian and not yet acknowledged (guess: as `window_bytes`).
    pub deposit_window: usize,
    /// How long an acknowledgement is waited for before the next closest is asked too (guess: a flush takes milliseconds).
    pub deposit_patience: Duration,
    /// How long a custodian that refused is not asked again for the same recipient (guess: room comes back slowly).
    pub refused_for: Duration,
    /// After this silence a custodian is replaced (DESIGN 4).
    pub custodian_silent: Duration,
    /// Time between two comparisons of what custodians hold (DESIGN 4) …
    pub custody_interval: Duration,
    /// … and the wait for the first after somebody came or went (DESIGN 4).
    pub custody_settle: Duration,
    /// Time between two offers to a recipient who is here and has not fetched its mail (guess: an offer may have been lost).
    pub offer_interval: Duration,
    /// How long a node that stops in order waits for others to take over what it holds (guess: they fetch in milliseconds).
    pub hand_over_most: Duration,
    /// How long closer custodians must have held a bundle before one that is not among them lets go (DESIGN 4).
    pub handed_over_after: Duration,
    /// Bytes held for others in all (guess: what a small disk can spare) …
    pub custody_bytes: u64,
    /// … of one depositor (guess: a quarter, so that no one peer can push out the rest) …
    pub custody_bytes_depositor: u64,
    /// … for one recipient (guess: half).
    pub custody_bytes_recipient: u64,
    /// Bundles held for others in all (measured: about 300 bytes of memory each).
    pub custody_bundles: u64,
    /// Receipts held for absent authors, of one recipient (guess: each replaces the one before it).
    pub custody_receipts: usize,
    /// Bundles remembered as released, so that they are not fetched again; in memory only (DESIGN 4: tombstones save traffic).
    pub tombstones: usize,
    /// Bytes fetched from one custodian at a time (guess: a second of a slow link).
    pub fetch_window: u64,
    /// How long a custodian is waited for before another is asked (guess: its disk takes milliseconds).
    pub fetch_patience: Duration,
    /// Epochs of one author that are remembered with a stream each; more are refused (guess: a node mints few in its life).
    pub epochs_per_author: usize,
    /// Read ranges told to an author: the highest ones (guess; a person reads in order).
    pub read_ranges: usize,
    /// Time between two record entries of one cause of refusal (DESIGN 7).
    pub refusal_interval: Duration,
    /// Time between two claims of a leader (DESIGN 6.1).
    pub claim_interval: Duration,
    /// Silence after which a leader is suspected (DESIGN 6.1).
    pub leader_silent: Duration,
    /// How long a node listens after its start before it may lead (DESIGN 6.1).
    pub listen: Duration,
    /// How long the answers of those who are asked about a silent leader are waited for (DESIGN 6.1: within 1 s).
    pub probe_patience: Duration,
    /// How long each candidate waits for those before it (DESIGN 6.1).
    pub rank_step: Duration,
    /// How long a new claim waits for a greater one before its leader acts (DESIGN 6.1).
    pub settle: Duration,
    /// How long a new leader waits for workers to report before it places older orders (DESIGN 6.1).
    pub gate: Duration,
    /// How long a standby may take for a copy before it is replaced (DESIGN 6.1) …
    pub standby_patience: Duration,
    /// … and for how long it is not named again (guess: a disk that hangs does not recover in a second).
    pub standby_shunned: Duration,
    /// How long copies wait that nobody waits for (as changes that nobody is told of wait for the next commit).
    pub standby_gather: Duration,
    /// How long copies of what the leader has stay with who is no standby any more (guess: a few claims may be lost).
    pub copies_kept: Duration,
    /// How long an assignment or an order goes unanswered before it is sent again (guess: a flush and a round trip are milliseconds).
    pub work_patience: Duration,
    /// How long a worker may be silent before what it runs is tried elsewhere (DESIGN 6).
    pub lost_after: Duration,
    /// Attempts whose process died after which nobody tries again (DESIGN 6; HyperQueue's crash limit).
    pub attempts: u32,
    /// Units that wait at a worker for each slot of a short service at least (DESIGN 6) …
    pub prefetch: u32,
    /// … and at most, where they are so short that no more than [`Config::prefetch_work`] waits (measured: an order that does
    /// nothing takes microseconds, its way there and back two commits; with 4 a slot a worker of 8 slots had nothing to do most of the time).
    pub prefetch_most: u32,
    /// How short a service must be for that (DESIGN 6).
    pub short: Duration,
    /// Work that waits there for each slot, about (guess: what a person does not see, and time for many units to share a commit).
    pub prefetch_work: Duration,
    /// A run that takes so long is not short, this once: where no other of its service goes on, what waits behind it is given back (guess:
    /// four times [`Config::short`], and twice what may wait for a slot, so that a machine that is slow for a moment is waited for).
    pub overdue: Duration,
    /// How long a worker that declined is not asked again for the same service (guess: it tells of what changes).
    pub declined_for: Duration,
    /// How long a report waits for its orderer before it also goes as a letter (DESIGN 4: not reachable after 2 s).
    pub report_letter_after: Duration,
    /// How long a node that stops in order waits for its tasks to end: SIGTERM, 5 s, SIGKILL (DESIGN 6, 10.1), and a flush.
    pub stop_tasks_most: Duration,
    /// Orders of this node that have not ended (guess: as for letters, with more memory each).
    pub open_orders: u64,
    /// Bytes of them, kept in memory (guess: with [`Config::queue_bytes`] well below what a node may take, `net::Limits`).
    pub open_order_bytes: u64,
    /// Orders that a leader holds (guess: about 1 KiB of memory each).
    pub queue_orders: u64,
    /// Bytes of them (guess).
    pub queue_bytes: u64,
    /// How long answers to a question are waited for (DESIGN 6: 300 ms).
    pub question_patience: Duration,
    /// Questions that wait for answers (guess: as many as the API has connections, and more).
    pub questions: usize,
    /// A letter to an id that nobody has told of waits so long for its card to be found (guess: a lookup among 100 takes a tenth).
    pub contact_patience: Duration,
    /// Ids looked for at a time (guess: more are letters to the wrong list).
    pub contacts_sought: usize,
    /// Services whose providers are looked for at a time (guess: as many as the API has connections).
    pub lookups: usize,
    /// Least time between two pages of what this node writes down, to whoever keeps the record (guess: an entry is then there within a
    /// second, and a busy node tells hundreds at once).
    pub record_interval: Duration,
    /// How long a page of the record is waited for before it is asked of another (guess: its disk takes milliseconds).
    pub record_patience: Duration,
    /// How long a peer is not asked again for what it did not send, or sent falsely (guess).
    pub record_shun: Duration,
    /// Pages of the record that are asked for at a time: as many are in memory at most, of 256 KiB each (guess).
    pub record_pulls: usize,
    /// Providers of one service that are asked (as many as the swarm is told of by whoever keeps adverts: `node::net`, 128 a key).
    pub lookup_named: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            swarm: "lan".to_owned(),
            beacon_interval: Duration::from_secs(2),
            beacons_per_second: 200,
            missed_unavailable: 3,
            missed_gone: 5,
            gone_at_least: Duration::from_secs(10),
            stalled_after: Duration::from_secs(1),
            stalled_grace: Duration::from_secs(3),
            hello_interval: Duration::from_secs(2),
            hello_least: Duration::from_millis(200),
            unsupported_interval: Duration::from_secs(10),
            first_exchange: Duration::from_millis(300),
            exchange_interval: Duration::from_millis(500),
            last_seen_interval: Duration::from_secs(60),
            peers: 10_000,
            peers_unmet: 8_000,
            window_bytes: 4 * 1024 * 1024,
            resend_first: Duration::from_secs(2),
            resend_most: Duration::from_secs(30),
            refused_wait: Duration::from_millis(200),
            outbox_letters: 1_000_000,
            outbox_bytes: 1024 * 1024 * 1024,
            later_bytes: 32 * 1024 * 1024,
            inbox_bytes_author: 1024 * 1024 * 1024,
            denied_for: Duration::from_secs(20),
            gap_wait: Duration::from_secs(10),
            held_letters: 32_768,
            custodians: 3,
            deposit_after: Duration::from_secs(2),
            deposit_window: 4 * 1024 * 1024,
            deposit_patience: Duration::from_secs(3),
            refused_for: Duration::from_secs(60),
            custodian_silent: Duration::from_secs(120),
            custody_interval: Duration::from_secs(60),
            custody_settle: Duration::from_secs(30),
            offer_interval: Duration::from_secs(10),
            hand_over_most: Duration::from_secs(3),
            handed_over_after: Duration::from_secs(15 * 60),
            custody_bytes: 1024 * 1024 * 1024,
            custody_bytes_depositor: 256 * 1024 * 1024,
            custody_bytes_recipient: 512 * 1024 * 1024,
            custody_bundles: 200_000,
            custody_receipts: 1_000,
            tombstones: 50_000,
            fetch_window: 2 * 1024 * 1024,
            fetch_patience: Duration::from_secs(3),
            epochs_per_author: 1_000,
            read_ranges: 256,
            refusal_interval: Duration::from_secs(1),
            claim_interval: Duration::from_secs(1),
            leader_silent: Duration::from_secs(3),
            listen: Duration::from_secs(1),
            probe_patience: Duration::from_secs(1),
            rank_step: Duration::from_millis(150),
            settle: Duration::from_millis(300),
            gate: Duration::from_secs(2),
            standby_patience: Duration::from_millis(500),
            standby_shunned: Duration::from_secs(10),
            standby_gather: Duration::from_millis(20),
            copies_kept: Duration::from_secs(10),
            work_patience: Duration::from_secs(2),
            lost_after: Duration::from_secs(30),
            attempts: 5,
            prefetch: 4,
            prefetch_most: 64,
            short: Duration::from_millis(50),
            prefetch_work: Duration::from_millis(100),
            overdue: Duration::from_millis(200),
            declined_for: Duration::from_secs(1),
            report_letter_after: Duration::from_secs(2),
            stop_tasks_most: Duration::from_secs(6),
            open_orders: 100_000,
            open_order_bytes: 64 * 1024 * 1024,
            queue_orders: 200_000,
            queue_bytes: 128 * 1024 * 1024,
            question_patience: Duration::from_millis(300),
            questions: 256,
            contact_patience: Duration::from_secs(2),
            contacts_sought: 64,
            record_interval: Duration::from_millis(250),
            record_patience: Duration::from_secs(3),
            record_shun: Duration::from_secs(10),
            record_pulls: 16,
            lookups: 64,
            lookup_named: 128,
        }
    }
}
