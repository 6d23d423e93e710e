//! What those may say who hold mail for others, ask that theirs be held, or fetch it: lies, swaps, floods. Nothing may be lost
//! while an honest custodian remains, nothing be called delivered that is not, nothing grow without bound.

mod common;

use std::time::Duration;

use protocol::bundle::{Bundle, Draft};
use protocol::config::limits;
use protocol::edge::{Cause, Edge};
use protocol::effect::Say;
use protocol::id::{BundleId, Epoch, LetterId};
use protocol::mail::{Listed, Mailbox, Offer, Parcel, Reason, Release, Slip, Slot};
use protocol::message::{Listing, Message};
use protocol::order::OrderKey;
use protocol::receipt::{Receipt, Sum, digest};
use protocol::sign::Signed;
use protocol::work::{UnitsOf, Work};
use protocol::{Config, PeerId, Ranges};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use common::{Victim, contact, edge, letter, secrets};

/// Who is away.
const AWAY: u8 = 9;

fn id(n: u8) -> PeerId {
    secrets(n).id()
}

fn junk(n: u64) -> BundleId {
    BundleId::new(Sha256::digest(n.to_be_bytes()).into())
}

/// A bundle from `author` to `to` with one letter of this number.
fn bundle(author: u8, to: u8, seq: u64) -> Bundle {
    let mut seed = [author; 32];
    seed[..8].copy_from_slice(&seq.to_be_bytes());
    let draft = Draft {
        number: 1,
        to: contact(to),
        contact: contact(author),
        epoch: Epoch(author.into()),
        floor: 1,
        envelopes: vec![letter(id(author), id(to), seq)],
        withdrawal: secret(seq),
        seed,
    };
    edge(author).seal(&draft).expect("a good key")
}

fn secret(seq: u64) -> [u8; 32] {
    Sha256::digest(seq.to_le_bytes()).into()
}

fn parcel(author: u8, to: u8, seq: u64) -> Parcel {
    edge(author).parcel(bundle(author, to, seq))
}

/// `peer-2`, who has met these and knows of the one who is away, for longer than it takes to believe so.
fn someone(config: Config, neighbours: &[u8]) -> Victim {
    let mut victim = Victim::new(2, config);
    neighbours.iter().for_each(|n| victim.meets(*n));
    victim.later(Duration::from_millis(500));
    victim.tick();
    for n in neighbours {
        let listing = Listing { contact: edge(AWAY).sign(&contact(AWAY)), first_seen_ago: 9, last_seen_ago: Some(9) };
        victim.hears(id(*n), &Message::Peers { peers: vec![listing], more: false }.to_frame());
    }
    assert!(victim.peer.status().peers.iter().any(|peer| peer.id == id(AWAY)), "a page of peers was asked for");
    victim.later(Duration::from_millis(1600));
    victim.tick();
    victim.sent.clear();
    victim
}

/// What an outsider may change without harm is left out of what is compared.
fn unchanged(victim: &mut Victim, from: u8, message: &Message, cause: Cause) {
    let before = (victim.held.len(), victim.receipts.clone(), victim.holders.clone(), victim.delivered, victim.taken.len());
    let refused = victim.refused(cause);
    victim.hears(id(from), &message.to_frame());
    let after = (victim.held.len(), victim.receipts.clone(), victim.holders.clone(), victim.delivered, victim.taken.len());
    assert_eq!(before, after);
    assert_eq!(victim.refused(cause), refused + 1, "refused and counted as {cause:?}: {:?}", victim.peer.status().refused);
}

fn held_word(bundles: Vec<BundleId>, refused: Vec<(BundleId, Reason)>, absent: Vec<BundleId>, epoch: u64) -> Message {
    Message::Held { epoch: Epoch(epoch), bundles, refused, absent }
}

// -- an author among custodians that lie

/// An author with three letters for who is away, and those whom it asked to hold them.
fn author() -> Victim {
    let mut author = someone(Config::default(), &[3, 4, 5, 6]);
    author.writes(AWAY, 3);
    author.later(Duration::from_millis(1));
    author.tick();
    assert_eq!((author.deposited.len(), author.bundles.len()), (3, 1), "three are asked to hold one bundle");
    author
}

#[test]
fn words_about_what_was_never_deposited_change_nothing() {
    let mut author = author();
    let strange: Vec<BundleId> = (0..1000).map(junk).collect();
    author.hears(id(3), &held_word(strange.clone(), Vec::new(), Vec::new(), 3).to_frame());
    author.hears(
        id(3),
        &held_word(Vec::new(), strange.iter().map(|id| (*id, Reason::Released)).take(900).collect(), Vec::new(), 3).to_frame(),
    );
    author.hears(id(3), &held_word(Vec::new(), Vec::new(), strange, 3).to_frame());
    assert!(author.holders.is_empty() && author.delivered == 0);
    let mine = author.bundles.values().next().expect("one").id();
    // Of a memory that it does not have; from one who was never met; more than fit a frame.
    unchanged(&mut author, 3, &held_word(vec![mine], Vec::new(), Vec::new(), 77), Cause::Unexpected);
    unchanged(&mut author, 7, &held_word(vec![mine], Vec::new(), Vec::new(), 7), Cause::Unexpected);
    unchanged(&mut author, 3, &held_word(vec![mine; limits::BUNDLE_IDS + 1], Vec::new(), Vec::new(), 3), Cause::Malformed);
    assert_eq!(author.waiting(AWAY), 3);
}

#[test]
fn a_custodian_that_claims_delivery_convinces_nobody_and_others_hold_the_letters() {
    let mut author = author();
    let mine = author.bundles.values().next().expect("one").id();
    let liar = author.deposited[0].0;
    for _ in 0..50 {
        author.hears(liar, &held_word(Vec::new(), vec![(mine, Reason::Released)], Vec::new(), 0).to_frame());
    }
    let number = |n: u8| if id(n) == liar { Some(n) } else { None };
    let liar = (3..7).find_map(number).expect("one of them");
    author.hears(id(liar), &held_word(Vec::new(), vec![(mine, Reason::Released)], Vec::new(), liar.into()).to_frame());
    assert_eq!((author.delivered, author.waiting(AWAY)), (0, 3));
    // A receipt that the liar signs in the name of the recipient, or as its own, or under another swarm.
    let stream_epoch = author.peer.status().epoch;
    let ids: Vec<LetterId> = vec![LetterId::new([0; 16]); 3];
    let sum = (1..).zip(&ids).fold(Sum::default(), |sum, (number, id)| sum.plus(digest(number, *id)));
    let receipt = |recipient: PeerId| Receipt {
        recipient,
        recipient_epoch: Epoch(1),
        number: 1,
        author: id(2),
        epoch: stream_epoch,
        floor: 1,
        taken: Ranges::of(1, 3),
        digest: sum,
        read: Ranges::of(1, 3),
    };
    unchanged(&mut author, liar, &Message::Receipt(edge(liar).sign(&receipt(id(AWAY)))), Cause::Signature);
    unchanged(&mut author, liar, &Message::Receipt(edge(liar).sign(&receipt(id(liar)))), Cause::Unexpected);
    let other = Edge::new(secrets(AWAY), "other".to_owned());
    unchanged(&mut author, liar, &Message::Receipt(other.sign(&receipt(id(AWAY)))), Cause::Signature);
    // Receipts that the recipient signed for another, or for letters that are not these.
    let foreign = Receipt { author: id(liar), ..receipt(id(AWAY)) };
    unchanged(&mut author, liar, &Message::Receipt(edge(AWAY).sign(&foreign)), Cause::NotForMe);
    author.hears(id(liar), &Message::Receipt(edge(AWAY).sign(&receipt(id(AWAY)))).to_frame());
    assert_eq!((author.delivered, author.waiting(AWAY)), (0, 3), "the digest does not fit");
    // What was not asked of it, a custodian cannot answer in the recipient's place.
    unchanged(&mut author, liar, &Message::Ids { epoch: stream_epoch, ids: vec![(1, LetterId::new([0; 16]))] }, Cause::Unexpected);
    // The honest ones are counted; the liar is not.
    for n in (3..7).filter(|n| *n != liar && author.deposited.iter().any(|(peer, _)| *peer == id(*n))).collect::<Vec<u8>>() {
        author.hears(id(n), &held_word(vec![mine], Vec::new(), Vec::new(), n.into()).to_frame());
    }
    let holders = author.holders.values().next().expect("holders");
    assert!(holders.len() >= 2 && holders.iter().all(|holder| holder.peer != id(liar)));
}

#[test]
fn a_custodian_that_says_now_this_now_that_moves_nothing_but_its_own_row() {
    let mut author = author();
    let mine = author.bundles.values().next().expect("one").id();
    let asked: Vec<u8> = (3..7).filter(|n| author.deposited.iter().any(|(peer, _)| *peer == id(*n))).collect();
    author.hears(id(asked[1]), &held_word(vec![mine], Vec::new(), Vec::new(), asked[1].into()).to_frame());
    author.sent.clear();
    author.deposited.clear();
    for _ in 0..500 {
        author.hears(id(asked[0]), &held_word(vec![mine], Vec::new(), Vec::new(), asked[0].into()).to_frame());
        author.hears(id(asked[0]), &held_word(Vec::new(), Vec::new(), vec![mine], asked[0].into()).to_frame());
        author.hears(id(asked[0]), &held_word(Vec::new(), vec![(mine, Reason::Full)], Vec::new(), asked[0].into()).to_frame());
    }
    let holders = author.holders.values().next().expect("holders");
    assert!(holders.iter().any(|holder| holder.peer == id(asked[1])));
    println!("{} deposits, {} words", author.deposited.len(), author.sent.len());
    assert!(author.deposited.len() <= 501, "{} deposits for 1500 words", author.deposited.len());
    assert_eq!((author.delivered, author.waiting(AWAY)), (0, 3));
}

// -- a custodian among depositors that cheat

fn custodian() -> Victim {
    let mut custodian = someone(Config::default(), &[1, 3, 4]);
    custodian.hears(id(1), &Message::Deposit(vec![parcel(1, AWAY, 1), parcel(1, AWAY, 2)]).to_frame());
    assert_eq!((custodian.held.len(), custodian.peer.status().held_bundles), (2, 2));
    custodian
}

#[test]
fn parcels_that_are_not_what_their_slip_says_are_not_held() {
    let mut custodian = custodian();
    let good = parcel(1, AWAY, 3);
    let with = |n: u8, slip: Slip| Message::Deposit(vec![Parcel { slip: edge(n).sign(&slip), bundle: good.bundle.clone() }]);
    let size = good.bundle.size() as u64;
    let slip = Slip { depositor: id(1), bundle: good.bundle.id(), size };
    unchanged(&mut custodian, 3, &with(3, slip.clone()), Cause::Signature);
    unchanged(&mut custodian, 1, &with(1, Slip { bundle: junk(1), ..slip.clone() }), Cause::Inconsistent);
    for wrong in [0, 1, size - 1, size + 1, u64::MAX] {
        unchanged(&mut custodian, 1, &with(1, Slip { size: wrong, ..slip.clone() }), Cause::Inconsistent);
    }
    let elsewhere = Edge::new(secrets(1), "other".to_owned()).sign(&slip);
    unchanged(&mut custodian, 1, &Message::Deposit(vec![Parcel { slip: elsewhere, bundle: good.bundle.clone() }]), Cause::Signature);
    // For its own depositor, for the custodian itself, and with a header that is none.
    unchanged(&mut custodian, AWAY, &Message::Deposit(vec![edge(AWAY).parcel(good.bundle.clone())]), Cause::Inconsistent);
    unchanged(&mut custodian, 1, &Message::Deposit(vec![parcel(1, 2, 4)]), Cause::Inconsistent);
    let headless = Bundle { header: ByteBuf::from(vec![7; 80]), ..good.bundle.clone() };
    unchanged(&mut custodian, 1, &Message::Deposit(vec![edge(1).parcel(headless)]), Cause::Malformed);
    // Larger than a bundle can be.
    let large = Bundle { sealed: ByteBuf::from(vec![7; limits::SEALED_BYTES]), ..good.bundle.clone() };
    unchanged(&mut custodian, 1, &Message::Deposit(vec![edge(1).parcel(large)]), Cause::Inconsistent);
    // One bad parcel among good ones spoils the frame, and nothing of it is kept.
    let bad = Parcel { slip: edge(3).sign(&slip), bundle: good.bundle.clone() };
    unchanged(&mut custodian, 1, &Message::Deposit(vec![parcel(1, AWAY, 5), bad]), Cause::Signature);
    // And the good one is held, whoever brings it and however often.
    for n in [3, 3, 1, 4] {
        custodian.hears(id(n), &Message::Deposit(vec![good.clone()]).to_frame());
    }
    assert_eq!(custodian.held.len(), 3);
}

#[test]
fn only_the_recipient_releases_and_only_the_author_withdraws() {
    let mut custodian = custodian();
    let (one, two) = (bundle(1, AWAY, 1), bundle(1, AWAY, 2));
    let release = |recipient: u8| Release { recipient: id(recipient), bundles: vec![one.id(), two.id()] };
    unchanged(&mut custodian, 3, &Message::Release(edge(3).sign(&release(AWAY))), Cause::Signature);
    unchanged(&mut custodian, 3, &Message::Release(edge(3).sign(&release(3))), Cause::Impostor);
    unchanged(&mut custodian, 1, &Message::Release(edge(1).sign(&release(1))), Cause::Impostor);
    let elsewhere: Signed<Release> = Edge::new(secrets(AWAY), "other".to_owned()).sign(&release(AWAY));
    unchanged(&mut custodian, AWAY, &Message::Release(elsewhere), Cause::Signature);
    let long = Release { recipient: id(AWAY), bundles: vec![one.id(); limits::BUNDLE_IDS + 1] };
    unchanged(&mut custodian, AWAY, &Message::Release(edge(AWAY).sign(&long)), Cause::Malformed);
    unchanged(&mut custodian, 1, &Message::Withdraw(vec![(one.id(), serde_bytes::ByteArray::new(secret(2)))]), Cause::Impostor);
    unchanged(&mut custodian, 3, &Message::Withdraw(vec![(one.id(), serde_bytes::ByteArray::new([0; 32]))]), Cause::Impostor);
    // The right ones, whoever brings them: and what was released is not held again.
    custodian.hears(id(3), &Message::Withdraw(vec![(two.id(), serde_bytes::ByteArray::new(secret(2)))]).to_frame());
    assert_eq!(custodian.held.len(), 1);
    custodian.hears(id(4), &Message::Release(edge(AWAY).sign(&release(AWAY))).to_frame());
    assert_eq!(custodian.held.len(), 0);
    custodian.hears(id(1), &Message::Deposit(vec![parcel(1, AWAY, 1), parcel(1, AWAY, 2)]).to_frame());
    assert_eq!((custodian.held.len(), custodian.peer.status().held_bytes), (0, 0));
}

#[test]
fn only_an_orderer_says_which_of_its_units_have_ended() {
    let mut leader = custodian();
    let order = OrderKey { orderer: id(1), epoch: Epoch(1), number: 1 };
    let ended = Work::UnitsEnded(vec![UnitsOf { order, units: Ranges::of(1, 5) }]);
    unchanged(&mut leader, 3, &Message::Work(ended), Cause::Impostor);
}

#[test]
fn receipts_are_kept_only_for_others_and_only_the_latest() {
    let mut custodian = custodian();
    let receipt = |recipient: u8, author: u8, epoch: u64, number: u64| Receipt {
        recipient: id(recipient),
        recipient_epoch: Epoch(epoch),
        number,
        author: id(author),
        epoch: Epoch(1),
        floor: 1,
        taken: Ranges::of(1, 3),
        digest: Sum::default(),
        read: Ranges::default(),
    };
    let keep = |n: u8, receipt: &Receipt| Message::KeepReceipt(edge(n).sign(receipt));
    unchanged(&mut custodian, 3, &keep(3, &receipt(AWAY, 1, 1, 5)), Cause::Signature);
    unchanged(&mut custodian, 3, &keep(3, &receipt(3, 3, 1, 5)), Cause::Unexpected);
    unchanged(&mut custodian, 3, &keep(3, &receipt(3, 2, 1, 5)), Cause::Unexpected);
    unchanged(&mut custodian, 3, &keep(3, &Receipt { floor: 0, ..receipt(3, 8, 1, 5) }), Cause::Inconsistent);
    custodian.hears(id(3), &keep(3, &receipt(3, 8, 1, 5)).to_frame());
    // Another may bring it; an older one takes no place.
    custodian.hears(id(4), &keep(3, &receipt(3, 8, 1, 4)).to_frame());
    let slot = Slot::of(&receipt(3, 8, 1, 5));
    assert_eq!(custodian.receipts.get(&slot), Some(&5));
    // Only its author takes it away, and not before the latest.
    unchanged(&mut custodian, 3, &Message::ReceiptTaken { slot, number: u64::MAX }, Cause::Impostor);
    custodian.hears(id(8), &Message::ReceiptTaken { slot, number: 4 }.to_frame());
    assert_eq!(custodian.receipts.len(), 1);
    unchanged(&mut custodian, 4, &Message::ReceiptKept { slot, number: 5 }, Cause::Unexpected);
    // One who signs under ever new memories fills its own share.
    for epoch in 0..1_500 {
        custodian.hears(id(4), &keep(4, &receipt(4, 8, epoch, 1)).to_frame());
    }
    assert_eq!(custodian.receipts.len(), 1 + 1_000);
    assert!(custodian.refused(Cause::Full) >= 500);
    custodian.hears(id(3), &keep(3, &receipt(3, 8, 1, 6)).to_frame());
    assert_eq!(custodian.receipts.get(&slot), Some(&6));
    custodian.hears(id(8), &Message::ReceiptTaken { slot, number: 6 }.to_frame());
    assert_eq!(custodian.receipts.len(), 1_000);
}

#[test]
fn a_flood_of_deposits_ends_at_its_quota_and_leaves_room_for_others() {
    let size = bundle(3, AWAY, 1).size() as u64;
    let config = Config {
        custody_bytes: size * 20,
        custody_bytes_depositor: size * 10 + 50,
        custody_bytes_recipient: size * 15,
        ..Config::default()
    };
    let mut custodian = someone(config, &[1, 3, 4]);
    for seq in 1..200 {
        custodian.hears(id(3), &Message::Deposit(vec![parcel(3, AWAY, seq)]).to_frame());
    }
    assert!((9..=10).contains(&custodian.held.len()), "{} held", custodian.held.len());
    let reasons: Vec<Reason> = custodian
        .sent
        .iter()
        .filter_map(|(_, say)| match say {
            Say::Held { refused, .. } => refused.first().map(|(_, reason)| *reason),
            _ => None,
        })
        .collect();
    assert!(reasons.len() >= 189 && reasons.iter().all(|reason| *reason == Reason::DepositorFull));
    let before = custodian.held.len();
    custodian.hears(id(1), &Message::Deposit(vec![parcel(1, AWAY, 1)]).to_frame());
    assert_eq!(custodian.held.len(), before + 1, "another's is held");
    // Of one recipient, and of all.
    for seq in 2..30 {
        custodian.hears(id(1), &Message::Deposit(vec![parcel(1, AWAY, seq)]).to_frame());
    }
    assert!(custodian.peer.status().held_bytes <= size * 15);
    for seq in 30..60 {
        custodian.hears(id(4), &Message::Deposit(vec![parcel(4, 8, seq)]).to_frame());
    }
    assert!(custodian.peer.status().held_bytes <= size * 20);
    assert!(custodian.held.values().filter(|held| held.mailbox.depositor == id(4)).count() >= 4);
}

#[test]
fn a_flood_of_questions_is_not_answered_with_more_than_was_asked() {
    let mut custodian = custodian();
    let mailbox = Mailbox { recipient: id(AWAY), depositor: id(1) };
    let held: Vec<BundleId> = custodian.held.values().map(|held| held.id).collect();
    let flood = |custodian: &mut Victim, message: &Message, times: usize| {
        custodian.sent.clear();
        custodian.fetched.clear();
        let frame = message.to_frame();
        // All in one batch.
        for _ in 0..times {
            for input in custodian.edge.admit(id(3), &frame) {
                custodian.handle(input);
            }
        }
        custodian.tick();
        let said: usize = custodian.sent.drain(..).map(|(_, say)| edge(2).utter(say).to_frame().len()).sum();
        (frame.len() * times, said)
    };
    let asked = flood(&mut custodian, &Message::AskHeld((0..1024).map(junk).collect()), 100);
    assert!(asked.1 <= asked.0 + 10_000, "{asked:?}");
    flood(&mut custodian, &Message::AskMail { mailbox, after: 0 }, 5_000);
    assert!(custodian.refused(Cause::Full) > 4_900, "pages have their share in a batch");
    flood(&mut custodian, &Message::AskMail { mailbox: Mailbox { recipient: id(3), depositor: id(3) }, after: u64::MAX }, 5_000);
    let listed = flood(&mut custodian, &Message::AskMail { mailbox, after: u64::MAX }, 5_000);
    assert!(listed.1 < 10_000, "{listed:?}");
    // What is fetched in one batch has a bound, however often and by whatever frames it is asked for.
    let again: Vec<BundleId> = held.iter().cycle().take(1024).copied().collect();
    flood(&mut custodian, &Message::Fetch(again), 200);
    let bytes: u64 = custodian.fetched.iter().map(|(_, no)| custodian.held[no].size).sum();
    assert!(bytes <= 16 * Config::default().fetch_window, "{bytes} bytes are read and sent for one batch of questions");
    assert_eq!(custodian.held.len(), 2);
}

// -- a recipient and custodians that cheat

/// A recipient to whom `peer-3` and `peer-4` offer mail of one who is away; `peer-3` was asked for its list.
fn recipient() -> (Victim, Mailbox) {
    let mut recipient = someone(Config::default(), &[3, 4]);
    let mailbox = Mailbox { recipient: id(2), depositor: id(AWAY) };
    for n in [3, 4] {
        let offer = Offer { mailbox, count: 2, digest: Sum::default() };
        recipient.hears(id(n), &Message::Offers { offers: vec![offer], leaving: false }.to_frame());
    }
    assert_eq!(asked(&mut recipient), [id(3)]);
    (recipient, mailbox)
}

/// Who was asked for a list since this was last looked at.
fn asked(victim: &mut Victim) -> Vec<PeerId> {
    let asked = victim.sent.iter().filter(|(_, say)| matches!(say, Say::AskMail { .. })).map(|(to, _)| *to).collect();
    victim.sent.retain(|(_, say)| !matches!(say, Say::AskMail { .. }));
    asked
}

fn released(victim: &Victim) -> usize {
    victim.sent.iter().filter(|(_, say)| matches!(say, Say::Release(_))).count()
}

fn list(bundles: &[&Bundle]) -> Vec<Listed> {
    (1..).zip(bundles).map(|(no, bundle)| Listed { no, bundle: bundle.id(), size: bundle.size() as u64 }).collect()
}

/// `peer-4` is honest: what it lists and sends arrives, and is released to it.
fn is_saved(victim: &mut Victim, mailbox: Mailbox) {
    assert_eq!(asked(victim), [id(4)], "the next is asked");
    let (one, two) = (bundle(AWAY, 2, 1), bundle(AWAY, 2, 2));
    victim.hears(id(4), &Message::Mail { mailbox, bundles: list(&[&one, &two]), more: false }.to_frame());
    victim.hears(id(4), &Message::Letters(vec![one, two]).to_frame());
    assert_eq!(victim.taken.len(), 2);
    let mut released: Vec<BundleId> = victim
        .sent
        .iter()
        .filter_map(|(to, say)| match say {
            Say::Release(release) if *to == id(4) => Some(release.bundles.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    released.sort();
    released.dedup();
    assert_eq!(released.len(), 2);
}

#[test]
fn a_custodian_that_says_nothing_or_sends_nothing_gives_way() {
    let (mut silent, mailbox) = recipient();
    silent.later(Duration::from_secs(4));
    silent.tick();
    is_saved(&mut silent, mailbox);
    let (mut dropping, mailbox) = recipient();
    let one = bundle(AWAY, 2, 1);
    dropping.hears(id(3), &Message::Mail { mailbox, bundles: list(&[&one]), more: false }.to_frame());
    dropping.later(Duration::from_secs(4));
    dropping.tick();
    is_saved(&mut dropping, mailbox);
}

#[test]
fn a_custodian_that_sends_something_else_gives_way_and_gets_no_release() {
    let (one, other) = (bundle(AWAY, 2, 1), bundle(AWAY, 8, 7));
    let flipped = {
        let mut sealed = one.sealed.to_vec();
        sealed[40] ^= 1;
        Bundle { sealed: ByteBuf::from(sealed), ..one.clone() }
    };
    let cut = Bundle { sealed: ByteBuf::from(one.sealed[..one.sealed.len() / 2].to_vec()), ..one.clone() };
    let swapped = Bundle { header: one.header.clone(), sealed: other.sealed.clone() };
    let junk = Bundle { header: one.header.clone(), sealed: ByteBuf::from(vec![7; 500]) };
    for wrong in [flipped, cut, swapped, junk, other] {
        let (mut recipient, mailbox) = recipient();
        recipient.hears(id(3), &Message::Mail { mailbox, bundles: list(&[&one]), more: false }.to_frame());
        recipient.hears(id(3), &Message::Letters(vec![wrong]).to_frame());
        assert_eq!((recipient.taken.len(), released(&recipient)), (0, 0));
        assert_eq!(recipient.refused(Cause::Sealed) + recipient.refused(Cause::NotForMe), 1);
        recipient.later(Duration::from_secs(4));
        recipient.tick();
        is_saved(&mut recipient, mailbox);
    }
}

#[test]
fn absurd_lists_are_refused_and_the_next_is_asked() {
    let (one, two) = (bundle(AWAY, 2, 1), bundle(AWAY, 2, 2));
    let good = list(&[&one, &two]);
    let with = |change: fn(&mut Vec<Listed>)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let lists = [
        (with(|list| list[0].size = u64::MAX), false),
        (with(|list| list[1].size = limits::SEALED_BYTES as u64 + 1), false),
        (with(|list| list[0].no = u64::MAX), false),
        (with(|list| list[0].no = 0), false),
        (with(|list| list[1].no = 1), true),
        (Vec::new(), true),
    ];
    for (bundles, more) in lists {
        let (mut recipient, mailbox) = recipient();
        // From one who was not asked it is nothing.
        unchanged(&mut recipient, 4, &Message::Mail { mailbox, bundles: bundles.clone(), more }, Cause::Unexpected);
        unchanged(&mut recipient, 3, &Message::Mail { mailbox, bundles, more }, Cause::Inconsistent);
        is_saved(&mut recipient, mailbox);
    }
}

#[test]
fn lists_without_end_are_not_followed_for_ever() {
    for size in [0, 1, 300] {
        let (mut recipient, mailbox) = recipient();
        let (mut fetched, mut pages) = (0, 0);
        for page in 0..200 {
            let bundles = (1..=1024).map(|n| Listed { no: page * 1024 + n, bundle: junk(page * 1024 + n), size }).collect();
            recipient.sent.clear();
            recipient.hears(id(3), &Message::Mail { mailbox, bundles, more: true }.to_frame());
            fetched += recipient.sent.iter().map(|(_, say)| if let Say::Fetch(ids) = say { ids.len() } else { 0 }).sum::<usize>();
            pages += recipient.sent.iter().filter(|(to, say)| *to == id(3) && matches!(say, Say::AskMail { .. })).count();
            recipient.later(Duration::from_millis(1));
        }
        assert!(fetched <= 10_000, "{fetched} bundles of {size} bytes were asked for and none has come ({pages} pages)");
        recipient.sent.clear();
        recipient.later(Duration::from_secs(4));
        recipient.tick();
        is_saved(&mut recipient, mailbox);
    }
}

#[test]
fn offers_without_end_are_remembered_up_to_a_bound() {
    let mut recipient = someone(Config::default(), &[3, 4]);
    let author = |n: u64| secrets_of(n);
    for page in 0..40 {
        let offers = (0..128).map(|n| Offer {
            mailbox: Mailbox { recipient: id(2), depositor: author(page * 128 + n) },
            count: u64::MAX,
            digest: Sum::default(),
        });
        recipient.hears(id(3), &Message::Offers { offers: offers.collect(), leaving: false }.to_frame());
    }
    assert!(asked(&mut recipient).len() <= 16, "so many are fetched at a time");
    // One that says nothing more holds them up for a while, not for ever, and the flood is forgotten then.
    let mut questions = 0;
    for _ in 0..400 {
        recipient.later(Duration::from_secs(1));
        recipient.tick();
        questions += asked(&mut recipient).len();
    }
    assert!(questions <= 1_000, "{questions} questions for a flood of 5120 offers");
    // Offers of what is nobody's business here begin nothing.
    let foreign = Offer { mailbox: Mailbox { recipient: id(2), depositor: id(2) }, count: 1, digest: Sum::default() };
    recipient.hears(id(3), &Message::Offers { offers: vec![foreign], leaving: false }.to_frame());
    assert!(asked(&mut recipient).is_empty());
    let real = Offer { mailbox: Mailbox { recipient: id(2), depositor: id(AWAY) }, count: 2, digest: Sum::default() };
    recipient.hears(id(4), &Message::Offers { offers: vec![real], leaving: false }.to_frame());
    is_saved(&mut recipient, real.mailbox);
}

/// Somebody of whom only the id is known.
fn secrets_of(n: u64) -> PeerId {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_be_bytes());
    protocol::bundle::Secrets::from_seeds(&seed, &[1; 32]).id()
}

#[test]
fn a_bundle_replayed_by_a_custodian_is_entered_once() {
    let (mut recipient, mailbox) = recipient();
    let one = bundle(AWAY, 2, 1);
    for _ in 0..20 {
        recipient.hears(id(3), &Message::Mail { mailbox, bundles: list(&[&one]), more: false }.to_frame());
        recipient.hears(id(3), &Message::Letters(vec![one.clone(), one.clone()]).to_frame());
    }
    assert_eq!((recipient.taken.len(), recipient.peer.status().next_n), (1, 2));
}
