//! What this node has asked others, and waits for.
//! Knows nothing of the answers but whether they fit. Each question of a user is answered once: by its results, or by a refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::Config;
use crate::effect::{Answer, Out, Refusal};
use crate::id::RequestId;
use crate::now::Now;
use crate::work::{Question, Results, Work};

/// How long answers that need a disk or a long queue are waited for (guess: a busy machine reads a page in less).
const LONG_PATIENCE: Duration = Duration::from_secs(5);

/// How long this node waits for what it asks for itself: until it would ask again (`catalog::PATIENCE`).
const CATALOG_PATIENCE: Duration = Duration::from_secs(2);

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The user of this node.
    Request(RequestId),
    /// This node, to know what a peer offers.
    Catalog(PeerId),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Questions {
    patience: Duration,
    most: usize,
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    due: BTreeSet<(Duration, u64)>,
}

#[derive(Debug)]
struct Waiting {
    asker: Asker,
    to: PeerId,
    question: Question,
    until: Duration,
}

impl Questions {
    pub(crate) fn new(config: &Config) -> Self {
        Questions { patience: config.question_patience, most: config.questions, next: 0, waiting: BTreeMap::new(), due: BTreeSet::new() }
    }

    /// Asks a peer, or this node itself.
    ///
    /// # Errors
    /// Too many questions wait for answers already. Nothing was asked.
    pub(crate) fn ask(&mut self, asker: Asker, to: PeerId, question: Question, now: Now, out: &mut Out) -> Result<(), Refusal> {
        if self.waiting.len() >= self.most {
            return Err(Refusal::TooManyQuestions);
        }
        let patience = match (asker, &question) {
            // Nobody waits for it: a late answer is as good as another question.
            (Asker::Catalog(_), _) => CATALOG_PATIENCE,
            (_, Question::Output { .. } | Question::Tasks { .. } | Question::Log(_)) => self.patience.max(LONG_PATIENCE),
            _ => self.patience,
        };
        let (id, until) = (self.next, now.mono + patience);
        self.next += 1;
        self.due.insert((until, id));
        self.waiting.insert(id, Waiting { asker, to, question: question.clone(), until });
        out.work(to, Work::Query { id, question: Box::new(question) });
        Ok(())
    }

    /// An answer came. One to the catalog is handed back, one to the user is passed on; any other is ignored.
    pub(crate) fn on_results(&mut self, from: PeerId, id: u64, results: Results, out: &mut Out) -> Option<(PeerId, Results)> {
        self.waiting.get(&id).filter(|waiting| waiting.to == from && fits(&waiting.question, &results))?;
        match self.take(id)? {
            Asker::Request(request) => {
                out.reply(request, Answer::Results(Box::new(results)));
                None
            }
            Asker::Catalog(peer) => Some((peer, results)),
        }
    }

    /// A peer is away: it will not answer.
    pub(crate) fn on_unreachable(&mut self, peer: PeerId, out: &mut Out) {
        let lost: Vec<u64> = self.waiting.iter().filter(|(_, waiting)| waiting.to == peer).map(|(id, _)| *id).collect();
        for id in lost {
            self.give_up(id, out);
        }
    }

    pub(crate) fn tick(&mut self, now: Now, out: &mut Out) {
        while let Some((_, id)) = self.due.first().copied().filter(|(until, _)| *until <= now.mono) {
            self.give_up(id, out);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.due.first().map(|(until, _)| *until)
    }

    fn give_up(&mut self, id: u64, out: &mut Out) {
        if let Some(Asker::Request(request)) = self.take(id) {
            out.refuse(request, Refusal::NoAnswer);
        }
    }

    fn take(&mut self, id: u64) -> Option<Asker> {
        let waiting = self.waiting.remove(&id)?;
        self.due.remove(&(waiting.until, id));
        Some(waiting.asker)
    }
}

fn fits(question: &Question, results: &Results) -> bool {
    match results {
        Results::NotHere => true,
        Results::Services(_) => matches!(question, Question::Services),
        Results::Availability(_) => matches!(question, Question::Availability { .. }),
        Results::Statistics { .. } => matches!(question, Question::Statistics),
        Results::Tasks { .. } => matches!(question, Question::Tasks { .. }),
        Results::Peers { .. } => matches!(question, Question::Peers { .. }),
        Results::Task(_) => matches!(question, Question::Task(_)),
        Results::Output { .. } => matches!(question, Question::Output { .. }),
        Results::Log(_) => matches!(question, Question::Log(_)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Secrets;
    use crate::effect::{Effect, Say};
    use crate::service::Services;

    fn peer(n: u8) -> PeerId {
        Secrets::from_seeds(&[n; 32], &[n; 32]).id()
    }

    fn at(ms: u64) -> Now {
        Now { mono: Duration::from_millis(ms), ..Now::default() }
    }

    const USER: Asker = Asker::Request(RequestId(9));

    fn expect(out: &mut Out, effects: &[Effect]) {
        assert_eq!(std::mem::take(&mut out.effects), effects);
    }

    fn query(to: PeerId, id: u64, question: Question) -> Effect {
        Effect::Send { to, say: Box::new(Say::Work(Work::Query { id, question: Box::new(question) })) }
    }

    fn refused() -> Effect {
        Effect::Reply { request: RequestId(9), answer: Answer::Refused(Refusal::NoAnswer) }
    }

    #[test]
    fn an_answer_goes_to_who_asked_and_only_once() {
        let (mut questions, mut out) = (Questions::new(&Config::default()), Out::default());
        questions.ask(USER, peer(1), Question::Services, at(0), &mut out).expect("room");
        questions.ask(Asker::Catalog(peer(2)), peer(2), Question::Services, at(0), &mut out).expect("room");
        expect(&mut out, &[query(peer(1), 0, Question::Services), query(peer(2), 1, Question::Services)]);

        let services = || Results::Services(Services::default());
        assert_eq!(questions.on_results(peer(2), 0, services(), &mut out), None, "somebody else was asked");
        assert_eq!(questions.on_results(peer(1), 0, Results::Task(None), &mut out), None, "something else was asked");
        assert_eq!(questions.on_results(peer(1), 7, services(), &mut out), None, "nothing was asked");
        expect(&mut out, &[]);
        assert_eq!(questions.on_results(peer(1), 0, services(), &mut out), None);
        expect(&mut out, &[Effect::Reply { request: RequestId(9), answer: Answer::Results(Box::new(services())) }]);
        assert_eq!(questions.on_results(peer(1), 0, services(), &mut out), None, "answered already");
        assert_eq!(questions.on_results(peer(2), 1, services(), &mut out), Some((peer(2), services())));
        expect(&mut out, &[]);
        assert_eq!(questions.deadline(), None);
    }

    #[test]
    fn who_does_not_answer_in_time_or_leaves_is_given_up() {
        let (mut questions, mut out) = (Questions::new(&Config::default()), Out::default());
        questions.ask(USER, peer(1), Question::Statistics, at(0), &mut out).expect("room");
        out.effects.clear();
        questions.tick(at(299), &mut out);
        expect(&mut out, &[]);
        questions.tick(questions.deadline().map(|mono| Now { mono, ..Now::default() }).expect("due"), &mut out);
        expect(&mut out, &[refused()]);

        questions.ask(USER, peer(1), Question::Tasks { after: None }, at(300), &mut out).expect("room");
        questions.ask(Asker::Catalog(peer(1)), peer(1), Question::Services, at(300), &mut out).expect("room");
        questions.tick(at(5_299), &mut out);
        out.effects.clear();
        questions.on_unreachable(peer(1), &mut out);
        expect(&mut out, &[refused()]);
        assert_eq!(questions.deadline(), None);
    }

    #[test]
    fn too_many_questions_are_refused_and_one_may_ask_oneself() {
        let config = Config { questions: 1, ..Config::default() };
        let (mut questions, mut out) = (Questions::new(&config), Out { me: Some(peer(0)), ..Out::default() });
        questions.ask(USER, peer(0), Question::Statistics, at(0), &mut out).expect("room");
        expect(&mut out, &[]);
        assert_eq!(out.to_myself.len(), 1);
        assert_eq!(questions.ask(USER, peer(1), Question::Services, at(0), &mut out), Err(Refusal::TooManyQuestions));
        expect(&mut out, &[]);
        assert_eq!(out.to_myself.len(), 1);
    }
}
