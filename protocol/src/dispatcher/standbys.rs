//! Who would take over, and what of the leader's table each of them has.
//! Knows nothing of what orders need. What was decided is said when all of them have it on disk, but nobody waits for one that is
//! silent; to one of them goes at no time more than it can take in the order in which it was made.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;

use super::table::Row;
use super::words::Words;
use crate::config::{Config, limits};
use crate::effect::Out;
use crate::now::Now;
use crate::order::{Fence, OrderKey};
use crate::ranges::Ranges;
use crate::work::{Copies, Held, Span, Work};

/// Bytes of rows in one frame while the whole table is copied (guess: as a page of the record).
const PAGE_BYTES: usize = limits::SEGMENTS_BYTES;
/// Bytes of rows that a slow link carries in a microsecond: so much longer a large frame may take (guess: 10 MB/s).
const BYTES_A_MICRO: usize = 10;

/// The rows of a leader.
pub(super) type Rows = BTreeMap<OrderKey, Box<Row>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Standbys {
    /// How long one of them may take for a frame …
    patience: Duration,
    /// … and how long changes wait that nobody is told of.
    gather: Duration,
    copying: BTreeMap<PeerId, Copying>,
    /// What is not said yet, first to last, and what that waits for.
    held: VecDeque<(Vec<(PeerId, Wait)>, Words)>,
    /// Those that did not answer in time.
    silent: Vec<PeerId>,
    next: u64,
}

/// What has to be on a standby's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// This frame.
    For(u64),
    /// One that cannot be sent yet.
    Unsent,
}

/// One of them.
#[derive(Debug, Default)]
struct Copying {
    /// How far the table has been copied.
    cursor: Cursor,
    /// It has had all of it: from then on it is waited for.
    complete: bool,
    /// Orders up to the cursor of which it has to hear; with the order itself where it is true.
    due: BTreeMap<OrderKey, bool>,
    /// When those are sent that nobody waits for.
    due_at: Option<Duration>,
    flying: BTreeMap<u64, Frame>,
}

#[derive(Debug, Default)]
enum Cursor {
    /// Not begun.
    #[default]
    Begin,
    /// Up to here.
    Upto(OrderKey),
    /// All.
    End,
}

/// Under way and not answered.
#[derive(Debug)]
struct Frame {
    /// When its standby is silent.
    until: Duration,
    /// It goes by the slower stream: nothing may overtake it.
    alone: bool,
    /// Orders of which the standby has had nothing before.
    new: BTreeSet<OrderKey>,
}

impl Standbys {
    pub(super) fn new(config: &Config) -> Self {
        Standbys {
            patience: config.standby_patience,
            gather: config.standby_gather,
            copying: BTreeMap::new(),
            held: VecDeque::new(),
            silent: Vec::new(),
            next: 0,
        }
    }

    /// Nobody has anything, and nothing waits to be said.
    pub(super) fn clear(&mut self) {
        self.copying.clear();
        self.held.clear();
        self.silent.clear();
    }

    /// These would take over, and can be reached.
    pub(super) fn name(&mut self, named: impl Iterator<Item = PeerId>) {
        let named: BTreeSet<PeerId> = named.collect();
        self.copying.retain(|peer, _| named.contains(peer));
        for peer in named {
            self.copying.entry(peer).or_default();
        }
    }

    /// What this one has is not certain any more: it gets all anew, and is not waited for before it has it.
    pub(super) fn restart(&mut self, peer: &PeerId) {
        if let Some(copying) = self.copying.get_mut(peer) {
            *copying = Copying::default();
        }
    }

    /// It cannot be reached.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.copying.remove(peer);
    }

    /// Whoever has been silent, since this was asked last.
    pub(super) fn take_silent(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.silent)
    }

    /// Whether this one has had the whole table.
    pub(super) fn is_complete(&self, peer: &PeerId) -> bool {
        self.copying.get(peer).is_some_and(|copying| copying.complete)
    }

    /// All of them.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.copying.keys().copied()
    }

    /// How many have this order on disk, but for its orderer.
    pub(super) fn holders(&self, key: &OrderKey) -> usize {
        let holds = |copying: &Copying| {
            copying.complete && copying.due.get(key) != Some(&true) && !copying.flying.values().any(|frame| frame.new.contains(key))
        };
        self.copying.iter().filter(|(peer, copying)| **peer != key.orderer && holds(copying)).count()
    }

    /// An order has changed; `new`: it was not in the table before; `about`: only what this worker has of it, and knows itself.
    pub(super) fn on_changed(&mut self, key: &OrderKey, new: bool, about: Option<PeerId>) {
        for (_, copying) in self.copying.iter_mut().filter(|(peer, copying)| about != Some(**peer) && copying.cursor.covers(key)) {
            *copying.due.entry(*key).or_default() |= new;
        }
    }

    /// An order has ended; its closing tells them.
    pub(super) fn on_removed(&mut self, key: &OrderKey) {
        for copying in self.copying.values_mut() {
            copying.due.remove(key);
        }
    }

    /// A standby has a frame on its disk.
    pub(super) fn on_copied(&mut self, from: &PeerId, number: u64) {
        if let Some(copying) = self.copying.get_mut(from)
            && copying.flying.remove(&number).is_some()
        {
            copying.complete |= matches!(copying.cursor, Cursor::End) && copying.flying.is_empty();
        }
    }

    /// This node was held up: nobody was silent meanwhile.
    pub(super) fn on_stalled(&mut self, now: Duration) {
        let until = now + self.patience;
        self.copying.values_mut().flat_map(|copying| copying.flying.values_mut()).for_each(|frame| frame.until = frame.until.max(until));
    }

    /// Those that were silent for too long are not waited for.
    pub(super) fn tick(&mut self, now: Duration) {
        let late = |copying: &Copying| copying.flying.values().any(|frame| frame.until <= now);
        let silent: Vec<PeerId> = self.copying.iter().filter(|(_, copying)| late(copying)).map(|(peer, _)| *peer).collect();
        silent.iter().for_each(|peer| drop(self.copying.remove(peer)));
        self.silent.extend(silent);
    }

    /// Says what each of them has to hear and can take now. `words`: something waits for it.
    pub(super) fn depart(&mut self, rows: &Rows, words: bool, fence: Fence, now: Now, out: &mut Out) {
        let Standbys { copying, held, next, .. } = self;
        for (peer, copying) in copying {
            if !copying.due.is_empty() && copying.complete && !words {
                let due_at = *copying.due_at.get_or_insert(now.mono + self.gather);
                if due_at > now.mono {
                    continue;
                }
            }
            while copying.may_send() {
                let Some((orders, span)) = copying.frame(*peer, rows, now) else { break };
                *next += 1;
                let weight = orders.iter().map(Held::weight).sum::<usize>();
                let new = orders.iter().filter(|held| held.order.is_some()).map(|held| held.state.order).collect();
                let slow = Duration::from_micros(u64::try_from(weight / BYTES_A_MICRO).unwrap_or(u64::MAX));
                let copies = Work::Copies(Copies { fence, number: *next, span, orders });
                let alone = span.is_some() || weight > limits::URGENT_BYTES;
                copying.flying.insert(*next, Frame { until: now.mono + self.patience + slow, alone, new });
                out.work(*peer, copies);
            }
            if copying.due.is_empty() {
                copying.due_at = None;
                let last = copying.flying.last_key_value().map_or(0, |(number, _)| *number);
                let unsent = held.iter_mut().flat_map(|(waits, _)| waits).filter(|(of, wait)| of == peer && *wait == Wait::Unsent);
                unsent.for_each(|(_, wait)| *wait = Wait::For(last));
            }
        }
    }

    /// This is said when everybody has what was sent so far.
    pub(super) fn hold(&mut self, words: Words) {
        let wait = |copying: &Copying| match copying.flying.last_key_value() {
            _ if !copying.due.is_empty() => Some(Wait::Unsent),
            last => last.map(|(number, _)| Wait::For(*number)),
        };
        let complete = self.copying.iter().filter(|(_, copying)| copying.complete);
        let waits = complete.filter_map(|(peer, copying)| Some((*peer, wait(copying)?))).collect();
        self.held.push_back((waits, words));
    }

    /// The next that may be said.
    pub(super) fn release(&mut self) -> Option<Words> {
        let (waits, _) = self.held.front()?;
        let has = |(peer, wait): &(PeerId, Wait)| {
            self.copying.get(peer).filter(|copying| copying.complete).is_none_or(|copying| match wait {
                Wait::For(number) => copying.flying.range(..=number).next().is_none(),
                Wait::Unsent => false,
            })
        };
        if !waits.iter().all(has) {
            return None;
        }
        self.held.pop_front().map(|(_, words)| words)
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let frames = self.copying.values().flat_map(|copying| copying.flying.values().map(|frame| frame.until));
        let due = self.copying.values().filter(|copying| copying.may_send()).filter_map(|copying| copying.due_at);
        frames.chain(due).min()
    }
}

impl Cursor {
    fn covers(&self, key: &OrderKey) -> bool {
        match self {
            Cursor::Begin => false,
            Cursor::Upto(upto) => key <= upto,
            Cursor::End => true,
        }
    }
}

impl Copying {
    /// Whether something may be sent now: two streams do not keep one order.
    fn may_send(&self) -> bool {
        match self.cursor {
            Cursor::End => !self.flying.values().any(|frame| frame.alone),
            _ => self.flying.is_empty(),
        }
    }

    /// The next frame, if there is anything to say that may be said.
    fn frame(&mut self, to: PeerId, rows: &Rows, now: Now) -> Option<(Vec<Held>, Option<Span>)> {
        let after = match self.cursor {
            Cursor::Begin => None,
            Cursor::Upto(after) => Some(after),
            Cursor::End => return self.changes(to, rows, limits::URGENT_BYTES, now).map(|held| (held, None)),
        };
        let mut orders = self.changes(to, rows, PAGE_BYTES, now).unwrap_or_default();
        let mut weight = orders.iter().map(Held::weight).sum::<usize>();
        let behind = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut upto = after;
        for (key, row) in rows.range((behind, std::ops::Bound::Unbounded)) {
            let held = held(row, true, to, now);
            weight += held.weight();
            if (upto != after && weight > PAGE_BYTES) || orders.len() == limits::WORDS {
                self.cursor = upto.map_or(Cursor::Begin, Cursor::Upto);
                return Some((orders, Some(Span { after, upto })));
            }
            orders.push(held);
            upto = Some(*key);
        }
        self.cursor = Cursor::End;
        Some((orders, Some(Span { after, upto: None })))
    }

    /// Changed orders, as many as fit; none if there are none, or the next one has to go by itself and cannot yet.
    fn changes(&mut self, to: PeerId, rows: &Rows, most: usize, now: Now) -> Option<Vec<Held>> {
        let (mut orders, mut weight) = (Vec::new(), 0);
        while let Some((key, new)) = self.due.first_key_value() {
            let Some(row) = rows.get(key) else {
                self.due.pop_first();
                continue;
            };
            let held = held(row, *new, to, now);
            weight += held.weight();
            let too_large = weight > most && (!orders.is_empty() || !self.flying.is_empty());
            if too_large || orders.len() == limits::WORDS / 2 {
                break;
            }
            orders.push(held);
            self.due.pop_first();
        }
        (!orders.is_empty()).then_some(orders)
    }
}

/// A row as another is told of it, with the order itself or without. What that one has of it itself it knows. Of units that have ended
/// nothing is said: their workers have the reports, and tell each leader until the orderer has them; if both are gone, they run again.
pub(super) fn held(row: &Row, whole: bool, to: PeerId, now: Now) -> Held {
    let mut state = row.state();
    state.tries.retain(|(_, _, worker)| *worker != to);
    state.ended = Ranges::default();
    Held { order: whole.then(|| row.order.clone()), age_ms: now.wall.0.saturating_sub(row.at.0), state }
}
