//! Slots, cores and memory: what of them is taken, who waits for them, and how long runs take.
//! Knows nothing of what runs. Units start in the order of their acceptance, but for those whose service has no slot; of a short
//! service some are started ahead, and begin when others of it have ended; where all that run take long, none waits behind them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Unit;
use crate::service::ServiceName;

/// Runs after which the average leans on the latest ones (guess: follows a change within a second of busy work).
const RUNS_WEIGHED: u32 = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Load {
    services: BTreeMap<ServiceName, Slots>,
    place: u64,
    /// Something may have become startable.
    pub(super) stirred: bool,
}

/// Cores and bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Room {
    pub(super) cores: u64,
    pub(super) memory: u128,
}

impl Room {
    pub(super) fn of((cores, memory): (u32, u64)) -> Self {
        Room { cores: u64::from(cores), memory: u128::from(memory) }
    }

    pub(super) fn add(&mut self, other: Room) {
        self.cores += other.cores;
        self.memory += other.memory;
    }

    pub(super) fn take(&mut self, other: Room) {
        self.cores = self.cores.saturating_sub(other.cores);
        self.memory = self.memory.saturating_sub(other.memory);
    }

    fn times(self, count: u32) -> Room {
        Room { cores: self.cores * u64::from(count), memory: self.memory * u128::from(count) }
    }

    pub(super) fn holds(&self, other: Room) -> bool {
        other.cores <= self.cores && other.memory <= self.memory
    }
}

#[derive(Debug, Default)]
struct Slots {
    running: u32,
    /// Those of them that take so long that nothing should wait behind them.
    overdue: u32,
    waiting: BTreeMap<u64, (Unit, Room)>,
    /// Units that begin, in this order, each when one that runs has ended. They need what those have: the room stays theirs.
    ahead: VecDeque<Unit>,
    /// What running units take, and how many take as much …
    runs: BTreeMap<Room, u32>,
    /// … and what waiting ones will.
    waits: Room,
    measured: u32,
    average: Duration,
}

impl Load {
    /// A unit waits for its slot; its place in the order of acceptance.
    pub(super) fn wait(&mut self, service: &ServiceName, unit: Unit, needs: Room) -> u64 {
        let slots = self.services.entry(service.clone()).or_default();
        self.place += 1;
        slots.waiting.insert(self.place, (unit, needs));
        slots.waits.add(needs);
        self.stirred = true;
        self.place
    }

    /// A unit does not wait any more.
    pub(super) fn leave(&mut self, service: &ServiceName, place: u64) {
        if let Some(slots) = self.services.get_mut(service)
            && let Some((_, needs)) = slots.waiting.remove(&place)
        {
            slots.waits.take(needs);
            self.stirred = true;
        }
    }

    /// What a waiting unit will take is otherwise now.
    pub(super) fn refit(&mut self, service: &ServiceName, place: u64, needs: Room) {
        if let Some(slots) = self.services.get_mut(service)
            && let Some((_, before)) = slots.waiting.get_mut(&place)
        {
            slots.waits.take(std::mem::replace(before, needs));
            slots.waits.add(needs);
        }
    }

    /// A unit that waited runs; returns how many of its service do.
    pub(super) fn start(&mut self, service: &ServiceName, place: u64) -> u32 {
        let Some(slots) = self.services.get_mut(service) else { return 0 };
        if let Some((_, needs)) = slots.waiting.remove(&place) {
            slots.waits.take(needs);
            *slots.runs.entry(needs).or_default() += 1;
            slots.running += 1;
        }
        slots.running
    }

    /// A unit that waited will run when one of its service has ended; returns how many of its service run.
    pub(super) fn start_ahead(&mut self, service: &ServiceName, place: u64) -> u32 {
        let Some(slots) = self.services.get_mut(service) else { return 0 };
        if let Some((unit, needs)) = slots.waiting.remove(&place) {
            slots.waits.take(needs);
            slots.ahead.push_back(unit);
        }
        slots.running
    }

    /// A unit that was to run when another has ended does not.
    pub(super) fn drop_ahead(&mut self, service: &ServiceName, unit: &Unit) {
        if let Some(slots) = self.services.get_mut(service) {
            slots.ahead.retain(|known| known != unit);
            self.stirred = true;
        }
    }

    /// A unit that runs takes so long that nothing should wait behind it.
    pub(super) fn overdue(&mut self, service: &ServiceName) {
        if let Some(slots) = self.services.get_mut(service) {
            slots.overdue += 1;
            self.stirred = true;
        }
    }

    /// A unit runs no more; `ran` if it tells how long a run takes. Returns the one that begins in its place.
    pub(super) fn end(&mut self, service: &ServiceName, needs: Room, overdue: bool, ran: Option<Duration>) -> Option<Unit> {
        let slots = self.services.get_mut(service)?;
        slots.overdue -= u32::from(overdue);
        let next = slots.ahead.pop_front();
        if next.is_none() {
            slots.running = slots.running.saturating_sub(1);
            if let Some(count) = slots.runs.get_mut(&needs) {
                *count -= 1;
            }
            slots.runs.retain(|_, count| *count > 0);
        }
        self.stirred = true;
        if let Some(ran) = ran {
            slots.measured = slots.measured.saturating_add(1);
            let weight = slots.measured.min(RUNS_WEIGHED);
            slots.average = (slots.average * (weight - 1) + ran.min(Duration::from_secs(1 << 32))) / weight;
        }
        next
    }

    /// The program of a service is another now: what was measured says nothing about it.
    pub(super) fn forget_measured(&mut self, service: &ServiceName) {
        if let Some(slots) = self.services.get_mut(service) {
            (slots.measured, slots.average) = (0, Duration::ZERO);
        }
    }

    /// Keeps nothing of a service that is not offered and does not run.
    pub(super) fn drop_unused(&mut self, service: &ServiceName) {
        if self.services.get(service).is_some_and(|slots| slots.held() == (0, 0)) {
            self.services.remove(service);
        }
    }

    /// Units of a service that run, and that wait here.
    pub(super) fn of(&self, service: &ServiceName) -> (u32, u32) {
        self.services.get(service).map_or((0, 0), Slots::held)
    }

    /// Units that run, and that wait here.
    pub(super) fn all(&self) -> (u32, u32) {
        self.services.values().map(Slots::held).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }

    /// How long a run of a service takes, and from how many that is known.
    pub(super) fn average(&self, service: &ServiceName) -> Option<(Duration, u32)> {
        self.services.get(service).filter(|slots| slots.measured > 0).map(|slots| (slots.average, slots.measured))
    }

    /// What all that runs takes.
    pub(super) fn running(&self) -> Room {
        self.services.values().fold(Room::default(), |mut sum, slots| {
            sum.add(slots.taken());
            sum
        })
    }

    /// What all takes that runs or waits, but for one service.
    pub(super) fn taken(&self, but: Option<&ServiceName>) -> Room {
        let others = self.services.iter().filter(|(name, _)| Some(*name) != but);
        others.fold(Room::default(), |mut sum, (_, slots)| {
            sum.add(slots.taken());
            sum.add(slots.waits);
            sum
        })
    }

    /// The next unit to start: the one accepted first of those of services with a free slot that are not `held_up`. What was started
    /// ahead comes first: until it has begun none of its service starts beside it.
    pub(super) fn next(&self, limit: impl Fn(&ServiceName) -> u32, held_up: &BTreeSet<ServiceName>) -> Option<(Unit, Room)> {
        let may = |name: &ServiceName, slots: &Slots| slots.running < limit(name) && slots.ahead.is_empty() && !held_up.contains(name);
        let heads = self.services.iter().filter(|(name, slots)| may(name, slots));
        let first = heads.filter_map(|(_, slots)| slots.waiting.first_key_value()).min_by_key(|(place, _)| **place);
        first.map(|(_, unit)| *unit)
    }

    /// The next unit to be started ahead of its slot, so that no slot waits for the disk: one of a short service of which units
    /// run that need as much, as long as nothing of any other service waits.
    pub(super) fn next_ahead(&self, limit: impl Fn(&ServiceName) -> u32, short: Duration) -> Option<Unit> {
        let mut waiting = self.services.iter().filter(|(_, slots)| !slots.waiting.is_empty());
        let (name, slots) = waiting.next().filter(|_| waiting.next().is_none())?;
        let (unit, needs) = slots.waiting.first_key_value()?.1;
        let alike = (1..=limit(name)).contains(&slots.running) && slots.runs.keys().eq([needs]);
        (alike && slots.flows() && slots.measured > 0 && slots.average < short).then_some(*unit)
    }

    /// Whether what waits for a service will soon begin, as far as its running units tell.
    pub(super) fn flows(&self, service: &ServiceName) -> bool {
        self.services.get(service).is_none_or(Slots::flows)
    }

    /// Services of which units run or wait here, and others that were measured.
    pub(super) fn services(&self) -> Vec<ServiceName> {
        self.services.keys().cloned().collect()
    }

    /// Services for which units wait behind nothing but runs that take long.
    pub(super) fn stuck(&self) -> Vec<ServiceName> {
        let stuck = |slots: &Slots| !slots.flows() && slots.held().1 > 0;
        self.services.iter().filter(|(_, slots)| stuck(slots)).map(|(name, _)| name.clone()).collect()
    }

    /// All of a service that were started ahead and have not begun.
    pub(super) fn ahead(&self, service: &ServiceName) -> Vec<Unit> {
        self.services.get(service).map(|slots| slots.ahead.iter().copied().collect()).unwrap_or_default()
    }

    /// All that wait for a service.
    pub(super) fn waiting(&self, service: &ServiceName) -> Vec<Unit> {
        self.services.get(service).map(|slots| slots.waiting.values().map(|(unit, _)| *unit).collect()).unwrap_or_default()
    }
}

impl Slots {
    fn flows(&self) -> bool {
        self.overdue == 0 || self.overdue < self.running
    }

    /// What its running units take.
    fn taken(&self) -> Room {
        self.runs.iter().fold(Room::default(), |mut sum, (needs, count)| {
            sum.add(needs.times(*count));
            sum
        })
    }

    fn held(&self) -> (u32, u32) {
        (self.running, u32::try_from(self.waiting.len() + self.ahead.len()).unwrap_or(u32::MAX))
    }
}
