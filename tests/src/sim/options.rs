//! What kind of world a seed lives in: how many peers, how bad the weather, how busy the people.
//! Knows nothing of how any of it is done. Drawn from the seed alone.

use std::time::Duration;

use protocol::Config;

use super::chance::Chance;

/// How frames fare between two peers.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Mean time on the way.
    pub delay: Duration,
    /// Share of frames that vanish.
    pub loss: f64,
    /// Share of frames that come twice.
    pub duplication: f64,
    /// Share of frames that the sender's own full queue refuses.
    pub refusal: f64,
    /// Frames of one stream keep their order.
    pub ordered: bool,
}

/// How often things break: mean time between two of a kind in the whole swarm; none for never.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A node dies, at any moment or at a chosen point of a commit.
    pub crash: Option<Duration>,
    /// A node stops in order.
    pub stop: Option<Duration>,
    /// Some cannot reach some others, or only one way.
    pub partition: Option<Duration>,
    /// A connection breaks.
    pub cut_connection: Option<Duration>,
    /// A node stands still.
    pub pause: Option<Duration>,
    /// A node is put back to a backup of itself.
    pub restore: Option<Duration>,
    /// A disk is full for a while.
    pub full_disk: Option<Duration>,
    /// A node goes for ever, and its disk with it.
    pub depart: Option<Duration>,
    /// A node lets go of the beginnings of what it keeps of the record.
    pub prune: Option<Duration>,
}

/// What people do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Mean time between two requests.
    pub every: Duration,
    /// The longest burst of letters.
    pub burst: u64,
    /// Share of letters with an idempotency key.
    pub keyed: f64,
    /// Share of letters to a name that may not be known yet.
    pub later: f64,
    /// Share of requests that change the node's signals.
    pub signals: f64,
    /// Share of requests that discard a letter.
    pub discards: f64,
    /// The longest letter, in bytes.
    pub bytes: u64,
    /// Share of requests that are about services and orders.
    pub tasks: f64,
}

/// How programs fare whose arguments do not say it.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The longest that one runs.
    pub longest: Duration,
    /// Share of those that end with code 1.
    pub fails: f64,
    /// Share of those that a signal kills which is not ours.
    pub dies: f64,
}

/// Everything a run depends on besides its seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Peers in all.
    pub nodes: usize,
    /// How many of them appear only in the course of the run.
    pub latecomers: usize,
    /// How long faults and work go on.
    pub safety: Duration,
    /// See [`Weather`].
    pub weather: Weather,
    /// See [`Faults`].
    pub faults: Faults,
    /// See [`Work`].
    pub work: Work,
    /// See [`Programs`].
    pub programs: Programs,
    /// Mean time between an input and its batch: what comes meanwhile is in it.
    pub grouping: Duration,
    /// Mean time of a flush.
    pub flush: Duration,
    /// The longest a sealing takes.
    pub sealing: Duration,
    /// Mean lateness of timers.
    pub lateness: Duration,
    /// Each node finds each other by itself; otherwise only one neighbour, and the rest by what peers tell.
    pub multicast: bool,
    /// Signatures and seals are real, and frames are bytes.
    pub cryptography: bool,
    /// What the peers are configured with.
    pub config: Config,
}

impl Options {
    /// A quiet world without people: for stories that are told by hand.
    #[must_use]
    pub fn calm() -> Options {
        Options {
            nodes: 0,
            latecomers: 0,
            safety: Duration::ZERO,
            weather: Weather::fair(),
            faults: Faults::default(),
            work: Work {
                every: Duration::from_secs(1),
                burst: 1,
                keyed: 0.0,
                later: 0.0,
                signals: 0.0,
                discards: 0.0,
                bytes: 40,
                tasks: 0.0,
            },
            programs: Programs { longest: Duration::from_millis(20), fails: 0.0, dies: 0.0 },
            grouping: Duration::ZERO,
            flush: Duration::from_micros(400),
            sealing: Duration::from_micros(300),
            lateness: Duration::from_micros(100),
            multicast: true,
            cryptography: false,
            config: Config::default(),
        }
    }

    /// The world of this seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Options {
        let mut chance = Chance::new(seed, "options");
        let mut options = Options::calm();
        options.nodes = 2 + chance.index(5);
        options.latecomers = if chance.yes(0.3) { chance.index(options.nodes - 1) } else { 0 };
        options.safety = chance.between(Duration::from_secs(15), Duration::from_secs(45));
        options.grouping = *chance.pick(&[Duration::ZERO, Duration::ZERO, Duration::from_micros(300), Duration::from_millis(5)]);
        options.flush = *chance.pick(&[Duration::ZERO, Duration::from_micros(400), Duration::from_millis(4), Duration::from_millis(30)]);
        options.sealing = *chance.pick(&[Duration::ZERO, Duration::from_millis(1), Duration::from_millis(5)]);
        options.lateness = *chance.pick(&[Duration::ZERO, Duration::from_millis(1), Duration::from_millis(50)]);
        options.multicast = chance.yes(0.8);
        options.cryptography = seed.is_multiple_of(100);
        options.work = Work::drawn(&mut chance);
        options.programs = Programs::drawn(&mut chance);
        if chance.yes(0.1) {
            options.config.outbox_letters = 1 + chance.below(100);
        }
        // One seed in eight has no faults at all: what fails there is no matter of faults.
        if chance.yes(0.125) {
            return options;
        }
        options.weather = Weather::drawn(&mut chance);
        options.faults = Faults::drawn(&mut chance);
        if options.faults.restore.is_some() {
            // A backup in which a letter still waits for a name does not know that the name was found and the letter numbered:
            // under the new epoch it is numbered again. See "Known limits" in ARCHITECTURE.md.
            options.work.later = 0.0;
            options.faults.depart = None;
        }
        // Who finds others by way of one who is gone for ever may never meet them.
        options.multicast |= options.faults.depart.is_some();
        // A small window over a long way would not get the letters of a busy swarm across in time.
        let quick = options.weather.delay <= Duration::from_millis(1) && options.flush < Duration::from_millis(10);
        if chance.yes(0.3) && quick {
            options.config.window_bytes = 2_000 + chance.index(20_000);
        }
        options
    }
}

impl Weather {
    pub(crate) fn fair() -> Weather {
        Weather { delay: Duration::from_micros(300), loss: 0.0, duplication: 0.0, refusal: 0.0, ordered: true }
    }

    fn drawn(chance: &mut Chance) -> Weather {
        Weather {
            delay: *chance.pick(&[200, 1_000, 10_000, 100_000].map(Duration::from_micros)),
            loss: *chance.pick(&[0.0, 0.0, 0.02, 0.2]),
            duplication: *chance.pick(&[0.0, 0.0, 0.02, 0.2]),
            refusal: *chance.pick(&[0.0, 0.0, 0.01, 0.1]),
            ordered: chance.yes(0.4),
        }
    }
}

impl Faults {
    fn drawn(chance: &mut Chance) -> Faults {
        let mut every = |share: f64, least: u64, most: u64| {
            let drawn = chance.between(Duration::from_secs(least), Duration::from_secs(most));
            chance.yes(share).then_some(drawn)
        };
        Faults {
            crash: every(0.6, 1, 15),
            stop: every(0.3, 4, 20),
            partition: every(0.4, 3, 15),
            cut_connection: every(0.4, 1, 10),
            pause: every(0.25, 4, 20),
            restore: every(0.08, 6, 20),
            full_disk: every(0.1, 5, 20),
            depart: every(0.3, 5, 30),
            prune: every(0.3, 1, 10),
        }
    }
}

impl Programs {
    fn drawn(chance: &mut Chance) -> Programs {
        Programs {
            // What a busy swarm orders must get done by its least worker in the time that a run has for it.
            longest: *chance.pick(&[5, 50, 150].map(Duration::from_millis)),
            fails: *chance.pick(&[0.0, 0.1]),
            dies: *chance.pick(&[0.0, 0.0, 0.1]),
        }
    }
}

impl Work {
    fn drawn(chance: &mut Chance) -> Work {
        Work {
            every: *chance.pick(&[50, 150, 300, 500, 1_000, 3_000].map(Duration::from_millis)),
            burst: *chance.pick(&[1, 5, 20, 100, 300]),
            keyed: *chance.pick(&[0.0, 0.2, 0.7]),
            later: *chance.pick(&[0.0, 0.1, 0.5]),
            signals: *chance.pick(&[0.0, 0.05, 0.2]),
            discards: *chance.pick(&[0.0, 0.0, 0.05, 0.2]),
            bytes: *chance.pick(&[40, 40, 400, 4_000]),
            tasks: *chance.pick(&[0.0, 0.05, 0.3]),
        }
    }
}
