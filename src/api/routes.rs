//! The paths of the admin side.

pub const PAGE: &str = "/";
pub const PAGE_STYLE: &str = "/page.css";
pub const PAGE_SCRIPT: &str = "/page.js";
pub const HEALTHZ: &str = "/healthz";
pub const READYZ: &str = "/readyz";
pub const METRICS: &str = "/metrics";
pub const STATUS: &str = "/status";
pub const CORDON: &str = "/cordon";
pub const LIVE: &str = "/api/live";
pub const HISTORY: &str = "/api/history";
pub const DISPATCHES: &str = "/api/dispatches";
pub const SETTINGS: &str = "/api/settings";
pub const EXPLAIN: &str = "/api/explain";
pub const EVENTS: &str = "/api/events";
