//! For [`super::flag::Flag::show`]: values in force, as they would be typed.

use std::time::Duration;

pub fn millis(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

pub fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A limit, or `off` if it equals `none`.
pub fn limit(limit: usize, none: usize) -> String {
    match limit == none {
        true => "off".to_owned(),
        false => limit.to_string(),
    }
}
