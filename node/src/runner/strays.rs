//! Processes that have left the group of their task, and whose parents have ended: they have become children of this process.
//! Knows nothing of groups. When a try has ended, no stray of it is left, nor one that can only be of tries that have ended.

use std::collections::BTreeMap;

use rustix::process::{Pid, Signal, WaitOptions, getpgid, kill_process, waitpid};

use super::processes::{Adopted, Marks};

/// The strays that were seen.
#[derive(Debug)]
pub(super) struct Strays {
    /// This process has no other children: all that it adopts is of some task, whatever it says.
    alone: bool,
    /// The number of the next try when each was first seen.
    seen: BTreeMap<i32, u64>,
    adopted: Adopted,
}

/// What strays are judged by.
pub(super) struct Judge<'a> {
    pub(super) marks: &'a Marks,
    /// The try in a directory, or the first that was in it.
    pub(super) in_place: &'a dyn Fn(u64) -> u64,
    /// The try that has ended; none for a look at all.
    pub(super) ended: Option<u64>,
    /// Whether a try goes on.
    pub(super) lives: &'a dyn Fn(u64) -> bool,
    /// Whether a process leads a try that goes on.
    pub(super) leads: &'a dyn Fn(i32) -> bool,
    /// The first of the tries that go on.
    pub(super) oldest: Option<u64>,
    /// The number of the next try.
    pub(super) next: u64,
}

impl Strays {
    pub(super) fn new(alone: bool) -> Strays {
        Strays { alone, seen: BTreeMap::new(), adopted: Adopted::open() }
    }

    /// Kills those that nobody who goes on can want. `true`: some may be of the try that has ended, and are not gone yet.
    pub(super) fn end(&mut self, judge: &Judge<'_>) -> bool {
        let adopted = self.adopted.read();
        if adopted.is_empty() {
            self.seen.clear();
            return false;
        }
        let mut left = false;
        let mut now = BTreeMap::new();
        for pid in adopted {
            let number = pid.as_raw_nonzero().get();
            if (judge.leads)(number) || !(self.alone || self.seen.contains_key(&number) || judge.marks.of(pid, judge.in_place).is_some()) {
                continue;
            }
            if matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_))) {
                continue;
            }
            let since = self.seen.get(&number).copied().unwrap_or(judge.next);
            now.insert(number, since);
            left |= self.is_unwanted(pid, since, judge);
        }
        self.seen = now;
        left
    }

    fn is_unwanted(&self, pid: Pid, since: u64, judge: &Judge<'_>) -> bool {
        let whose = judge.marks.of(pid, judge.in_place);
        let unwanted = match whose {
            Some(number) => judge.ended == Some(number) || !(judge.lives)(number),
            // It still is in the group of a program that goes on.
            None if getpgid(Some(pid)).is_ok_and(|group| (judge.leads)(group.as_raw_nonzero().get())) => false,
            // It says nothing: it is of a try that was there when it was first seen.
            None => judge.oldest.is_none_or(|oldest| oldest >= since),
        };
        if unwanted {
            // Who has gone meanwhile is seen the next time.
            let _ = kill_process(pid, Signal::KILL);
        }
        // Those of tries that ended before are killed, but nobody waits for them.
        unwanted && (whose.is_none() || whose == judge.ended)
    }
}
