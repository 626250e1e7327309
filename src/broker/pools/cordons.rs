//! Which polls are under a cordon.

use crate::broker::report::Selector;
use std::collections::BTreeSet;

/// The cordons in force.
#[derive(Default)]
pub struct CordonSet(BTreeSet<Selector>);

impl CordonSet {
    /// Whether a cordon covers this poll.
    pub fn covers(&self, deployment: &str, node: &str) -> bool {
        self.0.iter().any(|selector| covers(selector, deployment, node))
    }

    /// Whether a cordon covers the whole deployment.
    pub fn covers_deployment(&self, deployment: &str) -> bool {
        self.0.iter().any(|selector| matches!(selector, Selector::Deployment(id) if id == deployment))
    }

    pub fn insert(&mut self, selector: Selector) {
        self.0.insert(selector);
    }

    /// Returns whether the cordon was in force.
    pub fn remove(&mut self, selector: &Selector) -> bool {
        self.0.remove(selector)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Selector> {
        self.0.iter()
    }
}

/// Whether a cordon with this selector covers a poll.
pub fn covers(selector: &Selector, deployment: &str, node: &str) -> bool {
    match selector {
        Selector::Node(name) => name == node,
        Selector::Deployment(id) => id == deployment,
    }
}
