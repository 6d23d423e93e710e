//! Who hands out the work: one peer leads, the others obey it, and when it goes another claims the next term.
//! Knows nothing of orders. Of two claims the greater fence is obeyed, and what was obeyed or claimed is on disk before it is
//! acted on; a leader that is heard is left alone.

mod probe;
mod ranking;
mod terms;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::PeerId;

use self::probe::{Finding, Probe};
use self::terms::Terms;
use crate::config::{Config, limits};
use crate::edge::Cause;
use crate::effect::{Change, Effect, FenceRow, Notice, Out, Refusal, Verdict};
use crate::id::MachineId;
use crate::now::Now;
use crate::order::{Claim, Fence};
use crate::peer::LeaderStatus;
use crate::placement::Neighbour;
use crate::proven::Proven;
use crate::segment::What;
use crate::work::Work;

/// Peers that are asked about a silent leader (DESIGN 6.1).
const ASKED: usize = 3;
/// Steps of one tick: to suspect, to stand and to lead may be due at once.
const STEPS: usize = 8;

/// What the other machines are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// This node leads from now on, under this fence.
    Leads(Fence),
    /// Another leads: a new leader, or a new term.
    Follows(Fence),
    /// Nobody is known to lead.
    Nobody,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Election {
    me: PeerId,
    machine: MachineId,
    boot: u64,
    config: Config,
    /// The greatest fence obeyed or claimed, as on disk.
    row: Option<FenceRow>,
    /// The latest claim under it; none while it is only remembered from before the start.
    claim: Option<Proven<Claim>>,
    /// When that came, by whatever road.
    heard_at: Duration,
    /// When its leader last said anything by stream.
    spoke_at: Option<Duration>,
    /// The connection to its leader has closed, and it has not claimed by stream since.
    lost: bool,
    /// What others say of it, while it is suspected.
    probe: Option<Probe>,
    state: State,
    /// When this node began to lead.
    led_since: Duration,
    /// A greater fence that a peer has named without a proof.
    told: Option<Fence>,
    /// Somebody leads under a lower fence, and was asked to claim above what is remembered here: since when, and until when
    /// that is waited for.
    deferred: Option<(Duration, Duration)>,
    /// Whom this node asked to take over, and until when that is waited for.
    handing: Option<(PeerId, Duration)>,
    eligible: bool,
    leaving: bool,
    listen_until: Duration,
    judges_from: Duration,
    terms: Terms,
    /// Standbys that did not answer: until when they are not named.
    silent: BTreeMap<PeerId, Duration>,
    /// The last leader in the record.
    noted: Option<Fence>,
}

#[derive(Debug)]
enum State {
    /// Nobody is known to lead; this node claims at `claim_at`, which is found when there is nothing else to wait for.
    Seeking { claim_at: Option<Duration> },
    /// The leader of the fence is obeyed.
    Following,
    /// This node has claimed, and gives way until then.
    Claiming { until: Duration },
    /// This node leads, and claims again then.
    Leading { claim_at: Duration },
}

impl Election {
    pub(crate) fn new(me: PeerId, machine: MachineId, boot: u64, config: &Config, kept: Option<FenceRow>, now: Now) -> Self {
        Election {
            me,
            machine,
            boot,
            config: config.clone(),
            row: kept,
            claim: None,
            heard_at: now.mono,
            spoke_at: None,
            lost: false,
            probe: None,
            state: State::Seeking { claim_at: None },
            led_since: now.mono,
            told: None,
            deferred: None,
            handing: None,
            eligible: true,
            leaving: false,
            listen_until: now.mono + config.listen,
            judges_from: Duration::ZERO,
            terms: Terms::default(),
            silent: BTreeMap::new(),
            noted: None,
        }
    }

    /// The greatest fence heard or claimed: lower ones are refused.
    pub(crate) fn obeyed(&self) -> Option<Fence> {
        self.row.map(|row| row.fence)
    }

    /// Who leads now, this node included; none while nobody does.
    pub(crate) fn leader(&self) -> Option<Fence> {
        let leads = match self.state {
            State::Seeking { .. } | State::Claiming { .. } => false,
            State::Following => self.claim.as_ref().is_some_and(|claim| claim.value.led_ms > 0),
            State::Leading { .. } => true,
        };
        self.obeyed().filter(|_| leads)
    }

    /// The fence under which this node leads.
    pub(crate) fn leads(&self) -> Option<Fence> {
        self.leader().filter(|fence| fence.leader == self.me)
    }

    /// Who keeps the record of all: whoever has claimed last, this node included, and those it named to take over.
    pub(crate) fn keepers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.claim.iter().flat_map(|claim| claim.value.standbys.iter().copied().chain([claim.value.fence.leader]))
    }

    /// Who would take over, as the leader has claimed last.
    pub(crate) fn standbys(&self) -> &[PeerId] {
        self.claim.as_ref().map_or(&[], |claim| &claim.value.standbys)
    }

    /// One of its standbys does not answer this leader: another is named.
    pub(crate) fn on_standby_silent(&mut self, peer: PeerId, now: Now) {
        self.silent.insert(peer, now.mono + self.config.standby_shunned);
    }

    fn name_standbys(&mut self, roster: &[Neighbour], now: Now) -> Vec<PeerId> {
        self.silent.retain(|_, until| *until > now.mono);
        ranking::standbys(self.machine, roster.iter().filter(|neighbour| !self.silent.contains_key(&neighbour.peer)))
    }

    /// For faces.
    pub(crate) fn status(&self, now: Now) -> Option<LeaderStatus> {
        let (fence, claim) = (self.leader()?, &self.claim.as_ref()?.value);
        let mine = fence.leader == self.me;
        let for_ = if mine {
            now.mono.saturating_sub(self.led_since)
        } else {
            Duration::from_millis(claim.led_ms).saturating_add(now.mono.saturating_sub(self.heard_at))
        };
        Some(LeaderStatus { fence, for_, standbys: claim.standbys.clone() })
    }

    /// Whether this node may lead: not while it is cloned, leaving or low on disk.
    pub(crate) fn set_eligible(&mut self, eligible: bool, _now: Now, out: &mut Out) -> Vec<Fact> {
        let before = self.leader();
        self.eligible = eligible;
        if !eligible {
            let heir = self.claim.as_ref().and_then(|claim| claim.value.standbys.first().copied());
            self.resign(heir, out);
        }
        self.changed(before, out)
    }

    /// Somebody leads, or wants to. `from` said so by stream; none: it came by gossip.
    ///
    /// # Errors
    /// A term that cannot be true. Nothing changed.
    pub(crate) fn on_claim(
        &mut self,
        from: Option<PeerId>,
        claim: Proven<Claim>,
        roster: &[Neighbour],
        now: Now,
        out: &mut Out,
    ) -> (Verdict, Result<Vec<Fact>, Cause>) {
        let before = self.leader();
        let fence = claim.value.fence;
        if self.is_absurd(fence) {
            return (Verdict::Ignore, Err(Cause::Inconsistent));
        }
        if fence.leader == self.me {
            // Said before this start, and perhaps not remembered here: the next claim is above it.
            self.tell(fence);
            if self.obeyed() == Some(fence) && claim.value.boot != self.boot && self.claims() {
                // A memory that is gone led under this very term: what it promised under it this one does not know.
                self.stand(false, roster, now, out);
            }
            return (Verdict::Ignore, Ok(self.changed(before, out)));
        }
        let verdict = match self.obeyed().map_or(Ordering::Greater, |obeyed| fence.cmp(&obeyed)) {
            Ordering::Less => {
                self.on_lower_claim(from, &claim.value, roster, now, out);
                Verdict::Ignore
            }
            Ordering::Equal if self.claim.as_ref().is_some_and(|known| known.value.boot != claim.value.boot) => {
                // After a start nobody leads under a term of before: its leader has lost its memory of it, and is told.
                if from == Some(fence.leader) || roster.iter().any(|neighbour| neighbour.peer == fence.leader) {
                    self.say_to(fence.leader, out);
                }
                Verdict::Ignore
            }
            Ordering::Equal => self.on_repeated_claim(from == Some(fence.leader), claim, now),
            Ordering::Greater if self.contests(&claim.value, roster, now) => {
                self.tell(fence);
                self.stand(false, roster, now, out);
                Verdict::Ignore
            }
            Ordering::Greater => {
                self.enter(FenceRow { fence, counter: 0 }, now);
                self.spoke_at = (from == Some(fence.leader)).then_some(now.mono);
                self.heard_at = now.mono;
                self.claim = Some(claim);
                self.state = State::Following;
                self.store(out);
                Verdict::Accept
            }
        };
        (verdict, Ok(self.changed(before, out)))
    }

    /// A peer can be reached: it is told who leads.
    pub(crate) fn on_reachable(&mut self, peer: PeerId, _now: Now, out: &mut Out) {
        // Of its own claims a leader is told as well: its memory may have jumped back.
        let alive = !matches!(self.state, State::Seeking { .. }) && !self.lost && self.probe.is_none();
        if self.obeyed().is_some_and(|fence| alive || fence.leader == peer) {
            self.say_to(peer, out);
        }
    }

    /// A peer cannot be reached any more.
    pub(crate) fn on_unreachable(&mut self, peer: PeerId, roster: &[Neighbour], now: Now, out: &mut Out) -> Vec<Fact> {
        if let Some(probe) = &mut self.probe {
            probe.on_unreachable(&peer);
        }
        if self.obeyed().is_some_and(|fence| fence.leader == peer) {
            self.lost = true;
        }
        let rest: Vec<Neighbour> = roster.iter().filter(|neighbour| neighbour.peer != peer).copied().collect();
        self.tick(&rest, now, out)
    }

    /// A peer misses the leader of this fence.
    pub(crate) fn on_ask_leader(&mut self, from: PeerId, fence: Fence, now: Now, out: &mut Out) {
        let heard = match self.obeyed().map_or(Ordering::Greater, |obeyed| fence.cmp(&obeyed)) {
            Ordering::Less => {
                self.correct(from, out);
                false
            }
            Ordering::Equal => {
                let leads = self.leads().is_some();
                if leads {
                    self.say_to(from, out);
                }
                leads || self.hears_leader(now)
            }
            Ordering::Greater => {
                // Only who is new to this goes on with it, so that it cannot go round in circles.
                if self.tell(fence)
                    && let Some(leader) = self.leader().map(|obeyed| obeyed.leader).filter(|leader| *leader != self.me && *leader != from)
                {
                    out.work(leader, Work::AskLeader(fence));
                }
                false
            }
        };
        out.work(from, Work::LeaderHeard { fence, heard });
    }

    /// The answer to such a question of this node; what follows from it follows in [`Election::tick`].
    pub(crate) fn on_leader_heard(&mut self, from: PeerId, fence: Fence, heard: bool, _now: Now, _out: &mut Out) {
        if self.obeyed() == Some(fence)
            && let Some(probe) = &mut self.probe
        {
            probe.on_answer(&from, heard);
        }
    }

    /// Anything came by stream from a peer.
    pub(crate) fn on_leader_spoke(&mut self, from: PeerId, now: Now) {
        if self.obeyed().is_some_and(|fence| fence.leader == from) {
            self.spoke_at = Some(now.mono);
        }
    }

    /// The leader wants this node to lead.
    ///
    /// # Errors
    /// Who says so does not lead under that fence, or the fence cannot be. Nothing changed.
    pub(crate) fn on_hand_over(
        &mut self,
        from: PeerId,
        fence: Fence,
        roster: &[Neighbour],
        now: Now,
        out: &mut Out,
    ) -> Result<Vec<Fact>, Cause> {
        if from != fence.leader || from == self.me {
            return Err(Cause::Unexpected);
        }
        if self.is_absurd(fence) {
            return Err(Cause::Inconsistent);
        }
        if self.obeyed().is_some_and(|obeyed| fence < obeyed) {
            self.correct(from, out);
            return Ok(Vec::new());
        }
        let before = self.leader();
        if self.may_lead() {
            self.tell(fence);
            self.stand(false, roster, now, out);
        }
        Ok(self.changed(before, out))
    }

    /// The user of this node wants another peer to lead. This node leads until that one has claimed.
    ///
    /// # Errors
    /// This node does not lead.
    pub(crate) fn transfer(&mut self, to: PeerId, now: Now, out: &mut Out) -> Result<(), Refusal> {
        let fence = self.leads().ok_or(Refusal::NotLeading)?;
        if to != self.me {
            self.handing = Some((to, now.mono + self.config.leader_silent));
            out.work(to, Work::HandOver(fence));
        }
        Ok(())
    }

    /// This node stops in order.
    pub(crate) fn leave(&mut self, roster: &[Neighbour], now: Now, out: &mut Out) -> Vec<Fact> {
        let before = self.leader();
        self.leaving = true;
        let heir = self.name_standbys(roster, now).first().copied();
        self.resign(heir, out);
        self.changed(before, out)
    }

    /// A peer used a lower fence: it is told the greatest claim known. Where that one's leader is not known to live, the peer is
    /// told the fence, so that a leader among its kind claims above it.
    pub(crate) fn correct(&self, peer: PeerId, out: &mut Out) {
        let suspected = self.probe.as_ref().map_or(self.lost, |probe| !probe.is_yes());
        match (&self.state, self.obeyed()) {
            (State::Seeking { .. }, Some(fence)) => out.work(peer, Work::AskLeader(fence)),
            (State::Following, Some(fence)) if suspected => out.work(peer, Work::AskLeader(fence)),
            _ => self.say_to(peer, out),
        }
    }

    /// This node was itself held up: what it did not hear meanwhile means nothing.
    pub(crate) fn on_stalled(&mut self, now: Now) {
        self.judges_from = now.mono + self.config.stalled_grace;
        match &mut self.state {
            State::Claiming { until } => *until = now.mono + self.config.settle,
            State::Seeking { claim_at } => *claim_at = None,
            State::Following | State::Leading { .. } => {}
        }
    }

    /// Does what is due: claims, suspects, stands.
    pub(crate) fn tick(&mut self, roster: &[Neighbour], now: Now, out: &mut Out) -> Vec<Fact> {
        let before = self.leader();
        for _ in 0..STEPS {
            if self.deadline().is_none_or(|due| due > now.mono) {
                break;
            }
            self.step(roster, now, out);
        }
        self.changed(before, out)
    }

    /// When [`Election::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Leading { claim_at } => Some(claim_at),
            State::Claiming { until } => Some(until),
            State::Following => {
                let suspected_at = if self.lost { Duration::ZERO } else { self.heard_at + self.config.leader_silent };
                Some(self.probe.as_ref().map_or(suspected_at, Probe::due).max(self.judges_from))
            }
            State::Seeking { .. } if self.probe.as_ref().is_some_and(Probe::is_yes) => Some(self.judges_from),
            State::Seeking { claim_at } => {
                let deferred = self.deferred.map_or(Duration::ZERO, |(_, until)| until);
                let due = claim_at.unwrap_or_default().max(self.listen_until).max(self.judges_from).max(deferred);
                self.may_lead().then_some(due)
            }
        }
    }

    // -- private: what was heard

    /// Somebody leads, or wants to, under less than what is obeyed here.
    fn on_lower_claim(&mut self, from: Option<PeerId>, claim: &Claim, roster: &[Neighbour], now: Now, out: &mut Out) {
        let silent = self.config.leader_silent;
        if claim.led_ms > 0 && matches!(self.state, State::Seeking { .. }) {
            let first = self.deferred.map_or(now.mono, |(first, _)| first);
            self.deferred = Some((first, (now.mono + silent).min(first + silent * 2)));
        }
        // By gossip everybody hears it: only those speak up whom it concerns.
        let reachable = || roster.iter().any(|neighbour| neighbour.peer == claim.fence.leader);
        match from {
            Some(from) => self.correct(from, out),
            None if !matches!(self.state, State::Following) && reachable() => self.correct(claim.fence.leader, out),
            None => {}
        }
    }

    /// A claim under the fence obeyed. `direct`: its leader said so by stream.
    fn on_repeated_claim(&mut self, direct: bool, claim: Proven<Claim>, now: Now) -> Verdict {
        let newer = self.claim.as_ref().is_none_or(|known| claim.value.order() > known.value.order());
        if newer {
            self.claim = Some(claim);
        }
        if direct {
            self.lost = false;
            self.spoke_at = Some(now.mono);
        }
        // When the connection has closed, a last claim that is still going round must not pass for a sign of life.
        if (newer || direct) && !self.lost {
            self.heard_at = now.mono;
            (self.probe, self.deferred) = (None, None);
            self.state = State::Following;
        }
        if newer { Verdict::Accept } else { Verdict::Ignore }
    }

    /// Whether this node leads, and should go on although another claims more: the one with more followers does, then the one
    /// that has led longer, so that neither a candidate nor who led alone for a moment unseats its equal; then the greater id.
    fn contests(&self, claim: &Claim, roster: &[Neighbour], now: Now) -> bool {
        let State::Leading { claim_at } = self.state else { return false };
        let handed_over = self.handing.is_some_and(|(to, until)| to == claim.fence.leader && now.mono < until);
        let held_up = now.mono < self.judges_from || claim_at + self.config.stalled_after < now.mono;
        let mine = (followers(roster), self.led_ms(now), self.me);
        let theirs = (claim.followers, claim.led_ms, claim.fence.leader);
        self.may_lead() && !handed_over && !held_up && !self.terms.are_too_many(now.mono) && mine > theirs
    }

    /// The leader is heard here. It claims each second: half of one more is allowed for, since who takes it for gone by mistake
    /// unseats it.
    fn hears_leader(&self, now: Now) -> bool {
        let within = self.config.claim_interval * 3 / 2;
        let spoke = self.spoke_at.is_some_and(|at| now.mono.saturating_sub(at) <= within);
        let claimed = now.mono.saturating_sub(self.heard_at) < self.config.leader_silent;
        matches!(self.state, State::Following) && !self.lost && spoke && claimed
    }

    /// Takes a fence into account that nobody has proved. True if it is new.
    fn tell(&mut self, fence: Fence) -> bool {
        let new = !self.is_absurd(fence) && self.obeyed().max(self.told) < Some(fence);
        if new {
            self.told = Some(fence);
        }
        new
    }

    /// This node leads, or wants to.
    fn claims(&self) -> bool {
        matches!(self.state, State::Leading { .. } | State::Claiming { .. })
    }

    fn is_absurd(&self, fence: Fence) -> bool {
        fence.term > self.known_term().saturating_add(limits::TERMS_AHEAD)
    }

    /// Of what is proved, so that nobody is led up step by step.
    fn known_term(&self) -> u64 {
        self.obeyed().map_or(0, |fence| fence.term)
    }

    // -- private: what is done

    fn step(&mut self, roster: &[Neighbour], now: Now, out: &mut Out) {
        match self.state {
            State::Leading { .. } => {
                if self.told > self.obeyed() && !self.terms.are_too_many(now.mono) && self.may_lead() {
                    self.stand(false, roster, now, out);
                } else {
                    self.say(roster, now, out);
                }
            }
            State::Claiming { .. } => {
                self.led_since = now.mono;
                self.state = State::Leading { claim_at: now.mono };
                self.say(roster, now, out);
            }
            State::Following => match self.probe.as_ref().map(|probe| (probe.finding(now.mono), probe.round)) {
                None => self.ask(0, roster, now, out),
                Some((Finding::CutOff, round)) => self.ask(round.saturating_add(1), roster, now, out),
                Some((Finding::Gone, _)) => self.state = State::Seeking { claim_at: None },
                Some((Finding::Open, _)) => {}
            },
            State::Seeking { .. } if self.probe.as_ref().is_some_and(Probe::is_yes) => self.state = State::Following,
            State::Seeking { claim_at: None } => {
                let standbys = self.claim.as_ref().map_or(&[][..], |claim| &claim.value.standbys);
                let last = self.obeyed().map(|fence| fence.leader);
                let term = self.next_term().unwrap_or_default();
                let rank = ranking::rank(self.me, term, standbys, last, roster.iter().map(|neighbour| neighbour.peer));
                self.state = State::Seeking { claim_at: Some(now.mono + self.terms.delay(rank, self.config.rank_step, now.mono)) };
            }
            State::Seeking { claim_at: Some(_) } => self.stand(!roster.is_empty(), roster, now, out),
        }
    }

    /// Asks others whether they hear the leader. With nobody to ask it is gone.
    fn ask(&mut self, round: u32, roster: &[Neighbour], now: Now, out: &mut Out) {
        let Some(fence) = self.obeyed() else { return };
        let others = roster.iter().map(|neighbour| neighbour.peer).filter(|peer| *peer != fence.leader);
        let asked = ranking::some(u64::from(round), ASKED, others);
        for peer in &asked {
            out.work(*peer, Work::AskLeader(fence));
        }
        self.probe = Some(Probe::new(round, asked, &self.config, now.mono));
    }

    /// Claims the next term. `settle`: gives way for a while before it leads.
    fn stand(&mut self, settle: bool, roster: &[Neighbour], now: Now, out: &mut Out) {
        let Some(term) = self.next_term() else { return };
        self.enter(FenceRow { fence: Fence { term, leader: self.me }, counter: 0 }, now);
        if settle {
            self.state = State::Claiming { until: now.mono + self.config.settle };
        } else {
            if !matches!(self.state, State::Leading { .. }) {
                self.led_since = now.mono;
            }
            self.state = State::Leading { claim_at: now.mono };
        }
        self.say(roster, now, out);
    }

    /// One more claim: on disk, then to everybody.
    fn say(&mut self, roster: &[Neighbour], now: Now, out: &mut Out) {
        let led_ms = self.led_ms(now);
        let standbys = self.name_standbys(roster, now);
        let Some(row) = &mut self.row else { return };
        row.counter = row.counter.saturating_add(1);
        if let State::Leading { claim_at } = &mut self.state {
            *claim_at = now.mono + self.config.claim_interval;
        }
        let claim =
            Proven::own(Claim { fence: row.fence, boot: self.boot, counter: row.counter, followers: followers(roster), standbys, led_ms });
        self.claim = Some(claim.clone());
        self.store(out);
        for neighbour in roster {
            self.say_to(neighbour.peer, out);
        }
        out.effects.push(Effect::PublishClaim(Box::new(claim)));
    }

    fn say_to(&self, peer: PeerId, out: &mut Out) {
        if let Some(claim) = self.claim.as_ref().filter(|_| peer != self.me) {
            out.work(peer, Work::Claim(Box::new(claim.clone())));
        }
    }

    fn store(&self, out: &mut Out) {
        if let Some(row) = self.row {
            out.store(Change::Fence(row));
        }
    }

    /// A greater fence than before: nothing that was known of the one before matters.
    fn enter(&mut self, row: FenceRow, now: Now) {
        self.row = Some(row);
        self.told = self.told.filter(|told| *told > row.fence);
        (self.claim, self.probe, self.lost, self.spoke_at) = (None, None, false, None);
        (self.deferred, self.handing) = (None, None);
        self.terms.on_begun(now.mono);
    }

    /// Leads no more, nor wants to.
    fn resign(&mut self, heir: Option<PeerId>, out: &mut Out) {
        if let (Some(fence), Some(heir)) = (self.leads(), heir) {
            out.work(heir, Work::HandOver(fence));
        }
        if matches!(self.state, State::Claiming { .. } | State::Leading { .. }) {
            self.state = State::Seeking { claim_at: None };
        }
    }

    /// How long this node has led; 0 while it does not.
    fn led_ms(&self, now: Now) -> u64 {
        let led = now.mono.saturating_sub(self.led_since).as_millis();
        if matches!(self.state, State::Leading { .. }) { u64::try_from(led).unwrap_or(u64::MAX).max(1) } else { 0 }
    }

    fn may_lead(&self) -> bool {
        self.eligible && !self.leaving && self.next_term().is_some()
    }

    fn next_term(&self) -> Option<u64> {
        self.obeyed().max(self.told).map_or(Some(1), |fence| fence.term.checked_add(1))
    }

    /// Tells what has changed since `before` was [`Election::leader`].
    fn changed(&mut self, before: Option<Fence>, out: &mut Out) -> Vec<Fact> {
        let leader = self.leader();
        if leader == before {
            return Vec::new();
        }
        let Some(fence) = leader else {
            // While somebody else has claimed, the next news is who leads: people need not hear of the moment between.
            if matches!(self.state, State::Seeking { .. }) {
                out.notify(Notice::Leader { leader: None });
            }
            return vec![Fact::Nobody];
        };
        if self.noted != Some(fence) {
            self.noted = Some(fence);
            out.note(What::Elected { term: fence.term, leader: fence.leader });
        }
        out.notify(Notice::Leader { leader: Some((fence.leader, None, fence.term)) });
        vec![if fence.leader == self.me { Fact::Leads(fence) } else { Fact::Follows(fence) }]
    }
}

fn followers(roster: &[Neighbour]) -> u32 {
    u32::try_from(roster.len()).unwrap_or(u32::MAX)
}
