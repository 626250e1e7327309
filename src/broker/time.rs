//! Time as a number that the caller passes in.

use std::ops::{Add, Sub};

/// Microseconds since an arbitrary fixed origin, such as the start of the process. Monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    pub const fn from_ms(ms: u64) -> Self {
        Time(ms * 1_000)
    }

    /// Saturates.
    pub const fn plus_ms(self, ms: u64) -> Self {
        Time(self.0.saturating_add(ms.saturating_mul(1_000)))
    }

    /// Saturates.
    pub const fn plus_us(self, us: u64) -> Self {
        Time(self.0.saturating_add(us))
    }

    /// 0 if `earlier` is later.
    pub const fn us_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<std::time::Duration> for Time {
    type Output = Time;
    fn add(self, by: std::time::Duration) -> Time {
        Time(self.0 + by.as_micros() as u64)
    }
}

impl Sub for Time {
    type Output = std::time::Duration;
    fn sub(self, earlier: Time) -> std::time::Duration {
        std::time::Duration::from_micros(self.us_since(earlier))
    }
}
