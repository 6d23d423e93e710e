//! The verbs in which scenarios are told.
//! Knows nothing of chance: a story says what happens. Time is virtual; nothing here waits.

mod tasks;

use std::time::Duration;

use protocol::effect::Change;
use protocol::input::{Command, Disk as Room};
use protocol::{Answer, LetterId, PeerStatus, RequestId, Status};

use super::agenda::Event;
use super::disk::Disk;
use super::node::{CrashPoint, Plan};
use super::options::Weather;
use super::trace::Detail;
use super::workload::Request;
use super::{Options, Sim};

/// How long a story waits for what it expects, in virtual time.
const PATIENCE: Duration = Duration::from_secs(120);
/// The people of stories.
const PEOPLE: [&str; 12] = ["ann", "bea", "carl", "dora", "emil", "fay", "gus", "hal", "ida", "jon", "kay", "leo"];

/// One peer of a story.
pub type Who = usize;

/// An older copy of a node's disk.
#[derive(Clone)]
pub struct Backup(Disk);

impl Sim {
    /// A calm world without anybody in it. `SEED` and `TRACE` in the environment say which, and whether to print it.
    #[must_use]
    pub fn new(seed: u64) -> Sim {
        Sim::with(seed, Options::calm())
    }

    /// A world to the story's taste.
    #[must_use]
    pub fn with(seed: u64, options: Options) -> Sim {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(seed);
        let detail = if std::env::var_os("TRACE").is_some() { Detail::Lines } else { Detail::None };
        println!("SEED={seed}");
        let mut sim = Sim::build(seed, options, detail);
        sim.by_hand = true;
        sim
    }

    /// So many peers, started, all of whom see one another.
    #[track_caller]
    pub fn peers<const N: usize>(&mut self) -> [Who; N] {
        let peers = self.machines::<N>();
        peers.iter().for_each(|who| self.start(*who));
        self.run_until(|sim| sim.absent().is_none());
        peers
    }

    /// So many machines, not started.
    pub fn machines<const N: usize>(&mut self) -> [Who; N] {
        std::array::from_fn(|_| self.add(PEOPLE[self.nodes.len()]))
    }

    /// Starts a peer.
    pub fn start(&mut self, who: Who) {
        self.on_start(who);
    }

    /// Stops a peer in order.
    #[track_caller]
    pub fn stop(&mut self, who: Who) {
        self.begin_stop(who);
        self.run_until(|sim| !sim.nodes[who].is_up());
    }

    /// Kills a peer; its connections close at once.
    pub fn crash(&mut self, who: Who) {
        self.die(who, false);
    }

    /// Pulls the plug: nobody is told.
    pub fn vanish(&mut self, who: Who) {
        self.die(who, true);
    }

    /// A peer is gone for ever, and its disk with it.
    pub fn lose_for_ever(&mut self, who: Who) {
        self.depart(who);
    }

    /// A peer that was never started lives on the machine of another.
    ///
    /// # Panics
    /// It was started before.
    pub fn move_in(&mut self, who: Who, with: Who) {
        assert!(self.nodes[who].life == 0, "machines do not move");
        self.nodes[who].identity.machine = self.nodes[with].identity.machine;
    }

    /// A peer that was never started lives in a container on the machine of another: under an id of its own, at the same address.
    ///
    /// # Panics
    /// It was started before.
    pub fn move_into_container(&mut self, who: Who, with: Who) {
        assert!(self.nodes[who].life == 0, "machines do not move");
        self.nodes[who].at = Some(with);
        self.nodes[who].port += 1;
    }

    /// Kills a peer at this point of its next commit that holds such a change.
    pub fn crash_at(&mut self, who: Who, point: CrashPoint, when: fn(&Change) -> bool) {
        self.nodes[who].plan = Some(Plan { point, when, silent: false });
    }

    /// Whether a peer is running.
    #[must_use]
    pub fn is_up(&self, who: Who) -> bool {
        self.nodes[who].is_up()
    }

    /// No frame between these two arrives any more.
    pub fn partition(&mut self, one: Who, other: Who) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// No frame from one to the other arrives any more.
    pub fn cut_one_way(&mut self, from: Who, to: Who) {
        self.cuts += 1;
        self.network.cut(from, to, self.cuts, &mut self.agenda);
    }

    /// All frames arrive again.
    pub fn heal(&mut self) {
        self.network.heal(None, &mut self.agenda);
        self.reconnect_all();
    }

    /// These two cannot connect, ever.
    pub fn estrange(&mut self, one: Who, other: Who) {
        self.network.estrange(one, other);
    }

    /// From now on this share of frames is lost.
    pub fn lose(&mut self, share: f64) {
        self.network.clear_up(Weather { loss: share, ..Weather::fair() });
    }

    /// A peer stands still for a while.
    pub fn sleep(&mut self, who: Who, time: Duration) {
        self.pause(who, self.now() + time);
    }

    /// A peer's disk is full, or no longer.
    pub fn fill_disk(&mut self, who: Who, full: bool) {
        self.measure(who, if full { Room::Low { free: 1 } } else { Room::Enough });
    }

    /// The next bundles of this peer are lost on the way, so many frames of them.
    pub fn lose_letters(&mut self, from: Who, frames: u32) {
        self.network.lose_bulk(from, frames);
    }

    // -- what people do

    /// Writes a letter and waits until it is accepted.
    #[track_caller]
    pub fn write(&mut self, from: Who, to: Who, text: &str) -> LetterId {
        self.write_to(from, &[to], text)
    }

    /// Writes one letter to several.
    #[track_caller]
    pub fn write_to(&mut self, from: Who, to: &[Who], text: &str) -> LetterId {
        let job = self.job(from, to, text, None, None);
        self.wait_for_letter(job)
    }

    /// Writes a letter under an idempotency key.
    #[track_caller]
    pub fn write_keyed(&mut self, from: Who, to: Who, text: &str, key: &str) -> LetterId {
        let job = self.job(from, &[to], text, Some(key), None);
        self.wait_for_letter(job)
    }

    /// Writes a letter for the first peer of this name, who will be `to`.
    #[track_caller]
    pub fn write_later(&mut self, from: Who, to: Who, text: &str) -> LetterId {
        let name = self.nodes[to].identity.name.clone();
        let job = self.job(from, &[to], text, None, Some(name));
        self.wait_for_letter(job)
    }

    /// Hands a letter in and does not wait.
    pub fn hand_in(&mut self, from: Who, to: Who, text: &str) -> RequestId {
        let job = self.job(from, &[to], text, None, None);
        self.ask(from, Command::Send(job.letter.clone()), Request::Letter(Box::new(job)))
    }

    /// Writes letters so that the first 64 of them are one bundle, and so on.
    #[track_caller]
    pub fn write_at_once(&mut self, from: Who, to: Who, texts: &[String]) -> Vec<LetterId> {
        let requests: Vec<RequestId> = texts.iter().map(|text| self.hand_in(from, to, text)).collect();
        self.run_until(|sim| requests.iter().all(|request| sim.answers.contains_key(request)));
        let accepted = |request| match &self.answers[request] {
            Answer::Accepted { letter, .. } => *letter,
            other => panic!("the letter was not accepted: {other:?}"),
        };
        requests.iter().map(accepted).collect()
    }

    /// Discards a letter, and says what the answer was.
    #[track_caller]
    pub fn discard(&mut self, who: Who, letter: LetterId) -> Answer {
        let request = self.discard_unheard(who, letter);
        self.run_until(|sim| sim.answers.contains_key(&request));
        self.answers[&request].clone()
    }

    /// Asks for a letter to be discarded and does not wait.
    pub fn discard_unheard(&mut self, who: Who, letter: LetterId) -> RequestId {
        let disk = &self.nodes[who].disk;
        let row = disk.letters[&disk.by_id[&letter]].clone();
        self.checker.on_discard(letter);
        self.ask(who, Command::Discard(Box::new(row)), Request::Other { node: who })
    }

    /// Whether the author knows that this letter will not reach that recipient.
    #[must_use]
    pub fn knows_discarded(&self, author: Who, letter: LetterId, to: Who) -> bool {
        let disk = &self.nodes[author].disk;
        let mut places = disk.letters[&disk.by_id[&letter]].to.iter().filter_map(|copy| copy.place);
        let place = places.find(|place| place.peer == self.nodes[to].identity.id);
        place.is_some_and(|place| disk.out_streams[&place.stream].discarded.contains(place.seq))
    }

    /// What became of a request.
    #[must_use]
    pub fn answer(&self, request: RequestId) -> Option<&Answer> {
        self.answers.get(&request)
    }

    #[track_caller]
    fn wait_for_letter(&mut self, job: super::workload::Job) -> LetterId {
        let request = self.ask(job.node, Command::Send(job.letter.clone()), Request::Letter(Box::new(job)));
        self.run_until(|sim| sim.answers.contains_key(&request));
        match &self.answers[&request] {
            Answer::Accepted { letter, .. } => *letter,
            other => panic!("the letter was not accepted: {other:?}"),
        }
    }

    #[track_caller]
    fn wait_for(&mut self, who: Who, command: Command) {
        let request = self.ask(who, command, Request::Other { node: who });
        self.run_until(|sim| sim.answers.contains_key(&request));
    }

    /// Signals whether letters are welcome.
    #[track_caller]
    pub fn available(&mut self, who: Who, yes: bool) {
        self.wait_for(who, Command::SetAvailable(yes));
    }

    /// Signals whether letters may not be read soon.
    #[track_caller]
    pub fn inactive(&mut self, who: Who, yes: bool) {
        self.wait_for(who, Command::SetInactive(yes));
    }

    /// Takes nothing from a peer any more, or again.
    #[track_caller]
    pub fn block(&mut self, who: Who, other: Who, on: bool) {
        let peer = self.nodes[other].identity.id;
        self.wait_for(who, Command::Block { peer, on });
    }

    /// Takes another name.
    #[track_caller]
    pub fn rename(&mut self, who: Who, name: &str) {
        self.wait_for(who, Command::Rename(name.parse().expect("names in stories are names")));
    }

    /// Reads everything in the inbox.
    #[track_caller]
    pub fn read_all(&mut self, who: Who) {
        let letters = self.nodes[who].disk.inbox.values().map(|(place, _)| *place).collect();
        self.wait_for(who, Command::MarkRead { letters });
    }

    // -- what can be seen

    /// Bytes from an author that a peer has not read, as its disk has them.
    #[must_use]
    pub fn unread_bytes(&self, reader: Who, author: Who) -> u64 {
        let author = self.nodes[author].identity.id;
        self.nodes[reader].disk.in_streams.values().filter(|stream| stream.author == author).map(|stream| stream.unread_bytes).sum()
    }

    /// What a peer knows.
    ///
    /// # Panics
    /// It is not running.
    #[must_use]
    pub fn status(&self, who: Who) -> Status {
        self.nodes[who].peer.as_ref().expect("it is running").status()
    }

    /// What a peer knows of another, if it does.
    #[must_use]
    pub fn sees(&self, who: Who, other: Who) -> Option<PeerStatus> {
        let id = self.nodes[other].identity.id;
        self.status(who).peers.into_iter().find(|peer| peer.id == id)
    }

    /// The texts of an inbox in their order, each with how many are missing before it.
    #[must_use]
    pub fn inbox(&self, who: Who) -> Vec<(String, u64)> {
        let disk = &self.nodes[who].disk;
        let text = |(place, missing): &(protocol::input::Place, u64)| {
            let taken = &disk.taken[&(place.stream, place.seq, place.twin)];
            match &taken.envelope.payload {
                protocol::envelope::Payload::Text(text) => (text.clone(), *missing),
                other => (format!("{other:?}"), *missing),
            }
        };
        disk.inbox.values().map(text).collect()
    }

    /// The orders of a peer whose outcomes are in its inbox, in that order.
    #[must_use]
    pub fn outcomes_shown(&self, who: Who) -> Vec<u64> {
        let outcomes: std::collections::BTreeMap<u64, u64> =
            self.nodes[who].disk.outcomes.iter().map(|(number, n)| (*n, *number)).collect();
        outcomes.into_values().collect()
    }

    /// The texts of an inbox in their order.
    #[must_use]
    pub fn texts(&self, who: Who) -> Vec<String> {
        self.inbox(who).into_iter().map(|(text, _)| text).collect()
    }

    /// Whether a letter has its place in a peer's inbox.
    #[must_use]
    pub fn has_shown(&self, who: Who, letter: LetterId) -> bool {
        let disk = &self.nodes[who].disk;
        disk.taken.iter().any(|(key, taken)| taken.envelope.id == letter && disk.places.contains_key(key))
    }

    /// Whether a letter is on a peer's disk as one to it.
    #[must_use]
    pub fn has_taken(&self, who: Who, letter: LetterId) -> bool {
        self.nodes[who].disk.taken.values().any(|taken| taken.envelope.id == letter)
    }

    /// Whether the author knows that this recipient has the letter.
    #[must_use]
    pub fn knows_delivered(&self, author: Who, letter: LetterId, to: Who) -> bool {
        self.nodes[author].disk.is_delivered(letter, self.nodes[to].identity.id) == Some(true)
    }

    /// Whether the author knows that all of the recipient's letters from it were read.
    #[must_use]
    pub fn knows_read(&self, author: Who, letter: LetterId, to: Who) -> bool {
        let disk = &self.nodes[author].disk;
        let place = disk
            .by_id
            .get(&letter)
            .and_then(|k| disk.letters[k].to.iter().filter_map(|copy| copy.place).find(|place| place.peer == self.nodes[to].identity.id));
        place.is_some_and(|place| disk.out_streams[&place.stream].read.contains(place.seq))
    }

    /// Whom an author believes to hold a copy of a letter, each with the memory under which it said so.
    #[must_use]
    pub fn holders(&self, author: Who, letter: LetterId, to: Who) -> Vec<(Who, u64)> {
        let disk = &self.nodes[author].disk;
        let place = disk
            .by_id
            .get(&letter)
            .and_then(|k| disk.letters[k].to.iter().filter_map(|copy| copy.place).find(|place| place.peer == self.nodes[to].identity.id));
        let Some(place) = place else { return Vec::new() };
        let bundle = disk.bundles.range((place.stream, 0)..=(place.stream, place.seq)).next_back();
        let holders = bundle.and_then(|(key, _)| disk.holders.get(key)).map(Vec::as_slice).unwrap_or_default();
        holders.iter().filter_map(|holder| Some((self.checker.node(holder.peer)?, holder.epoch.0))).collect()
    }

    /// On how many machines an author believes a letter to be held.
    #[must_use]
    pub fn held_by(&self, author: Who, letter: LetterId, to: Who) -> usize {
        let machines = self.holders(author, letter, to).into_iter().map(|(who, _)| self.nodes[who].identity.machine);
        machines.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Whether a peer holds a copy of a letter for somebody else.
    #[must_use]
    pub fn holds(&self, who: Who, letter: LetterId) -> bool {
        self.nodes[who].disk.held.values().any(|held| self.is_in(&held.index.id, letter))
    }

    /// Receipts that a peer keeps for their authors.
    #[must_use]
    pub fn receipts_kept(&self, who: Who) -> usize {
        self.nodes[who].disk.receipts.len()
    }

    /// Frames sent by all so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.counts.frames
    }

    /// Batches handled by all so far.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.counts.batches
    }

    /// Copies that wait in a peer's outbox.
    #[must_use]
    pub fn outbox(&self, who: Who) -> u64 {
        self.nodes[who].disk.waiting_copies()
    }

    /// The memory a peer writes under.
    #[must_use]
    pub fn epoch(&self, who: Who) -> u64 {
        self.nodes[who].disk.me.as_ref().map_or(0, |me| me.epoch.0)
    }

    /// How often a peer's memory was started.
    #[must_use]
    pub fn boot(&self, who: Who) -> u64 {
        self.nodes[who].disk.me.as_ref().map_or(0, |me| me.boot)
    }

    /// The virtual time.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.now()
    }

    // -- disks

    /// Copies a peer's disk as it is now.
    #[must_use]
    pub fn back_up(&self, who: Who) -> Backup {
        Backup(self.snapshot(who))
    }

    /// Replaces a stopped peer's disk by an older copy.
    pub fn restore(&mut self, who: Who, backup: Backup) {
        self.put_back(who, backup.0, false);
    }

    /// The same by `node restore`: the peer knows of it.
    pub fn restore_by_command(&mut self, who: Who, backup: Backup) {
        self.put_back(who, backup.0, true);
    }

    // -- time

    /// Lets time pass until something is so.
    ///
    /// # Panics
    /// It is not so after two virtual minutes, or a promise is broken meanwhile.
    #[track_caller]
    pub fn run_until(&mut self, so: impl Fn(&Sim) -> bool) {
        let end = self.now() + PATIENCE;
        while !so(self) {
            assert!(self.step(end), "after {:?}: {}", self.now(), self.failure.as_deref().unwrap_or("it never came to that"));
        }
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// A promise is broken meanwhile.
    #[track_caller]
    pub fn run_for(&mut self, time: Duration) {
        let passed = self.pass(time);
        assert!(passed.is_ok(), "after {:?}: {passed:?}", self.now());
    }

    /// Something is so within this time from now on.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn within(&mut self, time: Duration, so: impl Fn(&Sim) -> bool) {
        let end = self.now() + time;
        while !so(self) {
            assert!(self.step(end), "not within {time:?}: {}", self.failure.as_deref().unwrap_or("it did not come to that"));
        }
    }

    /// Everything is delivered, everybody agrees, and nothing is said any more but "I am here".
    ///
    /// # Panics
    /// It is not so.
    #[track_caller]
    pub fn expect_quiet(&mut self) {
        let quiet = self.be_quiet();
        assert!(quiet.is_ok(), "after {:?}: {quiet:?}", self.now());
    }

    /// A peer starts later.
    pub fn start_after(&mut self, who: Who, time: Duration) {
        self.agenda.after(time, Event::Start { node: who });
    }
}
