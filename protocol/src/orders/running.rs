//! Units that are known to run, for people who look.
//! Knows nothing of what follows from it. Bounded: what does not fit is not shown.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::order::Try;
use crate::peer::RunningView;
use crate::work::Progress;

/// Units remembered as running, of one order (guess: more than anybody looks at).
const OF_ORDER: usize = 256;
/// Units remembered as running in all (guess: about 300 bytes of memory each).
const IN_ALL: usize = 16_384;

/// By order and unit.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<(u64, u32), Run>);

#[derive(Debug)]
struct Run {
    of: Try,
    worker: PeerId,
    since: Duration,
    progress: Option<(u64, u64, String)>,
}

impl Runs {
    /// A worker has begun to run this, as far as is known now.
    pub(super) fn on_started(&mut self, worker: PeerId, of: Try, now: Duration) {
        self.enter(worker, of, now);
    }

    /// A worker tells how far it is.
    pub(super) fn on_progress(&mut self, worker: PeerId, progress: Progress, now: Duration) {
        if let Some(run) = self.enter(worker, progress.of, now) {
            run.progress = Some((progress.done, progress.total, progress.note));
        }
    }

    /// This try came to nothing.
    pub(super) fn on_broken(&mut self, of: &Try) {
        let place = (of.order.number, of.unit);
        if self.0.get(&place).is_some_and(|run| run.of == *of) {
            self.0.remove(&place);
        }
    }

    /// This unit has ended, by whatever try.
    pub(super) fn on_ended(&mut self, number: u64, unit: u32) {
        self.0.remove(&(number, unit));
    }

    /// This order has ended.
    pub(super) fn forget(&mut self, number: u64) {
        let units: Vec<u32> = self.of(number).map(|(unit, _)| unit).collect();
        units.into_iter().for_each(|unit| self.on_ended(number, unit));
    }

    /// What is known to run of an order, ascending by unit.
    pub(super) fn view(&self, number: u64, now: Duration) -> Vec<RunningView> {
        let view =
            |run: &Run| RunningView { of: run.of, worker: run.worker, for_: now.saturating_sub(run.since), progress: run.progress.clone() };
        self.of(number).map(|(_, run)| view(run)).collect()
    }

    fn of(&self, number: u64) -> impl Iterator<Item = (u32, &Run)> {
        self.0.range((number, 0)..=(number, u32::MAX)).map(|((_, unit), run)| (*unit, run))
    }

    /// The run of this try by this worker; none if a later try of the unit is known, or too many run.
    fn enter(&mut self, worker: PeerId, of: Try, now: Duration) -> Option<&mut Run> {
        let place = (of.order.number, of.unit);
        let fresh = Run { of, worker, since: now, progress: None };
        match self.0.get(&place).map(|run| (run.of.attempt, run.worker)) {
            Some((attempt, _)) if attempt > of.attempt => return None,
            Some((attempt, by)) if attempt == of.attempt && by != worker => return None,
            Some((attempt, _)) if attempt == of.attempt => {}
            None if self.0.len() >= IN_ALL || self.of(place.0).count() >= OF_ORDER => return None,
            _ => {
                self.0.insert(place, fresh);
            }
        }
        self.0.get_mut(&place)
    }
}
