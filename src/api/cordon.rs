//! `/cordon`.

use serde::{Deserialize, Serialize};

/// The body of POST and DELETE: `{"node": "…"}` or `{"deployment": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CordonTarget {
    /// The value of `x-trigger-worker-instance-name`.
    Node(String),
    /// The deployment's friendly id.
    Deployment(String),
}

/// A cordon in force. One of the two fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cordon {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
}

/// The answer to GET, POST and DELETE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordons {
    /// The cordons in force, including the change that the request made.
    pub cordons: Vec<Cordon>,
    /// Workers that did not answer in time. They make the change when they run again.
    pub stalled_workers: Vec<usize>,
}

impl From<CordonTarget> for Cordon {
    fn from(target: CordonTarget) -> Cordon {
        match target {
            CordonTarget::Node(name) => Cordon { node: Some(name), deployment: None },
            CordonTarget::Deployment(id) => Cordon { node: None, deployment: Some(id) },
        }
    }
}
