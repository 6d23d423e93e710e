//! What those may do who send the record of others, or their own, to whoever keeps it: forge, reorder, cut, withhold. Nothing false may
//! be kept, it must be seen that somebody tried, and nobody else's entries may be held up.

mod common;

use std::time::Duration;

use protocol::config::limits;
use protocol::copies::ChainHead;
use protocol::edge::Cause;
use protocol::effect::Say;
use protocol::message::{Listing, Message};
use protocol::segment::{Entry, Segment, What, hash};
use protocol::sign::Signed;
use protocol::{Config, PeerId, Timestamp};

use common::{Victim, contact, edge, secrets};

/// Whose record is asked of others: it is away.
const AWAY: u8 = 9;
/// Says that it has more of it than the honest one.
const LIAR: u8 = 3;
const HONEST: u8 = 4;
const CHAIN: u64 = 7;

fn id(n: u8) -> PeerId {
    secrets(n).id()
}

/// Segments 1 to `last` of the chain of `n`.
fn chain(n: u8, last: u64) -> Vec<Signed<Segment>> {
    let (mut segments, mut previous): (Vec<Signed<Segment>>, [u8; 32]) = (Vec::new(), [0; 32]);
    for number in 1..=last {
        let entries = vec![Entry { time: Timestamp(number), what: What::Stopped }];
        let signed = edge(n).sign(&Segment { author: id(n), chain: CHAIN, number, previous: previous.into(), first: number, entries });
        previous = hash(&signed);
        segments.push(signed);
    }
    segments
}

fn head(n: u8, last: u64, newest: bool) -> ChainHead {
    let hash = hash(&chain(n, last)[last as usize - 1]);
    ChainHead { author: id(n), chain: CHAIN, first: 1, last, hash: hash.into(), newest }
}

/// `peer-2`, who leads, has met the liar and the honest one, and knows of the one who is away.
fn keeper() -> Victim {
    let mut keeper = Victim::new(2, Config::default());
    [LIAR, HONEST].iter().for_each(|n| keeper.meets(*n));
    keeper.later(Duration::from_millis(500));
    keeper.tick();
    for n in [LIAR, HONEST] {
        let listing = Listing { contact: edge(AWAY).sign(&contact(AWAY)), first_seen_ago: 9, last_seen_ago: Some(9) };
        keeper.hears(id(n), &Message::Peers { peers: vec![listing], more: false }.to_frame());
    }
    for _ in 0..40 {
        keeper.later(Duration::from_millis(100));
        keeper.tick();
    }
    assert!(keeper.peer.status().leader.is_some_and(|leader| leader.fence.leader == keeper.id), "it was elected");
    keeper
}

/// Answers the latest question of which chains there are.
fn lists(keeper: &mut Victim, n: u8, chains: Vec<ChainHead>) {
    let question = |(to, say): &(PeerId, Say)| match say {
        Say::AskChains { ask, after: 0 } if *to == id(n) => Some(*ask),
        _ => None,
    };
    let ask = keeper.sent.iter().rev().find_map(question).expect("who keeps the record asks everybody");
    keeper.hears(id(n), &Message::Chains { ask, chains, more: false }.to_frame());
}

fn sends(keeper: &mut Victim, from: u8, of: u8, segments: Vec<Signed<Segment>>) {
    keeper.hears(id(from), &Message::Segments { author: id(of), chain: CHAIN, segments }.to_frame());
}

/// Numbers of the segments of `n` that were taken.
fn taken(keeper: &Victim, n: u8) -> Vec<u64> {
    keeper.copied.iter().filter(|copied| copied.0 == id(n)).map(|copied| copied.2).collect()
}

fn is_asked(keeper: &Victim, n: u8, of: u8) -> bool {
    keeper.sent.iter().any(|(to, say)| *to == id(n) && matches!(say, Say::AskSegments { author, .. } if *author == id(of)))
}

fn signed_by(n: u8, segment: &Signed<Segment>) -> Signed<Segment> {
    edge(n).sign_segment(segment.body.to_vec())
}

#[test]
fn a_false_chain_is_refused_and_shown_and_the_true_one_is_taken_from_another() {
    let good = chain(AWAY, 5);
    let changed = |at: usize| {
        let mut bad = good.clone();
        let middle = bad[at].body.len() / 2;
        bad[at].body[middle] ^= 1;
        bad
    };
    let forged: Vec<_> = good.iter().map(|segment| signed_by(LIAR, segment)).collect();
    let spoilt = {
        let mut bad = good.clone();
        bad[1].signature[7] ^= 1;
        bad
    };
    let reordered = [0, 2, 1, 3, 4].map(|at: usize| good[at].clone()).to_vec();
    let holed = [0, 1, 3, 4].map(|at: usize| good[at].clone()).to_vec();
    let doubled = [0, 0, 1, 2].map(|at: usize| good[at].clone()).to_vec();
    let lies = [
        ("forged", forged, Some(Cause::Signature)),
        ("one signature spoilt", spoilt, Some(Cause::Signature)),
        ("the last changed", changed(4), None),
        ("one in the middle changed", changed(2), None),
        ("reordered", reordered, Some(Cause::Inconsistent)),
        ("with a hole", holed, Some(Cause::Inconsistent)),
        ("doubled", doubled, Some(Cause::Inconsistent)),
        ("somebody else's", chain(LIAR, 5), Some(Cause::Inconsistent)),
    ];
    for (what, lie, cause) in lies {
        let mut keeper = keeper();
        lists(&mut keeper, LIAR, vec![head(LIAR, 2, true), head(AWAY, 5, false)]);
        lists(&mut keeper, HONEST, vec![head(HONEST, 2, true), head(AWAY, 4, false)]);
        assert!(is_asked(&keeper, LIAR, AWAY) && !is_asked(&keeper, HONEST, AWAY), "{what}: whoever says that it has most");
        sends(&mut keeper, LIAR, AWAY, lie);
        assert_eq!(taken(&keeper, AWAY), [], "{what}");
        let told = keeper.noted.iter().filter_map(|what| match what {
            What::RecordRefused { of, by, cause, .. } if (*of, *by) == (id(AWAY), id(LIAR)) => Some(cause.clone()),
            _ => None,
        });
        let told: Vec<String> = told.collect();
        assert_eq!(told.len(), 1, "{what}: {told:?}");
        assert!(cause.is_none_or(|cause| told[0] == cause.as_str()), "{what}: {told:?}");
        assert!(is_asked(&keeper, HONEST, AWAY), "{what}: another is asked");
        sends(&mut keeper, HONEST, AWAY, chain(AWAY, 4));
        sends(&mut keeper, HONEST, HONEST, chain(HONEST, 2));
        assert_eq!((taken(&keeper, AWAY), taken(&keeper, HONEST)), (vec![1, 2, 3, 4], vec![1, 2]), "{what}");
        // What the liar wrote itself is not held against it.
        sends(&mut keeper, LIAR, LIAR, chain(LIAR, 2));
        assert_eq!(taken(&keeper, LIAR), [1, 2], "{what}");
    }
}

#[test]
fn who_sends_nothing_or_less_than_it_said_holds_nobody_up() {
    for lie in [Vec::new(), chain(AWAY, 5)[2..].to_vec()] {
        let mut keeper = keeper();
        lists(&mut keeper, LIAR, vec![head(LIAR, 2, true), head(AWAY, 5, false)]);
        lists(&mut keeper, HONEST, vec![head(HONEST, 2, true), head(AWAY, 4, false)]);
        sends(&mut keeper, LIAR, AWAY, lie);
        assert_eq!(taken(&keeper, AWAY), []);
        assert!(is_asked(&keeper, HONEST, AWAY));
        sends(&mut keeper, HONEST, AWAY, chain(AWAY, 4));
        assert_eq!(taken(&keeper, AWAY), [1, 2, 3, 4]);
    }
    // And who is silent is given up.
    let mut keeper = keeper();
    lists(&mut keeper, LIAR, vec![head(AWAY, 5, false)]);
    lists(&mut keeper, HONEST, vec![head(AWAY, 4, false)]);
    assert!(!is_asked(&keeper, HONEST, AWAY));
    keeper.later(Config::default().record_patience);
    keeper.tick();
    assert!(is_asked(&keeper, HONEST, AWAY));
}

#[test]
fn segments_that_nobody_asked_for_are_not_kept() {
    let mut keeper = keeper();
    sends(&mut keeper, LIAR, AWAY, chain(AWAY, 5));
    sends(&mut keeper, LIAR, LIAR, chain(LIAR, 5));
    lists(&mut keeper, HONEST, vec![head(HONEST, 2, true)]);
    sends(&mut keeper, LIAR, HONEST, chain(HONEST, 2));
    assert!(keeper.copied.is_empty(), "{:?}", keeper.copied);
}

#[test]
fn of_lists_without_end_no_more_than_a_bound_is_remembered() {
    let mut keeper = keeper();
    let (page, mut frames) = (limits::PAGE as u64, 0);
    for _ in 0..200 {
        let question = |(to, say): &(PeerId, Say)| match say {
            Say::AskChains { ask, .. } if *to == id(LIAR) => Some(*ask),
            _ => None,
        };
        let Some(ask) = keeper.sent.iter().rev().find_map(question) else { break };
        keeper.sent.clear();
        let chains = (0..page).map(|n| ChainHead { chain: frames * page + n, ..head(AWAY, 3, false) }).collect();
        keeper.hears(id(LIAR), &Message::Chains { ask, chains, more: true }.to_frame());
        frames += 1;
    }
    assert!(frames * page <= 5_000, "{frames} pages were asked for");
    assert_eq!(keeper.refused(Cause::Full), 1);
}
