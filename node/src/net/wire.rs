//! Frames on a stream: `u32 big endian length | bytes`, a task that writes and a task that reads.
//! Knows nothing of what a frame says, nor of which stream is the right one.
//! A length is believed only as far as bytes have arrived for it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::counters::Counters;

/// Length prefix of a frame.
const PREFIX: usize = 4;
/// One write and one read take at most this much (DESIGN section 8); a longer frame is written alone.
const CHUNK: usize = 64 * 1024;
/// Why a reader ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// The stream ended or broke between or within frames; not a fault of the peer.
    Closed,
    /// The peer announced a frame that is empty or longer than the limit.
    BadLength(u32),
    /// A frame began and did not go on.
    Stalled,
}

/// The sending end of a lane: bounded by frames and by bytes, never waits.
pub(crate) struct Queue {
    frames: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

/// The other end of a [`Queue`], for [`write()`].
pub(crate) struct Drain {
    frames: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
}

/// A queue for at most `frames` frames and `limit` bytes, counted until they are handed to the connection.
pub(crate) fn queue(frames: usize, limit: usize) -> (Queue, Drain) {
    let (sender, receiver) = mpsc::channel(frames);
    let bytes = Arc::new(AtomicUsize::new(0));
    let queue = Queue { frames: sender, bytes: bytes.clone(), limit };
    let drain = Drain { frames: receiver, bytes };
    (queue, drain)
}

impl Queue {
    /// Bytes not yet handed to the connection.
    pub(crate) fn waiting(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Queues a frame. `false`: the queue is full or its stream broke; the frame was dropped.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        let size = frame.len();
        // One frame is always let in, however long: the frame limit bounds it.
        let waiting = self.waiting();
        if waiting > 0 && waiting + size > self.limit {
            return false;
        }
        self.bytes.fetch_add(size, Ordering::Relaxed);
        let queued = self.frames.try_send(frame).is_ok();
        if !queued {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
        }
        queued
    }
}

/// Writes all that is queued until the queue is dropped, then closes the stream.
/// `false`: the stream broke and frames that had been queued are lost.
pub(crate) async fn write(mut stream: impl AsyncWrite + Unpin, mut drain: Drain, counters: Arc<Counters>) -> bool {
    let mut ahead: Option<Bytes> = None;
    loop {
        let first = match ahead.take() {
            Some(frame) => frame,
            None => match drain.frames.recv().await {
                Some(frame) => frame,
                None => {
                    // Best effort: the connection may be gone already, and nothing is queued.
                    let _ = stream.close().await;
                    return true;
                }
            },
        };
        let (batch, next) = gather(first, &mut drain.frames);
        ahead = next;
        let written = async {
            stream.write_all(&batch.bytes).await?;
            if let Some(long) = &batch.long {
                stream.write_all(long).await?;
            }
            stream.flush().await
        };
        if written.await.is_err() {
            return false;
        }
        drain.bytes.fetch_sub(batch.payload, Ordering::Relaxed);
        counters.frames_out.add(batch.frames);
        counters.bytes_out.add(batch.payload as u64);
    }
}

/// Frames that go out in one write.
struct Batch {
    bytes: Vec<u8>,
    /// The body of a frame too long to be copied; its prefix ends `bytes`.
    long: Option<Bytes>,
    frames: u64,
    payload: usize,
}

/// Takes what is queued up to [`CHUNK`]; a frame that no longer fits is returned to go first next time.
fn gather(first: Bytes, frames: &mut mpsc::Receiver<Bytes>) -> (Batch, Option<Bytes>) {
    let mut batch = Batch { bytes: Vec::new(), long: None, frames: 1, payload: first.len() };
    let length = u32::try_from(first.len()).expect("frames are checked against frame_max, a u32");
    batch.bytes.extend_from_slice(&length.to_be_bytes());
    if first.len() + PREFIX > CHUNK {
        batch.long = Some(first);
        return (batch, None);
    }
    batch.bytes.extend_from_slice(&first);
    while let Ok(frame) = frames.try_recv() {
        if batch.bytes.len() + PREFIX + frame.len() > CHUNK {
            return (batch, Some(frame));
        }
        let length = u32::try_from(frame.len()).expect("frames are checked against frame_max, a u32");
        batch.bytes.extend_from_slice(&length.to_be_bytes());
        batch.bytes.extend_from_slice(&frame);
        batch.frames += 1;
        batch.payload += frame.len();
    }
    (batch, None)
}

/// Reads frames and hands each to `take` until the stream ends, breaks, lies or `take` says that it wants no more.
/// A frame that has begun and of which nothing comes for `stall` is given up.
pub(crate) async fn read<F>(
    mut stream: impl AsyncRead + Unpin,
    frame_max: u32,
    stall: Duration,
    counters: Arc<Counters>,
    mut take: impl FnMut(Bytes) -> F,
) -> ReadEnd
where
    F: Future<Output = bool>,
{
    let mut pending = BytesMut::new();
    loop {
        while let Some(frame) = match split(&mut pending, frame_max) {
            Ok(frame) => frame,
            Err(length) => return ReadEnd::BadLength(length),
        } {
            counters.frames_in.add(1);
            counters.bytes_in.add(frame.len() as u64);
            if !take(frame).await {
                return ReadEnd::Closed;
            }
        }
        let more = if pending.is_empty() {
            // Between frames an idle stream owns no buffer.
            pending = BytesMut::new();
            fill(&mut stream, &mut pending).await
        } else {
            match tokio::time::timeout(stall, fill(&mut stream, &mut pending)).await {
                Ok(more) => more,
                Err(_) => return ReadEnd::Stalled,
            }
        };
        match more {
            Ok(0) | Err(_) => return ReadEnd::Closed,
            Ok(_) => {}
        }
    }
}

/// The first whole frame of `pending`, if it is there; `Err` is a length nobody may announce.
fn split(pending: &mut BytesMut, frame_max: u32) -> Result<Option<Bytes>, u32> {
    let Some(prefix) = pending.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix);
    if length == 0 || length > frame_max {
        return Err(length);
    }
    let length = length as usize;
    if pending.len() < PREFIX + length {
        return Ok(None);
    }
    pending.advance(PREFIX);
    Ok(Some(pending.split_to(length).freeze()))
}

thread_local! {
    /// All readers run on the one thread of the network and read through this; none keeps a buffer while it waits.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Appends what the stream has, at most [`CHUNK`] bytes; 0 is its end.
async fn fill(stream: &mut (impl AsyncRead + Unpin), pending: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let read = Pin::new(&mut *stream).poll_read(cx, scratch);
            if let std::task::Poll::Ready(Ok(count)) = &read {
                pending.extend_from_slice(&scratch[..*count]);
            }
            read
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;
    use std::cell::RefCell;

    const MAX: u32 = 100_000;
    const STALL: Duration = Duration::from_millis(20);

    async fn read_all(bytes: Vec<u8>) -> (Vec<Bytes>, ReadEnd) {
        let frames = RefCell::new(Vec::new());
        let end = read(Cursor::new(bytes), MAX, STALL, Arc::default(), |frame| {
            frames.borrow_mut().push(frame);
            async { true }
        })
        .await;
        (frames.into_inner(), end)
    }

    #[tokio::test]
    async fn what_is_queued_is_written_and_read_again() {
        let (queue, drain) = queue(100, 1 << 20);
        let sent: Vec<Bytes> = [1usize, 300, 65_532, 65_533, 90_000, 7].iter().map(|&size| Bytes::from(vec![size as u8; size])).collect();
        for frame in &sent {
            assert!(queue.push(frame.clone()));
        }
        drop(queue);
        let mut bytes = Cursor::new(Vec::new());
        assert!(write(&mut bytes, drain, Arc::default()).await);
        assert_eq!(read_all(bytes.into_inner()).await, (sent, ReadEnd::Closed));
    }

    #[tokio::test]
    async fn empty_and_over_long_frames_are_refused_at_their_prefix() {
        let (frames, end) = read_all(vec![0, 0, 0, 1, 9, 0, 0, 0, 0]).await;
        assert_eq!((frames.len(), end), (1, ReadEnd::BadLength(0)));
        let lie = MAX + 1;
        let (frames, end) = read_all(lie.to_be_bytes().to_vec()).await;
        assert_eq!((frames.len(), end), (0, ReadEnd::BadLength(lie)));
    }

    #[tokio::test]
    async fn a_truncated_frame_is_not_delivered() {
        let (frames, end) = read_all(vec![0, 0, 0, 9, 1, 2]).await;
        assert_eq!((frames.len(), end), (0, ReadEnd::Closed));
    }

    #[tokio::test]
    async fn a_frame_that_stalls_midway_is_given_up() {
        struct Half(bool);
        impl AsyncRead for Half {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buffer: &mut [u8],
            ) -> std::task::Poll<io::Result<usize>> {
                if std::mem::replace(&mut self.0, true) {
                    return std::task::Poll::Pending;
                }
                buffer[..5].copy_from_slice(&[0, 0, 0, 9, 1]);
                std::task::Poll::Ready(Ok(5))
            }
        }
        let end = read(Half(false), MAX, STALL, Arc::default(), |_| async { true }).await;
        assert_eq!(end, ReadEnd::Stalled);
    }

    #[test]
    fn a_full_queue_drops_the_new_frame_and_keeps_the_old() {
        let (queue, mut drain) = queue(2, 10);
        assert!(queue.push(Bytes::from_static(b"12345678")));
        assert!(!queue.push(Bytes::from_static(b"abc")), "bytes");
        assert!(queue.push(Bytes::from_static(b"ab")));
        assert!(!queue.push(Bytes::new()), "frames");
        assert_eq!(drain.frames.try_recv().expect("kept").len(), 8);
    }
}
