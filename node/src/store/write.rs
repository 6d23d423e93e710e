//! Changes to rows: what each durable word does to the tables.
//! Knows nothing of threads or files. Writing the same batch twice leaves what writing it once leaves.

mod work;

use std::collections::BTreeMap;

use protocol::Change;
use protocol::codec;
use protocol::effect::Copied;
use protocol::input::OUTCOMES;
use redb::{ReadableTable, WriteTransaction};

use super::fault::Fault;
use super::log::{COPY, OWN, copy_chain};
use super::{Write, retention, rows, tables};

/// Writes all of `changes` into `txn`, table by table: rows of one table land next to one another.
pub(crate) fn write(txn: &WriteTransaction, changes: &[Write]) -> Result<(), Fault> {
    let (mut own, mut sent, mut bundles, mut out, mut inbox) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut services, mut orders, mut queue, mut tries) = (vec![], vec![], vec![], vec![]);
    let (mut custody, mut record, mut copies, mut prunes) = (vec![], vec![], vec![], vec![]);
    for change in changes {
        match change {
            Write::Change(change) => match change {
                Change::Me(_) | Change::Known(_) | Change::Blocked { .. } => own.push(change),
                Change::Letter(_) | Change::Waiting { .. } | Change::Key { .. } => sent.push(change),
                Change::Bundle(_) | Change::DropBundle { .. } | Change::Holders { .. } => bundles.push(change),
                Change::Hold(_) | Change::Unhold { .. } | Change::KeepReceipt { .. } | Change::DropReceipt { .. } => custody.push(change),
                Change::OutStream(_) | Change::Delivered { .. } | Change::Discarded { .. } | Change::ReadBy { .. } => out.push(change),
                Change::InStream(_) | Change::Taken(_) | Change::Shown { .. } | Change::OutcomeShown { .. } | Change::Read { .. } => {
                    inbox.push(change)
                }
                Change::Fence(_) | Change::Offer(_) | Change::DropOffer(_) | Change::Drain(_) => services.push(change),
                Change::Order(_) | Change::OrderState(_) | Change::UnitEnd { .. } | Change::OrderKey { .. } => orders.push(change),
                Change::Queue(_) | Change::QueueState(_) | Change::Unqueue(_) | Change::Closed { .. } => queue.push(change),
                Change::TryStarted { .. } | Change::TryEnded(_) | Change::DropTry(_) => tries.push(change),
                Change::Prune(pruned) => prunes.push(&**pruned),
                Change::Copied(copied) => copies.push(&**copied),
                Change::Segment { .. } => {}
            },
            Write::Segment { chain, number, first, signed, entries } => record.push((*chain, *number, *first, signed, *entries)),
        }
    }
    type Part<'a> = (&'a [&'a Change], fn(&WriteTransaction, &[&Change]) -> Result<(), Fault>);
    let parts: [Part<'_>; 10] = [
        (&own, write_own),
        (&sent, write_sent),
        (&bundles, write_bundles),
        (&custody, write_custody),
        (&out, write_out),
        (&inbox, write_inbox),
        (&services, work::write_services),
        (&orders, work::write_orders),
        (&queue, work::write_queue),
        (&tries, work::write_tries),
    ];
    parts.into_iter().filter(|(changes, _)| !changes.is_empty()).try_for_each(|(changes, write)| write(txn, changes))?;
    if !record.is_empty() {
        write_record(txn, &record)?;
    }
    if !copies.is_empty() {
        write_copies(txn, &copies)?;
    }
    if prunes.is_empty() { Ok(()) } else { retention::write(txn, &prunes) }
}

fn write_own(txn: &WriteTransaction, changes: &[&Change]) -> Result<(), Fault> {
    let (mut me, mut known) = (txn.open_table(tables::ME)?, txn.open_table(tables::KNOWN)?);
    let mut blocked = txn.open_table(tables::BLOCKED)?;
    for change in changes {
        match change {
            Change::Blocked { peer, on: true } => drop(blocked.insert(peer.to_bytes().as_slice(), ())?),
            Change::Blocked { peer, on: false } => drop(blocked.remove(peer.to_bytes().as_slice())?),
            Change::Me(value) => drop(me.insert((), codec::encode(value).as_slice())?),
            Change::Known(value) => {
                // The card is signed and was checked by whoever made this change; its id is what the row is found by.
                let contact = value.contact.trusted().map_err(|error| Fault::row(&tables::KNOWN, &value.contact, error))?;
                known.insert(contact.id.to_bytes().as_slice(), codec::encode(value).as_slice())?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn write_sent(txn: &WriteTransaction, changes: &[&Change]) -> Result<(), Fault> {
    let (mut sent, mut copies) = (txn.open_table(tables::SENT)?, txn.open_table(tables::COPIES)?);
    let (mut waiting, mut keys) = (txn.open_table(tables::WAITING)?, txn.open_table(tables::KEYS)?);
    for change in changes {
        match change {
            Change::Letter(letter) => {
                sent.insert(letter.k, rows::sent(letter).as_slice())?;
                for place in letter.to.iter().filter_map(|copy| copy.place) {
                    copies.insert((place.stream, place.seq), letter.k)?;
                }
            }
            Change::Waiting { k, waits: true } => drop(waiting.insert(k, ())?),
            Change::Waiting { k, waits: false } => drop(waiting.remove(k)?),
            Change::Key { key, letter, k, digest } => drop(keys.insert(key.as_str(), (letter.as_bytes(), *k, digest))?),
            _ => {}
        }
    }
    Ok(())
}

fn write_bundles(txn: &WriteTransaction, changes: &[&Change]) -> Result<(), Fault> {
    let (mut bundles, mut sealed) = (txn.open_table(tables::BUNDLES)?, txn.open_table(tables::SEALED)?);
    let mut holding = txn.open_table(tables::HOLDERS)?;
    for change in changes {
        match change {
            Change::Bundle(kept) => {
                bundles.insert((kept.stream, kept.first), rows::bundle_index(kept).as_slice())?;
                sealed.insert((kept.stream, kept.first), rows::sealed(kept).as_slice())?;
            }
            Change::DropBundle { stream, first } => {
                bundles.remove((*stream, *first))?;
                sealed.remove((*stream, *first))?;
                holding.remove((*stream, *first))?;
            }
            Change::Holders { stream, first, holders } if holders.is_empty() => drop(holding.remove((*stream, *first))?),
            Change::Holders { stream, first, holders } => {
                holding.insert((*stream, *first), codec::encode(holders).as_slice())?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn write_custody(txn: &WriteTransaction, changes: &[&Change]) -> Result<(), Fault> {
    let (mut held, mut parcels) = (txn.open_table(tables::HELD)?, txn.open_table(tables::HELD_PARCELS)?);
    let mut receipts = txn.open_table(tables::RECEIPTS)?;
    for change in changes {
        match change {
            Change::Hold(bundle) => {
                held.insert(bundle.index.no, rows::held(&bundle.index).as_slice())?;
                parcels.insert(bundle.index.no, rows::parcel(&bundle.parcel).as_slice())?;
            }
            Change::Unhold { no } => {
                held.remove(no)?;
                parcels.remove(no)?;
            }
            Change::KeepReceipt { slot, receipt } => {
                receipts.insert(rows::slot(slot).as_slice(), codec::encode(receipt).as_slice())?;
            }
            Change::DropReceipt { slot } => drop(receipts.remove(rows::slot(slot).as_slice())?),
            _ => {}
        }
    }
    Ok(())
}

fn write_out(txn: &WriteTransaction, changes: &[&Change]) -> Result<(), Fault> {
    let mut streams = txn.open_table(tables::OUT_STREAMS)?;
    let (mut delivered, mut read_by) = (txn.open_table(tables::DELIVERED)?, txn.open_table(tables::READ_BY)?);
    let mut discarded = txn.open_table(tables::DISCARDED)?;
    for change in changes {
        match change {
            Change::OutStream(stream) => drop(streams.insert(stream.no, codec::encode(stream).as_slice())?),
            Change::Delivered { stream, first, last, at } => drop(delivered.insert((*stream, *first), (*last, at.0))?),
            Change::Discarded { stream, first, last, at } => drop(discarded.insert((*stream, *first), (*last, at.0))?),
            Change::ReadBy { stream, first, last, at } => drop(read_by.insert((*stream, *first), (*last, at.0))?),
            _ => {}
        }
    }
    Ok(())
}

fn write_inbox(txn: &WriteTransaction, changes: &[&Change]) -> Result<(), Fault> {
    let (mut streams, mut taken) = (txn.open_table(tables::IN_STREAMS)?, txn.open_table(tables::TAKEN)?);
    let (mut inbox, mut unread, mut unshown) =
        (txn.open_table(tables::INBOX)?, txn.open_table(tables::UNREAD)?, txn.open_table(tables::UNSHOWN)?);
    // Most letters get their place in the batch that takes them; those are never written to `unshown`.
    let mut fresh = BTreeMap::new();
    for change in changes {
        match change {
            Change::InStream(stream) => drop(streams.insert(stream.no, codec::encode(stream).as_slice())?),
            Change::Taken(letter) => {
                let key = (letter.stream, letter.seq, letter.twin);
                taken.insert(key, rows::taken(letter).as_slice())?;
                if !letter.silent {
                    fresh.insert(key, letter.envelope.id);
                }
            }
            Change::Shown { place, missing_before } => {
                let key = (place.stream, place.seq, place.twin);
                let letter = if let Some(letter) = fresh.remove(&key) {
                    letter
                } else {
                    unshown.remove(key)?;
                    let row = taken.get(key)?.ok_or_else(|| Fault::row(&tables::TAKEN, &key, "missing"))?;
                    rows::id(&tables::TAKEN, &key, row.value())?
                };
                inbox.insert(place.n, (place.stream, place.seq, place.twin, *missing_before, 0, letter.as_bytes()))?;
                unread.insert(place.n, ())?;
            }
            Change::OutcomeShown { n, number, id } => {
                inbox.insert(n, (OUTCOMES, *number, 0, 0, 0, id.as_bytes()))?;
                unread.insert(n, ())?;
            }
            Change::Read { n, at } => {
                let row = inbox.get(n)?.map(|row| {
                    let (stream, seq, twin, missing_before, read, letter) = row.value();
                    (stream, seq, twin, missing_before, read, *letter)
                });
                // Whoever said so was wrong about its place; that is no reason to stop the node. Of several times the first counts.
                let Some((stream, seq, twin, missing_before, 0, letter)) = row else { continue };
                // 0 stands for "not read": a clock that says 1970 must not make a letter unread again.
                inbox.insert(n, (stream, seq, twin, missing_before, at.0.max(1), &letter))?;
                unread.remove(n)?;
            }
            _ => {}
        }
    }
    fresh.into_keys().try_for_each(|key| unshown.insert(key, ()).map(drop))?;
    Ok(())
}

fn write_record(txn: &WriteTransaction, segments: &[(u64, u64, u64, &Vec<u8>, u32)]) -> Result<(), Fault> {
    let mut chains = txn.open_table(tables::CHAINS)?;
    let (mut table, mut index) = (txn.open_table(tables::SEGMENTS)?, txn.open_table(tables::ENTRIES)?);
    let mut arrivals = txn.open_table(tables::ARRIVALS)?;
    for (chain, number, first, signed, entries) in segments {
        let last = chains.last()?.map(|(ordinal, chain)| (ordinal.value(), chain.value()));
        let ordinal = match last {
            Some((ordinal, last)) if last == *chain => ordinal,
            last => {
                let ordinal = last.map_or(0, |(ordinal, _)| ordinal + 1);
                chains.insert(ordinal, chain)?;
                ordinal
            }
        };
        table.insert((ordinal, *number), rows::segment(*first, *entries, signed).as_slice())?;
        index.insert(first, (ordinal, *number))?;
        let no = arrivals.last()?.map_or(1, |(no, _)| no.value() + 1);
        arrivals.insert(no, (OWN, ordinal, *number))?;
    }
    Ok(())
}

fn write_copies(txn: &WriteTransaction, copies: &[&Copied]) -> Result<(), Fault> {
    let (mut chains, mut table) = (txn.open_table(tables::COPY_CHAINS)?, txn.open_table(tables::COPIED)?);
    let mut arrivals = txn.open_table(tables::ARRIVALS)?;
    let mut ordinals = BTreeMap::new();
    for row in chains.iter()? {
        let (ordinal, row) = row?;
        ordinals.insert(row.value().to_vec(), ordinal.value());
    }
    let mut no = arrivals.last()?.map_or(0, |(no, _)| no.value());
    for copied in copies {
        let key = copy_chain(&copied.author, copied.chain, copied.branch);
        let ordinal = if let Some(ordinal) = ordinals.get(&key) {
            *ordinal
        } else {
            let ordinal = chains.last()?.map_or(0, |(ordinal, _)| ordinal.value() + 1);
            chains.insert(ordinal, key.as_slice())?;
            ordinals.insert(key, ordinal);
            ordinal
        };
        table.insert((ordinal, copied.number), rows::segment(copied.first, copied.entries, &copied.signed).as_slice())?;
        no += 1;
        arrivals.insert(no, (COPY, ordinal, copied.number))?;
    }
    Ok(())
}
