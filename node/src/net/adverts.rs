//! What Kademlia keeps for the swarm: the library's store, but asked again for a long list it begins elsewhere.
//! Knows nothing of services. Of an answer libp2p sends the first 20 only: without this nobody would ever hear of a 21st provider.

use std::borrow::Cow;
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use libp2p::PeerId;
use libp2p::kad::store::{MemoryStore, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

/// The store.
pub(crate) struct Adverts {
    store: MemoryStore,
    /// Where an answer begins is not foreseeable, and differs from node to node: the 20 of each who is asked add up to all.
    chance: RandomState,
    answers: Cell<u64>,
}

impl Adverts {
    pub(crate) fn new(store: MemoryStore) -> Adverts {
        Adverts { store, chance: RandomState::new(), answers: Cell::new(0) }
    }

    /// Forgets the records of which this says so.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&RecordKey, &mut Record) -> bool) {
        self.store.retain(keep);
    }
}

impl RecordStore for Adverts {
    type RecordsIter<'a> = <MemoryStore as RecordStore>::RecordsIter<'a>;
    type ProvidedIter<'a> = <MemoryStore as RecordStore>::ProvidedIter<'a>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.store.get(key)
    }

    fn put(&mut self, record: Record) -> Result<()> {
        self.store.put(record)
    }

    fn remove(&mut self, key: &RecordKey) {
        self.store.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.store.records()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        self.store.add_provider(record)
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let mut providers = self.store.providers(key);
        if !providers.is_empty() {
            self.answers.set(self.answers.get().wrapping_add(1));
            let turn = self.chance.hash_one(self.answers.get()) % providers.len() as u64;
            providers.rotate_left(turn as usize);
        }
        providers
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.store.provided()
    }

    fn remove_provider(&mut self, key: &RecordKey, peer: &PeerId) {
        self.store.remove_provider(key, peer);
    }
}
