//! One run of a seed: while things break nothing may be lost or untrue; once nothing breaks, everything must get done.
//! Knows nothing of how. Safety first, then liveness, then quiet.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use protocol::Input;
use protocol::input::{Command, Disk as Room};

use super::agenda::Event;
use super::disk::Disk;
use super::node::MACHINE;
use super::options::Weather;
use super::trace::Detail;
use super::workload::Request;
use super::{Counts, Options, Sim};

/// How long a healed swarm may take until everything written is delivered.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);
/// How long until everybody sees everybody.
const PRESENT_WITHIN: Duration = Duration::from_secs(15);
/// How long until it is: custodians compare what they hold once a minute, and one that is gone is replaced after two.
const QUIET_WITHIN: Duration = Duration::from_secs(150);
/// How long nothing but beacons must be sent: longer than a gap is waited for.
const QUIET_FOR: Duration = Duration::from_secs(12);
/// How long the last frame may be under way: what it makes its receiver commit is no idle commit. Twice the longest delay
/// of the slowest weather (`Weather::drawn`, `Chance::about`).
const LAST_FRAME_ARRIVES: Duration = Duration::from_secs(2);
/// How long until copies that nobody needs are gone, and enough of the others there.
const TIDY_WITHIN: Duration = Duration::from_secs(20 * 60);
/// Looked at in one seed of so many: it takes longer than all the rest.
const TIDY_EVERY: u64 = 8;
/// A commit a second would wear disks out for nothing.
const COMMITS_WHEN_QUIET: u64 = 5;
/// A leader commits each claim before it makes it, one a second.
const CLAIMS_WHEN_QUIET: u64 = QUIET_FOR.as_secs() + 2;
/// How long a gap may hold a letter back, with the latest timer.
const HELD_AT_MOST: Duration = Duration::from_secs(12);
const NAMES: [&str; 8] = ["ann", "bea", "carl", "dora", "emil", "fay", "gus", "hal"];

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How much happened.
    pub counts: Counts,
    /// Hash of everything that happened, if it was asked for.
    pub hash: u64,
    /// Virtual time that passed.
    pub lasted: Duration,
}

/// Runs a seed.
///
/// # Errors
/// Which promise was broken, and when.
pub fn run(seed: u64, detail: Detail) -> Result<Outcome, String> {
    let run = || {
        let mut sim = Sim::build(seed, Options::of_seed(seed), detail);
        sim.live().map_err(|why| format!("after {:?}: {why}", sim.now()))?;
        let counts = Counts { taken: sim.checker.taken, copied: sim.recorded.copied, ..sim.counts };
        Ok(Outcome { counts, hash: sim.trace.hash(), lasted: sim.now() })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

impl Sim {
    fn live(&mut self) -> Result<(), String> {
        let (all, late) = (self.options.nodes, self.options.latecomers);
        for name in &NAMES[..all] {
            self.add(name);
        }
        for node in 0..all {
            let most = if node < all - late { Duration::from_secs(1) } else { self.options.safety };
            let at = self.faults.between(Duration::ZERO, most);
            self.agenda.at(at, Event::Start { node });
        }
        self.faulty = true;
        self.plan_faults();
        self.agenda.after(Duration::ZERO, Event::Work);
        self.pass(self.options.safety)?;
        self.settle();
        self.converge()?;
        self.be_quiet()?;
        if self.seed.is_multiple_of(TIDY_EVERY) {
            self.pass(TIDY_WITHIN)?;
            self.custody_is_tidy()?;
        }
        Ok(())
    }

    /// Lets time pass, looking at the whole every second.
    pub(super) fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = self.now() + time;
        while self.now() < end {
            let next = (self.now() + Duration::from_secs(1)).min(end);
            while self.step(next) {}
            self.sweep();
            if let Some(why) = &self.failure {
                return Err(why.clone());
            }
        }
        Ok(())
    }

    /// What must hold at every moment and is too dear to look at at each.
    fn sweep(&mut self) {
        let now = self.now();
        for node in 0..self.nodes.len() {
            let state = &self.nodes[node];
            let limit = now.saturating_sub(HELD_AT_MOST + self.options.lateness * 20 + self.options.flush * 20);
            if state.is_up() && now > HELD_AT_MOST {
                let held = state.disk.unshown.values().copied();
                let verdict = self.checker.display_is_not_held(node, state.steady_since, held, limit);
                self.demand(verdict);
            }
        }
    }

    fn disks(&self) -> Vec<&Disk> {
        self.nodes.iter().map(|node| &node.disk).collect()
    }

    /// From now on nothing breaks, everybody is there and welcomes letters.
    fn settle(&mut self) {
        let verdict = self.checker.nothing_is_lost(&self.disks());
        self.demand(verdict);
        self.faulty = false;
        self.network.heal(None, &mut self.agenda);
        let fair = Weather::fair();
        self.network.clear_up(Weather { delay: self.options.weather.delay, ..fair });
        let here = (0..self.nodes.len()).filter(|node| !self.custodians.departed.contains(node));
        for node in here.collect::<Vec<usize>>() {
            self.nodes[node].plan = None;
            let now = self.now();
            if self.nodes[node].paused_until > now {
                self.nodes[node].paused_until = now;
                self.nodes[node].steady_since = now;
                let (life, version) = (self.nodes[node].life, self.nodes[node].timer);
                self.agenda.at(now, Event::Wake { node, life });
                self.agenda.at(now, Event::Timer { node, life, version });
            }
            if self.leaving.contains(&node) {
                self.die(node, false);
            }
            if !self.nodes[node].is_up() {
                self.on_start(node);
            }
            self.tell_now(node, Input::Measured { statistics: MACHINE, disk: Room::Enough });
            self.ask(node, Command::SetAvailable(true), Request::Other { node });
        }
        self.trace.line(self.now(), "swarm", "**", &"nothing breaks from now on");
        self.reconnect_all();
    }

    fn converge(&mut self) -> Result<(), String> {
        let begin = self.now();
        let mut present = None;
        loop {
            self.pass(Duration::from_millis(250))?;
            let waited = self.now() - begin;
            let absent = self.absent();
            if absent.is_none() {
                present.get_or_insert(waited);
            }
            if waited >= PRESENT_WITHIN && present.is_none() {
                return Err(format!("presence does not agree {waited:?} after the last fault: {}", absent.unwrap_or_default()));
            }
            let busy = self.busy();
            match (&busy, &absent) {
                (None, None) => return Ok(()),
                _ if waited < DELIVERED_WITHIN => {}
                _ => return Err(format!("{waited:?} after the last fault: {}", busy.or(absent).unwrap_or_default())),
            }
        }
    }

    /// Somebody who does not see somebody else as what it is.
    pub(super) fn absent(&self) -> Option<String> {
        let up = || self.nodes.iter().filter_map(|node| node.peer.as_ref().map(|peer| (node, peer.status())));
        for (one, status) in up() {
            for (other, me) in up().filter(|(other, _)| other.identity.id != one.identity.id) {
                let seen = status.peers.iter().find(|peer| peer.id == other.identity.id);
                let fits = |seen: &&protocol::PeerStatus| {
                    seen.available == me.available && seen.inactive == me.inactive && seen.name == me.name && seen.addresses == me.addresses
                };
                if seen.filter(fits).is_none() {
                    return Some(format!("{} sees {} as {seen:?}", one.name(), other.name()));
                }
            }
        }
        None
    }

    /// What is not done yet, if there is something.
    fn busy(&self) -> Option<String> {
        if !self.checker.all_delivered() {
            return Some(self.checker.undelivered());
        }
        if let Some((request, open)) = self.work.open.first_key_value() {
            return Some(format!("{request:?} is not answered: {open:?}"));
        }
        let letters = self.checker.end(&self.disks(), &self.custodians.departed).err().or_else(|| self.unread());
        letters.or_else(|| self.undecided()).or_else(|| self.tasks_open()).or_else(|| self.unrecorded())
    }

    /// A letter that was read and whose author does not know it. Receipts are repeated when a connection was lost; where
    /// single frames are lost in silence, the last "read" may be one of them.
    fn unread(&self) -> Option<String> {
        if self.options.weather.loss > 0.0 {
            return None;
        }
        for (reader, one) in self.nodes.iter().enumerate() {
            for n in one.disk.read.keys() {
                // An outcome has no author who would learn of it.
                let Some((place, _)) = one.disk.inbox.get(n) else { continue };
                if place.twin > 0 || self.counts.restored > 0 {
                    continue;
                }
                let taken = &one.disk.taken[&(place.stream, place.seq, place.twin)];
                let author = self.checker.node(taken.envelope.author)?;
                if [author, reader].iter().any(|node| self.custodians.departed.contains(node)) {
                    continue;
                }
                let streams = self.nodes[author]
                    .disk
                    .out_streams
                    .values()
                    .find(|stream| stream.peer == one.identity.id && stream.epoch == one.disk.in_streams[&place.stream].epoch);
                // Authors are told of so many separate ranges at most, the highest ones.
                if streams.is_none_or(|stream| !stream.read.contains(place.seq)) && one.disk.in_streams[&place.stream].read.pieces() < 256 {
                    return Some(format!("node {author} does not know that node {reader} has read {}", taken.envelope.id));
                }
            }
        }
        None
    }

    /// In the end nothing is said but "I am here".
    pub(super) fn be_quiet(&mut self) -> Result<(), String> {
        let begin = self.now();
        let (mut since, mut frames) = (begin, self.counts.frames);
        let mut commits: Vec<u64> = self.nodes.iter().map(|node| node.commits).collect();
        loop {
            self.pass(Duration::from_millis(500))?;
            if self.counts.frames != frames {
                (since, frames) = (self.now(), self.counts.frames);
            }
            if self.now() - since <= LAST_FRAME_ARRIVES {
                commits = self.nodes.iter().map(|node| node.commits).collect();
            }
            if self.now() - since >= LAST_FRAME_ARRIVES + QUIET_FOR {
                break;
            }
            if self.now() - begin >= QUIET_WITHIN {
                return Err(format!("the swarm has nothing to do and is not quiet after {QUIET_WITHIN:?}"));
            }
        }
        for (node, before) in commits.into_iter().enumerate() {
            let more = self.nodes[node].commits - before;
            let leads = self.nodes[node].disk.tasks.fence.is_some_and(|row| row.fence.leader == self.nodes[node].identity.id);
            if more > COMMITS_WHEN_QUIET + if leads { CLAIMS_WHEN_QUIET } else { 0 } {
                return Err(format!("{} commits {more} times in {QUIET_FOR:?} with nothing to do", self.nodes[node].name()));
            }
            // In the middle of a commit the disk has not what the node knows.
            if self.nodes[node].flushing.is_none() {
                self.nodes[node].check_status()?;
            }
        }
        // What the last frames made somebody write is pulled before the swarm is quiet.
        if let Some(missing) = self.unrecorded().or_else(|| self.undetected()) {
            return Err(missing);
        }
        match self.absent() {
            Some(absent) => Err(format!("a quiet swarm disagrees: {absent}")),
            None => self.checker.end(&self.disks(), &self.custodians.departed),
        }
    }
}
