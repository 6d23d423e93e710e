//! What there is to measure, and the floors that each row is held against, measured at most once a run.
//! Knows nothing of how a row is measured. Rows run one after the other, each in a fresh directory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::table::Figure;
use crate::{floors, idle, letters, orders, recorded, store, swarms};

/// How much of everything.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Times that each row is measured.
    pub(crate) runs: usize,
    /// Letters, or orders, of the rows that write many.
    pub(crate) letters: u64,
    /// Seconds that an idle node is watched.
    pub(crate) idle: u64,
    /// Where the nodes keep their disks.
    pub(crate) dir: PathBuf,
}

/// One row.
pub(crate) struct Row {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What is measured.
    pub(crate) what: &'static str,
    measure: fn(&mut Bench) -> Vec<Figure>,
}

/// All rows, in the order in which they are run.
pub(crate) const ROWS: [Row; 19] = [
    Row { name: "disk", what: "floor: flushes of a file", measure: floors::disk },
    Row { name: "redb", what: "floor: commits of the database, in write order, in our mode", measure: floors::redb },
    Row { name: "store", what: "our rows through our store, and opening a long history", measure: store::store },
    Row { name: "crypto", what: "floor: signatures and seals", measure: floors::crypto },
    Row { name: "net", what: "floor: round trips by TCP and by one of our streams; a node's network alone", measure: floors::net },
    Row { name: "letters", what: "one author to one recipient, in batches, counted when receipted", measure: letters::many },
    Row { name: "latency", what: "one letter at a time: asked for, on the disk, shown, receipted", measure: letters::latency },
    Row { name: "fanout", what: "one author to 10 and to 50 recipients", measure: letters::fanout },
    Row { name: "drain", what: "letters waiting at their author for one that comes back", measure: letters::drain },
    Row { name: "custody", what: "letters that three others hold for one who is away, their author too", measure: letters::custody },
    Row { name: "orders", what: "orders that do nothing, orderer-dispatcher and one worker of 8 slots", measure: orders::many },
    Row { name: "programs", what: "orders that start /bin/true, 8 slots", measure: orders::programs },
    Row { name: "started", what: "one order at a time, and one when the dispatcher was killed", measure: orders::started },
    Row { name: "record", what: "letters and orders with everybody's record kept, and without", measure: recorded::record },
    Row { name: "start", what: "process start to first answer, new and again", measure: idle::start },
    Row { name: "idle", what: "memory and CPU of a node alone and one of 11", measure: idle::idle },
    Row { name: "second", what: "a second node: start to listed, and to a letter delivered", measure: swarms::second },
    Row { name: "ten", what: "10 nodes, each given one: until all list all", measure: swarms::ten },
    Row { name: "fifty", what: "50 nodes, each given one: until all list all", measure: swarms::fifty },
];

/// One run of the benchmark.
pub(crate) struct Bench {
    /// How much.
    pub(crate) options: Options,
    /// All figures so far.
    pub(crate) results: Vec<Figure>,
    floors: BTreeMap<(&'static str, &'static str), f64>,
}

impl Bench {
    /// Nothing is measured yet.
    pub(crate) fn new(options: Options) -> Bench {
        Bench { options, results: Vec::new(), floors: BTreeMap::new() }
    }

    /// Measures a row, unless it was measured as somebody's floor.
    pub(crate) fn run(&mut self, row: &Row) -> Vec<Figure> {
        if let Some(done) = Some(self.of(row.name)).filter(|figures| !figures.is_empty()) {
            return done;
        }
        eprintln!("{} …", row.what);
        let figures = (row.measure)(self);
        self.results.extend(figures.iter().cloned());
        figures
    }

    /// A figure of another row, which is measured first if it was not.
    pub(crate) fn floor(&mut self, row: &'static str, what: &'static str) -> f64 {
        if let Some(value) = self.floors.get(&(row, what)) {
            return *value;
        }
        let index = ROWS.iter().position(|other| other.name == row).expect("floors are rows");
        let figures = self.run(&ROWS[index]);
        let value = figures.iter().find(|figure| figure.what == what).unwrap_or_else(|| panic!("{row} has no {what:?}")).result;
        self.floors.insert((row, what), value);
        value
    }

    /// Measures something as often as asked for, each time in a fresh directory.
    pub(crate) fn repeat<T>(&self, mut measure: impl FnMut(&std::path::Path) -> T) -> Vec<T> {
        (0..self.options.runs)
            .map(|_| {
                let place = self.place();
                measure(place.path())
            })
            .collect()
    }

    /// A fresh directory, gone when dropped.
    pub(crate) fn place(&self) -> tempfile::TempDir {
        tempfile::Builder::new().prefix("bench-").tempdir_in(&self.options.dir).expect("a directory on the disk")
    }

    fn of(&self, row: &str) -> Vec<Figure> {
        self.results.iter().filter(|figure| figure.row == row).cloned().collect()
    }
}
