//! The other side: what this node has is listed and sent to whoever asks.
//! Anybody may: the record is everybody's. Who has all that was written so far waits for what comes.

use std::time::Duration;

use libp2p_identity::PeerId;
use serde_bytes::ByteArray;

use super::{End, Logger};
use crate::config::limits;
use crate::copies::ChainHead;
use crate::effect::{Effect, Out, Say};
use crate::now::Now;

impl Logger {
    /// Lists what is here, a page at a time.
    pub(crate) fn on_ask_chains(&self, from: PeerId, ask: u32, after: u32, out: &mut Out) {
        let newest = self.own.last().map(|(chain, _)| *chain);
        let head = |author: PeerId, chain: u64, end: &End, newest: bool| ChainHead {
            author,
            chain,
            first: end.first,
            last: end.last,
            hash: ByteArray::new(end.hash),
            newest,
        };
        let own = self.own.iter().map(|(chain, end)| head(self.me, *chain, end, Some(*chain) == newest));
        let copies = self.copies.iter().map(|((author, chain, _), end)| head(*author, *chain, end, false));
        let mut rest = own.chain(copies).skip(after as usize);
        let chains: Vec<ChainHead> = rest.by_ref().take(limits::PAGE).collect();
        let more = rest.next().is_some();
        out.send(from, Say::Chains { ask, chains, more });
    }

    /// Sends what comes after a segment; if that is the last, and `from` follows, when there is more.
    pub(crate) fn on_ask_segments(
        &mut self,
        from: PeerId,
        (author, chain): (PeerId, u64),
        tip: [u8; 32],
        after: u64,
        follow: bool,
        out: &mut Out,
    ) {
        if author == self.me
            && let Some((_, own)) = self.own.iter().find(|(own, _)| *own == chain)
        {
            // A copy of what this node has forgotten is asked for by its end.
            let forgotten = self.copies.iter().any(|((of, other, _), end)| (*of, *other, end.hash) == (author, chain, tip));
            if follow && after >= own.last && self.own.last().is_some_and(|(newest, _)| *newest == chain) {
                self.parked.insert(from, (chain, after));
                return;
            }
            if !forgotten {
                return out.effects.push(Effect::SendSegments { to: from, author, chain, branch: None, after });
            }
        }
        let lines = self.copies.range((author, chain, 0)..=(author, chain, u8::MAX));
        let line = lines.clone().find(|(_, end)| end.hash == tip).or_else(|| lines.clone().next());
        let branch = line.map_or(0, |((.., branch), _)| *branch);
        out.effects.push(Effect::SendSegments { to: from, author, chain, branch: Some(branch), after });
    }

    /// The end of this node's own record, which may have grown with this batch: who waits for that is told, now and then.
    pub(crate) fn close(&mut self, (chain, number, hash): (u64, u64, [u8; 32]), leaving: bool, now: Now, out: &mut Out) {
        match self.own.last_mut() {
            _ if number == 0 => {}
            Some((last, end)) if *last == chain => (end.last, end.hash) = (number, hash),
            _ => self.own.push((chain, End { first: 1, last: number, hash })),
        }
        if !leaving && self.news_at().is_none_or(|at| at > now.mono) {
            return;
        }
        let Some((newest, end)) = self.own.last().copied() else { return };
        // Whoever waits for a chain that is not written on lists what there is anew: its memory is told by the beacon.
        let due: Vec<(PeerId, u64)> = self
            .parked
            .iter()
            .filter(|(_, (chain, after))| *chain == newest && *after < end.last)
            .map(|(peer, (_, after))| (*peer, *after))
            .collect();
        for (to, after) in due {
            self.parked.remove(&to);
            self.served_at = Some(now.mono);
            out.effects.push(Effect::SendSegments { to, author: self.me, chain: newest, branch: None, after });
        }
    }

    /// When somebody who waits is to be told.
    pub(super) fn news_at(&self) -> Option<Duration> {
        let (newest, end) = self.own.last()?;
        let waits = self.parked.values().any(|(chain, after)| chain == newest && *after < end.last);
        waits.then(|| self.served_at.map_or(Duration::ZERO, |at| at + self.interval))
    }
}
