//! What the swarm promises its users, watched over all nodes at every commit.
//! Knows nothing of machines: it looks at disks and at what users were told. It remembers more than any disk does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::effect::{Change, SentLetter, Taken};
use protocol::envelope::{Kind, Payload, void_of};
use protocol::{Epoch, LetterId, PeerId, Ranges};

use super::disk::Disk;

/// What is wrong.
pub(crate) type Verdict = Result<(), String>;

/// A letter that was ever on its author's disk.
#[derive(Clone, Debug)]
pub(crate) struct Authored {
    pub(crate) author: usize,
    pub(crate) payload: Payload,
    pub(crate) recipients: BTreeSet<usize>,
    /// Its author's user was told.
    accepted: bool,
    /// It was on a disk that was then put back to before it: its author does not have it any more.
    forgotten: bool,
}

/// What a recipient has shown of one author's epoch.
#[derive(Clone, Debug, Default)]
struct Line {
    shown: Ranges,
    /// Numbers of letters that were discarded: they are not missing.
    voids: Ranges,
    announced: Ranges,
    high: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    nodes: BTreeMap<PeerId, usize>,
    authored: BTreeMap<LetterId, Authored>,
    /// One text, one letter: by author and text, as every text of the workload is unique.
    texts: BTreeMap<(usize, String), LetterId>,
    /// What each node's disk holds of letters to it.
    inbox: BTreeSet<(usize, LetterId)>,
    /// What it ever held, also before it was put back to a backup.
    ever: BTreeSet<(usize, LetterId)>,
    /// Copies that are not yet both taken and delivered.
    open: BTreeSet<(LetterId, usize)>,
    lines: BTreeMap<(usize, PeerId, Epoch), Line>,
    keys: BTreeMap<(usize, String), LetterId>,
    /// Letters shown for the first time since the beginning, for reports.
    pub(crate) taken: u64,
    /// Letters that their users wanted discarded.
    discarded: BTreeSet<LetterId>,
    /// Copies in whose place the recipient took a void.
    voids: BTreeSet<(usize, LetterId)>,
    /// Copies that are called discarded.
    sure: BTreeSet<(usize, LetterId)>,
    /// Some disk was put back to a backup.
    restored: bool,
}

macro_rules! demand {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

impl Checker {
    pub(crate) fn introduce(&mut self, peer: PeerId, node: usize) {
        self.nodes.insert(peer, node);
    }

    pub(crate) fn node(&self, peer: PeerId) -> Option<usize> {
        self.nodes.get(&peer).copied()
    }

    /// A node has committed `changes`, and this is its disk now.
    pub(crate) fn on_commit(&mut self, node: usize, disk: &Disk, changes: &[Change], departed: &BTreeSet<usize>) -> Verdict {
        for change in changes {
            match change {
                Change::Letter(letter) => self.on_letter(node, letter, departed)?,
                Change::Taken(taken) => {
                    if taken.twin == 0 && taken.silent {
                        let stream = &disk.in_streams[&taken.stream];
                        self.lines.entry((node, stream.author, stream.epoch)).or_default().voids.insert(taken.seq);
                    }
                    self.on_taken(node, taken, departed)?;
                }
                Change::Delivered { stream, first, last, .. } => self.on_delivered(node, disk, *stream, *first, *last)?,
                Change::Discarded { stream, first, last, .. } => self.on_discarded(node, disk, *stream, *first, *last)?,
                Change::ReadBy { stream, first, last, .. } => self.on_read_by(disk, *stream, *first, *last)?,
                Change::Shown { place, missing_before } => {
                    self.on_shown(node, disk, (place.stream, place.seq, place.twin), *missing_before)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn on_letter(&mut self, node: usize, letter: &SentLetter, departed: &BTreeSet<usize>) -> Verdict {
        let mut recipients = BTreeSet::new();
        for place in letter.to.iter().filter_map(|copy| copy.place) {
            let Some(to) = self.node(place.peer) else { return Err(format!("letter {} to nobody: {}", letter.id, place.peer)) };
            recipients.insert(to);
        }
        if let Payload::Text(text) = &letter.payload {
            let before = self.texts.insert((node, text.clone()), letter.id);
            demand!(before.is_none_or(|id| id == letter.id), "one request made two letters, {before:?} and {}", letter.id);
        }
        let fresh = |to: &usize| !self.ever.contains(&(*to, letter.id)) && !departed.contains(to);
        let open: Vec<_> = recipients.iter().copied().filter(fresh).map(|to| (letter.id, to)).collect();
        let (payload, forgotten) = (letter.payload.clone(), false);
        let known = self.authored.entry(letter.id).or_insert_with(|| {
            let recipients = BTreeSet::new();
            Authored { author: node, payload, recipients, accepted: false, forgotten }
        });
        demand!(known.author == node && known.payload == letter.payload, "{} is the name of two letters", letter.id);
        known.recipients.extend(recipients);
        self.open.extend(open);
        Ok(())
    }

    fn on_taken(&mut self, node: usize, taken: &Taken, departed: &BTreeSet<usize>) -> Verdict {
        let envelope = &taken.envelope;
        let id = envelope.id;
        if envelope.known_kind() == Some(Kind::Void) {
            let Some(letter) = envelope.in_reply_to else { return Err(format!("void {id} is the void of nothing")) };
            demand!(void_of(letter) == id && self.discarded.contains(&letter), "{letter} was not discarded and has a void");
            self.voids.insert((node, letter));
            return Ok(());
        }
        demand!(!self.sure.contains(&(node, id)), "{id} was called discarded and was taken by node {node} afterwards");
        let Some(authored) = self.authored.get(&id) else { return Err(format!("letter {id} was taken and nobody wrote it")) };
        demand!(authored.recipients.contains(&node), "letter {id} was taken by node {node}, to whom it was not written");
        demand!(self.node(envelope.author) == Some(authored.author), "letter {id} was taken as somebody else's");
        demand!(taken.silent || authored.payload == envelope.payload, "letter {id} was taken with another content");
        let to: BTreeSet<usize> = envelope.recipients.iter().filter_map(|peer| self.node(*peer)).collect();
        demand!(to.is_subset(&authored.recipients), "letter {id} names recipients it was not written to");
        demand!(self.inbox.insert((node, id)), "letter {id} was taken twice by node {node}");
        if departed.contains(&authored.author) {
            self.open.remove(&(id, node));
        }
        if self.ever.insert((node, id)) {
            self.taken += 1;
        }
        Ok(())
    }

    /// A user wants a letter discarded.
    pub(crate) fn on_discard(&mut self, letter: LetterId) {
        self.discarded.insert(letter);
    }

    /// Whether its user wanted a letter discarded.
    pub(crate) fn is_discarded(&self, letter: LetterId) -> bool {
        self.discarded.contains(&letter)
    }

    fn on_discarded(&mut self, node: usize, disk: &Disk, stream: u32, first: u64, last: u64) -> Verdict {
        let Some(to) = disk.out_streams.get(&stream).and_then(|stream| self.node(stream.peer)) else {
            return Err(format!("letters discarded on {stream}, which is to nobody"));
        };
        for seq in first..=last {
            let Some(id) = disk.numbered.get(&(stream, seq)) else { return Err(format!("{stream}/{seq} is discarded and no letter")) };
            demand!(self.discarded.contains(id), "{id} is discarded and nobody wanted it");
            demand!(self.restored || !self.ever.contains(&(to, *id)), "node {node} says that {id} is discarded; node {to} has it");
            self.open.remove(&(*id, to));
            self.sure.insert((to, *id));
        }
        Ok(())
    }

    fn on_delivered(&mut self, node: usize, disk: &Disk, stream: u32, first: u64, last: u64) -> Verdict {
        let Some(to) = disk.out_streams.get(&stream).and_then(|stream| self.node(stream.peer)) else {
            return Err(format!("letters delivered on {stream}, which is to nobody"));
        };
        for seq in first..=last {
            let Some(id) = disk.numbered.get(&(stream, seq)) else { return Err(format!("{stream}/{seq} is delivered and no letter")) };
            demand!(self.ever.contains(&(to, *id)), "node {node} says that {id} ({stream}/{seq}) is delivered; node {to} never had it");
            self.open.remove(&(*id, to));
        }
        Ok(())
    }

    /// Nothing is called read that its recipient did not take.
    fn on_read_by(&self, disk: &Disk, stream: u32, first: u64, last: u64) -> Verdict {
        let to = disk.out_streams.get(&stream).and_then(|stream| self.node(stream.peer));
        for seq in first..=last {
            let id = disk.numbered.get(&(stream, seq));
            let had = id.zip(to).is_some_and(|(id, to)| self.ever.contains(&(to, *id)));
            demand!(had || self.restored, "{stream}/{seq} is called read and its recipient never had it");
        }
        Ok(())
    }

    fn on_shown(&mut self, node: usize, disk: &Disk, (no, seq, twin): (u32, u64, u8), missing_before: u64) -> Verdict {
        if twin > 0 {
            return Ok(());
        }
        let stream = &disk.in_streams[&no];
        let line = self.lines.entry((node, stream.author, stream.epoch)).or_default();
        demand!(line.shown.insert(seq), "{no}/{seq} is shown again");
        if seq > line.high {
            let missing = Ranges::of(line.high + 1, seq).minus(&line.voids).len() - 1;
            demand!(
                missing_before == missing,
                "{no}/{seq} shown as after {missing_before} missing ones, after {} are {missing}",
                line.high
            );
            if line.high + 1 < seq {
                line.announced.insert_range(line.high + 1, seq - 1);
            }
            line.high = seq;
        } else {
            demand!(line.announced.contains(seq), "{no}/{seq} is shown after {}, and was not announced as missing", line.high);
        }
        Ok(())
    }

    /// A node's user was told that its letter is accepted.
    pub(crate) fn on_accepted(
        &mut self,
        node: usize,
        disk: &Disk,
        letter: LetterId,
        text: &str,
        to: &BTreeSet<usize>,
        key: Option<&str>,
    ) -> Verdict {
        let Some(row) = disk.by_id.get(&letter).map(|k| &disk.letters[k]) else {
            return Err(format!("{letter} was accepted and is not on the disk"));
        };
        demand!(row.payload == Payload::Text(text.to_owned()), "{letter} was accepted with another text");
        let named: BTreeSet<usize> = row.to.iter().filter_map(|copy| copy.place).filter_map(|place| self.node(place.peer)).collect();
        demand!(named.is_subset(to), "{letter} was written to {to:?} and accepted for {named:?}");
        demand!(row.to.len() == to.len(), "{letter} was written to {} and accepted for {}", to.len(), row.to.len());
        if let Some(key) = key {
            let before = self.keys.insert((node, key.to_owned()), letter);
            demand!(before.is_none_or(|before| before == letter), "key {key} stood for {before:?} and stands for {letter} now");
        }
        let Some(authored) = self.authored.get_mut(&letter) else { return Err(format!("{letter} was accepted before its commit")) };
        authored.accepted = true;
        Ok(())
    }

    /// A node's disk was put back to `disk`: what it forgot is nobody's fault, and what its users were told holds no more.
    pub(crate) fn on_restored(&mut self, node: usize, disk: &Disk) {
        self.restored = true;
        // Its letter may be one again, or its void forgotten.
        self.sure.retain(|(to, id)| *to != node && self.authored.get(id).is_none_or(|authored| authored.author != node));
        for (id, authored) in self.authored.iter_mut().filter(|(_, authored)| authored.author == node) {
            let row = disk.by_id.get(id).map(|k| &disk.letters[k]);
            authored.forgotten = row.is_none();
            let places = row.iter().flat_map(|row| &row.to).filter_map(|copy| copy.place);
            let placed: BTreeSet<usize> = places.filter_map(|place| self.nodes.get(&place.peer).copied()).collect();
            // Without its row it is gone; without its place it waits for a name again.
            for to in authored.recipients.difference(&placed) {
                self.open.remove(&(*id, *to));
            }
        }
        self.texts.retain(|(author, _), id| *author != node || disk.by_id.contains_key(id));
        self.keys.retain(|(author, key), _| *author != node || disk.keys.contains_key(key));
        self.inbox.retain(|(owner, _)| *owner != node);
        let letters = disk.taken.values().filter(|taken| taken.envelope.known_kind() != Some(Kind::Void));
        self.inbox.extend(letters.map(|taken| (node, taken.envelope.id)));
        self.lines.retain(|(owner, _, _), _| *owner != node);
        for (place, _) in disk.inbox.values().filter(|(place, _)| place.twin == 0) {
            let stream = &disk.in_streams[&place.stream];
            let line = self.lines.entry((node, stream.author, stream.epoch)).or_default();
            line.shown.insert(place.seq);
            line.high = line.high.max(place.seq);
        }
        let voids = disk.taken.values().filter(|taken| taken.twin == 0 && taken.silent);
        for taken in voids {
            let stream = &disk.in_streams[&taken.stream];
            self.lines.entry((node, stream.author, stream.epoch)).or_default().voids.insert(taken.seq);
        }
        for line in self.lines.iter_mut().filter(|((owner, _, _), _)| *owner == node).map(|(_, line)| line) {
            if line.high > 0 {
                line.announced = Ranges::of(1, line.high).minus(&line.shown);
            }
        }
    }

    /// A node is about to start from this disk: all that its users were told is on it.
    pub(crate) fn on_start(&self, node: usize, disk: &Disk) -> Verdict {
        let mine = |authored: &Authored| authored.author == node && authored.accepted && !authored.forgotten;
        for (id, _) in self.authored.iter().filter(|(_, authored)| mine(authored)) {
            demand!(disk.by_id.contains_key(id), "accepted letter {id} is not on the disk any more");
        }
        for (_, id) in self.inbox.range((node, LetterId::new([0; 16]))..=(node, LetterId::new([255; 16]))) {
            demand!(self.authored.contains_key(id), "letter {id} in the inbox was never written");
        }
        Ok(())
    }

    /// Nothing accepted is lost: each copy is in the inbox of its recipient, or waits at its author.
    pub(crate) fn nothing_is_lost(&self, disks: &[&Disk]) -> Verdict {
        for (id, authored) in self.authored.iter().filter(|(_, authored)| !authored.forgotten) {
            let disk = disks[authored.author];
            let Some(k) = disk.by_id.get(id) else { return Err(format!("letter {id} is not on its author's disk")) };
            for place in disk.letters[k].to.iter().filter_map(|copy| copy.place) {
                let to = self.node(place.peer);
                let there = to.is_some_and(|to| self.ever.contains(&(to, *id)));
                let before = disk.bundles.range((place.stream, 0)..=(place.stream, place.seq)).next_back();
                let waits = before.is_some_and(|((_, first), kept)| (first + kept.ids.len() as u64) > place.seq);
                let gone = disk.out_streams.get(&place.stream).is_some_and(|stream| stream.discarded.contains(place.seq));
                demand!(there || waits || gone, "letter {id} to node {to:?} is neither in its inbox nor waits at its author");
            }
        }
        Ok(())
    }

    /// Whether a letter was ever in a node's inbox, or its void.
    pub(crate) fn ever_had(&self, node: usize, letter: LetterId) -> bool {
        self.ever.contains(&(node, letter)) || self.voids.contains(&(node, letter))
    }

    /// Copies that are not both taken and delivered: letter, author and recipient.
    pub(crate) fn open_copies(&self) -> Vec<(LetterId, usize, usize)> {
        self.open.iter().map(|(id, to)| (*id, self.authored[id].author, *to)).collect()
    }

    /// This copy need not arrive, or its author need not know.
    pub(crate) fn excuse(&mut self, letter: LetterId, to: usize) {
        self.open.remove(&(letter, to));
    }

    /// Whether everything written is taken and its author knows.
    pub(crate) fn all_delivered(&self) -> bool {
        self.open.is_empty()
    }

    /// A few copies that are not, in words.
    pub(crate) fn undelivered(&self) -> String {
        let few: Vec<String> = self.open.iter().take(5).map(|(id, to)| format!("{id} from {} to {to}", self.authored[id].author)).collect();
        format!("{} copies are not delivered: {}", self.open.len(), few.join(", "))
    }

    /// At the end: each letter is in the inbox of each of its recipients, has a place there, and its author knows.
    pub(crate) fn end(&self, disks: &[&Disk], departed: &BTreeSet<usize>) -> Verdict {
        self.nothing_is_lost(disks)?;
        let here = |authored: &Authored| !authored.forgotten && !departed.contains(&authored.author);
        for (id, authored) in self.authored.iter().filter(|(_, authored)| here(authored)) {
            let row = disks[authored.author].by_id.get(id).map(|k| &disks[authored.author].letters[k]);
            let placed: BTreeSet<usize> =
                row.iter().flat_map(|row| &row.to).filter_map(|copy| copy.place).filter_map(|place| self.node(place.peer)).collect();
            // Put back to a backup, an author may wait again for a name that nobody bears any more.
            let recipients = authored.recipients.difference(departed);
            for to in recipients.filter(|to| placed.contains(to) || !self.restored) {
                let had = self.ever.contains(&(*to, *id)) || self.discarded.contains(id);
                demand!(had, "letter {id} never reached node {to}");
                let peer = self.nodes.iter().find(|(_, node)| *node == to).map(|(peer, _)| *peer);
                let delivered = peer.and_then(|peer| disks[authored.author].is_delivered(*id, peer));
                demand!(delivered == Some(true), "the author of {id} does not know that node {to} has it");
            }
        }
        let present = disks.iter().enumerate().filter(|(node, _)| !departed.contains(node));
        let names: BTreeSet<&str> = present.filter_map(|(_, disk)| disk.me.as_ref()).map(|me| me.name.as_str()).collect();
        for (node, disk) in disks.iter().enumerate().filter(|(node, _)| !departed.contains(node)) {
            demand!(disk.unshown.is_empty(), "node {node} does not show {:?}", disk.unshown);
            let gone = |stream: &u32| {
                let peer = disk.out_streams.get(stream).map(|stream| stream.peer);
                peer.and_then(|peer| self.node(peer)).is_some_and(|to| departed.contains(&to))
            };
            let waits = disk.bundles.keys().find(|(stream, _)| !gone(stream));
            demand!(waits.is_none(), "node {node} still has a bundle in its outbox: {waits:?}");
            let named = |k: &&u64| disk.letters[k].to.iter().any(|copy| copy.place.is_none() && names.contains(copy.name.as_str()));
            let waits = disk.waiting.iter().find(named);
            demand!(
                waits.is_none(),
                "node {node} still has a letter that waits for a name which somebody bears: {:?}",
                waits.map(|k| &disk.letters[k].to)
            );
        }
        Ok(())
    }

    /// No gap holds the display of later letters for longer than it may.
    pub(crate) fn display_is_not_held(
        &self,
        node: usize,
        since: Duration,
        held: impl Iterator<Item = Duration>,
        limit: Duration,
    ) -> Verdict {
        for taken in held {
            demand!(taken.max(since) > limit, "node {node} has held a letter back since {taken:?}");
        }
        Ok(())
    }
}
