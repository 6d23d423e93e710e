//! What is said to each peer within one batch, gathered.
//! Knows nothing of why. Nothing is longer than a frame, and what ended is told before the list of what is not.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;

use crate::config::limits;
use crate::effect::Out;
use crate::order::{Broken, Fence, Report, Try};
use crate::proven::Proven;
use crate::service::Lack;
use crate::work::{Progress, Work, Working};

/// Bytes of reports in one frame, about (guess: a quarter of a second of a slow link).
const FRAME_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Words {
    to: BTreeMap<PeerId, Said>,
}

#[derive(Debug, Default)]
struct Said {
    answers: BTreeMap<Fence, Answers>,
    started: Vec<Try>,
    progress: Vec<Progress>,
    reports: Vec<Proven<Report>>,
    broken: Vec<(Try, Broken)>,
    working: Vec<(Fence, Vec<Working>, bool)>,
}

#[derive(Debug, Default)]
struct Answers {
    taken: Vec<Try>,
    declined: Vec<(Try, Lack)>,
}

impl Words {
    pub(super) fn take(&mut self, to: PeerId, fence: Fence, task: Try) {
        self.said(to).answers.entry(fence).or_default().taken.push(task);
    }

    pub(super) fn decline(&mut self, to: PeerId, fence: Fence, task: Try, lack: Lack) {
        self.said(to).answers.entry(fence).or_default().declined.push((task, lack));
    }

    pub(super) fn started(&mut self, to: PeerId, task: Try) {
        self.said(to).started.push(task);
    }

    pub(super) fn progress(&mut self, to: PeerId, progress: Progress) {
        self.said(to).progress.push(progress);
    }

    pub(super) fn report(&mut self, to: PeerId, report: Proven<Report>) {
        self.said(to).reports.push(report);
    }

    pub(super) fn broken(&mut self, to: PeerId, task: Try, why: Broken) {
        self.said(to).broken.push((task, why));
    }

    /// `whole`: these are all there are.
    pub(super) fn working(&mut self, to: PeerId, fence: Fence, tries: Vec<Working>, whole: bool) {
        self.said(to).working.push((fence, tries, whole));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.to.is_empty()
    }

    /// All of it leaves.
    pub(super) fn leave(&mut self, out: &mut Out) {
        for (to, said) in std::mem::take(&mut self.to) {
            for (fence, Answers { taken, declined }) in said.answers {
                for taken in pages(taken) {
                    out.work(to, Work::Answer { fence, taken, declined: Vec::new() });
                }
                for declined in pages(declined) {
                    out.work(to, Work::Answer { fence, taken: Vec::new(), declined });
                }
            }
            for started in pages(said.started) {
                out.work(to, Work::Started(started));
            }
            for progress in pages(said.progress) {
                out.work(to, Work::Progress(progress));
            }
            let mut frame: Vec<Proven<Report>> = Vec::new();
            let mut bytes = 0;
            for report in said.reports {
                if !frame.is_empty() && (frame.len() >= limits::WORDS || bytes + report.body.len() > FRAME_BYTES) {
                    out.work(to, Work::Reports(std::mem::take(&mut frame)));
                    bytes = 0;
                }
                bytes += report.body.len();
                frame.push(report);
            }
            if !frame.is_empty() {
                out.work(to, Work::Reports(frame));
            }
            for broken in pages(said.broken) {
                out.work(to, Work::Broken(broken));
            }
            for (fence, tries, whole) in said.working {
                let mut pages = pages(tries).peekable();
                if pages.peek().is_none() {
                    out.work(to, Work::Working { fence, tries: Vec::new(), last: whole });
                }
                while let Some(tries) = pages.next() {
                    let last = whole && pages.peek().is_none();
                    out.work(to, Work::Working { fence, tries, last });
                }
            }
        }
    }

    fn said(&mut self, to: PeerId) -> &mut Said {
        self.to.entry(to).or_default()
    }
}

fn pages<T>(items: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut items = items.into_iter();
    std::iter::from_fn(move || Some(items.by_ref().take(limits::WORDS).collect::<Vec<T>>()).filter(|page| !page.is_empty()))
}
