//! Chance as a value: every draw of a run comes from its seed.
//! Knows nothing of what is drawn for. One concern, one generator: a new draw in one does not disturb the others.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A seeded generator with the few questions the simulator asks.
#[derive(Clone, Debug)]
pub(crate) struct Chance(ChaCha8Rng);

/// A generator of its own for each concern of each seed.
pub(crate) fn generator(seed: u64, concern: &str, part: u64) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&part.to_be_bytes());
    for (byte, letter) in bytes[16..].iter_mut().zip(concern.bytes()) {
        *byte = letter;
    }
    ChaCha8Rng::from_seed(bytes)
}

impl Chance {
    pub(crate) fn new(seed: u64, concern: &str) -> Chance {
        Chance(generator(seed, concern, 0))
    }

    /// A number below `limit`; 0 if that is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.0.next_u64() % limit }
    }

    /// An index of a list of this length.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a length")
    }

    /// True once in `1 / share` times.
    pub(crate) fn yes(&mut self, share: f64) -> bool {
        // 2^53: every such integer is a float exactly.
        #[allow(clippy::cast_precision_loss)]
        let draw = (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        draw < share
    }

    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX - 1);
        least + Duration::from_micros(self.below(span + 1))
    }

    /// A time around `mean`, now and then ten times as long: networks and disks have tails.
    pub(crate) fn about(&mut self, mean: Duration) -> Duration {
        let tail = if self.below(50) == 0 { 10 } else { 2 };
        self.between(Duration::ZERO, mean * tail)
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }
}
