//! Letters to ids that nobody here knows, while their cards are looked for.
//! Knows nothing of where. Each letter leaves once: when nothing it lacks is looked for any more, or when its patience has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::Config;
use crate::effect::{Effect, Out};
use crate::id::RequestId;
use crate::input::NewLetter;
use crate::now::Now;

/// See the module.
#[derive(Debug)]
pub(crate) struct Search {
    waiting: Vec<Waiting>,
    patience: Duration,
    most: usize,
    /// The sequence of the card that others were last told.
    published: Option<u64>,
}

#[derive(Debug)]
struct Waiting {
    request: RequestId,
    letter: NewLetter,
    lacking: BTreeSet<PeerId>,
    until: Duration,
}

impl Search {
    pub(crate) fn new(config: &Config) -> Search {
        Search { waiting: Vec::new(), patience: config.contact_patience, most: config.contacts_sought, published: None }
    }

    /// Looks for those that a letter lacks. Gives the letter back if too much is looked for already.
    pub(crate) fn look(
        &mut self,
        request: RequestId,
        letter: NewLetter,
        lacking: BTreeSet<PeerId>,
        now: Now,
        out: &mut Out,
    ) -> Option<NewLetter> {
        let sought: BTreeSet<PeerId> = self.waiting.iter().flat_map(|waiting| &waiting.lacking).copied().collect();
        if self.waiting.len() >= self.most || sought.union(&lacking).count() > self.most {
            return Some(letter);
        }
        out.effects.extend(lacking.difference(&sought).map(|peer| Effect::FindContact { peer: *peer }));
        self.waiting.push(Waiting { request, letter, lacking, until: now.mono + self.patience });
        None
    }

    /// The search for this peer has ended, with or without its card. Returns the letters that lack nothing more.
    pub(crate) fn on_ended(&mut self, peer: &PeerId) -> Vec<(RequestId, NewLetter)> {
        for waiting in &mut self.waiting {
            waiting.lacking.remove(peer);
        }
        self.take(|waiting| waiting.lacking.is_empty())
    }

    /// The letters whose patience has ended.
    pub(crate) fn tick(&mut self, now: Now) -> Vec<(RequestId, NewLetter)> {
        self.take(|waiting| waiting.until <= now.mono)
    }

    /// Whether others should be told this card: it is another than the last.
    pub(crate) fn publishes(&mut self, sequence: u64) -> bool {
        self.published.replace(sequence) != Some(sequence)
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    fn take(&mut self, which: impl Fn(&Waiting) -> bool) -> Vec<(RequestId, NewLetter)> {
        self.waiting.extract_if(.., |waiting| which(waiting)).map(|waiting| (waiting.request, waiting.letter)).collect()
    }
}
