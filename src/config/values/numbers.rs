//! Durations, sizes, counts and limits, as they are typed.

use std::str::FromStr;
use std::time::Duration;

/// Whole milliseconds, written like `30s` or `500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl FromStr for Millis {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        const FORM: &str = "is not a duration. Use a value such as 30s or 5m.";
        const FINEST: &str = "is not a whole number of milliseconds. Use a value such as 500ms or 30s.";
        whole(typed, Duration::from_millis(1), FORM, FINEST).map(Millis)
    }
}

/// Whole microseconds, written like `100us` or `1ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl FromStr for Micros {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        const FORM: &str = "is not a duration. Use a value such as 300us or 1ms.";
        const FINEST: &str = "is not a whole number of microseconds. Use a value such as 300us or 1ms.";
        whole(typed, Duration::from_micros(1), FORM, FINEST).map(Micros)
    }
}

/// A typed duration in units of `unit`, which is shorter than a second. The error is `form` if `typed` is not a
/// duration, and `finest` if it is not a multiple of `unit`.
fn whole(typed: &str, unit: Duration, form: &str, finest: &str) -> Result<u64, String> {
    let parsed = humantime::parse_duration(typed).map_err(|_| form.to_owned())?;
    if !parsed.subsec_nanos().is_multiple_of(unit.subsec_nanos()) {
        return Err(finest.to_owned());
    }
    u64::try_from(parsed.as_nanos() / unit.as_nanos()).map_err(|_| form.to_owned())
}

/// Bytes, written like `16MiB`, `64KiB` or `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        const FORM: &str = "is not a size. Use whole bytes, KiB, MiB or GiB, such as 65536 or 16MiB.";
        let digits_len = typed.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, unit) = typed.split_at(digits_len);
        let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err(FORM.to_owned()),
        };
        let count: u64 = digits.parse().map_err(|_| FORM.to_owned())?;
        count.checked_mul(factor).map(Bytes).ok_or_else(|| FORM.to_owned())
    }
}

/// A value that the operator may leave to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    /// Written `auto`.
    Auto,
    Set(T),
}

impl<T: FromStr<Err = String>> FromStr for Auto<T> {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        if typed == "auto" {
            return Ok(Auto::Auto);
        }
        typed.parse().map(Auto::Set).map_err(|error: String| or(&error, "auto"))
    }
}

/// Adds a word to the values that an error recommends.
fn or(error: &str, word: &str) -> String {
    format!("{}, or {word}.", error.trim_end_matches('.'))
}

/// A whole number above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub usize);

impl FromStr for Count {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        match typed.parse() {
            Ok(0) | Err(_) => Err("is not a count. Use a whole number of at least 1.".to_owned()),
            Ok(count) => Ok(Count(count)),
        }
    }
}

/// A number per second, above 0 and at most [`Rate::MAX`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub f64);

impl Rate {
    /// One thread cannot send more.
    pub const MAX: f64 = 100_000.0;
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        match typed.parse() {
            Ok(rate) if rate > 0.0 && rate <= Rate::MAX => Ok(Rate(rate)),
            _ => Err(format!("is not a rate. Use a number per second above 0 and at most {}.", Rate::MAX)),
        }
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within<const MIN: usize, const MAX: usize>(pub usize);

impl<const MIN: usize, const MAX: usize> FromStr for Within<MIN, MAX> {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        match typed.parse() {
            Ok(count) if (MIN..=MAX).contains(&count) => Ok(Within(count)),
            _ => Err(format!("is out of range. Use a whole number from {MIN} to {MAX}.")),
        }
    }
}

/// A limit that the operator may switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Written `off`.
    Off,
    At(usize),
}

impl Limit {
    /// The limit, but at most `none`; `none` if the limit is off.
    pub fn or(self, none: usize) -> usize {
        match self {
            Limit::Off => none,
            Limit::At(count) => count.min(none),
        }
    }
}

impl FromStr for Limit {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        match typed {
            "off" => Ok(Limit::Off),
            typed => {
                typed.parse().map(|Count(count)| Limit::At(count)).map_err(|error: String| or(&error, "off"))
            }
        }
    }
}

/// A file's permissions, written in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FromStr for FileMode {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        match u32::from_str_radix(typed, 8) {
            Ok(mode) if mode <= 0o777 => Ok(FileMode(mode)),
            _ => Err("is not a file mode. Use octal permissions such as 660 or 600.".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_milliseconds() {
        assert_eq!("30s".parse(), Ok(Millis(30_000)));
        assert_eq!("500ms".parse(), Ok(Millis(500)));
        assert_eq!("1m 30s".parse(), Ok(Millis(90_000)));
        assert_eq!("0s".parse(), Ok(Millis(0)));
        for bad in ["", "30", "30x", "-1s", "s", "9999999999999999999s"] {
            let error = bad.parse::<Millis>().unwrap_err();
            assert!(error.contains("30s"), "{bad:?}: {error}");
        }
        let error = "1500us".parse::<Millis>().unwrap_err();
        assert!(error.starts_with("is not a whole number of milliseconds."), "{error}");
    }

    #[test]
    fn sizes_are_bytes_or_carry_a_unit() {
        assert_eq!("16MiB".parse(), Ok(Bytes(16 << 20)));
        assert_eq!("16 mib".parse(), Ok(Bytes(16 << 20)));
        assert_eq!("16384".parse(), Ok(Bytes(16_384)));
        assert_eq!("2GB".parse(), Ok(Bytes(2_000_000_000)));
        for bad in ["", "MiB", "-1", "+1", "1.5MiB", "16M", "16MiBs", "99999999999GiB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn auto_is_a_word_and_errors_name_it() {
        assert_eq!("auto".parse(), Ok(Auto::<Millis>::Auto));
        assert_eq!("1s".parse(), Ok(Auto::Set(Millis(1_000))));
        let error = "soon".parse::<Auto<Millis>>().unwrap_err();
        assert!(error.ends_with("or auto."), "{error}");
    }

    #[test]
    fn a_limit_may_be_off_and_a_mode_is_octal() {
        assert_eq!("off".parse(), Ok(Limit::Off));
        assert_eq!("7".parse(), Ok(Limit::At(7)));
        assert!("0".parse::<Limit>().unwrap_err().ends_with("or off."));
        assert_eq!("0660".parse(), Ok(FileMode(0o660)));
        for bad in ["", "8", "1777", "rw", "-1"] {
            assert!(bad.parse::<FileMode>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_count_is_above_zero() {
        assert_eq!("1".parse(), Ok(Count(1)));
        for bad in ["0", "-1", "", "many", "1e3"] {
            assert!(bad.parse::<Count>().is_err(), "{bad:?}");
        }
    }
}
