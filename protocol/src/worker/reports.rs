//! How units ended here, until their orderers close the orders; and which attempts came to nothing.
//! Knows nothing of who is reachable. A report stays until its order is closed; its excerpts may go once its orderer was told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;

use super::{Unit, all_of};
use crate::config::limits;
use crate::effect::{Change, Out};
use crate::order::{Broken, Excerpt, OrderKey, Report, Try};

/// Reports of orders that are not closed (measured: about 600 bytes of memory each). An order is closed when all its units have
/// ended, so that fewer than the units of one order would be too few.
const REPORTS: usize = 2 * limits::ORDER_UNITS;
/// Bytes of excerpts in them (guess: what a small machine can spare).
const EXCERPTS_BYTES: usize = 256 * 1024 * 1024;
/// What one report may need of that.
const EXCERPTS_EACH: usize = 2 * limits::EXCERPT_BYTES;
/// Attempts that came to nothing and are remembered, lest they are begun again (guess: about 300 bytes of memory each).
const BROKEN: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reports {
    ended: BTreeMap<Unit, Box<Kept>>,
    bytes: usize,
    /// Those that their orderers were told, in that order: the excerpts of the first go first.
    told: VecDeque<Unit>,
    /// Those that did not go as letters.
    unlettered: BTreeSet<Unit>,
    /// Since when orderers are seen to be away.
    away: BTreeMap<PeerId, Duration>,
    broken: BTreeMap<Unit, Came>,
    broken_order: VecDeque<Unit>,
}

#[derive(Debug)]
struct Kept {
    report: Report,
    told: bool,
}

/// An attempt that came to nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub(super) of: Try,
    pub(super) why: Broken,
    /// The disk remembers its start.
    row: bool,
}

impl Reports {
    pub(super) fn get(&self, unit: &Unit) -> Option<&Report> {
        self.ended.get(unit).map(|kept| &kept.report)
    }

    /// A unit has ended.
    pub(super) fn put(&mut self, report: Report) {
        let unit = super::unit(&report.of);
        self.bytes += excerpts(&report);
        self.unlettered.insert(unit);
        if let Some(before) = self.ended.insert(unit, Box::new(Kept { report, told: false })) {
            self.bytes -= excerpts(&before.report);
        }
    }

    /// Whether one more can be kept beside those of `open` units that have not ended. Excerpts that were told make room.
    pub(super) fn reserve(&mut self, open: usize, out: &mut Out) -> bool {
        if self.ended.len() + open >= REPORTS {
            return false;
        }
        while self.bytes + (open + 1) * EXCERPTS_EACH > EXCERPTS_BYTES {
            let Some(unit) = self.told.pop_front() else { return false };
            let Some(kept) = self.ended.get_mut(&unit).filter(|kept| kept.told && excerpts(&kept.report) > 0) else { continue };
            self.bytes -= excerpts(&kept.report);
            for excerpt in [&mut kept.report.stdout, &mut kept.report.stderr] {
                *excerpt = Excerpt { bytes: serde_bytes::ByteBuf::new(), ..*excerpt };
            }
            out.store(Change::TryEnded(Box::new(kept.report.clone())));
        }
        true
    }

    /// Its orderer was told.
    pub(super) fn on_told(&mut self, unit: Unit) {
        if let Some(kept) = self.ended.get_mut(&unit).filter(|kept| !kept.told) {
            kept.told = true;
            if excerpts(&kept.report) > 0 {
                self.told.push_back(unit);
            }
        }
    }

    /// What this orderer was told may not have arrived.
    pub(super) fn on_untold(&mut self, orderer: PeerId) {
        for (_, kept) in self.ended.range_mut(all_of(orderer)) {
            kept.told = false;
        }
        self.told.retain(|(key, _)| key.orderer != orderer);
    }

    /// The first reports after one, of one orderer's units or of all, of about so many bytes; and whether there are more.
    pub(super) fn after(&self, after: Option<Unit>, of: Option<PeerId>, bytes: usize) -> (Vec<Report>, bool) {
        let (mut page, mut size) = (Vec::new(), 0);
        let range = of.map(all_of);
        // It may be of what was told when this peer led and was told of all.
        let after = after.filter(|unit| range.as_ref().is_none_or(|range| range.contains(unit)));
        let from = match (after, &range) {
            (Some(unit), _) => std::ops::Bound::Excluded(unit),
            (None, Some(range)) => std::ops::Bound::Included(*range.start()),
            (None, None) => std::ops::Bound::Unbounded,
        };
        let to = range.map_or(std::ops::Bound::Unbounded, |range| std::ops::Bound::Included(*range.end()));
        for (_, kept) in self.ended.range((from, to)) {
            if size >= bytes {
                return (page, true);
            }
            size += self::size(&kept.report);
            page.push(kept.report.clone());
        }
        (page, false)
    }

    pub(super) fn owes(&self, orderer: PeerId) -> bool {
        self.ended.range(all_of(orderer)).next().is_some()
    }

    /// Forgets what is kept of orders from one key to another.
    pub(super) fn close(&mut self, first: OrderKey, last: OrderKey, out: &mut Out) {
        let units = (first, 0)..=(last, u32::MAX);
        let closed: Vec<Unit> = self.ended.range(units.clone()).map(|(unit, _)| *unit).collect();
        for unit in closed {
            if let Some(kept) = self.ended.remove(&unit) {
                self.bytes -= excerpts(&kept.report);
                self.unlettered.remove(&unit);
                out.store(Change::DropTry(kept.report.of));
            }
        }
        let closed: Vec<Unit> = self.broken.range(units).map(|(unit, _)| *unit).collect();
        for unit in closed {
            self.forget_broken(&unit, out);
        }
        // What was told and is closed is passed over; it must not pile up before room is needed.
        if self.told.len() > 2 * self.ended.len() + 1_024 {
            self.told.retain(|unit| self.ended.contains_key(unit));
        }
        if self.ended.is_empty() {
            self.away.clear();
        }
    }

    // -- letters

    /// Reports of orderers that have been away for `patience`, at most a page, each given once.
    pub(super) fn letters_due(&mut self, reachable: impl Fn(&PeerId) -> bool, patience: Duration, now: Duration) -> Vec<Report> {
        let mut due = Vec::new();
        let mut next = self.unlettered.first().copied();
        while let Some((key, _)) = next {
            let orderer = key.orderer;
            if reachable(&orderer) {
                self.away.remove(&orderer);
            } else if *self.away.entry(orderer).or_insert(now) + patience <= now {
                let page: Vec<Unit> = self.unlettered.range(all_of(orderer)).take(limits::PAGE - due.len()).copied().collect();
                for unit in page {
                    self.unlettered.remove(&unit);
                    due.extend(self.get(&unit).cloned());
                }
            }
            if due.len() >= limits::PAGE {
                break;
            }
            next = self.unlettered.range((std::ops::Bound::Excluded(*all_of(orderer).end()), std::ops::Bound::Unbounded)).next().copied();
        }
        due
    }

    pub(super) fn letters_deadline(&self, patience: Duration) -> Option<Duration> {
        let unsent = |orderer: &PeerId| self.unlettered.range(all_of(*orderer)).next().is_some();
        self.away.iter().filter(|(orderer, _)| unsent(orderer)).map(|(_, since)| *since + patience).min()
    }

    // -- what came to nothing

    pub(super) fn broken(&self, unit: &Unit) -> Option<Came> {
        self.broken.get(unit).copied()
    }

    pub(super) fn all_broken(&self) -> impl Iterator<Item = Came> + '_ {
        self.broken.values().copied()
    }

    /// An attempt came to nothing. `row`: the disk remembers its start, until somebody is told.
    pub(super) fn put_broken(&mut self, of: Try, why: Broken, row: bool, out: &mut Out) {
        let unit = super::unit(&of);
        self.forget_broken(&unit, out);
        self.broken.insert(unit, Came { of, why, row });
        self.broken_order.push_back(unit);
        while self.broken.len() > BROKEN
            && let Some(oldest) = self.broken_order.pop_front()
        {
            self.forget_broken(&oldest, out);
        }
        if self.broken_order.len() > 2 * BROKEN {
            self.broken_order.retain(|unit| self.broken.contains_key(unit));
        }
    }

    /// The leader is told of it: the disk need not remember it. True if it did.
    pub(super) fn on_broken_told(&mut self, unit: &Unit, out: &mut Out) -> bool {
        let Some(came) = self.broken.get_mut(unit).filter(|came| came.row) else { return false };
        came.row = false;
        out.store(Change::DropTry(came.of));
        true
    }

    pub(super) fn forget_broken(&mut self, unit: &Unit, out: &mut Out) {
        if let Some(came) = self.broken.remove(unit).filter(|came| came.row) {
            out.store(Change::DropTry(came.of));
        }
    }
}

/// What a report takes of a window, about.
pub(super) fn size(report: &Report) -> usize {
    excerpts(report) + 512
}

fn excerpts(report: &Report) -> usize {
    report.stdout.bytes.len() + report.stderr.bytes.len()
}
