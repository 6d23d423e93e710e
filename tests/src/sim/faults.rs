//! What breaks, when and for how long.
//! Knows nothing of letters. Each fault arranges its own repair and its own repetition.

use std::time::Duration;

use protocol::Input;
use protocol::input::Disk as Room;

use super::Sim;
use super::agenda::Event;
use super::node::{CrashPoint, MACHINE, Plan};

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Crash,
    Stop,
    Partition,
    CutConnection,
    Pause,
    Restore,
    FullDisk,
    Depart,
    Prune,
}

const ALL: [Fault; 9] = [
    Fault::Crash,
    Fault::Stop,
    Fault::Partition,
    Fault::CutConnection,
    Fault::Pause,
    Fault::Restore,
    Fault::FullDisk,
    Fault::Depart,
    Fault::Prune,
];

impl Sim {
    /// Arranges the first fault of each kind.
    pub(super) fn plan_faults(&mut self) {
        ALL.into_iter().for_each(|fault| self.repeat_fault(fault));
    }

    fn repeat_fault(&mut self, fault: Fault) {
        let faults = &self.options.faults;
        let every = match fault {
            Fault::Crash => faults.crash,
            Fault::Stop => faults.stop,
            Fault::Partition => faults.partition,
            Fault::CutConnection => faults.cut_connection,
            Fault::Pause => faults.pause,
            Fault::Restore => faults.restore,
            Fault::FullDisk => faults.full_disk,
            Fault::Depart => faults.depart,
            Fault::Prune => faults.prune,
        };
        if let Some(every) = every {
            let wait = self.faults.between(Duration::ZERO, every * 2);
            self.agenda.after(wait, Event::Fault(fault));
        }
    }

    pub(super) fn on_fault(&mut self, fault: Fault) {
        if !self.faulty {
            return;
        }
        self.repeat_fault(fault);
        let up: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up()).collect();
        if up.is_empty() {
            return;
        }
        let node = *self.faults.pick(&up);
        match fault {
            Fault::Crash => self.some_crash(node),
            Fault::Stop => {
                self.begin_stop(node);
            }
            Fault::Partition => self.some_partition(),
            Fault::CutConnection => {
                let links = self.network.links_up();
                if !links.is_empty() {
                    let pair = *self.faults.pick(&links);
                    self.network.break_link(pair, &mut self.agenda);
                    self.network.want(pair.0, pair.1, &mut self.agenda);
                }
            }
            Fault::Pause => {
                let until = self.now() + self.faults.between(Duration::from_millis(200), Duration::from_secs(15));
                self.pause(node, until);
            }
            Fault::Restore => {
                self.nodes[node].backup = Some(self.snapshot(node));
                let later = self.faults.between(Duration::from_millis(500), Duration::from_secs(15));
                self.agenda.after(later, Event::Restore { node });
            }
            // Two stay, to write to each other.
            Fault::Depart if self.nodes.len() - self.custodians.departed.len() > 2 => self.depart(node),
            Fault::Depart => {}
            Fault::Prune => {
                let most = 1 + self.faults.below(10);
                let pruned = self.nodes[node].disk.record.overdue(most);
                if !pruned.is_empty() {
                    self.tell_now(node, Input::RecordOverdue(pruned));
                }
            }
            Fault::FullDisk => {
                let lasts = self.faults.between(Duration::from_millis(100), Duration::from_secs(8));
                self.measure(node, Room::Low { free: 1 });
                let input = Input::Measured { statistics: MACHINE, disk: Room::Enough };
                self.agenda.after(lasts, Event::Tell { node, life: self.nodes[node].life, input: Box::new(input) });
            }
        }
    }

    fn some_crash(&mut self, node: usize) {
        let silent = self.faults.yes(0.3);
        self.counts.crashes += 1;
        let point = match self.faults.below(4) {
            0 => {
                self.die(node, silent);
                return;
            }
            1 => CrashPoint::BeforeCommit,
            2 => CrashPoint::AfterCommit,
            _ => CrashPoint::After(1 + self.faults.index(4)),
        };
        self.nodes[node].plan = Some(Plan { point, when: |_| true, silent });
    }

    /// Starts a node that is down.
    pub(super) fn restart_later(&mut self, node: usize) {
        let wait = match self.faults.below(4) {
            0 => self.faults.between(Duration::from_millis(1), Duration::from_millis(50)),
            1 | 2 => self.faults.between(Duration::from_millis(50), Duration::from_secs(3)),
            _ => self.faults.between(Duration::from_secs(3), Duration::from_secs(20)),
        };
        self.agenda.after(wait, Event::Start { node });
    }

    /// Splits the swarm in two, or makes some deaf to some others.
    fn some_partition(&mut self) {
        self.cuts += 1;
        let (cut, one_way) = (self.cuts, self.faults.yes(0.4));
        let sides: Vec<bool> = self.nodes.iter().map(|_| self.faults.yes(0.5)).collect();
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                let across = sides[from] != sides[to] && (!one_way || sides[from]);
                if across {
                    self.network.cut(from, to, cut, &mut self.agenda);
                }
            }
        }
        let lasts = self.faults.between(Duration::from_millis(300), Duration::from_secs(20));
        self.agenda.after(lasts, Event::Heal { cut });
    }
}
