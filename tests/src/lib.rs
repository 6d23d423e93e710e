//! Tests.

pub mod lab;
