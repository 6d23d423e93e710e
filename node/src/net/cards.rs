//! Signed cards as records of Kademlia: a second road to peers that nobody here has met.
//! Knows nothing of what a card says. Kept for others is only what its own signer brought, for a few minutes, and never an
//! older one after a newer; what is found is checked by whoever asked.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::kad::store::RecordStore;
use libp2p::{PeerId, kad};

use super::Event;
use super::adverts::Adverts;
use super::telling::Telling;

/// Told again after this; Kademlia's own replication would put old cards over new ones (research/libp2p.md section 3).
const RENEWED: Duration = Duration::from_secs(3 * 60);
/// A card that is not renewed is forgotten after this: three times are missed.
const KEPT_FOR: Duration = Duration::from_secs(10 * 60);
/// Cards taken for one question. Guess: three who agree are enough.
const ENOUGH: usize = 3;
/// Questions at a time; `protocol` asks no more.
const QUESTIONS: usize = 64;

/// Our own card, and the questions for those of others.
#[derive(Default)]
pub(super) struct Cards {
    own: Option<([u8; 32], Bytes)>,
    telling: Telling,
    questions: HashMap<kad::QueryId, (PeerId, Vec<Bytes>)>,
}

impl Cards {
    /// Begins again with the card that was told before a panic of the network.
    pub(super) fn new(own: Option<([u8; 32], Bytes)>) -> Cards {
        let mut cards = Cards::default();
        if let Some((key, card)) = own {
            cards.put(key, card);
        }
        cards
    }

    pub(super) fn put(&mut self, key: [u8; 32], card: Bytes) {
        self.own = Some((key, card));
        self.telling.begin(Instant::now());
    }

    pub(super) fn on_newcomer(&mut self, many: bool) {
        if self.own.is_some() {
            self.telling.on_newcomer(many, Instant::now());
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.telling.deadline()
    }

    pub(super) fn put_if_due(&mut self, kad: &mut kad::Behaviour<Adverts>) {
        let now = Instant::now();
        let Some((key, card)) = &self.own else { return };
        if !self.telling.take(now) {
            return;
        }
        self.telling.not_later_than(now + RENEWED);
        kad.store_mut().retain(|_, record| !record.is_expired(now));
        let key = kad::RecordKey::new(key);
        let record = kad::Record { key, value: card.to_vec(), publisher: None, expires: Some(now + KEPT_FOR) };
        if let Err(error) = kad.put_record(record, kad::Quorum::N(NonZeroUsize::MIN)) {
            tracing::debug!(%error, "our card could not be put into Kademlia");
            self.telling.on_missed(now);
        }
    }

    /// Whether anybody has taken our card. That it is kept cannot be known: it is told again and again.
    pub(super) fn on_put(&mut self, answer: &kad::PutRecordResult) {
        match answer {
            Ok(_) => self.telling.on_reached(),
            Err(error) => {
                tracing::debug!(%error, "nobody took our card");
                self.telling.on_missed(Instant::now());
            }
        }
    }

    /// Somebody wants us to keep a card.
    pub(super) fn keep(swarm: &str, from: &PeerId, record: kad::Record, kad: &mut kad::Behaviour<Adverts>) {
        let now = Instant::now();
        let sequence = |record: &kad::Record| protocol::edge::kept_card(swarm, from, record.key.as_ref(), &record.value);
        let Some(new) = sequence(&record) else {
            tracing::debug!(%from, "a record that is not its bearer's card is not kept");
            return;
        };
        let known = kad.store_mut().get(&record.key).filter(|known| !known.is_expired(now)).and_then(|known| sequence(&known));
        if known.is_some_and(|known| known > new) {
            return;
        }
        let latest = now + KEPT_FOR;
        let expires = Some(record.expires.map_or(latest, |expires| expires.min(latest)));
        let record = kad::Record { publisher: None, expires, ..record };
        if kad.store_mut().put(record.clone()).is_err() {
            kad.store_mut().retain(|_, record| !record.is_expired(now));
            if let Err(error) = kad.store_mut().put(record) {
                tracing::debug!(%error, "no room for another card");
            }
        }
    }

    /// Asks those who may keep it. With too many questions open the answer is at once that there is none.
    pub(super) fn find(&mut self, peer: PeerId, key: [u8; 32], kad: &mut kad::Behaviour<Adverts>) -> Option<Event> {
        if self.questions.len() >= QUESTIONS {
            return Some(Event::Cards { peer, cards: Vec::new(), ended: true });
        }
        let query = kad.get_record(kad::RecordKey::new(&key));
        self.questions.insert(query, (peer, Vec::new()));
        None
    }

    /// What a question has brought.
    pub(super) fn on_answer(
        &mut self,
        query: kad::QueryId,
        answer: kad::GetRecordResult,
        last: bool,
        kad: &mut kad::Behaviour<Adverts>,
    ) -> Option<Event> {
        let (peer, cards) = self.questions.get_mut(&query)?;
        let peer = *peer;
        let news = match answer {
            Ok(kad::GetRecordOk::FoundRecord(found)) => {
                cards.push(found.record.value.into());
                true
            }
            _ => false,
        };
        let ended = last || cards.len() >= ENOUGH;
        if ended {
            if !last && let Some(mut running) = kad.query_mut(&query) {
                running.finish();
            }
            let (_, cards) = self.questions.remove(&query)?;
            return Some(Event::Cards { peer, cards, ended });
        }
        news.then(|| Event::Cards { peer, cards: cards.clone(), ended })
    }
}
