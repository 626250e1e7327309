#![forbid(unsafe_code)]

pub mod http;
pub mod report;
pub mod settings;
pub mod time;
