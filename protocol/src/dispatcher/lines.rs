//! The waiting orders of each service, in groups that any worker judges alike: same orderer, same needs.
//! Knows nothing of workers. Only the first order of a group is ever looked at: where it does not fit, none behind it does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use libp2p_identity::PeerId;

use super::queue::Place;
use crate::order::Order;
use crate::service::{ServiceCard, ServiceName};

/// All that a worker looks at before it takes a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    pub(super) orderer: PeerId,
    pub(super) cores: u32,
    pub(super) memory_bytes: u64,
    pub(super) software: BTreeSet<String>,
}

impl Shape {
    pub(super) fn of(order: &Order) -> Self {
        let needs = &order.needs;
        Shape { orderer: order.orderer, cores: needs.cores, memory_bytes: needs.memory_bytes, software: needs.software.clone() }
    }
}

/// What a worker could ever take of a service: while nothing of it changes, groups that nobody can take are left alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Able {
    pub(super) peer: PeerId,
    pub(super) welcomes: bool,
    pub(super) card: ServiceCard,
    pub(super) software: BTreeSet<String>,
    pub(super) cores: u32,
    pub(super) memory_bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<ServiceName, Line>);

#[derive(Debug, Default)]
struct Line {
    groups: BTreeMap<Shape, BTreeSet<Place>>,
    /// The first of each group that is not hopeless.
    heads: BTreeMap<Place, Shape>,
    /// Groups that no worker can take, as long as workers are what they are: `able`.
    hopeless: BTreeSet<Shape>,
    able: Vec<Able>,
    /// Orders of more than one unit.
    large: BTreeSet<Place>,
}

impl Lines {
    /// An order waits.
    pub(super) fn insert(&mut self, service: &ServiceName, shape: &Shape, place: Place, units: u32) {
        if !self.0.contains_key(service) {
            self.0.insert(service.clone(), Line::default());
        }
        let Some(line) = self.0.get_mut(service) else { return };
        line.change(shape, |group| group.insert(place));
        if units > 1 {
            line.large.insert(place);
        }
    }

    /// It does not wait any more.
    pub(super) fn remove(&mut self, service: &ServiceName, shape: &Shape, place: &Place) {
        let Some(line) = self.0.get_mut(service) else { return };
        line.change(shape, |group| group.remove(place));
        line.large.remove(place);
        if line.groups.is_empty() {
            self.0.remove(service);
        }
    }

    /// Nothing waits.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Services that something waits for.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceName> + '_ {
        self.0.keys()
    }

    /// The first order of a service that may be placed.
    pub(super) fn first(&self, service: &ServiceName) -> Option<Place> {
        self.0.get(service)?.heads.keys().next().copied()
    }

    /// Whether anything waits for a service.
    pub(super) fn waits(&self, service: &ServiceName) -> bool {
        self.0.contains_key(service)
    }

    /// The next first of a group behind `last`.
    pub(super) fn next_head(&self, service: &ServiceName, last: Option<Place>) -> Option<(Place, Shape)> {
        let behind = last.map_or(Unbounded, Excluded);
        let (place, shape) = self.0.get(service)?.heads.range((behind, Unbounded)).next()?;
        Some((*place, shape.clone()))
    }

    /// Units that wait before each of some places, which are ascending; `units` tells how many of an order wait.
    pub(super) fn ahead(&self, service: &ServiceName, places: &[Place], units: impl Fn(&Place) -> u64) -> Vec<u64> {
        let mut before = vec![0_u64; places.len()];
        let Some(line) = self.0.get(service) else { return before };
        let mut count = |place: &Place, units: u64| {
            if let Some(count) = before.get_mut(places.partition_point(|wanted| wanted <= place)) {
                *count += units;
            }
        };
        line.groups.values().flatten().for_each(|place| count(place, 1));
        line.large.iter().for_each(|place| count(place, units(place).saturating_sub(1)));
        let mut sum = 0;
        for count in &mut before {
            sum += *count;
            *count = sum;
        }
        before
    }

    /// Whether there are groups that no worker could take.
    pub(super) fn has_hopeless(&self, service: &ServiceName) -> bool {
        self.0.get(service).is_some_and(|line| !line.hopeless.is_empty())
    }

    /// No worker can take this group.
    pub(super) fn give_up(&mut self, service: &ServiceName, shape: Shape, able: impl FnOnce() -> Vec<Able>) {
        let Some(line) = self.0.get_mut(service) else { return };
        let Some(first) = line.groups.get(&shape).and_then(|group| group.first()) else { return };
        if line.hopeless.is_empty() {
            line.able = able();
        }
        line.heads.remove(first);
        line.hopeless.insert(shape);
    }

    /// Workers may be others than they were.
    pub(super) fn hope(&mut self, service: &ServiceName, able: &[Able]) {
        let Some(line) = self.0.get_mut(service).filter(|line| line.able != able) else { return };
        for shape in std::mem::take(&mut line.hopeless) {
            if let Some(first) = line.groups.get(&shape).and_then(|group| group.first()) {
                line.heads.insert(*first, shape);
            }
        }
    }
}

impl Line {
    fn change(&mut self, shape: &Shape, change: impl FnOnce(&mut BTreeSet<Place>) -> bool) {
        if !self.groups.contains_key(shape) {
            self.groups.insert(shape.clone(), BTreeSet::new());
        }
        let Some(group) = self.groups.get_mut(shape) else { return };
        let before = group.first().copied();
        change(group);
        let after = group.first().copied();
        if after.is_none() {
            self.groups.remove(shape);
            self.hopeless.remove(shape);
        }
        if before != after {
            if let Some(before) = before {
                self.heads.remove(&before);
            }
            if let Some(after) = after.filter(|_| !self.hopeless.contains(shape)) {
                self.heads.insert(after, shape.clone());
            }
        }
    }
}
