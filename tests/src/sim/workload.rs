//! The people and programs of a simulated swarm: they write, read, signal, and repeat what they saw no answer to.
//! Knows nothing of disks and frames. A client learns what became of a request by its reply alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::envelope::Payload;
use protocol::input::{Command, NewLetter, OUTCOMES, Place};
use protocol::name::{Addressee, PeerName};
use protocol::{Answer, Refusal, RequestId};

use super::Sim;
use super::agenda::Event;
use super::chance::Chance;
use super::orderers::OrderJob;

/// A letter that somebody wants to write.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) node: usize,
    pub(crate) letter: NewLetter,
    pub(crate) to: BTreeSet<usize>,
    /// Its author's node knew all its recipients when it was asked.
    knew: bool,
}

impl Job {
    fn text(&self) -> &str {
        match &self.letter.payload {
            Payload::Text(text) => text,
            _ => unreachable!("the workload writes texts"),
        }
    }
}

/// What was asked and is not answered.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Letter(Box<Job>),
    Order(Box<OrderJob>),
    Cancel {
        node: usize,
    },
    /// What it is to withdraw may have been withdrawn meanwhile.
    Withdraw {
        node: usize,
    },
    Ask {
        node: usize,
    },
    Other {
        node: usize,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) chance: Chance,
    texts: u64,
    requests: u64,
    pub(crate) open: BTreeMap<RequestId, Request>,
    renamed: BTreeSet<usize>,
}

impl Workload {
    pub(crate) fn new(seed: u64) -> Workload {
        Workload { chance: Chance::new(seed, "workload"), texts: 0, requests: 0, open: BTreeMap::new(), renamed: BTreeSet::new() }
    }

    /// A number that no request had before.
    pub(crate) fn next_text(&mut self) -> u64 {
        self.texts += 1;
        self.texts
    }

    pub(crate) fn request(&mut self, request: Request) -> RequestId {
        self.requests += 1;
        self.open.insert(RequestId(self.requests), request);
        RequestId(self.requests)
    }
}

impl Sim {
    /// Somebody does something.
    pub(super) fn on_work(&mut self) {
        if !self.faulty {
            return;
        }
        let wait = self.work.chance.about(self.options.work.every);
        self.agenda.after(wait, Event::Work);
        let up: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up()).collect();
        if up.is_empty() {
            return;
        }
        let node = *self.work.chance.pick(&up);
        let tasks = self.options.work.tasks;
        if tasks > 0.0 && self.work.chance.yes(tasks) {
            self.some_task(node);
        } else if self.work.chance.yes(self.options.work.signals) {
            self.some_signal(node);
        } else if self.work.chance.yes(self.options.work.discards) {
            self.some_discard(node);
        } else if self.work.chance.yes(0.15) {
            self.some_reading(node);
        } else {
            let burst = self.options.work.burst;
            let letters = if self.work.chance.yes(0.02) { 1 + self.work.chance.below(burst) } else { 1 };
            for _ in 0..letters {
                self.some_letter(node);
            }
        }
    }

    fn some_signal(&mut self, node: usize) {
        let yes = self.work.chance.yes(0.5);
        let command = match self.work.chance.below(10) {
            0..=4 => Command::SetAvailable(yes),
            5..=8 => Command::SetInactive(yes),
            _ => {
                self.work.renamed.insert(node);
                let name = format!("{}-{}", self.nodes[node].name(), self.work.chance.below(1000));
                Command::Rename(name.parse().expect("a name with a number is a name"))
            }
        };
        self.ask(node, command, Request::Other { node });
    }

    /// Of a letter that was written not long ago, as people do.
    fn some_discard(&mut self, node: usize) {
        let disk = &self.nodes[node].disk;
        let recent: Vec<u64> = disk.letters.keys().rev().take(20).copied().collect();
        if recent.is_empty() {
            return;
        }
        let letter = disk.letters[self.work.chance.pick(&recent)].clone();
        self.checker.on_discard(letter.id);
        self.ask(node, Command::Discard(Box::new(letter)), Request::Other { node });
    }

    fn some_reading(&mut self, node: usize) {
        let disk = &self.nodes[node].disk;
        let outcomes = disk.outcomes.iter().map(|(number, n)| Place { stream: OUTCOMES, seq: *number, twin: 0, n: *n });
        let all = disk.inbox.values().map(|(place, _)| *place).chain(outcomes);
        let unread: Vec<Place> = all.filter(|place| !disk.read.contains_key(&place.n)).collect();
        if unread.is_empty() {
            return;
        }
        let most = 1 + self.work.chance.index(unread.len());
        let mut letters: Vec<Place> = (0..most).map(|_| *self.work.chance.pick(&unread)).collect();
        letters.dedup();
        self.ask(node, Command::MarkRead { letters }, Request::Other { node });
    }

    fn some_letter(&mut self, node: usize) {
        let work = &mut self.work;
        let others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != node).collect();
        let mut to = BTreeSet::from([*work.chance.pick(&others)]);
        if work.chance.yes(0.3) {
            to.extend(others.iter().filter(|_| work.chance.yes(0.5)));
        }
        let later = work.chance.yes(self.options.work.later);
        let addressees = to.iter().map(|to| {
            let identity = &self.nodes[*to].identity;
            if later || work.chance.yes(0.3) { Addressee::Name(identity.name.clone()) } else { Addressee::Id(identity.id) }
        });
        let addressees: Vec<Addressee> = addressees.collect();
        work.texts += 1;
        let mut text = format!("{node}/{}", work.texts);
        let padding = usize::try_from(work.chance.below(self.options.work.bytes)).expect("letters are small");
        text.extend(std::iter::repeat_n('.', padding));
        let key = work.chance.yes(self.options.work.keyed).then(|| format!("key {}", work.texts));
        let twice = key.is_some() && work.chance.yes(0.1);
        let letter = NewLetter { to: addressees, kind: "message".to_owned(), payload: Payload::Text(text), in_reply_to: None, key, later };
        let job = Job { node, letter, to, knew: false };
        if twice {
            self.submit(job.clone());
        }
        self.submit(job);
    }

    /// A client hands in a letter; if the node is down, it tries again.
    pub(super) fn submit(&mut self, mut job: Job) {
        if !self.nodes[job.node].is_up() {
            if self.custodians.departed.contains(&job.node) {
                return;
            }
            if job.letter.key.is_some() {
                self.repeat(job);
            }
            return;
        }
        let known = &self.nodes[job.node].disk.known;
        job.knew = job.to.iter().all(|to| known.contains_key(&self.nodes[*to].identity.id) && !self.work.renamed.contains(to));
        let (node, letter) = (job.node, job.letter.clone());
        self.ask(node, Command::Send(letter), Request::Letter(Box::new(job)));
    }

    fn repeat(&mut self, job: Job) {
        let wait = self.work.chance.between(Duration::from_millis(100), Duration::from_secs(2));
        self.agenda.after(wait, Event::Repeat { job: Box::new(job) });
    }

    /// A node went down: nobody knows what became of what it was asked; who has a key asks again.
    pub(super) fn on_unanswered(&mut self, node: usize) {
        let of = |request: &Request| match request {
            Request::Letter(job) => job.node == node,
            Request::Order(job) => job.node == node,
            Request::Cancel { node: asked } | Request::Withdraw { node: asked } => *asked == node,
            Request::Ask { node: asked } | Request::Other { node: asked } => *asked == node,
        };
        let gone: Vec<RequestId> = self.work.open.iter().filter(|(_, request)| of(request)).map(|(id, _)| *id).collect();
        for id in gone {
            match self.work.open.remove(&id) {
                Some(Request::Letter(job)) if job.letter.key.is_some() => self.repeat(*job),
                Some(Request::Order(job)) => self.repeat_order(*job),
                _ => {}
            }
        }
    }

    /// A user is answered.
    pub(super) fn on_reply(&mut self, node: usize, request: RequestId, answer: Answer) -> Result<(), String> {
        let asked =
            self.work.open.remove(&request).ok_or_else(|| format!("{request:?} is answered, and was answered before: {answer:?}"))?;
        match (asked, &answer) {
            (Request::Letter(job), Answer::Accepted { letter, .. }) => {
                let key = job.letter.key.as_deref();
                self.counts.accepted += 1;
                self.checker.on_accepted(node, &self.nodes[node].disk, *letter, job.text(), &job.to, key)?;
            }
            (Request::Letter(job), Answer::Refused(refusal)) => {
                self.counts.refused += 1;
                let fair = match refusal {
                    Refusal::Unknown { .. } => !job.knew || job.to.iter().any(|to| self.work.renamed.contains(to)),
                    Refusal::OutboxFull { .. } | Refusal::OutboxBytesFull { .. } => true,
                    Refusal::DiskLow { .. } => self.options.faults.full_disk.is_some(),
                    Refusal::Leaving => self.leaving.contains(&node),
                    _ => false,
                };
                if !fair && !self.by_hand {
                    return Err(format!("{job:?} was refused: {refusal}"));
                }
            }
            (Request::Order(job), Answer::Placed { number, .. }) => {
                self.counts.placed += 1;
                self.tasks.on_placed(node, &self.nodes[node].disk, *number, &job.order)?;
            }
            (Request::Order(job), Answer::Refused(refusal)) => {
                let fair = match refusal {
                    Refusal::OrdersFull { .. } | Refusal::OrderBytesFull { .. } => true,
                    Refusal::DiskLow { .. } => self.options.faults.full_disk.is_some(),
                    Refusal::Leaving => self.leaving.contains(&node),
                    _ => false,
                };
                if !fair && !self.by_hand {
                    return Err(format!("{job:?} was refused: {refusal}"));
                }
            }
            (Request::Cancel { .. }, Answer::Cancelling(orders)) => self.tasks.on_cancelling(&self.nodes[node].disk, orders)?,
            // Its order may be gone with its memory, and its service by another request.
            (Request::Cancel { .. }, Answer::Refused(Refusal::NoSuchOrder { .. } | Refusal::Leaving)) => {}
            (Request::Withdraw { .. }, Answer::Done | Answer::Refused(Refusal::NotOffered(_) | Refusal::Leaving)) => {}
            (Request::Ask { .. }, Answer::Results(_) | Answer::Refused(_)) => {}
            (Request::Other { .. }, Answer::Done | Answer::Discarded { .. }) => {}
            (Request::Other { .. }, Answer::Refused(Refusal::Delivered { .. } | Refusal::Sealing { .. })) => {}
            (Request::Other { .. }, Answer::Refused(Refusal::Leaving)) if self.leaving.contains(&node) => {}
            (Request::Other { .. }, Answer::Refused(_)) if self.by_hand => {}
            (asked, answer) => return Err(format!("{asked:?} was answered with {answer:?}")),
        }
        self.answers.insert(request, answer);
        Ok(())
    }

    /// A letter by hand, for scenarios.
    pub(super) fn job(&self, node: usize, to: &[usize], text: &str, key: Option<&str>, by_name: Option<PeerName>) -> Job {
        let ids = to.iter().map(|to| Addressee::Id(self.nodes[*to].identity.id));
        let later = by_name.is_some();
        let addressees = ids.filter(|_| !later).chain(by_name.map(Addressee::Name)).collect();
        let payload = Payload::Text(text.to_owned());
        let key = key.map(str::to_owned);
        let letter = NewLetter { to: addressees, kind: "message".to_owned(), payload, in_reply_to: None, key, later };
        Job { node, letter, to: to.iter().copied().collect(), knew: true }
    }
}
