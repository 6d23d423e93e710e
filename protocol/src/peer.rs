//! One participant: the page on which the machines hang together.

mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;

use crate::beacon::{Beacon, Statistics};
use crate::bundle::Contents;
use crate::config::Config;
use crate::contact::Contact;
use crate::custody::Custody;
use crate::edge::Cause;
use crate::effect::{Answer, Change, Effect, Kept, Notice, OrderState, Out, Refusal, Say};
use crate::envelope::Kind;
use crate::id::{BundleId, Epoch, KeyId, MachineId, RequestId};
use crate::inbox::{Entered, Inbox, Shown};
use crate::input::{Command, Disk, Heard, Input, NewLetter, Recall, Recalled, Said};
use crate::logger::Logger;
use crate::mail::{Denial, Mailbox, Reason, Slot};
use crate::message::Lane;
use crate::myself::{Myself, Shown as Mine};
use crate::name::{Addressee, PeerName};
use crate::now::{Now, Timestamp};
use crate::order::{Fence, Try};
use crate::outbox::{Outbox, Recipient};
use crate::pickup::Pickup;
use crate::placement::Candidate;
use crate::presence::{Fact, Presence, Told};
use crate::receipt::Receipt;
use crate::record::Record;
use crate::returns::Returns;
use crate::search::Search;
use crate::segment::What;
use crate::service::{Offering, Services};
use crate::work::Full;
use tasks::Tasks;

/// Who a participant is: what its key file and its machine say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: PeerId,
    /// Its name if its disk remembers none.
    pub name: PeerName,
    /// Its machine.
    pub machine: MachineId,
    /// Its public encryption key.
    pub encryption_key: [u8; 32],
    /// Names that key.
    pub key: KeyId,
}

/// When a peer wants to be called again, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// At this time, on the clock of [`Now::mono`].
    pub at: Duration,
    /// What is due then.
    pub reason: &'static str,
}

/// What a peer knows, for faces and checkers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Itself.
    pub id: PeerId,
    /// Its name.
    pub name: PeerName,
    /// Its memory.
    pub epoch: Epoch,
    /// How often it was started.
    pub boot: u64,
    /// Signals that letters and tasks are welcome.
    pub available: bool,
    /// Signals that letters may not be read soon.
    pub inactive: bool,
    /// Another process with the same key is running: no letters are taken or sent until this one is started again alone.
    pub cloned: bool,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// All other peers ever heard of, by id.
    pub peers: Vec<PeerStatus>,
    /// Letters accepted here and not yet receipted by all.
    pub outbox_letters: u64,
    /// Bytes of bundles that wait for receipts.
    pub outbox_bytes: u64,
    /// Bundles held here for others.
    pub held_bundles: u64,
    /// Their bytes.
    pub held_bytes: u64,
    /// The sequence of the next record entry.
    pub next_entry: u64,
    /// The next inbox number.
    pub next_n: u64,
    /// Room on the disk.
    pub disk: Disk,
    /// What was refused since the start, by cause.
    pub refused: BTreeMap<Cause, u64>,
    /// Who leads; none while nobody does.
    pub leader: Option<LeaderStatus>,
    /// What this node offers and does.
    pub worker: WorkerStatus,
    /// CPU and memory of this machine.
    pub statistics: Statistics,
    /// Orders of this node that have not ended.
    pub open_orders: u64,
    /// Orders in the queue here, if this node leads.
    pub queued_orders: u64,
}

/// What a peer knows of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub id: PeerId,
    /// As it is called.
    pub name: PeerName,
    /// Connected, heard from, and not signalled otherwise.
    pub available: bool,
    /// Connected and heard from: letters can be sent, if it wants them.
    pub reachable: bool,
    /// A connection is up.
    pub connected: bool,
    /// Signals that it takes letters; the last it said.
    pub welcomes: bool,
    /// Signals that it may not read soon; the last it said.
    pub inactive: bool,
    /// It says that it runs twice with one key: it takes and sends no letters.
    pub cloned: bool,
    /// Its machine; that of another node, or this one, if they share their addresses.
    pub machine: MachineId,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// When anyone in reach first heard of it.
    pub first_seen: Timestamp,
    /// When anyone in reach last heard it.
    pub last_seen: Timestamp,
    /// Letters to it that wait for its receipt.
    pub waiting: u64,
    /// Why custodians do not hold them, if some do not.
    pub reasons: BTreeSet<Reason>,
    /// What it offers, as it told this node last.
    pub services: Services,
    /// CPU and memory, as its last beacon had it.
    pub statistics: Statistics,
    /// Why it takes none of them, if it said so.
    pub denial: Option<Denial>,
    /// This node takes nothing from it.
    pub blocked: bool,
}

/// An order of this node that has not ended, as its own node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderView {
    /// How far it is.
    pub state: OrderState,
    /// The leader on whose disk it is; none while it is here only.
    pub queued: Option<Fence>,
    /// Why the leader does not take it.
    pub not_queued: Option<Full>,
    /// Units that are known to run.
    pub running: Vec<RunningView>,
}

/// A unit that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningView {
    /// Which try.
    pub of: Try,
    /// With whom.
    pub worker: PeerId,
    /// For how long, as far as this node knows.
    pub for_: Duration,
    /// Steps done, of how many, and the program's words.
    pub progress: Option<(u64, u64, String)>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderStatus {
    /// Term and leader.
    pub fence: Fence,
    /// For how long, by its own word.
    pub for_: Duration,
    /// Who would take over.
    pub standbys: Vec<PeerId>,
}

/// What this node does as a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its services, with how each is run; and units of each that run and that wait here.
    pub offers: Vec<(Offering, u32, u32)>,
    /// Units that run, those of withdrawn services included …
    pub running: u32,
    /// … and that wait here.
    pub queued: u32,
    /// It finishes what runs and takes nothing new.
    pub draining: bool,
}

/// One participant.
#[derive(Debug)]
pub struct Peer {
    config: Config,
    rng: ChaCha8Rng,
    myself: Myself,
    presence: Presence,
    outbox: Outbox,
    inbox: Inbox,
    custody: Custody,
    pickup: Pickup,
    returns: Returns,
    tasks: Tasks,
    search: Search,
    record: Record,
    logger: Logger,
    disk: Disk,
    started: bool,
    leaving: bool,
    /// Who asked it to leave, until others have taken over what it holds, or until then.
    handing_over: Option<(Vec<RequestId>, Duration)>,
    /// From whom nothing is taken.
    blocked: BTreeSet<PeerId>,
    /// Authors whose letters were not taken in this batch, and why.
    denied: BTreeMap<PeerId, Denial>,
    /// What was due when the last batch was closed.
    due: Option<Duration>,
    /// The time of the last input.
    heard: Now,
}

impl Peer {
    /// A participant as its disk remembers it. `rng` must be seeded from true randomness, or from the simulator's seed.
    #[must_use]
    pub fn new(identity: Identity, config: Config, mut rng: ChaCha8Rng, mut kept: Kept, now: Now) -> Peer {
        let Identity { id, machine, .. } = identity;
        let record_number = kept.head.map_or(0, |head| head.number);
        let myself = Myself::new(identity, &config, kept.me.take(), record_number, &mut rng, now);
        let tasks = Tasks::new(myself.identity(), myself.facts().boot, &config, &mut kept, now);
        let inbox = Inbox::new(id, &config, kept.in_streams, kept.recent, kept.next_n, now);
        Peer {
            presence: Presence::new(id, machine, &config, kept.known, now),
            outbox: Outbox::new(id, &config, kept.out_streams, kept.bundles, kept.waiting, kept.next_letter, now),
            custody: Custody::new(id, &config, kept.held, kept.receipts, now),
            pickup: Pickup::new(id, &config),
            search: Search::new(&config),
            returns: Returns::new(&config, inbox.places(), now),
            tasks,
            inbox,
            logger: Logger::new(id, &config, kept.own_chains, kept.copies),
            record: Record::new(id, myself.facts().chain, kept.head, config.refusal_interval),
            myself,
            config,
            rng,
            disk: Disk::Enough,
            started: false,
            leaving: false,
            handing_over: None,
            blocked: kept.blocked,
            denied: BTreeMap::new(),
            due: None,
            heard: now,
        }
    }

    /// Takes one fact and says what to do. Cannot fail, cannot wait, asks nobody.
    #[must_use]
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        self.heard = now;
        let mut out = self.open_work();
        if !std::mem::replace(&mut self.started, true) {
            self.myself.started(&mut out);
            if self.myself.facts().restored {
                self.on_put_back(now, &mut out);
            }
            // A name may have been found, and the node killed before its letters got their numbers.
            self.find_bearers();
        }
        match input {
            Input::Tick => self.close(now, &mut out),
            Input::PeerSeen { peer, address } => {
                let facts = self.presence.on_seen(peer, address, now);
                self.spread(facts, now, &mut out);
            }
            Input::PeerLost { peer } => {
                let facts = self.presence.on_lost(peer, now, &mut out);
                self.spread(facts, now, &mut out);
            }
            Input::Listening { addresses } => {
                self.presence.on_listening(&addresses);
                if self.myself.on_listening(addresses) {
                    self.myself.beacon_soon(now);
                }
            }
            Input::Arrived { from, said } => self.on_arrived(from, *said, now, &mut out),
            Input::Heard { token, beacon, .. } => {
                let (verdict, facts) = self.presence.on_gossip(beacon, now, &mut out);
                out.effects.push(Effect::Judge { token, verdict });
                self.settle(facts, now, &mut out);
            }
            Input::Refused { from, cause } => {
                self.record.on_refused(cause);
                if matches!(cause, Cause::Version | Cause::Malformed) && self.presence.may_tell_unsupported(from, now) {
                    out.send(from, Say::Unsupported { what: cause.as_str().to_owned() });
                }
            }
            Input::Sealed { draft, bundle } => {
                let bundle = bundle.expect("cards that nothing can be sealed to are refused at the edge");
                self.outbox.on_sealed(draft, bundle, now, &mut out);
            }
            Input::SendFailed { to, lane } => {
                match lane {
                    Lane::Bulk => {
                        self.outbox.on_send_failed(to, now);
                        self.logger.on_send_failed(to, now);
                    }
                    Lane::Urgent => {
                        self.inbox.on_send_failed(to, now);
                        self.custody.on_send_failed(to, now);
                    }
                }
                self.on_work_failed(to, now);
            }
            work @ (Input::ClaimHeard { .. }
            | Input::TaskProgressed { .. }
            | Input::TaskEnded { .. }
            | Input::OutputRead { .. }
            | Input::LogRead { .. }
            | Input::ProvidersNamed { .. }) => {
                self.on_task_input(work, now, &mut out);
            }
            Input::RecordOverdue(pruned) => self.logger.on_overdue(pruned, &mut out),
            Input::Recalled(recalled) => self.on_recalled(recalled, now, &mut out),
            Input::Asked { request, command } => self.on_asked(request, command, now, &mut out),
            Input::ContactSought { peer, found, ended } => {
                if let Some(contact) = found {
                    let told = Told { first_seen: now.wall, last_seen: None, met: false };
                    let facts = self.presence.learn(contact.value, contact.signed, told, now, &mut out);
                    self.settle(facts, now, &mut out);
                }
                if ended {
                    let letters = self.search.on_ended(&peer);
                    self.accept_now(letters, now, &mut out);
                }
            }
            Input::Measured { statistics, disk } => {
                self.myself.on_measured(statistics);
                self.tasks.worker.on_measured(statistics);
                self.disk = disk;
            }
        }
        self.settle_work(now, &mut out);
        self.tasks.keep_echoes(&mut out);
        // Entries wait in the record until the batch is closed.
        self.record.note(out.entries, now);
        out.effects
    }

    /// When to call again with [`Input::Tick`], and why. Calling earlier or later is harmless.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let due = |at: Option<Duration>, reason| at.map(|at| Deadline { at, reason });
        [
            due(Some(self.myself.deadline()), "beacon"),
            due(self.presence.deadline(), "presence"),
            due(self.outbox.deadline(), "letters to send again"),
            due(self.inbox.deadline(), "a gap in a conversation"),
            due(self.custody.deadline(), "mail held by several to be compared"),
            due(self.pickup.deadline(), "mail to fetch"),
            due(self.returns.deadline(), "receipts for who is away"),
            due(self.handing_over.as_ref().map(|(_, until)| *until), "the end of handing over"),
            due(self.search.deadline(), "a card that is looked for"),
            due(self.record.deadline(), "refusals to write down"),
            due(self.logger.deadline(), "segments of the record"),
        ]
        .into_iter()
        .chain(self.tasks.deadlines().into_iter().map(|(at, reason)| due(at, reason)))
        .flatten()
        .min_by_key(|deadline| deadline.at)
    }

    /// The sequence of the next entry of the record: grows with each commit that wrote something down.
    #[must_use]
    pub fn next_entry(&self) -> u64 {
        self.record.next_entry()
    }

    /// What this peer knows, for faces and checkers.
    #[must_use]
    pub fn status(&self) -> Status {
        let me = self.myself.facts();
        let waiting = self.outbox.waiting_for();
        let mut peers = self.presence.status(&self.presence.machines(self.outbox.custodians()));
        for peer in &mut peers {
            peer.waiting = waiting.get(&peer.id).copied().unwrap_or(0);
            peer.reasons = self.outbox.reasons(&peer.id);
            peer.services = self.tasks.services_of(&peer.id);
            peer.denial = self.outbox.denial(&peer.id);
            peer.blocked = self.blocked.contains(&peer.id);
        }
        Status {
            id: self.myself.identity().id,
            name: me.name.clone(),
            epoch: me.epoch,
            boot: me.boot,
            available: me.available,
            inactive: me.inactive,
            cloned: self.myself.is_cloned(),
            addresses: self.myself.listens_at().to_vec(),
            peers,
            outbox_letters: self.outbox.copies(),
            outbox_bytes: self.outbox.bytes(),
            held_bundles: self.custody.bundles(),
            held_bytes: self.custody.bytes(),
            next_entry: self.record.next_entry(),
            next_n: self.inbox.next_n(),
            disk: self.disk,
            refused: self.record.refusals(),
            leader: self.tasks.election.status(self.heard),
            worker: self.tasks.worker.status(),
            statistics: self.myself.statistics(),
            open_orders: self.tasks.orders.open(),
            queued_orders: if self.tasks.election.leads().is_some() { self.tasks.dispatcher.orders() } else { 0 },
        }
    }

    // -- who speaks

    fn on_arrived(&mut self, from: PeerId, said: Said, now: Now, out: &mut Out) {
        let facts = self.presence.on_heard(from, now, out);
        self.spread(facts, now, out);
        self.tasks.election.on_leader_spoke(from, now);
        match said {
            Said::Hello { contact, beacon, yours, answer } => {
                for mine in yours {
                    match self.myself.on_shown(&mine, now) {
                        Mine::Nothing => {}
                        Mine::JumpedBack => self.on_jumped_back(now, out),
                        Mine::Cloned => self.on_cloned(now, out),
                    }
                    if self.myself.supersede_card(&mine) {
                        self.myself.beacon_soon(now);
                    }
                }
                let facts = self.presence.on_hello(contact, beacon, answer, now, out);
                self.settle(facts, now, out);
            }
            Said::Beacon(beacon) => {
                let facts = self.presence.on_beacon_by_stream(beacon, now, out);
                self.settle(facts, now, out);
            }
            Said::Letters { bundle, contents, contact } => self.on_letters(bundle, contents, contact, now, out),
            Said::Receipt(receipt) => self.on_receipt(from, &receipt, now, out),
            Said::AskIds { epoch, numbers } => {
                if let Err(cause) = self.inbox.on_ask_ids(from, epoch, numbers, out) {
                    self.record.on_refused(cause);
                }
            }
            Said::Ids { epoch, ids } => {
                if let Err(cause) = self.outbox.on_ids(from, epoch, &ids, now, out) {
                    self.record.on_refused(cause);
                }
            }
            Said::AskPeers { after } => {
                if let Err(cause) = self.presence.on_ask_peers(from, after, now, out) {
                    self.record.on_refused(cause);
                }
            }
            Said::Peers { peers, more } => {
                let me = self.myself.identity().id;
                if let Some((mine, _)) = peers.iter().find(|(contact, _)| contact.id == me && *contact != self.myself.contact()) {
                    self.myself.on_own_card(mine.sequence);
                }
                let facts = self.presence.on_peers(from, peers, more, now, out);
                self.settle(facts, now, out);
            }
            said @ (Said::Deposit(_)
            | Said::AskHeld(_)
            | Said::Held { .. }
            | Said::Offers { .. }
            | Said::AskMail { .. }
            | Said::Mail { .. }
            | Said::Fetch(_)
            | Said::Release(_)
            | Said::Withdraw(_)
            | Said::KeepReceipt(_)
            | Said::ReceiptKept { .. }
            | Said::ReceiptTaken { .. }) => {
                if let Err(cause) = self.on_mail(from, said, now, out) {
                    self.record.on_refused(cause);
                }
            }
            Said::AskChains { ask, after } => self.logger.on_ask_chains(from, ask, after, out),
            Said::Chains { ask, chains, more } => {
                if let Err(cause) = self.logger.on_chains(from, ask, (chains, more), now, out) {
                    self.record.on_refused(cause);
                }
            }
            Said::AskSegments { author, chain, tip, after, follow } => {
                self.logger.on_ask_segments(from, (author, chain), tip, after, follow, out);
            }
            Said::Segments { author, chain, segments: Ok(pieces) } => self.logger.on_segments(from, author, chain, pieces, now, out),
            Said::Segments { author, chain, segments: Err(cause) } => {
                self.record.on_refused(cause);
                self.logger.on_false(from, author, chain, cause, now, out);
            }
            Said::Work(work) => {
                if let Err(cause) = self.hear(from, work, now, out) {
                    self.record.on_refused(cause);
                }
            }
            // A peer that is not known says it in vain: nothing is remembered of it.
            Said::Denied(why) if self.presence.is_reachable(&from) => self.outbox.on_denied(from, why, now, out),
            Said::Denied(_) => {}
            Said::Leaving => {
                let facts = self.presence.on_leaving(from, now, out);
                self.spread(facts, now, out);
            }
            // It speaks another version: that is its own record's matter too; here it is only counted.
            Said::Unsupported { .. } => self.record.on_refused(Cause::Version),
        }
    }

    fn on_receipt(&mut self, from: PeerId, receipt: &Receipt, now: Now, out: &mut Out) {
        let verdict = self.outbox.on_receipt(receipt, now, out);
        if from != receipt.recipient && self.outbox.has_settled(receipt) {
            // Kept for us by a custodian, who may let go of it once this is flushed.
            out.send(from, Say::ReceiptTaken { slot: Slot::of(receipt), number: receipt.number });
        }
        match verdict {
            Ok(false) => {}
            // It receipts what the other process with our key has written.
            Ok(true) if self.myself.is_cloned() => self.record.on_refused(Cause::Cloned),
            // Either it lies, or our memory jumped back: our own signature, which its hello brings, tells.
            Ok(true) => {
                self.record.on_refused(Cause::Unexpected);
                let fact = self.presence.greet(from, true, now);
                self.spread(fact.into_iter().collect(), now, out);
            }
            Err(cause) => self.record.on_refused(cause),
        }
    }

    /// What carriers say of mail.
    fn on_mail(&mut self, from: PeerId, said: Said, now: Now, out: &mut Out) -> Result<(), Cause> {
        let (presence, machine) = (&self.presence, self.myself.identity().machine);
        let most = self.config.custodians;
        let closest = |mailbox: &Mailbox| -> Vec<Candidate> { presence.custodians(mailbox).into_iter().take(most).collect() };
        match said {
            Said::Deposit(parcels) => {
                let (parcels, refused): (Vec<_>, Vec<_>) = parcels
                    .into_iter()
                    .partition(|parcel| !self.blocked.contains(&from) && !self.blocked.contains(&parcel.mailbox.depositor));
                refused.iter().for_each(|parcel| self.custody.refuse(from, parcel.id, Reason::Blocked));
                refused.iter().for_each(|_| self.record.on_refused(Cause::Blocked));
                let closed = match self.disk {
                    _ if self.leaving || self.myself.is_cloned() => Some(Reason::Leaving),
                    Disk::Low { .. } => Some(Reason::Disk),
                    Disk::Enough => None,
                };
                let ids: Vec<BundleId> = parcels.iter().map(|parcel| parcel.id).collect();
                self.custody.on_deposit(from, parcels, closed, now, out);
                ids.into_iter().for_each(|id| self.pickup.on_arrived(id, false, now, out));
            }
            Said::AskHeld(bundles) => self.custody.on_ask_held(from, bundles),
            Said::Held { epoch, bundles, refused, absent } => {
                let Some(contact) = self.presence.contact(&from) else { return Err(Cause::Unexpected) };
                // An acknowledgement under a memory that the custodian does not have any more is void.
                if self.presence.epoch(&from).is_some_and(|now| now != epoch) {
                    return Err(Cause::Unexpected);
                }
                self.outbox.on_held((from, contact.machine), epoch, &bundles, &refused, &absent, now, out);
                self.custody.on_held(from, epoch, &bundles, now);
                self.custody.on_absent(from, &absent);
                self.custody.on_confirmed(&bundles, closest, machine, now, out);
            }
            Said::Offers { offers, leaving } => {
                let me = self.myself.identity().id;
                // Who is about to leave does not count among the custodians any more.
                let closest = |mailbox: &Mailbox| -> Vec<Candidate> {
                    let all = presence.custodians(mailbox).into_iter();
                    all.filter(|other| !leaving || other.peer != from).take(most).collect()
                };
                let takes =
                    |depositor: &PeerId| *depositor != me && !self.blocked.contains(depositor) && !self.inbox.is_full_of(*depositor);
                for offer in offers.iter().filter(|offer| offer.count > 0 && takes(&offer.mailbox.depositor)) {
                    let wanted = if offer.mailbox.recipient == me {
                        self.myself.facts().available
                    } else {
                        self.custody.differs(offer) && closest(&offer.mailbox).iter().any(|candidate| candidate.peer == me)
                    };
                    if wanted && self.disk == Disk::Enough && !self.leaving && !self.myself.is_cloned() {
                        let direct = offer.mailbox.recipient == me && self.presence.is_reachable(&offer.mailbox.depositor);
                        self.pickup.on_offer(from, offer, direct, now, out);
                    }
                }
            }
            Said::AskMail { mailbox, after } => self.custody.on_ask_mail(from, mailbox, after, out)?,
            Said::Mail { mailbox, bundles, more } => {
                let custody = &self.custody;
                self.pickup.on_mail(from, mailbox, bundles, more, |id| custody.knows(id), now, out)?;
            }
            Said::Fetch(bundles) => self.custody.on_fetch(from, &bundles, out),
            Said::Release(release) => self.custody.on_release(&release, out)?,
            Said::Withdraw(bundles) => self.custody.on_withdraw(from, &bundles, out)?,
            Said::KeepReceipt(receipt) => {
                if self.blocked.contains(&from) {
                    return Err(Cause::Blocked);
                }
                if self.disk != Disk::Enough {
                    return Err(Cause::Full);
                }
                let author = receipt.value.author;
                let passed = self.presence.is_reachable(&author).then(|| receipt.signed.clone());
                self.custody.on_keep_receipt(from, receipt, out)?;
                if let Some(signed) = passed {
                    out.send(author, Say::PassReceipt(signed));
                }
            }
            Said::ReceiptKept { slot, number } => {
                if slot.recipient != self.myself.identity().id {
                    return Err(Cause::Unexpected);
                }
                self.returns.on_kept(from, (slot.author, slot.epoch), number);
            }
            Said::ReceiptTaken { slot, number } => self.custody.on_receipt_taken(from, slot, number, out)?,
            _ => return Err(Cause::Unexpected),
        }
        Ok(())
    }

    fn on_letters(&mut self, bundle: BundleId, contents: Contents, contact: Heard<Contact>, now: Now, out: &mut Out) {
        let author = contents.author;
        // Its voids say of letters that they will not come: they are signed for, so that their author need not wait.
        let letters = |contents: &Contents| contents.envelopes.iter().any(|envelope| envelope.kind != Kind::Void.as_str());
        if self.blocked.contains(&author) && letters(&contents) {
            self.denied.insert(author, Denial::Blocked);
            return self.record.on_refused(Cause::Blocked);
        }
        // A letter from a peer never seen before arrives with its name.
        let told = Told { first_seen: now.wall, last_seen: None, met: false };
        match self.presence.learn(contact.value, contact.signed, told, now, out) {
            Ok(facts) => self.spread(facts, now, out),
            // Who is not remembered cannot be answered: its letters stay with it.
            Err(cause) => return self.record.on_refused(cause),
        }
        if self.myself.is_cloned() {
            // Whichever of the two took it, the other would not have it, and its author would never know.
            self.record.on_refused(Cause::Cloned);
            return;
        }
        if matches!(self.disk, Disk::Low { .. }) {
            // Not taken and not receipted: its author keeps it and comes again.
            self.denied.insert(author, Denial::Disk);
            self.record.on_refused(Cause::Full);
            return;
        }
        if self.inbox.is_full_of(author) {
            self.denied.insert(author, Denial::Full);
            return self.record.on_refused(Cause::Full);
        }
        self.presence.on_letter(&author, now, out);
        match self.inbox.on_bundle(bundle, contents, now, out) {
            Ok(entered) => self.on_entered(entered, now, out),
            Err(cause) => self.record.on_refused(cause),
        }
    }

    fn on_entered(&mut self, entered: Entered, now: Now, out: &mut Out) {
        let Entered { shown, scattered, whole } = entered;
        self.tell_shown(shown, out);
        if scattered {
            self.record.on_refused(Cause::Full);
        }
        if let Some(bundle) = whole {
            self.pickup.on_committed(bundle, now, out);
        }
    }

    fn on_recalled(&mut self, recalled: Recalled, now: Now, out: &mut Out) {
        match recalled {
            Recalled::Letters { token, found } => {
                let entered = self.inbox.on_recalled(token, found, now, out);
                self.on_entered(entered, now, out);
            }
            Recalled::Failed(Recall::Letters { token, .. }) => self.inbox.on_recall_failed(token),
            Recalled::Written { token, found } => self.outbox.on_written(token, Some(&found), now, out),
            Recalled::Failed(Recall::Written { token, .. }) => self.outbox.on_written(token, None, now, out),
            Recalled::Segment { from, head, known } => self.logger.on_recalled(from, &head, known, out),
            Recalled::Failed(Recall::Segment { head, .. }) => self.logger.on_recall_failed(&head),
            recalled @ (Recalled::OrderKey { .. } | Recalled::Failed(Recall::OrderKey { .. })) => self.on_order_key(recalled, now, out),
            Recalled::Failed(Recall::Key { key }) => self.outbox.on_key_failed(&key, out),
            Recalled::Key { key, found } => {
                if let Some((request, letter)) = self.outbox.on_key(&key, found, out) {
                    self.accept(request, letter, now, out);
                }
            }
        }
    }

    // -- who asks

    fn on_asked(&mut self, request: RequestId, command: Command, now: Now, out: &mut Out) {
        let me = self.myself.facts();
        let (available, inactive) = (me.available, me.inactive);
        match command {
            Command::Send(letter) => {
                if let Some(letter) = self.outbox.ask(request, letter, out) {
                    self.accept(request, letter, now, out);
                }
                return;
            }
            Command::Discard(letter) => {
                if self.myself.is_cloned() {
                    return out.refuse(request, Refusal::Cloned);
                }
                return self.outbox.discard(request, &letter, now, out);
            }
            Command::MarkRead { letters } => self.inbox.mark_read(&letters, now, out),
            Command::SetAvailable(available) => self.signal(available, inactive, now, out),
            Command::SetInactive(inactive) => self.signal(available, inactive, now, out),
            Command::Block { peer, on } => {
                let new = if on { self.blocked.insert(peer) } else { self.blocked.remove(&peer) };
                if new {
                    out.store(Change::Blocked { peer, on });
                    out.note(What::Blocked { peer, on });
                    self.tasks.worker.block(peer, on, out);
                    if self.presence.is_reachable(&peer) {
                        out.send(peer, Say::Denied(on.then_some(Denial::Blocked)));
                    }
                }
            }
            Command::Rename(name) => {
                if self.myself.rename(name, out) {
                    self.myself.beacon_soon(now);
                }
            }
            command @ (Command::Order(_)
            | Command::Cancel(_)
            | Command::Offer(_)
            | Command::Withdraw(_)
            | Command::Drain(_)
            | Command::Transfer(_)
            | Command::FindProviders(_)
            | Command::Ask { .. }) => return self.on_task_command(request, command, now, out),
            Command::Leave => {
                self.begin_leaving(request, now, out);
                return;
            }
        }
        out.reply(request, Answer::Done);
    }

    /// Others take over what this node holds; then it says goodbye.
    fn begin_leaving(&mut self, request: RequestId, now: Now, out: &mut Out) {
        if let Some((requests, _)) = &mut self.handing_over {
            return requests.push(request);
        }
        if std::mem::replace(&mut self.leaving, true) {
            return out.reply(request, Answer::Done);
        }
        self.handing_over = Some((vec![request], now.mono + self.config.hand_over_most));
        self.leave_work(now, out);
        self.custody.hand_over(|mailbox| self.heirs(mailbox), out);
    }

    /// Says goodbye if what this node holds is with others, or if that takes too long.
    fn leave(&mut self, now: Now, out: &mut Out) {
        let Some((_, until)) = &self.handing_over else { return };
        let handed_over = *until <= now.mono || self.custody.is_handed_over(|mailbox| self.heirs(mailbox));
        if !handed_over || !self.has_stopped_work(now) {
            return;
        }
        let requests = self.handing_over.take().map(|(requests, _)| requests).unwrap_or_default();
        self.presence.leave(now, out);
        out.note(What::Stopped);
        requests.into_iter().for_each(|request| out.reply(request, Answer::Done));
    }

    /// The custodians of a mailbox when this node is gone.
    fn heirs(&self, mailbox: &Mailbox) -> Vec<Candidate> {
        let id = self.myself.identity().id;
        let others = self.presence.custodians(mailbox).into_iter().filter(|other| other.peer != id);
        others.take(self.config.custodians).collect()
    }

    /// Accepts a letter, when all it goes to are known or were looked for.
    fn accept(&mut self, request: RequestId, letter: NewLetter, now: Now, out: &mut Out) {
        let strangers = match self.recipients(&letter) {
            Err(Refusal::Unknown { name, .. }) if name.parse::<PeerId>().is_ok() => self.strangers(&letter),
            _ => BTreeSet::new(),
        };
        let letter = if strangers.is_empty() { Some(letter) } else { self.search.look(request, letter, strangers, now, out) };
        self.accept_now(letter.map(|letter| (request, letter)), now, out);
    }

    fn accept_now(&mut self, letters: impl IntoIterator<Item = (RequestId, NewLetter)>, now: Now, out: &mut Out) {
        for (request, letter) in letters {
            match self.recipients(&letter) {
                Ok(to) => {
                    let epoch = self.myself.facts().epoch;
                    self.outbox.accept(Some(request), letter, to, epoch, now, &mut self.rng);
                }
                Err(refusal) => self.outbox.refuse(request, letter.key.as_deref(), &refusal, out),
            }
        }
    }

    /// Those of a letter's recipients of whom nothing but their id is known.
    fn strangers(&self, letter: &NewLetter) -> BTreeSet<PeerId> {
        let me = self.myself.identity().id;
        let ids = letter.to.iter().filter_map(|to| if let Addressee::Id(id) = to { Some(*id) } else { None });
        ids.filter(|id| *id != me && self.presence.contact(id).is_none()).collect()
    }

    /// Everyone a letter goes to, each once; this node itself is left out of a list.
    fn recipients(&self, letter: &NewLetter) -> Result<Vec<Recipient>, Refusal> {
        if self.leaving {
            return Err(Refusal::Leaving);
        }
        if self.myself.is_cloned() {
            return Err(Refusal::Cloned);
        }
        if let Disk::Low { free } = self.disk {
            return Err(Refusal::DiskLow { free });
        }
        self.outbox.check(letter)?;
        let mine = &self.myself.facts().name;
        let (mut seen, mut later, mut to, mut myself) = (BTreeSet::new(), BTreeSet::new(), Vec::new(), None);
        for addressee in &letter.to {
            match (self.presence.resolve(addressee, mine), addressee) {
                (Ok(contact), _) => {
                    if seen.insert(contact.id) {
                        to.push(Recipient::Known(contact.clone()));
                    }
                }
                (Err(Refusal::Unknown { .. }), Addressee::Name(name)) if letter.later => {
                    if later.insert(name) {
                        to.push(Recipient::Later(name.clone()));
                    }
                }
                (Err(refusal @ Refusal::Yourself { .. }), _) => myself = Some(refusal),
                (Err(refusal), _) => return Err(refusal),
            }
        }
        match myself {
            Some(refusal) if to.is_empty() => Err(refusal),
            _ => Ok(to),
        }
    }

    fn signal(&mut self, available: bool, inactive: bool, now: Now, out: &mut Out) {
        if !self.myself.signal(available, inactive, out) {
            return;
        }
        self.tell_neighbours(now, out);
    }

    /// Neighbours learn what our beacon says at once, by stream; the others by the next one, which goes now.
    fn tell_neighbours(&mut self, now: Now, out: &mut Out) {
        let linked: Vec<PeerId> = self.presence.linked().collect();
        for peer in linked {
            let beacon = self.beacon();
            out.send(peer, Say::Beacon(beacon));
        }
        self.myself.beacon_soon(now);
    }

    // -- how facts spread from one machine to the others

    fn settle(&mut self, facts: Result<Vec<Fact>, Cause>, now: Now, out: &mut Out) {
        match facts {
            Ok(facts) => self.spread(facts, now, out),
            Err(cause) => self.record.on_refused(cause),
        }
    }

    fn spread(&mut self, facts: Vec<Fact>, now: Now, out: &mut Out) {
        for fact in facts {
            match fact {
                Fact::Greet { peer, answer } => self.greet(peer, answer, out),
                Fact::Reachable(peer) => {
                    self.inbox.on_reachable(peer);
                    let welcomes = self.presence.takes_letters(&peer);
                    self.returns.on_reachable(peer);
                    self.returns.on_membership(now);
                    self.outbox.on_met(peer);
                    self.open(peer, now, out);
                    self.outbox.on_membership(peer, true, now);
                    self.custody.on_membership(now);
                    self.custody.on_reachable(peer, welcomes, out);
                    self.on_memory(peer, out);
                    self.on_worker_here(peer, true, now, out);
                    self.logger.on_reachable(peer, now, out);
                    self.outbox.call_back_from(peer, out);
                    if self.blocked.contains(&peer) {
                        // It need not write to learn that, and asks nobody else to hold what it writes.
                        out.send(peer, Say::Denied(Some(Denial::Blocked)));
                    }
                }
                Fact::Unreachable { peer, in_order } => {
                    self.open(peer, now, out);
                    self.outbox.on_membership(peer, false, now);
                    self.custody.on_membership(now);
                    self.pickup.on_lost(peer, now, out);
                    // What was sent to it last may not have arrived.
                    let streams: Vec<(PeerId, Epoch)> = self.inbox.places().filter(|place| place.0 == peer).collect();
                    streams.into_iter().for_each(|place| self.returns.note(place, now));
                    self.on_worker_gone(peer, in_order, now, out);
                    self.logger.on_unreachable(peer, now, out);
                }
                Fact::Signalled(peer) => {
                    self.open(peer, now, out);
                    if self.presence.takes_letters(&peer) {
                        self.custody.on_reachable(peer, true, out);
                    }
                    self.on_worker_here(peer, false, now, out);
                }
                Fact::Memory(peer) => {
                    self.on_memory(peer, out);
                    self.logger.on_memory(peer, now, out);
                }
                Fact::Named => {
                    self.find_bearers();
                    self.logger.on_named();
                }
            }
        }
    }

    /// Letters go to who is here and takes them, from a node of which there is one.
    fn open(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        let open = self.presence.takes_letters(&peer) && !self.myself.is_cloned();
        self.outbox.set_open(peer, open, now, out);
    }

    /// What a peer acknowledged counts only under the memory it has.
    fn on_memory(&mut self, peer: PeerId, out: &mut Out) {
        if let Some(epoch) = self.presence.epoch(&peer).filter(|_| self.presence.is_reachable(&peer)) {
            self.outbox.on_memory(peer, epoch, out);
        }
    }

    /// Somebody is new, or bears another name: letters that wait for a name may have found its bearer. A name that several
    /// bear is nobody's: those letters go on waiting.
    fn find_bearers(&mut self) {
        if self.myself.is_cloned() {
            return;
        }
        let mine = self.myself.facts().name.clone();
        for name in self.outbox.waiting_names() {
            if let Ok(contact) = self.presence.resolve(&Addressee::Name(name), &mine) {
                self.outbox.on_named(contact, self.myself.facts().epoch);
            }
        }
    }

    fn tell_shown(&self, shown: Vec<Shown>, out: &mut Out) {
        for Shown { n, author, letter, preview, missing_before } in shown {
            if let Some(contact) = self.presence.contact(&author) {
                let name = contact.name.clone();
                out.notify(Notice::LetterShown { n, author, name, letter, preview, missing_before });
            }
        }
    }

    fn greet(&mut self, peer: PeerId, answer: bool, out: &mut Out) {
        let yours = self.presence.beacons_of(&peer);
        let hello = Say::Hello { contact: self.myself.contact(), beacon: self.beacon(), yours, answer };
        out.send(peer, hello);
    }

    fn beacon(&mut self) -> Beacon {
        let known = self.presence.known(&self.myself.contact());
        self.myself.beacon(self.tasks.services(), known, self.presence.links(), self.record.number())
    }

    /// Another process with our key is running. Until the next start nothing is authored here and no letter taken: nobody could
    /// tell which of the two has it. What is authored then needs an epoch that the other does not have.
    fn on_cloned(&mut self, now: Now, out: &mut Out) {
        self.presence.on_cloned();
        if self.myself.become_cloned(now, out) {
            self.mint_epoch(now, out);
        }
        let linked: Vec<PeerId> = self.presence.linked().collect();
        for peer in linked {
            self.open(peer, now, out);
        }
        out.notify(Notice::Warning(
            "another copy of this node is running with the same key: neither takes or sends letters; stop one of the two, give it a directory \
             of its own, then restart the other"
                .to_owned(),
        ));
    }

    /// Our memory may have jumped back: what we write from now on must not be mistaken for what we have forgotten.
    fn mint_epoch(&mut self, now: Now, out: &mut Out) {
        self.close_letters(out);
        let chain = self.myself.mint_epoch(&mut self.rng, out);
        self.record.open_chain(chain);
        self.tell_neighbours(now, out);
    }

    /// This memory is a backup: whatever was authored after it was taken bears the old epoch. Nothing was said yet.
    fn on_put_back(&mut self, now: Now, out: &mut Out) {
        self.begin_epoch(now, out);
        out.notify(Notice::Warning(
            "this node was put back to a backup: it goes on under a new epoch, and what it took or wrote after the backup is not here"
                .to_owned(),
        ));
    }

    fn begin_epoch(&mut self, now: Now, out: &mut Out) {
        self.mint_epoch(now, out);
        self.tasks.orders.on_new_epoch(self.myself.facts().epoch, now, out);
    }

    fn on_jumped_back(&mut self, now: Now, out: &mut Out) {
        self.begin_epoch(now, out);
        out.notify(Notice::Warning(
            "this node's memory is older than what others heard from it (a restored backup or a copied directory?): it goes on under a new epoch"
                .to_owned(),
        ));
    }

    // -- the end of a batch, in the order in which one thing needs another

    fn close(&mut self, now: Now, out: &mut Out) {
        if self.due.is_some_and(|due| due + self.config.stalled_after < now.mono) {
            self.presence.on_stalled(now);
            self.tasks.election.on_stalled(now);
            self.tasks.dispatcher.on_stalled(now);
        }
        let letters = self.search.tick(now);
        self.accept_now(letters, now, out);
        let known = self.presence.known(&self.myself.contact());
        let facts = self.presence.tick(known, now, &mut self.rng, out);
        self.spread(facts, now, out);
        let shown = self.inbox.tick(now, out);
        self.tell_shown(shown, out);
        self.close_work(now, out);
        self.tasks.orders.take_ended().into_iter().for_each(|order| self.inbox.on_order_ended(order, out));
        self.close_letters(out);
        self.outbox.commit_rounds(now, out);
        if self.outbox.take_new_waiting() {
            self.find_bearers();
        }
        self.outbox.tick(now, out);
        if !self.myself.is_cloned() {
            self.deposit(now, out);
            self.pickup.tick(now, out);
            self.compare(now, out);
        }
        for (author, why) in std::mem::take(&mut self.denied) {
            if self.presence.is_linked(&author) {
                out.send(author, Say::Denied(Some(why)));
            }
        }
        self.leave(now, out);
        if self.myself.telling_due(now) && !self.leaving {
            self.tell_neighbours(now, out);
        }
        if self.myself.beacon_due(self.presence.links(), now, &mut self.rng) && self.presence.links() > 0 && !self.leaving {
            let beacon = self.beacon();
            out.effects.push(Effect::Publish(beacon));
        }
        // Receipts bear the number of the segment that this commit writes.
        let (epoch, number) = (self.myself.facts().epoch, self.record.number() + 1);
        for receipt in self.inbox.close(epoch, number, out) {
            // After the next start a receipt is due to everybody who is met.
            if self.myself.is_cloned() {
                continue;
            }
            // A connection may be up over which nothing comes any more.
            if !self.presence.is_reachable(&receipt.author) {
                self.returns.note((receipt.author, receipt.epoch), now);
            }
            if self.presence.is_linked(&receipt.author) {
                out.send(receipt.author, Say::Receipt(receipt));
            }
        }
        if !self.myself.is_cloned() {
            self.keep_receipts(now, out);
        }
        let presence = &self.presence;
        self.custody.close(epoch, |peer| presence.is_linked(peer), out);
        self.pickup.close(|peer| presence.is_linked(peer), out);
        self.outbox.close(out);
        self.myself.close(out);
        let facts = self.myself.facts();
        if !facts.addresses.is_empty() && !self.myself.is_cloned() && self.search.publishes(facts.contact) {
            out.effects.push(Effect::PublishContact(Box::new(self.myself.contact())));
        }
        let (presence, room) = (&self.presence, self.disk == Disk::Enough && !self.leaving);
        let record = |peer: &PeerId| presence.beacon(peer).map(|beacon| beacon.value.record);
        self.logger.set_keepers(self.tasks.election.keepers(), now, out);
        self.logger.tick(|author| presence.contact(author).is_some(), record, room, now, out);
        self.record.note(std::mem::take(&mut out.entries), now);
        self.record.close(now, out);
        self.logger.close(self.record.head(), self.leaving, now, out);
        self.due = self.deadline().map(|deadline| deadline.at);
    }

    /// Letters for who is away go to custodians.
    fn deposit(&mut self, now: Now, out: &mut Out) {
        let Identity { id, machine, .. } = *self.myself.identity();
        let presence = &self.presence;
        for recipient in self.outbox.take_deposit_due(now) {
            let machines = presence.machines(self.outbox.custodians());
            let ranked = presence.custodians_among(&Mailbox { recipient, depositor: id }, &machines);
            self.outbox.deposit(recipient, (machine, &machines), &ranked, |peer| presence.is_silent(peer, now), now, out);
        }
    }

    /// Custodians of the same mailboxes find out what the others lack.
    fn compare(&mut self, now: Now, out: &mut Out) {
        let (presence, machine, most) = (&self.presence, self.myself.identity().machine, self.config.custodians);
        self.custody.tick(
            |mailbox| presence.custodians(mailbox).into_iter().take(most).collect(),
            machine,
            |peer| presence.takes_letters(peer),
            |peer| presence.is_reachable(peer),
            now,
            out,
        );
    }

    /// Receipts for authors who are away go to the custodians of their mail.
    fn keep_receipts(&mut self, now: Now, out: &mut Out) {
        let id = self.myself.identity().id;
        for (place, kept_by) in self.returns.due(now) {
            let closest = self.presence.custodians(&Mailbox { recipient: place.0, depositor: id });
            let closest = &closest[..closest.len().min(self.config.custodians)];
            let lacking: Vec<PeerId> = closest.iter().map(|other| other.peer).filter(|peer| !kept_by.contains(peer)).collect();
            let receipt = self.inbox.receipt(place).filter(|_| !self.presence.is_reachable(&place.0));
            let done = receipt.is_none() || (lacking.is_empty() && !closest.is_empty());
            let number = receipt.as_ref().map_or(0, |receipt| receipt.number);
            if let Some(receipt) = receipt {
                lacking.into_iter().for_each(|peer| out.send(peer, Say::KeepReceipt(receipt.clone())));
            }
            self.returns.sent(place, number, done, now);
        }
    }

    fn close_letters(&mut self, out: &mut Out) {
        let (mine, epoch) = (self.myself.contact(), self.myself.facts().epoch);
        let presence = &self.presence;
        self.outbox.close_batch(&mine, |peer| presence.contact(peer).cloned(), epoch, &mut self.rng, out);
    }
}
