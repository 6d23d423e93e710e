//! Power cuts and faults under redb's own code: a disk that remembers in what order it was written to, what of it was flushed, and that
//! fails when it is told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use redb::StorageBackend;

use super::super::backup::Origin;
use super::super::medium::{Medium, Slot};
use super::super::open::{Opened, open_medium};
use super::super::{CommitError, OpenError, Reader, Writer, blocks};
use super::*;

/// What a disk writes as a whole, or not at all.
const SECTOR: usize = 512;

/// One thing that was done to a disk.
#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    Len(usize),
    /// All before is safe.
    Flush,
    /// A flush that failed: what was not flushed before never will be, though it can be read as long as there is power
    /// (what Linux does since 4.13: the pages count as clean).
    FailedFlush,
}

/// How a disk fails: from that operation on, once or for ever.
#[derive(Clone, Copy, Debug)]
struct Failing {
    at: usize,
    for_ever: bool,
    full: bool,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    log: Vec<Op>,
    /// Operations that were asked for, also those that failed.
    asked: usize,
    failing: Option<Failing>,
}

#[derive(Debug, Default)]
struct Disk(Mutex<Inner>);

impl Disk {
    fn of(bytes: Vec<u8>) -> Arc<Disk> {
        Arc::new(Disk(Mutex::new(Inner { bytes, ..Inner::default() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done so far.
    fn log(&self) -> Vec<Op> {
        self.inner().log.clone()
    }

    fn operate(&self, op: Op) -> io::Result<()> {
        let mut inner = self.inner();
        let at = inner.asked;
        inner.asked += 1;
        if let Some(failing) = inner.failing.filter(|failing| at == failing.at || (failing.for_ever && at > failing.at)) {
            if matches!(op, Op::Flush) {
                inner.log.push(Op::FailedFlush);
            }
            return Err(if failing.full { io::ErrorKind::StorageFull.into() } else { io::Error::other("the disk does not answer") });
        }
        match &op {
            Op::Write(offset, data) => {
                let end = (offset + data.len()).max(inner.bytes.len());
                inner.bytes.resize(end, 0);
                inner.bytes[*offset..offset + data.len()].copy_from_slice(data);
            }
            Op::Len(len) => inner.bytes.resize(*len, 0),
            Op::Flush | Op::FailedFlush => {}
        }
        inner.log.push(op);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.inner();
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        out.copy_from_slice(inner.bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(Op::Len(usize::try_from(len).map_err(io::Error::other)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(Op::Flush)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate(Op::Write(usize::try_from(offset).map_err(io::Error::other)?, data.to_vec()))
    }
}

/// What the platters hold as operations go by: what was flushed, and what may or may not be there.
#[derive(Clone, Default)]
struct Platter {
    safe: Vec<u8>,
    pending: Vec<Op>,
}

impl Platter {
    fn does(&mut self, op: &Op) {
        match op {
            Op::Flush => {
                self.safe = self.cut(|_| usize::MAX);
                self.pending.clear();
            }
            Op::FailedFlush => self.pending.clear(),
            other => self.pending.push(other.clone()),
        }
    }

    /// The bytes after the power went: of each sector, and of the length, as many of the pending changes as `until` says.
    fn cut(&self, mut until: impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut bytes = self.safe.clone();
        let mut chosen = BTreeMap::new();
        let mut length = self.safe.len();
        let most = until(usize::MAX);
        for (n, op) in self.pending.iter().enumerate() {
            match op {
                Op::Write(offset, data) => {
                    for (at, piece) in pieces(*offset, data) {
                        if n < *chosen.entry(at / SECTOR).or_insert_with(|| until(at / SECTOR)) {
                            bytes.resize(bytes.len().max(at + piece.len()), 0);
                            bytes[at..at + piece.len()].copy_from_slice(piece);
                        }
                    }
                    if n < most {
                        length = length.max(offset + data.len());
                    }
                }
                Op::Len(len) if n < most => length = *len,
                _ => {}
            }
        }
        bytes.resize(length, 0);
        bytes
    }

    /// All ways in which the power may go now that are tried: nothing of what is pending is there, all of it, a beginning of it, and twice any part
    /// of any sector.
    fn cuts(&self, rng: &mut ChaCha8Rng) -> Vec<Vec<u8>> {
        let pending = self.pending.len();
        let mut below = |n: usize| (rng.next_u64() % (n as u64 + 1)) as usize;
        let beginning = below(pending);
        let mut cuts = vec![self.cut(|_| 0), self.cut(|_| usize::MAX), self.cut(|_| beginning)];
        cuts.extend((0..2).map(|_| self.cut(|_| below(pending))));
        if pending == 0 {
            cuts.truncate(1);
        }
        cuts
    }
}

/// A write as the sectors that it touches: where, and what.
fn pieces(offset: usize, data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = offset + at;
        let length = (SECTOR - start % SECTOR).min(data.len() - at);
        let piece = (length > 0).then(|| (start, &data[at..at + length]));
        at += length;
        piece
    })
}

/// What a node might write, one batch after the other.
fn script() -> Vec<Batch> {
    let batch_of = |k: u64| {
        let size = if k.is_multiple_of(7) { 60_000 } else { 300 };
        let mut changes = vec![
            Change::Me(Me { boot: k, ..me() }),
            Change::Letter(letter(k, "words").into()),
            Change::Bundle(bundle(k, 1, size).into()),
            Change::OutStream(out_stream(k + 1)),
            Change::Taken(taken(1, k, "to me").into()),
            Change::InStream(in_stream(1, 3, 1)),
        ];
        if k.is_multiple_of(2) {
            changes.extend([shown(1, k - 1, k - 1), shown(1, k, k), Change::Hold(held(k, 100).into())]);
        }
        if k.is_multiple_of(3) {
            let drop = Change::DropBundle { stream: 1, first: k - 2 };
            changes.extend([Change::Delivered { stream: 1, first: k - 2, last: k - 2, at: Timestamp(k) }, drop]);
        }
        if k.is_multiple_of(4) {
            changes.extend([Change::Unhold { no: k - 2 }, Change::Read { n: k - 1, at: Timestamp(k) }]);
        }
        let mut batch = batch(changes);
        batch.changes.push(segment(50, k, 2 * k - 1, 2).0);
        batch
    };
    (1..=24).map(batch_of).collect()
}

/// Every row of every table.
fn content(slot: &Slot) -> Vec<u8> {
    let origin = Origin { program: String::new(), peer: peer(1), swarm: String::new(), open: true, made: Timestamp(0) };
    let mut all = Vec::new();
    let read = Reader::new(slot.clone()).back_up(&origin, &mut |piece| {
        all.extend(piece);
        true
    });
    read.expect("all rows can be read");
    all
}

fn opened(disk: &Arc<Disk>, create: bool) -> Result<Opened, OpenError> {
    let disk: Arc<dyn StorageBackend> = disk.clone();
    open_medium(Medium::Backend(disk), create)
}

/// A node's life on a disk: what was there after each commit, and after how many operations it was said to be.
struct Life {
    disk: Arc<Disk>,
    /// The first is the database as it is made.
    after: Vec<(usize, Vec<u8>)>,
}

impl Life {
    fn lived() -> Life {
        let disk = Disk::of(Vec::new());
        let Opened { slot, .. } = opened(&disk, true).expect("it is made");
        let mut life = Life { disk, after: Vec::new() };
        // Without a node's own row there is nothing to back up; the first commit brings it, and before it nothing is promised.
        for (n, batch) in script().into_iter().enumerate() {
            let writer = Writer { slot: slot.clone(), reserve: None };
            writer.commit(&batch.changes).expect("the disk is sound");
            life.note(&slot);
            if n == 12 {
                blocks::build(&slot).expect("the disk is sound");
                life.note(&slot);
            }
        }
        slot.close();
        life
    }

    fn note(&mut self, slot: &Slot) {
        let operations = self.disk.inner().log.len();
        self.after.push((operations, content(slot)));
    }

    /// What must be there after so many operations: the last that was promised, or the next.
    fn may_be(&self, operations: usize) -> &[(usize, Vec<u8>)] {
        let promised = self.after.iter().take_while(|(at, _)| *at <= operations).count();
        &self.after[promised.saturating_sub(1)..self.after.len().min(promised + 1)]
    }
}

#[test]
fn wherever_the_power_goes_what_was_promised_is_there_and_nothing_half() {
    let life = Life::lived();
    let log = life.disk.log();
    let first = life.after[0].0;
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let (mut platter, mut points, mut twice) = (Platter::default(), 0, 0);
    for (n, op) in log.iter().enumerate() {
        platter.does(op);
        let operations = n + 1;
        if operations < first {
            continue;
        }
        for bytes in platter.cuts(&mut rng) {
            let disk = Disk::of(bytes.clone());
            let Opened { slot, .. } = opened(&disk, false).unwrap_or_else(|error| panic!("after {operations} operations: {error}"));
            let found = content(&slot);
            let fits = life.may_be(operations).iter().any(|(_, content)| *content == found);
            assert!(fits, "after {operations} operations something is missing or half there");
            points += 1;
            // The power goes again while the first cut is mended.
            if points % 8 == 0 {
                let mut again = Platter { safe: bytes, pending: Vec::new() };
                let mended = disk.log();
                let until = (rng.next_u64() % (mended.len() as u64 + 1)) as usize;
                mended[..until].iter().for_each(|op| again.does(op));
                let cut = again.cuts(&mut rng).pop().expect("there is one at least");
                let Opened { slot, .. } = opened(&Disk::of(cut), false).unwrap_or_else(|error| panic!("cut again: {error}"));
                let found = content(&slot);
                assert!(life.may_be(operations).iter().any(|(_, content)| *content == found), "cut again after {operations} operations");
                twice += 1;
            }
            slot.close();
        }
    }
    println!("{points} power cuts at {} operations, {twice} more while they were mended", log.len() - first);
    assert!(points >= 2_000, "{points} points");
}

/// Lives on a disk that fails so. Returns the disk, how many commits were promised, and how many of them after a failure.
fn lived_on(failing: Failing) -> (Arc<Disk>, usize, usize) {
    let disk = Disk::of(Vec::new());
    let Opened { slot, .. } = opened(&disk, true).expect("it is made");
    let base = disk.inner().asked;
    disk.inner().failing = Some(Failing { at: base + failing.at, ..failing });
    let (mut promised, mut recovered) = (0, 0);
    for batch in script() {
        let writer = Writer { slot: slot.clone(), reserve: None };
        match writer.commit(&batch.changes) {
            Ok(committed) => {
                promised += 1;
                recovered += usize::from(committed.recovered);
            }
            Err(CommitError::Disk(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    slot.close();
    (disk, promised, recovered)
}

#[test]
fn a_write_or_flush_that_fails_once_is_survived_also_if_the_power_goes_afterwards() {
    let life = Life::lived();
    let all = script().len();
    let operations = life.disk.log().len();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let (mut failures, mut recovered, mut points) = (0, 0, 0);
    for at in (0..operations).step_by(3) {
        let (disk, promised, times) = lived_on(Failing { at, for_ever: false, full: at % 2 == 0 });
        assert_eq!(promised, all, "operation {at} failed once");
        failures += 1;
        recovered += times;
        // What is read as long as there is power may not be what was flushed.
        let mut platter = Platter::default();
        disk.log().iter().for_each(|op| platter.does(op));
        for bytes in platter.cuts(&mut rng) {
            let Opened { slot, kept, .. } = opened(&Disk::of(bytes), false).unwrap_or_else(|error| panic!("operation {at}: {error}"));
            assert_eq!(kept.me.map(|me| me.boot), Some(all as u64), "operation {at}");
            assert_eq!(kept.next_letter, all as u64 + 1);
            slot.close();
            points += 1;
        }
    }
    println!("{failures} operations failed once, {recovered} batches were written again, {points} power cuts afterwards");
    assert!(recovered > failures / 2, "{recovered} of {failures}");
}

#[test]
fn on_a_disk_that_fails_for_good_nothing_is_promised_any_more_and_what_was_is_there() {
    let life = Life::lived();
    let operations = life.disk.log().len();
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let mut points = 0;
    for at in (0..operations).step_by(5) {
        let (disk, promised, _) = lived_on(Failing { at, for_ever: true, full: at % 2 == 0 });
        let mut platter = Platter::default();
        disk.log().iter().for_each(|op| platter.does(op));
        for bytes in platter.cuts(&mut rng) {
            let Opened { slot, kept, .. } = opened(&Disk::of(bytes), false).unwrap_or_else(|error| panic!("operation {at}: {error}"));
            let found = kept.me.map_or(0, |me| me.boot);
            assert!([promised as u64, promised as u64 + 1].contains(&found), "operation {at}: {promised} promised, {found} there");
            slot.close();
            points += 1;
        }
    }
    println!("{points} power cuts after a disk had failed for good");
}

#[test]
fn a_file_with_a_changed_bit_is_refused_or_read_and_never_taken_for_an_empty_one() {
    let life = Life::lived();
    let whole = life.disk.inner().bytes.clone();
    let mut platter = Platter::default();
    life.disk.log()[..life.after[20].0].iter().for_each(|op| platter.does(op));
    let unclean = platter.cut(|_| usize::MAX);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (mut refused, mut read) = (0, 0);
    for n in 0..600 {
        let mut bytes = if n % 2 == 0 { whole.clone() } else { unclean.clone() };
        // Half of them where all else hangs.
        let most = if n % 4 < 2 { 8192 } else { bytes.len() as u64 };
        let at = (rng.next_u64() % most) as usize;
        bytes[at] ^= 1 << (rng.next_u32() % 8);
        match opened(&Disk::of(bytes), false) {
            Ok(Opened { slot, kept, .. }) => {
                let empty = kept.me.is_none();
                slot.close();
                assert!(!empty, "byte {at}");
                read += 1;
            }
            Err(_) => refused += 1,
        }
    }
    println!("a bit changed: {refused} refused, {read} read");
}

#[test]
fn an_old_copy_put_back_is_the_memory_that_it_was() {
    let life = Life::lived();
    let log = life.disk.log();
    for (operations, then) in life.after.iter().step_by(5) {
        let mut platter = Platter::default();
        log[..*operations].iter().for_each(|op| platter.does(op));
        let Opened { slot, .. } = opened(&Disk::of(platter.cut(|_| usize::MAX)), false).expect("it was whole");
        assert_eq!(content(&slot), *then);
        slot.close();
    }
}
