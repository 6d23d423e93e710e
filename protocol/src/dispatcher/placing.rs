//! Which worker gets which unit. Tried wherever something has changed, and nowhere else.
//! Of the workers that can take a unit the least busy one gets it; who needs an emptier worker than there is keeps one.

use std::collections::BTreeSet;

use libp2p_identity::PeerId;

use super::judging::{Verdict, card, needs};
use super::lines::{Able, Lines, Shape};
use super::queue::Place;
use super::table::{Placement, Stage};
use super::workers::Load;
use super::{Dispatcher, WorkerView};
use crate::effect::Out;
use crate::now::Now;
use crate::order::{Attempt, Fence};
use crate::segment::What;
use crate::service::{ServiceCard, ServiceName};

/// Orders of a service that are looked at in one pass without finding a place for all of their units (guess).
const HEADS: usize = 64;
/// Passes in one batch: a place that becomes free by not being kept any more may be one for others (guess).
const ROUNDS: usize = 4;

/// Where something may be placed that could not be before.
#[derive(Debug, Default)]
pub(super) struct Look {
    all: bool,
    services: BTreeSet<ServiceName>,
    workers: BTreeSet<PeerId>,
}

impl Look {
    /// Everywhere.
    pub(super) fn all(&mut self) {
        self.all = true;
    }

    /// Something waits for it, or a worker may take it again.
    pub(super) fn at(&mut self, service: &ServiceName) {
        if !self.all && !self.services.contains(service) {
            self.services.insert(service.clone());
        }
    }

    /// It has room.
    pub(super) fn at_worker(&mut self, worker: PeerId) {
        self.workers.insert(worker);
    }

    /// It has just been looked at.
    fn seen(&mut self, service: &ServiceName) {
        self.services.remove(service);
    }

    fn is_empty(&self) -> bool {
        !self.all && self.services.is_empty() && self.workers.is_empty()
    }

    /// The services to look at: those first whose first order is first in the queue.
    fn take(&mut self, lines: &Lines, views: &[WorkerView<'_>]) -> Vec<ServiceName> {
        let Look { all, services, workers } = std::mem::take(self);
        let mut due: BTreeSet<ServiceName> = if all { lines.services().cloned().collect() } else { services };
        if !workers.is_empty() && !all {
            for view in views.iter().filter(|view| workers.contains(&view.peer)) {
                let offered = view.services.services.iter().map(|card| &card.name);
                due.extend(offered.filter(|service| lines.waits(service)).cloned());
            }
        }
        let mut due: Vec<(Option<Place>, ServiceName)> =
            due.into_iter().filter(|service| lines.waits(service)).map(|service| (lines.first(&service), service)).collect();
        due.sort();
        due.into_iter().map(|(_, service)| service).collect()
    }
}

/// A worker that offers the service.
struct Candidate<'a> {
    view: &'a WorkerView<'a>,
    card: &'a ServiceCard,
    load: Load,
    /// The first order, for another service, that keeps it.
    kept: Option<Place>,
}

impl Dispatcher {
    /// The catalog, presence or statistics have changed: what waits is tried again.
    pub(crate) fn on_workers_changed(&mut self) {
        self.look.all();
    }

    pub(super) fn place_all(&mut self, views: &[WorkerView<'_>], fence: Fence, now: Now, out: &mut Out) {
        for _ in 0..ROUNDS {
            if self.look.is_empty() {
                return;
            }
            for service in self.look.take(&self.lines, views) {
                self.place_service(&service, views, fence, now, out);
            }
        }
    }

    fn place_service(&mut self, service: &ServiceName, views: &[WorkerView<'_>], fence: Fence, now: Now, out: &mut Out) {
        let before = self.reserved.remove(service);
        let mut candidates: Vec<Candidate<'_>> = views
            .iter()
            .filter_map(|view| card(view, service).map(|card| (view, card)))
            .map(|(view, card)| Candidate {
                view,
                card,
                load: self.workers.load(&view.peer, card, &self.config),
                kept: self.reserved.values().filter(|(_, worker)| *worker == view.peer).map(|(place, _)| *place).min(),
            })
            .collect();
        if self.lines.has_hopeless(service) {
            self.lines.hope(service, &able(&candidates));
        }
        let (mut last, mut blocked) = (None, 0);
        while blocked < HEADS && candidates.iter().any(|candidate| self.workers.has_room(candidate.view, candidate.card, &candidate.load)) {
            let Some((place, shape)) = self.lines.next_head(service, last) else { break };
            last = Some(place);
            #[cfg(test)]
            {
                self.visited += 1;
            }
            if self.place_order(place, &shape, &mut candidates, fence, now, out) {
                continue;
            }
            let verdicts: Vec<Verdict> = candidates.iter().map(|candidate| self.judge(candidate, place, &shape)).collect();
            if verdicts.iter().all(|verdict| matches!(verdict, Verdict::Never(_))) {
                self.lines.give_up(service, shape, || able(&candidates));
                continue;
            }
            blocked += 1;
            if !self.reserved.contains_key(service) {
                let emptiest = candidates
                    .iter()
                    .zip(&verdicts)
                    .filter(|(_, verdict)| **verdict == Verdict::Busy)
                    .map(|(candidate, _)| candidate)
                    .min_by_key(|candidate| {
                        let other = before.is_none_or(|(_, worker)| worker != candidate.view.peer);
                        (other, candidate.load.cores, candidate.load.memory_bytes, candidate.view.peer)
                    });
                if let Some(candidate) = emptiest {
                    self.reserved.insert(service.clone(), (place, candidate.view.peer));
                }
            }
        }
        self.look.seen(service);
        // Where the pass did not get that far, because nobody has room, what was kept stays kept.
        if let Some((place, worker)) = before.filter(|(place, _)| last.is_none_or(|last| last < *place))
            && !self.reserved.contains_key(service)
            && self.rows.get(&place.1).is_some_and(|row| row.queued)
            && candidates.iter().any(|candidate| candidate.view.peer == worker)
        {
            self.reserved.insert(service.clone(), (place, worker));
        }
        if let Some((_, worker)) = before
            && self.reserved.get(service).is_none_or(|(_, now_kept)| *now_kept != worker)
        {
            self.look.at_worker(worker);
        }
    }

    /// Places units of an order; whether none of them waits any more.
    fn place_order(
        &mut self,
        place: Place,
        shape: &Shape,
        candidates: &mut [Candidate<'_>],
        fence: Fence,
        now: Now,
        out: &mut Out,
    ) -> bool {
        let key = place.1;
        let mut placed = false;
        while let Some(row) = self.rows.get_mut(&key).filter(|row| row.wants_workers())
            && let Some(unit) = row.next_unit()
        {
            let (avoided, number) = (row.avoids(unit), row.next_number(unit));
            let row = &self.rows[&key];
            let best =
                candidates.iter_mut().filter(|candidate| self.judge(candidate, place, shape) == Verdict::Fits).min_by_key(|candidate| {
                    let Candidate { view, card, load, .. } = candidate;
                    let fullness = (u64::from(load.in_flight) << 16) / u64::from(card.limit.max(1));
                    let waits_there = load.in_flight >= card.limit;
                    (avoided == Some(view.peer), view.inactive, waits_there, row.is_at(&view.peer), fullness, view.peer)
                });
            let Some(candidate) = best else { break };
            let worker = candidate.view.peer;
            let attempt = Attempt { term: fence.term, leader: fence.leader, number };
            let again_at = Some(now.mono + self.config.work_patience);
            let placement = Placement { attempt, worker, stage: Stage::Assigned, since: now.mono, again_at, asked: 0 };
            out.note(What::UnitAssigned { of: row.try_of(unit, attempt), worker });
            self.put(&key, unit, placement, Some(needs(candidate.card, shape)), now);
            self.say_assign(&key, unit, now);
            candidate.load = self.workers.load(&worker, candidate.card, &self.config);
            placed = true;
        }
        if placed {
            self.settle(&key);
        }
        self.rows.get(&key).is_none_or(|row| !row.wants_workers())
    }

    fn judge(&self, candidate: &Candidate<'_>, place: Place, shape: &Shape) -> Verdict {
        let Candidate { view, card, load, .. } = candidate;
        let verdict = self.workers.judge(view, card, load, shape);
        if verdict != Verdict::Fits && verdict != Verdict::Busy {
            return verdict;
        }
        // An order before this one keeps it, for this service or another; what takes no room may go there.
        let here = self.reserved.get(&card.name).filter(|(_, worker)| *worker == view.peer).map(|(place, _)| *place);
        let kept = candidate.kept.into_iter().chain(here).any(|kept| kept < place);
        if kept && needs(card, shape) != (0, 0) { Verdict::Later(crate::service::Lack::Busy) } else { verdict }
    }
}

/// What these workers could ever take.
fn able(candidates: &[Candidate<'_>]) -> Vec<Able> {
    let able = |Candidate { view, card, .. }: &Candidate<'_>| Able {
        peer: view.peer,
        welcomes: view.welcomes && !view.services.draining,
        card: (*card).clone(),
        software: view.services.software.clone(),
        cores: view.statistics.cores,
        memory_bytes: view.statistics.memory_bytes,
    };
    candidates.iter().map(able).collect()
}
