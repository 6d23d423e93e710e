//! What it costs that one peer keeps everybody's record: letters and orders with that and without it, turn by turn.
//! Knows nothing of segments. The record is kept where it costs most: at the recipient of letters, at the dispatcher of orders.

use crate::floors::TEXT;
use crate::letters::per_second;
use crate::machine::nanos;
use crate::nodes::{self, Node, wait};
use crate::orders::orderer_and_worker;
use crate::rows::Bench;
use crate::table::Figure;
use std::path::Path;
use std::time::Duration;

/// Time between two looks.
const RARE: Duration = Duration::from_millis(20);

fn letters(place: &Path, letters: u64) -> f64 {
    let (ann, bea) = nodes::pair(place);
    wait(bea.lead(std::slice::from_ref(&ann)));
    let to = ["bea".to_owned()];
    wait(ann.write(&to, 1000, TEXT));
    wait(ann.receipted());
    let begin = nanos();
    wait(ann.write(&to, letters, TEXT));
    let rate = per_second(letters, begin, wait(ann.receipted()));
    [ann, bea].into_iter().for_each(Node::stop);
    rate
}

fn orders(place: &Path, orders: u64) -> f64 {
    let (ann, bea) = orderer_and_worker(place, None);
    let begin = nanos();
    wait(ann.order("work", orders));
    let rate = per_second(orders, begin, wait(ann.ended(RARE)));
    [ann, bea].into_iter().for_each(Node::stop);
    rate
}

/// Both, with and without.
pub(crate) fn record(bench: &mut Bench) -> Vec<Figure> {
    let many = bench.options.letters;
    let mut runs: [Vec<f64>; 4] = Default::default();
    for _ in 0..bench.options.runs {
        for others in [false, true] {
            nodes::keep_others(others);
            let place = bench.place();
            runs[usize::from(others)].push(letters(place.path(), many));
            let place = bench.place();
            runs[2 + usize::from(others)].push(orders(place.path(), many));
        }
    }
    let [alone, kept, orders_alone, orders_kept] = runs;
    let share = |with: &[f64], without: &[f64]| with.iter().zip(without).map(|(with, without)| with / without).collect::<Vec<_>>();
    let of = |what: &str, unit, values| Figure::new("record", what, unit, values);
    vec![
        of("share of letters with the record kept", "x", share(&kept, &alone)).target(">= 0.85"),
        of("share of orders with the record kept", "x", share(&orders_kept, &orders_alone)).target(">= 0.85"),
        of("letters receipted, nobody's record kept", "letters/s", alone),
        of("letters receipted, the recipient keeps the author's record", "letters/s", kept),
        of("orders ended, nobody's record kept", "orders/s", orders_alone),
        of("orders ended, the dispatcher keeps the worker's record", "orders/s", orders_kept),
    ]
}
