//! What this node offers, and what of an order it can never do.
//! Knows nothing of what runs. All that is offered keeps the limits that other peers check.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::beacon::Statistics;
use crate::config::limits;
use crate::effect::Refusal;
use crate::service::{Allowed, Lack, Needs, Offering, Program, ServiceName, Services};

/// See the module.
#[derive(Debug)]
pub(super) struct Offers {
    me: PeerId,
    offerings: BTreeMap<ServiceName, Offering>,
    /// What others are told of them.
    services: Services,
    /// Who may order nothing, whatever an offering says: this node's user has blocked them. Others are not told.
    blocked: BTreeSet<PeerId>,
    pub(super) statistics: Statistics,
}

impl Offers {
    pub(super) fn new(me: PeerId, offerings: Vec<Offering>, draining: bool) -> Self {
        let offerings = offerings.into_iter().map(|offering| (offering.card.name.clone(), offering)).collect();
        let services = Services { draining, ..Services::default() };
        let mut offers = Offers { me, offerings, services, blocked: BTreeSet::new(), statistics: Statistics::default() };
        offers.tell();
        offers
    }

    pub(super) fn services(&self) -> &Services {
        &self.services
    }

    pub(super) fn offerings(&self) -> impl Iterator<Item = &Offering> {
        self.offerings.values()
    }

    pub(super) fn get(&self, name: &ServiceName) -> Option<&Offering> {
        self.offerings.get(name)
    }

    /// How many of it may run at once; 0 if it is not offered.
    pub(super) fn limit(&self, name: &ServiceName) -> u32 {
        self.offerings.get(name).map_or(0, |offering| offering.card.limit)
    }

    /// Takes an offering; the one of that name before, if there was one.
    pub(super) fn put(&mut self, offering: Offering) -> Option<Offering> {
        let before = self.offerings.insert(offering.card.name.clone(), offering);
        self.tell();
        before
    }

    pub(super) fn remove(&mut self, name: &ServiceName) -> bool {
        let was = self.offerings.remove(name).is_some();
        self.tell();
        was
    }

    /// True if it was otherwise.
    pub(super) fn drain(&mut self, draining: bool) -> bool {
        std::mem::replace(&mut self.services.draining, draining) != draining
    }

    /// This peer may order nothing any more, or may again.
    pub(super) fn block(&mut self, peer: PeerId, on: bool) {
        if on {
            self.blocked.insert(peer);
        } else {
            self.blocked.remove(&peer);
        }
    }

    fn tell(&mut self) {
        self.services.services = self.offerings.values().map(|offering| offering.card.clone()).collect();
        self.services.software = self.offerings.values().flat_map(|offering| &offering.software).cloned().collect();
    }

    /// What a unit takes: the most of what its order and its service say.
    pub(super) fn needs(offering: &Offering, needs: &Needs) -> (u32, u64) {
        let own = &offering.card.needs;
        (own.cores.max(needs.cores), own.memory_bytes.max(needs.memory_bytes))
    }

    /// The offering, or what is lacking whatever runs here now. Before the first measurement nothing is known to be too much.
    pub(super) fn suits(&self, name: &ServiceName, needs: &Needs, orderer: &PeerId) -> Result<&Offering, Lack> {
        let offering = self.offerings.get(name).ok_or(Lack::NotOffered)?;
        if self.blocked.contains(orderer) || !offering.card.allowed.allows(orderer, &self.me) {
            return Err(Lack::NotAllowed);
        }
        if self.services.draining {
            return Err(Lack::Draining);
        }
        if let Some(word) = offering.card.needs.software.union(&needs.software).find(|word| !self.services.software.contains(*word)) {
            return Err(Lack::Software(word.clone()));
        }
        let (cores, memory) = Self::needs(offering, needs);
        if cores > self.cores() {
            return Err(Lack::Cores(self.statistics.cores));
        }
        if memory > self.memory() {
            return Err(Lack::Memory(self.statistics.memory_bytes));
        }
        Ok(offering)
    }

    /// Logical CPUs; no end of them before they are counted.
    pub(super) fn cores(&self) -> u32 {
        if self.statistics.cores == 0 { u32::MAX } else { self.statistics.cores }
    }

    /// Bytes of memory; no end of them before they are counted.
    pub(super) fn memory(&self) -> u64 {
        if self.statistics.memory_bytes == 0 { u64::MAX } else { self.statistics.memory_bytes }
    }

    /// Checks an offering before it is taken.
    ///
    /// # Errors
    /// It breaks a rule; nothing was changed.
    pub(super) fn check(&self, offering: &Offering) -> Result<(), Refusal> {
        let no = |why: String| Err(Refusal::Offer(why));
        let Offering { card, program, time_limit_ms, software, configured: _ } = offering;
        if !(1..=limits::SLOTS).contains(&card.limit) {
            return no(format!("a service runs 1 to {} at once, not {}", limits::SLOTS, card.limit));
        }
        if card.about.len() > limits::ABOUT_BYTES {
            return no(format!("what it says about itself has {} bytes; at most {} are allowed", card.about.len(), limits::ABOUT_BYTES));
        }
        check_software("needs", &card.needs.software)?;
        check_software("declares", software)?;
        if let Allowed::Peers(peers) = &card.allowed
            && peers.len() > limits::RECIPIENTS
        {
            return no(format!("{} peers are allowed to order it; at most {} can be named", peers.len(), limits::RECIPIENTS));
        }
        if let Program::Command(argv) = program {
            check_argv(argv)?;
        }
        if *time_limit_ms == Some(0) {
            return no("a time limit must be more than nothing".to_owned());
        }
        if !self.offerings.contains_key(&card.name) && self.offerings.len() >= limits::SERVICES {
            return Err(Refusal::TooManyServices { limit: limits::SERVICES });
        }
        Ok(())
    }
}

fn check_software(verb: &str, words: &BTreeSet<String>) -> Result<(), Refusal> {
    let no = |why: String| Err(Refusal::Offer(why));
    if words.len() > limits::SOFTWARE {
        return no(format!("it {verb} {} words of software; at most {} are allowed", words.len(), limits::SOFTWARE));
    }
    if words.contains("") {
        return no(format!("it {verb} software without a name"));
    }
    if let Some(long) = words.iter().find(|word| word.len() > limits::SOFTWARE_BYTES) {
        return no(format!("it {verb} software by a name of {} bytes; at most {} are allowed", long.len(), limits::SOFTWARE_BYTES));
    }
    Ok(())
}

fn check_argv(argv: &[String]) -> Result<(), Refusal> {
    let no = |why: String| Err(Refusal::Offer(why));
    if argv.first().is_none_or(String::is_empty) {
        return no("a service needs a program to run".to_owned());
    }
    if argv.iter().any(|arg| arg.contains('\0')) {
        return no("its command contains a NUL character, which no program can be given".to_owned());
    }
    let bytes = argv.iter().map(String::len).sum::<usize>();
    if argv.len() > limits::ORDER_ARGS || bytes > limits::ORDER_ARGS_BYTES || argv.iter().any(|arg| arg.len() >= limits::ORDER_ARG_BYTES) {
        let (args, of, one) = (limits::ORDER_ARGS, limits::ORDER_ARGS_BYTES, limits::ORDER_ARG_BYTES);
        return no(format!(
            "its command has {} words of {bytes} bytes; at most {args} of {of} bytes, each below {one}, are allowed",
            argv.len()
        ));
    }
    Ok(())
}

/// When a run is ended.
pub(super) fn time_limit(offering: &Offering) -> Option<Duration> {
    offering.time_limit_ms.map(Duration::from_millis)
}
