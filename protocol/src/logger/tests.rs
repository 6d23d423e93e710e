use super::*;
use crate::bundle::Secrets;
use crate::now::Timestamp;

fn peer(n: u8) -> PeerId {
    Secrets::from_seeds(&[n; 32], &[n; 32]).id()
}

fn now(ms: u64) -> Now {
    Now { mono: Duration::from_millis(ms), wall: Timestamp(ms) }
}

/// The hash of segment `number` of line `line`: made up, and another for each.
fn hash(line: u8, number: u64) -> [u8; 32] {
    let mut hash = [line; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    if number == 0 { [0; 32] } else { hash }
}

fn pieces(line: u8, first: u64, last: u64) -> Vec<Piece> {
    let piece = |number| Piece {
        number,
        previous: hash(line, number - 1),
        hash: hash(line, number),
        first: number,
        entries: 1,
        signed: vec![line],
    };
    (first..=last).map(piece).collect()
}

fn head(author: u8, line: u8, last: u64, newest: bool) -> ChainHead {
    ChainHead { author: peer(author), chain: 7, first: 1, last, hash: ByteArray::new(hash(line, last)), newest }
}

/// What a logger did: whom it asked for what after what, and which segments it stored.
#[derive(Debug, Default, PartialEq)]
struct Did {
    listed: Vec<PeerId>,
    asked: Vec<(PeerId, PeerId, u64, bool)>,
    stored: Vec<(PeerId, u8, u64)>,
    recalled: Vec<(PeerId, u64)>,
    noted: Vec<&'static str>,
}

struct Keeper {
    logger: Logger,
    out: Out,
}

impl Keeper {
    /// Peer 1, who leads and has met these.
    fn leads(met: &[u8]) -> Keeper {
        let mut keeper = Keeper { logger: Logger::new(peer(1), &Config::default(), Vec::new(), Vec::new()), out: Out::default() };
        for n in met {
            keeper.logger.on_reachable(peer(*n), now(0), &mut keeper.out);
        }
        keeper.logger.set_keepers([peer(1)].into_iter(), now(0), &mut keeper.out);
        keeper
    }

    /// What the last list was asked for by.
    fn ask(&self, from: u8) -> u32 {
        self.logger.sources[&peer(from)].listing.as_ref().map_or(0, |(ask, _)| *ask)
    }

    fn chains(&mut self, from: u8, heads: Vec<ChainHead>) {
        let ask = self.ask(from);
        self.logger.on_chains(peer(from), ask, (heads, false), now(1), &mut self.out).expect("it is good");
    }

    fn segments(&mut self, from: u8, author: u8, pieces: Vec<Piece>) {
        self.logger.on_segments(peer(from), peer(author), 7, pieces, now(1), &mut self.out);
    }

    fn tick(&mut self, ms: u64) -> Did {
        self.logger.tick(|_| true, |_| Some(0), true, now(ms), &mut self.out);
        self.did()
    }

    fn did(&mut self) -> Did {
        let mut did = Did::default();
        for effect in std::mem::take(&mut self.out.effects) {
            match effect {
                Effect::Send { to, say } => match *say {
                    Say::AskChains { .. } => did.listed.push(to),
                    Say::AskSegments { author, after, follow, .. } => did.asked.push((to, author, after, follow)),
                    other => panic!("{other:?}"),
                },
                Effect::Store(Change::Copied(copied)) => did.stored.push((copied.author, copied.branch, copied.number)),
                Effect::Recall(Recall::Segment { from, head }) => did.recalled.push((from, head.last)),
                other => panic!("{other:?}"),
            }
        }
        did.noted = std::mem::take(&mut self.out.entries).iter().map(What::word).collect();
        did
    }
}

#[test]
fn a_new_logger_takes_everybodys_record_and_then_follows() {
    let mut keeper = Keeper::leads(&[2, 3]);
    let mut both = [peer(2), peer(3)];
    both.sort();
    assert_eq!(keeper.tick(1).listed, both);
    keeper.chains(2, vec![head(2, 2, 5, true)]);
    assert_eq!(keeper.tick(1).asked, [(peer(2), peer(2), 0, true)]);
    keeper.segments(2, 2, pieces(2, 1, 3));
    let did = keeper.tick(1);
    assert_eq!(did.stored, [1, 2, 3].map(|number| (peer(2), 0, number)));
    assert_eq!(did.asked, [(peer(2), peer(2), 3, true)], "the next at once");
    keeper.segments(2, 2, pieces(2, 4, 5));
    assert_eq!(keeper.tick(2).asked, [(peer(2), peer(2), 5, true)]);
    // Nothing new for an hour: nobody is asked again.
    assert_eq!(keeper.tick(3_600_000), Did { listed: vec![peer(3)], ..Did::default() }, "but who never answered");
}

#[test]
fn of_an_author_who_is_away_others_copies_are_taken() {
    let mut keeper = Keeper::leads(&[2, 3]);
    keeper.chains(2, vec![head(2, 2, 1, true), head(4, 4, 5, false)]);
    keeper.chains(3, vec![head(3, 3, 1, true), head(4, 4, 8, false)]);
    let asked = keeper.tick(1).asked;
    assert!(asked.contains(&(peer(3), peer(4), 0, false)), "who has most: {asked:?}");
    assert!(!asked.contains(&(peer(2), peer(4), 0, false)), "{asked:?}");
    keeper.segments(3, 4, pieces(4, 1, 6));
    // The one goes away in the middle; the other has no more.
    keeper.logger.on_unreachable(peer(3), now(1), &mut keeper.out);
    let did = keeper.tick(2);
    assert_eq!(did.stored.len(), 6);
    assert_eq!(did.asked, []);
    // What it has is looked up once, and is there.
    assert_eq!(did.recalled, [(peer(2), 5)]);
    keeper.logger.on_recalled(peer(2), &head(4, 4, 5, false), Some(true), &mut keeper.out);
    assert_eq!(keeper.tick(2), Did::default());
}

#[test]
fn the_record_of_somebody_heard_of_later_is_taken_then() {
    let mut keeper = Keeper::leads(&[2]);
    keeper.chains(2, vec![head(2, 2, 1, true), head(4, 4, 5, false)]);
    keeper.logger.tick(|author| *author != peer(4), |_| Some(0), true, now(1), &mut keeper.out);
    assert_eq!(keeper.did().asked, [(peer(2), peer(2), 0, true)], "not of a stranger");
    keeper.logger.on_named();
    assert_eq!(keeper.tick(1).asked, [(peer(2), peer(4), 0, false)]);
}

#[test]
fn what_another_keeper_had_of_somebody_who_is_gone_is_asked_for_then() {
    let mut keeper = Keeper::leads(&[2, 3, 4]);
    keeper.logger.set_keepers([peer(1), peer(3)].into_iter(), now(0), &mut keeper.out);
    [2, 3, 4].iter().for_each(|n| keeper.chains(*n, vec![head(*n, *n, 1, true)]));
    keeper.tick(1);
    keeper.segments(4, 4, pieces(4, 1, 1));
    keeper.tick(1);
    keeper.logger.on_unreachable(peer(4), now(1), &mut keeper.out);
    assert_eq!(keeper.tick(1).listed, [peer(3)]);
    keeper.chains(3, vec![head(3, 3, 1, true), head(4, 4, 5, false)]);
    assert!(keeper.tick(1).asked.contains(&(peer(3), peer(4), 1, false)));
    // It may have heard of it longer.
    assert_eq!(keeper.logger.deadline(), Some(keeper.logger.looked_at + keeper.logger.patience));
    assert_eq!(keeper.tick(3_001).listed, [peer(3)]);
}

#[test]
fn what_was_let_go_of_is_neither_asked_for_nor_taken_for_another_line() {
    let mut keeper = Keeper::leads(&[2, 3]);
    let first = |head: ChainHead, first| ChainHead { first, ..head };
    // Its author has let go of the beginning; this node says from where on it has it.
    keeper.chains(2, vec![first(head(2, 2, 9, true), 6)]);
    assert_eq!(keeper.tick(1).asked, [(peer(2), peer(2), 5, true)]);
    keeper.segments(2, 2, pieces(2, 6, 9));
    assert_eq!(keeper.tick(1).noted, ["record_pruned"]);
    // An old copy ends before that.
    keeper.chains(3, vec![head(2, 2, 4, false)]);
    let did = keeper.tick(1);
    assert_eq!((did.recalled, did.asked, did.noted), (vec![], vec![], vec![]));
    // And where more has gone than was taken, there is a hole that this node stands for.
    keeper.logger.on_unreachable(peer(2), now(2), &mut keeper.out);
    keeper.logger.on_reachable(peer(2), now(2), &mut keeper.out);
    keeper.chains(2, vec![first(head(2, 2, 20, true), 15)]);
    assert_eq!(keeper.tick(2).asked, [(peer(2), peer(2), 14, true)]);
    keeper.segments(2, 2, pieces(2, 15, 20));
    let did = keeper.tick(2);
    assert_eq!((did.stored.len(), did.noted), (6, vec!["record_pruned"]));
}

#[test]
fn what_an_author_has_not_any_more_is_left_out_when_nobody_has_it() {
    let mut keeper = Keeper::leads(&[2, 3]);
    keeper.chains(2, vec![head(2, 2, 9, true)]);
    keeper.tick(1);
    keeper.segments(2, 2, pieces(2, 1, 4));
    assert_eq!(keeper.tick(1).asked, [(peer(2), peer(2), 4, true)]);
    // Segment 5 cannot be read there. It may be gone for good reason: it is listed anew, and others are asked meanwhile.
    keeper.segments(2, 2, pieces(2, 6, 9));
    let did = keeper.tick(1);
    assert_eq!((did.stored, did.listed), (vec![], vec![peer(2)]));
    keeper.chains(2, vec![head(2, 2, 9, true)]);
    assert_eq!(keeper.tick(1).asked, []);
    assert_eq!(keeper.tick(10_001).asked, [(peer(2), peer(2), 4, true)]);
    keeper.segments(2, 2, pieces(2, 6, 9));
    let did = keeper.tick(10_001);
    assert_eq!(did.stored, [6, 7, 8, 9].map(|number| (peer(2), 0, number)));
    assert_eq!(did.noted, ["record_refused"], "and nobody stands for what is missing");
}

#[test]
fn what_others_have_where_there_is_a_hole_is_taken_beside_it_and_nobody_called_a_forger() {
    let mut keeper = Keeper::leads(&[2, 3]);
    keeper.chains(2, vec![ChainHead { first: 6, ..head(2, 2, 9, true) }]);
    keeper.tick(1);
    keeper.segments(2, 2, pieces(2, 6, 9));
    keeper.tick(1);
    keeper.chains(3, vec![head(2, 2, 7, false)]);
    assert_eq!(keeper.tick(1).recalled, [(peer(3), 7)]);
    keeper.logger.on_recalled(peer(3), &head(2, 2, 7, false), None, &mut keeper.out);
    let did = keeper.tick(1);
    assert_eq!((did.asked, did.noted), (vec![(peer(3), peer(2), 0, false)], vec![]));
}

#[test]
fn false_segments_stop_nobody_elses() {
    let mut keeper = Keeper::leads(&[2, 3]);
    keeper.chains(2, vec![head(2, 2, 5, true), head(4, 4, 5, false)]);
    keeper.chains(3, vec![head(3, 3, 5, true), head(4, 4, 3, false)]);
    assert_eq!(keeper.tick(1).asked.len(), 3);
    keeper.logger.on_false(peer(2), peer(4), 7, Cause::Signature, now(1), &mut keeper.out);
    let did = keeper.tick(2);
    assert_eq!((did.asked, did.noted), (vec![(peer(3), peer(4), 0, false)], vec!["record_refused"]), "another is asked");
    keeper.segments(2, 2, pieces(2, 1, 5));
    assert_eq!(keeper.tick(2).stored.len(), 5);
    // Reordered and cut ones are false to the edge; one that begins elsewhere than was asked is not taken.
    keeper.segments(3, 3, pieces(3, 2, 4));
    let did = keeper.tick(2);
    assert_eq!((did.stored, did.listed), (vec![], vec![peer(3)]));
}

#[test]
fn two_segments_of_one_number_are_both_kept() {
    let mut keeper = Keeper::leads(&[2]);
    keeper.chains(2, vec![head(2, 2, 5, true)]);
    keeper.tick(1);
    keeper.segments(2, 2, pieces(2, 1, 5));
    keeper.tick(1);
    // Its author writes on, but from another fifth.
    keeper.segments(2, 2, pieces(9, 6, 7));
    let did = keeper.tick(2);
    assert_eq!((did.stored, did.noted), (vec![], vec!["record_forked"]));
    assert_eq!(did.asked, [(peer(2), peer(2), 0, true)], "all of that line");
    keeper.segments(2, 2, pieces(9, 1, 7));
    assert_eq!(keeper.tick(2).stored, [1, 2, 3, 4, 5, 6, 7].map(|number| (peer(2), 1, number)));
}

#[test]
fn what_this_node_has_forgotten_of_itself_is_taken_back() {
    let own = ChainEnd { author: peer(1), chain: 7, branch: 0, first: 1, last: 3, hash: hash(1, 3) };
    let mut keeper = Keeper::leads(&[2]);
    keeper.logger.own = vec![(7, End { first: own.first, last: own.last, hash: own.hash })];
    keeper.chains(2, vec![head(1, 1, 3, false)]);
    assert_eq!(keeper.tick(1).asked, []);
    keeper.chains(2, vec![]);
    keeper.logger.list(peer(2), now(1), &mut keeper.out);
    keeper.chains(2, vec![head(1, 1, 9, false)]);
    assert_eq!(keeper.tick(1).asked, [(peer(2), peer(1), 0, false)]);
    keeper.segments(2, 1, pieces(1, 1, 9));
    assert!(keeper.tick(1).stored.iter().all(|(author, branch, _)| (*author, *branch) == (peer(1), 1)));
}

#[test]
fn a_shorter_line_that_is_not_here_is_taken_beside_the_longer() {
    let mut keeper = Keeper::leads(&[3]);
    // Peer 3 kept the record before: of peer 2 it has two lines of one chain.
    keeper.chains(3, vec![head(2, 2, 9, false), head(2, 9, 5, false)]);
    assert_eq!(keeper.tick(1).asked, [(peer(3), peer(2), 0, false)], "one at a time");
    keeper.segments(3, 2, pieces(2, 1, 9));
    let did = keeper.tick(2);
    assert_eq!((did.stored.len(), did.recalled), (9, vec![(peer(3), 5)]));
    keeper.logger.on_recalled(peer(3), &head(2, 9, 5, false), Some(false), &mut keeper.out);
    assert_eq!(keeper.tick(2).asked, [(peer(3), peer(2), 0, false)]);
    keeper.segments(3, 2, pieces(9, 1, 5));
    assert_eq!(keeper.tick(3).stored, [1, 2, 3, 4, 5].map(|number| (peer(2), 1, number)));
    assert_eq!(keeper.tick(4), Did::default(), "and that is all");
}

#[test]
fn who_does_not_answer_is_asked_again_later_and_others_meanwhile() {
    let mut keeper = Keeper::leads(&[2, 3]);
    keeper.chains(2, vec![head(4, 4, 5, false)]);
    keeper.chains(3, vec![head(4, 4, 4, false)]);
    assert_eq!(keeper.tick(1).asked, [(peer(2), peer(4), 0, false)]);
    assert_eq!(keeper.tick(3_002).asked, [(peer(3), peer(4), 0, false)]);
    assert_eq!(keeper.tick(3_003).asked, []);
}

#[test]
fn a_full_disk_takes_nothing_of_others_until_there_is_room() {
    let mut keeper = Keeper::leads(&[2]);
    keeper.chains(2, vec![head(2, 2, 5, true)]);
    assert_eq!(keeper.tick(1).asked.len(), 1);
    keeper.logger.tick(|_| true, |_| Some(0), false, now(2), &mut keeper.out);
    keeper.segments(2, 2, pieces(2, 1, 3));
    assert_eq!((keeper.did(), keeper.logger.deadline()), (Did::default(), None));
    assert_eq!(keeper.tick(3).asked, [(peer(2), peer(2), 0, true)]);
}

#[test]
fn who_waits_is_told_what_is_written_but_not_each_segment_alone() {
    let mut keeper = Keeper::leads(&[]);
    let logger = &mut keeper.logger;
    logger.close((7, 1, hash(1, 1)), false, now(0), &mut keeper.out);
    logger.on_reachable(peer(2), now(0), &mut Out::default());
    let sent =
        |out: &mut Out| std::mem::take(&mut out.effects).into_iter().filter(|effect| matches!(effect, Effect::SendSegments { .. })).count();
    logger.on_ask_segments(peer(2), (peer(1), 7), [0; 32], 0, true, &mut keeper.out);
    assert_eq!(sent(&mut keeper.out), 1);
    logger.on_ask_segments(peer(2), (peer(1), 7), [0; 32], 1, true, &mut keeper.out);
    assert_eq!(sent(&mut keeper.out), 0);
    logger.close((7, 2, hash(1, 2)), false, now(1), &mut keeper.out);
    assert_eq!(sent(&mut keeper.out), 1);
    logger.on_ask_segments(peer(2), (peer(1), 7), [0; 32], 2, true, &mut keeper.out);
    logger.close((7, 3, hash(1, 3)), false, now(2), &mut keeper.out);
    assert_eq!((sent(&mut keeper.out), logger.news_at()), (0, Some(Duration::from_millis(251))));
    logger.close((7, 3, hash(1, 3)), false, now(251), &mut keeper.out);
    assert_eq!(sent(&mut keeper.out), 1);
}

#[test]
fn of_two_lines_of_its_own_chain_a_node_sends_the_one_that_was_asked_for() {
    let mut keeper = Keeper::leads(&[]);
    keeper.logger.own = vec![(7, End { first: 1, last: 99, hash: hash(1, 99) }), (8, End { first: 1, last: 5, hash: hash(3, 5) })];
    // What it has forgotten: found by seed 505535.
    keeper.logger.copies.insert((peer(1), 7, 1), End { first: 1, last: 121, hash: hash(2, 121) });
    let mut sent = |tip: [u8; 32], after| {
        keeper.logger.on_ask_segments(peer(2), (peer(1), 7), tip, after, false, &mut keeper.out);
        match keeper.out.effects.pop() {
            Some(Effect::SendSegments { branch, after, .. }) => (branch, after),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(sent(hash(1, 99), 0), (None, 0));
    assert_eq!(sent(hash(2, 121), 0), (Some(1), 0));
    assert_eq!(sent(hash(2, 121), 99), (Some(1), 99));
}

#[test]
fn a_list_that_answers_an_earlier_question_is_late_and_segments_that_come_twice_are_taken_once() {
    let mut keeper = Keeper::leads(&[2]);
    let before = keeper.ask(2);
    keeper.logger.on_memory(peer(2), now(1), &mut keeper.out);
    // Found by seed 500663: of a chain that was begun between the two nothing was ever asked.
    assert_eq!(keeper.logger.on_chains(peer(2), before, (vec![head(2, 9, 3, true)], false), now(1), &mut keeper.out), Ok(()));
    assert_eq!(keeper.tick(1).asked, []);
    keeper.chains(2, vec![head(2, 2, 5, true)]);
    assert_eq!(keeper.tick(1).asked.len(), 1);
    keeper.segments(2, 2, pieces(2, 1, 3));
    assert_eq!(keeper.tick(1).asked, [(peer(2), peer(2), 3, true)]);
    keeper.segments(2, 2, pieces(2, 1, 3));
    assert_eq!(keeper.tick(1), Did::default());
    keeper.segments(2, 2, pieces(2, 4, 5));
    assert_eq!(keeper.tick(1).stored.len(), 2);
}

#[test]
fn lists_that_cannot_be_are_refused() {
    let mut keeper = Keeper::leads(&[2]);
    let lie = |head| vec![head];
    for bad in [head(3, 3, 1, true), ChainHead { first: 0, ..head(2, 2, 1, true) }, ChainHead { first: 9, ..head(2, 2, 1, true) }] {
        keeper.logger.list(peer(2), now(1), &mut keeper.out);
        let ask = keeper.ask(2);
        assert_eq!(keeper.logger.on_chains(peer(2), ask, (lie(bad), false), now(1), &mut keeper.out), Err(Cause::Inconsistent));
    }
    for _ in 0..64 {
        keeper.logger.list(peer(2), now(1), &mut keeper.out);
        let many = vec![head(2, 2, 1, true); 128];
        let mut full = Ok(());
        while full.is_ok() {
            let ask = keeper.ask(2);
            full = keeper.logger.on_chains(peer(2), ask, (many.clone(), true), now(1), &mut keeper.out);
        }
        assert_eq!(full, Err(Cause::Full));
    }
}

/// Segments of line 3, which leaves line 2 after segment `common`.
fn pieces_of_a_second_life(common: u64, first: u64, last: u64) -> Vec<Piece> {
    let mut pieces = pieces(3, first, last);
    for piece in pieces.iter_mut().filter(|piece| piece.number == common + 1) {
        piece.previous = hash(2, common);
    }
    pieces
}

/// One that has taken segments 1 to 9 of peer 2 and follows it; peer 2 is gone and back.
fn follower() -> Keeper {
    let mut keeper = Keeper::leads(&[2]);
    keeper.chains(2, vec![head(2, 2, 9, true)]);
    keeper.tick(1);
    keeper.segments(2, 2, pieces(2, 1, 9));
    keeper.tick(1);
    keeper.logger.on_unreachable(peer(2), now(1), &mut keeper.out);
    keeper.logger.on_reachable(peer(2), now(2), &mut keeper.out);
    keeper
}

#[test]
fn an_author_put_back_who_wrote_on_to_where_it_was_has_a_second_branch() {
    let mut keeper = follower();
    keeper.chains(2, vec![head(2, 3, 9, true)]);
    let did = keeper.tick(2);
    assert_eq!((did.recalled, did.asked), (vec![(peer(2), 9)], vec![]), "the number alone says nothing");
    keeper.logger.on_recalled(peer(2), &head(2, 3, 9, true), Some(false), &mut keeper.out);
    let did = keeper.tick(2);
    assert_eq!((did.asked, did.noted), (vec![(peer(2), peer(2), 0, true)], vec!["record_forked"]));
    let again: Vec<Piece> = pieces(2, 1, 6).into_iter().chain(pieces_of_a_second_life(6, 7, 9)).collect();
    keeper.segments(2, 2, again);
    let did = keeper.tick(2);
    assert_eq!(did.stored.iter().map(|stored| (stored.1, stored.2)).collect::<Vec<_>>(), (1..=9).map(|n| (1, n)).collect::<Vec<_>>());
    assert_eq!(did.asked, [(peer(2), peer(2), 9, true)]);
}

#[test]
fn an_author_put_back_is_followed_from_where_it_is() {
    let mut keeper = follower();
    keeper.chains(2, vec![head(2, 2, 6, true)]);
    assert_eq!(keeper.tick(2).recalled, [(peer(2), 6)]);
    keeper.logger.on_recalled(peer(2), &head(2, 2, 6, true), Some(true), &mut keeper.out);
    assert_eq!(keeper.tick(2).asked, [(peer(2), peer(2), 6, true)]);
    // It writes: not what was there before.
    keeper.segments(2, 2, pieces_of_a_second_life(6, 7, 7));
    let did = keeper.tick(2);
    assert_eq!((did.stored, did.recalled), (vec![], vec![(peer(2), 7)]));
    keeper.logger.on_recalled(peer(2), &head(2, 3, 7, true), Some(false), &mut keeper.out);
    assert_eq!(keeper.tick(2).asked, [(peer(2), peer(2), 0, true)], "from the first, into a branch");
}

#[test]
fn what_others_had_of_an_author_before_it_sends_it_is_taken_once() {
    let mut keeper = follower();
    keeper.chains(2, vec![head(2, 2, 6, true)]);
    keeper.tick(2);
    keeper.logger.on_recalled(peer(2), &head(2, 2, 6, true), Some(true), &mut keeper.out);
    keeper.tick(2);
    keeper.segments(2, 2, pieces(2, 7, 8));
    assert_eq!(keeper.tick(2).recalled, [(peer(2), 8)]);
    keeper.logger.on_recalled(peer(2), &head(2, 2, 8, true), Some(true), &mut keeper.out);
    assert_eq!(keeper.tick(2).asked, [(peer(2), peer(2), 8, true)]);
    keeper.segments(2, 2, pieces(2, 9, 11));
    let did = keeper.tick(2);
    assert_eq!(did.stored, [10, 11].map(|number| (peer(2), 0, number)));
    assert_eq!(did.noted, Vec::<&str>::new());
}

#[test]
fn of_an_author_who_signs_without_end_the_fifth_line_is_said_not_to_be_kept() {
    let mut keeper = follower();
    for line in 3..=7 {
        keeper.chains(2, vec![head(2, line, 9, true)]);
        let mut did = keeper.tick(2);
        // Every line that is here is compared with it.
        while did.asked.is_empty() && !did.recalled.is_empty() {
            keeper.logger.on_recalled(peer(2), &head(2, line, 9, true), Some(false), &mut keeper.out);
            did = keeper.tick(2);
        }
        if line <= 5 {
            assert_eq!((did.asked, did.noted), (vec![(peer(2), peer(2), 0, true)], vec!["record_forked"]), "line {line}");
            keeper.segments(2, 2, pieces(line, 1, 9));
            assert_eq!(keeper.tick(2).stored.len(), 9);
        } else {
            assert_eq!((did.asked, did.noted), (vec![], vec!["record_refused"]), "line {line}");
            // Nor is it when it is listed again.
            keeper.logger.list(peer(2), now(2), &mut keeper.out);
            keeper.chains(2, vec![head(2, line, 9, true)]);
            assert_eq!(keeper.tick(2), Did { listed: vec![peer(2)], ..Did::default() });
        }
        keeper.logger.on_unreachable(peer(2), now(2), &mut keeper.out);
        keeper.logger.on_reachable(peer(2), now(2), &mut keeper.out);
        let _ = keeper.did();
    }
}
