//! `/api/explain`.

use super::{Cordon, Pool};
use serde::{Deserialize, Serialize};

/// The query: a run. An omitted field matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// The deployment's friendly id.
    pub deployment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// vCPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// GB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<f64>,
}

/// How such a run would be answered now, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub asked: ExplainQuery,
    /// `warm` or `cold`.
    pub outcome: String,
    /// Why it would be cold, as `/metrics` names it; `None` if warm.
    pub reason: Option<String>,
    /// What that means and what to do about it, in one to three sentences.
    pub advice: String,
    /// Runners that the broker could offer such a run now.
    pub ready: u64,
    /// The pools of the deployment, closest first.
    pub keys: Vec<Pool>,
    /// The number of pools of the deployment, including those omitted from `keys`.
    pub keys_total: usize,
    /// All cordons in force.
    pub cordons: Vec<Cordon>,
    /// The number of other deployments that have waiting runners.
    pub other_deployments_waiting: usize,
    /// Workers that did not answer. Their runners may be missing or outdated here.
    pub stalled_workers: Vec<usize>,
}
