//! `services [PEER]`: what is offered here and elsewhere.
//! Knows nothing of how it is run. A service of several workers is one line; of one peer, each with what it takes.

use std::collections::BTreeMap;

use clap::Args;

use super::Context;
use super::failure::{DONE, Failure};
use super::places::typed;
use super::status::size;
use super::terminal::{line, print};
use crate::control::api::Service;
use crate::control::client::quoted;

/// Workers named in a line; of more only the number (guess: what fits).
const NAMED: usize = 3;

#[derive(Debug, Args)]
pub(super) struct ServicesArgs {
    /// Only what this peer offers, as it answers now
    #[arg(value_name = "PEER")]
    peer: Option<String>,
}

/// What a row about a service of one peer tells.
pub(super) const HEADS: [&str; 5] = ["SERVICE", "AT ONCE", "EACH TAKES", "FOR", "ABOUT"];

pub(super) async fn execute(args: ServicesArgs, context: &Context) -> Result<u8, Failure> {
    let peer = args.peer.as_deref().map(|peer| format!("&peer={}", quoted(peer))).unwrap_or_default();
    let services: Vec<Service> = context.client.all(&format!("/v1/services?limit=1000{peer}")).await?;
    if context.json {
        context.document(&services)?;
    } else if services.is_empty() {
        if context.terminal.is {
            print(&typed(if args.peer.is_some() {
                "it offers nothing\n  what others offer: node services\n"
            } else {
                "nobody here offers anything\n  to offer something: node offer NAME --allow anyone -- CMD\n"
            }))?;
        }
    } else if args.peer.is_some() {
        let rows: Vec<[String; 5]> = services.iter().map(of_one).collect();
        print(&context.terminal.table(HEADS, &rows))?;
    } else {
        print(&context.terminal.table(["SERVICE", "WORKERS", "AT ONCE", "FOR YOU", "ABOUT"], &of_all(&services)))?;
    }
    Ok(DONE)
}

pub(super) fn of_one(service: &Service) -> [String; 5] {
    let mut takes = Vec::new();
    if service.cores > 0 {
        takes.push(format!("{} core{}", service.cores, if service.cores == 1 { "" } else { "s" }));
    }
    if service.memory_bytes > 0 {
        takes.push(size(service.memory_bytes));
    }
    takes.extend(service.software.iter().map(|word| line(word)));
    let takes = if takes.is_empty() { "-".to_owned() } else { takes.join(", ") };
    // It blocks this node, and lists that nowhere.
    let not_you = !service.allowed && service.allow == ["anyone"];
    let allow = if not_you { "anyone but you".to_owned() } else { line(&service.allow.join(", ")) };
    let at_once = if service.draining { "draining".to_owned() } else { service.limit.to_string() };
    [line(&service.service), at_once, takes, allow, line(&service.about)]
}

fn of_all(services: &[Service]) -> Vec<[String; 5]> {
    let mut by_name: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
    for service in services {
        by_name.entry(&service.service).or_default().push(service);
    }
    let row = |(name, workers): (&str, Vec<&Service>)| {
        let drain = workers.iter().filter(|service| service.draining).count();
        let named = |service: &&Service| line(&service.worker) + if service.draining { " (draining)" } else { "" };
        let who = match (workers.len(), drain) {
            (..=NAMED, _) => workers.iter().map(named).collect::<Vec<_>>().join(", "),
            (all, 0) => format!("{all} workers"),
            (all, drain) => format!("{all} workers, {drain} draining"),
        };
        let taking = workers.iter().filter(|service| service.available);
        let limit: u32 = taking.map(|service| service.limit).sum();
        let yes = workers.iter().filter(|service| service.allowed).count();
        let allowed = match yes {
            0 => "no".to_owned(),
            yes if yes == workers.len() => "yes".to_owned(),
            yes => format!("at {yes} of them"),
        };
        let about = workers.iter().map(|service| service.about.as_str()).find(|about| !about.is_empty()).unwrap_or_default();
        [line(name), who, limit.to_string(), allowed, line(about)]
    };
    by_name.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, worker: &str, available: bool, allowed: bool) -> Service {
        Service {
            service: name.to_owned(),
            about: String::new(),
            worker: worker.to_owned(),
            worker_id: format!("id-of-{worker}"),
            available,
            draining: false,
            limit: 2,
            cores: 1,
            memory_bytes: 1 << 29,
            software: vec!["milk".to_owned()],
            allow: vec!["anyone".to_owned()],
            allowed,
        }
    }

    #[test]
    fn a_service_of_several_workers_is_one_line() {
        let mut some = vec![service("coffee", "a", true, true), service("coffee", "b", false, false), service("tea", "a", true, false)];
        some[1].about = "hot".to_owned();
        assert_eq!(of_all(&some), [["coffee", "a, b", "2", "at 1 of them", "hot"], ["tea", "a", "2", "no", ""]]);
        some.extend(["c", "d"].map(|worker| service("coffee", worker, true, true)));
        assert_eq!(of_all(&some)[0][1..3], ["4 workers", "6"]);
        let drains = Service { available: false, draining: true, ..service("coffee", "e", true, true) };
        assert_eq!(of_one(&drains)[..2], ["coffee", "draining"]);
        assert_eq!(of_all(std::slice::from_ref(&drains))[0][1..3], ["e (draining)", "0"]);
        some.push(drains);
        assert_eq!(of_all(&some)[0][1..3], ["5 workers, 1 draining", "6"]);
        assert_eq!(of_one(&some[0]), ["coffee", "2", "1 core, 512 MiB, milk", "anyone", ""]);
    }
}
