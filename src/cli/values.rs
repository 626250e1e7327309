//! What may stand behind a flag: durations, sizes, `auto`, and the named choices.

use crate::broker::settings::{Confirm, MatchOrder, TokenMode};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use std::str::FromStr;
use std::time::Duration;

/// A duration in whole milliseconds, written like `30s` or `500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl FromStr for Millis {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        const FORM: &str = "write a number and its unit: 500ms, 30s, 5m, 1h";
        const FINEST: &str = "times are in whole milliseconds: 1ms is the finest";
        whole(typed, Duration::from_millis(1), FORM, FINEST).map(Millis)
    }
}

/// A duration in whole microseconds, written like `100us` or `1ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl FromStr for Micros {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        const FORM: &str = "write a number and its unit: 50us, 1ms, 0s";
        const FINEST: &str = "these times are in whole microseconds: 1us is the finest";
        whole(typed, Duration::from_micros(1), FORM, FINEST).map(Micros)
    }
}

/// How many times `unit`, which is below a second, a typed duration is; `form` and `finest` are said of what is none.
fn whole(typed: &str, unit: Duration, form: &str, finest: &str) -> Result<u64, String> {
    let parsed = humantime::parse_duration(typed).map_err(|_| form.to_owned())?;
    if !parsed.subsec_nanos().is_multiple_of(unit.subsec_nanos()) {
        return Err(finest.to_owned());
    }
    u64::try_from(parsed.as_nanos() / unit.as_nanos()).map_err(|_| form.to_owned())
}

/// A size in bytes, written like `16MiB`, `64KiB` or `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        const FORM: &str = "write whole bytes, or a whole number of KiB, MiB or GiB: 65536, 16MiB";
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

/// A value, or `auto`: the program's own choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    /// The program chooses.
    Auto,
    /// The operator chose.
    Set(T),
}

impl<T: FromStr> FromStr for Auto<T>
where
    T::Err: ToString,
{
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        if typed == "auto" {
            return Ok(Auto::Auto);
        }
        typed.parse().map(Auto::Set).map_err(|error: T::Err| format!("{}, or auto", error.to_string()))
    }
}

/// A whole number above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub usize);

impl FromStr for Count {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        match typed.parse() {
            Ok(0) | Err(_) => Err("write a whole number from 1 up".to_owned()),
            Ok(count) => Ok(Count(count)),
        }
    }
}

/// How often per second, above zero and at most [`Rate::MAX`].
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
            _ => Err(format!("write how many per second, above 0 and at most {}", Rate::MAX)),
        }
    }
}

/// A whole number within bounds that stand in the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within<const MIN: usize, const MAX: usize>(pub usize);

impl<const MIN: usize, const MAX: usize> FromStr for Within<MIN, MAX> {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        match typed.parse() {
            Ok(count) if (MIN..=MAX).contains(&count) => Ok(Within(count)),
            _ => Err(format!("write a whole number from {MIN} to {MAX}")),
        }
    }
}

/// A bound that may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No bound of its own.
    Off,
    /// At most so many.
    At(usize),
}

impl FromStr for Limit {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        match typed {
            "off" => Ok(Limit::Off),
            typed => typed
                .parse()
                .map(|Count(count)| Limit::At(count))
                .map_err(|error: String| format!("{error}, or off")),
        }
    }
}

/// A file's permissions, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FromStr for FileMode {
    type Err = String;
    fn from_str(typed: &str) -> Result<Self, String> {
        match u32::from_str_radix(typed, 8) {
            Ok(mode) if mode <= 0o777 => Ok(FileMode(mode)),
            _ => Err("write permissions in octal: 660, 600, 666".to_owned()),
        }
    }
}

/// Which engine moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// The best that this build and this kernel have for so many workers
    Auto,
    /// epoll: every Linux
    Epoll,
    /// io_uring: absent from builds without the cargo feature `io-uring`
    IoUring,
}

/// Whose descriptors connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DescriptorTables {
    /// The process's for several workers, if it holds as many connections as asked for (or 100,000); else each worker's own, where the kernel allows it
    Auto,
    /// Each worker's own: the limit of open files counts for each
    Worker,
    /// The process's: workers on epoll handle each other's mail, and tools that list a process's descriptors (ss -p, lsof) know whose connection it is
    Process,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people: one line of text per event
    Text,
    /// For machines: one JSON object per event
    Json,
}

impl ValueEnum for Confirm {
    fn value_variants<'a>() -> &'a [Self] {
        &[Confirm::Read, Confirm::Ack, Confirm::Write]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Confirm::Read => PossibleValue::new("read")
                .help("The runner's process has read every byte of the run"),
            Confirm::Ack => PossibleValue::new("ack").help(
                "The runner's kernel has acknowledged every byte; keeps the connection: for the highest rates",
            ),
            Confirm::Write => PossibleValue::new("write").help(
                "The broker's kernel took the bytes; a vanished runner swallows its run: for comparison only",
            ),
        })
    }
}

impl ValueEnum for MatchOrder {
    fn value_variants<'a>() -> &'a [Self] {
        &[MatchOrder::Newest, MatchOrder::Oldest]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            MatchOrder::Newest => PossibleValue::new("newest")
                .help("The poll with the most time left; idle runners age out by themselves"),
            MatchOrder::Oldest => PossibleValue::new("oldest").help("Round robin through the fleet"),
        })
    }
}

impl ValueEnum for TokenMode {
    fn value_variants<'a>() -> &'a [Self] {
        &[TokenMode::Off, TokenMode::Log, TokenMode::Enforce]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            TokenMode::Off => PossibleValue::new("off")
                .alias("disabled")
                .help("A token is read for the deployment that it names, not verified"),
            TokenMode::Log => PossibleValue::new("log")
                .help("As off, and what enforce would refuse is verified, counted and logged"),
            TokenMode::Enforce => {
                PossibleValue::new("enforce").help("Polls with a bare id or a bad token are refused (401)")
            }
        })
    }
}

/// As the supervisor's environment names them.
pub fn token_mode_by_name(name: &str) -> Option<TokenMode> {
    TokenMode::from_str(name, false).ok()
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
        assert!(error.contains("whole milliseconds"), "{error}");
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
        assert!(error.ends_with("or auto"), "{error}");
    }

    #[test]
    fn a_limit_may_be_off_and_a_mode_is_octal() {
        assert_eq!("off".parse(), Ok(Limit::Off));
        assert_eq!("7".parse(), Ok(Limit::At(7)));
        assert!("0".parse::<Limit>().unwrap_err().ends_with("or off"));
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
