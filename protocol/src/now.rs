//! Time as an argument.
//! Knows no clock. `mono` decides within one run and never leaves it; `wall` is for people and restarts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z, as told by this machine's wall clock. For people, never for decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time `ago` before this one, saturating at 1970.
    #[must_use]
    pub fn before(self, ago: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Time since an arbitrary beginning, at latest the start of this process. Never persisted.
    pub mono: Duration,
    /// Wall clock.
    pub wall: Timestamp,
}
