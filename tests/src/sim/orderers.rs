//! The people and programs that offer services and order them.
//! Knows nothing of disks and frames. A client learns what became of an order by its reply, and repeats it if it has a key.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::input::{Command, NewOrder};
use protocol::order::Priority;
use protocol::service::{Allowed, Needs, Offering, Program, ServiceCard};

use super::Sim;
use super::agenda::Event;
use super::workload::Request;

/// The services of a simulated swarm.
const SERVICES: [&str; 3] = ["coffee", "resize", "sum"];

/// An order that somebody wants to place.
#[derive(Clone, Debug)]
pub(crate) struct OrderJob {
    pub(crate) node: usize,
    pub(crate) order: NewOrder,
}

/// A service that anyone may order, run by a program.
#[must_use]
pub fn a_service(name: &str, limit: u32) -> Offering {
    let name = name.parse().expect("services of simulated workers have names");
    let card = ServiceCard { name, about: String::new(), limit, needs: Needs::default(), allowed: Allowed::Anyone };
    Offering {
        card,
        program: Program::Command(vec!["/bin/simulated".to_owned()]),
        time_limit_ms: None,
        software: BTreeSet::new(),
        configured: false,
    }
}

/// An order of one unit. What its arguments mean to simulated programs: `for:MILLISECONDS`, `exit:CODE`, `signal:NUMBER`, `missing`,
/// `steps:COUNT`, `write:BYTES`.
#[must_use]
pub fn an_order(service: &str, args: &[&str]) -> NewOrder {
    NewOrder {
        service: service.parse().expect("services of simulated orders have names"),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        items: Vec::new(),
        stdin: None,
        priority: Priority::End,
        needs: Needs::default(),
        once: false,
        expires: None,
        key: None,
    }
}

impl Sim {
    /// Somebody offers, orders or cancels something.
    pub(super) fn some_task(&mut self, node: usize) {
        let offers = self.nodes[node].disk.tasks.offers.len();
        match self.work.chance.below(20) {
            0..=2 => self.some_offer(node),
            3 if offers > 1 => {
                let names: Vec<_> = self.nodes[node].disk.tasks.offers.keys().cloned().collect();
                let name = self.work.chance.pick(&names).clone();
                self.ask(node, Command::Withdraw(name), Request::Withdraw { node });
            }
            4..=5 => self.some_cancel(node),
            _ => self.some_order(node),
        }
    }

    fn some_offer(&mut self, node: usize) {
        let work = &mut self.work.chance;
        let service = *work.pick(&SERVICES);
        let mut offering = a_service(service, 1 + u32::try_from(work.below(4)).unwrap_or(0));
        if work.yes(0.2) {
            offering.program = Program::Echo;
        }
        if work.yes(0.1) {
            offering.time_limit_ms = Some(1 + work.below(500));
        }
        if work.yes(0.2) {
            offering.card.needs.cores = 1 + u32::try_from(work.below(2)).unwrap_or(0);
        }
        self.ask(node, Command::Offer(Box::new(offering)), Request::Other { node });
    }

    fn some_cancel(&mut self, node: usize) {
        let disk = &self.nodes[node].disk.tasks;
        let numbers: Vec<u64> = disk.orders.keys().rev().take(20).copied().collect();
        if numbers.is_empty() {
            return;
        }
        let number = *self.work.chance.pick(&numbers);
        self.ask(node, Command::Cancel(vec![number]), Request::Cancel { node });
    }

    fn some_order(&mut self, node: usize) {
        let number = self.work.next_text();
        let work = &mut self.work.chance;
        let service = *work.pick(&SERVICES);
        let mut order = an_order(service, &["{}"]);
        order.args.push(number.to_string());
        let long = work.yes(0.02);
        if long {
            order.args.push(format!("for:{}", work.below(8_000)));
        }
        // What is ordered must get done, by one worker that does one thing at a time, in the time that a run has for it.
        if work.yes(0.3) && !long {
            order.items = (0..1 + work.below(12)).map(|item| format!("item {item}")).collect();
        }
        if work.yes(0.1) {
            order.stdin = Some(vec![7; usize::try_from(work.below(2_000)).unwrap_or(0)]);
        }
        order.priority = *work.pick(&[Priority::Front, Priority::Middle, Priority::End, Priority::End]);
        order.needs.cores = if work.yes(0.1) { 2 } else { 0 };
        order.expires = work.yes(0.05).then(|| Duration::from_millis(1 + work.below(20_000)));
        order.key = work.yes(self.options.work.keyed).then(|| format!("order {number}"));
        let twice = order.key.is_some() && work.yes(0.1);
        let job = OrderJob { node, order };
        if twice {
            self.submit_order(job.clone());
        }
        self.submit_order(job);
    }

    /// A client hands in an order; if the node is down, it tries again.
    pub(super) fn submit_order(&mut self, job: OrderJob) {
        if self.nodes[job.node].is_up() {
            self.ask(job.node, Command::Order(Box::new(job.order.clone())), Request::Order(Box::new(job)));
        } else {
            self.repeat_order(job);
        }
    }

    /// Nobody knows what became of an order: who has a key asks again.
    pub(super) fn repeat_order(&mut self, job: OrderJob) {
        if job.order.key.is_some() && !self.custodians.departed.contains(&job.node) {
            let wait = self.work.chance.between(Duration::from_millis(100), Duration::from_secs(2));
            self.agenda.after(wait, Event::RepeatOrder { job: Box::new(job) });
        }
    }
}
