//! A small network of elections and nothing else: words take their time, claims by gossip get lost, links are cut.

mod network;

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use network::{Network, machine, peer};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(mono: Duration) -> Now {
    Now { mono, ..Now::default() }
}

fn single(kept: Option<FenceRow>) -> Election {
    Election::new(peer(0), machine(0), 1, &Config::default(), kept, at(Duration::ZERO))
}

fn neighbour(no: usize) -> Neighbour {
    Neighbour { peer: peer(no), machine: machine(no), since: Duration::ZERO }
}

fn fence(term: u64, no: usize) -> Fence {
    Fence { term, leader: peer(no) }
}

fn claim(fence: Fence, counter: u64, followers: u32) -> Proven<Claim> {
    Proven::own(Claim { fence, boot: 1, counter, followers, standbys: Vec::new(), led_ms: 1_000 }).unchecked()
}

fn words(out: &Out) -> Vec<(PeerId, Work)> {
    let work = |effect: &Effect| match effect {
        Effect::Send { to, say } => match &**say {
            crate::effect::Say::Work(work) => Some((*to, work.clone())),
            _ => None,
        },
        _ => None,
    };
    out.effects.iter().filter_map(work).collect()
}

/// One that follows (5, peer 1), with `roster` around it.
fn follower(roster: &[Neighbour]) -> Election {
    let mut election = single(None);
    let (verdict, facts) = election.on_claim(Some(peer(1)), claim(fence(5, 1), 1, 3), roster, at(ms(10)), &mut Out::default());
    assert_eq!((verdict, facts), (Verdict::Accept, Ok(vec![Fact::Follows(fence(5, 1))])));
    election
}

#[test]
fn a_lone_node_leads_when_it_has_listened_and_each_claim_is_on_disk_first() {
    let mut election = single(None);
    assert_eq!(election.tick(&[], at(ms(999)), &mut Out::default()), vec![]);
    let mut out = Out::default();
    assert_eq!(election.tick(&[], at(ms(1_000)), &mut out), vec![Fact::Leads(fence(1, 0))]);
    for counter in 1..5 {
        let row = Change::Fence(FenceRow { fence: fence(1, 0), counter });
        assert_eq!(out.effects[0], Effect::Store(row));
        assert!(matches!(&out.effects[1], Effect::PublishClaim(claim) if claim.value.counter == counter));
        assert_eq!(election.deadline(), Some(ms(1_000 * (counter + 1))));
        out = Out::default();
        assert_eq!(election.tick(&[], at(ms(1_000 * (counter + 1))), &mut out), vec![]);
    }
}

#[test]
fn a_node_leads_only_under_a_term_that_is_new_to_it_after_a_start() {
    let mut election = single(Some(FenceRow { fence: fence(7, 0), counter: 9 }));
    assert_eq!((election.obeyed(), election.leader()), (Some(fence(7, 0)), None));
    assert_eq!(election.tick(&[], at(ms(1_000)), &mut Out::default()), vec![Fact::Leads(fence(8, 0))]);
}

#[test]
fn no_term_makes_arithmetic_end() {
    for term in [u64::MAX, u64::MAX - 1, limits::TERMS_AHEAD + 6] {
        let mut election = follower(&[neighbour(1)]);
        for from in [Some(peer(2)), None] {
            let (verdict, facts) = election.on_claim(from, claim(fence(term, 2), 1, 9), &[neighbour(1)], at(ms(20)), &mut Out::default());
            assert_eq!((verdict, facts), (Verdict::Ignore, Err(Cause::Inconsistent)));
        }
        election.on_ask_leader(peer(2), fence(term, 2), at(ms(20)), &mut Out::default());
        let handed = election.on_hand_over(peer(2), fence(term, 2), &[neighbour(1)], at(ms(20)), &mut Out::default());
        assert_eq!(handed, Err(Cause::Inconsistent));
        assert_eq!((election.obeyed(), election.told), (Some(fence(5, 1)), None));
    }
    let (verdict, _) = follower(&[]).on_claim(None, claim(fence(limits::TERMS_AHEAD + 5, 2), 1, 9), &[], at(ms(20)), &mut Out::default());
    assert_eq!(verdict, Verdict::Accept);
    let mut last = single(Some(FenceRow { fence: fence(u64::MAX, 1), counter: 0 }));
    assert_eq!(last.tick(&[], at(ms(5_000)), &mut Out::default()), vec![]);
    assert_eq!(last.deadline(), None);
}

#[test]
fn a_claim_that_is_not_newer_is_not_passed_on_and_lower_ones_are_answered_with_the_greatest() {
    let roster = [neighbour(1), neighbour(2)];
    let mut election = follower(&roster);
    let mut hear = |claim, from| {
        let mut out = Out::default();
        let (verdict, facts) = election.on_claim(from, claim, &roster, at(ms(20)), &mut out);
        assert_eq!(facts, Ok(vec![]));
        assert!(!out.effects.iter().any(|effect| matches!(effect, Effect::Store(_))));
        (verdict, words(&out))
    };
    assert_eq!(hear(claim(fence(5, 1), 1, 3), None), (Verdict::Ignore, vec![]));
    assert_eq!(hear(claim(fence(5, 1), 2, 3), None), (Verdict::Accept, vec![]));
    assert_eq!(hear(claim(fence(5, 1), 1, 3), Some(peer(1))), (Verdict::Ignore, vec![]));
    assert_eq!(hear(claim(fence(4, 2), 9, 3), None), (Verdict::Ignore, vec![]));
    let greatest = Work::Claim(Box::new(claim(fence(5, 1), 2, 3)));
    assert_eq!(hear(claim(fence(4, 2), 9, 3), Some(peer(2))), (Verdict::Ignore, vec![(peer(2), greatest)]));
}

#[test]
fn a_leader_whose_memory_jumped_back_does_not_lead_on_under_its_term() {
    let again = |boot, fence| {
        let claim = claim(fence, 1, 3).value;
        Proven::own(Claim { boot, ..claim }).unchecked()
    };
    // Whoever follows it does not take its other life for the one that it follows, and shows it what it had said.
    let roster = [neighbour(1), neighbour(2)];
    let mut election = follower(&roster);
    let mut out = Out::default();
    let heard = election.on_claim(Some(peer(1)), again(2, fence(5, 1)), &roster, at(ms(20)), &mut out);
    assert_eq!(heard, (Verdict::Ignore, Ok(vec![])));
    assert_eq!(words(&out), [(peer(1), Work::Claim(Box::new(claim(fence(5, 1), 1, 3))))]);
    let mut out = Out::default();
    election.on_reachable(peer(1), at(ms(30)), &mut out);
    assert_eq!(words(&out).len(), 1, "also when it comes back");
    // It claims above that: before it has claimed anything, or at once.
    let mut early = single(None);
    early.on_claim(Some(peer(1)), again(7, fence(1, 0)), &roster, at(ms(10)), &mut Out::default()).1.expect("nothing is wrong");
    assert_eq!(early.tick(&[], at(ms(1_000)), &mut Out::default()), vec![Fact::Leads(fence(2, 0))]);
    let mut late = single(None);
    late.tick(&[], at(ms(1_000)), &mut Out::default());
    let heard = late.on_claim(Some(peer(1)), again(7, fence(1, 0)), &roster, at(ms(1_100)), &mut Out::default());
    assert_eq!(heard, (Verdict::Ignore, Ok(vec![Fact::Leads(fence(2, 0))])));
    let heard = late.on_claim(Some(peer(1)), again(7, fence(1, 0)), &roster, at(ms(1_200)), &mut Out::default());
    assert_eq!(heard, (Verdict::Ignore, Ok(vec![])), "once");
}

#[test]
fn who_misses_a_leader_that_others_hear_asks_on_and_does_not_stand() {
    let roster = [neighbour(2), neighbour(3)];
    let mut election = follower(&[neighbour(1), neighbour(2), neighbour(3)]);
    let mut out = Out::default();
    assert_eq!(election.on_unreachable(peer(1), &roster, at(ms(100)), &mut out), vec![]);
    let asked: BTreeSet<PeerId> = words(&out).iter().map(|(to, _)| *to).collect();
    assert_eq!(asked, BTreeSet::from([peer(2), peer(3)]));
    let mut now = ms(100);
    for round in 0..60 {
        election.on_leader_heard(peer(3), fence(5, 1), false, at(now), &mut Out::default());
        election.on_leader_heard(peer(2), fence(5, 1), true, at(now), &mut Out::default());
        now = election.deadline().expect("it asks again");
        let mut out = Out::default();
        assert_eq!(election.tick(&roster, at(now), &mut out), vec![], "round {round}");
        assert_eq!(words(&out).len(), 2);
        assert_eq!(election.leader(), Some(fence(5, 1)));
    }
    assert!(now < ms(70_000) && now > ms(50_000), "asked too often or too rarely: {now:?}");
    election.on_leader_heard(peer(2), fence(5, 1), false, at(now), &mut Out::default());
    election.on_leader_heard(peer(3), fence(5, 1), false, at(now), &mut Out::default());
    assert_eq!(election.tick(&roster, at(now), &mut Out::default()), vec![Fact::Nobody]);
    // One that was slow to answer still counts.
    election.on_leader_heard(peer(2), fence(5, 1), true, at(now), &mut Out::default());
    assert_eq!(election.tick(&roster, at(now), &mut Out::default()), vec![Fact::Follows(fence(5, 1))]);
}

#[test]
fn a_last_claim_that_still_goes_round_is_no_sign_of_life() {
    let roster = [neighbour(2)];
    let mut election = follower(&[neighbour(1), neighbour(2)]);
    election.on_unreachable(peer(1), &roster, at(ms(100)), &mut Out::default());
    let (verdict, _) = election.on_claim(None, claim(fence(5, 1), 2, 3), &roster, at(ms(101)), &mut Out::default());
    assert_eq!(verdict, Verdict::Accept);
    let mut out = Out::default();
    election.on_ask_leader(peer(2), fence(5, 1), at(ms(101)), &mut out);
    assert_eq!(words(&out), vec![(peer(2), Work::LeaderHeard { fence: fence(5, 1), heard: false })]);
    election.on_leader_heard(peer(2), fence(5, 1), false, at(ms(102)), &mut Out::default());
    assert_eq!(election.tick(&roster, at(ms(102)), &mut Out::default()), vec![Fact::Nobody]);
}

#[test]
fn a_node_that_was_held_up_judges_nobody_for_a_while() {
    let roster = [neighbour(1), neighbour(2)];
    let mut election = follower(&roster);
    election.on_stalled(at(ms(20_000)));
    assert_eq!(election.deadline(), Some(ms(23_000)));
    let mut out = Out::default();
    assert_eq!(election.tick(&roster, at(ms(22_999)), &mut out), vec![]);
    assert!(words(&out).is_empty());
    election.tick(&roster, at(ms(23_000)), &mut out);
    assert_eq!(words(&out), vec![(peer(2), Work::AskLeader(fence(5, 1)))]);
}

#[test]
fn a_leader_that_was_held_up_gives_way_and_another_does_not_to_who_has_led_shorter() {
    let roster = [neighbour(1), neighbour(2)];
    let lead = || {
        let mut election = single(None);
        election.tick(&[], at(ms(1_000)), &mut Out::default());
        election
    };
    let of = |followers, led_ms| {
        let claim = Claim { followers, led_ms, ..claim(fence(2, 1), 1, 0).value };
        Proven::own(claim).unchecked()
    };
    let other = of(2, 400);
    let (_, facts) = lead().on_claim(None, other.clone(), &roster, at(ms(1_500)), &mut Out::default());
    assert_eq!(facts, Ok(vec![Fact::Leads(fence(3, 0))]));
    for more in [of(3, 1), of(2, 600)] {
        assert_eq!(lead().on_claim(None, more, &roster, at(ms(1_500)), &mut Out::default()).1, Ok(vec![Fact::Follows(fence(2, 1))]));
    }
    assert_eq!(lead().on_claim(None, other.clone(), &roster, at(ms(9_000)), &mut Out::default()).1, Ok(vec![Fact::Follows(fence(2, 1))]));
    let mut told = lead();
    told.on_stalled(at(ms(1_400)));
    assert_eq!(told.on_claim(None, other, &roster, at(ms(1_500)), &mut Out::default()).1, Ok(vec![Fact::Follows(fence(2, 1))]));
}

#[test]
fn only_the_leader_can_hand_over_and_whom_it_asks_leads_at_once() {
    let roster = [neighbour(1), neighbour(2)];
    let mut election = follower(&roster);
    assert_eq!(election.on_hand_over(peer(2), fence(5, 1), &roster, at(ms(20)), &mut Out::default()), Err(Cause::Unexpected));
    let mut out = Out::default();
    assert_eq!(election.on_hand_over(peer(2), fence(4, 2), &roster, at(ms(20)), &mut out), Ok(vec![]));
    assert!(matches!(&words(&out)[..], [(to, Work::Claim(_))] if *to == peer(2)));
    election.set_eligible(false, at(ms(20)), &mut Out::default());
    assert_eq!(election.on_hand_over(peer(1), fence(5, 1), &roster, at(ms(20)), &mut Out::default()), Ok(vec![]));
    election.set_eligible(true, at(ms(20)), &mut Out::default());
    let handed = election.on_hand_over(peer(1), fence(5, 1), &roster, at(ms(20)), &mut Out::default());
    assert_eq!(handed, Ok(vec![Fact::Leads(fence(6, 0))]));
    assert_eq!(follower(&roster).transfer(peer(2), at(ms(20)), &mut Out::default()), Err(Refusal::NotLeading));
}

#[test]
fn standbys_are_on_other_machines_first_and_have_been_here_longest() {
    let on = |no: usize, machine: u8, since| Neighbour { machine: MachineId::new([machine; 16]), since: ms(since), ..neighbour(no) };
    let roster = [on(1, 0, 1), on(2, 2, 5), on(3, 2, 4), on(4, 4, 9)];
    assert_eq!(ranking::standbys(MachineId::new([0; 16]), roster.iter()), vec![peer(3), peer(4)]);
    assert_eq!(ranking::standbys(MachineId::new([0; 16]), roster[..2].iter()), vec![peer(2), peer(1)]);
}

#[test]
fn candidates_have_ranks_of_their_own_standbys_first_and_the_last_leader_last() {
    let all: Vec<PeerId> = (0..10).map(peer).collect();
    let rank = |of: usize, term| ranking::rank(peer(of), term, &[peer(3), peer(7)], Some(peer(5)), all.iter().copied());
    let ranks: BTreeSet<u32> = (0..10).map(|of| rank(of, 2)).collect();
    assert_eq!(ranks, (0..10).collect());
    assert_eq!((rank(3, 2), rank(7, 2), rank(5, 2)), (0, 1, 9));
    assert!((3..20).any(|term| rank(0, term) != rank(0, 2)));
}

#[test]
fn many_terms_within_a_minute_make_candidates_slower_but_not_for_ever() {
    let (mut terms, step) = (Terms::default(), ms(150));
    let delays: Vec<Duration> = (0..30)
        .map(|_| {
            terms.on_begun(ms(1_000));
            terms.delay(1, step, ms(1_000))
        })
        .collect();
    assert_eq!(delays[..5], [ms(150), ms(150), ms(600), ms(1_200), ms(2_400)]);
    assert_eq!(delays[29], ms(10_150));
    assert_eq!(terms.delay(1, step, ms(61_000)), ms(150));
}

// -- several

#[test]
fn two_nodes_agree_and_when_one_goes_the_other_leads_at_once() {
    for seed in 0..200 {
        let mut net = Network::new(seed, 2);
        net.link_all(ms(500));
        net.run(ms(4_000));
        let leader = net.agreed();
        let kill = net.now;
        net.kill(leader);
        net.run(kill + ms(500));
        assert_eq!(net.led_since(1 - leader, kill).len(), 1, "seed {seed}");
    }
}

#[test]
fn when_a_leader_is_killed_another_leads_within_a_second() {
    for seed in 0..300 {
        let nodes = 3 + usize::try_from(seed % 9).expect("small");
        let mut net = Network::new(seed, nodes);
        net.link_all(ms(300));
        net.run(ms(8_000));
        let leader = net.agreed();
        let kill = net.now;
        net.kill(leader);
        net.run(kill + ms(3_000));
        let next = net.agreed();
        assert_ne!(next, leader, "seed {seed}");
        let took = net.led_since(next, kill)[0].0 - kill;
        assert!(took <= ms(1_000), "seed {seed}: {took:?}");
        assert!(net.terms() <= 4, "seed {seed}: term {}", net.terms());
    }
}

#[test]
fn when_a_leader_falls_silent_another_leads_within_five_seconds_and_it_gives_way_when_it_wakes() {
    for seed in 0..100 {
        let mut net = Network::new(seed, 5);
        net.link_all(ms(300));
        net.run(ms(8_000));
        let leader = net.agreed();
        let from = net.now;
        net.freeze(leader);
        net.run(from + ms(5_000));
        let next = net.agreed();
        assert_ne!(next, leader, "seed {seed}");
        net.run(from + ms(9_000));
        net.thaw(leader);
        net.run(from + ms(12_000));
        assert_eq!(net.agreed(), next, "seed {seed}: it is sticky");
    }
}

#[test]
fn fifty_nodes_that_start_together_have_one_leader_within_three_seconds_and_few_terms() {
    for seed in 0..12 {
        let mut net = Network::new(seed, 50);
        net.link_all(ms(1_000));
        net.run(ms(3_000));
        net.agreed();
        assert!(net.terms() <= 3, "seed {seed}: term {}", net.terms());
        let before = net.terms();
        net.run(ms(10_000));
        net.agreed();
        assert_eq!(net.terms(), before, "seed {seed}: it lasts");
    }
}

#[test]
fn one_cut_link_between_a_follower_and_its_leader_unseats_nobody() {
    for seed in 0..100 {
        let mut net = Network::new(seed, 3 + usize::try_from(seed % 4).expect("small"));
        net.gossips = seed % 2 == 0;
        net.link_all(ms(300));
        net.run(ms(8_000));
        let (leader, terms) = (net.agreed(), net.terms());
        let follower = (leader + 1) % net.len();
        net.cut(leader, follower, seed % 3 == 0);
        net.run(ms(70_000));
        assert_eq!((net.agreed(), net.terms()), (leader, terms), "seed {seed}");
    }
}

#[test]
fn a_node_that_comes_or_comes_back_unseats_nobody() {
    for seed in 0..100 {
        let mut net = Network::new(seed, 5);
        net.link_all(ms(300));
        net.run(ms(8_000));
        let (leader, terms) = (net.agreed(), net.terms());
        for no in 1..5 {
            let other = (leader + no) % 5;
            net.kill(other);
            net.run(net.now + ms(700));
            net.start(other);
            net.link_all(ms(2_500));
            net.run(net.now + ms(30_000));
            assert_eq!(net.agreed(), leader, "seed {seed}");
        }
        // One that was late to hear of the leader may have led alone for a moment; it was answered by a greater term.
        assert!(net.terms() <= terms + 8, "seed {seed}: {} from {terms}", net.terms());
    }
}

#[test]
fn a_leader_that_is_told_of_a_greater_term_of_old_claims_above_it_and_stays() {
    for seed in 0..100 {
        let mut net = Network::new(seed, 4);
        net.link_all(ms(300));
        net.run(ms(8_000));
        let leader = net.agreed();
        let other = (leader + 1) % 4;
        net.kill(other);
        net.run(net.now + ms(100));
        net.remember(other, fence(900, other));
        net.start(other);
        net.link_all(ms(800));
        net.run(net.now + ms(5_000));
        assert_eq!(net.agreed(), leader, "seed {seed}");
        assert_eq!(net.terms(), 901, "seed {seed}");
    }
}

#[test]
fn sides_of_a_partition_have_leaders_of_their_own_and_one_within_ten_seconds_of_healing() {
    for seed in 0..300 {
        let mut net = Network::new(seed, 2 + usize::try_from(seed % 7).expect("small"));
        net.link_all(ms(500));
        net.run(ms(5_000));
        net.agreed();
        let terms = net.terms();
        let left = net.draw(net.len() - 1) + 1;
        net.partition(left, seed % 2 == 0);
        net.run(net.now + ms(20_000));
        let sides: BTreeSet<usize> = net.leaders();
        assert_eq!(sides.len(), 2, "seed {seed}: {sides:?}");
        assert!(sides.iter().any(|no| *no < left) && sides.iter().any(|no| *no >= left), "seed {seed}");
        net.link_all(ms(1_000));
        net.run(net.now + ms(10_000));
        net.agreed();
        // Guess: a few claims of each side before and after; 299 of these seeds need no more than six.
        assert!(net.terms() <= terms + 7, "seed {seed}: {} from {terms}", net.terms());
    }
}

#[test]
fn whatever_happens_there_is_one_leader_within_ten_seconds_of_its_end_and_no_term_has_two() {
    for seed in 0..300 {
        let mut net = Network::new(seed, 2 + usize::try_from(seed % 6).expect("small"));
        net.link_all(ms(1_000));
        for _ in 0..30 {
            let wait = net.draw(3_000);
            net.run(net.now + ms(u64::try_from(wait).expect("small")));
            let (one, other, silent) = (net.draw(net.len()), net.draw(net.len()), net.draw(2) == 0);
            match net.draw(8) {
                0 => net.kill(one),
                1 | 2 => net.start(one),
                3 if one != other => net.cut(one, other, silent),
                4 => net.freeze(one),
                5 => net.thaw(one),
                6 => net.link_all(ms(500)),
                _ => net.transfer(one, other),
            }
        }
        for no in 0..net.len() {
            net.thaw(no);
            net.start(no);
        }
        net.link_all(ms(500));
        // Many terms within a minute make candidates slow: that is over first.
        net.run(net.now + if net.recent() { ms(25_000) } else { ms(10_000) });
        let leader = net.agreed();
        let terms = net.terms();
        net.run(net.now + ms(60_000));
        assert_eq!((net.agreed(), net.terms()), (leader, terms), "seed {seed}: it is sticky");
    }
}

#[test]
fn a_leader_that_leaves_or_is_told_to_hands_over_without_a_gap() {
    for seed in 0..100 {
        let mut net = Network::new(seed, 4);
        net.link_all(ms(300));
        net.run(ms(8_000));
        let leader = net.agreed();
        let next = (leader + 2) % 4;
        let from = net.now;
        net.transfer(leader, next);
        net.run(from + ms(300));
        assert_eq!(net.agreed(), next, "seed {seed}");
        net.run(net.now + ms(2_000));
        net.leave(next);
        net.run(net.now + ms(300));
        let last = net.agreed_but(&[next]);
        assert_ne!(last, next, "seed {seed}");
        let (_, terms) = (net.kill(next), net.terms());
        net.run(net.now + ms(10_000));
        assert_eq!((net.agreed(), net.terms()), (last, terms), "seed {seed}");
    }
}

#[test]
fn a_leader_that_may_not_lead_any_more_is_replaced() {
    for seed in 0..50 {
        let mut net = Network::new(seed, 4);
        net.link_all(ms(300));
        net.run(ms(8_000));
        let leader = net.agreed();
        net.disable(leader);
        net.run(net.now + ms(300));
        assert_ne!(net.agreed(), leader, "seed {seed}");
    }
}
