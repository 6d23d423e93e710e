//! How figures are shown: a line for people, a document for programs.
//! Knows nothing of how they were measured. A figure without a floor has no ratio.

use std::fmt;

use serde::Serialize;
use serde_json::json;

use crate::machine::{self, Machine};

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// Its row.
    pub(crate) row: &'static str,
    /// What of it.
    pub(crate) what: String,
    /// The median of all runs.
    pub(crate) result: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// Of each run.
    pub(crate) runs: Vec<f64>,
    /// What it is held against, from the same run of the benchmark.
    pub(crate) floor: Option<Floor>,
    /// What DESIGN 11 asks for.
    pub(crate) target: Option<&'static str>,
    /// Load average of the last minute when it was measured, its own processes included.
    pub(crate) load: String,
}

/// What a figure is held against.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Floor {
    /// What it is.
    pub(crate) what: &'static str,
    /// How much.
    pub(crate) value: f64,
    /// Result by floor.
    pub(crate) ratio: f64,
}

impl Figure {
    /// The median of some runs.
    pub(crate) fn new(row: &'static str, what: impl Into<String>, unit: &'static str, runs: Vec<f64>) -> Figure {
        Figure { row, what: what.into(), result: machine::median(&runs), unit, runs, floor: None, target: None, load: machine::load() }
    }

    /// Held against this.
    pub(crate) fn beside(mut self, what: &'static str, value: f64) -> Figure {
        self.floor = Some(Floor { what, value, ratio: self.result / value });
        self
    }

    /// Held, run by run, against what was measured just before or after: the disk of a busy machine changes by the minute.
    pub(crate) fn beside_each(mut self, what: &'static str, floors: &[f64]) -> Figure {
        let ratios: Vec<f64> = self.runs.iter().zip(floors).map(|(run, floor)| run / floor).collect();
        self.floor = Some(Floor { what, value: machine::median(floors), ratio: machine::median(&ratios) });
        self
    }

    /// To be held against the text.
    pub(crate) fn target(mut self, target: &'static str) -> Figure {
        self.target = Some(target);
        self
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10} {:<44} {:>10} {:<12}", self.row, self.what, short(self.result), self.unit)?;
        if self.runs.len() > 1 {
            let (low, high) = (machine::quantile(&self.runs, 0.0), machine::quantile(&self.runs, 1.0));
            write!(f, " {:<17}", format!("[{}..{}]", short(low), short(high)))?;
        }
        if let Some(Floor { what, value, ratio }) = &self.floor {
            write!(f, " {ratio:.2} x {} ({what})", short(*value))?;
        }
        if let Some(target) = self.target {
            write!(f, "  target {target}")?;
        }
        Ok(())
    }
}

/// Three digits, or all before the point, are more than any of this is worth.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    if decimals > 0 {
        return text;
    }
    let groups: Vec<&str> = text.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

/// All figures as one document.
pub(crate) fn document(machine: &Machine, figures: &[Figure]) -> String {
    let document = json!({ "machine": machine, "load_after": machine::load(), "figures": figures });
    serde_json::to_string_pretty(&document).expect("figures are plain")
}
