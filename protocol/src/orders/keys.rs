//! Orders with an idempotency key, until the disk has told whether it is new.
//! Knows nothing of orders otherwise. A key is here from the first request with it to the answer of all.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::codec;
use crate::config::limits;
use crate::effect::{Answer, Effect, Out, Refusal};
use crate::id::RequestId;
use crate::input::{NewOrder, Recall};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeMap<String, Keyed>);

#[derive(Debug)]
struct Keyed {
    digest: [u8; 32],
    /// Taken when the disk has answered.
    order: Option<NewOrder>,
    first: RequestId,
    /// Later requests with the same key and order.
    others: Vec<RequestId>,
}

impl Keys {
    /// Returns an order without a key; the disk is asked about one with a key.
    pub(super) fn ask(&mut self, request: RequestId, order: NewOrder, out: &mut Out) -> Option<NewOrder> {
        let Some(key) = order.key.clone() else { return Some(order) };
        if key.is_empty() || key.len() > limits::KEY_BYTES {
            out.refuse(request, Refusal::Key { limit: limits::KEY_BYTES });
            return None;
        }
        let digest = digest(&order);
        match self.0.get_mut(&key) {
            // The same is being placed right now: what becomes of it becomes of this one too.
            Some(keyed) if keyed.digest == digest => keyed.others.push(request),
            Some(_) => out.refuse(request, Refusal::KeyInUse),
            None => {
                self.0.insert(key.clone(), Keyed { digest, order: Some(order), first: request, others: Vec::new() });
                out.effects.push(Effect::Recall(Recall::OrderKey { key }));
            }
        }
        None
    }

    /// Returns the order to place if its key is new.
    pub(super) fn on_found(&mut self, key: &str, found: Option<(u64, [u8; 32])>, out: &mut Out) -> Option<(RequestId, NewOrder)> {
        let keyed = self.0.get_mut(key)?;
        let Some((number, digest)) = found else { return keyed.order.take().map(|order| (keyed.first, order)) };
        let same = digest == keyed.digest;
        let answer = if same { Answer::Placed { number, repeated: true } } else { Answer::Refused(Refusal::OrderKeyReused { number }) };
        self.end(key, |_| answer.clone(), out);
        None
    }

    /// A request is refused: everyone who waits for its key learns why.
    pub(super) fn refuse(&mut self, request: RequestId, key: Option<&str>, refusal: &Refusal, out: &mut Out) {
        match key {
            Some(key) => self.end(key, |_| Answer::Refused(refusal.clone()), out),
            None => out.refuse(request, refusal.clone()),
        }
    }

    /// Everyone who waits for a key gets an answer: `answer` is told whether it is the first.
    pub(super) fn end(&mut self, key: &str, answer: impl Fn(bool) -> Answer, out: &mut Out) {
        if let Some(keyed) = self.0.remove(key) {
            out.reply(keyed.first, answer(true));
            keyed.others.into_iter().for_each(|other| out.reply(other, answer(false)));
        }
    }
}

/// What makes two requests with one key the same: everything but the key and the moment.
pub(super) fn digest(order: &NewOrder) -> [u8; 32] {
    let NewOrder { service, args, items, stdin, priority, needs, once, expires, key: _ } = order;
    let whole = (service, args, items, stdin, priority, needs, once, expires);
    Sha256::digest(codec::encode(&whole)).into()
}
