//! The verbs in which stories of services and orders are told.
//! Knows nothing of chance. What can be seen is what disks, processes and answers say.

use protocol::effect::Outcome;
use protocol::input::{Command, NewOrder};
use protocol::order::{End, Fence, OrderKey};
use protocol::service::Offering;
use protocol::work::{Question, Results};
use protocol::{Answer, Refusal, RequestId};

use super::Who;
use crate::sim::Sim;
use crate::sim::disk::tasks::UnitEnd;
use crate::sim::orderers::OrderJob;
use crate::sim::workload::Request;

impl Sim {
    // -- what people do

    /// Offers a service, or offers it otherwise.
    #[track_caller]
    pub fn offer(&mut self, who: Who, offering: Offering) {
        self.wait_for(who, Command::Offer(Box::new(offering)));
    }

    /// Offers a service no more.
    #[track_caller]
    pub fn withdraw(&mut self, who: Who, service: &str) {
        self.wait_for(who, Command::Withdraw(service.parse().expect("services in stories have names")));
    }

    /// Finishes what runs and takes nothing new, or takes it again.
    #[track_caller]
    pub fn drain(&mut self, who: Who, yes: bool) {
        self.wait_for(who, Command::Drain(yes));
    }

    /// Places an order and waits for its number.
    ///
    /// # Panics
    /// It is refused.
    #[track_caller]
    pub fn place(&mut self, who: Who, order: NewOrder) -> u64 {
        match self.try_to_place(who, order) {
            Ok(number) => number,
            Err(refusal) => panic!("the order was refused: {refusal}"),
        }
    }

    /// Places an order, or learns why not.
    ///
    /// # Errors
    /// Why not.
    ///
    /// # Panics
    /// It is not answered as an order.
    #[track_caller]
    pub fn try_to_place(&mut self, who: Who, order: NewOrder) -> Result<u64, Refusal> {
        let request = self.order(who, order);
        self.run_until(|sim| sim.answers.contains_key(&request));
        match &self.answers[&request] {
            Answer::Placed { number, .. } => Ok(*number),
            Answer::Refused(refusal) => Err(refusal.clone()),
            other => panic!("an order was answered with {other:?}"),
        }
    }

    /// Hands an order in and does not wait.
    pub fn order(&mut self, who: Who, order: NewOrder) -> RequestId {
        let job = OrderJob { node: who, order: order.clone() };
        self.ask(who, Command::Order(Box::new(order)), Request::Order(Box::new(job)))
    }

    /// Cancels an order; how it had ended already, if it had.
    ///
    /// # Panics
    /// It is not known.
    #[track_caller]
    pub fn cancel(&mut self, who: Who, number: u64) -> Option<End> {
        let request = self.ask(who, Command::Cancel(vec![number]), Request::Cancel { node: who });
        self.run_until(|sim| sim.answers.contains_key(&request));
        match &self.answers[&request] {
            Answer::Cancelling(orders) if orders.len() == 1 => orders[0].1,
            other => panic!("a cancel was answered with {other:?}"),
        }
    }

    /// The leader lets another peer lead.
    #[track_caller]
    pub fn transfer(&mut self, who: Who, to: Who) {
        let to = self.nodes[to].identity.id;
        self.wait_for(who, Command::Transfer(to));
    }

    /// Asks a peer something and waits for its answer; none if it gives none.
    #[track_caller]
    pub fn question(&mut self, who: Who, of: Who, question: Question) -> Option<Results> {
        let to = self.nodes[of].identity.id;
        let request = self.ask(who, Command::Ask { to, question: Box::new(question) }, Request::Ask { node: who });
        self.run_until(|sim| sim.answers.contains_key(&request));
        match &self.answers[&request] {
            Answer::Results(results) => Some(Results::clone(results)),
            _ => None,
        }
    }

    // -- what can be seen

    /// Names an order of a peer's present memory everywhere.
    #[must_use]
    pub fn order_key(&self, who: Who, number: u64) -> OrderKey {
        let epoch = self.nodes[who].disk.tasks.orders.get(&number).map_or(protocol::Epoch(0), |order| order.epoch);
        OrderKey { orderer: self.nodes[who].identity.id, epoch, number }
    }

    /// How an order ended, on its orderer's disk.
    #[must_use]
    pub fn outcome(&self, who: Who, number: u64) -> Option<&Outcome> {
        self.nodes[who].disk.tasks.states.get(&number)?.outcome.as_ref()
    }

    /// How an order ended, on its orderer's disk.
    #[must_use]
    pub fn end(&self, who: Who, number: u64) -> Option<End> {
        self.outcome(who, number).map(|outcome| outcome.end)
    }

    /// How a unit ended, on its orderer's disk.
    #[must_use]
    pub fn unit_end(&self, who: Who, number: u64, unit: u32) -> Option<&UnitEnd> {
        self.nodes[who].disk.tasks.ends.get(&(number, unit))
    }

    /// By whom units of an order were started, in the order of starting, and which attempt of which unit that was.
    #[must_use]
    pub fn starts(&self, who: Who, number: u64) -> Vec<(Who, u32, u32)> {
        let runs = self.tasks.runs_of(self.order_key(who, number));
        runs.map(|ran| (ran.node, ran.task.unit, ran.task.attempt.number)).collect()
    }

    /// Processes of a peer that run now.
    #[must_use]
    pub fn running(&self, who: Who) -> usize {
        self.nodes[who].runner.running().count()
    }

    /// Whether an order is in a peer's queue, on its disk.
    #[must_use]
    pub fn queues(&self, leader: Who, who: Who, number: u64) -> bool {
        self.nodes[leader].disk.tasks.queue.contains_key(&self.order_key(who, number))
    }

    /// The numbers of the orders in a peer's queue, first to last, on its disk.
    #[must_use]
    pub fn queue(&self, who: Who) -> Vec<u64> {
        let tasks = &self.nodes[who].disk.tasks;
        let sort = |key: &OrderKey| tasks.queue_states.get(key).map_or(tasks.queue[key].sort, |state| state.sort);
        let mut places: Vec<(u64, OrderKey)> = tasks.queue.keys().map(|key| (sort(key), *key)).collect();
        places.sort_unstable();
        places.into_iter().map(|(_, key)| key.number).collect()
    }

    /// Who would take over, as a leader tells.
    #[must_use]
    pub fn standbys(&self, leader: Who) -> Vec<Who> {
        let standbys = self.status(leader).leader.map_or(Vec::new(), |leader| leader.standbys);
        standbys.iter().filter_map(|peer| self.checker.node(*peer)).collect()
    }

    /// Reports that a peer keeps until their orders are closed.
    #[must_use]
    pub fn reports_kept(&self, who: Who) -> usize {
        self.nodes[who].disk.tasks.ended.len()
    }

    /// Whom a peer follows, and in which term.
    #[must_use]
    pub fn follows(&self, who: Who) -> Option<Fence> {
        self.status(who).leader.map(|leader| leader.fence)
    }

    /// Who leads, if all who are up agree on somebody who is up.
    #[must_use]
    pub fn leader(&self) -> Option<Who> {
        if self.undecided().is_some() {
            return None;
        }
        let first = (0..self.nodes.len()).find(|node| self.nodes[*node].is_up())?;
        self.checker.node(self.follows(first)?.leader)
    }

    /// Who leads, after it has been agreed on.
    ///
    /// # Panics
    /// It is not agreed on in time.
    #[track_caller]
    pub fn elected(&mut self) -> Who {
        self.run_until(|sim| sim.leader().is_some());
        self.leader().expect("it was agreed on just now")
    }

    /// The services that a peer's network was told of last.
    #[must_use]
    pub fn advertised(&self, who: Who) -> Vec<String> {
        self.nodes[who].runner.advertised.iter().map(ToString::to_string).collect()
    }

    /// Everything that can run has ended, nothing of it is left over, one leader is agreed on, and nothing more is said than that.
    ///
    /// # Panics
    /// It is not so.
    #[track_caller]
    pub fn expect_done(&mut self) {
        self.run_until(|sim| sim.tasks_open().is_none() && sim.undecided().is_none());
        self.expect_quiet();
    }
}
