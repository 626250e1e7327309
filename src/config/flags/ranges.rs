//! For [`super::flag::Flag::accept`]: bounds on values, and the messages for values out of range.

use crate::config::values::{Auto, Bytes, Count, Micros, Millis};

/// A longer time is probably a typing error.
const TIME_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

pub fn at_most(count: &Count, max: usize) -> Result<(), String> {
    match count.0 <= max {
        true => Ok(()),
        false => Err(format!("is out of range. Use a whole number from 1 to {max}.")),
    }
}

/// A time above 0 of at most a day.
pub fn time(time: &Millis) -> Result<(), String> {
    match (1..=TIME_MAX_MS).contains(&time.0) {
        true => Ok(()),
        false => Err("is out of range. Use a duration from 1ms to 24h.".to_owned()),
    }
}

/// A time of at most a day that may be 0.
pub fn time_or_zero(time: &Millis) -> Result<(), String> {
    match time.0 <= TIME_MAX_MS {
        true => Ok(()),
        false => Err("is out of range. Use a duration from 0s to 24h.".to_owned()),
    }
}

pub fn auto_time(auto: &Auto<Millis>) -> Result<(), String> {
    match auto {
        Auto::Auto => Ok(()),
        Auto::Set(set) => time(set),
    }
}

pub fn auto_micros(auto: &Auto<Micros>, max_us: u64) -> Result<(), String> {
    match auto {
        Auto::Set(set) if set.0 > max_us => {
            Err(format!("is out of range. Use a duration from 0s to {}ms, or auto.", max_us / 1_000))
        }
        _ => Ok(()),
    }
}

/// Both bounds are whole KiB, and the upper one whole MiB.
pub fn size(size: &Bytes, min: u64, max: u64) -> Result<(), String> {
    match (min..=max).contains(&size.0) {
        true => Ok(()),
        false => Err(format!("is out of range. Use a size from {}KiB to {}MiB.", min >> 10, max >> 20)),
    }
}
