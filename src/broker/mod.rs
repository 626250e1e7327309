#![forbid(unsafe_code)]

pub mod contract;
pub mod http;
pub mod json;
pub mod key;
pub mod report;
pub mod settings;
pub mod time;
