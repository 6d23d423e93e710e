//! What is yet to happen, by virtual time.
//! Knows nothing of what it means. Two events of one time happen in the order in which they were put here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use protocol::Input;
use protocol::order::Try;

use super::desk::{Frame, Gossip};
use super::faults::Fault;
use super::network::Pair;
use super::orderers::OrderJob;
use super::runner::Turn;
use super::workload::Job;

/// One event. `life` and `generation` say for which start of a node, for which connection: later ones ignore it.
#[derive(Debug)]
pub(crate) enum Event {
    /// A node's driver looks at its queue.
    Wake { node: usize, life: u64 },
    /// A node's deadline has come.
    Timer { node: usize, life: u64, version: u64 },
    /// A node's commit is flushed.
    Flushed { node: usize, life: u64 },
    /// A fact reaches a node's queue.
    Tell { node: usize, life: u64, input: Box<Input> },
    /// A node starts, if it is down.
    Start { node: usize },
    /// A node that said goodbye is gone.
    Gone { node: usize, life: u64 },
    /// Two nodes try to connect.
    Connect { pair: Pair },
    /// One end sees a connection.
    Seen { pair: Pair, generation: u64, side: usize },
    /// One end sees that it is gone.
    Lost { pair: Pair, generation: u64, side: usize },
    /// A connection whose frames have vanished for a while dies, if they still do.
    Starved { pair: Pair, generation: u64 },
    /// A connection that lost frames in a cut dies, also if the cut is healed.
    Torn { pair: Pair, generation: u64 },
    /// A frame reaches a node.
    Frame { from: usize, to: usize, generation: u64, frame: Rc<Frame> },
    /// A gossip reaches a node.
    Gossip { from: usize, to: usize, generation: u64, gossip: Rc<Gossip> },
    /// All cuts of this name are healed.
    Heal { cut: u64 },
    /// Something breaks.
    Fault(Fault),
    /// People do something.
    Work,
    /// A client repeats a request whose answer it did not see.
    Repeat { job: Box<Job> },
    /// A client repeats an order whose number it did not see.
    RepeatOrder { job: Box<OrderJob> },
    /// Something happens to a process.
    Process { node: usize, life: u64, task: Box<Try>, turn: Turn },
    /// A node's disk is put back to its backup.
    Restore { node: usize },
}

struct Item {
    at: Duration,
    order: u64,
    event: Event,
}

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Item {}
impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Item {
    fn cmp(&self, other: &Item) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Item>>,
    next: u64,
    now: Duration,
}

impl Agenda {
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.next += 1;
        self.heap.push(Reverse(Item { at: at.max(self.now), order: self.next, event }));
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    /// The next event up to `end`, and time goes on to it; or to `end` if there is none.
    pub(crate) fn pop(&mut self, end: Duration) -> Option<Event> {
        if self.heap.peek().is_none_or(|Reverse(item)| item.at > end) {
            self.now = self.now.max(end);
            return None;
        }
        let Reverse(item) = self.heap.pop()?;
        self.now = item.at;
        Some(item.event)
    }
}
