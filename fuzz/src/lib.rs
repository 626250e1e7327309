//! The core, compiled alone, and what the fuzz targets have in common.

#[path = "../../src/broker/mod.rs"]
pub mod broker;
#[path = "../../src/broker/json/naive.rs"]
pub mod naive;

pub mod alone;
pub mod bytes;
pub mod shared;
pub mod world;

// What `naive` is about.
use broker::json::{JsonError, parse_dispatch};
