//! The built binary's flags, their environment variables and their defaults.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

pub const BINARY: &str = env!("CARGO_BIN_EXE_pilotlight");

pub struct Product {
    /// The text of all help pages.
    help: String,
    /// Defaults by environment variable; empty without a default.
    settings: BTreeMap<String, String>,
}

pub fn product() -> &'static Product {
    static PRODUCT: OnceLock<Product> = OnceLock::new();
    PRODUCT.get_or_init(|| {
        let serve = help(&["serve", "--help"]) + &help(&["serve", "--help-advanced"]);
        let mut settings = BTreeMap::new();
        let mut name = None;
        for line in serve.lines().map(str::trim) {
            if let Some(env) = line.strip_prefix("[env: ").and_then(|rest| rest.strip_suffix("=]")) {
                settings.insert(env.to_owned(), String::new());
                name = Some(env.to_owned());
            }
            let default = line.strip_prefix("[default: ").and_then(|rest| rest.strip_suffix(']'));
            if let (Some(default), Some(name)) = (default, name.take_if(|_| default.is_some())) {
                settings.insert(name, default.to_owned());
            }
        }
        assert!(settings.len() > 25, "the help page has another format: {settings:?}");
        const COMMANDS: [&str; 7] = ["cordon", "uncordon", "explain", "demo", "check", "top", "bench"];
        let others: String = COMMANDS.iter().map(|command| help(&[command, "--help"])).collect();
        Product { help: serve + &others + &help(&["--help"]), settings }
    })
}

fn help(args: &[&str]) -> String {
    let output = Command::new(BINARY).args(args).output().expect("started");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("UTF-8")
}

impl Product {
    /// Whether a command reads this environment variable.
    pub fn knows_setting(&self, name: &str) -> bool {
        self.help.contains(&format!("[env: {name}="))
    }

    /// Whether a command has this flag.
    pub fn knows_flag(&self, flag: &str) -> bool {
        self.help.split(|c: char| c.is_whitespace() || c == ',' || c == '`').any(|word| word == flag)
    }

    /// A setting's default, as a user types it.
    pub fn default(&self, name: &str) -> &str {
        self.settings.get(name).unwrap_or_else(|| panic!("{name} is not a setting"))
    }

    /// The default port of a side's listener.
    pub fn port(&self, setting: &str) -> u16 {
        port(self.default(setting))
    }

    /// The longest time in seconds until a shutdown ends: its configured times plus 5 s.
    pub fn shutdown_max_s(&self) -> u64 {
        let times = ["PILOTLIGHT_SHUTDOWN_TIME", "PILOTLIGHT_DISPATCH_TIMEOUT", "PILOTLIGHT_WRITE_TIMEOUT"];
        5 + times.iter().map(|name| seconds(self.default(name))).sum::<u64>()
    }

    /// Asserts that each name is a setting.
    #[track_caller]
    pub fn assert_settings<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            assert!(self.knows_setting(name), "{name} is not a setting of this binary");
        }
    }
}

/// The port of `10.0.0.1:8040` or `http://host:8040`.
pub fn port(address: &str) -> u16 {
    let port = address.rsplit(':').next().expect("a port");
    port.parse().unwrap_or_else(|_| panic!("{address} has no port"))
}

/// The number of seconds in `30s`.
pub fn seconds(time: &str) -> u64 {
    let number = time.strip_suffix('s').and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{time} is not a number of seconds"))
}
