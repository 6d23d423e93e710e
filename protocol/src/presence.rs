//! Who is here, and who ever was.
//! Knows nothing of letters. A peer is reachable while a connection is up, its hello was heard on it, and it is heard from;
//! a verdict of "gone" is a guess, and harmless when wrong.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use sha2::{Digest, Sha256};

use crate::beacon::{Beacon, Statistics};
use crate::config::{Config, limits};
use crate::contact::Contact;
use crate::edge::Cause;
use crate::effect::{Change, Effect, Known, Notice, Out, Refusal, Say, Verdict};
use crate::id::{Epoch, MachineId};
use crate::input::Heard;
use crate::mail::Mailbox;
use crate::message::Listing;
use crate::name::{Addressee, PeerName, distinct};
use crate::now::{Now, Timestamp};
use crate::peer::PeerStatus;
use crate::placement::{Candidate, Machines, Neighbour, ips, ranked};
use crate::segment::What;
use crate::service::Services;
use crate::sign::Signed;
use crate::work::Seen;

/// What the other machines should learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// Letters can be sent to it, if it welcomes them.
    Reachable(PeerId),
    /// They no longer can; whether it has said goodbye.
    Unreachable { peer: PeerId, in_order: bool },
    /// It welcomes letters now, or no longer.
    Signalled(PeerId),
    /// Somebody is new here, or bears a new name.
    Named,
    /// Its memory is another one than before.
    Memory(PeerId),
    /// A hello is due to it.
    Greet { peer: PeerId, answer: bool },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Presence {
    me: PeerId,
    machine: MachineId,
    ips: Vec<IpAddr>,
    config: Config,
    peers: BTreeMap<PeerId, Entry>,
    links: BTreeMap<PeerId, Link>,
    /// Hash of all (id, card sequence), this node's own included: equal at two peers that know the same.
    known: u64,
    judges_from: Duration,
    exchange: Exchange,
    /// Another process has this node's key: what is asked may be answered to it.
    cloned: bool,
}

/// What comes with a card.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) first_seen: Timestamp,
    pub(crate) last_seen: Option<Timestamp>,
    /// By itself, on a connection of its own.
    pub(crate) met: bool,
}

#[derive(Debug)]
struct Entry {
    contact: Contact,
    /// Of its card.
    ips: Vec<IpAddr>,
    signed: Signed<Contact>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    beacon: Option<Heard<Beacon>>,
    /// The last beacon of another start, whatever its epoch: of the start before, which says more of what the peer should
    /// remember than its newest, or of a second process with its key.
    other: Option<Heard<Beacon>>,
    /// That it runs twice was told.
    told_cloned: bool,
    written_at: Duration,
    /// When it was last heard, or this node started.
    heard_at: Duration,
}

impl Entry {
    /// Whether a beacon is of the other start that is remembered.
    fn is_other(&self, beacon: &Beacon) -> bool {
        self.other.as_ref().is_some_and(|other| other.value.nonce == beacon.nonce)
    }
}

#[derive(Debug)]
struct Link {
    address: String,
    /// Its hello was heard on this connection.
    met: bool,
    /// It said goodbye.
    leaving: bool,
    reachable: bool,
    /// Since when.
    since: Duration,
    /// Judged gone: the connection is wedged and was given up.
    gone: bool,
    heard_at: Duration,
    /// Since when its hello is missing.
    unmet_since: Duration,
    hello_at: Duration,
    /// When the last hello left to it, and the last word about something not understood.
    greeted_at: Option<Duration>,
    /// A hello with news of the neighbour's own starts came too soon after another.
    owed: bool,
    unsupported_at: Option<Duration>,
    /// It got a page of peers in this batch.
    paged: bool,
    /// The digest of its list when an exchange taught nothing, and until when it is left alone.
    barren: Option<(u64, Duration)>,
}

/// The one exchange of peer lists that may be under way.
#[derive(Debug, Default)]
struct Exchange {
    /// With whom, and since when.
    with: Option<(PeerId, Duration)>,
    /// The last id of the page before.
    after: Option<PeerId>,
    /// No more pages are asked for from then on.
    ends_at: Duration,
    learned: bool,
    next_at: Duration,
}

/// An exchange that was not answered is given up after this (guess).
const EXCHANGE_PATIENCE: Duration = Duration::from_secs(5);
/// An exchange ends after this, whatever is missing (guess: 100 pages take a second).
const EXCHANGE_MOST: Duration = Duration::from_secs(30);
/// A peer whose list taught nothing is left alone for this long (guess).
const BARREN_FOR: Duration = Duration::from_secs(30);
/// Beacons of one peer that may overtake another without anybody's fault (guess: they come every 2 s, and once more with each
/// change of signals).
const OVERTAKEN: u64 = 5;
/// Names shown when one is not known (guess: more would not be read).
const NEAREST: usize = 3;
/// Least likeness (Jaro-Winkler) of a name that is shown (guess, tried with typing errors).
const LIKENESS: f64 = 0.75;
/// "Last seen" of an author is written with its letters, if it was not within this time (guess: what nobody calls a difference).
const LETTER_SEEN: Duration = Duration::from_secs(1);

/// By content: two cards may bear one sequence after a memory jumped back.
fn weigh(contact: &Contact) -> u64 {
    let hash: [u8; 32] = Sha256::digest(crate::codec::encode(contact)).into();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(bytes)
}

impl Presence {
    /// Knows whom the disk knows. Rows that do not decode are left out: they are hints, and come back by exchange.
    pub(crate) fn new(me: PeerId, machine: MachineId, config: &Config, known: Vec<Known>, now: Now) -> Self {
        let mut presence = Presence {
            me,
            machine,
            ips: Vec::new(),
            config: config.clone(),
            peers: BTreeMap::new(),
            links: BTreeMap::new(),
            known: 0,
            judges_from: now.mono,
            exchange: Exchange::default(),
            cloned: false,
        };
        for row in known {
            let Ok(contact) = row.contact.trusted() else { continue };
            let beacon = row.beacon.and_then(|signed| signed.trusted().ok().map(|value| Heard { value, signed }));
            presence.known = presence.known.wrapping_add(weigh(&contact));
            let entry = Entry {
                ips: ips(&contact.addresses),
                contact,
                signed: row.contact,
                first_seen: row.first_seen,
                last_seen: row.last_seen,
                beacon,
                other: None,
                told_cloned: false,
                written_at: now.mono,
                heard_at: now.mono,
            };
            presence.peers.insert(entry.contact.id, entry);
        }
        presence
    }

    // -- facts from the network

    /// This node can be reached by these multiaddrs.
    pub(crate) fn on_listening(&mut self, addresses: &[String]) {
        self.ips = ips(addresses);
    }

    /// A connection is up.
    pub(crate) fn on_seen(&mut self, peer: PeerId, address: String, now: Now) -> Vec<Fact> {
        let link = self.links.entry(peer).or_insert_with(|| Link {
            address: String::new(),
            met: false,
            leaving: false,
            reachable: false,
            since: now.mono,
            gone: false,
            heard_at: now.mono,
            unmet_since: now.mono,
            hello_at: now.mono,
            greeted_at: None,
            owed: false,
            unsupported_at: None,
            paged: false,
            barren: None,
        });
        link.address = address;
        link.gone = false;
        link.greeted_at = None;
        link.hello_at = now.mono + self.config.hello_interval;
        self.greet(peer, false, now).into_iter().collect()
    }

    /// The last connection has closed.
    pub(crate) fn on_lost(&mut self, peer: PeerId, now: Now, out: &mut Out) -> Vec<Fact> {
        let mut facts = Vec::new();
        if let Some(link) = self.links.remove(&peer) {
            if link.reachable {
                facts.push(self.tell_gone(peer, link.leaving, out));
            }
            self.write(peer, now, out);
        }
        if self.exchange.with.is_some_and(|(with, _)| with == peer) {
            self.exchange.with = None;
        }
        facts
    }

    /// Something came from this neighbour: it lives.
    pub(crate) fn on_heard(&mut self, peer: PeerId, now: Now, out: &mut Out) -> Vec<Fact> {
        let Some(link) = self.links.get_mut(&peer) else { return Vec::new() };
        link.heard_at = now.mono;
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.last_seen = now.wall;
            entry.heard_at = now.mono;
        }
        if link.met && !link.reachable { self.judge(peer, now, out) } else { Vec::new() }
    }

    /// A neighbour greets. Its card and beacon are its own: the edge has checked.
    pub(crate) fn on_hello(
        &mut self,
        contact: Heard<Contact>,
        beacon: Heard<Beacon>,
        answer: bool,
        now: Now,
        out: &mut Out,
    ) -> Result<Vec<Fact>, Cause> {
        let peer = contact.value.id;
        if !self.links.contains_key(&peer) {
            // Overtaken by its own connection's end, or too early; it repeats itself.
            return Ok(Vec::new());
        }
        let told = Told { first_seen: now.wall, last_seen: Some(now.wall), met: true };
        let mut facts = self.learn(contact.value, contact.signed, told, now, out)?;
        facts.extend(self.on_beacon_by_stream(beacon, now, out)?);
        if answer {
            facts.extend(self.greet(peer, false, now));
        }
        if let Some(link) = self.links.get_mut(&peer)
            && !link.met
        {
            link.met = true;
            link.leaving = false;
            self.exchange.next_at = self.exchange.next_at.min(now.mono + self.config.first_exchange).max(now.mono);
        }
        facts.extend(self.judge(peer, now, out));
        Ok(facts)
    }

    /// A beacon from its own peer by stream: also a new epoch is believed.
    pub(crate) fn on_beacon_by_stream(&mut self, beacon: Heard<Beacon>, now: Now, out: &mut Out) -> Result<Vec<Fact>, Cause> {
        let peer = beacon.value.peer;
        let Some(entry) = self.peers.get(&peer) else { return Err(Cause::Unexpected) };
        match entry.beacon.as_ref().map(|last| &last.value).filter(|last| last.epoch == beacon.value.epoch) {
            Some(last) if last.nonce == beacon.value.nonce && last.order() > beacon.value.order() => Ok(Vec::new()),
            // An earlier start, still on its way; or a second process that was started less often.
            Some(last) if last.nonce != beacon.value.nonce && last.boot > beacon.value.boot => Ok(self.on_other_start(beacon, now)),
            _ => Ok(self.accept_beacon(beacon, now, out)),
        }
    }

    /// A beacon by gossip: only a later one of the epoch we know counts, and is passed on.
    pub(crate) fn on_gossip(&mut self, beacon: Heard<Beacon>, now: Now, out: &mut Out) -> (Verdict, Result<Vec<Fact>, Cause>) {
        let peer = beacon.value.peer;
        if peer == self.me {
            return (Verdict::Ignore, Ok(Vec::new()));
        }
        // Without its card a peer cannot be met; lists are exchanged because `known` differs.
        let Some(entry) = self.peers.get(&peer) else { return (Verdict::Accept, Ok(Vec::new())) };
        let overtaken = |last: &Beacon| last.counter.saturating_sub(beacon.value.counter) <= OVERTAKEN;
        match &entry.beacon {
            // Of the start before, or of a second process with the same key: where both live, both are heard again and again.
            Some(last) if last.value.nonce != beacon.value.nonce && entry.is_other(&beacon.value) => {
                let known = entry.other.as_ref().map(|other| &other.value).filter(|other| other.counter >= beacon.value.counter);
                match known {
                    Some(other) => (Verdict::Ignore, if overtaken(other) { Ok(Vec::new()) } else { Err(Cause::Replayed) }),
                    None => (Verdict::Ignore, Ok(self.on_other_start(beacon, now))),
                }
            }
            // Epochs cannot be ordered: a neighbour is asked which is its own, of others nothing can be known.
            Some(last) if last.value.epoch != beacon.value.epoch => {
                (Verdict::Ignore, Ok(self.greet(peer, true, now).into_iter().collect()))
            }
            Some(last) if last.value.order() >= beacon.value.order() => {
                // Overtaken on its way by a few, or kept back and played again.
                let behind = last.value.boot > beacon.value.boot || !overtaken(&last.value);
                (Verdict::Ignore, if behind { Err(Cause::Replayed) } else { Ok(Vec::new()) })
            }
            _ => {
                // Its author has sent it to all its neighbours. In a full mesh nobody is left to pass it on to, and doing so
                // all the same is what costs most in a swarm of 50 (measured: four copies of each).
                let reaches_most = beacon.value.linked as usize * 2 >= self.links.len();
                let facts = self.accept_beacon(beacon, now, out);
                (if reaches_most { Verdict::Ignore } else { Verdict::Accept }, Ok(facts))
            }
        }
    }

    /// A neighbour leaves in order.
    pub(crate) fn on_leaving(&mut self, peer: PeerId, now: Now, out: &mut Out) -> Vec<Fact> {
        let Some(link) = self.links.get_mut(&peer) else { return Vec::new() };
        link.met = false;
        link.leaving = true;
        link.unmet_since = now.mono;
        link.hello_at = now.mono + self.config.gone_at_least;
        self.judge(peer, now, out)
    }

    /// A neighbour tells whom it knows. Returns the next page to ask for.
    pub(crate) fn on_peers(
        &mut self,
        from: PeerId,
        peers: Vec<(Contact, Listing)>,
        more: bool,
        now: Now,
        out: &mut Out,
    ) -> Result<Vec<Fact>, Cause> {
        if self.cloned {
            // The other process has asked, or we have while we did not know of it.
            return Ok(Vec::new());
        }
        if self.exchange.with.is_none_or(|(with, _)| with != from) {
            return Err(Cause::Unexpected);
        }
        let ids = || self.exchange.after.into_iter().chain(peers.iter().map(|(contact, _)| contact.id));
        let ascending = ids().zip(ids().skip(1)).all(|(one, next)| one < next);
        if !ascending {
            self.end_exchange(from, now);
            return Err(Cause::Inconsistent);
        }
        let last = peers.last().map(|(contact, _)| contact.id);
        let mut facts = Vec::new();
        for (contact, listing) in peers {
            let ago = |ms| now.wall.before(Duration::from_millis(ms));
            let told = Told { first_seen: ago(listing.first_seen_ago), last_seen: listing.last_seen_ago.map(ago), met: false };
            let before = self.known;
            // A full list of peers is no reason to stop listening to the rest.
            facts.extend(self.learn(contact, listing.contact, told, now, out).unwrap_or_default());
            self.exchange.learned |= before != self.known;
        }
        match last.filter(|_| more && now.mono < self.exchange.ends_at) {
            Some(after) => {
                self.exchange.with = Some((from, now.mono));
                self.exchange.after = Some(after);
                out.send(from, Say::AskPeers { after: Some(after) });
            }
            None => self.end_exchange(from, now),
        }
        Ok(facts)
    }

    /// A neighbour asks whom we know: one page in a batch.
    ///
    /// # Errors
    /// It has its page, or is no neighbour; it gets nothing.
    pub(crate) fn on_ask_peers(&mut self, from: PeerId, after: Option<PeerId>, now: Now, out: &mut Out) -> Result<(), Cause> {
        use std::ops::Bound::{Excluded, Unbounded};
        match self.links.get_mut(&from) {
            Some(link) if !link.paged => link.paged = true,
            Some(_) => return Err(Cause::Full),
            None => return Err(Cause::Unexpected),
        }
        let beyond = after.map_or(Unbounded, Excluded);
        let mut rest = self.peers.range((beyond, Unbounded)).peekable();
        let (mut peers, mut size) = (Vec::new(), 0);
        while let Some((peer, entry)) = rest.next_if(|_| peers.is_empty() || (peers.len() < limits::PAGE && size < limits::PAGE_BYTES)) {
            let last = if self.links.contains_key(peer) { now.wall } else { entry.last_seen };
            let ms = |time: Timestamp| now.wall.0.saturating_sub(time.0);
            let last_seen_ago = (last.0 > 0).then(|| ms(last));
            size += entry.signed.body.len();
            peers.push(Listing { contact: entry.signed.clone(), first_seen_ago: ms(entry.first_seen), last_seen_ago });
        }
        let more = rest.peek().is_some();
        out.send(from, Say::Peers { peers, more });
        Ok(())
    }

    /// A card came, by whatever road; the greater sequence wins.
    ///
    /// # Errors
    /// No more peers are remembered; nothing changed.
    pub(crate) fn learn(
        &mut self,
        contact: Contact,
        signed: Signed<Contact>,
        told: Told,
        now: Now,
        out: &mut Out,
    ) -> Result<Vec<Fact>, Cause> {
        let peer = contact.id;
        if peer == self.me {
            return Ok(Vec::new());
        }
        let mut facts = Vec::new();
        let mut changed = false;
        match self.peers.get_mut(&peer) {
            None => {
                if self.peers.len() >= if told.met { self.config.peers } else { self.config.peers_unmet } {
                    return Err(Cause::Full);
                }
                self.warn_of_shared_name(&contact, out);
                self.known = self.known.wrapping_add(weigh(&contact));
                self.dial(&contact, out);
                let entry = Entry {
                    ips: ips(&contact.addresses),
                    contact,
                    signed,
                    first_seen: told.first_seen.min(now.wall),
                    last_seen: told.last_seen.unwrap_or_default().min(now.wall),
                    beacon: None,
                    other: None,
                    told_cloned: false,
                    written_at: now.mono,
                    heard_at: now.mono,
                };
                self.peers.insert(peer, entry);
                facts.push(Fact::Named);
                changed = true;
            }
            Some(entry) => {
                entry.last_seen = entry.last_seen.max(told.last_seen.unwrap_or_default().min(now.wall));
                if contact.sequence > entry.contact.sequence {
                    self.known = self.known.wrapping_sub(weigh(&entry.contact)).wrapping_add(weigh(&contact));
                    let old = std::mem::replace(&mut entry.contact, contact.clone());
                    entry.ips = ips(&contact.addresses);
                    entry.signed = signed;
                    changed = true;
                    if old.name != contact.name {
                        out.note(What::PeerRenamed { peer, old: old.name.clone(), new: contact.name.clone() });
                        out.notify(Notice::Warning(format!("{} is now called {} (same key)", old.name, contact.name)));
                        self.warn_of_shared_name(&contact, out);
                        facts.push(Fact::Named);
                    }
                    if old.addresses != contact.addresses {
                        self.dial(&contact, out);
                    }
                }
            }
        }
        if changed {
            self.write(peer, now, out);
        }
        Ok(facts)
    }

    // -- time

    /// Judges who is silent, repeats hellos, exchanges lists. `mine` is what [`Presence::known`] told.
    pub(crate) fn tick(&mut self, mine: u64, now: Now, rng: &mut ChaCha8Rng, out: &mut Out) -> Vec<Fact> {
        let mut facts = Vec::new();
        let linked: Vec<PeerId> = self.links.keys().copied().collect();
        for peer in linked {
            facts.extend(self.judge(peer, now, out));
            let cloned = self.is_cloned(&peer);
            if let Some(link) = self.links.get_mut(&peer) {
                link.paged = false;
                let owed = link.owed && link.greeted_at.is_none_or(|at| at + self.config.hello_least <= now.mono);
                // Gossip comes to one of two processes with one key; a hello to both.
                if ((!link.met || cloned) && link.hello_at <= now.mono) || owed {
                    link.hello_at = now.mono + self.config.hello_interval;
                    facts.extend(self.greet(peer, true, now));
                }
            }
            let stale = self.peers.get(&peer).is_some_and(|entry| entry.written_at + self.config.last_seen_interval <= now.mono);
            if stale {
                self.write(peer, now, out);
            }
        }
        self.exchange(mine, now, rng, out);
        facts
    }

    /// Another process has this node's key: no more lists are exchanged.
    pub(crate) fn on_cloned(&mut self) {
        self.cloned = true;
        self.exchange.with = None;
    }

    /// This node itself was away for a while: what it did not hear is its own fault.
    pub(crate) fn on_stalled(&mut self, now: Now) {
        self.judges_from = now.mono + self.config.stalled_grace;
    }

    /// When [`Presence::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let links = self.links.iter().flat_map(|(peer, link)| {
            let judged = match (link.reachable, link.gone, link.met) {
                (true, _, _) => Some((link.heard_at + self.unavailable_after()).max(self.judges_from)),
                (false, false, true) => Some((link.heard_at + self.gone_after()).max(self.judges_from)),
                (false, false, false) => Some((link.unmet_since + self.gone_after()).max(self.judges_from)),
                _ => None,
            };
            let greeted = (!link.met || self.is_cloned(peer)).then_some(link.hello_at);
            let owed = link.owed.then(|| link.greeted_at.map_or(Duration::ZERO, |at| at + self.config.hello_least));
            let written = self.peers.get(peer).map(|entry| entry.written_at + self.config.last_seen_interval);
            [judged, greeted, owed, written]
        });
        let exchange = match self.exchange.with {
            Some((_, since)) => Some(since + EXCHANGE_PATIENCE),
            None => self.links.keys().any(|peer| self.differs(*peer, None)).then_some(self.exchange.next_at),
        };
        links.flatten().chain(exchange).min()
    }

    /// A hello is due to a neighbour, unless one has just left.
    pub(crate) fn greet(&mut self, peer: PeerId, answer: bool, now: Now) -> Option<Fact> {
        let link = self.links.get_mut(&peer)?;
        if link.greeted_at.is_some_and(|at| now.mono < at + self.config.hello_least) {
            return None;
        }
        link.greeted_at = Some(now.mono);
        link.owed = false;
        Some(Fact::Greet { peer, answer })
    }

    /// A neighbour should see what we remember of its starts: at once, or as soon as a hello may leave again.
    fn show(&mut self, peer: PeerId, now: Now) -> Option<Fact> {
        let fact = self.greet(peer, true, now);
        if let Some(link) = self.links.get_mut(&peer) {
            link.owed |= fact.is_none();
        }
        fact
    }

    /// A letter of a neighbour is being committed: after a crash nobody may be called away since before it was written.
    pub(crate) fn on_letter(&mut self, author: &PeerId, now: Now, out: &mut Out) {
        let old = |entry: &Entry| entry.written_at + LETTER_SEEN <= now.mono;
        if self.links.contains_key(author) && self.peers.get(author).is_some_and(old) {
            self.write(*author, now, out);
        }
    }

    /// A beacon of another start than the latest's, which stays the latest.
    fn on_other_start(&mut self, beacon: Heard<Beacon>, now: Now) -> Vec<Fact> {
        let peer = beacon.value.peer;
        let Some(entry) = self.peers.get_mut(&peer) else { return Vec::new() };
        let settled = beacon.value.cloned && entry.beacon.as_ref().is_some_and(|last| last.value.cloned);
        entry.other = Some(beacon);
        entry.last_seen = now.wall;
        if let Some(link) = self.links.get_mut(&peer) {
            link.heard_at = now.mono;
        }
        // Two that know of each other need not be told any more.
        if settled { Vec::new() } else { self.show(peer, now).into_iter().collect() }
    }

    /// Whether a neighbour should be told that it was not understood.
    pub(crate) fn may_tell_unsupported(&mut self, peer: PeerId, now: Now) -> bool {
        let interval = self.config.unsupported_interval;
        let Some(link) = self.links.get_mut(&peer) else { return false };
        let may = link.unsupported_at.is_none_or(|at| at + interval <= now.mono);
        if may {
            link.unsupported_at = Some(now.mono);
        }
        may
    }

    // -- questions

    /// The number of peers connected.
    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    /// All peers connected.
    pub(crate) fn linked(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.links.keys().copied()
    }

    pub(crate) fn is_linked(&self, peer: &PeerId) -> bool {
        self.links.contains_key(peer)
    }

    /// Whether it is connected and heard from.
    pub(crate) fn is_reachable(&self, peer: &PeerId) -> bool {
        self.links.get(peer).is_some_and(|link| link.reachable)
    }

    /// Those who are here after `after`, by id, at most `most`.
    pub(crate) fn seen(&self, after: Option<PeerId>, most: usize, now: Now) -> Vec<Seen> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let here = self.links.range((from, Bound::Unbounded)).filter(|(_, link)| link.reachable);
        let seen = here.filter_map(|(peer, link)| {
            let beacon = self.beacon(peer);
            Some(Seen {
                peer: *peer,
                name: self.contact(peer)?.name.clone(),
                available: beacon.is_some_and(|beacon| beacon.value.available && !beacon.value.cloned),
                inactive: beacon.is_some_and(|beacon| beacon.value.inactive),
                for_ms: u64::try_from(now.mono.saturating_sub(link.since).as_millis()).unwrap_or(u64::MAX),
            })
        });
        seen.take(most).collect()
    }

    /// Everyone who is reachable and runs once, by id.
    pub(crate) fn neighbours(&self) -> Vec<Neighbour> {
        let here = self.links.iter().filter(|(peer, link)| link.reachable && !self.is_cloned(peer));
        here.filter_map(|(peer, link)| Some(Neighbour { peer: *peer, machine: self.contact(peer)?.machine, since: link.since })).collect()
    }

    /// Whether letters can be sent to it now and are welcome.
    pub(crate) fn takes_letters(&self, peer: &PeerId) -> bool {
        self.links.get(peer).is_some_and(|link| link.reachable)
            && self.beacon(peer).is_some_and(|beacon| beacon.value.available && !beacon.value.cloned)
    }

    /// Whether a peer says that it runs twice.
    fn is_cloned(&self, peer: &PeerId) -> bool {
        self.beacon(peer).is_some_and(|beacon| beacon.value.cloned)
    }

    /// The memory a peer last said it has.
    pub(crate) fn epoch(&self, peer: &PeerId) -> Option<Epoch> {
        self.beacon(peer).map(|beacon| beacon.value.epoch)
    }

    /// Whether a peer was not heard for so long that its custody is somebody else's matter.
    pub(crate) fn is_silent(&self, peer: &PeerId, now: Now) -> bool {
        let here = self.links.get(peer).is_some_and(|link| link.reachable);
        !here && self.peers.get(peer).is_none_or(|entry| entry.heard_at + self.config.custodian_silent <= now.mono)
    }

    /// Which machines of those here, and of these, are one with another; this node's own stands for all that are one with it.
    pub(crate) fn machines(&self, of: impl Iterator<Item = PeerId>) -> Machines {
        let here = self.here().filter(|peer| *peer != self.me).collect::<BTreeSet<PeerId>>();
        let others: BTreeSet<PeerId> = of.filter(|peer| !here.contains(peer)).collect();
        let entries = here.iter().chain(&others).filter_map(|peer| self.peers.get(peer));
        let cards = entries.map(|entry| (entry.contact.machine, entry.ips.as_slice()));
        Machines::new(std::iter::once((self.machine, self.ips.as_slice())).chain(cards))
    }

    /// Who could hold a mailbox, best first: everybody here but its two ends; this node too.
    pub(crate) fn custodians(&self, mailbox: &Mailbox) -> Vec<Candidate> {
        self.custodians_among(mailbox, &self.machines(std::iter::once(mailbox.depositor)))
    }

    /// The same, where it is known which machines are one.
    pub(crate) fn custodians_among(&self, mailbox: &Mailbox, machines: &Machines) -> Vec<Candidate> {
        let machine = |peer: &PeerId| {
            let said = if *peer == self.me { Some(self.machine) } else { self.contact(peer).map(|contact| contact.machine) };
            said.map(|machine| machines.of(machine))
        };
        let candidates = self
            .here()
            .filter(|peer| *peer != mailbox.recipient && *peer != mailbox.depositor)
            .filter_map(|peer| Some(Candidate { peer, machine: machine(&peer)? }))
            .collect();
        let shared: Vec<MachineId> = machine(&mailbox.depositor).into_iter().collect();
        ranked(&mailbox.recipient, &shared, candidates)
    }

    /// Who is here and of whom there is one, this node too.
    fn here(&self) -> impl Iterator<Item = PeerId> {
        self.links.iter().filter(|(peer, link)| link.reachable && !self.is_cloned(peer)).map(|(peer, _)| *peer).chain([self.me])
    }

    pub(crate) fn contact(&self, peer: &PeerId) -> Option<&Contact> {
        self.peers.get(peer).map(|entry| &entry.contact)
    }

    /// The latest beacon of a peer that this node heard.
    pub(crate) fn beacon(&self, peer: &PeerId) -> Option<&Heard<Beacon>> {
        self.peers.get(peer).and_then(|entry| entry.beacon.as_ref())
    }

    /// The latest beacon of a peer, and the last of another start of it: what it should remember of itself.
    pub(crate) fn beacons_of(&self, peer: &PeerId) -> Vec<Signed<Beacon>> {
        let Some(entry) = self.peers.get(peer) else { return Vec::new() };
        entry.beacon.iter().chain(&entry.other).map(|beacon| beacon.signed.clone()).collect()
    }

    /// The digest of all cards, with this node's own.
    pub(crate) fn known(&self, mine: &Contact) -> u64 {
        self.known.wrapping_add(weigh(mine))
    }

    /// The one peer that is meant.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], [`Refusal::Ambiguous`] or [`Refusal::Yourself`].
    pub(crate) fn resolve(&self, to: &Addressee, mine: &PeerName) -> Result<&Contact, Refusal> {
        let me = match to {
            Addressee::Id(id) => *id == self.me,
            Addressee::Ending(name, ending) => name == mine && self.me.to_base58().ends_with(ending),
            Addressee::Name(name) => name == mine && !self.peers.values().any(|entry| entry.contact.name == *name),
        };
        if me {
            return Err(Refusal::Yourself { name: to.to_string() });
        }
        let fits = |contact: &&Contact| match to {
            Addressee::Id(id) => contact.id == *id,
            Addressee::Ending(name, ending) => contact.name == *name && contact.id.to_base58().ends_with(ending),
            Addressee::Name(name) => contact.name == *name,
        };
        let found: Vec<&Contact> = self.peers.values().map(|entry| &entry.contact).filter(fits).collect();
        match found.as_slice() {
            [one] => Ok(one),
            [] => Err(Refusal::Unknown { name: to.to_string(), nearest: self.nearest(to) }),
            several => Err(Refusal::Ambiguous {
                name: to.to_string(),
                candidates: several.iter().map(|contact| distinct(&contact.name, &contact.id)).collect(),
            }),
        }
    }

    /// Every peer, for faces; `waiting` letters are the outbox's to tell.
    pub(crate) fn status(&self, machines: &Machines) -> Vec<PeerStatus> {
        self.peers
            .iter()
            .map(|(peer, entry)| {
                let link = self.links.get(peer);
                let reachable = link.is_some_and(|link| link.reachable);
                let cloned = self.is_cloned(peer);
                let welcomes = entry.beacon.as_ref().is_none_or(|beacon| beacon.value.available);
                PeerStatus {
                    id: *peer,
                    name: entry.contact.name.clone(),
                    available: reachable && welcomes && !cloned,
                    reachable,
                    connected: link.is_some(),
                    welcomes,
                    inactive: entry.beacon.as_ref().is_some_and(|beacon| beacon.value.inactive),
                    cloned,
                    machine: machines.of(entry.contact.machine),
                    addresses: entry.contact.addresses.clone(),
                    first_seen: entry.first_seen,
                    last_seen: entry.last_seen,
                    waiting: 0,
                    reasons: BTreeSet::new(),
                    services: Services::default(),
                    statistics: entry.beacon.as_ref().map_or_else(Statistics::default, |beacon| beacon.value.statistics),
                    denial: None,
                    blocked: false,
                }
            })
            .collect()
    }

    /// Writes when each neighbour was last heard: this node is about to stop.
    pub(crate) fn leave(&mut self, now: Now, out: &mut Out) {
        let linked: Vec<PeerId> = self.links.keys().copied().collect();
        for peer in linked {
            out.send(peer, Say::Leaving);
            self.write(peer, now, out);
        }
    }

    // -- private

    fn unavailable_after(&self) -> Duration {
        self.interval() * self.config.missed_unavailable
    }

    fn gone_after(&self) -> Duration {
        (self.interval() * self.config.missed_gone).max(self.config.gone_at_least)
    }

    fn interval(&self) -> Duration {
        let stretched = Duration::from_secs(self.links.len() as u64 + 1) / self.config.beacons_per_second.max(1);
        self.config.beacon_interval.max(stretched)
    }

    fn accept_beacon(&mut self, beacon: Heard<Beacon>, now: Now, out: &mut Out) -> Vec<Fact> {
        let peer = beacon.value.peer;
        let mut facts = Vec::new();
        let sequence = beacon.value.contact;
        if let Some(entry) = self.peers.get_mut(&peer) {
            let signals = |beacon: &Beacon| (beacon.available, beacon.inactive, beacon.cloned, beacon.services);
            if entry.beacon.as_ref().is_none_or(|last| signals(&last.value) != signals(&beacon.value)) {
                facts.push(Fact::Signalled(peer));
            }
            entry.last_seen = now.wall;
            let epoch_changed = entry.beacon.as_ref().is_none_or(|last| last.value.epoch != beacon.value.epoch);
            let (mut restarted, mut settled) = (false, false);
            let new_start = entry.beacon.as_ref().is_none_or(|last| last.value.nonce != beacon.value.nonce);
            if new_start && !entry.is_other(&beacon.value) && !beacon.value.cloned {
                entry.told_cloned = false;
            }
            if beacon.value.cloned && !std::mem::replace(&mut entry.told_cloned, true) {
                let name = &entry.contact.name;
                out.note(What::Cloned { peer });
                out.notify(Notice::Warning(format!(
                    "{name} runs twice with one key: it takes and sends no letters until one of the two is stopped"
                )));
            }
            if let Some(last) = entry.beacon.take_if(|_| new_start) {
                // Another start, or a second process. Two that know of each other need not be told any more.
                settled = last.value.cloned && beacon.value.cloned;
                restarted = !settled;
                entry.other = Some(last);
            }
            let outdated = sequence > entry.contact.sequence;
            entry.beacon = Some(beacon);
            if restarted {
                facts.extend(self.show(peer, now));
            } else if outdated && self.links.get(&peer).is_some_and(|link| link.met) {
                // Its card has changed, and greeting it brings its new one.
                facts.extend(self.greet(peer, true, now));
            }
            if epoch_changed {
                facts.push(Fact::Memory(peer));
            }
            if epoch_changed && !settled {
                self.write(peer, now, out);
            }
        }
        if let Some(link) = self.links.get_mut(&peer) {
            link.heard_at = now.mono;
        }
        facts.extend(self.judge(peer, now, out));
        facts
    }

    /// Brings the verdict on a neighbour up to date.
    fn judge(&mut self, peer: PeerId, now: Now, out: &mut Out) -> Vec<Fact> {
        let (unavailable, gone) = (self.unavailable_after(), self.gone_after());
        let judging = now.mono >= self.judges_from;
        let Some(link) = self.links.get_mut(&peer) else { return Vec::new() };
        let silent = now.mono.saturating_sub(if link.met { link.heard_at } else { link.unmet_since });
        let reachable = link.met && (silent < unavailable || (link.reachable && !judging));
        if judging && silent >= gone && !link.gone {
            link.gone = true;
            out.effects.push(Effect::Forget { peer });
        }
        if reachable == link.reachable {
            return Vec::new();
        }
        link.reachable = reachable;
        link.since = now.mono;
        let (address, in_order) = (link.address.clone(), link.leaving);
        if reachable {
            link.gone = false;
            let Some(name) = self.contact(&peer).map(|contact| contact.name.clone()) else { return Vec::new() };
            out.note(What::PeerCame { peer, name: name.clone() });
            out.notify(Notice::PeerHere { peer, name, address });
            vec![Fact::Reachable(peer)]
        } else {
            let fact = self.tell_gone(peer, in_order, out);
            self.write(peer, now, out);
            vec![fact]
        }
    }

    fn tell_gone(&self, peer: PeerId, in_order: bool, out: &mut Out) -> Fact {
        out.note(What::PeerLeft { peer });
        if let Some(contact) = self.contact(&peer) {
            out.notify(Notice::PeerGone { peer, name: contact.name.clone(), in_order });
        }
        Fact::Unreachable { peer, in_order }
    }

    fn write(&mut self, peer: PeerId, now: Now, out: &mut Out) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.written_at = now.mono;
            out.store(Change::Known(Box::new(Known {
                contact: entry.signed.clone(),
                first_seen: entry.first_seen,
                last_seen: entry.last_seen,
                beacon: entry.beacon.as_ref().map(|beacon| beacon.signed.clone()),
            })));
        }
    }

    fn dial(&self, contact: &Contact, out: &mut Out) {
        if !self.links.contains_key(&contact.id) && !contact.addresses.is_empty() {
            out.effects.push(Effect::Dial { peer: contact.id, addresses: contact.addresses.clone() });
        }
    }

    fn warn_of_shared_name(&self, contact: &Contact, out: &mut Out) {
        let other = self.peers.values().map(|entry| &entry.contact).find(|other| other.name == contact.name && other.id != contact.id);
        if let Some(other) = other {
            out.note(What::NameOnNewKey { name: contact.name.clone(), old: other.id, new: contact.id });
            let (old, new) = (distinct(&other.name, &other.id), distinct(&contact.name, &contact.id));
            out.notify(Notice::Warning(format!("two peers are called {}: {old} and now {new}", contact.name)));
        }
    }

    fn nearest(&self, to: &Addressee) -> Vec<String> {
        let wanted = match to {
            Addressee::Name(name) | Addressee::Ending(name, _) => name.as_str().to_lowercase(),
            Addressee::Id(_) => return Vec::new(),
        };
        let names = self.peers.values().map(|entry| entry.contact.name.as_str());
        let mut close: Vec<(f64, &str)> = names.map(|name| (likeness(&wanted, &name.to_lowercase()), name)).collect();
        close.retain(|(likeness, _)| *likeness >= LIKENESS);
        close.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        close.dedup_by(|a, b| a.1 == b.1);
        close.into_iter().take(NEAREST).map(|(_, name)| name.to_owned()).collect()
    }

    /// Whether this neighbour knows something else than we do, and asking may help.
    fn differs(&self, peer: PeerId, at: Option<(Duration, u64)>) -> bool {
        let Some(link) = self.links.get(&peer).filter(|link| link.met && link.reachable) else { return false };
        let Some(beacon) = self.beacon(&peer).filter(|beacon| !self.cloned && !beacon.value.cloned) else { return false };
        match at {
            None => true,
            Some((now, known)) => {
                let barren = link.barren.is_some_and(|(digest, until)| digest == beacon.value.known && now < until);
                beacon.value.known != known && !barren
            }
        }
    }

    fn exchange(&mut self, mine: u64, now: Now, rng: &mut ChaCha8Rng, out: &mut Out) {
        if let Some((_, since)) = self.exchange.with
            && since + EXCHANGE_PATIENCE <= now.mono
        {
            // Not answered: that says nothing of what its list would teach.
            self.exchange.with = None;
        }
        if self.exchange.with.is_some() || now.mono < self.exchange.next_at {
            return;
        }
        self.exchange.next_at = now.mono + self.config.exchange_interval;
        let differing: Vec<PeerId> = self.links.keys().copied().filter(|peer| self.differs(*peer, Some((now.mono, mine)))).collect();
        if differing.is_empty() {
            return;
        }
        let chosen = differing[rng.next_u32() as usize % differing.len()];
        self.exchange.with = Some((chosen, now.mono));
        self.exchange.after = None;
        self.exchange.ends_at = now.mono + EXCHANGE_MOST;
        self.exchange.learned = false;
        out.send(chosen, Say::AskPeers { after: None });
    }

    fn end_exchange(&mut self, with: PeerId, now: Now) {
        self.exchange.with = None;
        let digest = self.beacon(&with).map(|beacon| beacon.value.known);
        let learned = self.exchange.learned;
        if let (Some(link), Some(digest)) = (self.links.get_mut(&with), digest) {
            link.barren = (!learned).then_some((digest, now.mono + BARREN_FOR));
        }
    }
}

/// How alike two names are, 0 to 1; a name that begins with what was typed is always alike.
fn likeness(wanted: &str, name: &str) -> f64 {
    if name.starts_with(wanted) { 1.0 } else { strsim::jaro_winkler(wanted, name) }
}
