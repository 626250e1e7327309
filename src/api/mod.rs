//! The answers of the admin side, as types that the server and its clients share. docs/reference/api.md documents them.
//!
//! Plain owned data. Fields are added, never renamed. A client ignores fields that it does not know, and fills in defaults
//! for fields that a broker of another version does not send.

mod cordon;
mod dispatches;
mod explain;
mod history;
mod live;
pub mod routes;
mod status;

pub use cordon::{Cordon, CordonTarget, Cordons};
pub use dispatches::{Dispatch, Dispatches, DispatchesQuery};
pub use explain::{ExplainQuery, Explanation};
pub use history::{History, Sample};
pub use live::{Live, Pool, PoolOnWorker, Worker};
pub use status::{Health, Readiness, Status, StatusWorker};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    pub error: String,
}

/// `GET /api/settings`: every flag of `serve`, with the value in force.
pub type Settings = BTreeMap<String, String>;
