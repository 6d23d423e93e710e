//! Where orders stand, for whoever asks: place in the queue, units with workers, what each worker lacks, when it may start.
//! Changes nothing. A page costs one walk along the queue, however long its orders are in it.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::judging::{Verdict, card};
use super::queue::Place;
use super::table::{Placement, Row, Stage};

use super::{Dispatcher, WorkerView};
use crate::config::limits;
use crate::now::Now;
use crate::order::{Order, OrderKey};
use crate::service::{Lack, ServiceName};
use crate::work::{Placed, PlacedState, Standing};

/// A rate is counted in runs for each of so many microseconds: fine enough for runs of a day.
const UNIT_OF_TIME: u128 = 1_000_000_000_000;

/// Where a waiting order is: its position from 1, and units of its service before it.
type Ahead = BTreeMap<OrderKey, (u64, u64)>;

impl Dispatcher {
    /// Where an order stands; none if it is not here.
    pub(crate) fn standing(&self, order: &OrderKey, workers: &[WorkerView<'_>], now: Now) -> Option<Standing> {
        let row = self.rows.get(order)?;
        Some(self.stand(row, &self.ahead(&[row]), workers, now))
    }

    /// Where at most `most` orders after one stand, in the order of their keys, and whether there are more.
    pub(crate) fn standings(&self, after: Option<OrderKey>, most: usize, workers: &[WorkerView<'_>], now: Now) -> (Vec<Standing>, bool) {
        let behind = after.map_or(Unbounded, Excluded);
        let mut rows = self.rows.range((behind, Unbounded)).map(|(_, row)| &**row);
        let page: Vec<&Row> = rows.by_ref().take(most).collect();
        let ahead = self.ahead(&page);
        (page.into_iter().map(|row| self.stand(row, &ahead, workers, now)).collect(), rows.next().is_some())
    }

    fn ahead(&self, page: &[&Row]) -> Ahead {
        let mut waiting: BTreeMap<&ServiceName, Vec<Place>> = BTreeMap::new();
        let mut places: Vec<Place> = Vec::new();
        for row in page.iter().filter(|row| row.queued) {
            places.push(row.place());
            waiting.entry(&row.order.value.service).or_default().push(row.place());
        }
        places.sort_unstable();
        let mut ahead = Ahead::new();
        let mut wanted = places.iter().peekable();
        for (at, place) in self.queue.iter().enumerate() {
            let Some(next) = wanted.peek() else { break };
            if *next == place {
                ahead.insert(place.1, (at as u64 + 1, 0));
                wanted.next();
            }
        }
        for (service, mut places) in waiting {
            places.sort_unstable();
            let units = |place: &Place| self.rows.get(&place.1).map_or(0, |row| u64::from(row.waiting()));
            for (place, before) in places.iter().zip(self.lines.ahead(service, &places, units)) {
                if let Some((_, units)) = ahead.get_mut(&place.1) {
                    *units = before;
                }
            }
        }
        ahead
    }

    fn stand(&self, row: &Row, ahead: &Ahead, workers: &[WorkerView<'_>], now: Now) -> Standing {
        let order = &row.order.value;
        let place = ahead.get(&row.key()).copied();
        let (eta_ms, basis) = place.and_then(|(_, units)| self.eta(row, units, workers)).unzip();
        Standing {
            order: row.key(),
            service: order.service.clone(),
            args: beginning(order),
            priority: order.priority.into(),
            held_by: u32::from(order.orderer != self.me) + u32::try_from(self.standbys.holders(&row.key())).unwrap_or(u32::MAX),
            position: place.map(|(position, _)| position),
            units: row.units(),
            ended: row.over(),
            waiting: row.waiting(),
            tries: row.tries().iter().take(limits::PAGE).map(|(unit, placement)| self.placed(*unit, placement, now)).collect(),
            cancelling: row.cancel.is_some(),
            lacks: if place.is_some() { self.lacks(row, workers) } else { BTreeMap::new() },
            eta_ms,
            basis: basis.unwrap_or(0),
            age_ms: now.wall.0.saturating_sub(row.at.0),
        }
    }

    fn placed(&self, unit: u32, placement: &Placement, now: Now) -> Placed {
        let state = match placement.stage {
            _ if !self.workers.is_reachable(&placement.worker) => PlacedState::Unreachable,
            Stage::Running => PlacedState::Running,
            Stage::Unsure | Stage::Assigned | Stage::Taken => PlacedState::Assigned,
        };
        let since_ms = u64::try_from(now.mono.saturating_sub(placement.since).as_millis()).unwrap_or(u64::MAX);
        Placed { unit, attempt: placement.attempt, worker: placement.worker, state, since_ms }
    }

    /// What each worker lacks for the next unit; nothing if one lacks nothing, which is about to get it.
    fn lacks(&self, row: &Row, workers: &[WorkerView<'_>]) -> BTreeMap<libp2p_identity::PeerId, Lack> {
        let lack = |view: &WorkerView<'_>| match card(view, &row.order.value.service) {
            None => Some(Lack::NotOffered),
            Some(card) => {
                let kept = |(place, worker): &(Place, _)| *worker == view.peer && *place < row.place();
                let load = self.workers.load_of(&view.peer, card, &self.config);
                let verdict = self.workers.judge(view, card, &load, &row.shape);
                let kept = verdict == Verdict::Fits && self.reserved.values().any(kept);
                if kept { Some(Lack::Busy) } else { verdict.lack() }
            }
        };
        let Some(mut lacks) = workers.iter().map(|view| Some((lack(view)?, view.peer))).collect::<Option<Vec<_>>>() else {
            return BTreeMap::new();
        };
        // Those that offer it first: the list has an end.
        lacks.sort_by_key(|(lack, peer)| (*lack == Lack::NotOffered, *peer));
        lacks.into_iter().take(limits::PAGE).map(|(lack, peer)| (peer, lack)).collect()
    }

    /// When the next unit should start, by how fast those who could run it were so far; and how many runs were measured for that.
    fn eta(&self, row: &Row, ahead: u64, workers: &[WorkerView<'_>]) -> Option<(u64, u32)> {
        let service = &row.order.value.service;
        let (mut rate, mut basis) = (0_u128, 0_u32);
        for view in workers {
            let Some(card) = card(view, service) else { continue };
            let load = self.workers.load_of(&view.peer, card, &self.config);
            let Some((mean, runs)) = self.workers.mean(&view.peer, service) else { continue };
            // When a run ends that takes long for once, nobody knows.
            if load.in_flight >= card.limit && self.workers.is_held_up(&view.peer, service) {
                continue;
            }
            if !matches!(self.workers.judge(view, card, &load, &row.shape), Verdict::Never(_)) {
                rate += u128::from(card.limit) * UNIT_OF_TIME / u128::from(mean.max(1));
                basis = basis.saturating_add(runs);
            }
        }
        let micros = (u128::from(ahead) + 1) * UNIT_OF_TIME / Some(rate).filter(|rate| *rate > 0)?;
        Some((u64::try_from(micros / 1_000).unwrap_or(u64::MAX), basis))
    }
}

/// The beginning of an order's arguments.
fn beginning(order: &Order) -> String {
    let mut text = String::new();
    for arg in &order.args {
        if !text.is_empty() {
            text.push(' ');
        }
        for letter in arg.chars() {
            if text.len() + letter.len_utf8() > limits::NOTE_BYTES {
                return text;
            }
            text.push(letter);
        }
        if text.len() >= limits::NOTE_BYTES {
            break;
        }
    }
    text
}
