//! This node's own facts: memory, name, signals, card and beacon.
//! Knows nothing of others. What it says of itself never goes back: boots, counters and card sequences only grow.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use serde_bytes::ByteArray;

use crate::beacon::{Beacon, Statistics};
use crate::bundle::SUITE;
use crate::config::{Config, limits};
use crate::contact::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, Contact};
use crate::effect::{Change, Me, Out, Start};
use crate::id::Epoch;
use crate::name::PeerName;
use crate::now::Now;
use crate::peer::Identity;
use crate::segment::What;

/// What a beacon of our own that a neighbour shows tells us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing that we must act on.
    Nothing,
    /// Our memory is older than what others heard from it.
    JumpedBack,
    /// Another process with our key is running.
    Cloned,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Myself {
    identity: Identity,
    me: Me,
    nonce: u64,
    counter: u64,
    statistics: Statistics,
    /// The nonce of the last start of this peer, and none that it remembers, that a neighbour showed.
    other: Option<u64>,
    /// Another process with this key is running.
    cloned: bool,
    /// An epoch was minted in this start: nobody else has it.
    minted: bool,
    /// The addresses are those of this start; before it listens, they are those of the last.
    listening: bool,
    /// Neighbours are to be told of `other` then, and when they last were.
    tell_at: Option<Duration>,
    told_at: Option<Duration>,
    tell_least: Duration,
    beacon_at: Duration,
    interval: Duration,
    beacons_per_second: u32,
    dirty: bool,
}

impl Myself {
    /// One more start of the memory `kept`, or the first of a new one.
    pub(crate) fn new(identity: Identity, config: &Config, kept: Option<Me>, record: u64, rng: &mut ChaCha8Rng, now: Now) -> Self {
        let is_first = kept.is_none();
        let mut me = kept.unwrap_or_else(|| Me {
            epoch: Epoch(rng.next_u64()),
            boot: 0,
            name: identity.name.clone(),
            contact: 1,
            addresses: Vec::new(),
            available: true,
            inactive: false,
            chain: rng.next_u64(),
            starts: Vec::new(),
            epochs: Vec::new(),
            restored: false,
        });
        me.boot += 1;
        let nonce = rng.next_u64();
        // Nothing is said before this is on the disk: a start that died earlier was heard by nobody.
        let forgotten = (me.starts.len() + 1).saturating_sub(limits::STARTS);
        me.starts.drain(..forgotten);
        me.starts.push(Start { boot: me.boot, nonce, record });
        Myself {
            identity,
            me,
            nonce,
            counter: 0,
            statistics: Statistics::default(),
            other: None,
            cloned: false,
            minted: is_first,
            listening: false,
            tell_at: None,
            told_at: None,
            tell_least: config.hello_least,
            beacon_at: now.mono,
            interval: config.beacon_interval,
            beacons_per_second: config.beacons_per_second,
            dirty: true,
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn facts(&self) -> &Me {
        &self.me
    }

    /// Notes the start in the record.
    pub(crate) fn started(&self, out: &mut Out) {
        out.note(What::Started { boot: self.me.boot, epoch: self.me.epoch });
    }

    /// The card as it is now.
    pub(crate) fn contact(&self) -> Contact {
        Contact {
            id: self.identity.id,
            name: self.me.name.clone(),
            machine: self.identity.machine,
            suite: SUITE,
            encryption_key: ByteArray::new(self.identity.encryption_key),
            key: self.identity.key,
            addresses: self.me.addresses.clone(),
            sequence: self.me.contact,
        }
    }

    /// The next beacon.
    pub(crate) fn beacon(&mut self, services: u64, known: u64, linked: usize, record: u64) -> Beacon {
        self.counter += 1;
        Beacon {
            peer: self.identity.id,
            epoch: self.me.epoch,
            boot: self.me.boot,
            nonce: self.nonce,
            counter: self.counter,
            contact: self.me.contact,
            available: self.me.available,
            inactive: self.me.inactive,
            services,
            known,
            linked: u32::try_from(linked).unwrap_or(u32::MAX),
            record,
            other: self.other,
            cloned: self.cloned,
            statistics: self.statistics,
        }
    }

    /// Whether a beacon is due; if so the next is planned, later the more `peers` there are.
    pub(crate) fn beacon_due(&mut self, peers: usize, now: Now, rng: &mut ChaCha8Rng) -> bool {
        if now.mono < self.beacon_at {
            return false;
        }
        let stretched = Duration::from_secs(peers as u64 + 1) / self.beacons_per_second.max(1);
        let interval = self.interval.max(stretched);
        // A tenth of jitter keeps nodes that started together from speaking together.
        let jitter = interval / 10 * (rng.next_u32() % 1000) / 1000;
        self.beacon_at = now.mono + interval - jitter;
        true
    }

    /// The next beacon should leave with this batch.
    pub(crate) fn beacon_soon(&mut self, now: Now) {
        self.beacon_at = self.beacon_at.min(now.mono);
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.tell_at.map_or(self.beacon_at, |at| at.min(self.beacon_at))
    }

    /// Whether neighbours are to be told now, by stream, what the beacon says.
    pub(crate) fn telling_due(&mut self, now: Now) -> bool {
        let due = self.tell_at.is_some_and(|at| at <= now.mono);
        if due {
            self.tell_at = None;
            self.told_at = Some(now.mono);
        }
        due
    }

    /// Whether another process with this key is running. Never again untrue in this start.
    pub(crate) fn is_cloned(&self) -> bool {
        self.cloned
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.statistics
    }

    pub(crate) fn on_measured(&mut self, statistics: Statistics) {
        self.statistics = statistics;
    }

    /// Where it can be reached, as far as this start knows.
    pub(crate) fn listens_at(&self) -> &[String] {
        if self.listening { &self.me.addresses } else { &[] }
    }

    /// New addresses make a new card; true if they are new.
    pub(crate) fn on_listening(&mut self, mut addresses: Vec<String>) -> bool {
        addresses.retain(|address| address.len() <= ADDRESS_BYTES_MAX && address.is_ascii());
        addresses.sort();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        self.listening = true;
        let new = addresses != self.me.addresses;
        if new {
            self.me.addresses = addresses;
            self.new_card();
        }
        new
    }

    /// Takes another name; true if it is another.
    pub(crate) fn rename(&mut self, name: PeerName, out: &mut Out) -> bool {
        if name == self.me.name {
            return false;
        }
        let old = std::mem::replace(&mut self.me.name, name.clone());
        out.note(What::PeerRenamed { peer: self.identity.id, old, new: name });
        self.new_card();
        true
    }

    /// Changes a signal; true if it changed.
    pub(crate) fn signal(&mut self, available: bool, inactive: bool, out: &mut Out) -> bool {
        if (available, inactive) == (self.me.available, self.me.inactive) {
            return false;
        }
        self.me.available = available;
        self.me.inactive = inactive;
        self.dirty = true;
        out.note(What::Signalled { available, inactive });
        true
    }

    /// Somebody has another card of ours with this sequence: ours must be greater to win.
    pub(crate) fn on_own_card(&mut self, sequence: u64) {
        // Of two processes that both want the greater card neither would ever rest.
        if sequence >= self.me.contact && !self.cloned {
            self.me.contact = sequence;
            self.new_card();
        }
    }

    /// A card that an earlier memory of ours announced must not outlive the one we have now. True if ours is new.
    pub(crate) fn supersede_card(&mut self, beacon: &Beacon) -> bool {
        let older = beacon.epoch != self.me.epoch && beacon.contact >= self.me.contact && !self.cloned;
        if older {
            self.me.contact = beacon.contact;
            self.new_card();
        }
        older
    }

    /// A neighbour shows a beacon signed by us: what follows from it.
    pub(crate) fn on_shown(&mut self, beacon: &Beacon, now: Now) -> Shown {
        if beacon.nonce == self.nonce {
            return Shown::Nothing;
        }
        // Whoever signed it has our key, and has learnt of a start that began after its own: ours, which still runs.
        let proof = beacon.other == Some(self.nonce);
        // A start that we remember is over, unless the directory was copied while it ran.
        let remembered = self.me.starts.iter().any(|start| start.nonce == beacon.nonce) && !proof;
        if !remembered && self.other != Some(beacon.nonce) {
            // If the process that made it is alive, it learns of us by our next beacon; if it is not, nothing comes of it.
            self.other = Some(beacon.nonce);
            let soonest = self.told_at.map_or(now.mono, |at| at + self.tell_least);
            self.tell_at = Some(self.tell_at.unwrap_or(soonest.max(now.mono)));
        }
        let forgotten = self.remember(beacon.epoch);
        if self.cloned {
            Shown::Nothing
        } else if proof {
            Shown::Cloned
        } else if self.is_later_than_memory(beacon) || (forgotten && !self.minted) {
            Shown::JumpedBack
        } else {
            Shown::Nothing
        }
    }

    /// From now on this memory is known to have been ours; true if it was not. It was begun after ours was put on the backup from which it
    /// comes, or by a copy; where ours was begun in this start, nothing that we author can be mistaken for what that one did.
    fn remember(&mut self, epoch: Epoch) -> bool {
        if epoch == self.me.epoch || self.me.epochs.contains(&epoch) {
            return false;
        }
        let forgotten = (self.me.epochs.len() + 1).saturating_sub(limits::EPOCHS);
        self.me.epochs.drain(..forgotten);
        self.me.epochs.push(epoch);
        self.dirty = true;
        true
    }

    /// Another process with this key is running. True if what is authored later needs a new epoch: ours may be the other's too.
    pub(crate) fn become_cloned(&mut self, now: Now, out: &mut Out) -> bool {
        self.cloned = true;
        self.tell_at = Some(now.mono);
        out.note(What::Cloned { peer: self.identity.id });
        !self.minted
    }

    /// Whether a beacon signed by us shows that our memory jumped back: it is later than what we remember.
    fn is_later_than_memory(&self, beacon: &Beacon) -> bool {
        let starts = &self.me.starts;
        beacon.epoch == self.me.epoch
            && match starts.iter().position(|start| start.boot == beacon.boot) {
                Some(at) if starts[at].nonce != beacon.nonce => true,
                // A start that we remember may have gone on after the backup was taken.
                Some(at) => starts.get(at + 1).is_some_and(|next| beacon.record > next.record),
                None => beacon.boot > self.me.boot || starts.first().is_some_and(|oldest| beacon.record > oldest.record),
            }
    }

    /// A new memory for what is authored from now on. Returns the new chain of the record.
    pub(crate) fn mint_epoch(&mut self, rng: &mut ChaCha8Rng, out: &mut Out) -> u64 {
        let (old, new) = (self.me.epoch, Epoch(rng.next_u64()));
        self.me.epoch = new;
        self.remember(old);
        self.me.restored = false;
        self.minted = true;
        self.me.chain = rng.next_u64();
        self.new_card();
        out.note(What::EpochMinted { old, new });
        self.me.chain
    }

    /// Writes what changed.
    pub(crate) fn close(&mut self, out: &mut Out) {
        if std::mem::take(&mut self.dirty) {
            out.store(Change::Me(self.me.clone()));
        }
    }

    fn new_card(&mut self) {
        self.me.contact = self.me.contact.saturating_add(1);
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;
    use crate::bundle::Secrets;

    /// A start of a node whose record ends with segment `record`.
    fn start(kept: Option<Me>, record: u64, seed: u64) -> Myself {
        let secrets = Secrets::from_seeds(&[1; 32], &[2; 32]);
        let identity = Identity {
            id: secrets.id(),
            name: "ann".parse().expect("a name"),
            machine: crate::id::MachineId::new([1; 16]),
            encryption_key: secrets.encryption_key(),
            key: secrets.key_id(),
        };
        Myself::new(identity, &Config::default(), kept, record, &mut ChaCha8Rng::seed_from_u64(seed), Now::default())
    }

    fn kept(myself: &Myself) -> Option<Me> {
        Some(myself.facts().clone())
    }

    #[test]
    fn no_start_finds_an_earlier_one_of_its_own_to_be_later() {
        let mut myself = start(None, 0, 0);
        let mut beacons = vec![myself.beacon(0, 0, 0, 3)];
        for boot in 1..200 {
            // It died before it could write everything: its record ends where that beacon said, or later.
            myself = start(kept(&myself), 3 * boot, boot);
            for beacon in &beacons {
                assert!(!myself.is_later_than_memory(beacon), "{beacon:?} at boot {}", boot + 1);
            }
            beacons.push(myself.beacon(0, 0, 0, 3 * (boot + 1)));
            assert!(myself.facts().starts.len() <= limits::STARTS);
        }
    }

    #[test]
    fn what_a_backup_has_forgotten_is_later_however_often_it_was_started_since() {
        let backup = start(None, 0, 0);
        let mut original = start(kept(&backup), 10, 100);
        let forgotten = original.beacon(0, 0, 0, 11);
        let mut restored = start(kept(&backup), 10, 200);
        // Its own starts overtake the forgotten one, and its record grows longer.
        for boot in 0..60 {
            restored = start(kept(&restored), 50 + boot, 300 + boot);
            assert!(restored.is_later_than_memory(&forgotten), "at start {boot}");
        }
        let _ = restored.mint_epoch(&mut ChaCha8Rng::seed_from_u64(9), &mut Out::default());
        assert!(!restored.is_later_than_memory(&forgotten), "said once");
    }

    #[test]
    fn what_a_start_said_after_the_backup_was_taken_is_later() {
        let mut original = start(None, 0, 0);
        let before = original.beacon(0, 0, 0, 10);
        let backup = kept(&original);
        let forgotten = original.beacon(0, 0, 0, 20);
        let mut restored = start(backup, 10, 1);
        for boot in 2..5 {
            restored = start(kept(&restored), 10 * boot + 10, boot);
            assert!(restored.is_later_than_memory(&forgotten) && !restored.is_later_than_memory(&before));
        }
    }

    #[test]
    fn a_backup_is_told_however_often_it_is_put_back() {
        let backup = kept(&start(None, 0, 0));
        let mut said = vec![start(backup.clone(), 10, 99).beacon(0, 0, 0, 11)];
        for time in 1..=8 {
            let mut restored = start(backup.clone(), 10, 100 * time);
            // Neighbours show the last two of its starts.
            let shown = said.split_off(said.len().saturating_sub(2));
            let mut minted = 0;
            for beacon in &shown {
                if restored.on_shown(beacon, Now::default()) == Shown::JumpedBack {
                    let _ = restored.mint_epoch(&mut ChaCha8Rng::seed_from_u64(time), &mut Out::default());
                    minted += 1;
                }
            }
            assert_eq!(minted, 1, "the {time}. time");
            said.push(restored.beacon(0, 0, 0, 12));
            // What it was shown it knows from then on.
            let mut again = start(kept(&restored), 12, 100 * time + 1);
            assert!(shown.iter().all(|beacon| again.on_shown(beacon, Now::default()) == Shown::Nothing), "the {time}. time");
            said.push(again.beacon(0, 0, 0, 13));
        }
    }

    #[test]
    fn of_a_boot_too_old_to_be_remembered_the_record_tells() {
        let mut myself = start(None, 0, 0);
        let mut old = myself.beacon(0, 0, 0, 10);
        for boot in 0..limits::STARTS as u64 {
            myself = start(kept(&myself), 50, boot + 1);
        }
        assert!(!myself.is_later_than_memory(&old));
        old.record = 51;
        assert!(myself.is_later_than_memory(&old));
    }
}
