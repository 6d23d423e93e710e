//! Why an order is not running, in a sentence: who was considered, what each lacks, what would change it.
//! Knows nothing beyond what the dispatcher says. What can change by itself is said before what cannot.

use std::collections::BTreeMap;

use protocol::PeerId;
use protocol::order::Ended;
use protocol::service::{Lack, Needs};
use protocol::work::Full;

use super::api;
use super::names::Names;

/// Workers called by their names; of more only the number is said (guess: what fits a line).
const NAMED: usize = 3;

/// What each worker lacks, as the API lists it.
pub(super) fn lacking(lacks: &BTreeMap<PeerId, Lack>, names: &Names<'_>) -> Vec<api::Lacking> {
    let one = |(worker, lack): (&PeerId, &Lack)| {
        let (lack, detail) = word(lack);
        api::Lacking { worker: names.of(worker), worker_id: worker.to_string(), lack, detail }
    };
    lacks.iter().map(one).collect()
}

/// The API's word, and what goes with it.
pub(super) fn word(lack: &Lack) -> (api::Lack, Option<String>) {
    match lack {
        Lack::NotOffered => (api::Lack::NotOffered, None),
        Lack::NotAllowed => (api::Lack::NotAllowed, None),
        Lack::Full => (api::Lack::Full, None),
        Lack::Cores(there) => (api::Lack::Cores, Some(there.to_string())),
        Lack::Memory(there) => (api::Lack::Memory, Some(size(*there))),
        Lack::Busy => (api::Lack::Busy, None),
        Lack::Software(missing) => (api::Lack::Software, Some(missing.clone())),
        Lack::Draining => (api::Lack::Draining, None),
        Lack::NotAvailable => (api::Lack::NotAvailable, None),
        Lack::Disk => (api::Lack::Disk, None),
        Lack::NoOrder => (api::Lack::NoOrder, None),
    }
}

/// Why units of `service` wait. `needs` are not known of orders of other nodes.
pub(super) fn waits(service: &str, needs: Option<&Needs>, lacks: &BTreeMap<PeerId, Lack>, names: &Names<'_>) -> String {
    let who = |fits: &dyn Fn(&Lack) -> bool| -> Vec<String> {
        lacks.iter().filter(|(_, lack)| fits(lack)).map(|(worker, _)| names.of(worker)).collect()
    };
    let offered = lacks.values().filter(|lack| **lack != Lack::NotOffered).count();
    if offered == 0 {
        return format!("nobody here offers {service}; it starts when somebody does");
    }
    let mut clauses = Vec::new();
    let mut say = |who: Vec<String>, one: &str, several: &str| {
        let verb = if who.len() == 1 { one } else { several };
        if !who.is_empty() {
            clauses.push(format!("{} {verb}", list(&who)));
        }
    };
    say(who(&|lack| matches!(lack, Lack::Full | Lack::Busy)), "is busy", "are busy");
    say(who(&|lack| *lack == Lack::NoOrder), "is being given the order", "are being given the order");
    say(who(&|lack| *lack == Lack::Draining), "finishes what it has and takes nothing new", "finish what they have and take nothing new");
    say(who(&|lack| *lack == Lack::NotAvailable), "takes no work now", "take no work now");
    say(who(&|lack| *lack == Lack::Disk), "has too little room on its disk", "have too little room on their disks");
    let cores = lacks.iter().filter_map(|(worker, lack)| if let Lack::Cores(there) = lack { Some((*there, *worker)) } else { None }).max();
    if let Some((there, worker)) = cores {
        // It may also be the service that needs them, whatever the order says.
        let wanted = needs.filter(|needs| needs.cores > there);
        let wanted = wanted.map_or_else(|| "more cores".to_owned(), |needs| plural(u64::from(needs.cores), "core", "cores"));
        clauses.push(format!("needs {wanted}, largest worker ({}) has {there}", names.of(&worker)));
    }
    let memory =
        lacks.iter().filter_map(|(worker, lack)| if let Lack::Memory(there) = lack { Some((*there, *worker)) } else { None }).max();
    if let Some((there, worker)) = memory {
        let wanted = needs.filter(|needs| needs.memory_bytes > there);
        let wanted = wanted.map_or_else(|| "more memory".to_owned(), |needs| format!("{} of memory", size(needs.memory_bytes)));
        clauses.push(format!("needs {wanted}, largest worker ({}) has {}", names.of(&worker), size(there)));
    }
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (worker, lack) in lacks {
        if let Lack::Software(word) = lack {
            missing.entry(word).or_default().push(names.of(worker));
        }
    }
    for (word, workers) in missing {
        let who = if workers.len() == offered {
            "no worker has".to_owned()
        } else {
            format!("{} {} not", list(&workers), if workers.len() == 1 { "has" } else { "have" })
        };
        clauses.push(format!("needs the software {word}, which {who} declared"));
    }
    let refusing = who(&|lack| *lack == Lack::NotAllowed);
    if !refusing.is_empty() {
        let verb = if refusing.len() == 1 { "does" } else { "do" };
        clauses.push(format!("{} {verb} not allow it to be ordered from here", list(&refusing)));
    }
    clauses.join("; ")
}

/// Why the dispatcher does not take an order.
pub(super) fn full(full: Full) -> &'static str {
    match full {
        Full::Orders => "holds as many orders as it may",
        Full::Bytes => "holds as many bytes of orders as it may",
        Full::Disk => "has too little room on its disk",
    }
}

/// How a unit ended, in words; none if it ended well.
pub(super) fn ended(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Exited(0) => None,
        Ended::Exited(code) => Some(format!("exit {code}")),
        Ended::TimedOut => Some("time limit".to_owned()),
        Ended::NotStarted(why) => Some(format!("could not start: {why}")),
        Ended::Cancelled => Some("cancelled".to_owned()),
    }
}

pub(super) fn list(who: &[String]) -> String {
    match who {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] if who.len() <= NAMED => format!("{} and {last}", most.join(", ")),
        more => format!("{} workers", more.len()),
    }
}

fn plural(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// Bytes for people, in the units that options take.
pub(super) fn size(bytes: u64) -> String {
    let (unit, word) = match bytes {
        0..1_024 => return format!("{bytes} B"),
        1_024..1_048_576 => (1_024, "KiB"),
        1_048_576..1_073_741_824 => (1_048_576, "MiB"),
        _ => (1_073_741_824, "GiB"),
    };
    // Whoever asks for all the memory that a number can name is told so, too.
    let tenths = u128::from(bytes) * 10 / unit;
    if tenths.is_multiple_of(10) { format!("{} {word}", tenths / 10) } else { format!("{}.{} {word}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_bytes_can_be_told() {
        for (bytes, expected) in [(0, "0 B"), (1_536, "1.5 KiB"), (2 << 20, "2 MiB"), (u64::MAX, "17179869183.9 GiB")] {
            assert_eq!(size(bytes), expected);
        }
    }
}
