//! Cores, memory, software, permission: who can take what, and what is said of those who cannot.

use super::*;

fn needing(number: u64, cores: u32) -> Order {
    Order { needs: Needs { cores, ..Needs::default() }, ..order(number) }
}

#[test]
fn what_nobody_has_is_named_for_each_worker() {
    let mut desk = Desk::new(vec![worker(3, 1), worker(4, 1), worker_of("tea", peer(5), 1)]);
    desk.workers[0].services.software.insert("ffmpeg".to_owned());
    desk.workers[1].services.services[0].allowed = Allowed::Peers(BTreeSet::new());
    let needs = Needs { cores: 16, memory_bytes: 0, software: ["ffmpeg".to_owned()].into_iter().collect() };
    let done = desk.order(Order { needs, ..order(1) });
    assert_eq!((done.said("Queued"), done.assigned()), (1, vec![]));
    let standing = desk.standing(1);
    let lacks = [(peer(3), Lack::Cores(8)), (peer(4), Lack::NotAllowed), (peer(5), Lack::NotOffered)];
    assert_eq!(standing.lacks, lacks.into_iter().collect());
    assert_eq!((standing.position, standing.waiting, standing.eta_ms), (Some(1), 1, None));
    desk.order(Order { needs: Needs { software: ["gimp".to_owned()].into_iter().collect(), ..Needs::default() }, ..order(2) });
    assert_eq!(desk.standing(2).lacks[&peer(3)], Lack::Software("gimp".to_owned()));
    assert_eq!(desk.standing(2).args, "latte --no-milk");
    desk.workers[0].services.draining = true;
    desk.workers[1].welcomes = false;
    assert_eq!(desk.standing(2).lacks[&peer(3)], Lack::Draining);
    assert_eq!(desk.standing(2).lacks[&peer(4)], Lack::NotAvailable);
}

#[test]
fn cores_and_memory_of_all_services_of_a_worker_are_added_up() {
    let mut desk = Desk::new(vec![worker(3, 9)]);
    let mut tea = card("tea", 9);
    tea.needs.cores = 3;
    desk.workers[0].services.services.push(tea);
    let tea = |number| Order { service: "tea".parse().expect("a name"), ..order(number) };
    let (at, of) = desk.order(tea(1)).assigned()[0];
    assert_eq!(desk.order(needing(2, 4)).assigned().len(), 1);
    assert_eq!(desk.order(needing(3, 2)).assigned(), [], "3 + 4 + 2 are more than 8");
    assert_eq!(desk.standing(3).lacks, [(peer(3), Lack::Busy)].into_iter().collect());
    assert_eq!(desk.end(at, of).assigned().len(), 1, "a unit of another service made room");
    let needs = Needs { memory_bytes: 1 << 32, ..Needs::default() };
    let memory = |number| Order { needs: needs.clone(), ..order(number) };
    let given: usize = (4..=6).map(|number| desk.order(memory(number)).assigned().len()).sum();
    assert_eq!(given, 2, "twice 4 of 8 GiB");
}

#[test]
fn a_head_that_needs_a_whole_worker_is_not_starved_by_smaller_ones_behind_it() {
    let mut desk = Desk::new(vec![worker(3, 8)]);
    let mut running: Vec<(PeerId, Try)> = (1..=8).flat_map(|number| desk.order(needing(number, 1)).assigned()).collect();
    assert_eq!(running.len(), 8);
    desk.order(needing(9, 8));
    desk.orders((10..=20).map(|number| needing(number, 1)).collect());
    let free = desk.order(needing(21, 0)).assigned();
    assert_eq!(free, [], "all slots are taken");
    let mut came = Vec::new();
    for _ in 0..8 {
        let (at, of) = running.remove(0);
        let assigned = desk.end(at, of).assigned();
        came.extend(assigned.iter().map(|(_, of)| of.order.number));
    }
    assert_eq!(came, [21, 9], "what takes no room may go before it");
    assert_eq!(desk.standing(10).lacks, [(peer(3), Lack::Busy)].into_iter().collect());
}

#[test]
fn what_one_service_keeps_another_service_does_not_take_and_gets_back() {
    let mut desk = Desk::new(vec![worker(3, 8)]);
    desk.workers[0].services.services.push(card("tea", 8));
    let tea = |number| Order { service: "tea".parse().expect("a name"), ..needing(number, 1) };
    let (at, of) = desk.order(tea(1)).assigned()[0];
    desk.order(needing(2, 8));
    assert_eq!(desk.order(tea(3)).assigned(), [], "kept for the second");
    let done = desk.cancel(2);
    assert_eq!(done.assigned().len(), 1, "{:?}", done.said);
    desk.end(at, of);
}

#[test]
fn when_it_may_start_is_told_from_what_was_measured() {
    let mut desk = Desk::new(vec![worker(3, 2)]);
    let (at, of) = desk.order(order(1)).assigned()[0];
    desk.end(at, of);
    desk.orders((2..=9).map(order).collect());
    assert_eq!((desk.standing(2).position, desk.standing(2).eta_ms), (None, None), "it has a worker");
    let standing = desk.standing(9);
    assert_eq!((standing.position, standing.basis, standing.eta_ms), (Some(6), 1, Some(3_000)), "six behind two slots of 1 s");
    let (page, more) = desk.dispatcher.standings(Some(key(6)), 2, &[desk.workers[0].view()], desk.now());
    assert_eq!(page.iter().map(|standing| standing.order.number).collect::<Vec<_>>(), [7, 8]);
    assert!(more);
    assert_eq!(page[0].position, Some(4));
}

#[test]
fn a_worker_stays_kept_while_it_has_no_slot() {
    let mut desk = Desk::new(vec![worker(3, 1)]);
    desk.workers[0].services.services.push(card("tea", 8));
    let tea = |number| Order { service: "tea".parse().expect("a name"), ..needing(number, 1) };
    let (at, first) = desk.order(tea(1)).assigned()[0];
    desk.order(needing(2, 8));
    let (_, small) = desk.order(needing(3, 0)).assigned()[0];
    desk.order(needing(4, 0));
    assert_eq!(desk.order(tea(5)).assigned(), []);
    assert_eq!(desk.end(at, first).assigned(), []);
    let next = desk.end(at, small).assigned();
    assert_eq!(next.iter().map(|(_, of)| of.order.number).collect::<Vec<_>>(), [2]);
    assert_eq!(desk.end(at, next[0].1).assigned().len(), 2, "then the others");
}
