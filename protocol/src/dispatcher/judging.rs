//! Whether a worker can take a unit, and what it lacks.
//! Knows nothing of the queue. What a worker said when it was asked counts for more than what it offers.

use super::WorkerView;
use super::lines::Shape;
use super::workers::{Load, Takes, Workers};
use crate::service::{Lack, ServiceCard, ServiceName};

/// Whether a worker can take a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can.
    Fits,
    /// It could if it were emptier: cores or memory are taken.
    Busy,
    /// Not now.
    Later(Lack),
    /// Not while it is what it is.
    Never(Lack),
}

impl Verdict {
    pub(super) fn lack(self) -> Option<Lack> {
        match self {
            Verdict::Fits => None,
            Verdict::Busy => Some(Lack::Busy),
            Verdict::Later(lack) | Verdict::Never(lack) => Some(lack),
        }
    }
}

impl Workers {
    /// Whether a worker can take a unit of an order of that shape now.
    pub(super) fn judge(&self, view: &WorkerView<'_>, card: &ServiceCard, load: &Load, shape: &Shape) -> Verdict {
        if let Some(lack) = never(view, card, shape) {
            return Verdict::Never(lack);
        }
        if !self.is_reachable(&view.peer) {
            return Verdict::Later(Lack::NotAvailable);
        }
        let declined = self.declines(&view.peer, &card.name, None);
        if let Some(lack) = declined.or_else(|| self.declines(&view.peer, &card.name, Some(shape))) {
            return Verdict::Later(lack.clone());
        }
        if load.in_flight >= load.most {
            return Verdict::Later(Lack::Full);
        }
        let needs = needs(card, shape);
        let over = |taken: u128, needed: u64, all: u64| all > 0 && needed > 0 && taken + u128::from(needed) > u128::from(all);
        let busy = over(u128::from(load.cores), needs.0.into(), view.statistics.cores.into())
            || over(load.memory_bytes, needs.1, view.statistics.memory_bytes);
        // Beyond the limit it waits there, and takes nothing yet.
        if load.in_flight < card.limit && busy { Verdict::Busy } else { Verdict::Fits }
    }

    /// Whether a worker takes anything of a service for now, whoever orders.
    pub(super) fn has_room(&self, view: &WorkerView<'_>, card: &ServiceCard, load: &Load) -> bool {
        load.in_flight < load.most
            && view.welcomes
            && !view.services.draining
            && self.is_reachable(&view.peer)
            && self.declines(&view.peer, &card.name, None).is_none()
    }
}

/// What a run takes: the greater of what the order and the offer say.
pub(super) fn needs(card: &ServiceCard, shape: &Shape) -> Takes {
    (shape.cores.max(card.needs.cores), shape.memory_bytes.max(card.needs.memory_bytes))
}

/// Why a worker can never take a unit, as it is.
fn never(view: &WorkerView<'_>, card: &ServiceCard, shape: &Shape) -> Option<Lack> {
    let needs = needs(card, shape);
    let (cores, memory) = (view.statistics.cores, view.statistics.memory_bytes);
    if view.services.draining {
        Some(Lack::Draining)
    } else if !view.welcomes {
        Some(Lack::NotAvailable)
    } else if !card.allowed.allows(&shape.orderer, &view.peer) {
        Some(Lack::NotAllowed)
    } else if let Some(word) = shape.software.iter().find(|word| !view.services.software.contains(*word)) {
        Some(Lack::Software(word.clone()))
    } else if cores > 0 && needs.0 > cores {
        // A worker that measured nothing yet is asked.
        Some(Lack::Cores(cores))
    } else if memory > 0 && needs.1 > memory {
        Some(Lack::Memory(memory))
    } else {
        None
    }
}

/// A worker's offer of a service.
pub(super) fn card<'a>(view: &WorkerView<'a>, service: &ServiceName) -> Option<&'a ServiceCard> {
    let services = &view.services.services;
    services.binary_search_by(|card| card.name.cmp(service)).ok().map(|at| &services[at])
}
