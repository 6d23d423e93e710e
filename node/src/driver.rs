//! The only owner of [`Peer`]: a batch of facts in, one commit, then everything else that follows from them.
//! Knows nothing of what the facts mean. Nothing is said before what it promises is on the disk; it waits for nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use protocol::beacon::Statistics;
use protocol::bundle::Bundle;
use protocol::copies;
use protocol::edge::{Cause, Edge, Gossip};
use protocol::effect::{Say, Verdict};
use protocol::envelope::Payload;
use protocol::input::{Disk, Recalled};
use protocol::message::{Lane, Message};
use protocol::peer::OrderView;
use protocol::service::ServiceName;
use protocol::{Answer, Change, Command, Effect, Input, Notice, Now, Peer, RequestId, Status, Timestamp, codec};
use sha2::{Digest, Sha256};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::net::{self, GossipToken, Net};
use crate::runner::Runner;
use crate::store::{Batch, CommitError, Reader, RecordLimits, Room, Store, Write};
use crate::workers::{Job, Workers};

/// Facts of one batch, at most (guess: a batch of single letters then takes some milliseconds).
const BATCH_FACTS: usize = 2048;
/// Bytes of the frames and letters of one batch, after which no more is taken (research/perf.md: caps above 1,000 letters buy
/// throughput for latency).
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// How long changes that nobody is told of wait for others, to be flushed with them (guess: a few commits).
const HOLD: Duration = Duration::from_millis(20);
/// Between two looks for what of the record is too old or too much (guess: a busy node writes megabytes meanwhile).
const PRUNE: Duration = Duration::from_secs(20);
/// Facts that may wait; whoever feeds the driver waits beyond it.
pub const FACTS: usize = 8192;
/// Bytes of bundles just written that are kept for sending them, so that they are not read back (guess: two windows).
const FRESH_BYTES: usize = 8 * 1024 * 1024;
/// Bytes on the disk around a letter's payload, for its own row and for each copy (guess; twice all of it is reckoned with,
/// as a page that is changed is written elsewhere before the old one is free).
const AROUND: u64 = 512;

/// What the driver is told.
#[derive(Debug)]
pub enum Fact {
    /// Facts of one frame, or of the network, or a sealed bundle.
    Inputs {
        /// In order.
        inputs: Vec<Input>,
        /// Bytes they came from.
        bytes: usize,
    },
    /// A gossip, its signature checked.
    Heard {
        /// By whom it was passed on.
        from: PeerId,
        /// For the verdict.
        token: GossipToken,
        /// The beacon or claim.
        gossip: Gossip,
    },
    /// A gossip that is neither beacon nor claim, or is forged.
    FalseGossip {
        /// By whom it was passed on.
        from: PeerId,
        /// For the verdict.
        token: GossipToken,
        /// What is wrong with it.
        cause: Cause,
    },
    /// A frame of bundles to deposit is signed.
    Parcels {
        /// With whom.
        to: PeerId,
        /// Its bytes.
        frame: Bytes,
    },
    /// The user asks for something.
    Asked {
        /// What.
        command: Command,
        /// Where the answer goes.
        reply: oneshot::Sender<Answer>,
    },
    /// CPU and memory, as they are now; the disk is measured with them.
    Measured(Statistics),
    /// The user wants to know.
    Status(oneshot::Sender<Status>),
    /// The user wants to know about an order.
    Order(u64, oneshot::Sender<Option<OrderView>>),
    /// The user wants to know about orders.
    Orders {
        /// With a greater number.
        after: u64,
        /// At most so many.
        most: usize,
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<OrderView>>,
    },
    /// End, after this batch.
    Stop,
}

/// Both clocks of a node.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Begins to count now.
    #[must_use]
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// One reading.
    #[must_use]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.start.elapsed(), wall: Timestamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)) }
    }
}

/// What a driver is given.
pub struct Driver {
    /// The participant.
    pub peer: Peer,
    /// Its keys.
    pub edge: Arc<Edge>,
    /// Its disk.
    pub store: Store,
    /// Its network.
    pub net: Arc<Net>,
    /// Its threads.
    pub workers: Workers,
    /// Its tasks.
    pub runner: Runner,
    /// Its clock.
    pub clock: Clock,
    /// How much of the record is kept.
    pub record: RecordLimits,
    /// To itself, for what is looked up beside it.
    pub facts: mpsc::WeakSender<Fact>,
    /// Told the sequence of the next record entry after each commit.
    pub entries: watch::Sender<u64>,
    /// News for whoever watches.
    pub notices: broadcast::Sender<Notice>,
}

/// What stays from batch to batch.
struct State {
    requests: BTreeMap<RequestId, Request>,
    next_request: u64,
    ground: Ground,
    tokens: BTreeMap<u64, GossipToken>,
    next_token: u64,
    /// Bundles just written, by stream and first number.
    fresh: BTreeMap<(u32, u64), Bundle>,
    fresh_bytes: usize,
    /// What performing effects gave rise to: facts of the next batch.
    own: Vec<Input>,
    /// Changes that nothing waits for, and when they are committed at the latest.
    held: Vec<Effect>,
    commit_at: Option<Instant>,
    reader: Reader,
    /// When the record was last looked at for what is too old or too much.
    pruned_at: Option<Instant>,
}

struct Request {
    reply: oneshot::Sender<Answer>,
    /// Bytes it will take on the disk if it is granted.
    bytes: u64,
}

/// What the peer is told of the machine. It refuses letters before they fill the disk, not after: what was asked for and is
/// not committed yet counts as written.
#[derive(Default)]
struct Ground {
    statistics: Statistics,
    /// As of the last commit or measurement.
    room: Option<Room>,
    /// Bytes of the requests that are not answered yet.
    asked: u64,
    /// The peer was told that there is too little.
    told_low: bool,
}

impl Ground {
    /// What to tell the peer now.
    fn measured(&mut self) -> Input {
        let disk = self.room.map_or(Disk::Enough, |room| room.less(self.asked).disk());
        self.told_low = matches!(disk, Disk::Low { .. });
        Input::Measured { statistics: self.statistics, disk }
    }

    /// The same, if it is something new.
    fn changed(&mut self) -> Option<Input> {
        let told = self.told_low;
        let input = self.measured();
        if self.told_low == told { None } else { Some(input) }
    }
}

/// Under which key the swarm is told that a service can be found here: what others see of it is a hash.
#[must_use]
pub fn advert(swarm: &str, service: &ServiceName) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"swarm/1 service ");
    hash.update(swarm.as_bytes());
    hash.update([0]);
    hash.update(service.as_str().as_bytes());
    hash.finalize().into()
}

/// Bytes of a command's content, and what it takes on the disk with all its copies.
fn weigh(command: &Command) -> (usize, u64) {
    let Command::Send(letter) = command else { return (0, 0) };
    let payload = match &letter.payload {
        Payload::Text(text) => text.len(),
        other => codec::encode(other).len(),
    };
    (payload, (payload as u64 + AROUND) * (1 + letter.to.len() as u64) * 2)
}

impl Driver {
    /// Drives until [`Fact::Stop`], or until nobody is left to tell it anything.
    ///
    /// # Errors
    /// The disk failed: nothing of the last batch was said to anyone.
    pub async fn run(mut self, mut facts: mpsc::Receiver<Fact>) -> Result<(), CommitError> {
        let mut state = State {
            requests: BTreeMap::new(),
            next_request: 1,
            ground: Ground::default(),
            tokens: BTreeMap::new(),
            next_token: 1,
            fresh: BTreeMap::new(),
            fresh_bytes: 0,
            own: Vec::new(),
            held: Vec::new(),
            commit_at: None,
            reader: self.store.reader(),
            pruned_at: None,
        };
        let mut running = true;
        while running {
            let first = if state.own.is_empty() { self.next(&mut facts, state.commit_at).await } else { facts.try_recv().ok() };
            let mut effects = std::mem::take(&mut state.held);
            for input in std::mem::take(&mut state.own) {
                effects.append(&mut self.peer.handle(input, self.clock.now()));
            }
            let (mut taken, mut bytes) = (0, 0);
            let mut next = first;
            while let Some(fact) = next {
                let mut inputs = Vec::new();
                match fact {
                    Fact::Inputs { inputs: several, bytes: of } => {
                        bytes += of;
                        inputs = several;
                    }
                    Fact::Heard { from, token, gossip } => {
                        let number = state.next_token;
                        state.next_token += 1;
                        state.tokens.insert(number, token);
                        inputs.push(match gossip {
                            Gossip::Beacon(beacon) => Input::Heard { from, token: number, beacon: *beacon },
                            Gossip::Claim(claim) => Input::ClaimHeard { from, token: number, claim },
                        });
                    }
                    Fact::FalseGossip { from, token, cause } => {
                        self.command(net::Command::Judge { token, verdict: net::Verdict::Reject });
                        inputs.push(Input::Refused { from, cause });
                    }
                    // What its slips are for was flushed before they were ordered.
                    Fact::Parcels { to, frame } => self.send_frame(to, Lane::Bulk, frame, &mut state),
                    Fact::Asked { command, reply } => {
                        let request = RequestId(state.next_request);
                        state.next_request += 1;
                        let (content, on_disk) = weigh(&command);
                        bytes += content;
                        state.requests.insert(request, Request { reply, bytes: on_disk });
                        state.ground.asked += on_disk;
                        inputs.extend(state.ground.changed());
                        inputs.push(Input::Asked { request, command });
                    }
                    Fact::Measured(statistics) => {
                        state.ground.statistics = statistics;
                        state.ground.room = self.store.measure().await?;
                        inputs.push(state.ground.measured());
                        if state.pruned_at.is_none_or(|at| at.elapsed() >= PRUNE) {
                            state.pruned_at = Some(Instant::now());
                            self.look_for_overdue(state.reader.clone());
                        }
                    }
                    // Whoever asked may have gone away.
                    Fact::Status(reply) => drop(reply.send(self.peer.status())),
                    Fact::Order(number, reply) => drop(reply.send(self.peer.order(number))),
                    Fact::Orders { after, most, reply } => drop(reply.send(self.peer.orders(after, most))),
                    Fact::Stop => running = false,
                }
                for input in inputs {
                    effects.append(&mut self.peer.handle(input, self.clock.now()));
                }
                taken += 1;
                next = if taken < BATCH_FACTS && bytes < BATCH_BYTES && running { facts.try_recv().ok() } else { None };
            }
            effects.append(&mut self.peer.handle(Input::Tick, self.clock.now()));
            // What nobody is told of can be committed with what comes next: that spares a flush.
            if running && !effects.is_empty() && effects.iter().all(|effect| matches!(effect, Effect::Store(_))) {
                let at = *state.commit_at.get_or_insert_with(|| Instant::now() + HOLD);
                if Instant::now() < at {
                    state.held = effects;
                    continue;
                }
            }
            state.commit_at = None;
            self.commit(&mut effects, &mut state).await?;
            for effect in effects {
                self.perform(effect, &mut state);
            }
            state.own.extend(state.ground.changed());
        }
        Ok(())
    }

    /// The next fact, or none when the peer wants to be called or held changes are due.
    async fn next(&self, facts: &mut mpsc::Receiver<Fact>, commit_at: Option<Instant>) -> Option<Fact> {
        if let Ok(fact) = facts.try_recv() {
            return Some(fact);
        }
        let wait = self.peer.deadline().map_or(Duration::MAX, |deadline| deadline.at.saturating_sub(self.clock.now().mono));
        let wait = commit_at.map_or(wait, |at| wait.min(at.saturating_duration_since(Instant::now())));
        match tokio::time::timeout(wait, facts.recv()).await {
            Ok(Some(fact)) => Some(fact),
            Ok(None) => Some(Fact::Stop),
            Err(_) => None,
        }
    }

    /// Makes all changes of the batch durable, in one flushed transaction, and takes them out of it.
    async fn commit(&mut self, effects: &mut Vec<Effect>, state: &mut State) -> Result<(), CommitError> {
        let mut batch = Batch::default();
        let mut last_entry = None;
        let mut rest = Vec::with_capacity(effects.len());
        for effect in effects.drain(..) {
            let change = match effect {
                Effect::Store(change) => change,
                other => {
                    rest.push(other);
                    continue;
                }
            };
            batch.changes.push(match change {
                Change::Segment { chain, number, first, entries, body } => {
                    last_entry = Some(first);
                    let signed = codec::encode(&self.edge.sign_segment(body));
                    Write::Segment { chain, number, first, signed, entries }
                }
                Change::Bundle(kept) => {
                    if state.fresh_bytes > FRESH_BYTES {
                        // Most of them are for peers that are away: those are read back when they come.
                        state.fresh.clear();
                        state.fresh_bytes = 0;
                    }
                    state.fresh_bytes += kept.bundle.size();
                    state.fresh.insert((kept.stream, kept.first), kept.bundle.clone());
                    Write::Change(Change::Bundle(kept))
                }
                other => Write::Change(other),
            });
        }
        *effects = rest;
        let committed = self.store.commit(batch).await?;
        state.ground.room = committed.room.or(state.ground.room);
        if committed.recovered {
            self.tell(Notice::Warning("the disk failed once and was written again: make room on it, or replace it".to_owned()));
        }
        if last_entry.is_some() {
            self.entries.send_replace(self.peer.next_entry());
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect, state: &mut State) {
        match effect {
            Effect::Store(_) => {}
            Effect::Seal(draft) => self.workers.bulk(Job::Seal(draft)),
            Effect::Send { to, say } => {
                let lane = say.lane();
                self.send(to, lane, &self.edge.utter(*say), state);
            }
            Effect::SendKept { to, bundles } => self.send_kept(to, &bundles, state),
            Effect::DepositKept { to, bundles } => self.deposit_kept(to, &bundles, state),
            Effect::WithdrawKept { to, bundles } => self.withdraw(to, &bundles, state),
            Effect::SendHeld { to, held, deposit } => self.send_held(to, &held, deposit, state),
            Effect::SendSegments { to, author, chain, branch, after } => {
                match state.reader.segments(branch.map(|branch| (author, branch)), chain, after) {
                    Ok(segments) => {
                        let segments = copies::whole(segments, |signed| signed.is_by(&author, self.edge.swarm()));
                        self.send(to, Lane::Bulk, &Message::Segments { author, chain, segments }, state);
                    }
                    Err(error) => tracing::warn!(%error, "segments of the record could not be read"),
                }
            }
            // A page may look through much: whoever asks waits, the driver does not.
            Effect::ReadLog { token, question } => {
                let (reader, facts) = (state.reader.clone(), self.facts.clone());
                tokio::task::spawn_blocking(move || {
                    let answer = reader.log(&question).map(Box::new).ok();
                    let inputs = vec![Input::LogRead { token, answer }];
                    // A node that stops answers nobody.
                    if let Some(facts) = facts.upgrade() {
                        drop(facts.blocking_send(Fact::Inputs { inputs, bytes: 0 }));
                    }
                });
            }
            Effect::Publish(beacon) => self.command(net::Command::Publish(Bytes::from(self.edge.gossip(&beacon)))),
            Effect::PublishClaim(claim) => self.command(net::Command::Publish(Bytes::from(self.edge.gossip_claim(claim)))),
            Effect::Advertise(services) => {
                let keys = services.iter().map(|service| advert(self.edge.swarm(), service)).collect();
                self.command(net::Command::Advertise(keys));
            }
            Effect::Run(run) => self.runner.run(run),
            Effect::Stop { task, grace } => self.runner.stop(task, grace),
            Effect::TakeBack { task } => self.runner.take_back(task),
            Effect::ReadOutput { token, task, stderr, from } => self.runner.read_output(token, task, stderr, from),
            Effect::Judge { token, verdict } => {
                if let Some(token) = state.tokens.remove(&token) {
                    let verdict = match verdict {
                        Verdict::Accept => net::Verdict::Accept,
                        Verdict::Ignore => net::Verdict::Ignore,
                        Verdict::Reject => net::Verdict::Reject,
                    };
                    self.command(net::Command::Judge { token, verdict });
                }
            }
            Effect::Dial { peer, addresses } => {
                let addresses: Vec<Multiaddr> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
                self.command(net::Command::Dial { peer: Some(peer), addresses, urgent: false });
            }
            Effect::PublishContact(contact) => {
                let (key, card) = self.edge.card(&contact);
                self.command(net::Command::PutCard { key, card: card.into() });
            }
            Effect::FindContact { peer } => self.command(net::Command::FindCard { peer, key: self.edge.card_key(&peer) }),
            Effect::FindProviders { token, service } => {
                self.command(net::Command::FindProviders { token, key: advert(self.edge.swarm(), &service) });
            }
            Effect::Forget { peer } => self.command(net::Command::Forget { peer }),
            Effect::Recall(recall) => match state.reader.recall(&recall) {
                Ok(recalled) => state.own.push(Input::Recalled(recalled)),
                Err(error) => {
                    tracing::warn!(%error, "the disk could not be asked");
                    state.own.push(Input::Recalled(Recalled::Failed(recall)));
                }
            },
            Effect::Reply { request, answer } => {
                if let Some(Request { reply, bytes }) = state.requests.remove(&request) {
                    state.ground.asked -= bytes;
                    // Whoever asked may have gone away; what was done stays done.
                    drop(reply.send(answer));
                }
            }
            Effect::Notify(notice) => self.tell(notice),
        }
    }

    fn send_kept(&self, to: PeerId, keys: &[(u32, u64)], state: &mut State) {
        let mut bundles = Vec::with_capacity(keys.len());
        for key in keys {
            let fresh = state.fresh.remove(key);
            if let Some(bundle) = &fresh {
                state.fresh_bytes -= bundle.size();
            }
            match fresh.map_or_else(|| state.reader.bundle(key.0, key.1), |bundle| Ok(Some(bundle))) {
                Ok(bundle) => bundles.extend(bundle),
                Err(error) => tracing::warn!(%error, "a waiting bundle could not be read"),
            }
        }
        if !bundles.is_empty() {
            self.send(to, Lane::Bulk, &Message::Letters(bundles), state);
        }
    }

    /// The same bundles go to several custodians, and to their recipient if it comes soon: what is fresh stays so.
    fn deposit_kept(&self, to: PeerId, keys: &[(u32, u64)], state: &State) {
        let mut bundles = Vec::with_capacity(keys.len());
        for key in keys {
            match state.fresh.get(key).map_or_else(|| state.reader.bundle(key.0, key.1), |bundle| Ok(Some(bundle.clone()))) {
                Ok(bundle) => bundles.extend(bundle),
                Err(error) => tracing::warn!(%error, "a waiting bundle could not be read"),
            }
        }
        if !bundles.is_empty() {
            self.workers.bulk(Job::Deposit { to, bundles });
        }
    }

    fn withdraw(&self, to: PeerId, keys: &[(u32, u64)], state: &mut State) {
        match state.reader.withdrawals(keys) {
            Ok(secrets) if secrets.is_empty() => {}
            Ok(secrets) => {
                let ids = secrets.iter().map(|(id, _)| *id).collect();
                for say in [Say::Withdraw(secrets), Say::AskHeld(ids)] {
                    self.send(to, say.lane(), &self.edge.utter(say), state);
                }
            }
            Err(error) => tracing::warn!(%error, "secrets of waiting bundles could not be read"),
        }
    }

    fn send_held(&self, to: PeerId, numbers: &[u64], deposit: bool, state: &mut State) {
        let parcels = match state.reader.held(numbers) {
            Ok(parcels) => parcels,
            Err(error) => {
                tracing::warn!(%error, "bundles held for others could not be read");
                return;
            }
        };
        if parcels.is_empty() {
            return;
        }
        let message =
            if deposit { Message::Deposit(parcels) } else { Message::Letters(parcels.into_iter().map(|parcel| parcel.bundle).collect()) };
        self.send(to, Lane::Bulk, &message, state);
    }

    fn send(&self, to: PeerId, lane: Lane, message: &Message, state: &mut State) {
        self.send_frame(to, lane, Bytes::from(message.to_frame()), state);
    }

    fn send_frame(&self, to: PeerId, lane: Lane, frame: Bytes, state: &mut State) {
        let by = match lane {
            Lane::Urgent => net::Lane::Urgent,
            Lane::Bulk => net::Lane::Bulk,
        };
        if self.net.try_send(net::Command::Send { to, lane: by, frame }).is_err() {
            state.own.push(Input::SendFailed { to, lane });
        }
    }

    /// Old segments go. Beside the driver: it may look at much.
    fn look_for_overdue(&self, reader: Reader) {
        let (limits, facts, now) = (self.record, self.facts.clone(), self.clock.now().wall);
        tokio::task::spawn_blocking(move || match reader.overdue(&limits, now) {
            Ok(pruned) if pruned.is_empty() => {}
            Ok(pruned) => {
                let inputs = vec![Input::RecordOverdue(pruned)];
                if let Some(facts) = facts.upgrade() {
                    drop(facts.blocking_send(Fact::Inputs { inputs, bytes: 0 }));
                }
            }
            Err(error) => tracing::warn!(%error, "the record could not be measured"),
        });
    }

    /// Commands that may be lost without harm: all but frames, which are answered for.
    fn command(&self, command: net::Command) {
        if self.net.try_send(command).is_err() {
            tracing::debug!("the network is busy; a command was dropped");
        }
    }

    fn tell(&self, notice: Notice) {
        // Nobody may be watching.
        drop(self.notices.send(notice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LOW_BYTES;

    const GIB: u64 = 1 << 30;

    #[test]
    fn letters_are_refused_before_they_fill_the_disk() {
        let letter = |text: &str, to: &[&str]| {
            Command::Send(protocol::input::NewLetter {
                to: to.iter().map(|name| name.parse().expect("a name")).collect(),
                kind: "message".to_owned(),
                payload: Payload::Text(text.to_owned()),
                in_reply_to: None,
                key: None,
                later: false,
            })
        };
        let (content, bytes) = weigh(&letter(&"x".repeat(10_000), &["a", "b"]));
        assert_eq!(content, 10_000);
        assert!(bytes > 3 * 10_000, "its row and two copies");
        let room = |free| Some(Room { free, total: GIB });
        let mut ground = Ground { room: room(LOW_BYTES + 2 * bytes), ..Ground::default() };
        let mut told = Vec::new();
        for _ in 0..4 {
            ground.asked += bytes;
            told.extend(ground.changed());
        }
        // The third does not fit, and is said to once.
        let low = Disk::Low { free: LOW_BYTES - bytes };
        assert!(matches!(told.as_slice(), [Input::Measured { disk, .. }] if *disk == low), "{told:?}");
        // Two are on the disk and two were refused: then a commit tells that there is room for nothing more, and one that there is.
        ground.asked = 0;
        ground.room = room(LOW_BYTES - 1);
        assert!(ground.changed().is_none());
        ground.room = room(GIB);
        assert!(matches!(ground.changed(), Some(Input::Measured { disk: Disk::Enough, .. })));
    }
}
