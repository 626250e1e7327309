//! The broker core, compiled alone, and code shared by the fuzz targets.

#[path = "../../src/broker/mod.rs"]
pub mod broker;
#[path = "../../src/broker/contract/dispatch/tests/naive.rs"]
pub mod naive;

pub mod alone;
pub mod bytes;
pub mod shared;
pub mod world;

// `naive` imports these from its parent module.
use broker::contract::dispatch::{DispatchError, parse_dispatch};
