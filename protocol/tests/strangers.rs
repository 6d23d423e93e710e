//! Letters to ids that nobody here has met: their cards are looked for, checked, and believed for what they prove.

mod common;

use std::time::Duration;

use common::{SWARM, contact, edge, secrets};
use protocol::contact::Contact;
use protocol::edge::kept_card;
use protocol::envelope::Payload;
use protocol::id::MachineId;
use protocol::input::NewLetter;
use protocol::name::Addressee;
use protocol::{Answer, Command, Config, Effect, Identity, Input, Kept, Now, Peer, PeerId, Refusal, RequestId, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

fn now(ms: u64) -> Now {
    Now { mono: Duration::from_millis(100_000 + ms), wall: Timestamp(1_795_446_768_266 + ms) }
}

fn id(n: u8) -> PeerId {
    secrets(n).id()
}

/// A peer that knows nobody.
fn ann() -> Peer {
    let secrets = secrets(1);
    let identity = Identity {
        id: secrets.id(),
        name: "ann".parse().expect("a name"),
        machine: MachineId::new([1; 16]),
        encryption_key: secrets.encryption_key(),
        key: secrets.key_id(),
    };
    Peer::new(identity, Config::default(), ChaCha8Rng::seed_from_u64(1), Kept::default(), now(0))
}

/// What follows from an input, in a batch of its own.
fn told(peer: &mut Peer, input: Input, at: u64) -> Vec<Effect> {
    let mut effects = peer.handle(input, now(at));
    effects.extend(peer.handle(Input::Tick, now(at)));
    effects
}

fn write(request: u64, to: &[u8]) -> Input {
    let letter = NewLetter {
        to: to.iter().map(|n| Addressee::Id(id(*n))).collect(),
        kind: "message".to_owned(),
        payload: Payload::Text("We have not met".to_owned()),
        in_reply_to: None,
        key: None,
        later: false,
    };
    Input::Asked { request: RequestId(request), command: Command::Send(letter) }
}

fn sought(effects: &[Effect]) -> Vec<PeerId> {
    let peers = effects.iter().filter_map(|effect| if let Effect::FindContact { peer } = effect { Some(*peer) } else { None });
    peers.collect()
}

fn sealed_to(effects: &[Effect]) -> Vec<Contact> {
    let drafts = effects.iter().filter_map(|effect| if let Effect::Seal(draft) = effect { Some(draft.to.clone()) } else { None });
    drafts.collect()
}

fn refused(effects: &[Effect]) -> Vec<u64> {
    let unknown = |answer: &Answer| matches!(answer, Answer::Refused(Refusal::Unknown { .. }));
    let requests = effects.iter().filter_map(|effect| match effect {
        Effect::Reply { request, answer } if unknown(answer) => Some(request.0),
        _ => None,
    });
    requests.collect()
}

fn card(n: u8, sequence: u64) -> Vec<u8> {
    edge(n).card(&Contact { sequence, ..contact(n) }).1
}

#[test]
fn a_letter_to_an_id_that_nobody_knows_is_sealed_for_the_card_that_is_found() {
    let mut ann = ann();
    let asked = told(&mut ann, write(1, &[2, 3]), 0);
    assert_eq!((sought(&asked).len(), refused(&asked).len(), sealed_to(&asked).len()), (2, 0, 0));
    // The same stranger is not looked for twice at a time.
    assert!(sought(&told(&mut ann, write(2, &[2]), 1)).is_empty());
    let found = told(&mut ann, edge(1).sought(id(2), &[card(2, 1), card(2, 5), card(2, 3)], true), 10);
    assert_eq!(sealed_to(&found).iter().map(|to| (to.id, to.sequence)).collect::<Vec<_>>(), [(id(2), 5)], "of the letter to one");
    let found = told(&mut ann, edge(1).sought(id(3), &[card(3, 1)], true), 20);
    assert_eq!(sealed_to(&found).len(), 2, "of the letter to both");
    // From now on they are known.
    assert!(sought(&told(&mut ann, write(3, &[2, 3]), 30)).is_empty());
}

#[test]
fn an_id_that_is_not_found_is_refused_after_two_seconds_or_as_soon_as_that_is_sure() {
    let mut ann = ann();
    assert!(refused(&told(&mut ann, write(1, &[2]), 0)).is_empty());
    assert!(refused(&told(&mut ann, write(2, &[3]), 500)).is_empty());
    assert_eq!(refused(&told(&mut ann, edge(1).sought(id(3), &[] as &[Vec<u8>], true), 600)), [2]);
    assert!(refused(&told(&mut ann, Input::Tick, 1_999)).is_empty());
    assert!(ann.deadline().is_some_and(|deadline| deadline.at <= now(2_000).mono));
    assert_eq!(refused(&told(&mut ann, Input::Tick, 2_000)), [1]);
    // What is found too late is known all the same.
    told(&mut ann, edge(1).sought(id(2), &[card(2, 1)], true), 3_000);
    assert_eq!(sealed_to(&told(&mut ann, write(3, &[2]), 3_001)).len(), 1);
}

#[test]
fn what_was_found_counts_though_the_search_did_not_end_in_time() {
    let mut ann = ann();
    told(&mut ann, write(1, &[2]), 0);
    assert!(sealed_to(&told(&mut ann, edge(1).sought(id(2), &[card(2, 1)], false), 100)).is_empty());
    assert_eq!(sealed_to(&told(&mut ann, Input::Tick, 2_000)).len(), 1);
}

#[test]
fn no_more_strangers_are_looked_for_at_a_time_than_the_limit() {
    let mut ann = ann();
    let most = Config::default().contacts_sought;
    for n in 0..u8::try_from(most).expect("few") {
        assert_eq!(sought(&told(&mut ann, write(n.into(), &[n + 2]), 0)).len(), 1);
    }
    let one_more = told(&mut ann, write(1_000, &[200]), 0);
    assert_eq!((sought(&one_more).len(), refused(&one_more)), (0, vec![1_000]));
}

#[test]
fn cards_that_are_forged_anothers_or_of_another_swarm_are_not_believed() {
    let found = |cards: &[Vec<u8>]| match edge(1).sought(id(2), cards, true) {
        Input::ContactSought { found, .. } => found.map(|card| card.value.sequence),
        other => panic!("{other:?}"),
    };
    assert_eq!(found(&[card(2, 7)]), Some(7));
    assert_eq!(found(&[card(3, 9)]), None, "of somebody else");
    // Signed by 3, in the name of 2.
    assert_eq!(found(&[edge(3).card(&Contact { sequence: 9, ..contact(2) }).1]), None);
    let elsewhere = protocol::edge::Edge::new(secrets(2), "elsewhere".to_owned());
    assert_eq!(found(&[elsewhere.card(&contact(2)).1]), None, "of another swarm");
    let mut changed = card(2, 9);
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert_eq!(found(&[changed, vec![], vec![0xff; 100], vec![0; 1 << 20], card(2, 7)]), Some(7));
    // A key that does not belong to its name cannot be sealed to.
    assert_eq!(found(&[edge(2).card(&Contact { key: contact(3).key, ..contact(2) }).1]), None);
}

#[test]
fn for_others_only_the_card_of_its_bearer_is_kept_under_its_key() {
    let (key, card) = edge(2).card(&Contact { sequence: 4, ..contact(2) });
    assert_eq!(key, edge(1).card_key(&id(2)), "everyone finds the same place");
    assert_eq!(kept_card(SWARM, &id(2), &key, &card), Some(4));
    assert_eq!(kept_card(SWARM, &id(3), &key, &card), None, "brought by somebody else");
    assert_eq!(kept_card(SWARM, &id(2), &edge(1).card_key(&id(3)), &card), None, "in somebody else's place");
    assert_eq!(kept_card("elsewhere", &id(2), &key, &card), None);
    assert_eq!(kept_card(SWARM, &id(2), &key, &card[1..]), None);
}

#[test]
fn a_card_is_put_where_strangers_look_when_it_has_an_address_and_again_when_it_changes() {
    let mut ann = ann();
    let put = |effects: &[Effect]| effects.iter().filter(|effect| matches!(effect, Effect::PublishContact(_))).count();
    assert_eq!(put(&told(&mut ann, Input::Tick, 0)), 0);
    let listening = |port: u16| Input::Listening { addresses: vec![format!("/ip4/10.0.0.1/tcp/{port}")] };
    assert_eq!(put(&told(&mut ann, listening(1), 0)), 1);
    assert_eq!(put(&told(&mut ann, listening(1), 1)), 0);
    assert_eq!(put(&told(&mut ann, listening(2), 2)), 1);
    let rename = Command::Rename("anna".parse().expect("a name"));
    assert_eq!(put(&told(&mut ann, Input::Asked { request: RequestId(1), command: rename }, 3)), 1);
}
