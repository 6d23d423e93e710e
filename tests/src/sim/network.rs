//! The wires between the nodes: connections that come and go, frames that are late, lost, doubled or out of order.
//! Knows nothing of what frames say. A frame belongs to one connection and dies with it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use protocol::message::Lane;

use super::agenda::{Agenda, Event};
use super::chance::Chance;
use super::desk::{Frame, Gossip};
use super::options::Weather;

/// Mean time until a node tries again to reach one that it did not reach (of the order of a node's first delays).
const REDIAL: Duration = Duration::from_secs(2);

/// Two nodes, the lower number first.
pub(crate) type Pair = (usize, usize);

/// Both orders of two nodes as one.
pub(crate) fn pair(a: usize, b: usize) -> Pair {
    (a.min(b), a.max(b))
}

/// Which end of a pair a node is.
fn side(pair: Pair, node: usize) -> usize {
    usize::from(pair.1 == node)
}

/// The node at an end of a pair.
pub(crate) fn end(pair: Pair, side: usize) -> usize {
    if side == 0 { pair.0 } else { pair.1 }
}

#[derive(Debug, Default)]
struct Link {
    generation: u64,
    up: bool,
    /// Which connection each end believes in.
    believes: [Option<u64>; 2],
    /// When each end sees the present one.
    seen_at: [Duration; 2],
    /// The latest arrival of each direction and lane.
    latest: [[Duration; 2]; 2],
    /// A try to connect is under way.
    trying: bool,
    /// Frames of this connection have vanished in a cut: it cannot go on as if nothing had been lost.
    torn: bool,
}

/// What an end makes of a connection that comes up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// There was none.
    First,
    /// The one before is found to be lost.
    AfterLoss,
    /// It takes the place of the one before, whose frames may be lost.
    Takeover,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is on its way, or has vanished.
    Taken,
    /// There is no connection, or its queue is full.
    Refused,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Network {
    weather: Weather,
    chance: Chance,
    links: BTreeMap<Pair, Link>,
    /// Directions in which frames vanish, and the names of the cuts that make them.
    cuts: BTreeMap<(usize, usize), BTreeSet<u64>>,
    /// How many frames of a node's bulk lane are yet to be lost.
    doomed: BTreeMap<usize, u32>,
    /// Pairs that must not connect.
    strangers: BTreeSet<Pair>,
}

impl Network {
    pub(crate) fn new(seed: u64, weather: Weather) -> Network {
        let chance = Chance::new(seed, "network");
        Network { weather, chance, links: BTreeMap::new(), cuts: BTreeMap::new(), doomed: BTreeMap::new(), strangers: BTreeSet::new() }
    }

    /// From now on it is like this.
    pub(crate) fn clear_up(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Frames from one to the other vanish until [`Network::heal`].
    pub(crate) fn cut(&mut self, from: usize, to: usize, name: u64, agenda: &mut Agenda) {
        self.cuts.entry((from, to)).or_default().insert(name);
        let pair = pair(from, to);
        if let Some(link) = self.links.get(&pair).filter(|link| link.up) {
            let after = self.chance.between(Duration::from_secs(1), Duration::from_secs(30));
            agenda.after(after, Event::Starved { pair, generation: link.generation });
        }
    }

    /// Ends all cuts of this name; all if none is given. A connection from which a cut has taken frames dies soon after:
    /// streams lose nothing but their ends.
    pub(crate) fn heal(&mut self, name: Option<u64>, agenda: &mut Agenda) {
        for (pair, link) in self.links.iter().filter(|(_, link)| link.up && link.torn) {
            let after = self.chance.between(Duration::ZERO, Duration::from_secs(2));
            agenda.after(after, Event::Torn { pair: *pair, generation: link.generation });
        }
        match name {
            None => self.cuts.clear(),
            Some(name) => {
                for names in self.cuts.values_mut() {
                    names.remove(&name);
                }
                self.cuts.retain(|_, names| !names.is_empty());
            }
        }
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// The next so many frames with letters or lists from this node are lost.
    pub(crate) fn lose_bulk(&mut self, from: usize, frames: u32) {
        self.doomed.insert(from, frames);
    }

    /// These two never connect.
    pub(crate) fn estrange(&mut self, a: usize, b: usize) {
        self.strangers.insert(pair(a, b));
    }

    /// Somebody wants these two connected.
    pub(crate) fn want(&mut self, a: usize, b: usize, agenda: &mut Agenda) {
        let pair = pair(a, b);
        let link = self.links.entry(pair).or_default();
        if a == b || link.up || link.trying || self.strangers.contains(&pair) {
            return;
        }
        link.trying = true;
        let wait = self.chance.about(Duration::from_millis(20) + self.weather.delay * 2);
        agenda.after(wait, Event::Connect { pair });
    }

    /// A try to connect ends; `alive` says whether both are up. One that fails is made again while there is a reason to.
    pub(crate) fn on_connect(&mut self, pair: Pair, alive: bool, agenda: &mut Agenda) {
        let reachable = alive && !self.is_cut(pair.0, pair.1) && !self.is_cut(pair.1, pair.0);
        let link = self.links.entry(pair).or_default();
        link.trying = alive && !reachable && !link.up;
        if link.trying {
            agenda.after(self.chance.between(Duration::ZERO, REDIAL * 2), Event::Connect { pair });
        }
        if !reachable || link.up {
            return;
        }
        link.generation += 1;
        link.up = true;
        link.torn = false;
        for side in 0..2 {
            let at = agenda.now() + self.chance.about(self.weather.delay);
            link.seen_at[side] = at;
            link.latest[side] = [at; 2];
            agenda.at(at, Event::Seen { pair, generation: link.generation, side });
        }
    }

    /// An end sees a connection: what it makes of it, if it still is there.
    pub(crate) fn on_seen(&mut self, pair: Pair, generation: u64, side: usize) -> Option<Sight> {
        let link = self.links.get_mut(&pair)?;
        if !link.up || link.generation != generation {
            return None;
        }
        Some(match link.believes[side].replace(generation) {
            None => Sight::First,
            Some(_) if self.chance.yes(0.5) => Sight::AfterLoss,
            Some(_) => Sight::Takeover,
        })
    }

    /// An end sees that a connection is gone; whether it had believed in it.
    pub(crate) fn on_lost(&mut self, pair: Pair, generation: u64, side: usize) -> bool {
        let Some(link) = self.links.get_mut(&pair) else { return false };
        let believed = link.believes[side] == Some(generation);
        if believed {
            link.believes[side] = None;
        }
        believed
    }

    /// Whether frames between these two have vanished until now, so that the connection dies.
    pub(crate) fn is_starved(&self, pair: Pair, generation: u64) -> bool {
        let current = self.links.get(&pair).is_some_and(|link| link.up && link.generation == generation);
        current && (self.is_cut(pair.0, pair.1) || self.is_cut(pair.1, pair.0))
    }

    /// Whether this connection is the one that has lost frames.
    pub(crate) fn is_torn(&self, pair: Pair, generation: u64) -> bool {
        self.links.get(&pair).is_some_and(|link| link.up && link.torn && link.generation == generation)
    }

    /// The connection breaks: each end learns of it in its own time.
    pub(crate) fn break_link(&mut self, pair: Pair, agenda: &mut Agenda) {
        let Some(link) = self.links.get_mut(&pair).filter(|link| link.up) else { return };
        link.up = false;
        for side in 0..2 {
            let after = self.chance.about(Duration::from_millis(20));
            agenda.after(after, Event::Lost { pair, generation: link.generation, side });
        }
    }

    /// A node is gone, and all it believed with it. If it went in silence, the others learn of it late.
    pub(crate) fn on_down(&mut self, node: usize, silent: bool, agenda: &mut Agenda) {
        for (pair, link) in self.links.iter_mut().filter(|(pair, _)| pair.0 == node || pair.1 == node) {
            let mine = side(*pair, node);
            link.believes[mine] = None;
            if !link.up {
                continue;
            }
            link.up = false;
            let least = if silent { Duration::from_secs(15) } else { Duration::ZERO };
            let most = if silent { Duration::from_secs(60) } else { Duration::from_millis(100) };
            let after = self.chance.between(least, most);
            agenda.after(after, Event::Lost { pair: *pair, generation: link.generation, side: 1 - mine });
        }
    }

    /// A node gives a peer up: whatever connection it still believes in is closed at its end.
    pub(crate) fn forget(&mut self, node: usize, other: usize, agenda: &mut Agenda) {
        let pair = pair(node, other);
        let Some(link) = self.links.get(&pair) else { return };
        let mine = side(pair, node);
        if let Some(generation) = link.believes[mine] {
            agenda.after(Duration::from_millis(1), Event::Lost { pair, generation, side: mine });
        }
    }

    /// All connections that are up.
    pub(crate) fn links_up(&self) -> Vec<Pair> {
        self.links.iter().filter(|(_, link)| link.up).map(|(pair, _)| *pair).collect()
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, from: usize, to: usize, lane: Lane, frame: Frame, agenda: &mut Agenda) -> Fate {
        let refused = self.chance.yes(self.weather.refusal);
        let link = self.links.get(&pair(from, to));
        let sees = link.is_some_and(|link| link.believes[side(pair(from, to), from)].is_some());
        if !sees || refused {
            return Fate::Refused;
        }
        if let Some(left) = self.doomed.get_mut(&from).filter(|left| lane == Lane::Bulk && **left > 0) {
            *left -= 1;
            return Fate::Taken;
        }
        let frame = Rc::new(frame);
        for (at, generation) in self.arrivals(from, to, Some(lane), agenda.now()) {
            agenda.at(at, Event::Frame { from, to, generation, frame: Rc::clone(&frame) });
        }
        Fate::Taken
    }

    /// Gossips to all neighbours but one.
    pub(crate) fn spread(&mut self, from: usize, except: Option<usize>, gossip: &Rc<Gossip>, agenda: &mut Agenda) {
        let mine = |(pair, link): (&Pair, &Link)| {
            let side = (pair.0 == from || pair.1 == from).then(|| side(*pair, from))?;
            link.believes[side].map(|_| end(*pair, 1 - side))
        };
        let neighbours: Vec<usize> = self.links.iter().filter_map(mine).filter(|to| Some(*to) != except).collect();
        for to in neighbours {
            for (at, generation) in self.arrivals(from, to, None, agenda.now()) {
                agenda.at(at, Event::Gossip { from, to, generation, gossip: Rc::clone(gossip) });
            }
        }
    }

    /// When a frame arrives, and by which connection: never, once or twice.
    fn arrivals(&mut self, from: usize, to: usize, lane: Option<Lane>, now: Duration) -> Vec<(Duration, u64)> {
        let pair = pair(from, to);
        let (mine, cut) = (side(pair, from), self.is_cut(from, to));
        let Some(link) = self.links.get_mut(&pair) else { return Vec::new() };
        let current = link.up && link.believes[mine] == Some(link.generation);
        link.torn |= cut && lane.is_some();
        if cut || !current || self.chance.yes(self.weather.loss) {
            return Vec::new();
        }
        let doubled = self.chance.yes(self.weather.duplication);
        let copies = if doubled { 2 } else { 1 };
        let mut arrivals = Vec::with_capacity(copies);
        for _ in 0..copies {
            let mut at = (now + self.chance.about(self.weather.delay)).max(link.seen_at[1 - mine]);
            if let Some(lane) = lane.filter(|_| self.weather.ordered) {
                let latest = &mut link.latest[mine][usize::from(lane == Lane::Bulk)];
                at = at.max(*latest);
                *latest = at;
            }
            arrivals.push((at, link.generation));
        }
        arrivals
    }

    /// Whether a frame of this connection still reaches this node.
    pub(crate) fn reaches(&self, from: usize, to: usize, generation: u64) -> bool {
        let pair = pair(from, to);
        self.links
            .get(&pair)
            .is_some_and(|link| link.up && link.generation == generation && link.believes[side(pair, to)] == Some(generation))
    }
}
