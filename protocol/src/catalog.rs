//! What other peers offer, as they told it last, and whom to ask anew.
//! Knows nothing of how they are asked. A peer is due while the digest in its beacon differs from what it told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::now::Now;
use crate::service::{Allowed, Services};

/// Peers of which something is kept (as many as are remembered: `Config::peers`).
const PEERS: usize = 10_000;
/// Cards, words of software and peers named in cards, of all peers together (guess: about 100 bytes of memory each).
const ITEMS: usize = 500_000;
/// How long an answer is waited for before a peer is asked again (as `Config::work_patience`) …
const PATIENCE: Duration = Duration::from_secs(2);
/// … doubling up to this (guess: who answers with something else than its digest says is asked seldom).
const PATIENCE_MOST: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Catalog {
    me: PeerId,
    told: BTreeMap<PeerId, Told>,
    /// Whose services are to be asked for.
    unsettled: BTreeSet<PeerId>,
    items: usize,
}

#[derive(Debug, Default)]
struct Told {
    /// What its beacon says.
    digest: u64,
    /// Digest of what it told; 0 while it told nothing.
    known: u64,
    services: Services,
    /// It was away since it told.
    stale: bool,
    /// When it is to be asked; none until its next beacon.
    ask_at: Option<Duration>,
    patience: Duration,
}

impl Told {
    fn settled(&self) -> bool {
        self.digest == self.known && !self.stale
    }
}

impl Catalog {
    pub(crate) fn new(me: PeerId) -> Self {
        Catalog { me, told: BTreeMap::new(), unsettled: BTreeSet::new(), items: 0 }
    }

    /// A beacon of a peer was heard; true if it offers nothing any more, and did before.
    pub(crate) fn on_digest(&mut self, peer: PeerId, digest: u64, now: Now) -> bool {
        if peer == self.me || (!self.told.contains_key(&peer) && (digest == 0 || self.told.len() >= PEERS)) {
            return false;
        }
        if digest == 0 {
            self.unsettled.remove(&peer);
            return self.forget(&peer).is_some_and(|told| !told.services.services.is_empty());
        }
        let told = self.told.entry(peer).or_default();
        if told.digest != digest {
            told.digest = digest;
            told.patience = PATIENCE;
            told.ask_at = None;
        }
        if told.settled() {
            self.unsettled.remove(&peer);
        } else {
            told.ask_at.get_or_insert(now.mono);
            self.unsettled.insert(peer);
        }
        false
    }

    /// A peer told what it offers; true if something changed. What would be too much for this node counts as nothing.
    pub(crate) fn on_services(&mut self, peer: PeerId, services: Services, now: Now) -> bool {
        let Some(before) = self.told.get(&peer) else { return false };
        let (digest, patience, ask_at) = (before.digest, before.patience, before.ask_at);
        let known = services.digest();
        let changed = before.services != services;
        if changed {
            self.forget(&peer);
        }
        let services = if self.items + items(&services) > ITEMS { Services::default() } else { services };
        if changed {
            self.items += items(&services);
        }
        let told = self.told.entry(peer).or_default();
        *told = Told {
            digest,
            known,
            stale: false,
            ask_at,
            patience,
            services: if changed { services } else { std::mem::take(&mut told.services) },
        };
        if told.settled() {
            told.ask_at = None;
            told.patience = PATIENCE;
            self.unsettled.remove(&peer);
        } else {
            told.ask_at = Some(now.mono + told.patience);
        }
        changed
    }

    /// A peer is away. What it offered stays known; it is asked again when it is back.
    pub(crate) fn on_unreachable(&mut self, peer: PeerId) {
        if let Some(told) = self.told.get_mut(&peer) {
            told.stale = true;
            told.ask_at = None;
            told.patience = PATIENCE;
        }
    }

    /// What a peer offers, as far as it told.
    pub(crate) fn of(&self, peer: &PeerId) -> Option<&Services> {
        self.told.get(peer).filter(|told| told.known != 0).map(|told| &told.services)
    }

    /// Whom to ask now. Who is not reachable waits for its next beacon.
    pub(crate) fn due(&mut self, reachable: impl Fn(&PeerId) -> bool, now: Now) -> Vec<PeerId> {
        let mut due = Vec::new();
        for peer in &self.unsettled {
            let Some(told) = self.told.get_mut(peer).filter(|told| told.ask_at.is_some_and(|at| at <= now.mono)) else { continue };
            if reachable(peer) {
                due.push(*peer);
                told.ask_at = Some(now.mono + told.patience);
                told.patience = (told.patience * 2).min(PATIENCE_MOST);
            } else {
                told.ask_at = None;
            }
        }
        due
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.unsettled.iter().filter_map(|peer| self.told.get(peer)?.ask_at).min()
    }

    fn forget(&mut self, peer: &PeerId) -> Option<Told> {
        let told = self.told.remove(peer)?;
        self.items -= items(&told.services);
        Some(told)
    }
}

fn items(services: &Services) -> usize {
    let named = |allowed: &Allowed| match allowed {
        Allowed::Anyone => 0,
        Allowed::Peers(peers) => peers.len(),
    };
    let cards = services.services.iter().map(|card| 1 + card.needs.software.len() + named(&card.allowed));
    services.software.len() + cards.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Secrets;
    use crate::service::{Needs, ServiceCard, ServiceName};

    fn peer(n: u8) -> PeerId {
        Secrets::from_seeds(&[n; 32], &[n; 32]).id()
    }

    fn at(ms: u64) -> Now {
        Now { mono: Duration::from_millis(ms), ..Now::default() }
    }

    fn name(text: &str) -> ServiceName {
        text.parse().expect("a name")
    }

    /// Who offers a service, reachable or not, by id.
    fn providers(catalog: &Catalog, service: &ServiceName) -> Vec<PeerId> {
        let offers = |told: &Told| told.services.services.iter().any(|card| card.name == *service);
        catalog.told.iter().filter(|(_, told)| offers(told)).map(|(peer, _)| *peer).collect()
    }

    fn offering(names: &[&str]) -> Services {
        let card = |text: &&str| ServiceCard {
            name: name(text),
            about: String::new(),
            limit: 1,
            needs: Needs::default(),
            allowed: Allowed::Anyone,
        };
        Services { services: names.iter().map(card).collect(), ..Services::default() }
    }

    #[test]
    fn a_peer_is_asked_when_its_digest_differs_and_left_alone_when_it_has_told() {
        let mut catalog = Catalog::new(peer(0));
        let services = offering(&["coffee", "tea"]);
        assert!(!catalog.on_digest(peer(1), services.digest(), at(0)));
        assert_eq!(catalog.deadline(), Some(Duration::ZERO));
        assert_eq!(catalog.due(|_| true, at(0)), [peer(1)]);
        assert!(catalog.due(|_| true, at(1_000)).is_empty(), "the answer is on its way");
        assert_eq!(catalog.due(|_| true, at(2_000)), [peer(1)], "unanswered");
        assert!(catalog.on_services(peer(1), services.clone(), at(2_100)));
        assert!(!catalog.on_services(peer(1), services.clone(), at(2_100)), "the same again changes nothing");
        assert_eq!(catalog.of(&peer(1)), Some(&services));
        assert_eq!(providers(&catalog, &name("tea")), [peer(1)]);
        catalog.on_digest(peer(1), services.digest(), at(3_000));
        assert_eq!(catalog.deadline(), None);
        assert!(catalog.due(|_| true, at(90_000)).is_empty());
    }

    #[test]
    fn who_offers_something_else_or_nothing_is_not_found_for_what_it_offered() {
        let mut catalog = Catalog::new(peer(0));
        let (before, after) = (offering(&["coffee"]), offering(&["tea"]));
        catalog.on_digest(peer(1), before.digest(), at(0));
        catalog.on_services(peer(1), before, at(0));
        catalog.on_digest(peer(1), after.digest(), at(0));
        assert_eq!(providers(&catalog, &name("coffee")), [peer(1)], "known until it tells otherwise");
        assert_eq!(catalog.due(|_| true, at(0)), [peer(1)]);
        assert!(catalog.on_services(peer(1), after, at(0)));
        assert!(providers(&catalog, &name("coffee")).is_empty());
        assert!(catalog.on_digest(peer(1), 0, at(0)));
        assert!(providers(&catalog, &name("tea")).is_empty());
        assert_eq!((catalog.of(&peer(1)), catalog.deadline(), catalog.items), (None, None, 0));
    }

    #[test]
    fn who_was_away_stays_known_and_is_asked_again_when_it_is_back() {
        let mut catalog = Catalog::new(peer(0));
        let services = offering(&["coffee"]);
        catalog.on_digest(peer(1), services.digest(), at(0));
        catalog.on_services(peer(1), services.clone(), at(0));
        catalog.on_unreachable(peer(1));
        assert_eq!(catalog.deadline(), None, "nobody is waited for while away");
        assert_eq!(catalog.of(&peer(1)), Some(&services));
        catalog.on_digest(peer(1), services.digest(), at(50));
        assert!(catalog.due(|_| false, at(50)).is_empty());
        assert_eq!(catalog.deadline(), None);
        catalog.on_digest(peer(1), services.digest(), at(60));
        assert_eq!(catalog.due(|_| true, at(60)), [peer(1)]);
    }

    #[test]
    fn whoever_never_tells_what_its_digest_says_is_asked_seldom() {
        let mut catalog = Catalog::new(peer(0));
        catalog.on_digest(peer(1), 7, at(0));
        let mut asked = 0;
        for second in 0..600 {
            catalog.on_digest(peer(1), 7, at(second * 1_000));
            for who in catalog.due(|_| true, at(second * 1_000)) {
                catalog.on_services(who, offering(&["coffee"]), at(second * 1_000));
                asked += 1;
            }
        }
        assert!((3..20).contains(&asked), "{asked}");
    }

    #[test]
    fn what_others_tell_is_bounded_and_unasked_is_ignored() {
        let mut catalog = Catalog::new(peer(0));
        assert!(!catalog.on_services(peer(1), offering(&["coffee"]), at(0)));
        assert!(!catalog.on_digest(peer(0), 7, at(0)), "one's own services are not looked up here");
        catalog.items = ITEMS;
        catalog.on_digest(peer(1), 7, at(0));
        catalog.on_services(peer(1), offering(&["coffee"]), at(0));
        assert!(providers(&catalog, &name("coffee")).is_empty());
        assert_eq!(catalog.items, ITEMS);
    }
}
