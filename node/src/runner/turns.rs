//! Tries that have not begun: whose turn is next, so that no service runs more at once than it may, nor all together.
//! Knows nothing of programs. Tries of one service begin in the order in which they came.

use std::collections::{BTreeMap, VecDeque};

use protocol::effect::Run;
use protocol::service::ServiceName;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Turns {
    services: BTreeMap<ServiceName, Turn>,
    /// Have begun and not ended, of all services.
    running: usize,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Turn {
    /// As it was said last.
    at_once: u32,
    running: u32,
    waiting: VecDeque<(u64, Box<Run>)>,
}

impl Turns {
    /// A try waits for its turn.
    pub(super) fn put(&mut self, number: u64, run: Box<Run>) {
        let turn = self.services.entry(run.service.clone()).or_default();
        turn.at_once = run.at_once;
        turn.waiting.push_back((number, run));
        self.waiting += 1;
    }

    /// Begins the one that came first of those that may, if no more than `most` run with it.
    pub(super) fn next(&mut self, most: usize) -> Option<(u64, Box<Run>)> {
        if self.waiting == 0 || self.running >= most {
            return None;
        }
        let free = self.services.values_mut().filter(|turn| turn.running < turn.at_once && !turn.waiting.is_empty());
        let turn = free.min_by_key(|turn| turn.waiting.front().map(|(number, _)| *number))?;
        let next = turn.waiting.pop_front()?;
        turn.running += 1;
        self.running += 1;
        self.waiting -= 1;
        Some(next)
    }

    /// Takes back one that has not begun; false if it has.
    pub(super) fn remove(&mut self, service: &ServiceName, number: u64) -> bool {
        let Some(turn) = self.services.get_mut(service) else { return false };
        let Some(place) = turn.waiting.iter().position(|(waiting, _)| *waiting == number) else { return false };
        turn.waiting.remove(place);
        self.waiting -= 1;
        self.tidy(service);
        true
    }

    /// Takes back all that have not begun.
    pub(super) fn remove_all(&mut self) -> Vec<u64> {
        self.waiting = 0;
        self.services.values_mut().flat_map(|turn| turn.waiting.drain(..)).map(|(number, _)| number).collect()
    }

    /// One that had begun has ended.
    pub(super) fn end(&mut self, service: &ServiceName) {
        if let Some(turn) = self.services.get_mut(service) {
            turn.running = turn.running.saturating_sub(1);
            self.running = self.running.saturating_sub(1);
        }
        self.tidy(service);
    }

    /// Whether some of a service begin only when others have ended.
    pub(super) fn is_busy(&self, service: &ServiceName) -> bool {
        self.services.get(service).is_some_and(|turn| !turn.waiting.is_empty())
    }

    fn tidy(&mut self, service: &ServiceName) {
        if self.services.get(service).is_some_and(|turn| turn.running == 0 && turn.waiting.is_empty()) {
            self.services.remove(service);
        }
    }
}
