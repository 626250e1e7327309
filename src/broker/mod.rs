pub mod report;
pub mod settings;
pub mod time;
