//! Other people's mail, held for those who are away.
//! Knows nothing of what is in it. A bundle is let go of when its recipient releases it, its author withdraws it, or closer
//! peers on three other machines have held it for long; for nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::config::{Config, limits};
use crate::edge::Cause;
use crate::effect::{Change, Effect, HeldBundle, HeldIndex, Out, Say};
use crate::id::{BundleId, Epoch, MachineId};
use crate::input::{Deposited, Heard};
use crate::mail::{Listed, Mailbox, Offer, Reason, Release, Slot, digest};
use crate::now::Now;
use crate::placement::{Candidate, machines};
use crate::receipt::{Receipt, Sum};
use crate::segment::What;
use crate::sign::Signed;

/// Bytes of bundles in one frame (guess: as for letters).
const FRAME_TARGET: u64 = 256 * 1024;
/// Pages of lists for one peer in one batch (guess: twice the mailboxes that are fetched at a time).
const PAGES: usize = 32;
/// Windows that are sent to one peer in one batch (guess: as many as mailboxes that it fetches at a time).
const WINDOWS: u64 = 16;
/// How fresh the word of closer custodians must be at the moment of letting go (guess: an answer takes milliseconds).
const FRESH: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Custody {
    me: PeerId,
    config: Config,
    held: BTreeMap<u64, Held>,
    by_id: BTreeMap<BundleId, u64>,
    boxes: BTreeMap<Mailbox, HeldBox>,
    bytes: u64,
    by_depositor: BTreeMap<PeerId, u64>,
    by_recipient: BTreeMap<PeerId, u64>,
    receipts: BTreeMap<Slot, (u64, Signed<Receipt>)>,
    tombstones: Tombstones,
    next_no: u64,
    compare_at: Duration,
    offer_at: Duration,
    /// Authors to whom a receipt may not have come through, and when it goes again.
    again: BTreeMap<PeerId, Duration>,
    /// What was taken, refused and missed in this batch, by whom it is to be told.
    words: BTreeMap<PeerId, Word>,
    /// Pages of lists that each peer got in this batch.
    paged: BTreeMap<PeerId, usize>,
    /// Bytes that each peer fetched in this batch.
    fetched: BTreeMap<PeerId, u64>,
    /// Taken and let go of in this batch, for the record.
    taken: BTreeMap<Mailbox, (u64, u64)>,
    gone: BTreeMap<(Mailbox, Gone), u64>,
}

#[derive(Debug)]
struct Held {
    id: BundleId,
    mailbox: Mailbox,
    size: u64,
    withdrawal: [u8; 32],
    /// Closer custodians that hold it too: its memory, since when, and when it last said so.
    elsewhere: BTreeMap<PeerId, (Epoch, Duration, Duration)>,
}

#[derive(Debug, Default)]
struct HeldBox {
    bundles: BTreeSet<u64>,
    digest: Sum,
}

#[derive(Debug, Default)]
struct Word {
    bundles: Vec<BundleId>,
    refused: Vec<(BundleId, Reason)>,
    absent: Vec<BundleId>,
}

/// Why a bundle is not held any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gone {
    Released,
    Withdrawn,
    HandedOver,
}

/// Bundles that were let go of, the latest ones.
#[derive(Debug, Default)]
struct Tombstones {
    set: BTreeSet<BundleId>,
    order: VecDeque<BundleId>,
}

impl Custody {
    /// Goes on where the disk ends.
    pub(crate) fn new(me: PeerId, config: &Config, held: Vec<HeldIndex>, receipts: Vec<Signed<Receipt>>, now: Now) -> Self {
        let mut custody = Custody {
            me,
            config: config.clone(),
            held: BTreeMap::new(),
            by_id: BTreeMap::new(),
            boxes: BTreeMap::new(),
            bytes: 0,
            by_depositor: BTreeMap::new(),
            by_recipient: BTreeMap::new(),
            receipts: BTreeMap::new(),
            tombstones: Tombstones::default(),
            next_no: 1,
            compare_at: now.mono + config.custody_settle,
            offer_at: now.mono + config.offer_interval,
            again: BTreeMap::new(),
            words: BTreeMap::new(),
            paged: BTreeMap::new(),
            fetched: BTreeMap::new(),
            taken: BTreeMap::new(),
            gone: BTreeMap::new(),
        };
        for index in held {
            custody.insert(&index);
        }
        for signed in receipts {
            // Rows that do not decode are left out: their signer sends them again.
            if let Ok(receipt) = signed.trusted() {
                custody.receipts.insert(Slot::of(&receipt), (receipt.number, signed));
            }
        }
        custody
    }

    // -- taking

    /// Parcels to hold. `closed`: nothing new is taken, and why. Returns the bundles that were taken or held already.
    pub(crate) fn on_deposit(&mut self, from: PeerId, parcels: Vec<Deposited>, closed: Option<Reason>, now: Now, out: &mut Out) {
        for parcel in parcels {
            let (id, mailbox) = (parcel.id, parcel.mailbox);
            let refused = if self.by_id.contains_key(&id) {
                None
            } else if self.tombstones.set.contains(&id) {
                Some(Reason::Released)
            } else {
                closed.or_else(|| self.quota(mailbox, parcel.size))
            };
            if let Some(reason) = refused {
                self.word(from).refused.push((id, reason));
                continue;
            }
            if !self.by_id.contains_key(&id) {
                self.hold(parcel, now, out);
                // Its author may be here, and learns who has taken over.
                if from != mailbox.depositor {
                    self.word(mailbox.depositor).bundles.push(id);
                }
            }
            self.word(from).bundles.push(id);
        }
    }

    /// A parcel is not taken, whatever room there is.
    pub(crate) fn refuse(&mut self, from: PeerId, bundle: BundleId, why: Reason) {
        self.word(from).refused.push((bundle, why));
    }

    /// Somebody wants to know what is here.
    pub(crate) fn on_ask_held(&mut self, from: PeerId, bundles: Vec<BundleId>) {
        for id in bundles {
            let here = self.by_id.contains_key(&id);
            let word = self.word(from);
            if here { word.bundles.push(id) } else { word.absent.push(id) }
        }
    }

    // -- letting go

    /// A recipient has committed all that is in these bundles.
    ///
    /// # Errors
    /// Some of them are not for who signed; those are kept.
    pub(crate) fn on_release(&mut self, release: &Release, out: &mut Out) -> Result<(), Cause> {
        let mut verdict = Ok(());
        for id in &release.bundles {
            match self.by_id.get(id).map(|no| (*no, self.held[no].mailbox.recipient)) {
                Some((no, recipient)) if recipient == release.recipient => self.let_go(no, Gone::Released, out),
                Some(_) => verdict = Err(Cause::Impostor),
                None => {}
            }
        }
        verdict
    }

    /// An author does not want these delivered any more: each with the hash of the secret given. It is told what is not held
    /// any more, whatever it was told before: its question may have overtaken this.
    ///
    /// # Errors
    /// Some secrets do not fit; those bundles are kept.
    pub(crate) fn on_withdraw(&mut self, from: PeerId, bundles: &[(BundleId, [u8; 32])], out: &mut Out) -> Result<(), Cause> {
        let mut verdict = Ok(());
        for (id, hash) in bundles {
            match self.by_id.get(id).map(|no| (*no, self.held[no].withdrawal)) {
                Some((no, withdrawal)) if withdrawal == *hash => {
                    self.let_go(no, Gone::Withdrawn, out);
                    let word = self.word(from);
                    word.bundles.retain(|told| told != id);
                    word.absent.push(*id);
                }
                Some(_) => verdict = Err(Cause::Impostor),
                None => {}
            }
        }
        verdict
    }

    /// Another custodian tells what it has flushed.
    pub(crate) fn on_held(&mut self, from: PeerId, epoch: Epoch, bundles: &[BundleId], now: Now) {
        for id in bundles {
            let Some(held) = self.by_id.get(id).and_then(|no| self.held.get_mut(no)) else { continue };
            let since = match held.elsewhere.get(&from) {
                Some((known, since, _)) if *known == epoch => *since,
                _ => now.mono,
            };
            held.elsewhere.insert(from, (epoch, since, now.mono));
        }
    }

    /// Another custodian does not have these, or not any more.
    pub(crate) fn on_absent(&mut self, from: PeerId, bundles: &[BundleId]) {
        for id in bundles {
            if let Some(held) = self.by_id.get(id).and_then(|no| self.held.get_mut(no)) {
                held.elsewhere.remove(&from);
            }
        }
    }

    // -- receipts for absent authors

    /// A receipt is to be kept for its author.
    ///
    /// # Errors
    /// It is this node's own, or there are too many of its signer.
    pub(crate) fn on_keep_receipt(&mut self, from: PeerId, heard: Heard<Receipt>, out: &mut Out) -> Result<(), Cause> {
        let (slot, number) = (Slot::of(&heard.value), heard.value.number);
        if slot.recipient == self.me || slot.author == self.me || slot.author == slot.recipient {
            return Err(Cause::Unexpected);
        }
        if self.receipts.get(&slot).is_none_or(|(kept, _)| *kept < number) {
            let of_signer = self.receipts.keys().filter(|other| other.recipient == slot.recipient && **other != slot).count();
            if of_signer >= self.config.custody_receipts {
                return Err(Cause::Full);
            }
            out.store(Change::KeepReceipt { slot, receipt: heard.signed.clone() });
            self.receipts.insert(slot, (number, heard.signed));
        }
        out.send(from, Say::ReceiptKept { slot, number });
        Ok(())
    }

    /// An author has taken in a receipt.
    ///
    /// # Errors
    /// It is not that author.
    pub(crate) fn on_receipt_taken(&mut self, from: PeerId, slot: Slot, number: u64, out: &mut Out) -> Result<(), Cause> {
        if slot.author != from {
            return Err(Cause::Impostor);
        }
        if self.receipts.get(&slot).is_some_and(|(kept, _)| *kept <= number) {
            self.receipts.remove(&slot);
            out.store(Change::DropReceipt { slot });
        }
        Ok(())
    }

    // -- offering

    /// A peer can be reached: it gets the receipts that wait for it, and learns what is held for it if it `welcomes` letters.
    pub(crate) fn on_reachable(&self, peer: PeerId, welcomes: bool, out: &mut Out) {
        self.pass_receipts(peer, out);
        if welcomes {
            let offers: Vec<Offer> =
                self.boxes.keys().filter(|mailbox| mailbox.recipient == peer).map(|mailbox| self.offer(mailbox)).collect();
            say_offers(peer, offers, false, out);
        }
    }

    /// What was sent to it may be lost. A peer that died and is back before anyone saw that it was gone is not met again.
    pub(crate) fn on_send_failed(&mut self, peer: PeerId, now: Now) {
        if self.receipts.keys().any(|slot| slot.author == peer) {
            self.again.entry(peer).or_insert(now.mono + self.config.refused_wait);
        }
    }

    fn pass_receipts(&self, author: PeerId, out: &mut Out) {
        for (_, (_, signed)) in self.receipts.iter().filter(|(slot, _)| slot.author == author) {
            out.send(author, Say::PassReceipt(signed.clone()));
        }
    }

    /// Whether another custodian's offer tells of something that is not here.
    pub(crate) fn differs(&self, offer: &Offer) -> bool {
        offer.count > 0 && self.boxes.get(&offer.mailbox).is_none_or(|held| held.digest != offer.digest)
    }

    /// Whether a bundle is here, or was let go of.
    pub(crate) fn knows(&self, bundle: &BundleId) -> bool {
        self.by_id.contains_key(bundle) || self.tombstones.set.contains(bundle)
    }

    /// A page of a list; each peer gets some in a batch.
    ///
    /// # Errors
    /// It has had its share.
    pub(crate) fn on_ask_mail(&mut self, from: PeerId, mailbox: Mailbox, after: u64, out: &mut Out) -> Result<(), Cause> {
        let pages = self.paged.entry(from).or_default();
        if *pages >= PAGES {
            return Err(Cause::Full);
        }
        *pages += 1;
        let bundles = self.boxes.get(&mailbox).map(|held| &held.bundles);
        let mut rest = bundles.into_iter().flat_map(|bundles| bundles.range(after.saturating_add(1)..)).peekable();
        let page: Vec<Listed> = rest
            .by_ref()
            .take(limits::BUNDLE_IDS)
            .map(|no| Listed { no: *no, bundle: self.held[no].id, size: self.held[no].size })
            .collect();
        let more = rest.peek().is_some();
        out.send(from, Say::Mail { mailbox, bundles: page, more });
        Ok(())
    }

    /// Sends what is asked for, up to twice the window that askers keep to: the rest is asked for again.
    pub(crate) fn on_fetch(&mut self, from: PeerId, bundles: &[BundleId], out: &mut Out) {
        let fetched = self.fetched.entry(from).or_default();
        let most = (self.config.fetch_window * 2).min((self.config.fetch_window * WINDOWS).saturating_sub(*fetched));
        let mut room = most;
        for own in [true, false] {
            let (mut frame, mut size) = (Vec::new(), 0);
            for no in bundles.iter().filter_map(|id| self.by_id.get(id)) {
                let held = &self.held[no];
                if (held.mailbox.recipient == from) != own || held.size > room {
                    continue;
                }
                if !frame.is_empty() && (size + held.size > FRAME_TARGET || frame.len() == limits::PAGE) {
                    out.effects.push(Effect::SendHeld { to: from, held: std::mem::take(&mut frame), deposit: !own });
                    size = 0;
                }
                size += held.size;
                room -= held.size;
                frame.push(*no);
            }
            if !frame.is_empty() {
                out.effects.push(Effect::SendHeld { to: from, held: frame, deposit: !own });
            }
        }
        *self.fetched.entry(from).or_default() += most - room;
    }

    // -- time

    /// Somebody came or went: what custodians hold is compared a little later.
    pub(crate) fn on_membership(&mut self, now: Now) {
        self.compare_at = self.compare_at.min(now.mono + self.config.custody_settle);
    }

    /// Offers again what was not fetched, compares with the other custodians of each mailbox, and lets go of what closer ones have held for long.
    /// `custodians` tells who they are now, this node among them if it is one; `here` who takes letters now, `linked` who can be reached.
    pub(crate) fn tick(
        &mut self,
        custodians: impl Fn(&Mailbox) -> Vec<Candidate>,
        machine: MachineId,
        here: impl Fn(&PeerId) -> bool,
        linked: impl Fn(&PeerId) -> bool,
        now: Now,
        out: &mut Out,
    ) {
        let again: Vec<PeerId> = self.again.extract_if(.., |_, at| *at <= now.mono).map(|(author, _)| author).collect();
        again.into_iter().filter(|author| linked(author)).for_each(|author| self.pass_receipts(author, out));
        if self.offer_at <= now.mono {
            self.offer_at = now.mono + self.config.offer_interval;
            let mut offers: BTreeMap<PeerId, Vec<Offer>> = BTreeMap::new();
            for mailbox in self.boxes.keys().filter(|mailbox| here(&mailbox.recipient)) {
                offers.entry(mailbox.recipient).or_default().push(self.offer(mailbox));
            }
            offers.into_iter().for_each(|(peer, offers)| say_offers(peer, offers, false, out));
        }
        if now.mono < self.compare_at {
            return;
        }
        self.compare_at = now.mono + self.config.custody_interval;
        let mut offers: BTreeMap<PeerId, Vec<Offer>> = BTreeMap::new();
        let mut questions: BTreeMap<PeerId, Vec<BundleId>> = BTreeMap::new();
        let mut done = Vec::new();
        for (mailbox, held) in &self.boxes {
            let offer = self.offer(mailbox);
            let closest = custodians(mailbox);
            for other in closest.iter().filter(|other| other.peer != self.me) {
                offers.entry(other.peer).or_default().push(offer);
            }
            if closest.iter().any(|other| other.peer == self.me) {
                continue;
            }
            for no in &held.bundles {
                if self.may_let_go(*no, &closest, machine, now) {
                    done.push(*no);
                } else {
                    closest.iter().for_each(|other| questions.entry(other.peer).or_default().push(self.held[no].id));
                }
            }
        }
        for no in done {
            self.let_go(no, Gone::HandedOver, out);
        }
        for (peer, offers) in offers {
            say_offers(peer, offers, false, out);
        }
        for (slot, (_, signed)) in self.receipts.iter().filter(|(slot, _)| linked(&slot.author)) {
            out.send(slot.author, Say::PassReceipt(signed.clone()));
        }
        for (peer, bundles) in questions {
            bundles.chunks(limits::BUNDLE_IDS).for_each(|part| out.send(peer, Say::AskHeld(part.to_vec())));
        }
    }

    /// This node is about to stop: the others hear of all that it holds, and say what they hold too. `heirs` tells who the
    /// custodians are without it.
    pub(crate) fn hand_over(&self, heirs: impl Fn(&Mailbox) -> Vec<Candidate>, out: &mut Out) {
        for (mailbox, held) in &self.boxes {
            let bundles: Vec<BundleId> = held.bundles.iter().map(|no| self.held[no].id).collect();
            for heir in heirs(mailbox) {
                say_offers(heir.peer, vec![self.offer(mailbox)], true, out);
                bundles.chunks(limits::BUNDLE_IDS).for_each(|part| out.send(heir.peer, Say::AskHeld(part.to_vec())));
            }
        }
    }

    /// Whether every bundle is held by all of its heirs.
    pub(crate) fn is_handed_over(&self, heirs: impl Fn(&Mailbox) -> Vec<Candidate>) -> bool {
        self.boxes.iter().all(|(mailbox, held)| {
            let heirs = heirs(mailbox);
            held.bundles.iter().all(|no| heirs.iter().all(|heir| self.held[no].elsewhere.contains_key(&heir.peer)))
        })
    }

    /// The closest have just answered: what they have held for long enough is let go of.
    pub(crate) fn on_confirmed(
        &mut self,
        bundles: &[BundleId],
        custodians: impl Fn(&Mailbox) -> Vec<Candidate>,
        machine: MachineId,
        now: Now,
        out: &mut Out,
    ) {
        for id in bundles {
            let Some(no) = self.by_id.get(id).copied() else { continue };
            let closest = custodians(&self.held[&no].mailbox);
            let mine = closest.iter().any(|other| other.peer == self.me);
            if !mine && self.may_let_go(no, &closest, machine, now) {
                self.let_go(no, Gone::HandedOver, out);
            }
        }
    }

    /// When [`Custody::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let offers = (!self.held.is_empty()).then_some(self.offer_at);
        let compares = (!self.held.is_empty() || !self.receipts.is_empty()).then_some(self.compare_at);
        offers.into_iter().chain(compares).chain(self.again.values().copied()).min()
    }

    /// Ends a batch: tells what was flushed with it.
    pub(crate) fn close(&mut self, epoch: Epoch, linked: impl Fn(&PeerId) -> bool, out: &mut Out) {
        self.paged.clear();
        self.fetched.clear();
        for (mailbox, (bundles, bytes)) in std::mem::take(&mut self.taken) {
            out.note(What::MailTaken { recipient: mailbox.recipient, depositor: mailbox.depositor, bundles, bytes });
        }
        for ((mailbox, why), bundles) in std::mem::take(&mut self.gone) {
            let (recipient, depositor) = (mailbox.recipient, mailbox.depositor);
            out.note(match why {
                Gone::Released => What::MailReleased { recipient, depositor, bundles },
                Gone::Withdrawn => What::MailWithdrawn { recipient, depositor, bundles },
                Gone::HandedOver => What::MailHandedOver { recipient, depositor, bundles },
            });
        }
        for (peer, word) in std::mem::take(&mut self.words) {
            if linked(&peer) {
                word.say(peer, epoch, out);
            }
        }
    }

    // -- questions

    /// Bundles held.
    pub(crate) fn bundles(&self) -> u64 {
        self.held.len() as u64
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    // -- private

    fn word(&mut self, to: PeerId) -> &mut Word {
        self.words.entry(to).or_default()
    }

    fn quota(&self, mailbox: Mailbox, size: u64) -> Option<Reason> {
        let used = |map: &BTreeMap<PeerId, u64>, peer| map.get(peer).copied().unwrap_or(0) + size;
        if self.held.len() as u64 >= self.config.custody_bundles || self.bytes + size > self.config.custody_bytes {
            Some(Reason::Full)
        } else if used(&self.by_depositor, &mailbox.depositor) > self.config.custody_bytes_depositor {
            Some(Reason::DepositorFull)
        } else if used(&self.by_recipient, &mailbox.recipient) > self.config.custody_bytes_recipient {
            Some(Reason::RecipientFull)
        } else {
            None
        }
    }

    fn hold(&mut self, parcel: Deposited, now: Now, out: &mut Out) {
        let Deposited { id, mailbox, size, withdrawal, parcel } = parcel;
        let index = HeldIndex { no: self.next_no, id, mailbox, size, withdrawal: withdrawal.into(), received: now.wall };
        self.insert(&index);
        let (bundles, bytes) = self.taken.entry(mailbox).or_default();
        *bundles += 1;
        *bytes += size;
        out.store(Change::Hold(Box::new(HeldBundle { index, parcel })));
    }

    fn insert(&mut self, index: &HeldIndex) {
        let HeldIndex { no, id, mailbox, size, .. } = *index;
        self.next_no = self.next_no.max(no + 1);
        self.by_id.insert(id, no);
        self.held.insert(no, Held { id, mailbox, size, withdrawal: index.withdrawal.into_array(), elsewhere: BTreeMap::new() });
        let held = self.boxes.entry(mailbox).or_default();
        held.bundles.insert(no);
        held.digest = held.digest.plus(digest(&id));
        self.bytes += size;
        *self.by_depositor.entry(mailbox.depositor).or_default() += size;
        *self.by_recipient.entry(mailbox.recipient).or_default() += size;
    }

    fn let_go(&mut self, no: u64, why: Gone, out: &mut Out) {
        let Some(Held { id, mailbox, size, .. }) = self.held.remove(&no) else { return };
        self.by_id.remove(&id);
        if let Some(held) = self.boxes.get_mut(&mailbox) {
            held.bundles.remove(&no);
            held.digest = held.digest.minus(digest(&id));
            if held.bundles.is_empty() {
                self.boxes.remove(&mailbox);
            }
        }
        self.bytes -= size;
        take_from(&mut self.by_depositor, mailbox.depositor, size);
        take_from(&mut self.by_recipient, mailbox.recipient, size);
        // What closer ones hold may come back to us when they leave.
        if why != Gone::HandedOver {
            self.tombstones.insert(id, self.config.tombstones);
        }
        *self.gone.entry((mailbox, why)).or_default() += 1;
        out.store(Change::Unhold { no });
    }

    /// Whether closer peers on enough machines other than ours have held a bundle for long, and say so now.
    fn may_let_go(&self, no: u64, closest: &[Candidate], machine: MachineId, now: Now) -> bool {
        let held = &self.held[&no];
        let sure = closest.iter().filter(|other| {
            held.elsewhere
                .get(&other.peer)
                .is_some_and(|(_, since, last)| *since + self.config.handed_over_after <= now.mono && *last + FRESH >= now.mono)
        });
        machines(&[machine], sure.map(|other| other.machine)) >= self.config.custodians
    }

    fn offer(&self, mailbox: &Mailbox) -> Offer {
        let held = &self.boxes[mailbox];
        Offer { mailbox: *mailbox, count: held.bundles.len() as u64, digest: held.digest }
    }
}

impl Word {
    /// In messages that fit their limit.
    fn say(self, to: PeerId, epoch: Epoch, out: &mut Out) {
        let Word { mut bundles, mut refused, mut absent } = self;
        while !(bundles.is_empty() && refused.is_empty() && absent.is_empty()) {
            let mut room = limits::BUNDLE_IDS;
            let bundles = part(&mut bundles, &mut room);
            let refused = part(&mut refused, &mut room);
            let absent = part(&mut absent, &mut room);
            out.send(to, Say::Held { epoch, bundles, refused, absent });
        }
    }
}

impl Tombstones {
    fn insert(&mut self, id: BundleId, most: usize) {
        if self.set.insert(id) {
            self.order.push_back(id);
        }
        while self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }
}

fn part<T>(list: &mut Vec<T>, room: &mut usize) -> Vec<T> {
    let rest = list.split_off((*room).min(list.len()));
    let part = std::mem::replace(list, rest);
    *room -= part.len();
    part
}

fn take_from(map: &mut BTreeMap<PeerId, u64>, peer: PeerId, size: u64) {
    if let Some(used) = map.get_mut(&peer) {
        *used -= size;
        if *used == 0 {
            map.remove(&peer);
        }
    }
}

fn say_offers(peer: PeerId, offers: Vec<Offer>, leaving: bool, out: &mut Out) {
    offers.chunks(limits::PAGE).for_each(|part| out.send(peer, Say::Offers { offers: part.to_vec(), leaving }));
}
