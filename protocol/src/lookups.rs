//! Who is said to offer a service: looked for where adverts are kept, and those who are named and not here are called.
//! Knows nothing of where that is, and believes nothing: whoever is named is asked afterwards. Each request is answered once, when all
//! who were named are here, or when its patience has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::Config;
use crate::effect::{Answer, Effect, Out};
use crate::id::RequestId;
use crate::now::Now;
use crate::service::ServiceName;

/// See the module.
#[derive(Debug)]
pub(crate) struct Lookups {
    me: PeerId,
    patience: Duration,
    most: usize,
    named_most: usize,
    open: BTreeMap<u64, Lookup>,
    next: u64,
}

#[derive(Debug)]
struct Lookup {
    request: RequestId,
    named: BTreeSet<PeerId>,
    /// Nobody else will be named.
    ended: bool,
    until: Duration,
}

impl Lookups {
    pub(crate) fn new(me: PeerId, config: &Config) -> Lookups {
        let (patience, most, named_most) = (config.question_patience, config.lookups, config.lookup_named);
        Lookups { me, patience, most, named_most, open: BTreeMap::new(), next: 0 }
    }

    /// Looks for those who offer a service. Where too much is looked for already, nobody is named.
    pub(crate) fn look(&mut self, request: RequestId, service: ServiceName, now: Now, out: &mut Out) {
        if self.open.len() >= self.most {
            return out.reply(request, Answer::Named(Vec::new()));
        }
        let token = self.next;
        self.next += 1;
        self.open.insert(token, Lookup { request, named: BTreeSet::new(), ended: false, until: now.mono + self.patience });
        out.effects.push(Effect::FindProviders { token, service });
    }

    /// These were named. Returns those who are not here, to be called.
    pub(crate) fn on_named(&mut self, token: u64, peers: Vec<PeerId>, ended: bool, here: impl Fn(&PeerId) -> bool) -> Vec<PeerId> {
        let Some(lookup) = self.open.get_mut(&token) else { return Vec::new() };
        lookup.ended |= ended;
        let mut called = Vec::new();
        for peer in peers {
            if peer != self.me && lookup.named.len() < self.named_most && lookup.named.insert(peer) && !here(&peer) {
                called.push(peer);
            }
        }
        called
    }

    /// Answers those of whom nobody is waited for any more.
    pub(crate) fn tick(&mut self, here: impl Fn(&PeerId) -> bool, now: Now, out: &mut Out) {
        let over = |lookup: &Lookup| lookup.until <= now.mono || (lookup.ended && lookup.named.iter().all(&here));
        for (_, lookup) in self.open.extract_if(.., |_, lookup| over(lookup)) {
            out.reply(lookup.request, Answer::Named(lookup.named.into_iter().collect()));
        }
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.open.values().map(|lookup| lookup.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Secrets;

    fn peer(n: u8) -> PeerId {
        Secrets::from_seeds(&[n; 32], &[n; 32]).id()
    }

    fn at(ms: u64) -> Now {
        Now { mono: Duration::from_millis(ms), ..Now::default() }
    }

    fn coffee() -> ServiceName {
        "coffee".parse().expect("a name")
    }

    fn named(request: u64, peers: &[u8]) -> Effect {
        let peers: BTreeSet<PeerId> = peers.iter().map(|n| peer(*n)).collect();
        Effect::Reply { request: RequestId(request), answer: Answer::Named(peers.into_iter().collect()) }
    }

    #[test]
    fn who_is_here_is_waited_for_no_longer_and_who_is_not_is_called_once() {
        let (mut lookups, mut out) = (Lookups::new(peer(0), &Config::default()), Out::default());
        lookups.look(RequestId(7), coffee(), at(0), &mut out);
        assert_eq!(std::mem::take(&mut out.effects), [Effect::FindProviders { token: 0, service: coffee() }]);
        let here = |who: &PeerId| *who == peer(1);
        assert_eq!(lookups.on_named(0, vec![peer(1), peer(2), peer(0)], false, here), [peer(2)], "nobody calls itself");
        assert_eq!(lookups.on_named(0, vec![peer(2)], true, here), [], "called already");
        lookups.tick(here, at(1), &mut out);
        assert_eq!(out.effects, [], "one of them may still come");
        lookups.tick(|_| true, at(2), &mut out);
        assert_eq!(std::mem::take(&mut out.effects), [named(7, &[1, 2])]);
        assert_eq!(lookups.on_named(0, vec![peer(3)], true, here), [], "too late");
        assert_eq!(lookups.deadline(), None);
    }

    #[test]
    fn patience_ends_and_so_does_room() {
        let config = Config { lookups: 1, lookup_named: 2, ..Config::default() };
        let (mut lookups, mut out) = (Lookups::new(peer(0), &config), Out::default());
        lookups.look(RequestId(1), coffee(), at(0), &mut out);
        out.effects.clear();
        lookups.look(RequestId(2), coffee(), at(0), &mut out);
        assert_eq!(std::mem::take(&mut out.effects), [named(2, &[])]);
        assert_eq!(lookups.on_named(0, vec![peer(1), peer(2), peer(3)], false, |_| false).len(), 2);
        lookups.tick(|_| true, at(299), &mut out);
        assert_eq!(out.effects, [], "others may be named");
        assert_eq!(lookups.deadline(), Some(Duration::from_millis(300)));
        lookups.tick(|_| false, at(300), &mut out);
        assert_eq!(out.effects, [named(1, &[1, 2])]);
    }
}
