//! The bytes of everything that is said and kept of leaders, orders and tasks, pinned; and that nothing in it is believed unsigned.
//! `SWARM_WRITE_GOLDEN=1 cargo test -p protocol --test golden_work` writes them anew, for review in the diff.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::{edge, secrets};
use protocol::beacon::Statistics;
use protocol::edge::{Cause, Gossip};
use protocol::effect::{QueueState, Say};
use protocol::input::{Input, Said};
use protocol::log;
use protocol::message::Message;
use protocol::order::{Attempt, Broken, Cancel, Claim, Closing, End, Ended, Excerpt, Fence, Order, OrderKey, Priority, Report, Try};
use protocol::proven::Proven;
use protocol::segment::What;
use protocol::service::{Allowed, Availability, Lack, Needs, ServiceCard, Services};
use protocol::work::{
    Copies, Full, Held, Known, OrdersOf, Placed, PlacedState, Progress, Question, Results, Seen, Span, Standing, UnitsOf, Work, Working,
};
use protocol::{Epoch, Ranges, Timestamp};
use serde_bytes::ByteBuf;

fn fence() -> Fence {
    Fence { term: 3, leader: secrets(1).id() }
}

fn order(number: u64) -> Order {
    Order {
        orderer: secrets(1).id(),
        epoch: Epoch(7),
        number,
        service: "coffee".parse().expect("a name"),
        args: vec!["latte".to_owned(), "{}".to_owned()],
        items: vec!["small".to_owned(), "large".to_owned()],
        stdin: Some(ByteBuf::from(b"milk".to_vec())),
        priority: Priority::End,
        needs: Needs { cores: 2, memory_bytes: 1 << 30, software: BTreeSet::from(["grinder".to_owned()]) },
        once: false,
        placed: Timestamp(1_795_446_768_266),
    }
}

fn key(number: u64) -> OrderKey {
    order(number).key()
}

fn a_try(number: u64) -> Try {
    Try { order: key(number), unit: 2, attempt: Attempt { term: 3, leader: secrets(1).id(), number: 1 } }
}

fn report() -> Report {
    let excerpt = |text: &str| Excerpt { bytes: ByteBuf::from(text.as_bytes().to_vec()), total: 9, kept: 9 };
    Report {
        of: a_try(1),
        worker: secrets(1).id(),
        ended: Ended::Exited(0),
        stdout: excerpt("one latte"),
        stderr: Excerpt::default(),
        started_at: Timestamp(1),
        ended_at: Timestamp(2),
        ran_ms: 1,
    }
}

fn services() -> Services {
    let card = ServiceCard {
        name: "coffee".parse().expect("a name"),
        about: "brews".to_owned(),
        limit: 2,
        needs: Needs::default(),
        allowed: Allowed::Peers(BTreeSet::from([secrets(1).id()])),
    };
    Services { services: vec![card], software: BTreeSet::from(["grinder".to_owned()]), draining: false }
}

fn standing() -> Standing {
    let placed = Placed { unit: 2, attempt: a_try(1).attempt, worker: secrets(2).id(), state: PlacedState::Running, since_ms: 40 };
    Standing {
        order: key(1),
        service: "coffee".parse().expect("a name"),
        args: "latte {}".to_owned(),
        priority: 3,
        held_by: 1,
        position: Some(1),
        units: 2,
        ended: 0,
        waiting: 1,
        tries: vec![placed],
        cancelling: false,
        lacks: BTreeMap::from([(secrets(2).id(), Lack::Full), (secrets(3).id(), Lack::Cores(4))]),
        eta_ms: Some(8_000),
        basis: 4,
        age_ms: 100,
    }
}

fn claim() -> Claim {
    Claim { fence: fence(), boot: 2, counter: 17, followers: 4, standbys: vec![secrets(2).id(), secrets(3).id()], led_ms: 5_000 }
}

fn closing() -> Closing {
    Closing { orderer: secrets(1).id(), epoch: Epoch(7), closed: Ranges::of(1, 5), ends: vec![(5, End::Failed)] }
}

fn orders_of() -> OrdersOf {
    let mut numbers = Ranges::of(1, 5);
    numbers.insert(7);
    OrdersOf { orderer: secrets(1).id(), epoch: Epoch(7), numbers }
}

/// One whole, and one of which the other has the order.
fn copies(cancel: Cancel) -> Vec<Held> {
    let state = |number| QueueState {
        order: key(number),
        sort: 1 << 40,
        cancel: None,
        ended: Ranges::of(1, 1),
        given_up: Ranges::default(),
        tries: vec![(2, a_try(number).attempt, secrets(2).id())],
        tried: vec![(2, 3, 1)],
    };
    vec![
        Held { order: Some(Proven::own(order(1))), age_ms: 500, state: QueueState { cancel: Some(Proven::own(cancel)), ..state(1) } },
        Held { order: None, age_ms: 0, state: state(2) },
    ]
}

fn words() -> Vec<(&'static str, Work)> {
    let cancel = Cancel { order: key(1), expired: false };
    let availability = Availability {
        available: false,
        why: Some(Lack::Full),
        remaining: 3,
        eta_ms: Some(8_000),
        basis: 4,
        running: 2,
        limit: 2,
        cores: (4, 2),
        memory_bytes: (8 << 30, 5 << 30),
        software: BTreeSet::new(),
    };
    let statistics = Statistics { cores: 4, cores_free_percent: 350, memory_bytes: 8 << 30, memory_free_bytes: 5 << 30 };
    let query = |question| Work::Query { id: 9, question: Box::new(question) };
    let seen = Seen { peer: secrets(2).id(), name: "nikki-pi".parse().expect("a name"), available: true, inactive: false, for_ms: 1_500 };
    let results = |results| Work::QueryResults { id: 9, results: Box::new(results) };
    vec![
        ("claim", Work::Claim(Box::new(Proven::own(claim())))),
        ("ask_leader", Work::AskLeader(fence())),
        ("leader_heard", Work::LeaderHeard { fence: fence(), heard: true }),
        ("hand_over", Work::HandOver(fence())),
        ("orders", Work::Orders((1..=3).map(|number| Proven::own(order(number))).collect())),
        ("queued", Work::Queued { fence: fence(), orders: vec![key(1)] }),
        ("not_queued", Work::NotQueued { fence: fence(), orders: vec![(key(2), Full::Disk)] }),
        ("assign", Work::Assign { fence: fence(), units: vec![a_try(1)] }),
        (
            "answer",
            Work::Answer { fence: fence(), taken: vec![a_try(1)], declined: vec![(a_try(2), Lack::Software("grinder".to_owned()))] },
        ),
        ("working", Work::Working { fence: fence(), tries: vec![Working { of: a_try(1), running_ms: Some(40) }], last: true }),
        ("started", Work::Started(vec![a_try(1)])),
        ("progress", Work::Progress(vec![Progress { of: a_try(1), done: 3, total: 5, note: "grinding".to_owned() }])),
        ("reports", Work::Reports(vec![Proven::own(report())])),
        ("reports_taken", Work::ReportsTaken(vec![a_try(1), a_try(2)])),
        ("broken", Work::Broken(vec![(a_try(1), Broken::Killed(9)), (a_try(2), Broken::Superseded), (a_try(3), Broken::Closed)])),
        ("given_up", Work::GivenUp(vec![(key(1), 2, "crashed its workers".to_owned())])),
        ("closing", Work::Closing(Box::new(Proven::own(closing())))),
        ("ask_closed", Work::AskClosed { fence: fence(), orders: vec![orders_of()], last: true }),
        ("known_closed", Work::KnownClosed { fence: fence(), orders: vec![orders_of()], last: true }),
        ("units_ended", Work::UnitsEnded(vec![UnitsOf { order: key(1), units: orders_of().numbers }])),
        ("cancels", Work::Cancels(vec![Proven::own(cancel.clone())])),
        (
            "copies",
            Work::Copies(Copies {
                fence: fence(),
                number: 4,
                span: Some(Span { after: Some(key(0)), upto: None }),
                orders: copies(cancel),
            }),
        ),
        ("copied", Work::Copied { fence: fence(), number: 4 }),
        ("holding", Work::Holding { fence: fence(), orders: vec![orders_of()] }),
        ("known_here", Work::Known { fence: fence(), known: Known::Here, orders: vec![orders_of()] }),
        ("known_wanted", Work::Known { fence: fence(), known: Known::Wanted, orders: vec![orders_of()] }),
        ("known_over", Work::Known { fence: fence(), known: Known::Over, orders: vec![orders_of()] }),
        ("cancel_taken", Work::CancelTaken { order: key(1), running: vec![2], lost: Vec::new() }),
        ("query_services", query(Question::Services)),
        ("query_availability", query(Question::Availability { service: "coffee".parse().expect("a name"), needs: order(1).needs })),
        ("query_tasks", query(Question::Tasks { after: Some(key(1)) })),
        ("query_peers", query(Question::Peers { after: Some(secrets(2).id()) })),
        ("query_task", query(Question::Task(key(1)))),
        ("query_output", query(Question::Output { of: a_try(1), stderr: true, from: 4_096 })),
        ("query_log", query(Question::Log(asked_of_the_record()))),
        ("results_log", results(Results::Log(told_of_the_record()))),
        ("results_services", results(Results::Services(services()))),
        ("results_availability", results(Results::Availability(availability))),
        ("results_statistics", results(Results::Statistics { statistics, running: 2, queued: 1, up_ms: 1_000 })),
        ("results_tasks", results(Results::Tasks { tasks: vec![standing()], more: false })),
        ("results_peers", results(Results::Peers { peers: vec![seen], more: true })),
        ("results_task", results(Results::Task(None))),
        ("results_output", results(Results::Output { bytes: ByteBuf::from(b"one latte".to_vec()), more: false })),
        ("results_not_here", results(Results::NotHere)),
    ]
}

fn asked_of_the_record() -> log::Question {
    log::Question {
        after: Some(log::Cursor::Time { clock: 5, copy: true, ordinal: 3, seq: 9 }),
        limit: 100,
        arrivals: false,
        newest: false,
        since: Some(Timestamp(4)),
        until: None,
        peer: Some(secrets(2).id()),
        about: Some(log::About::Order { orderer: secrets(1).id(), number: 17, unit: Some(3) }),
        what: vec!["units".to_owned()],
    }
}

fn told_of_the_record() -> log::Answer {
    let what = Some(What::OrdersPlaced { first: 17, last: 17 });
    let entries = vec![log::Logged { author: secrets(1).id(), chain: 77, branch: 0, seq: 9, time: Timestamp(5), what, doubtful: false }];
    log::Answer { entries, next: Some(log::Cursor::Arrival { no: 8, told: 1 }), candidates: Vec::new(), whole_since: None }
}

fn frame(work: Work) -> Vec<u8> {
    edge(1).utter(Say::Work(work)).to_frame()
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n");
    lines.collect()
}

#[test]
fn the_bytes_of_every_word_are_pinned() {
    for (name, work) in words() {
        let bytes = frame(work);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("work_{name}.hex"));
        if std::env::var_os("SWARM_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, hex(&bytes)).expect("the golden file can be written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("no {}", path.display()));
        assert_eq!(hex(&bytes), golden, "the bytes of {name} have changed");
        let inputs = edge(2).admit(secrets(1).id(), &bytes);
        assert!(matches!(inputs.as_slice(), [Input::Arrived { said, .. }] if matches!(**said, Said::Work(_))), "{name}: {inputs:?}");
    }
}

#[test]
fn cut_or_changed_words_are_refused_and_never_panic() {
    for (name, work) in words() {
        let signed = matches!(work, Work::Claim(_) | Work::Orders(_) | Work::Reports(_) | Work::Closing(_) | Work::Cancels(_));
        let bytes = frame(work);
        let Some(Input::Arrived { said, .. }) = edge(2).admit(secrets(1).id(), &bytes).pop() else { panic!("{name}") };
        let original = *said;
        for end in 0..bytes.len() {
            assert!(Message::from_frame(&bytes[..end]).is_err(), "{name} cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            for input in edge(2).admit(secrets(1).id(), &changed) {
                let Input::Arrived { said, .. } = &input else { continue };
                // What is around the signed bytes may be spelt otherwise; what is signed may not.
                assert!(!signed || **said == original, "{name} changed at {at}: {input:?}");
            }
        }
    }
}

#[test]
fn what_others_should_have_signed_is_refused_without_their_signature() {
    let refused = |work: Work, cause: Cause| {
        let from = secrets(1).id();
        assert_eq!(edge(2).admit(from, &Message::Work(work).to_frame()), [Input::Refused { from, cause }]);
    };
    refused(Work::Orders(vec![Proven::own(order(1))]), Cause::Signature);
    refused(Work::Orders(vec![Proven::own(order(1)).unchecked()]), Cause::Signature);
    // Signed, but by another than it says.
    let Message::Work(forged) = edge(3).utter(Say::Work(Work::Orders(vec![Proven::own(order(1))]))) else { unreachable!() };
    refused(forged, Cause::Signature);
    let large = Order { args: vec!["x".repeat(200_000)], ..order(1) };
    let Message::Work(large) = edge(1).utter(Say::Work(Work::Orders(vec![Proven::own(large)]))) else { unreachable!() };
    refused(large, Cause::Inconsistent);
    let nul = Order { args: vec!["a\0b".to_owned()], ..order(1) };
    let Message::Work(nul) = edge(1).utter(Say::Work(Work::Orders(vec![Proven::own(nul)]))) else { unreachable!() };
    refused(nul, Cause::Inconsistent);
}

#[test]
fn claims_travel_by_gossip_and_other_words_do_not() {
    let bytes = edge(1).gossip_claim(Box::new(Proven::own(claim())));
    assert!(bytes.len() < protocol::config::limits::GOSSIP_BYTES, "{} bytes", bytes.len());
    assert!(matches!(edge(2).hear(&bytes), Ok(Gossip::Claim(heard)) if heard.value == claim()));
    assert_eq!(edge(2).hear(&frame(Work::AskLeader(fence()))), Err(Cause::Unexpected));
    assert_eq!(edge(2).hear(&Message::Work(Work::Claim(Box::new(Proven::own(claim())))).to_frame()), Err(Cause::Signature));
}
